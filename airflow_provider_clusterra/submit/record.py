"""What Airflow remembers of a task's submit between its tries, as plain JSON."""

from __future__ import annotations

from typing import Any

import msgspec

from airflow_provider_clusterra.api.jobs import Job
from airflow_provider_clusterra.watch.arrays import indices_of, write_indices


class Failure(msgspec.Struct, frozen=True):
    """How the job ended, as far as the next try needs it."""

    state: str
    """Slurm's base state."""
    failed_indices: str = ""
    """An array's that did not succeed, in Slurm's form, e.g. ``"3,7-9"``."""
    memory_mb: int | None = None
    memory_per_cpu: bool = False
    time_limit_minutes: int | None = None
    tasks: dict[str, dict[str, Any]] = msgspec.field(default_factory=dict)
    """An array's ends by index, as the result has them."""


class Record(msgspec.Struct, frozen=True):
    """One submit: written before it as an intent, and again once there is a job."""

    tag: str
    max_tries: int
    name: str = ""
    """The job's whole name; ``""`` where it carries none of ours."""
    job_id: int | None = None
    """None: the submit was about to be sent, and nothing was heard of it."""
    unwanted: bool = False
    """Its task was killed, so nobody wants it any more."""
    failure: Failure | None = None

    def to_json(self) -> dict[str, Any]:
        """The record as plain values."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return plain


def read_record(value: Any) -> Record | None:
    """The record, or None where there is none that can be read.

    :param value: as :meth:`Record.to_json` made it, in this version or another.
    """
    try:
        return msgspec.convert(value, Record)
    except msgspec.ValidationError:
        return None


def failure_of(job: Job | None) -> Failure:
    """What the next try needs of a job that ended badly, or was given up.

    :param job: as last seen; None where it was not.
    """
    if job is None:
        return Failure("CANCELLED")
    failed = [index for task in job.tasks if not task.state.succeeded for index in indices_of(task)]
    return Failure(
        job.state.base,
        write_indices(failed),
        job.memory_mb,
        job.memory_per_cpu,
        job.time_limit_minutes,
    )
