"""250 MB of a job's output through both of its routes, beside ``curl -N``: ``python -m bench.output``.

The server is the same for all, and as fast as it can be (bench/pour.py). An event loop reads both, as a
triggerer does; a thread reads the snapshot, as a worker does for a job's result. Two more show where the
time goes: httpx alone, without any code of ours; and ``curl -N | sed``, which takes the events'
framing away, as the stream's reader does and ``curl`` alone does not.
"""

from __future__ import annotations

import asyncio
import resource
import statistics
import subprocess
import time
import zlib
from collections.abc import AsyncIterator, Callable, Iterator

import httpx

from airflow_provider_clusterra.api import Access, AsyncClient, Client
from bench.figures import OURS, Figure, at_least, at_most, medians_of, ratio, show
from bench.pour import PIECE, checksum
from bench.process import memory_mib, reset_peak, served

SIZE = 250_000_000 // PIECE * PIECE
CURL, SED, HTTPX = "curl -N", "curl -N | sed", "httpx alone"
PATHS = {
    "snapshot": "/v1/clusters/c1/jobs/1/output",
    "stream": "/v1/clusters/c1/jobs/1/output/stream",
}
WORKER = "snapshot, by a worker"
TARGETS = {"snapshot": at_least(0.95), "stream": at_least(0.85)}
"""Of what httpx alone reads in an event loop."""
TAIL = 64 * 1024


def _pieces(client: AsyncClient, way: str) -> AsyncIterator[bytes]:
    return (client.read_output_pieces if way == "snapshot" else client.stream_output)("c1", 1)


async def _count(client: AsyncClient, way: str) -> int:
    size = 0
    async for piece in _pieces(client, way):
        size += len(piece)
    return size


async def _checksum(client: AsyncClient, way: str) -> tuple[int, int]:
    size = found = 0
    async for piece in _pieces(client, way):
        size += len(piece)
        found = zlib.crc32(piece, found)
    return size, found


async def _bare(client: httpx.AsyncClient, path: str) -> None:
    async with client.stream("GET", path) as response:
        async for _ in response.aiter_raw():
            pass


def _curl(url: str) -> None:
    subprocess.run(["curl", "-sfN", "-o", "/dev/null", url], check=True)


def _sed(url: str) -> None:
    with subprocess.Popen(["curl", "-sfN", url], stdout=subprocess.PIPE) as curl:
        command = ["sed", "-n", "s/^data: //p"]
        subprocess.run(command, stdin=curl.stdout, stdout=subprocess.DEVNULL, check=True)


def measure_way(way: str, url: str) -> Iterator[Figure]:
    """One of the two routes.

    :param way: ``"snapshot"`` or ``"stream"``.
    :param url: of a server of :mod:`bench.pour`.
    """
    path = PATHS[way]
    with asyncio.Runner() as runner:
        client, bare = AsyncClient(Access(url, "a-session")), httpx.AsyncClient(base_url=url)
        size, found = runner.run(_checksum(client, way))
        wrong = abs(SIZE - size) or (0 if found == checksum(SIZE) else SIZE)
        runs = {
            OURS: _Run(lambda: runner.run(_count(client, way)), resource.RUSAGE_SELF),
            CURL: _Run(lambda: _curl(url + path), resource.RUSAGE_CHILDREN),
            HTTPX: _Run(lambda: runner.run(_bare(bare, path)), resource.RUSAGE_SELF),
        }
        if way == "stream":
            runs[SED] = _Run(lambda: _sed(url + path), resource.RUSAGE_CHILDREN)
        reset_peak()
        before = memory_mib()
        seconds = dict(zip(runs, medians_of(list(runs.values())), strict=True))
        grown = memory_mib(most=True) - before
        runner.run(client.aclose())
        runner.run(bare.aclose())
    yield from _compared(way, seconds, runs)
    yield Figure(name="bytes lost or wrong", value=wrong, unit="", at=way, target=at_most(0))
    yield Figure(name="memory more", value=grown, unit="MiB", at=way)


def measure_worker(url: str) -> Iterator[Figure]:
    """The snapshot's end, without an event loop.

    :param url: of a server of :mod:`bench.pour`.
    """
    with Client(Access(url, "a-session")) as client:

        def read() -> None:
            found = client.read_output("c1", 1, TAIL)
            if found.skipped + len(found.data) != SIZE:
                raise ValueError("the output is not whole")

        runs = {
            OURS: _Run(read, resource.RUSAGE_SELF),
            CURL: _Run(lambda: _curl(url + PATHS["snapshot"]), resource.RUSAGE_CHILDREN),
        }
        seconds = dict(zip(runs, medians_of(list(runs.values())), strict=True))
    yield from _compared(WORKER, seconds, runs)


def _compared(way: str, seconds: dict[str, float], runs: dict[str, _Run]) -> Iterator[Figure]:
    for of, theirs in seconds.items():
        target = TARGETS.get(way) if of == HTTPX else None
        if of != OURS:
            yield ratio("speed", theirs, seconds[OURS], f"ours / {of}", at=way, target=target)
        yield Figure(name="speed", value=SIZE / theirs / 1e6, unit="MB/s", of=of, at=way)
    for of, run in runs.items():
        cpu = statistics.median(run.used)
        yield Figure(name=f"CPU for {SIZE / 1e6:.0f} MB", value=cpu, unit="s", of=of, at=way)


class _Run:
    """A way to read it all, and the seconds of CPU that each run of it took."""

    def __init__(self, action: Callable[[], object], who: int) -> None:
        self._action = action
        self._who = who
        self.used: list[float] = []

    def __call__(self) -> float:
        before = resource.getrusage(self._who)
        begin = time.perf_counter()
        self._action()
        seconds = time.perf_counter() - begin
        after = resource.getrusage(self._who)
        self.used.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        return seconds


def measure() -> list[Figure]:
    """Both routes."""
    with served("bench.pour", SIZE) as url:
        ways = [figure for way in PATHS for figure in measure_way(way, url)]
        return [*ways, *measure_worker(url)]


if __name__ == "__main__":
    show(measure())
