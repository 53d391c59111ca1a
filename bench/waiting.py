"""What many waiting jobs cost: ``python -m bench.waiting [JOBS [SECONDS]]``.

1000 jobs and 60 seconds unless told otherwise, all in one event loop, each with an interval of
30 s; the API is a stub in a process of its own whose answers take 50 ms (bench/stub.py). The jobs
are old and running. After half of the time ten of them end.
"""

from __future__ import annotations

import asyncio
import resource
import subprocess
import sys
import time

import httpx

from airflow_provider_clusterra.api.access import Access
from airflow_provider_clusterra.watch.poller import poller_of
from airflow_provider_clusterra.watch.verdict import Watch
from airflow_provider_clusterra.watch.wait import Wait
from bench.lag import in_words, measured_lag
from bench.stub import FIRST

OLD = 3600.0
ENDING = 10


async def measure(url: str, count: int, seconds: float) -> None:
    """Print the figures."""
    access = Access(url, "a-session")
    seen: set[int] = set()
    ends: list[float] = []

    async def credentials() -> Access:
        return access

    async def wait(job_id: int) -> None:
        poller = poller_of("bench", "c1", credentials)
        watch = Watch(job_id, since=time.time() - OLD)
        await Wait(
            poller,
            watch,
            poll_interval=30.0,
            on_change=lambda job: seen.add(job.job_id),
            on_warning=print,
        ).run(None)
        ends.append(time.monotonic())

    idle = await _idle()
    begin = time.monotonic()
    async with httpx.AsyncClient(base_url=url) as server, measured_lag() as starting:
        waits = [asyncio.create_task(wait(FIRST + number)) for number in range(count)]
        while len(seen) < count:  # noqa: ASYNC110 - what is seen sets no event
            await asyncio.sleep(0.05)
        print(
            f"{count} jobs: all seen after {time.monotonic() - begin:.1f} s, {in_words(starting)}"
        )
        before, cpu = (await server.get("/count")).json(), _cpu()
        async with measured_lag() as late:
            await asyncio.sleep(seconds / 2)
            await server.post(f"/end?count={ENDING}")
            ended = time.monotonic()
            await asyncio.sleep(seconds / 2)
        used = (_cpu() - cpu) / seconds - idle
        after = (await server.get("/count")).json()
    asked = {kind: number - before.get(kind, 0) for kind, number in after.items()}
    together = asked.get("states", 0) + asked.get("list", 0)
    print(
        f"  {together / seconds * 60:.1f} requests a minute for all jobs, and {asked.get('single', 0)} "
        f"for the {ENDING} that ended; {used:.1%} of a core"
    )
    told = sorted(each - ended for each in ends)
    if told:
        print(f"  {len(told)} ends told, the last {told[-1]:.1f} s after it; {in_words(late)}")
    print(f"  {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB in all")
    for each in waits:
        each.cancel()
    await asyncio.gather(*waits, return_exceptions=True)


async def _idle() -> float:
    """The share of a core that the measuring itself takes."""
    cpu = _cpu()
    async with measured_lag():
        await asyncio.sleep(3.0)
    return (_cpu() - cpu) / 3.0


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Start the stub, and measure."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 60.0
    command = [sys.executable, "-m", "bench.stub", str(count)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as stub:
        try:
            url = stub.stdout.readline().strip() if stub.stdout else ""
            asyncio.run(measure(url, count, seconds))
        finally:
            stub.terminate()


if __name__ == "__main__":
    main()
