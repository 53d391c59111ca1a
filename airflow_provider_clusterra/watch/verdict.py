"""What a series of sightings of a job means: wait, ended, or lost.

Success is not decided here but by :meth:`~airflow_provider_clusterra.api.jobs.Job.raise_for_state`.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec
from msgspec.structs import replace

from airflow_provider_clusterra.api.jobs import Job

GRACE = 120.0
"""Seconds after the wait's begin in which a job that is not shown is only late: the API's answers
come from a cache, and a submit takes its time to be seen."""
MISSES = 3
"""How often in a row a job must be missing to be lost."""
COMPLETING_PATIENCE = 60.0
"""Seconds that a job which has ended may go on cleaning up before its end counts all the same."""


class Outcome(StrEnum):
    """What a wait comes to."""

    WAIT = "wait"
    ENDED = "ended"
    LOST = "lost"


class Watch(msgspec.Struct, frozen=True):
    """What is waited for."""

    job_id: int
    name: str = ""
    """The name that it was submitted under; ``""`` where that is not known."""
    since: float = 0.0
    """When the wait began, in seconds since 1970."""


class Sighting(msgspec.Struct, frozen=True):
    """One look at the job."""

    at: float
    """Seconds since 1970."""
    job: Job | None
    """None: the cluster says that it does not know the job."""


class Progress(msgspec.Struct, frozen=True):
    """What is remembered between two looks."""

    last: Job | None = None
    misses: int = 0
    completing_since: float | None = None


class Verdict(msgspec.Struct, frozen=True):
    """What the looks so far mean."""

    outcome: Outcome
    job: Job | None = None
    """The job as last seen."""
    words: str = ""
    """Why, where the job itself does not say it."""


WAIT = Verdict(Outcome.WAIT)


def judge(watch: Watch, progress: Progress, sighting: Sighting) -> tuple[Progress, Verdict]:
    """What one more look means.

    :param watch: what is waited for.
    :param progress: of the look before, or ``Progress()``.
    :param sighting: the look.
    :returns: the progress for the next look, and the verdict.
    :source: Slurm's states and flags (states.py); the purge after MinJobAge (404, 2017).
    """
    job = sighting.job
    if job is None:
        return _judge_missing(watch, progress, sighting.at)
    if watch.name and job.name and job.name != watch.name:
        words = (
            f"Job {watch.job_id} is now another job, named {job.name!r} instead of {watch.name!r}: "
            "the cluster has begun to count anew. What became of ours cannot be told."
        )
        return progress, Verdict(Outcome.LOST, progress.last, words)
    seen = replace(progress, last=job, misses=0)
    if not job.state.ended:
        return replace(seen, completing_since=None), WAIT
    if not job.state.completing:
        return seen, Verdict(Outcome.ENDED, job)
    since = sighting.at if progress.completing_since is None else progress.completing_since
    if sighting.at - since >= COMPLETING_PATIENCE:
        return seen, Verdict(Outcome.ENDED, job)
    return replace(seen, completing_since=since), WAIT


def _judge_missing(watch: Watch, progress: Progress, at: float) -> tuple[Progress, Verdict]:
    missed = replace(progress, misses=progress.misses + 1)
    last = progress.last
    if last is not None and last.state.ended:
        return missed, Verdict(Outcome.ENDED, last)
    if missed.misses < MISSES or (last is None and at - watch.since < GRACE):
        return missed, WAIT
    before = f"It was last seen {last.state}." if last else "It was never seen."
    words = (
        f"The cluster no longer knows job {watch.job_id}, so how it ended cannot be told. {before} "
        "Slurm forgets a job some minutes after its end; its output may still be there as "
        f"job_{watch.job_id}.out."
    )
    return missed, Verdict(Outcome.LOST, last, words)
