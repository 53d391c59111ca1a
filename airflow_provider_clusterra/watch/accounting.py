"""What accounting says of a job that the cluster does not show any more."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from airflow_provider_clusterra.api.errors import ClusterraError
from airflow_provider_clusterra.api.jobs import Job
from airflow_provider_clusterra.watch.arrays import collect_ends, with_ends, write_indices
from airflow_provider_clusterra.watch.verdict import (
    Outcome,
    Progress,
    Verdict,
    Watch,
    expected_of,
)

PATIENCE = 600.0
"""Seconds for which accounting may say that a job still runs, or not answer, before it is lost:
slurmdbd hears of an end from slurmctld, which may be down."""
ASK_EVERY = 15.0


def judge_accounting(
    watch: Watch, progress: Progress, at: float, told: Sequence[Job] | ClusterraError | None
) -> tuple[Progress, Verdict]:
    """What accounting's answer means for a job that is missing.

    :param watch: what is waited for.
    :param progress: of the look that missed it.
    :param at: seconds since 1970.
    :param told: accounting's records of the job; an error where it did not answer; None where the
        API does not offer it.
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
    """Of several records of one job, which a requeue makes, the last.

    :param jobs: in any order.
    """
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
