"""The JSON that requests bring."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.requests import ClientDisconnect, Request

from clusterra_server.backend import ReplyError

LIMIT = 32 * 1024 * 1024
"""Bytes: a script may have 4 MiB, of which JSON makes six times as many where it is all escapes."""


class BodyError(ReplyError):
    """A body that is not taken."""


async def read_object(request: Request) -> dict[str, Any]:
    """The JSON object that a request brings; empty where it is JSON, but no object.

    :raises BodyError: it is no JSON, or too much of it.
    :raises RecursionError: it is nested too deeply; whoever writes it again may find so, too.
    """
    text = await _read(request)
    try:
        # strict, unlike the standard library's: what it takes, anybody can be sent
        found = msgspec.json.decode(text)
    except msgspec.DecodeError as exc:
        raise BodyError(400, f"the body cannot be read as JSON: {exc}") from exc
    return found if isinstance(found, dict) else {}


async def _read(request: Request) -> bytes:
    too_large = BodyError(413, f"a body has {LIMIT // 2**20} MiB at most")
    if int(request.headers.get("content-length", 0)) > LIMIT:
        raise too_large
    text = bytearray()
    try:
        async for piece in request.stream():
            text += piece
            if len(text) > LIMIT:
                raise too_large
    except ClientDisconnect as exc:
        raise BodyError(400, "the body broke off") from exc
    return bytes(text)
