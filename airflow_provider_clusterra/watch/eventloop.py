"""What keeps the event loop free: tasks ended for good, long loops in turns, large answers elsewhere.

40 MB take longer to decode than an event loop may stand still, and a thread would hold the
interpreter all the same. So a large answer is read by a process of its own: this module, run.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Self, TypeVar
from weakref import WeakKeyDictionary

import msgspec

import airflow_provider_clusterra
from airflow_provider_clusterra.api.answers import Answer
from airflow_provider_clusterra.api.calls import Call, read_jobs
from airflow_provider_clusterra.api.errors import ClusterraError
from airflow_provider_clusterra.api.jobs import Job, one_job

log = logging.getLogger(__name__)
T = TypeVar("T")

EVERY = 0.05
"""Seconds between two looks at the clock."""
AT_A_STRETCH = 200
"""Things that are gone through before others have their turn: less than a millisecond's."""
CANCELLED_AGAIN = 30.0
"""Seconds after which a cancel is taken to be lost and sent again: no cleanup takes that long."""
LARGE = 2 * 1024 * 1024
"""Bytes of an answer that are decoded in less than 10 ms."""
PIECE = 256 * 1024
JOBS_TOGETHER = 500
"""Jobs that are handed over at a time: a millisecond's decoding."""
LENGTH = 4
"""Bytes of a piece's length, before it."""
_HOME = str(Path(airflow_provider_clusterra.__file__).parent.parent)
_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()


async def cancel_and_wait(task: asyncio.Task[Any], again: float = CANCELLED_AGAIN) -> None:
    """Cancel a task, and wait until it has cleaned up.

    A cancel of whoever waits here is not mistaken for the task's own, as it would be by one who
    awaits the task and takes its CancelledError; and it does not break off the task's cleaning up.
    A task that has not ended after ``again`` seconds is cancelled again.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=again)


class Stopwatch:
    """Takes the time of an answer, without what this event loop stood still for."""

    def __init__(self) -> None:
        self._stood = 0.0
        self._beat = self._begin = time.monotonic()
        self.seconds = 0.0

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._notice())
        return self

    async def __aexit__(self, *_: object) -> None:
        now = time.monotonic()
        self.seconds = now - self._begin - self._stood - max(0.0, now - self._beat - EVERY)
        await cancel_and_wait(self._task)

    async def _notice(self) -> None:
        while True:
            await asyncio.sleep(EVERY)
            now = time.monotonic()
            self._stood += max(0.0, now - self._beat - EVERY)
            self._beat = now


async def yielding(things: Iterable[T], stretch: int = AT_A_STRETCH) -> AsyncIterator[T]:
    """The things, with a pause for others now and then."""
    for number, thing in enumerate(things, 1):
        yield thing
        if number % stretch == 0:
            await asyncio.sleep(0)


async def read_job_answer(call: Call[Job], answer: Answer, job_id: int) -> Job:
    """One job of an answer, which may be an array of thousands.

    :raises ClusterraError: as the call's own reader does.
    """
    if len(answer.body) <= LARGE or answer.status >= 300:
        return call.read(answer)
    job = await asyncio.to_thread(one_job, await _read_elsewhere(answer, whole=False), job_id)
    # an answer without the job, which is rare, is refused in the call's own words
    return call.read(answer) if job is None else job


async def read_jobs_answer(call: Call[list[Job]], answer: Answer) -> list[Job]:
    """All jobs of an answer.

    :raises ClusterraError: as the call's own reader does.
    """
    if len(answer.body) <= LARGE or answer.status >= 300:
        return call.read(answer)
    return await _read_elsewhere(answer, whole=True)


async def _read_elsewhere(answer: Answer, *, whole: bool) -> list[Job]:
    """One at a time, so that memory stays flat."""
    async with _turns.setdefault(asyncio.get_running_loop(), asyncio.Lock()):
        try:
            child = await _begin(*([] if whole else [PARTIAL]))
        except OSError as error:
            # the event loop stands still for a moment, but the jobs are seen
            log.warning("A large answer is read without a process of its own: %s", error)
            return await asyncio.to_thread(read_jobs, answer, whole=whole)
        try:
            _, output, words = await asyncio.gather(
                _give(child, answer.body), _all_of(child.stdout), _all_of(child.stderr)
            )
            code = await child.wait()
        except BaseException:
            await _end(child)
            raise
    if code:
        why = words.decode("utf-8", "replace").strip().rpartition("\n")[2]
        raise answer.unreadable(why or f"its reader ended with {code}")
    jobs: list[Job] = []
    view = memoryview(output)
    while view:
        end = LENGTH + int.from_bytes(view[:LENGTH])
        jobs += msgspec.msgpack.decode(view[LENGTH:end], type=list[Job])
        view = view[end:]
        await asyncio.sleep(0)
    return jobs


async def _begin(*arguments: str) -> asyncio.subprocess.Process:
    path = os.pathsep.join([_HOME, *filter(None, [os.environ.get("PYTHONPATH")])])
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        __name__,
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path},
    )


async def _end(child: asyncio.subprocess.Process) -> None:
    """Its transport closes once it is gone and its pipes were read to their ends."""
    with suppress(ProcessLookupError):
        child.kill()
    await asyncio.gather(_all_of(child.stdout), _all_of(child.stderr), child.wait())


async def _give(child: asyncio.subprocess.Process, body: bytes) -> None:
    stdin = child.stdin
    if stdin is None:
        return
    view = memoryview(body)
    try:
        for begin in range(0, len(view), PIECE):
            stdin.write(view[begin : begin + PIECE])
            await stdin.drain()
        stdin.close()
    except (BrokenPipeError, ConnectionResetError):
        return


async def _all_of(stream: asyncio.StreamReader | None) -> bytes:
    return await stream.read() if stream is not None else b""


PARTIAL = "--partial"
"""What the child is called with for one job's answer, whose jobs count though something is odd beside them."""


def main() -> int:
    """Read an answer's body from standard input; write its jobs to standard output."""
    answer = Answer("", 200, {}, sys.stdin.buffer.read())
    try:
        jobs = read_jobs(answer, whole=PARTIAL not in sys.argv)
    except ClusterraError as error:
        sys.stderr.write(str(error))
        return 1
    for begin in range(0, len(jobs), JOBS_TOGETHER):
        piece = msgspec.msgpack.encode(jobs[begin : begin + JOBS_TOGETHER])
        sys.stdout.buffer.write(len(piece).to_bytes(LENGTH) + piece)
    return 0


if __name__ == "__main__":
    sys.exit(main())
