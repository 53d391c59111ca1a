"""A job's output over HTTP, as the vendor's log server gives it."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import anyio

from clusterra_server.backend import OutputError

REPLAY = 64 * 1024
"""Bytes before the file's end at which a stream begins."""
PIECE = 4096
TICK = 0.5
"""Seconds between two reads of a stream, of at most :data:`PIECE` bytes each."""
Output = anyio.AsyncFile[bytes]


def event(piece: bytes) -> bytes:
    """A piece of a file as one server-sent event: its lines behind ``data:``."""
    return b"".join(b"data: " + line + b"\n" for line in piece.split(b"\n")) + b"\n"


async def open_output(path: Path) -> Output | None:
    """The file with a job's output; None where it is not there.

    A symbolic link is not followed: who may write to the folder could make it lead anywhere.

    :raises OutputError: it cannot be read.
    """
    try:
        file = await anyio.open_file(path, "rb", opener=_open)
    except FileNotFoundError:
        return None
    except OSError as exc:
        why = "it is a symbolic link" if exc.errno == errno.ELOOP else exc.strerror
        raise OutputError(500, f"The output cannot be read: {path}: {why}") from exc
    if not stat.S_ISREG(os.fstat(file.wrapped.fileno()).st_mode):
        await file.aclose()
        raise OutputError(500, f"The output cannot be read: {path}: it is no file")
    return file


async def whole(file: Output) -> AsyncIterator[bytes]:
    """The whole file as it is now, in pieces."""
    async with file:
        left = os.fstat(file.wrapped.fileno()).st_size
        while left > 0 and (piece := await file.read(min(left, 256 * 1024))):
            left -= len(piece)
            yield piece


async def stream(file: Output | None, ending: asyncio.Event) -> AsyncIterator[bytes]:
    """The end of the file, and then what is added to it, until the reader leaves.

    :param ending: set when the server ends.
    :source: clusterra-hpc's edge-agent, ``logs.go``: no ids, no keep-alive, no end.
    """
    if file is None:
        yield b"event: error\ndata: " + os.strerror(errno.ENOENT).encode() + b"\n\n"
        return
    async with file:
        size = os.fstat(file.wrapped.fileno()).st_size
        await file.seek(max(0, size - REPLAY))
        while not ending.is_set():
            if piece := await file.read(PIECE):
                yield event(piece)
            with suppress(TimeoutError):
                async with asyncio.timeout(TICK):
                    await ending.wait()


def _open(path: str, flags: int) -> int:
    # a pipe in the file's place must not hold the server up
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)
