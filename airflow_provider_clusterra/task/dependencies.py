"""A dependency on a job that Slurm has forgotten: accounting says how that job ended."""

from __future__ import annotations

import logging

from airflow_provider_clusterra.api.client import Client
from airflow_provider_clusterra.api.errors import InputError, NotFoundError, RequestError
from airflow_provider_clusterra.api.jobs import Job
from airflow_provider_clusterra.sbatch.job import JobRequest
from airflow_provider_clusterra.sbatch.options import job_id_of, read_dependency, settle_dependency
from airflow_provider_clusterra.watch.verdict import Silence, newest, silence_of

log = logging.getLogger(__name__)
DEPENDENCY_PROBLEM = 2038
"""Slurm: a dependency cannot be read, or names a job that it does not know (any more)."""


def without_forgotten(client: Client, cluster_id: str, asked: JobRequest) -> JobRequest | None:
    """The job without the jobs that it need not wait for; None where Slurm knows all of them."""
    text = asked.dependency
    if not text:
        return None
    clauses, _ = read_dependency(text)
    ends: dict[str, bool] = {}
    for written in dict.fromkeys(each for clause in clauses for each in clause.job_ids):
        if not _is_known(client, cluster_id, job_id_of(written)):
            ends[written] = _succeeded(client, cluster_id, written)
    if not ends:
        return None
    left = settle_dependency(text, ends)
    log.info(
        "Slurm has forgotten job %s. Accounting says that it ended as dependency=%s asks, so the "
        "job is submitted with %s.",
        ", ".join(ends),
        text,
        f"dependency={left}" if left else "no dependency",
    )
    return asked.with_dependency(left)


def _is_known(client: Client, cluster_id: str, job_id: int) -> bool:
    try:
        client.get_job(cluster_id, job_id)
    except NotFoundError:
        return False
    return True


def _succeeded(client: Client, cluster_id: str, written: str) -> bool:
    job_id = job_id_of(written)
    try:
        records = client.list_accounting(cluster_id, job_ids=[job_id])
    except RequestError as error:
        if silence_of(error) is Silence.LATE:
            raise
        records = []
    ended = [job for job in _last_records(records, written) if job.state.ended]
    if not ended:
        raise InputError(
            f"dependency: Slurm does not know job {written} (any more), and accounting does not "
            "say how it ended. Was it submitted to this cluster?"
        )
    return all(job.state.succeeded for job in ended)


def _last_records(records: list[Job], written: str) -> list[Job]:
    """The last record of the job, or of each task of an array that is meant."""
    _, _, index = written.partition("_")
    by_task: dict[int | None, list[Job]] = {}
    for job in records:
        if not index.isdigit() or job.array_task_id == int(index):
            by_task.setdefault(job.array_task_id, []).append(job)
    return [last for jobs in by_task.values() if (last := newest(jobs)) is not None]
