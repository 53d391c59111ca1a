"""A job as the cluster sees it: every shape of record in, one value out."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from msgspec.structs import replace

from airflow_provider_clusterra.api.errors import JobFailedError, ProtocolError
from airflow_provider_clusterra.api.slurm import (
    NO_STATE,
    NOT_ENDED,
    ExitCode,
    ExitStatus,
    JobState,
    NoVal,
    read_exit,
    read_number,
    read_state,
    read_time,
)


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


class Record(msgspec.Struct, gc=False):
    """The fields of a job's record that we use, as they came; the decoder skips all others.

    Every field is Any: what an answer holds is judged by the readers, never by the decoder, so
    that a new form of one field costs that field and not the answer.
    """

    job_id: Any = None
    name: Any = None
    job_state: Any = None
    state: Any = None
    status: Any = None
    state_reason: Any = None
    state_description: Any = None
    exit_code: Any = None
    submit_time: Any = None
    start_time: Any = None
    end_time: Any = None
    time: Any = None
    time_limit: Any = None
    nodes: Any = None
    partition: Any = None
    user_name: Any = None
    user: Any = None
    restart_cnt: Any = None
    array_job_id: Any = None
    array_task_id: Any = None
    array_task_string: Any = None
    array: Any = None
    het_job_id: Any = None
    het_job_offset: Any = None
    het: Any = None
    stdout_expanded: Any = None
    standard_output: Any = None
    current_working_directory: Any = None
    working_directory: Any = None
    memory_per_node: Any = None
    memory_per_cpu: Any = None


Number = NoVal | int | None


class UsualRecord(Record, gc=False):
    """A record in slurmctld's own forms from v0.0.40 on, which is read faster.

    An answer with any other form of a field is read again as :class:`Record`.
    """

    job_id: int | None = None
    name: str | None = None
    state_reason: str | None = None
    state_description: str | None = None
    exit_code: ExitCode | int | None = None
    submit_time: Number = None
    start_time: Number = None
    end_time: Number = None
    time_limit: Number = None
    nodes: str | None = None
    partition: str | None = None
    user_name: str | None = None
    restart_cnt: int | None = None
    array_job_id: Number = None
    array_task_id: Number = None
    array_task_string: str | None = None
    het_job_id: Number = None
    het_job_offset: Number = None
    stdout_expanded: str | None = None
    standard_output: str | None = None
    current_working_directory: str | None = None
    memory_per_node: Number = None
    memory_per_cpu: Number = None


def read_record(record: Record) -> Job:
    """One record as a :class:`Job`.

    :raises ProtocolError: it has no job id.
    :source: ``jobs[]`` of ``GET job/{id}``, ``GET jobs/`` and ``GET slurmdb/jobs/``.
    """
    job_id = read_number(record.job_id)
    if job_id is None:
        raise ProtocolError("A job's record has no job_id.")
    if record.time is not None or record.array is not None or record.het is not None:
        _spread(record)
    memory = read_number(record.memory_per_node)
    memory_per_cpu = read_number(record.memory_per_cpu)
    array_job_id = read_number(record.array_job_id) or None
    het_job_id = read_number(record.het_job_id) or None
    return Job(
        job_id=job_id,
        state=_state(record),
        name=_text(record.name),
        reason=_reason(record),
        description=_text(record.state_description),
        exit=read_exit(record.exit_code),
        submitted_at=read_time(record.submit_time),
        started_at=read_time(record.start_time),
        ended_at=read_time(record.end_time),
        time_limit_minutes=read_number(record.time_limit),
        nodes=_text(record.nodes),
        partition=_text(record.partition),
        user=_text(record.user_name) or _text(record.user),
        restarts=read_number(record.restart_cnt) or 0,
        array_job_id=array_job_id,
        array_task_id=read_number(record.array_task_id) if array_job_id else None,
        array_task_string=_text(record.array_task_string),
        het_job_id=het_job_id,
        het_job_offset=read_number(record.het_job_offset) if het_job_id else None,
        standard_output=_text(record.stdout_expanded) or _text(record.standard_output),
        working_directory=_text(record.current_working_directory)
        or _text(record.working_directory),
        memory_mb=memory if memory is not None else memory_per_cpu,
        memory_per_cpu=memory is None and memory_per_cpu is not None,
    )


def _spread(record: Record) -> None:
    """Put slurmdb's groups of fields where slurmctld has the fields themselves."""
    times, array, het = (_mapping(each) for each in (record.time, record.array, record.het))
    record.submit_time = times.get("submission", record.submit_time)
    record.start_time = times.get("start", record.start_time)
    record.end_time = times.get("end", record.end_time)
    record.time_limit = times.get("limit", record.time_limit)
    record.array_job_id = array.get("job_id", record.array_job_id)
    record.array_task_id = array.get("task_id", record.array_task_id)
    record.array_task_string = array.get("task", record.array_task_string)
    record.het_job_id = het.get("job_id", record.het_job_id)
    record.het_job_offset = het.get("job_offset", record.het_job_offset)


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
    telling = min(tasks, key=lambda job: (_urgency(job.state), _index(job)))
    completing = telling.state.ended and any(job.state.completing for job in tasks)
    flags = telling.state.flags | ({"COMPLETING"} if completing else set())
    submitted = [job.submitted_at for job in tasks if job.submitted_at]
    started = [job.started_at for job in tasks if job.started_at]
    ended = [job.ended_at for job in tasks if job.ended_at]
    return replace(
        telling,
        job_id=job_id,
        state=JobState(telling.state.base, flags),
        array_task_id=None,
        het_job_offset=None,
        array_task_string=next(
            (job.array_task_string for job in tasks if job.array_task_string), ""
        ),
        # a requeue gives one part a later time
        submitted_at=min(submitted, default=None),
        started_at=min(started, default=None),
        ended_at=max(ended, default=None) if telling.state.ended else telling.ended_at,
        nodes=",".join(sorted({job.nodes for job in tasks if job.nodes})),
        restarts=max(job.restarts for job in tasks),
        tasks=tasks,
    )


def _index(job: Job) -> int:
    index = job.het_job_offset if job.array_task_id is None else job.array_task_id
    return -1 if index is None else index


def _urgency(state: JobState) -> int:
    """Which task's state speaks for all: an active one, then one that failed, then the rest."""
    if not state.ended:
        return 0 if state.base == "RUNNING" else 1
    return 3 if state.succeeded else 2


def _state(record: Record) -> JobState:
    for value in (record.job_state, record.state, record.status):
        if value is not None and (state := read_state(value)) is not NO_STATE:
            return state
    return NO_STATE


def _reason(record: Record) -> str:
    reason = record.state_reason
    if reason is None and isinstance(record.state, dict):
        reason = record.state.get("reason")
    return "" if reason in (None, "None") else _text(reason)


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) and value != "None assigned" else ""
