"""What a job asked for and what it used: from accounting's records and the job's own to plain numbers."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from itertools import accumulate
from typing import Any, Literal

import msgspec

from airflow_provider_clusterra.api.answers import NOT_JSON, Answer, decode, refusal
from airflow_provider_clusterra.api.errors import ProtocolError
from airflow_provider_clusterra.api.jobs import (
    LARGEST,
    Job,
    JobRecord,
    read_number,
    read_object,
    read_objects,
    read_record,
    seconds_between,
    timestamp_of,
)

Values = dict[str, float]


class Adds(StrEnum):
    """When a value of several parts is their sum; otherwise it is the largest of them."""

    ALWAYS = "always"
    SIDE_BY_SIDE = "side by side"
    """A het job's components run at the same time, an array's tasks need not."""
    NEVER = "never"


USAGE = {
    "queue_seconds": Adds.NEVER,
    "run_seconds": Adds.NEVER,
    "nodes_allocated": Adds.SIDE_BY_SIDE,
    "node_hours": Adds.ALWAYS,
    "cpus_allocated": Adds.SIDE_BY_SIDE,
    "cpu_core_seconds_allocated": Adds.ALWAYS,
    "cpu_core_seconds_used": Adds.ALWAYS,
    "cpu_efficiency": Adds.NEVER,
    "memory_bytes_requested": Adds.SIDE_BY_SIDE,
    "memory_bytes_peak": Adds.SIDE_BY_SIDE,
    "memory_share": Adds.NEVER,
    "gpus_allocated": Adds.SIDE_BY_SIDE,
    "gpu_utilization_percent": Adds.NEVER,
    "gpu_memory_bytes_peak": Adds.SIDE_BY_SIDE,
    "energy_joules": Adds.ALWAYS,
    "cost_usd": Adds.ALWAYS,
}
"""Every number that a job's usage may hold; one that Slurm did not measure is left out."""
PER_TASK = (
    *("queue_seconds", "run_seconds", "cpu_core_seconds_used", "cpu_efficiency"),
    *("memory_bytes_peak", "gpu_utilization_percent"),
)
"""Of what an array's usage holds the median and the largest as well."""
ALL_RUNS = ("run_seconds", *(key for key, adds in USAGE.items() if adds is Adds.ALWAYS))
"""What is summed up over the runs of a requeued job."""
OF_ALL = ("cpu_core_seconds_used", "memory_bytes_peak", "memory_bytes_requested")
"""Given for a het job only if every component has them."""
MOST_COMPONENTS = 8
PER_COMPONENT = ("cpus_allocated", "cpu_efficiency", "memory_bytes_requested", "memory_bytes_peak")
"""So many components of a het job are described one by one: an event has little room."""
PRODUCTS = {
    "node_hours": ("nodes_allocated", 3600),
    "cpu_core_seconds_allocated": ("cpus_allocated", 1),
}
"""What is held, and the seconds that count as one."""
RATIOS = {
    "cpu_efficiency": ("cpu_core_seconds_used", "cpu_core_seconds_allocated"),
    "memory_share": ("memory_bytes_peak", "memory_bytes_requested"),
}
MB = 2**20
UNIT_MB = {"": 1.0, "K": 1 / 1024, "M": 1.0, "G": 1024.0, "T": 1024.0**2, "P": 1024.0**3}
NO_VALS = (2**32 - 2, 2**32 - 1)
"""Slurm's "not set" and "infinite" of 32 bits."""
NOT_TOLD = 2**63
"""From here on, and below zero, a count is Slurm's "not set" or "infinite"."""
_TRES = re.compile(r"([^=,]+)=(\d+(?:\.\d+)?)([KMGTP]?)")
_COST = re.compile(
    r"""(?<!\w)cost_usd[\\"']*\s*[=:]\s*[\\"']*(\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+)"""
)


class Run(msgspec.Struct, frozen=True):
    """One run of a job, of an array's task, or of a het job's component."""

    job: Job
    values: Values


class RunRecord(JobRecord, gc=False):
    """What else of accounting's record is read here."""

    tres: Any = None
    steps: Any = None


class _Runs(msgspec.Struct, gc=False):
    jobs: list[RunRecord] | None = None
    errors: Any = None


def read_runs(answer: Answer) -> list[Run]:
    """All runs of accounting's answer; rows that cannot be read are skipped."""
    try:
        found = decode(answer.body, _Runs)
    except NOT_JSON:
        found = _Runs()
    if answer.status >= 300 or found.errors or found.jobs is None:
        raise refusal(answer) or answer.unreadable("it holds no list of jobs")
    runs = [_read_run(record) for record in found.jobs]
    return [run for run in runs if run is not None]


def _read_run(record: RunRecord) -> Run | None:
    try:
        job = read_record(record)
    except ProtocolError:
        return None
    tres = read_object(record.tres)
    allocated, requested = _counts(tres.get("allocated")), _counts(tres.get("requested"))
    # one that was cancelled in the queue has "elapsed": 0
    ran = job.started_at is not None and tres.get("allocated") != []
    time = read_object(record.time) if ran else {}
    queued, elapsed = _time(time.get("planned")), _time(time.get("elapsed"))
    values = _values(queued, elapsed, allocated, requested)
    values |= _used([_read_step(step) for step in read_objects(record.steps)], values)
    return Run(job, _derived(values | _without_none(cost_usd=read_cost(job.admin_comment))))


def own_values(job: Job) -> Values:
    """What slurmctld's own record says, which knows nothing of what was used.

    :source: ``tres_alloc_str``, ``tres_req_str``, ``admin_comment`` and the times.
    """
    queued = seconds_between(job.submitted_at, job.began_at)
    ran = seconds_between(job.began_at, job.ended_at)
    if ran is not None:
        ran = max(0.0, ran - job.suspended_seconds)
    allocated, requested = _split(job.tres_allocated), _split(job.tres_requested)
    values = _values(queued, ran, allocated, requested)
    return _derived(values | _without_none(cost_usd=read_cost(job.admin_comment)))


def read_cost(text: str) -> float | None:
    """The cost in a comment of Clusterra's: ``cost_usd=0.12`` or the same in JSON."""
    found = _COST.search(text)
    cost = float(found[1]) if found else math.inf
    return cost if cost < math.inf else None


Counts = Mapping[str, float]


def _values(
    queued: float | None, ran: float | None, allocated: Counts, requested: Counts
) -> Values:
    memory = allocated.get("mem") or requested.get("mem")
    return _without_none(
        queue_seconds=queued,
        run_seconds=ran,
        nodes_allocated=allocated.get("node"),
        cpus_allocated=allocated.get("cpu"),
        memory_bytes_requested=None if memory is None else memory * MB,
        gpus_allocated=_gpus(allocated),
        energy_joules=allocated.get("energy"),
    )


def _gpus(allocated: Counts) -> float | None:
    """Of all types together: a site may account for each type, and not for their sum."""
    if "gres/gpu" in allocated:
        return allocated["gres/gpu"]
    typed = [count for name, count in allocated.items() if name.startswith("gres/gpu:")]
    return sum(typed) if typed else None


class _Step(msgspec.Struct, frozen=True):
    """The batch script, the extern step, or an ``srun``."""

    begin: float
    end: float
    cpu_seconds: float | None
    """None if its record does not say."""
    total: Counts
    is_extern: bool

    @property
    def is_measured(self) -> bool:
        return "cpu" in self.total or "mem" in self.total

    @property
    def is_blank(self) -> bool:
        """Whether Slurm measured nothing of it, though it may have run something, e.g.
        ``srun --acctg-freq=0``. A step of a second may end before it is measured.
        """
        return "mem" not in self.total and not self.is_extern and self.end - self.begin > 1

    @property
    def measured_seconds(self) -> float | None:
        """The same seconds, but for the 0 of a step of which nothing was measured."""
        return None if self.is_blank and self.cpu_seconds == 0 else self.cpu_seconds


def _read_step(step: Mapping[str, Any]) -> _Step:
    """One of accounting's steps.

    :source: slurmdbd calls ``TRESUsageInTot`` ``tres.requested.total``; its memory is in bytes.
    """
    time = read_object(step.get("time"))
    used = read_object(read_object(step.get("tres")).get("requested"))
    return _Step(
        begin=_time(time.get("start")) or 0,
        end=_time(time.get("end")) or math.inf,
        cpu_seconds=_cpu_seconds(time),
        total=_counts(used.get("max")) | _counts(used.get("total")),
        is_extern=str(read_object(step.get("step")).get("id")).endswith(".extern"),
    )


def _used(steps: Sequence[_Step], had: Values) -> Values:
    """What all steps used."""
    busy, gpus = _peak(steps, "gres/gpuutil"), had.get("gpus_allocated")
    most = had.get("memory_bytes_requested", math.inf)
    is_blank = any(step.is_blank for step in steps)
    return _without_none(
        cpu_core_seconds_used=_sum_of_cpu_seconds(steps),
        memory_bytes_peak=None if is_blank else _peak(steps, "mem", most),
        # of steps that share a GPU each counts it
        gpu_utilization_percent=min(busy / gpus, 100.0) if busy is not None and gpus else None,
        gpu_memory_bytes_peak=_peak(steps, "gres/gpumem"),
    )


def _sum_of_cpu_seconds(steps: Sequence[_Step]) -> float | None:
    """None if Slurm did not measure all of them. If it measures no job, each says 0 seconds."""
    if not any(step.is_measured for step in steps):
        return sum(step.cpu_seconds or 0 for step in steps) or None
    seconds = [step.measured_seconds for step in steps]
    known = [each for each in seconds if each is not None]
    return sum(known) if len(known) == len(steps) else None


def _peak(steps: Sequence[_Step], name: str, most: float = math.inf) -> float | None:
    """The most that steps had at one time: those side by side together, one after another not."""
    changes: list[tuple[float, int, float]] = []
    for begin, end, count in _spans(steps, name, most):
        changes += [(begin, 1, count), (end, 0, -count)]
    # at the same second an end comes before a begin
    sums = accumulate(change for _, _, change in sorted(changes))
    return max(sums, default=None)


def _spans(steps: Sequence[_Step], name: str, most: float) -> Iterator[tuple[float, float, float]]:
    """From when to when steps had how much."""
    brief: dict[float, list[float]] = defaultdict(list)
    for step in steps:
        count = step.total.get(name)
        if count is None:
            continue
        if step.end > step.begin:
            yield step.begin, step.end, count
        else:
            brief[step.begin].append(count)
    for begin, counts in brief.items():
        # Slurm's clock has whole seconds: those of one second may be a loop of quick steps, and are one
        # if they had more together than the job
        yield begin, begin + 0.5, sum(counts) if sum(counts) <= most else max(counts)


def _time(value: Any) -> int | None:
    number = read_number(value)
    return None if number is None or number > LARGEST else number


def _cpu_seconds(time: Mapping[str, Any]) -> float | None:
    """Of a step; None if its record does not say."""
    total = read_object(time.get("total"))
    whole, rest = read_number(total.get("seconds")), read_number(total.get("microseconds"))
    if whole is None or whole < 0 or whole in NO_VALS:
        return None
    return whole + max(0, rest or 0) / 1e6


def _counts(rows: Any) -> dict[str, float]:
    """Slurm's list of TRES by name, e.g. ``cpu``, ``mem``, ``gres/gpu``, without what it does not say."""
    found: dict[str, float] = {}
    for row in read_objects(rows):
        count = read_number(row.get("count"))
        if count is not None and 0 <= count < NOT_TOLD:
            found["/".join(str(row[key]) for key in ("type", "name") if row.get(key))] = count
    return found


def _split(text: str) -> dict[str, float]:
    """The same from ``"cpu=2,mem=4G,node=1,gres/gpu=1"``; memory in MB."""
    return {
        name: int(float(number) * (UNIT_MB[unit] if name == "mem" else 1))
        for name, number, unit in _TRES.findall(text)
        if float(number) < NOT_TOLD
    }


def _derived(values: Values) -> Values:
    """With what follows from the rest, in the table's order."""
    for key, (of, seconds) in PRODUCTS.items():
        if of in values and "run_seconds" in values:
            values[key] = values[of] * values["run_seconds"] / seconds
    for key in RATIOS:
        values |= _ratio(values, key)
    return {key: round(values[key], 4) for key in USAGE if key in values}


def _ratio(values: Values, key: str) -> Values:
    """One of the ratios, if it is known."""
    part, whole = RATIOS[key]
    if part not in values or not values.get(whole):
        return {}
    return {key: round(values[part] / values[whole], 4)}


class _Part(msgspec.Struct, frozen=True):
    """A job that is no array and no het job, an array's task, or a het job's component."""

    seen: Job | None = None
    """As slurmctld showed it last; None if it did not."""
    runs: list[Run] = []
    """Those that accounting has, the last one last."""

    @property
    def began(self) -> datetime | None:
        """When the run that slurmctld saw last began; None if it saw none."""
        return self.seen.began_at if self.seen else None

    @property
    def is_told(self) -> bool:
        """Whether accounting has the end of that run."""
        if not self.runs:
            return False
        last = self.runs[-1].job
        return last.state.ended and timestamp_of(last.started_at) >= timestamp_of(self.began)

    @property
    def is_awaited(self) -> bool:
        """Whether it began, and accounting does not have its end yet."""
        return self.began is not None and not self.is_told

    @property
    def values(self) -> Values:
        """slurmctld's own words, and accounting's over them if it has heard of the end."""
        own = own_values(self.seen) if self.seen else {}
        return own | self.runs[-1].values if self.is_told else own

    @property
    def ran(self) -> bool:
        """Whether slurmctld or accounting says that it was ever started."""
        if self.seen and self.seen.ran:
            return True
        return bool(self.runs) and self.runs[-1].job.ran


def _parts_of(job: Job, runs: Iterable[Run]) -> dict[int, _Part]:
    """By their places; -1: the job itself."""
    parts: dict[int, _Part] = defaultdict(_Part)
    for part in job.parts:
        if _is_one(part):
            parts[part.place] = _Part(part)
    for run in sorted(runs, key=_begin):
        if job.job_id in run.job.ids and _is_one(run.job):
            parts[run.job.place].runs.append(run)
    if any(part.is_told for place, part in parts.items() if place >= 0):
        # slurmctld did not show them, and the job itself is none of them
        parts.pop(-1, None)
    return dict(sorted(parts.items()))


def _is_one(job: Job) -> bool:
    """Whether it is one task: not what stands for the rest of an array, which never ran."""
    return not job.array_job_id or job.array_task_id is not None


def _begin(run: Run) -> float:
    return timestamp_of(run.job.started_at or run.job.submitted_at)


def usage_of(job: Job, runs: Iterable[Run] = ()) -> dict[str, Any]:
    """What a job asked for and used, as its result holds it; without accounting there are no runs."""
    if job.usage is not None:
        return job.usage
    parts = _parts_of(job, runs)
    values = {place: part.values for place, part in parts.items() if part.seen or part.is_told}
    kind = _kind_of(job, parts.values())
    found: dict[str, Any] = together([*values.values()], side_by_side=kind == "het job")
    if kind == "array":
        found["tasks"] = _spread([values[index] for index in values if parts[index].ran])
    elif kind == "het job" and len(values) <= MOST_COMPONENTS:
        found["components"] = _by_component(values)
    return found | _all_runs(job, [*parts.values()])


def _kind_of(job: Job, parts: Iterable[_Part]) -> Literal["array", "het job", "plain"]:
    """As slurmctld shows it or, if it shows none of its parts, accounting."""
    records = [*job.tasks, *(part.runs[-1].job for part in parts if part.runs)]
    if any(record.array_job_id == job.job_id for record in records):
        return "array"
    if any(record.het_job_id == job.job_id for record in records):
        return "het job"
    return "plain"


def together(parts: Sequence[Values], *, side_by_side: bool) -> Values:
    """What several parts come to: sums, or the largest."""
    if len(parts) == 1:
        return dict(parts[0])
    adds = {Adds.ALWAYS, Adds.SIDE_BY_SIDE} if side_by_side else {Adds.ALWAYS}
    found = {
        key: round(sum(known), 4) if kind in adds else max(known)
        for key, kind in USAGE.items()
        if (known := _known(parts, key))
    }
    # only of parts of which both are known
    both = [values for values in parts if "cpu_efficiency" in values]
    sums = {key: sum(_known(both, key)) for key in RATIOS["cpu_efficiency"]}
    found |= _ratio(sums, "cpu_efficiency")
    return _of_whole(found, parts) if side_by_side else found


def _of_whole(found: Values, parts: Sequence[Values]) -> Values:
    """Of components, only those measurements that are known of each."""
    partly = {key for key in OF_ALL if len(_known(parts, key)) < len(parts)} | {"memory_share"}
    whole = {key: value for key, value in found.items() if key not in partly}
    return whole | _ratio(whole, "memory_share")


def _spread(parts: Sequence[Values]) -> dict[str, Any]:
    from statistics import median  # noqa: PLC0415 - only arrays need it, and it loads as long as the rest

    known = {key: found for key in PER_TASK if (found := _known(parts, key))}
    return {
        "count": len(parts),
        "measured": len(_known(parts, "memory_bytes_peak")),
        "median": {key: round(median(found), 4) for key, found in known.items()},
        "largest": {key: max(found) for key, found in known.items()},
    }


def _by_component(parts: Mapping[int, Values]) -> dict[str, Values]:
    return {
        str(offset): {key: values[key] for key in PER_COMPONENT if key in values}
        for offset, values in parts.items()
    }


def _all_runs(job: Job, parts: Sequence[_Part]) -> dict[str, Any]:
    """Sums over all runs, if anything ran again, and the most memory, if it is known of each."""
    recorded = [part.runs for part in parts if part.runs]
    if all(len(runs) == 1 for runs in recorded):
        return {}
    ran = [run.values for runs in recorded for run in runs if run.job.ran]
    expected = len(recorded) + sum(part.restarts for part in job.parts)
    return {"all_runs": {"count": len(ran), **_sums(ran), **_most(ran, expected)}}


def _sums(runs: Sequence[Values]) -> Values:
    return {key: round(sum(known), 4) for key in ALL_RUNS if (known := _known(runs, key))}


def _most(runs: Sequence[Values], expected: int) -> Values:
    peaks = _known(runs, "memory_bytes_peak")
    whole = peaks and len(peaks) == len(runs) >= expected
    return {"memory_bytes_peak": max(peaks)} if whole else {}


def _known(parts: Sequence[Values], key: str) -> list[float]:
    return [values[key] for values in parts if key in values]


def is_told(job: Job, runs: Iterable[Run]) -> bool:
    """Whether accounting has the end of all that ran of a job."""
    parts = _parts_of(job, runs).values()
    return any(part.is_told for part in parts) and not any(part.is_awaited for part in parts)


def untold(job: Job, runs: Iterable[Run]) -> set[int]:
    """The indices that ran, and of which accounting does not have the end."""
    return {index for index, part in _parts_of(job, runs).items() if part.is_awaited}


def may_have_used(job: Job) -> bool:
    """Whether anything of an ended job may have run, and accounting know of it."""
    return any(part.ran or part.restarts for part in job.parts)


def _without_none(**values: float | None) -> Values:
    return {name: value for name, value in values.items() if value is not None}
