"""A job as the cluster sees it: every shape of record in, one value out."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from msgspec.structs import replace

from airflow_provider_clusterra.api.errors import JobFailedError
from airflow_provider_clusterra.api.slurm import (
    NO_STATE,
    NOT_ENDED,
    ExitCode,
    ExitStatus,
    JobState,
    Number,
    Plain,
    read_exit,
    read_job_id,
    read_number,
    read_state,
    read_time,
)

NO_TEXT = ("", "None assigned")


class Job(msgspec.Struct, frozen=True, gc=False):
    """One job. Times are aware, in UTC; None is "not known" or "not yet"."""

    job_id: int
    state: JobState
    name: str = ""
    reason: str = ""
    """Slurm's reason, e.g. ``"Resources"``, ``"NonZeroExitCode"``; ``""`` where there is none."""
    description: str = ""
    """More words for the reason, where Slurm has them."""
    exit: ExitStatus = NOT_ENDED
    submitted_at: datetime | None = None
    started_at: datetime | None = None
    """While the job is pending this may be Slurm's estimate."""
    ended_at: datetime | None = None
    """While the job is running this is when its time limit ends."""
    time_limit_minutes: int | None = None
    nodes: str = ""
    failed_node: str = ""
    """The node whose failure ended the job, as far as Slurm says so."""
    partition: str = ""
    user: str = ""
    restarts: int = 0
    array_job_id: int | None = None
    array_task_id: int | None = None
    array_task_string: str = ""
    """The indices that one record of pending tasks stands for, e.g. ``"2-9%4"``."""
    het_job_id: int | None = None
    het_job_offset: int | None = None
    standard_output: str = ""
    working_directory: str = ""
    memory_mb: int | None = None
    """The memory asked for, per node or (where :attr:`memory_per_cpu`) per CPU."""
    memory_per_cpu: bool = False
    tasks: tuple[Job, ...] = ()
    """An array's tasks, or a het job's components, as far as the answer showed them."""

    def raise_for_state(self) -> Job:
        """The job itself when it succeeded.

        :raises JobFailedError: the job ended in any other way, or has not ended.
        """
        if self.state.succeeded:
            return self
        raise JobFailedError(self.describe(), self)

    def describe(self) -> str:
        """The job's end in one line: what Slurm says, in words."""
        reason = f" ({self.reason})" if self.reason else ""
        if not self.state.ended:
            return f"Job {self.job_id} is {self.state}{reason}."
        failing = next((task for task in self.tasks if not task.state.succeeded), None)
        index = (
            "" if failing is None or failing.array_task_id is None else f"[{failing.array_task_id}]"
        )
        exit_words = "" if self.state.base == "CANCELLED" else f": {self.exit}"
        return f"Job {self.job_id}{index} ended {self.state.base}{reason}{exit_words}."


class JobRecord(msgspec.Struct, gc=False):
    """The fields of a job's record that we use, as they came; the decoder skips all others.

    Every field takes any JSON value: what an answer holds is judged by the readers, so that a new
    form of one field costs that field and not the answer.
    """

    job_id: Number = None
    name: Any = None
    job_state: Any = None
    state: Any = None
    status: Any = None
    state_reason: Any = None
    state_description: Any = None
    exit_code: ExitCode | Plain = None
    submit_time: Number = None
    start_time: Number = None
    end_time: Number = None
    time: Any = None
    time_limit: Number = None
    nodes: Any = None
    failed_node: Any = None
    partition: Any = None
    user_name: Any = None
    user: Any = None
    restart_cnt: Number = None
    array_job_id: Number = None
    array_task_id: Number = None
    array_task_string: Any = None
    array: Any = None
    het_job_id: Number = None
    het_job_offset: Number = None
    het: Any = None
    stdout_expanded: Any = None
    standard_output: Any = None
    current_working_directory: Any = None
    working_directory: Any = None
    memory_per_node: Number = None
    memory_per_cpu: Number = None


SLURMDBD = {
    "time": {
        "submission": "submit_time",
        "start": "start_time",
        "end": "end_time",
        "limit": "time_limit",
    },
    "array": {
        "job_id": "array_job_id",
        "task_id": "array_task_id",
        "task": "array_task_string",
    },
    "het": {"job_id": "het_job_id", "job_offset": "het_job_offset"},
}
"""slurmdbd's groups of fields, and what slurmctld calls the fields themselves."""


def read_record(record: JobRecord) -> Job:
    """One record as a :class:`Job`.

    :raises ProtocolError: it has no job id.
    :source: ``jobs[]`` of ``GET job/{id}``, ``GET jobs/`` and ``GET slurmdb/jobs/``.
    """
    found = read_job_id(record.job_id)
    for group, names in SLURMDBD.items():
        values = getattr(record, group)
        if isinstance(values, dict):
            for name in values.keys() & names.keys():
                setattr(record, names[name], values[name])
    array_job_id, index = _part(
        record.array_job_id, record.array_task_id, found.number, found.array_task
    )
    het_job_id, offset = _part(
        record.het_job_id, record.het_job_offset, found.number, found.het_offset
    )
    memory = read_number(record.memory_per_node)
    per_cpu = read_number(record.memory_per_cpu) if memory is None else None
    return Job(
        job_id=found.number,
        state=read_job_state(record),
        name=_text(record.name),
        reason=_reason(record),
        description=_text(record.state_description),
        exit=read_exit(record.exit_code),
        submitted_at=read_time(record.submit_time),
        started_at=read_time(record.start_time),
        ended_at=read_time(record.end_time),
        time_limit_minutes=read_number(record.time_limit),
        nodes=_text(record.nodes),
        failed_node=_text(record.failed_node),
        partition=_text(record.partition),
        user=_text(record.user_name, record.user),
        restarts=read_number(record.restart_cnt) or 0,
        array_job_id=array_job_id,
        array_task_id=index,
        array_task_string=_text(record.array_task_string),
        het_job_id=het_job_id,
        het_job_offset=offset,
        standard_output=_text(record.stdout_expanded, record.standard_output),
        working_directory=_text(record.current_working_directory, record.working_directory),
        memory_mb=per_cpu if memory is None else memory,
        memory_per_cpu=per_cpu is not None,
    )


def _part(
    whole: Any, index: Any, number: int, from_id: int | None
) -> tuple[int | None, int | None]:
    """The array or het job that a record belongs to, and its place there."""
    whole_id = read_number(whole)
    if whole_id:
        return whole_id, read_number(index)
    return (None, None) if from_id is None else (number, from_id)


def one_job(jobs: Sequence[Job], job_id: int) -> Job | None:
    """What several records say of one job: an array or a het job becomes one with ``tasks``.

    :source: ``GET job/{id}`` of an array answers a record a started task and one for the rest.
    """
    parts = [job for job in jobs if job_id in (job.array_job_id, job.het_job_id)]
    if parts:
        return _together(parts, job_id)
    return next((job for job in jobs if job.job_id == job_id), None)


def _together(parts: list[Job], job_id: int) -> Job:
    tasks = tuple(sorted(parts, key=lambda job: (_index(job), job.job_id)))
    speaker = min(tasks, key=lambda job: (_urgency(job.state), _index(job)))
    ended = speaker.state.ended
    completing = ended and any(job.state.completing for job in tasks)
    flags = speaker.state.flags | ({"COMPLETING"} if completing else set())
    return replace(
        speaker,
        job_id=job_id,
        state=JobState(speaker.state.base, flags),
        array_task_id=None,
        het_job_offset=None,
        array_task_string=next(iter(_known(tasks, "array_task_string")), ""),
        # a requeue gives one task a later time; the whole was submitted with its earliest part
        submitted_at=min(_known(tasks, "submitted_at"), default=None),
        started_at=min(_known(tasks, "started_at"), default=None),
        ended_at=max(_known(tasks, "ended_at"), default=None) if ended else speaker.ended_at,
        nodes=",".join(sorted(set(_known(tasks, "nodes")))),
        restarts=max(job.restarts for job in tasks),
        tasks=tasks,
    )


def _known(tasks: Sequence[Job], field: str) -> list[Any]:
    return [value for job in tasks if (value := getattr(job, field))]


def _index(job: Job) -> int:
    index = job.het_job_offset if job.array_task_id is None else job.array_task_id
    return -1 if index is None else index


def _urgency(state: JobState) -> int:
    """Which task's state speaks for all: an active one, then one that failed, then the rest."""
    if not state.ended:
        return 0 if state.base == "RUNNING" else 1
    return 3 if state.succeeded else 2


def read_job_state(record: JobRecord) -> JobState:
    """A record's state, whatever the field is called."""
    for value in (record.job_state, record.state, record.status):
        if value is not None and (state := read_state(value)) is not NO_STATE:
            return state
    return NO_STATE


def _reason(record: JobRecord) -> str:
    reason = record.state_reason
    if reason is None and isinstance(record.state, dict):
        reason = record.state.get("reason")
    return "" if reason == "None" else _text(reason)


def _text(value: Any, otherwise: Any = "") -> str:
    if isinstance(value, str) and value not in NO_TEXT:
        return value
    return _text(otherwise) if otherwise else ""
