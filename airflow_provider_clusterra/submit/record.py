"""What Airflow remembers of a task's submit between its tries, as plain JSON."""

from __future__ import annotations

from typing import Any

import msgspec

from airflow_provider_clusterra.api.jobs import Job


class Failure(msgspec.Struct, frozen=True):
    """How the job ended, as far as the next try needs it."""

    state: str
    """Slurm's base state."""
    states: tuple[str, ...] = ()
    """All of an array's tasks that did not succeed."""
    memory_mb: int | None = None
    memory_per_cpu: bool = False
    time_limit_minutes: int | None = None


class Kept(msgspec.Struct, frozen=True):
    """What the last submit asked for and the tries so far have brought."""

    array: str = ""
    """The indices that were submitted, e.g. ``"3,7-9%4"``; ``""`` where it was no array."""
    succeeded: str = ""
    """Those that have succeeded in any try, in the same form."""
    task_ids: dict[str, str] = msgspec.field(default_factory=dict)
    """Their own job ids: what to add to an index, to the indices."""
    asked: dict[str, Any] = msgspec.field(default_factory=dict)
    """The job's fields of memory and time."""
    more: str = ""
    """Both figures of what had grown, in words."""


class Record(msgspec.Struct, frozen=True):
    """One submit: written before it as an intent, and again once there is a job."""

    tag: str
    max_tries: int
    name: str = ""
    """The job's whole name; ``""`` where it carries none of ours."""
    job_id: int | None = None
    """None: the submit was about to be sent, and nothing was heard of it."""
    sent_at: float = 0.0
    """Seconds since 1970, when it was about to be sent; later where its job was known then."""
    unwanted: bool = False
    """Nobody wants it any more: its task was killed, or it was not taken as it was asked."""
    failure: Failure | None = None
    kept: Kept = Kept()

    def to_json(self) -> dict[str, Any]:
        """The record as JSON has it: Airflow takes no tuples."""
        plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(self))
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
    bad = {task.state.base for task in job.tasks if not task.state.succeeded}
    return Failure(
        job.state.base,
        tuple(sorted(bad)),
        job.memory_mb,
        job.memory_per_cpu,
        job.time_limit_minutes,
    )
