"""Outputs that are followed into logs, to the byte: ``python -m bench.following [SECONDS]``.

50 jobs write 1 MB a second in all, for 20 s unless told otherwise: more than the vendor's
streams carry, of which each brings 8 KiB a second. Then one job writes 100 MB in 10 s. The server is
a ``clusterra-server``, whose streams are the vendor's; the writer is a process of its own; whoever
follows has one event loop, as a triggerer has.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from airflow_provider_clusterra.api import Access, AsyncClient
from airflow_provider_clusterra.api.errors import ONCE
from airflow_provider_clusterra.watch.eventloop import cancel_and_wait
from airflow_provider_clusterra.watch.tail import GOES_ON, KEPT, LIMIT, Tail
from bench.figures import Figure, at_most, show
from bench.lag import percentile, read_lag, written_lag
from bench.process import memory_mib, reset_peak
from tests.support.servers import ClusterraServer

JOBS = 50
RATE = 1_000_000
LONG = 100_000_000
LONG_TAKES = 10.0
FIRST = 900_000
LINE = 80
WRITER = """
import sys, time
paths, rate, seconds, line = sys.argv[4:], float(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
share, at, begin = rate / len(paths), 0, time.monotonic()
files = [open(path, "ab", buffering=0) for path in paths]
last = int(share * seconds) // line
while at < last:
    end = min(last, int(share * (time.monotonic() - begin)) // line)
    piece = b"".join(b"%015d" % number + b"x" * (line - 16) + b"\\n" for number in range(at, end))
    for file in files:
        file.write(piece)
    at = end
    time.sleep(0.1)
"""


def expected(at: int, size: int) -> bytes:
    """What the writer has written into each file.

    :param at: the first byte.
    :param size: how many.
    """
    lines = range(at // LINE, (at + size) // LINE + 1)
    text = b"".join(b"%015d" % number + b"x" * (LINE - 16) + b"\n" for number in lines)
    return text[at % LINE : at % LINE + size]


class Log:
    """A task's log that remembers only how far it is right."""

    def __init__(self, job_id: int) -> None:
        self.job_id = job_id
        self.size = 0
        self.wrong = 0
        self.notes: list[str] = []

    def write(self, record: str) -> None:
        """Compare one record with what was written."""
        goes_on = record.startswith(GOES_ON)
        text = record.removeprefix(GOES_ON) if goes_on or not self.size else "\n" + record
        data = text.encode()
        if not self.notes and data != expected(self.size, len(data)):
            self.wrong += 1
        self.size += len(data)


@asynccontextmanager
async def followed(server: ClusterraServer, logs: list[Log]) -> AsyncIterator[AsyncClient]:
    """Follow the jobs for as long as the block is, and read the rest at its end.

    :param server: whose jobs they are.
    :param logs: one for each.
    """
    tails = [Tail(server.cluster_id, log.job_id, log.write, log.notes.append) for log in logs]
    access = Access(server.url, server.token)
    # as the poller does: building one takes longer than a loop may stand still
    async with await asyncio.to_thread(AsyncClient, access, retry=ONCE) as client:
        tasks = [asyncio.create_task(tail.follow(client, lambda: None)) for tail in tails]
        try:
            yield client
        finally:
            for task in tasks:
                await cancel_and_wait(task)
        await asyncio.gather(*(tail.finish(client) for tail in tails))


async def _written(server: ClusterraServer, logs: list[Log], rate: float, seconds: float) -> int:
    """Write the outputs; each has so many bytes then."""
    paths = [str(server.folder / "efs" / f"job_{log.job_id}.out") for log in logs]
    words = [str(rate), str(seconds), str(LINE), *paths]
    writer = await asyncio.create_subprocess_exec(sys.executable, "-c", WRITER, *words)
    await writer.wait()
    return int(rate / len(logs) * seconds) // LINE * LINE


async def follow_many(server: ClusterraServer, seconds: float) -> list[Figure]:
    """Many outputs at once.

    :param server: an empty one.
    :param seconds: for which they are written.
    """
    logs = [Log(FIRST + number) for number in range(JOBS)]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "lag")
        begin = time.time()
        async with written_lag(file), followed(server, logs):
            size = await _written(server, logs, RATE, seconds)
        lag = read_lag(file, begin, time.time())
    at = f"{JOBS} jobs, {RATE / 1e6:.0f} MB/s"
    # the last line's end is the record's own
    lost = sum(abs(size - 1 - log.size) for log in logs)
    wrong = sum(log.wrong + len(log.notes) for log in logs)
    return [
        Figure(name="bytes lost or doubled", value=lost, at=at, target=at_most(0)),
        Figure(name="records that are wrong", value=wrong, at=at, target=at_most(0)),
        Figure(
            name="event-loop lag, p99",
            value=percentile(lag, 0.99),
            unit="ms",
            at=at,
        ),
        Figure(name="event-loop lag, most", value=max(lag), unit="ms", at=at),
    ]


async def follow_long(server: ClusterraServer) -> list[Figure]:
    """One output that is longer than a log may be.

    :param server: whose job it is.
    """
    log = Log(FIRST + JOBS)
    reset_peak()
    before = memory_mib()
    async with followed(server, [log]):
        size = await _written(server, [log], LONG / LONG_TAKES, LONG_TAKES)
        end = time.monotonic()
    took = time.monotonic() - end
    left_out = f"{size - LIMIT - KEPT} bytes of job {log.job_id}'s output are left out"
    told = len(log.notes) == 1 and log.notes[0].startswith(left_out) and not log.wrong
    at = f"{LONG / 1e6:.0f} MB in {LONG_TAKES:.0f} s"
    return [
        Figure(
            name="all there, or told", value=took, unit="s after its end", at=at, target=at_most(30)
        ),
        Figure(name="not told", value=int(not told), at=at, target=at_most(0)),
        Figure(name="memory more", value=memory_mib(most=True) - before, unit="MiB", at=at),
    ]


def measure(seconds: float = 20.0) -> list[Figure]:
    """Many outputs, and a long one.

    :param seconds: for which many are written.
    """
    with ClusterraServer() as server:
        (server.folder / "efs").mkdir(exist_ok=True)

        async def both() -> list[Figure]:
            # the long one first: what it takes of memory would not be seen after many
            long = await follow_long(server)
            return await follow_many(server, seconds) + long

        return asyncio.run(both())


if __name__ == "__main__":
    show(measure(*map(float, sys.argv[1:])))
