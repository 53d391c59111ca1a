"""A backend's answers, and our own refusals, as HTTP responses."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.types import Send

from clusterra_server.backend import Answer, BrokenOffError, ReplyError
from clusterra_server.banner import warn


class PassedOn(StreamingResponse):
    """What another server says, as it comes: where that breaks off, so does this."""

    def __init__(self, pieces: AsyncGenerator[bytes, None], status: int, media_type: str) -> None:
        super().__init__(pieces, status, media_type=media_type)
        self._pieces = pieces

    async def stream_response(self, send: Send) -> None:
        """Send it; without an end where there was none, so that nobody takes a part for it all."""
        async with aclosing(self._pieces):
            try:
                await super().stream_response(send)
            except BrokenOffError as exc:
                warn(str(exc))


def respond(answer: Answer) -> Response:
    """An answer as it goes out."""
    if isinstance(answer.body, AsyncGenerator):
        return PassedOn(answer.body, answer.status, answer.media_type)
    if isinstance(answer.body, bytes):
        return Response(answer.body, answer.status, media_type=answer.media_type)
    if isinstance(answer.body, str):
        return PlainTextResponse(answer.body, answer.status)
    return JSONResponse(answer.body, answer.status)


def refuse(status: int, words: str) -> Response:
    """A no of the server's own."""
    # what is left of a body that is too large is not waited for
    headers = {"Connection": "close"} if status == 413 else None
    return JSONResponse({"error": words}, status, headers)


async def refuse_error(_: Request, error: Exception) -> Response:
    """A no with an error's status and words."""
    return refuse(error.status if isinstance(error, ReplyError) else 500, str(error))


async def refuse_depth(_: Request, __: Exception) -> Response:
    """A no to a body that is nested too deeply to be read, or to be passed on."""
    return refuse(400, "the body cannot be read as JSON: it is nested too deeply")
