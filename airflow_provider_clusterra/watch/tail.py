"""One job's output, byte for byte, while it runs and to its end.

Bytes are counted, and only counts decide; content is never matched against content.

1. ``/output`` is the whole file: what lies beyond the bytes already given is new. A file that is
   shorter than that was replaced, and is given from its beginning under a line that says so.
2. The stream begins up to 64 KiB before the end of the file, and does not say where. If the file is
   no longer than that after the stream's first piece has come, the stream began at byte 0, and its
   pieces are counted from there. Any other stream only tells that there is something new.
3. The stream brings 8 KiB a second at most. While it brings pieces without a pause, the file is
   read as well, so that the stream may be behind without anybody noticing.
"""

from __future__ import annotations

import asyncio
import codecs
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from airflow_provider_clusterra.api.access import Access
from airflow_provider_clusterra.api.answers import Body
from airflow_provider_clusterra.api.client import AsyncClient
from airflow_provider_clusterra.api.errors import ApiError, ClusterraError, NotFoundError
from airflow_provider_clusterra.api.jobs import Job
from airflow_provider_clusterra.api.retry import Retry
from airflow_provider_clusterra.watch.concurrency import cancel_and_wait

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
        """The next record, or None where there is none yet."""
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


REPLAY = 64 * 1024
"""Bytes before a file's end at which a stream begins at the earliest."""
STREAMS = 50
"""Streams that are open at the same time in one process; other outputs come at their job's end."""
LIMIT = 10 * 1024 * 1024
"""Bytes of one output that go into the log from its beginning."""
KEPT = 64 * 1024
"""Bytes of the end of an output that is longer than that."""
RATE = 1_000_000
"""Bytes a second that reading the whole file may average for one job."""
SPACED = 2.0
"""Seconds at least between two readings of the whole file."""
RECORD_EVERY = 1.0
"""Seconds between two records of one job's output in the log."""
QUIET = 2.0
"""Seconds of silence after which a burst of output is over."""
BUSY = 5.0
"""Seconds of pieces without a pause after which the stream may be behind."""
SETTLED = 3.0
"""Seconds for which a file must not have grown after its job's end: file systems show late."""
END_PATIENCE = 15.0
"""Seconds after its job's end for which a file is waited for that is not there, or still grows."""
REOPEN = Retry(first=1.0, cap=30.0)

_places: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()


def has_output(job: Job) -> bool:
    """Whether the job may have output by now that is its own and that the API shows.

    An array's file is its last index's; and the API looks for two names only.
    """
    name = job.standard_output.rpartition("/")[2].replace("%j", str(job.job_id))
    # a job that is cancelled before it begins is said to have begun and ended then
    never_ran = job.state.base == "CANCELLED" and job.started_at == job.ended_at
    begun = job.state.base != "PENDING" and job.started_at is not None and not never_ran
    shown = name in ("", f"job_{job.job_id}.out", f"slurm-{job.job_id}.out")
    return begun and shown and not job.tasks


class Tail:
    """Follows one job's output."""

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
        self._end = Body(KEPT)
        """The end of a file that is too long for the log."""
        self._size: int | None = None
        """The file's, when it was last read whole; None while there is no file."""
        self._read_again_at = 0.0

    async def follow(self, client: AsyncClient, hurry: Callable[[], object]) -> None:
        """Give the output as it comes, until this is cancelled or there is too much of it."""
        async with _place(), asyncio.TaskGroup() as tasks:
            writing = tasks.create_task(self._write_each_second())
            failures = 0
            while self._given < LIMIT:
                begin = time.monotonic()
                with suppress(ClusterraError):
                    await self._read_whole(client)
                with suppress(ClusterraError):
                    await self._follow_stream(client, hurry)
                failures = 0 if time.monotonic() - begin > REOPEN.cap else failures + 1
                await asyncio.sleep(REOPEN.pause(failures))
            writing.cancel()

    async def catch_up(self, client: AsyncClient) -> None:
        """Give what is new now, for a caller that comes again.

        :raises ClusterraError: the output cannot be read.
        """
        await self._read_whole(client)
        self._give_records()

    async def finish(self, client: AsyncClient) -> None:
        """Give the rest, after the job's end. Whatever happens, this raises no ClusterraError."""
        patience = time.monotonic() + END_PATIENCE
        before = failure = None
        while True:
            try:
                await self._read_whole(client, again=True)
                failure = None
            except ClusterraError as error:
                failure = error
            settled = failure is None and self._size is not None and self._size == before
            if settled or time.monotonic() >= patience:
                break
            before = self._size
            await asyncio.sleep(SETTLED)
        self._give_end()
        if failure is not None:
            self._note(f"The rest of job {self._job_id}'s output cannot be read: {failure}")
        elif self._size is None:
            self._note(f"Job {self._job_id} has no output that can be read.")

    async def _follow_stream(self, client: AsyncClient, hurry: Callable[[], object]) -> None:
        """Until the stream ends or breaks."""
        at: int | None = None
        burst_since: float | None = None
        heard = False
        async with _pieces(client, self._cluster_id, self._job_id) as pieces:
            while self._given < LIMIT:
                try:
                    async with asyncio.timeout(QUIET):
                        piece = await pieces.get()
                except TimeoutError:
                    if burst_since is not None:
                        hurry()
                    burst_since = None
                    continue
                if isinstance(piece, ClusterraError):
                    if heard:
                        hurry()
                    raise piece
                burst_since = burst_since or time.monotonic()
                if not heard:
                    heard = True
                    await self._read_whole(client, again=True)
                    at = 0 if self._size is not None and self._size <= REPLAY else None
                if at is not None:
                    at = self._take(at, piece)
                if at is None or time.monotonic() - burst_since > BUSY:
                    await self._read_whole(client)

    async def _read_whole(self, client: AsyncClient, *, again: bool = False) -> None:
        """Give what the file holds beyond what was given."""
        if not again and time.monotonic() < self._read_again_at:
            return
        before = self._given
        size = await self._read_once(client)
        if size is not None and size < before:
            self._give_records(last=True)
            self._note(
                f"Job {self._job_id}'s output has become shorter, so it was begun anew; here it "
                "begins again."
            )
            self._lines, self._given = Lines(), 0
            size = await self._read_once(client)
        self._size = size
        # many outputs that were begun together are not read together for ever
        pause = max(SPACED, (size or 0) / RATE) * random.uniform(0.9, 1.1)
        self._read_again_at = time.monotonic() + pause

    async def _read_once(self, client: AsyncClient) -> int | None:
        at = 0
        self._end = Body(KEPT)
        try:
            async with aclosing(client.read_output_pieces(self._cluster_id, self._job_id)) as whole:
                async for piece in whole:
                    self._end.add(piece[max(0, LIMIT - at) :])
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

    def _take(self, at: int, piece: bytes) -> int:
        """Give what of some bytes is new, and not beyond the limit."""
        fresh = piece[max(0, self._given - at) : max(0, LIMIT - at)]
        self._lines.feed(fresh)
        self._given += len(fresh)
        return at + len(piece)

    async def _write_each_second(self) -> None:
        try:
            while True:
                await asyncio.sleep(RECORD_EVERY)
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


@asynccontextmanager
async def _place() -> AsyncIterator[None]:
    loop = asyncio.get_running_loop()
    async with _places.setdefault(loop, asyncio.Semaphore(STREAMS)):
        yield


@asynccontextmanager
async def _pieces(
    client: AsyncClient, cluster_id: str, job_id: int
) -> AsyncIterator[asyncio.Queue[bytes | ClusterraError]]:
    """The stream's pieces, as a queue of which one can also wait for a moment only."""
    pieces: asyncio.Queue[bytes | ClusterraError] = asyncio.Queue(maxsize=64)

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
