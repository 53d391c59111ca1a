"""What a retry asks for instead of the same: only what failed, and more of what was short."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from airflow_provider_clusterra.api.errors import ClusterraError, InputError, RequestError
from airflow_provider_clusterra.api.jobs import ExitStatus, Job, JobState, read_number
from airflow_provider_clusterra.api.specs import no_val
from airflow_provider_clusterra.sbatch.options import (
    MEMORY_FIELDS,
    read_memory_mb,
    read_time_limit_minutes,
)
from airflow_provider_clusterra.submit.protocol import MOST_NODES, Failure, Record, RetryState
from airflow_provider_clusterra.watch.arrays import (
    check_indices_alone,
    narrowed,
    pack_ids,
    read_indices,
    succeeded_indices,
    unpack_ids,
    write_indices,
)

if TYPE_CHECKING:
    from airflow_provider_clusterra.sbatch.job import JobRequest

PER = dict(zip(MEMORY_FIELDS, ("node", "CPU", "GPU"), strict=True))
SHORTAGES = {
    "memory": ("OUT_OF_MEMORY", MEMORY_FIELDS),
    "time_limit": ("TIMEOUT", ("time_limit",)),
}
"""What can grow: the state of a job that had too little of it, and the fields that ask for it."""
Amount = Mapping[str, Any]
"""One of them as a job's fields ask for it; empty if nothing does."""
PER_TRES = re.compile(r"(.*[:=])(\d+)")
"""The form of ``memory_per_tres``, e.g. ``"gres/gpu:4096"``."""


class Growth(msgspec.Struct, frozen=True):
    """How much more a retry asks for, and up to where."""

    memory: float | None = None
    """The factor after OUT_OF_MEMORY; None: no more."""
    time_limit: float | None = None
    """The factor after TIMEOUT; None: no more."""
    max_memory_mb: int | None = None
    """Per node, CPU or GPU, as the job asks for it."""
    max_time_limit_minutes: int | None = None

    def helps(self, kind: str, states: Collection[str]) -> bool:
        """Whether a retry asks for more of it, once a job has ended in these states."""
        state, _ = SHORTAGES[kind]
        return getattr(self, kind) is not None and state in states


class Step(msgspec.Struct, frozen=True):
    """One thing of which a retry asks for more."""

    field: str
    value: Any
    figures: str
    """Both figures."""


def read_growth(
    grow_on_retry: Mapping[str, float] | None,
    max_memory: int | str | None = None,
    max_time_limit: timedelta | float | str | None = None,
) -> Growth:
    """What an author wrote about growth."""
    factors = dict(grow_on_retry or {})
    for name, factor in factors.items():
        if name not in SHORTAGES:
            raise InputError(
                f"grow_on_retry holds {name!r}; it can hold 'memory' and 'time_limit'."
            )
        if isinstance(factor, bool) or not isinstance(factor, int | float) or not factor > 1:
            raise InputError(f"grow_on_retry: {name} is {factor!r}; it is a factor above 1.")
    return Growth(
        memory=factors.get("memory"),
        time_limit=factors.get("time_limit"),
        max_memory_mb=None if max_memory is None else read_memory_mb(max_memory),
        max_time_limit_minutes=(
            None if max_time_limit is None else read_time_limit_minutes(max_time_limit)
        ),
    )


def requested_of(job: Mapping[str, Any]) -> dict[str, Any]:
    """The memory and time that a job asks for, as it does."""
    return {name: job[name] for name in (*MEMORY_FIELDS, "time_limit") if name in job}


def grow(requested: Mapping[str, Any], failure: Failure, growth: Growth) -> list[Step]:
    """Of what the next try asks for more; empty if nothing of it helps.

    For what nobody asked for, the failure says what Slurm gave. Raises InputError if it would have to be
    more than the author allows.
    """
    states = _states_of(failure)
    steps = [
        more(requested, failure, growth)
        for kind, more in (("memory", _more_memory), ("time_limit", _more_time))
        if growth.helps(kind, states)
    ]
    return [step for step in steps if step is not None]


def _states_of(failure: Failure) -> tuple[str, ...]:
    return failure.states or (failure.state,)


def _more_memory(requested: Mapping[str, Any], failure: Failure, growth: Growth) -> Step | None:
    field = next((name for name in MEMORY_FIELDS if name in requested), _memory_field(failure))
    value = requested.get(field)
    per_tres = _per_tres(value)
    before = int(per_tres[2]) if per_tres else read_number(value) or failure.memory_mb
    if not before:
        return None
    more = _larger(before, growth.memory, growth.max_memory_mb)
    unit = PER[field]
    if more is None:
        raise InputError(
            f"The job ran out of memory with {before} MB a {unit}, and max_memory is "
            f"{growth.max_memory_mb} MB: it is not submitted again."
        )
    return Step(
        field,
        f"{per_tres[1]}{more}" if per_tres else no_val(more),
        f"{more} MB of memory a {unit} instead of {before} MB",
    )


def _more_time(requested: Mapping[str, Any], failure: Failure, growth: Growth) -> Step | None:
    before = read_number(requested.get("time_limit")) or failure.time_limit_minutes
    if not before:
        return None
    more = _larger(before, growth.time_limit, growth.max_time_limit_minutes)
    if more is None:
        raise InputError(
            f"The job ran into its time limit of {before} min, and max_time_limit is "
            f"{growth.max_time_limit_minutes} min: it is not submitted again."
        )
    return Step("time_limit", no_val(more), f"a time limit of {more} min instead of {before} min")


def _larger(before: int, factor: float | None, most: int | None) -> int | None:
    """The amount times the factor, at most so much; None if that is not more."""
    more = math.ceil(round(before * (factor or 1), 6))
    if most is not None:
        more = min(more, most)
    return more if more > before else None


LONGEST = 20_000
"""Characters of one part of the retry state: Airflow keeps 64 KB of a task."""


class RetryOptions(msgspec.Struct, frozen=True):
    """What an author wants of a retry."""

    failed_indices: bool = False
    """Of an array only the indices that have not succeeded."""
    growth: Growth = Growth()
    exclude_failed_nodes: bool = False
    """Whether nodes that failed under earlier tries are excluded."""
    indexed_by: tuple[str, ...] = ()
    """The arguments that say what an index stands for: if one has changed, all indices run again."""

    def check(self, job: JobRequest) -> None:
        """Refuse a job that is no array, or whose script needs the whole array."""
        if not self.failed_indices:
            return
        if not job.array:
            raise InputError("retry_failed_indices is for an array, and the job is none.")
        check_indices_alone(job.script, of_list=bool(self.indexed_by))

    @property
    def needs(self) -> str:
        """What to say if Airflow remembers nothing of an earlier try."""
        some = (
            "running only map_over's failed elements" if self.indexed_by else "retry_failed_indices"
        )
        asked = {
            some: self.failed_indices,
            "grow_on_retry": self.growth != Growth(),
            "exclude_failed_nodes": self.exclude_failed_nodes,
        }
        return (
            f"Not before Airflow 3.3: {', '.join(name for name in asked if asked[name])}. This Airflow "
            "does not remember how a task's last try ended: a retry asks for the same once more."
        )


def job_of_try(
    job: JobRequest, previous: Record | None, options: RetryOptions
) -> tuple[JobRequest, RetryState]:
    """The job of this try, and what the next one needs to know of it."""
    previous = previous or Record("", 0)
    state, failure = previous.retry_state, previous.failure or Failure()
    indices = read_indices(job.array)
    succeeded = _still_good(state, indices, options)
    left = indices - succeeded
    if left and succeeded:
        job = job.with_array(narrowed(job.array, left))
    nodes: tuple[str, ...] = ()
    if options.exclude_failed_nodes:
        nodes = (*dict.fromkeys((*state.failed_nodes, *failure.nodes)),)[-MOST_NODES:]
        job = job.without_nodes(nodes)
    good = write_indices(succeeded)
    state = replace(state, array=job.array, succeeded=good, more="", failed_nodes=nodes)
    if len(job.components) > 1 or options.growth == Growth():
        return job, state
    return _grown(job, state, failure, options.growth)


def _still_good(
    state: RetryState, indices: frozenset[int], options: RetryOptions
) -> frozenset[int]:
    """The indices that need not run again: of another array, or of a single job, none."""
    if not options.failed_indices:
        return frozenset()
    good = read_indices(state.succeeded) & indices
    # without its own job id the value of a list's element cannot be read
    return good & {*unpack_ids(state.task_ids)} if options.indexed_by else good


def _grown(
    job: JobRequest, state: RetryState, failure: Failure, growth: Growth
) -> tuple[JobRequest, RetryState]:
    written = requested_of(job.components[0])
    begin, failure = _begin(written, state, failure, growth)
    steps = grow(begin, failure, growth)
    job = job.with_fields(begin | {step.field: step.value for step in steps})
    requested = requested_of(job.components[0])
    more = " and ".join(step.figures for step in steps)
    state = replace(
        state, requested=requested, written=None if requested == written else written, more=more
    )
    return job, state


def _begin(
    now: Mapping[str, Any], state: RetryState, failure: Failure, growth: Growth
) -> tuple[dict[str, Any], Failure]:
    """From which memory and time a retry grows, and after which failure.

    An author who has changed one of them gets what is written now. It does not grow as well, for the
    job has not failed with it; if it is no more than what was too little, growth goes on from that.
    """
    then = state.requested if state.written is None else state.written
    states = {*_states_of(failure)}
    begin: dict[str, Any] = {}
    for kind, (short, names) in SHORTAGES.items():
        mine, before, requested = (_only(each, names) for each in (now, then, state.requested))
        if mine == before:
            begin |= requested
        elif not growth.helps(kind, states):
            begin |= mine
        else:
            first, grows = _after_a_change(mine, requested, _given(failure, kind))
            begin |= first
            if not grows:
                states.discard(short)
    return begin, replace(failure, state="", states=tuple(sorted(states)))


def _after_a_change(mine: Amount, requested: Amount, given: Amount) -> tuple[Amount, bool]:
    """What is asked for instead of what was too little, and whether it grows."""
    failed = requested or given
    if not mine:
        return failed, True
    (form, most), (other, least) = _size(mine), _size(failed)
    if form != other:
        # if nobody knows what was asked for, it may have been the same
        return mine, not requested
    return (mine, False) if most > least else (failed, True)


def _only(fields: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name in names}


def _given(failure: Failure, kind: str) -> dict[str, Any]:
    """What Slurm gave of what nobody had asked for."""
    name, value = "time_limit", failure.time_limit_minutes
    if kind == "memory":
        name, value = _memory_field(failure), failure.memory_mb
    return {name: no_val(value)} if value else {}


def _memory_field(failure: Failure) -> str:
    """How Slurm gave memory of which nobody had asked for any."""
    return "memory_per_cpu" if failure.memory_per_cpu else "memory_per_node"


def _per_tres(value: Any) -> re.Match[str] | None:
    return PER_TRES.fullmatch(value) if isinstance(value, str) else None


def _size(fields: Amount) -> tuple[str, float]:
    """In which form it is asked for, and how much; without a number there is no limit."""
    name, value = next(iter(fields.items()), ("", None))
    per_tres = _per_tres(value)
    if per_tres:
        return per_tres[1], int(per_tres[2])
    return name, read_number(value) or math.inf


def state_after(state: RetryState, job: Job | None) -> RetryState:
    """What is known after a job's bad end."""
    if job is None or not state.array:
        return state
    good = succeeded_indices(job)
    succeeded = write_indices(good)
    if len(succeeded) > LONGEST:
        return state
    ids = pack_ids(task for task in job.tasks if task.array_task_id in good)
    if sum(map(len, (*ids, *ids.values()))) > LONGEST:
        ids = {}
    return replace(state, succeeded=succeeded, task_ids=ids)


def earlier_tasks(state: RetryState) -> list[Job]:
    """The tasks that succeeded in earlier tries."""
    ids = unpack_ids(state.task_ids)
    good = JobState("COMPLETED")
    return [
        Job(ids.get(index, 0), good, exit=ExitStatus(0), array_task_id=index)
        for index in sorted(read_indices(state.succeeded))
    ]


def refused(error: ClusterraError, state: RetryState) -> ClusterraError:
    """A refusal with what this retry asked for otherwise than the last try."""
    if not isinstance(error, RequestError):
        return error
    # its class and the rest of it say what can be done
    if state.more:
        error.args = (f"{error} This retry asked for more than the last try: {state.more}.",)
    if state.failed_nodes:
        nodes = ", ".join(state.failed_nodes)
        error.args = (f"{error} This retry excluded the nodes that had failed: {nodes}.",)
    return error
