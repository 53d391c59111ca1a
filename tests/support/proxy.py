"""Bad weather between a client and a real server: an ASGI layer that passes on, or does not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing, contextmanager
from typing import Any

import httpx

from airflow_provider_clusterra.watch.eventloop import cancel_and_wait
from tests.support.servers import running

Send = Callable[[dict[str, Any]], Awaitable[None]]
Pass = Callable[[], AsyncGenerator[dict[str, Any], None]]
Fault = Callable[[Send, Pass], Awaitable[None]]


class Proxy:
    """Passes requests on to a server, but for those that ``fault`` has something else for.

    :param upstream: the server's address.
    """

    def __init__(self, upstream: str) -> None:
        self.requests: list[str] = []
        """Each as ``"GET /v1/clusters"``, without its query."""
        self.fault: Callable[[str], Fault | None] = lambda request: None
        self.session: tuple[str, str] | None = None
        """The only session that is accepted, and the one that the server knows instead."""
        self.url = ""
        self._upstream = upstream

    @contextmanager
    def serve(self, port: int = 0):
        """Serve it from a thread; ``url`` is where."""
        with running(self, port) as self.url:
            yield self

    def count(self, words: str) -> int:
        """How many requests held some words."""
        return sum(words in request for request in self.requests)

    async def __call__(
        self, scope: dict[str, Any], receive: Callable[[], Awaitable[dict[str, Any]]], send: Send
    ) -> None:
        """One request."""
        body = b""
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        request = f"{scope['method']} {scope['path']}"
        self.requests.append(request)
        fault = self.fault(request)
        headers = _plain(scope["headers"])
        if self.session is not None:
            ours, theirs = (each.encode() for each in self.session)
            if not any(name == b"cookie" and ours in value for name, value in headers):
                fault = says(401, {"error": "unauthorized"})
            headers = [(name, value.replace(ours, theirs)) for name, value in headers]

        async def passed() -> AsyncGenerator[dict[str, Any], None]:
            query = scope["query_string"].decode()
            url = self._upstream + scope["path"] + (f"?{query}" if query else "")
            async with (
                httpx.AsyncClient(verify=False, timeout=httpx.Timeout(60, read=None)) as client,  # noqa: S501 - loopback
                client.stream(scope["method"], url, content=body, headers=headers) as response,
            ):
                kept = [
                    (name, value)
                    for name, value in response.headers.raw
                    if name.lower() not in (b"content-length", b"transfer-encoding", b"connection")
                ]
                yield {
                    "type": "http.response.start",
                    "status": response.status_code,
                    "headers": kept,
                }
                async for piece in response.aiter_raw():
                    yield {"type": "http.response.body", "body": piece, "more_body": True}
                yield {"type": "http.response.body", "body": b""}

        if fault is not None:
            await fault(send, passed)
            return
        gone = asyncio.create_task(receive())
        work = asyncio.create_task(_send_all(send, passed))
        try:
            # a stream goes on until its reader leaves
            await asyncio.wait({gone, work}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await cancel_and_wait(gone)
            await cancel_and_wait(work)
        if not work.cancelled() and (error := work.exception()) is not None:
            raise error


async def _send_all(send: Send, passed: Pass) -> None:
    async with aclosing(passed()) as messages:
        async for message in messages:
            await send(message)


def _plain(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    return [(name, value) for name, value in headers if name not in (b"host", b"content-length")]


def says(status: int, body: Any = b"", headers: Mapping[str, str] | None = None) -> Fault:
    """An answer of the weather's own; anything but bytes goes out as JSON."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    kind = "text/plain" if isinstance(body, bytes) else "application/json"
    pairs = {"content-type": kind, **(headers or {})}

    async def fault(send: Send, passed: Pass) -> None:
        names = [(name.encode(), value.encode()) for name, value in pairs.items()]
        await send({"type": "http.response.start", "status": status, "headers": names})
        await send({"type": "http.response.body", "body": raw})

    return fault


def hangs(seconds: float) -> Fault:
    """No answer for so long, and then none."""

    async def fault(send: Send, passed: Pass) -> None:
        await asyncio.sleep(seconds)

    return fault


async def _send_first(after: int, send: Send, passed: Pass) -> None:
    """The real answer's first bytes, as if more came."""
    left = after
    async with aclosing(passed()) as messages:
        async for message in messages:
            piece = message.get("body", b"")[:left]
            left -= len(piece)
            whole = message["type"] == "http.response.start"
            await send(message if whole else {**message, "body": piece, "more_body": True})
            if left <= 0:
                break


def is_cut(after: int) -> Fault:
    """The real answer, cut after so many bytes, as a reset would."""

    async def fault(send: Send, passed: Pass) -> None:
        await _send_first(after, send, passed)
        # the server closes a connection whose answer is not whole
        raise ConnectionResetError

    return fault


def is_short(after: int) -> Fault:
    """The real answer's first bytes, as if they were all."""

    async def fault(send: Send, passed: Pass) -> None:
        body = b""
        async with aclosing(passed()) as messages:
            async for message in messages:
                if message["type"] == "http.response.start":
                    await send(message)
                body += message.get("body", b"")
        await send({"type": "http.response.body", "body": body[:after]})

    return fault


def stalls(after: int, seconds: float = 10.0) -> Fault:
    """The real answer's first bytes, and then silence on an open connection.

    So does a proxy that buffers or compresses, and a NAT that drops a connection without a word.
    """

    async def fault(send: Send, passed: Pass) -> None:
        await _send_first(after, send, passed)
        await asyncio.sleep(seconds)

    return fault


def is_late(seconds: float) -> Fault:
    """The real answer, but later."""

    async def fault(send: Send, passed: Pass) -> None:
        await asyncio.sleep(seconds)
        await _send_all(send, passed)

    return fault
