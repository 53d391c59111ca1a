"""What many waiting jobs cost, ours and the peers': ``python -m bench.waiting [JOBS [SYSTEM…]]``.

Each provider's own trigger as often as there are jobs, all in one event loop, against the same stub
in a process of its own (bench/stub.py). The peers look each 30 s, and ours at its own pace. The jobs are
old and running. Everything is read from outside, since a loop that is blocked cannot tell. Measured is for
two intervals: in the first one the loop's lag, and then, once nothing else runs in that process, its CPU.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import msgspec

from bench.figures import OURS, RATIO, Figure, Target, at_least, at_most, show
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
TOLD_A_SECOND = 4000
"""Jobs of which the first look is judged, roughly."""
ENDS = 20
"""Jobs that end, or half of all."""
FEW = (1, 10, 100)
"""All side by side, with all systems; with a single job, ours."""
MANY = (1000, 5000)
MAIN = 1000
"""Jobs for which the systems are compared."""
READY_WITHIN = 120.0
VAST, QUEUE = 20_000, 100_000
SIDE_BY_SIDE = (
    ((OURS, MAIN, 0), ("databricks", MAIN, 0)),
    ((OURS, 5000, 0), ("dbt-cloud", MAIN, 0)),
    (("dbt-cloud", 5000, 0),),
    ((OURS, VAST, QUEUE),),
)
"""Beside the load of a peer's, which takes a part of one core, one of ours, which takes next to nothing.
Alone are those of which the stub itself takes a core. Not measured: with 100 jobs Airbyte's loop stands still
from one round to the next already, and with 5000 Databricks' requests are as many as dbt Cloud's."""
PER_JOB = {"memory for the jobs": "memory a job", "CPU a minute": "CPU a minute and job"}
TARGETS: dict[str, Target] = {
    "requests a minute": at_most(20),
    "share of the server's time": at_most(2),
    "answers' bytes a minute": at_most(1),
    "a job's end told after, median": at_most(3),
    "a job's end told after, p95": at_most(6),
}
"""Ours; they depend on no machine's speed."""
AT_EVERY_COUNT = ("requests a minute", "share of the server's time")
COMPARED: dict[str, dict[str, Target]] = {
    "requests a minute": {},
    "CPU a minute": {},
    "event-loop lag p99": {"databricks": at_least(1)},
    "memory for the jobs": {"dbt-cloud": at_least(1)},
    "a job's end told after, median": {"databricks": at_least(2)},
}
"""What the peers are compared in, and with whom that decides."""


class Load(msgspec.Struct):
    """What was measured of one system with so many jobs."""

    system: str
    count: int
    values: Values
    note: str

    def figures(self) -> Iterator[Figure]:
        """The values as figures; but for a few the targets are set for our 1000 jobs."""
        for name, (value, unit) in self.values.items():
            is_set = self.count == MAIN or name in AT_EVERY_COUNT
            yield Figure(
                name=name,
                value=value,
                unit=unit,
                of=self.system,
                at=f"{self.count} jobs",
                target=TARGETS.get(name) if self.system == OURS and is_set else None,
                note=self.note if name == "requests a minute" else "",
            )


def measure_load(system: str, count: int, queue: int = 0, ready: Barrier | None = None) -> Load:
    """One system with so many jobs, of which some end.

    :param system: one of :data:`bench.systems.SYSTEMS`.
    :param count: jobs.
    :param queue: the jobs that there are, if they are more.
    :param ready: passed once the processes are there, and once the first looks are over: what is
        measured side by side is not beside others that still start.
    """
    print(f"  {system}, {count} jobs", file=sys.stderr, flush=True)
    with Scene(system, count, queue) as scene:
        if ready is not None:
            ready.wait(READY_WITHIN)
        empty, begin = scene.memory(), scene.now()
        scene.begin()
        shown = scene.until_shown(STARTS_WITHIN)
        time.sleep(SETTLED + count / TOLD_A_SECOND)
        settled = scene.now()
        scene.collect()
        if ready is not None:
            ready.wait(READY_WITHIN)
        first = scene.now()
        ends = _let_jobs_end(scene, first.at, min(ENDS, count // 2))
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
            "lag, most, while all are first seen": (max(scene.lag(begin.at, settled.at)), "ms"),
            "longest run of the garbage collector then": (
                scene.collected(begin.at, settled.at),
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
        note = (
            f"and {last.singles - first.singles} looks at single ones of the {len(ends)} that ended"
        )
    return Load(system, count, values, note)


def _used(first: Moment, last: Moment, *, polls_only: bool) -> Values:
    """What was asked between two moments, a minute.

    :param polls_only: whether looks at single jobs, which ended, are left out.
    """
    singles = last.singles - first.singles if polls_only else 0
    seconds = last.at - first.at
    # from one look at many to another: of the few that a dear one allows, a part of a pause would decide
    looking = last.began - first.began or seconds
    share = (last.busy - first.busy) / looking * 100 if looking else None
    return {
        "requests a minute": ((last.asked - first.asked - singles) / seconds * 60, ""),
        "share of the server's time": (share, "%"),
        "answers' bytes a minute": ((last.bytes - first.bytes) / seconds * 60 / 1e6, "MB"),
    }


def _lags(late: list[float]) -> Values:
    return {
        "event-loop lag p50": (percentile(late, 0.5), "ms"),
        "event-loop lag p99": (percentile(late, 0.99), "ms"),
        "event-loop lag, most": (max(late), "ms"),
    }


def _let_jobs_end(scene: Scene, begin: float, count: int) -> list[float]:
    """Let jobs end one after the other over one interval; when each did."""
    ends = []
    for number in range(count):
        time.sleep(max(0.0, begin + number * INTERVAL / count - time.time()))
        ends.append(scene.end_a_job())
    return ends


def _promptness(ends: list[float], told: dict[int, float]) -> Values:
    late = [told[number] - end for number, end in enumerate(ends) if number in told]
    return {
        "a job's end told after, median": (statistics.median(late) if late else None, "s"),
        "a job's end told after, p95": (percentile(late, 0.95) if late else None, "s"),
        "ends told": (float(len(late)), f"of {len(ends)}"),
    }


def _ratios(loads: list[Load]) -> Iterator[Figure]:
    """The peers beside ours with as many jobs."""
    ours = {load.count: load for load in loads if load.system == OURS}
    for load in loads:
        if load.system == OURS or load.count not in MANY or load.count not in ours:
            continue
        for name, targets in COMPARED.items():
            if load.count == MAIN or name == "memory for the jobs":
                target = targets.get(load.system)
                yield from _ratio(name, load, ours[load.count], target)


def _ratio(name: str, theirs: Load, ours: Load, target: Target | None) -> Iterator[Figure]:
    mine, other = ours.values[name][0], theirs.values[name][0]
    if mine and other:
        whose, at = f"{theirs.system} / ours", f"{ours.count} jobs"
        yield Figure(name=name, value=other / mine, unit=RATIO, of=whose, at=at, target=target)


def _vast(vast: Load, loads: list[Load]) -> Iterator[Figure]:
    """A long queue beside 1000 jobs."""
    at = f"{VAST} of {QUEUE} jobs"
    few = next(load for load in loads if (load.system, load.count) == (OURS, MAIN))
    for name, words in PER_JOB.items():
        mine, base = (load.values[name][0] or 0.0 for load in (vast, few))
        value = (base / few.count) / (mine / vast.count)
        of = f"ours with {MAIN} / ours"
        yield Figure(name=words, value=value, unit=RATIO, of=of, at=at, target=at_least(1))
    for load in loads:
        if (load.system, load.count) == ("databricks", MAIN):
            name = "event-loop lag p99"
            value = (load.values[name][0] or 0.0) / (vast.values[name][0] or 1.0)
            of = f"databricks with {MAIN} / ours"
            yield Figure(name=name, value=value, unit=RATIO, of=of, at=at, target=at_least(1))
    for figure in vast.figures():
        yield msgspec.structs.replace(figure, at=at)


def measure_beside(places: Sequence[tuple[str, int, int]]) -> list[Load]:
    """Loads that are measured at the same time.

    :param places: of each the system, its jobs, and the jobs that there are, if they are more.
    """
    ready = Barrier(len(places))
    with ThreadPoolExecutor(len(places)) as pool:
        return list(pool.map(lambda place: measure_load(*place, ready=ready), places))


def measure() -> list[Figure]:
    """All systems with all numbers of jobs: the few side by side, the many as :data:`SIDE_BY_SIDE`."""
    installed = [name for name, system in SYSTEMS.items() if system.is_installed]
    few = [(each, count, 0) for count in FEW for each in installed if count > 1 or each == OURS]
    groups = [few, *([each for each in group if each[0] in installed] for group in SIDE_BY_SIDE)]
    found = [load for group in groups if group for load in measure_beside(group)]
    loads = [load for load in found if load.count != VAST]
    figures = [figure for load in loads for figure in load.figures()]
    vast = next(load for load in found if load.count == VAST)
    return [*_ratios(loads), *figures, *_vast(vast, loads)]


def main() -> None:
    """Print the figures; those of one number of jobs where that is given, side by side."""
    if len(sys.argv) < 2:
        show(measure())
        return
    count = int(sys.argv[1])
    places = [(system, count, QUEUE if count == VAST else 0) for system in sys.argv[2:] or [OURS]]
    loads = measure_beside(places)
    show([*_ratios(loads), *(figure for load in loads for figure in load.figures())])


if __name__ == "__main__":
    main()
