"""What many waiting jobs cost, ours and the peers': ``python -m bench.waiting [JOBS SECONDS [SYSTEM]]``.

Each provider's own trigger as often as there are jobs, all in one event loop, against the same stub
in a process of its own (bench/stub.py). All look each 30 s. The jobs are old and running. Everything
is read from outside, since a loop that is blocked cannot tell.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import msgspec

from bench.figures import OURS, RATIO, Figure, at_most, show
from bench.lag import percentile, read_lag
from bench.process import cpu_seconds, memory_mib
from bench.stub import FIRST, stub_of
from bench.systems import SYSTEMS

IDLE = 2.0
STARTS_WITHIN = 20.0
"""Seconds for which the first look at each job is waited for; then it is measured all the same."""
SETTLED = 3.0
"""Seconds after the first looks, so that a window of one interval holds the next looks whole."""
ENDS = 20
ENDS_WITHIN = 30.0
FEW = (100, 500)
MANY = (1000, 5000)
BLOCKED = ("airbyte", 5000)
"""Not measured: with a fifth of these jobs its loop stands still from one round to the next."""
TARGETS = {
    "requests a minute": at_most(6),
    "event-loop lag p99": at_most(20),
}


class Load(msgspec.Struct):
    """What was measured of one system with so many jobs."""

    system: str
    count: int
    values: dict[str, tuple[float | None, str]]
    note: str

    def figures(self) -> Iterator[Figure]:
        """The values as figures; the targets are set for our 1000 jobs."""
        for name, (value, unit) in self.values.items():
            target = TARGETS.get(name) if (self.system, self.count) == (OURS, 1000) else None
            yield Figure(
                name=name,
                value=value,
                unit=unit,
                of=self.system,
                at=f"{self.count} jobs",
                target=target,
                note=self.note if name == "requests a minute" else "",
            )


@contextmanager
def _triggers(system: str, url: str, count: int, folder: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "bench.triggers", system, url, str(count), folder]
    log = Path(folder, "log").open("w")  # noqa: SIM115 - the process has it for as long as it lives
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
    ) as process:
        try:
            if process.stdout is None or process.stdout.readline().strip() != "ready":
                raise RuntimeError(f"{system}: {Path(folder, 'log').read_text()[-1000:]}")
            yield process
        finally:
            process.kill()
            log.close()


def measure_load(system: str, count: int, seconds: float) -> Load:
    """One system with so many jobs.

    :param system: one of :data:`bench.systems.SYSTEMS`.
    :param count: jobs.
    :param seconds: for which it is measured, once each job was looked at.
    """
    print(f"  {system}, {count} jobs, {seconds:.0f} s", file=sys.stderr, flush=True)
    with (
        stub_of(count) as url,
        tempfile.TemporaryDirectory() as folder,
        _triggers(system, url, count, folder) as process,
        httpx.Client(base_url=url, timeout=60) as server,
    ):
        empty, cpu = memory_mib(process.pid), cpu_seconds(process.pid)
        time.sleep(IDLE)
        idle = (cpu_seconds(process.pid) - cpu) / IDLE
        begin = time.time()
        process.stdin.write("\n")  # type: ignore[union-attr]
        process.stdin.flush()  # type: ignore[union-attr]
        while (shown := server.get("/count").json()["shown"]) < count:
            if time.time() - begin > STARTS_WITHIN:
                break
            time.sleep(0.05)
        shown_after = time.time() - begin
        time.sleep(SETTLED)
        started = time.time()
        before, cpu = server.get("/count").json(), cpu_seconds(process.pid)
        ends = _let_jobs_end(server, started, seconds) if seconds > ENDS_WITHIN else []
        time.sleep(max(0.0, started + seconds - time.time()))
        over = time.time()
        after, cpu = server.get("/count").json(), cpu_seconds(process.pid) - cpu
        late = read_lag(Path(folder, "lag"), started, over)
        starting = read_lag(Path(folder, "lag"), begin, begin + shown_after) or [0.0]
        told = _told(Path(folder, "events"), ends)
        asked = sum(after["asked"].values()) - sum(before["asked"].values())
        # what was asked of the jobs that ended, once each, is no polling
        singles = after["asked"].get("single", 0) - before["asked"].get("single", 0)
        per_minute = 60 / (over - started)
        grown = memory_mib(process.pid) - empty
        note = "" if shown >= count else f"only {shown} jobs looked at in {STARTS_WITHIN:.0f} s"
        if ends and singles:
            note = f"and {singles} single looks at the {ENDS} jobs that ended"
    values: dict[str, tuple[float | None, str]] = {
        "requests a minute": ((asked - (singles if ends else 0)) * per_minute, ""),
        "answers' bytes a minute": ((after["bytes"] - before["bytes"]) * per_minute / 1e6, "MB"),
        "CPU a minute": (max(0.0, cpu / (over - started) - idle) * 60, "s"),
        "event-loop lag p50": (percentile(late, 0.5), "ms"),
        "event-loop lag p99": (percentile(late, 0.99), "ms"),
        "event-loop lag, most": (max(late), "ms"),
        "memory for the jobs": (grown, "MiB"),
        "all looked at after": (shown_after if shown >= count else None, "s"),
        "lag p99 meanwhile": (percentile(starting, 0.99), "ms"),
    }
    if ends:
        values["a job's end told after, median"] = (statistics.median(told) if told else None, "s")
        values["ends told"] = (float(len(told)), f"of {ENDS}")
    return Load(system, count, values, note)


def _let_jobs_end(server: httpx.Client, begin: float, seconds: float) -> list[float]:
    """Let jobs end one after the other over one interval; when each did."""
    pause = min(ENDS_WITHIN, seconds / 2) / ENDS
    ends = []
    for number in range(ENDS):
        time.sleep(max(0.0, begin + number * pause - time.time()))
        server.post("/end?count=1")
        ends.append(time.time())
    return ends


def _told(path: Path, ends: list[float]) -> list[float]:
    rows = [line.split() for line in path.read_text().splitlines() if line.count(" ") == 1]
    told = {int(job_id) - FIRST: float(at) for job_id, at in rows}
    return [told[number] - end for number, end in enumerate(ends) if number in told]


def _ratios(loads: list[Load]) -> Iterator[Figure]:
    ours = next((load for load in loads if load.system == OURS and load.count == 1000), None)
    for load in loads:
        if ours is None or load.system == OURS or load.count != ours.count:
            continue
        for name in ("requests a minute", "CPU a minute", "event-loop lag p99"):
            mine, theirs = ours.values[name][0], load.values[name][0]
            if mine and theirs:
                yield Figure(
                    name=name,
                    value=theirs / mine,
                    unit=RATIO,
                    of=f"{load.system} / ours",
                    at="1000 jobs",
                )


def measure() -> list[Figure]:
    """All systems with all numbers of jobs: the few side by side, the many one after the other.

    60 s with 1000 jobs, and 30 s, one interval, with the others.
    """
    installed = [name for name, system in SYSTEMS.items() if system.is_installed]
    loads: list[Load] = []
    for count in FEW:
        with ThreadPoolExecutor(len(installed)) as pool:
            loads += pool.map(lambda system: measure_load(system, count, 30.0), installed)  # noqa: B023
    for count in MANY:
        for system in installed:
            if (system, count) != BLOCKED:
                loads.append(measure_load(system, count, 60.0 if count == 1000 else 30.0))
    return [*_ratios(loads), *(figure for load in loads for figure in load.figures())]


def main() -> None:
    """Print the figures; those of one number of jobs where that is given."""
    if len(sys.argv) < 3:
        show(measure())
        return
    systems = sys.argv[3:] or [OURS]
    for system in systems:
        show(measure_load(system, int(sys.argv[1]), float(sys.argv[2])).figures())


if __name__ == "__main__":
    main()
