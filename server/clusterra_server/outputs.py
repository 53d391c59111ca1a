"""A job's output over HTTP, as the vendor's log server gives it."""

from __future__ import annotations

import asyncio
import errno
import os
import pwd
import stat
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath

import anyio.to_thread
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from clusterra_server.backend import OutputError, OutputPlace

REPLAY = 64 * 1024
"""Bytes before the file's end at which a stream begins."""
PIECE = 4096
AT_ONCE = 50
"""Streams that are gone on with before something else has its turn."""
TICK = 0.5
"""Seconds between two reads of a stream, of at most :data:`PIECE` bytes each."""


def event(piece: bytes) -> bytes:
    """A piece of a file as one server-sent event: its lines behind ``data:``."""
    return b"".join(b"data: " + line + b"\n" for line in piece.split(b"\n")) + b"\n"


class Output:
    """A file with a job's output, open."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    @property
    def size(self) -> int:
        """As it is now."""
        return os.fstat(self.descriptor).st_size

    async def read(self, count: int, offset: int) -> bytes:
        """Some bytes; empty if there are none."""
        return await anyio.to_thread.run_sync(os.pread, self.descriptor, count, offset)

    def close(self) -> None:
        """Close it."""
        os.close(self.descriptor)


async def open_output(place: OutputPlace) -> Output | None:
    """The file with a job's output; None if it is not there.

    :raises OutputError: it cannot be read, or is not the user's to read.
    """
    # in a thread: the folder may be another machine's
    descriptor = await anyio.to_thread.run_sync(_open, place)
    return None if descriptor is None else Output(descriptor)


async def whole(output: Output) -> AsyncIterator[bytes]:
    """The whole file as it is now, in pieces."""
    size, offset = output.size, 0
    while offset < size and (piece := await output.read(min(size - offset, 256 * 1024), offset)):
        offset += len(piece)
        yield piece


class Opened(StreamingResponse):
    """What is read from an open file, which is closed however that ends."""

    def __init__(
        self,
        pieces: AsyncIterator[bytes],
        media_type: str,
        *close: Callable[[], object],
        status: int = 200,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(pieces, status, headers, media_type=media_type)
        self._close = close

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            for each in self._close:
                each()


class Followers:
    """All outputs that are followed: one thread reads them together, twice a second."""

    def __init__(self) -> None:
        self._waiting: dict[asyncio.Future[bytes], tuple[int, int]] = {}
        self._ticks: asyncio.Task[None] | None = None
        self._ending = False

    def stop(self) -> None:
        """Let the streams end, which would go on for as long as they are read."""
        self._ending = True
        for each in self._waiting:
            if not each.done():
                each.set_result(b"")

    async def stream(self, output: Output | None) -> AsyncIterator[bytes]:
        """The end of the file, and then what is added to it, until the reader leaves.

        :source: clusterra-hpc's edge-agent, ``logs.go``: no ids, no keep-alive, no end.
        """
        if output is None:
            yield b"event: error\ndata: " + os.strerror(errno.ENOENT).encode() + b"\n\n"
            return
        offset = max(0, output.size - REPLAY)
        piece = await output.read(PIECE, offset)
        while not self._ending:
            if piece:
                offset += len(piece)
                yield event(piece)
            piece = await self._next(output, offset)

    async def _next(self, output: Output, offset: int) -> bytes:
        if self._ending:
            return b""
        loop = asyncio.get_running_loop()
        waits: asyncio.Future[bytes] = loop.create_future()
        self._waiting[waits] = output.descriptor, offset
        if self._ticks is None:
            self._ticks = loop.create_task(self._tick())
        try:
            return await waits
        finally:
            self._waiting.pop(waits, None)

    async def _tick(self) -> None:
        while self._waiting and not self._ending:
            await asyncio.sleep(TICK)
            waiting = dict(self._waiting)
            pieces = await anyio.to_thread.run_sync(_read_all, waiting.values())
            for number, (waits, piece) in enumerate(zip(waiting, pieces, strict=True)):
                if piece and not waits.done():
                    waits.set_result(piece)
                if number % AT_ONCE == AT_ONCE - 1:
                    # the others' requests have their turn
                    await asyncio.sleep(0)
        self._ticks = None


def _read_all(places: Iterable[tuple[int, int]]) -> list[bytes]:
    return [_read(descriptor, offset) for descriptor, offset in places]


def _read(descriptor: int, offset: int) -> bytes:
    # its reader may have left, and closed it
    with suppress(OSError):
        return os.pread(descriptor, PIECE, offset)
    return b""


def _open(place: OutputPlace) -> int | None:
    refused: list[OutputError] = []
    for name in place.names:
        path = place.folder / name
        try:
            descriptor = open_below(place.folder, PurePosixPath(name).parts)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as exc:
            if is_closed(place.folder, PurePosixPath(name).parts, place.owner):
                continue
            why = "it is a symbolic link" if exc.errno == errno.ELOOP else exc.strerror
            refused.append(OutputError(500, f"The output cannot be read: {path}: {why}"))
            continue
        facts = os.fstat(descriptor)
        is_file = stat.S_ISREG(facts.st_mode)
        if is_file and place.owner in (None, facts.st_uid):
            return descriptor
        os.close(descriptor)
        if is_closed(place.folder, PurePosixPath(name).parts, place.owner):
            # as if it were not there: who asks learns no names of others
            continue
        refused.append(_refusal(path, is_file=is_file))
    if refused:
        raise refused[0]
    return None


def _refusal(path: Path, *, is_file: bool) -> OutputError:
    if is_file:
        return OutputError(404, f"log not found: {path} belongs to another user than the job")
    return OutputError(500, f"The output cannot be read: {path}: it is no file")


def is_closed(folder: Path, parts: Sequence[str], owner: int | None) -> bool:
    """Whether the way to a place below a folder is closed to a user, as far as modes say; an ACL may
    open it all the same. What is not there is open."""
    return owner is not None and any(
        _is_closed(folder.joinpath(*parts[:depth]), owner) for depth in range(1, len(parts))
    )


def _is_closed(path: Path, owner: int) -> bool:
    try:
        facts = path.lstat()
    except OSError:
        return False
    if facts.st_uid == owner:
        return False
    mine = facts.st_mode & stat.S_IXGRP and facts.st_gid in _groups_of(owner)
    return not (mine or facts.st_mode & stat.S_IXOTH)


def _groups_of(uid: int) -> list[int]:
    try:
        user = pwd.getpwuid(uid)
    except KeyError:
        return []
    return os.getgrouplist(user.pw_name, user.pw_gid)


def open_below(folder: Path, parts: Sequence[str], flags: int = 0) -> int:
    """Open a file below a folder, whatever others make of the way there in the meantime.

    No symbolic link is followed: who may write to the folder could make it lead anywhere.
    """
    at = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        for part in parts[:-1]:
            below = os.open(part, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=at)
            os.close(at)
            at = below
        # a pipe in the file's place must not hold the server up
        last = parts[-1] if parts else "."
        return os.open(last, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | flags, dir_fd=at)
    finally:
        os.close(at)
