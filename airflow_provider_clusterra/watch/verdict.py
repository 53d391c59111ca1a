"""What a series of sightings of a job means: wait, ended, lost, stuck, or too long.

Success is not decided here but by :meth:`~airflow_provider_clusterra.api.jobs.Job.raise_for_state`.
What accounting says of a job that is no longer shown is judged in ``accounting.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import msgspec
from msgspec.structs import replace

from airflow_provider_clusterra.api.errors import ClusterraError
from airflow_provider_clusterra.api.jobs import Job
from airflow_provider_clusterra.watch.arrays import (
    Ends,
    collect_ends,
    indices_of,
    is_array,
    with_ends,
    write_indices,
)
from airflow_provider_clusterra.watch.reasons import reason_of

GRACE = 120.0
"""Seconds after the wait's begin in which a job that is not shown is only late: the API's answers
come from a cache, and a submit takes its time to be seen."""
MISSES = 3
"""How often in a row a job must be missing before anybody believes it."""
COMPLETING_PATIENCE = 60.0
"""Seconds that a job which has ended may go on cleaning up before its end counts all the same."""
STUCK_PATIENCE = 60.0
"""Seconds for which a reason that never goes away must have been shown."""


class Outcome(StrEnum):
    """What a wait comes to."""

    WAIT = "wait"
    ENDED = "ended"
    MISSING = "missing"
    """The cluster does not show it (all) any more: accounting is to be asked."""
    LOST = "lost"
    STUCK = "stuck"
    """It will not start unless somebody acts."""
    OVERDUE = "overdue"
    """It has been pending for longer, or was started again more often, than the user allows."""


class Watch(msgspec.Struct, frozen=True):
    """What is waited for."""

    job_id: int
    name: str = ""
    """The name that it was submitted under; ``""`` where that is not known."""
    since: float = 0.0
    """When the wait began, in seconds since 1970."""
    array: frozenset[int] = frozenset()
    """The indices that were asked for; empty where it is no array, or nobody knows."""
    pending_timeout: float | None = None
    """Seconds for which it may be pending at a time."""
    max_restarts: int | None = None
    """How often Slurm may start it again."""
    fail_stuck: bool = True
    """Whether a job that will not start ends the wait; otherwise it is only told."""


class Sighting(msgspec.Struct, frozen=True):
    """One look at the job."""

    at: float
    """Seconds since 1970."""
    job: Job | None
    """None: the cluster says that it does not know the job."""


class Progress(msgspec.Struct, frozen=True):
    """What is remembered between two looks. Times are in seconds since 1970."""

    last: Job | None = None
    misses: int = 0
    missing_since: float | None = None
    completing_since: float | None = None
    pending_since: float | None = None
    stuck_since: float | None = None
    indices: frozenset[int] = frozenset()
    """Of an array: all that were ever shown."""
    ends: Ends = msgspec.field(default_factory=dict)


class Verdict(msgspec.Struct, frozen=True):
    """What the looks so far mean."""

    outcome: Outcome
    job: Job | None = None
    """The job as last seen."""
    words: str = ""
    """Why, where the job itself does not say it; with WAIT, what is worth a warning."""
    until: float | None = None
    """With WAIT: when the same sighting would mean something else, in seconds since 1970."""


WAIT = Verdict(Outcome.WAIT)


def judge(watch: Watch, progress: Progress, sighting: Sighting) -> tuple[Progress, Verdict]:
    """What one more look means.

    :source: Slurm's states and flags (states.py); the purge after MinJobAge (404, 2017).
    """
    job, at = sighting.job, sighting.at
    if job is None or _is_older(job, progress.last):
        return _judge_missing(watch, progress, at)
    if watch.name and job.name and job.name != watch.name:
        words = (
            f"Job {watch.job_id} is now another job, named {job.name!r} instead of {watch.name!r}: "
            "the cluster has begun to count anew. What became of ours cannot be told."
        )
        return progress, Verdict(Outcome.LOST, progress.last, words)
    seen = _remember(progress, job)
    if not job.state.ended:
        return _judge_going(watch, replace(seen, completing_since=None), job, at)
    if is_array(job):
        if expected_of(watch, seen) - seen.ends.keys():
            # its last tasks are shown, and others not any more
            missing = replace(seen, misses=progress.misses, missing_since=progress.missing_since)
            return _judge_missing(watch, missing, at)
        job = with_ends(job, seen.ends)
    return _judge_end(seen, job, at)


def expected_of(watch: Watch, progress: Progress) -> frozenset[int]:
    """An array's indices: those asked for, or else all that were ever shown."""
    return watch.array or progress.indices


def _remember(progress: Progress, job: Job) -> Progress:
    seen = replace(progress, last=job, misses=0, missing_since=None)
    if not is_array(job):
        return seen
    shown = frozenset[int]().union(*(indices_of(task) for task in job.tasks))
    ends = collect_ends(progress.ends, job.tasks)
    return replace(seen, indices=progress.indices | shown, ends=ends)


def _is_older(job: Job, last: Job | None) -> bool:
    """Submitted earlier than the job that was seen: a stale answer, or another job.

    A later time is a requeue, which changes it.
    """
    if last is None or last.submitted_at is None or job.submitted_at is None:
        return False
    return job.submitted_at < last.submitted_at


def _judge_end(seen: Progress, job: Job, at: float) -> tuple[Progress, Verdict]:
    since = at if seen.completing_since is None else seen.completing_since
    if not job.state.completing or at - since >= COMPLETING_PATIENCE:
        return seen, Verdict(Outcome.ENDED, job)
    patience = Verdict(Outcome.WAIT, until=since + COMPLETING_PATIENCE)
    return replace(seen, completing_since=since), patience


def _judge_going(watch: Watch, seen: Progress, job: Job, at: float) -> tuple[Progress, Verdict]:
    if watch.max_restarts is not None and job.restarts > watch.max_restarts:
        words = (
            f"Slurm has started job {watch.job_id} again {job.restarts} times, and max_restarts is "
            f"{watch.max_restarts}."
        )
        return seen, Verdict(Outcome.OVERDUE, job, words)
    if job.state.base != "PENDING":
        return replace(seen, pending_since=None, stuck_since=None), WAIT
    pending_since = seen.pending_since
    if pending_since is None:
        # what it waited before a requeue counts no more
        pending_since = at if job.restarts else watch.since or at
    seen = replace(seen, pending_since=pending_since)
    verdict = _judge_pending(watch, pending_since, Sighting(at, job))
    if verdict.outcome is not Outcome.WAIT:
        return seen, verdict
    return _judge_stuck(watch, seen, Sighting(at, job), verdict)


def _judge_stuck(
    watch: Watch, seen: Progress, sighting: Sighting, otherwise: Verdict
) -> tuple[Progress, Verdict]:
    job, at = sighting.job, sighting.at
    why = reason_of(job.reason).stuck if job else ""
    if job is None or not why:
        return replace(seen, stuck_since=None), otherwise
    since = at if seen.stuck_since is None else seen.stuck_since
    seen = replace(seen, stuck_since=since)
    if at - since < STUCK_PATIENCE:
        until = since + STUCK_PATIENCE
        return seen, replace(otherwise, until=min(until, otherwise.until or until))
    words = f"Job {watch.job_id} will not start: {why} ({job.reason})."
    if watch.fail_stuck:
        return seen, Verdict(Outcome.STUCK, job, words)
    return seen, replace(otherwise, words=words)


def _judge_pending(watch: Watch, since: float, sighting: Sighting) -> Verdict:
    if watch.pending_timeout is None:
        return WAIT
    end = since + watch.pending_timeout
    if sighting.at < end:
        return Verdict(Outcome.WAIT, until=end)
    reason = f" ({sighting.job.reason})" if sighting.job and sighting.job.reason else ""
    words = (
        f"Job {watch.job_id} has been pending{reason} for {sighting.at - since:.0f} s, and "
        f"pending_timeout is {watch.pending_timeout:.0f} s."
    )
    return Verdict(Outcome.OVERDUE, sighting.job, words)


def _judge_missing(watch: Watch, progress: Progress, at: float) -> tuple[Progress, Verdict]:
    missed = replace(
        progress,
        misses=progress.misses + 1,
        missing_since=at if progress.missing_since is None else progress.missing_since,
    )
    last = progress.last
    unknown = expected_of(watch, progress) - progress.ends.keys()
    if last is not None and last.state.ended and not unknown:
        ended = with_ends(last, progress.ends) if is_array(last) else last
        return missed, Verdict(Outcome.ENDED, ended)
    if missed.misses < MISSES or (last is None and at - watch.since < GRACE):
        return missed, WAIT
    return missed, Verdict(Outcome.MISSING, last)


PATIENCE = 600.0
"""Seconds for which accounting may say that a job still runs, or not answer, before it is lost:
slurmdbd hears of an end from slurmctld, which may be down."""
ASK_EVERY = 15.0


def judge_accounting(
    watch: Watch, progress: Progress, at: float, told: Sequence[Job] | ClusterraError | None
) -> tuple[Progress, Verdict]:
    """What accounting's answer means for a job that is missing.

    :source: ``GET …/accounting/jobs``. RUNNING there is never an end, and never the opposite.
    """
    if told is None:
        return progress, _lost(watch, progress, "and there is no accounting to ask")
    if isinstance(told, ClusterraError):
        return progress, _patient(watch, progress, at, f"and accounting does not answer ({told})")
    ours = [job for job in told if not (watch.name and job.name and job.name != watch.name)]
    expected = expected_of(watch, progress)
    if expected or any(job.array_task_id is not None for job in ours):
        return _judge_array(watch, progress, at, ours)
    found = newest([job for job in ours if job.job_id == watch.job_id])
    if found is None:
        return progress, _lost(watch, progress, "and accounting has no record of it")
    if found.state.ended:
        return progress, Verdict(Outcome.ENDED, found)
    return progress, _patient(
        watch, progress, at, f"and accounting still says that it is {found.state}"
    )


def newest(jobs: Sequence[Job]) -> Job | None:
    """Of several records of one job, which a requeue makes, the last."""
    return max(jobs, key=_order, default=None)


def _order(job: Job) -> tuple[float, float]:
    return tuple(  # type: ignore[return-value]
        time.timestamp() if time else 0.0 for time in (job.submitted_at, job.started_at)
    )


def _judge_array(
    watch: Watch, progress: Progress, at: float, ours: list[Job]
) -> tuple[Progress, Verdict]:
    tasks = sorted((job for job in ours if job.array_job_id == watch.job_id), key=_order)
    # what was seen to end stays as it was seen: accounting may be late
    ends = {**collect_ends({}, tasks), **progress.ends}
    shown = {task.array_task_id for task in tasks if task.array_task_id is not None}
    unknown = (watch.array or progress.indices | shown) - ends.keys()
    known = replace(progress, ends=ends)
    last = progress.last or newest(tasks)
    if not unknown and ends and last is not None:
        return known, Verdict(Outcome.ENDED, with_ends(replace(last, job_id=watch.job_id), ends))
    if unknown & shown:
        return known, _patient(watch, known, at, "and accounting still shows some tasks as running")
    which = f"What became of its indices {write_indices(unknown)[:200]} is not known, "
    return known, _lost(watch, known, f"{which}and accounting has no record of them")


def _patient(watch: Watch, progress: Progress, at: float, why: str) -> Verdict:
    since = at if progress.missing_since is None else progress.missing_since
    if at - since < PATIENCE:
        return Verdict(Outcome.WAIT, until=at + ASK_EVERY)
    return _lost(watch, progress, why)


def _lost(watch: Watch, progress: Progress, why: str) -> Verdict:
    last = progress.last
    before = f"It was last seen {last.state}." if last else "It was never seen."
    words = (
        f"The cluster no longer knows job {watch.job_id}, {why}, so how it ended cannot be told. "
        f"{before} Slurm forgets a job some minutes after its end; its output may still be there "
        f"as job_{watch.job_id}.out."
    )
    return Verdict(Outcome.LOST, last, words)
