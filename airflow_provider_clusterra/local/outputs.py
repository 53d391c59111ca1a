"""A job's output over HTTP, as the vendor's log server gives it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import anyio

REPLAY = 64 * 1024
"""Bytes before the file's end at which a stream begins."""
PIECE = 4096
TICK = 0.5
"""Seconds between two reads of a stream, of at most :data:`PIECE` bytes each."""


def event(piece: bytes) -> bytes:
    """A piece of a file as one server-sent event: its lines behind ``data:``."""
    return b"".join(b"data: " + line + b"\n" for line in piece.split(b"\n")) + b"\n"


async def whole(path: Path) -> AsyncIterator[bytes]:
    """The whole file as it is now, in pieces."""
    async with await anyio.open_file(path, "rb") as file:
        left = os.fstat(file.wrapped.fileno()).st_size
        while left > 0 and (piece := await file.read(min(left, 256 * 1024))):
            left -= len(piece)
            yield piece


async def stream(path: Path) -> AsyncIterator[bytes]:
    """The end of the file, and then what is added to it, until the reader leaves.

    :source: clusterra-hpc's edge-agent, ``logs.go``: no ids, no keep-alive, no end.
    """
    try:
        file = await anyio.open_file(path, "rb")
    except OSError as exc:
        yield b"event: error\ndata: " + str(exc.strerror).encode() + b"\n\n"
        return
    async with file:
        size = os.fstat(file.wrapped.fileno()).st_size
        await file.seek(max(0, size - REPLAY))
        while True:
            if piece := await file.read(PIECE):
                yield event(piece)
            await anyio.sleep(TICK)
