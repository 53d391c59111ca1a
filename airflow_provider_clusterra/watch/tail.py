"""One job's output, byte for byte, while it runs and to its end.

Bytes are counted; nothing searches in them.

1. ``/output`` is the whole file: what lies beyond the bytes already given is new. If the file is
   shorter than that, or its beginning has another checksum than those bytes, it was begun anew, and is
   given from its beginning under a line that says so.
2. The stream begins up to 64 KiB before the end of the file, and does not say where. If the file is
   no longer than that after the stream's first piece has come, the stream began at byte 0, and its
   pieces are counted from there. Any other stream only shows that there is something new.
3. The stream brings 8 KiB a second at most. While it brings pieces without a pause, the file is
   read as well, so that the stream may be behind without anybody noticing.
"""

from __future__ import annotations

import asyncio
import codecs
import math
import random
import time
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import msgspec

from airflow_provider_clusterra.api.client import Access, AsyncClient, Body
from airflow_provider_clusterra.api.errors import (
    BACKOFF,
    ApiError,
    ClusterraError,
    NotFoundError,
    Retry,
)
from airflow_provider_clusterra.api.jobs import Job
from airflow_provider_clusterra.watch.eventloop import cancel_and_wait

RECORD = 64 * 1024
"""Characters of one record at most."""
UNFINISHED = 5.0
"""Seconds for which an unfinished line is held back: a progress bar has no line ends."""
GOES_ON = "[…] "


class Lines:
    """Collects pieces of output, and gives them as records."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._text = ""
        self._in_a_line = False
        self._held_since: float | None = None

    @property
    def full(self) -> bool:
        """Whether there is enough for a record, however soon after the last."""
        return len(self._text) >= RECORD

    def feed(self, piece: bytes) -> None:
        """Take the output's next bytes."""
        self._text += self._decoder.decode(piece)

    def take(self, now: float, *, last: bool = False) -> str | None:
        """The next record, or None if there is none yet."""
        if last:
            self._text += self._decoder.decode(b"", final=True)
        end = self._text.rfind("\n", 0, RECORD + 1)
        if end >= 0:
            return self._give(end, end + 1, in_a_line=False)
        if not self._text:
            return None
        if self._held_since is None:
            self._held_since = now
        if self.full or last or now - self._held_since >= UNFINISHED:
            end = min(len(self._text), RECORD)
            return self._give(end, end, in_a_line=True)
        return None

    def _give(self, end: int, rest: int, *, in_a_line: bool) -> str:
        record = (GOES_ON if self._in_a_line else "") + self._text[:end]
        self._text = self._text[rest:]
        self._in_a_line = in_a_line
        self._held_since = None
        return record


MOST_REWRITES = 5
"""How often a file of one run that is no shorter counts as begun anew: a program may write over it."""
REPLAY = 64 * 1024
"""Bytes before a file's end at which a stream begins at the earliest."""
LIMIT = 10 * 1024 * 1024
"""Bytes of one output that go into the log from its beginning."""
KEPT = 64 * 1024
"""Bytes of the end of an output that is longer than that."""


class TailPace(msgspec.Struct, frozen=True):
    """How often and for how long; in seconds, unless it says otherwise."""

    streams: int = 50
    """Open at the same time in one event loop; other outputs come at their job's end."""
    limit: int = LIMIT
    rate: float = 1_000_000
    """Bytes a second that reading the whole file may average for one job."""
    spaced: float = 2.0
    """At least, between two readings of the whole file."""
    record_every: float = 1.0
    """Between two records of one job's output in the log."""
    quiet: float = 2.0
    """After so long a silence a burst of output is over."""
    silent: float = 60.0
    """After so long a silence the file is looked at: the stream may have broken without an error.
    A small file is looked at sooner."""
    silent_rate: float = 10_000
    """Bytes of the file for each second of silence before it is looked at."""
    busy: float = 5.0
    """After so long without a pause the stream may be behind."""
    settled: float = 3.0
    """For so long a file must not have grown after its job's end: file systems show late."""
    end_patience: float = 15.0
    """After its job's end a file is waited for that is not there, or still grows."""
    end_within: float = 60.0
    """All of the reading after a job's end."""
    reopen: Retry = BACKOFF


_slots: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()


def has_output(job: Job) -> bool:
    """Whether the job may have output by now that is its own and that the API shows.

    An array's file is its last index's; and the API looks for two names only.
    """
    name = job.standard_output.rpartition("/")[2].replace("%j", str(job.job_id))
    begun = job.state.base != "PENDING" and job.began_at is not None
    shown = name in ("", f"job_{job.job_id}.out", f"slurm-{job.job_id}.out")
    return begun and shown and not job.tasks


class Tail:
    """Follows one job's output."""

    pace = TailPace()

    def __init__(
        self,
        cluster_id: str,
        job_id: int,
        write: Callable[[str], object],
        note: Callable[[str], object],
    ) -> None:
        self._cluster_id = cluster_id
        self._job_id = job_id
        self._write = write
        self._note = note
        self._lines = Lines()
        self._given = 0
        """Bytes of the file that were given to the log."""
        self._sum = 0
        """Their checksum."""
        self._end = Body(KEPT)
        """The end of a file that is too long for the log."""
        self._size: int | None = None
        """The file's, when it was last read whole; None while there is no file."""
        self._read_again_at = 0.0
        self._restarts = 0
        self._begun_anew = 0
        """How often the file was seen to begin anew."""
        self._begun_before = 0
        self._rewrites = 0
        """How often of them it was no shorter, in this run."""

    def is_run(self, restarts: int) -> None:
        """Note how often Slurm has started the job again: each run begins a file of its own."""
        if restarts > self._restarts and self._given and self._begun_anew == self._begun_before:
            self._begin_again(
                f"Job {self._job_id} was started again; here its output begins again."
            )
        if restarts > self._restarts:
            self._rewrites = 0
        self._restarts, self._begun_before = restarts, self._begun_anew

    async def follow(self, client: AsyncClient, hurry: Callable[[], object]) -> None:
        """Give the output as it comes, until this is cancelled or there is too much of it."""
        reopen = self.pace.reopen
        free = asyncio.Semaphore(self.pace.streams)
        slots = _slots.setdefault(asyncio.get_running_loop(), free)
        async with slots, asyncio.TaskGroup() as tasks:
            writing = tasks.create_task(self._write_each_second())
            failures = 0
            while self._given < self.pace.limit:
                begin = time.monotonic()
                with suppress(ClusterraError):
                    await self._read_whole(client)
                with suppress(ClusterraError):
                    await self._follow_stream(client, hurry)
                failures = 0 if time.monotonic() - begin > reopen.cap else failures + 1
                await asyncio.sleep(reopen.pause(failures))
            writing.cancel()

    async def catch_up(self, client: AsyncClient) -> None:
        """Give what is new now, for a caller that comes again.

        :raises ClusterraError: the output cannot be read.
        """
        await self._read_whole(client)
        self._give_records()

    async def finish(self, client: AsyncClient, within: float = math.inf) -> None:
        """Give the rest, after the job's end. Whatever happens, this raises no ClusterraError."""
        within = min(within, self.pace.end_within)
        try:
            async with asyncio.timeout(within):
                failure = await self._read_until_settled(client)
        except TimeoutError:
            self._give_records(last=True)
            self._note(
                f"The rest of job {self._job_id}'s output is left out: it could not be read within "
                f"{within:.0f} s. It is in job_{self._job_id}.out."
            )
            return
        self._give_end()
        if failure is not None:
            self._note(f"The rest of job {self._job_id}'s output cannot be read: {failure}")
        elif self._size is None:
            self._note(f"Job {self._job_id} has no output that can be read.")

    async def _read_until_settled(self, client: AsyncClient) -> ClusterraError | None:
        """Why the file cannot be read to its end, or None."""
        patience = time.monotonic() + self.pace.end_patience
        before: int | None = None
        while True:
            begin = time.monotonic()
            failure: ClusterraError | None = None
            try:
                await self._read_whole(client, again=True)
            except ClusterraError as error:
                failure = error
            now = time.monotonic()
            # a reading that takes so long ends when the file has long been settled
            settled = self._size == before or now - begin > self.pace.settled
            if (settled and failure is None and self._size is not None) or now >= patience:
                return failure
            before = self._size
            await asyncio.sleep(self.pace.settled)

    async def _follow_stream(self, client: AsyncClient, hurry: Callable[[], object]) -> None:
        """Until the stream ends or breaks."""
        stream = _Stream(since=time.monotonic(), begun_anew=self._begun_anew)
        async with _pieces(client, self._cluster_id, self._job_id) as pieces:
            while self._given < self.pace.limit:
                try:
                    async with asyncio.timeout(self.pace.quiet):
                        piece = await pieces.get()
                except TimeoutError:
                    await self._on_silence(client, stream, hurry)
                else:
                    await self._on_piece(client, stream, piece, hurry)

    async def _on_silence(
        self, client: AsyncClient, stream: _Stream, hurry: Callable[[], object]
    ) -> None:
        if stream.burst_since is not None:
            hurry()
            stream.burst_since = None
        now = time.monotonic()
        if stream.missed:
            raise NotFoundError("The stream is silent, and the file has grown.", status=200)
        patience = self.pace.quiet + (self._size or 0) / self.pace.silent_rate
        if now - stream.since < min(self.pace.silent, patience if stream.heard else math.inf):
            return
        before = self._given
        await self._read_whole(client, again=True)
        stream.since = now
        stream.missed = self._given != before
        self._check_same_file(stream)

    async def _on_piece(
        self,
        client: AsyncClient,
        stream: _Stream,
        piece: bytes | ClusterraError,
        hurry: Callable[[], object],
    ) -> None:
        if isinstance(piece, ClusterraError):
            if stream.heard:
                hurry()
            raise piece
        stream.since, stream.missed = time.monotonic(), False
        stream.burst_since = stream.burst_since or stream.since
        if not stream.heard:
            await self._begin_stream(client, stream)
        if stream.at is not None:
            # a gap before its place shows that the file is another
            stream.at = self._take(stream.at, piece) if stream.at <= self._given else None
        if stream.at is None or time.monotonic() - stream.burst_since > self.pace.busy:
            await self._read_whole(client)
        self._check_same_file(stream)

    async def _begin_stream(self, client: AsyncClient, stream: _Stream) -> None:
        """Find out where the stream began: see 2 above."""
        stream.heard = True
        await self._read_whole(client, again=True)
        # the piece may be of the file as it was
        self._check_same_file(stream)
        stream.at = 0 if self._size is not None and self._size <= REPLAY else None

    def _check_same_file(self, stream: _Stream) -> None:
        """The stream of a file that has begun anew is useless."""
        if stream.begun_anew != self._begun_anew and stream.heard:
            raise NotFoundError("The file has begun anew.", status=200)

    async def _read_whole(self, client: AsyncClient, *, again: bool = False) -> None:
        """Give what the file holds beyond what was given."""
        if not again and time.monotonic() < self._read_again_at:
            return
        before = self._given
        size = await self._read_once(client)
        if size is not None and size < before:
            self._begun_anew += 1
            self._rewrites += size < 0
            self._begin_again(
                f"Job {self._job_id}'s output was begun anew: it has become shorter, or its beginning "
                "is another. Here it begins again."
            )
            size = await self._read_once(client)
        self._size = size
        # many outputs that were begun together are not read together for ever
        pause = max(self.pace.spaced, (size or 0) / self.pace.rate) * random.uniform(0.9, 1.1)
        self._read_again_at = time.monotonic() + pause

    def _begin_again(self, words: str) -> None:
        self._give_records(last=True)
        self._note(words)
        self._lines, self._given, self._sum = Lines(), 0, 0

    async def _read_once(self, client: AsyncClient) -> int | None:
        """The file's size, or -1 if its beginning is not what was given; None if there is no file."""
        at, check, known = 0, 0, self._given
        self._end = Body(KEPT)
        try:
            async with aclosing(client.read_output_pieces(self._cluster_id, self._job_id)) as whole:
                async for piece in whole:
                    check = zlib.crc32(piece[: max(0, known - at)], check)
                    if at < known <= at + len(piece) and self._is_another(check):
                        return -1
                    self._end.add(piece[max(0, self.pace.limit - at) :])
                    at = self._take(at, piece)
                    if self._lines.full:
                        self._give_records()
                        await asyncio.sleep(0)
        except ApiError as error:
            # a gateway's 404 and the log server's own look alike: there is nothing to read, yet
            if error.status != 404:
                raise
            return None
        return at

    def _is_another(self, check: int) -> bool:
        return check != self._sum and self._rewrites < MOST_REWRITES

    def _take(self, at: int, piece: bytes) -> int:
        """Give what of some bytes is new, and not beyond the limit."""
        fresh = piece[max(0, self._given - at) : max(0, self.pace.limit - at)]
        self._lines.feed(fresh)
        self._given += len(fresh)
        self._sum = zlib.crc32(fresh, self._sum)
        return at + len(piece)

    async def _write_each_second(self) -> None:
        try:
            while True:
                await asyncio.sleep(self.pace.record_every)
                self._give_records()
        finally:
            self._give_records()

    def _give_records(self, *, last: bool = False) -> None:
        record = self._lines.take(time.monotonic(), last=last)
        while record is not None:
            self._write(record)
            record = self._lines.take(time.monotonic(), last=last)

    def _give_end(self) -> None:
        end = self._end.answer("", 200, {})
        if end.skipped:
            self._give_records(last=True)
            self._note(
                f"{end.skipped} bytes of job {self._job_id}'s output are left out here; all "
                f"{self._size} bytes are in job_{self._job_id}.out."
            )
            self._lines = Lines()
        self._lines.feed(end.body)
        self._give_records(last=True)


class _Stream(msgspec.Struct):
    """What is known of one open stream. Times are monotonic."""

    since: float
    """Of its last piece, or of the last look at the file."""
    begun_anew: int
    at: int | None = None
    """Its place in the file, if its beginning is known."""
    burst_since: float | None = None
    heard: bool = False
    missed: bool = False
    """The file has grown by what the stream has not brought (yet)."""


@asynccontextmanager
async def _pieces(
    client: AsyncClient, cluster_id: str, job_id: int
) -> AsyncIterator[asyncio.Queue[bytes | ClusterraError]]:
    """The stream's pieces, as a queue of which one can also wait for a moment only."""
    pieces: asyncio.Queue[bytes | ClusterraError] = asyncio.Queue(maxsize=16)

    async def read() -> None:
        try:
            async with aclosing(client.stream_output(cluster_id, job_id)) as stream:
                async for piece in stream:
                    await pieces.put(piece)
            await pieces.put(NotFoundError("The stream has ended.", status=200))
        except ClusterraError as error:
            await pieces.put(error)

    task = asyncio.create_task(read())
    try:
        yield pieces
    finally:
        await cancel_and_wait(task)


def write_output(access: Access, cluster_id: str, job: Job | None, log: Any) -> None:
    """Write all of an ended job's output into a task's log, if it has any."""
    if job is None or not has_output(job):
        return
    write = partial(log.info, "%s")
    tail = Tail(cluster_id, job.job_id, write, write)

    async def read() -> None:
        async with AsyncClient(access) as client:
            await tail.finish(client)

    asyncio.run(read())
