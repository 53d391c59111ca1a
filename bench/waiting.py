"""What many waiting jobs cost, ours and the peers': ``python -m bench.waiting [JOBS [SYSTEM…]]``.

Each provider's own trigger as often as there are jobs, all in one event loop, against the same stub
in a process of its own (bench/stub.py). All look each 30 s. The jobs are old and running. Everything
is read from outside, since a loop that is blocked cannot tell. Measured is for two intervals: in the
first one the loop's lag, and then, once nothing else runs in that process, its CPU.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import msgspec

from bench.figures import OURS, RATIO, Figure, at_most, show
from bench.lag import percentile
from bench.scene import Moment, Scene
from bench.systems import SYSTEMS

Values = dict[str, tuple[float | None, str]]
"""A figure's name to its value and unit."""

INTERVAL = 30.0
STARTS_WITHIN = 10.0
"""Seconds for which the first look at each job is waited for; then it is measured all the same."""
SETTLED = 3.0
"""Seconds after the first looks, so that a window of one interval holds the next looks whole."""
ENDS = 20
"""Jobs that end, where any do."""
FEW = (100, 500)
MANY = (1000, 5000)
SOME_END = 1000
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
    values: Values
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


def measure_load(system: str, count: int) -> Load:
    """One system with so many jobs, of which some end where they are 1000.

    :param system: one of :data:`bench.systems.SYSTEMS`.
    :param count: jobs.
    """
    print(f"  {system}, {count} jobs", file=sys.stderr, flush=True)
    with Scene(system, count) as scene:
        empty, begin = scene.memory(), scene.now()
        scene.begin()
        shown = scene.until_shown(STARTS_WITHIN)
        time.sleep(SETTLED)
        first = scene.now()
        ends = _let_jobs_end(scene, first.at) if count == SOME_END else []
        time.sleep(max(0.0, first.at + INTERVAL - time.time()))
        middle = scene.now()
        scene.end_lag()
        time.sleep(INTERVAL)
        last = scene.now()
        values = {
            **_used(first, last, polls_only=bool(ends)),
            "CPU a minute": ((last.cpu - middle.cpu) / (last.at - middle.at) * 60, "s"),
            **_lags(scene.lag(first.at, middle.at)),
            "memory for the jobs": (scene.memory() - empty, "MiB"),
            "all looked at after": (shown.at - begin.at if shown.shown >= count else None, "s"),
            "lag p99 meanwhile": (percentile(scene.lag(begin.at, shown.at), 0.99), "ms"),
            "lag, most, while all are first seen": (max(scene.lag(begin.at, first.at)), "ms"),
            "longest run of the garbage collector then": (
                scene.collected(begin.at, first.at),
                "ms",
            ),
        }
        if ends:
            values |= _promptness(ends, scene.told())
    note = (
        ""
        if shown.shown >= count
        else f"only {shown.shown} jobs in the first {STARTS_WITHIN:.0f} s"
    )
    if ends and last.singles > first.singles:
        note = f"and {last.singles - first.singles} looks at single ones of the {ENDS} that ended"
    return Load(system, count, values, note)


def _used(first: Moment, last: Moment, *, polls_only: bool) -> Values:
    """What was asked between two moments, a minute.

    :param polls_only: whether looks at single jobs, which ended, are left out.
    """
    singles = last.singles - first.singles if polls_only else 0
    seconds = last.at - first.at
    return {
        "requests a minute": ((last.asked - first.asked - singles) / seconds * 60, ""),
        "answers' bytes a minute": ((last.bytes - first.bytes) / seconds * 60 / 1e6, "MB"),
    }


def _lags(late: list[float]) -> Values:
    return {
        "event-loop lag p50": (percentile(late, 0.5), "ms"),
        "event-loop lag p99": (percentile(late, 0.99), "ms"),
        "event-loop lag, most": (max(late), "ms"),
    }


def _let_jobs_end(scene: Scene, begin: float) -> list[float]:
    """Let jobs end one after the other over one interval; when each did."""
    ends = []
    for number in range(ENDS):
        time.sleep(max(0.0, begin + number * INTERVAL / ENDS - time.time()))
        ends.append(scene.end_a_job())
    return ends


def _promptness(ends: list[float], told: dict[int, float]) -> Values:
    late = [told[number] - end for number, end in enumerate(ends) if number in told]
    return {
        "a job's end told after, median": (statistics.median(late) if late else None, "s"),
        "ends told": (float(len(late)), f"of {ENDS}"),
    }


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
    """All systems with all numbers of jobs: the few side by side, the many one after the other."""
    installed = [name for name, system in SYSTEMS.items() if system.is_installed]
    few = [(system, count) for count in FEW for system in installed]
    with ThreadPoolExecutor(len(few)) as pool:
        loads = list(pool.map(lambda each: measure_load(*each), few))
    many = [(system, count) for count in MANY for system in installed]
    for system, count in many:
        if (system, count) != BLOCKED:
            loads.append(measure_load(system, count))
    return [*_ratios(loads), *(figure for load in loads for figure in load.figures())]


def main() -> None:
    """Print the figures; those of one number of jobs where that is given."""
    if len(sys.argv) < 2:
        show(measure())
        return
    for system in sys.argv[2:] or [OURS]:
        show(measure_load(system, int(sys.argv[1])).figures())


if __name__ == "__main__":
    main()
