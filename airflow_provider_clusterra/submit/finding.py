"""Which of all the jobs that Slurm shows are ours."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from airflow_provider_clusterra.api.jobs import Job, one_job
from airflow_provider_clusterra.submit.tag import Tag, read_tag

CLOCKS_DIFFER = 300.0
"""Seconds by which the cluster's clock may be behind ours."""


class Found(msgspec.Struct, frozen=True):
    """A job that Slurm shows, and which try submitted it."""

    job: Job
    tag: Tag

    @property
    def alive(self) -> bool:
        """Whether anything of it may run, now or later."""
        return not self.job.state.ended or self.job.state.completing


def find_jobs(listed: Sequence[Job], ours: Tag) -> list[Found]:
    """The jobs of our task of our run among all, an array or a het job as one.

    :param listed: all jobs that Slurm shows, one a record.
    :param ours: this try's tag.
    """
    groups: dict[int, list[Job]] = {}
    for job in listed:
        tag = read_tag(job.name)
        if tag is not None and tag.is_same_task(ours):
            groups.setdefault(whole_id(job), []).append(job)
    found = []
    for number, records in groups.items():
        whole = one_job(records, number)
        tag = read_tag(records[0].name)
        if whole is not None and tag is not None:
            found.append(Found(whole, tag))
    return found


def find_run(listed: Sequence[Job], run: str) -> list[int]:
    """The ids of a run's jobs of which anything may run, now or later.

    :param listed: all jobs that Slurm shows, one a record.
    :param run: of :func:`~airflow_provider_clusterra.submit.tag.hash_run`.
    """
    tags = ((job, read_tag(job.name)) for job in listed)
    ours = [job for job, tag in tags if tag is not None and tag.run == run]
    alive = [job for job in ours if not job.state.ended or job.state.completing]
    return sorted({whole_id(job) for job in alive})


def find_named(listed: Sequence[Job], name: str) -> int | None:
    """The id of the job of exactly this name, or None; of an array or a het job, the whole's.

    :param listed: all jobs that Slurm shows, one a record.
    :param name: with its tag.
    """
    found = next((job for job in listed if job.name == name), None)
    return None if found is None else whole_id(found)


def whole_id(job: Job) -> int:
    """The id of the array or het job that a record is a part of, or the job's own.

    :param job: one record.
    """
    return job.array_job_id or job.het_job_id or job.job_id


def find_candidates(listed: Sequence[Job], since: float, user: str) -> list[Job]:
    """The jobs that may be of a submit whose answer was lost, where they carry no name of ours.

    :param listed: all jobs that Slurm shows.
    :param since: when the submit was sent, in seconds since 1970.
    :param user: who is signed in, as an e-mail address.
    :returns: those submitted since then; only our user's, where the address tells which they are.
    """
    begin = since - CLOCKS_DIFFER
    new = [job for job in listed if not job.submitted_at or job.submitted_at.timestamp() >= begin]
    names = {user, user.partition("@")[0]}
    if any(job.user in names for job in listed):
        return [job for job in new if job.user in names]
    return new
