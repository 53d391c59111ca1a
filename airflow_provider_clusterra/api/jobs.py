"""A job as the cluster sees it: every form of Slurm's words in, one value out."""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import msgspec
from msgspec.structs import replace

from airflow_provider_clusterra.api.errors import JobFailedError, ProtocolError

LARGEST = 0xFFFFFFFD
"""The two numbers above it are Slurm's for "not set" and "infinite"."""


class ExitStatus(msgspec.Struct, frozen=True, gc=False):
    """How the job's script ended. It means nothing before the job has ended."""

    code: int | None = None
    """0 to 255; None if a signal ended it, or nothing is known."""
    signal: int | None = None
    """The signal's number, e.g. 9; Slurm also uses 53 (cannot start) and 125 (out of memory)."""

    @property
    def signal_name(self) -> str:
        """The signal's name, e.g. ``"SIGKILL"``, or ``""`` if it has none."""
        try:
            return signal.Signals(self.signal or 0).name
        except ValueError:
            return ""

    def __str__(self) -> str:
        if self.signal is not None:
            name = f" ({self.signal_name})" if self.signal_name else ""
            return f"signal {self.signal}{name}"
        return f"exit code {self.code}" if self.code is not None else "no exit code"


NOT_ENDED = ExitStatus()
Plain = int | float | str | bool | list[Any] | None


class NoVal(msgspec.Struct, gc=False):
    """An object in a number's place; decoding it so takes half of a dict's time."""

    set: Any = None
    infinite: Any = None
    number: Any = None


Number = NoVal | Plain
"""Whatever JSON may stand in a number's place: a new form loses the field, not the answer."""


class ExitSignal(msgspec.Struct, gc=False):
    """A signal as slurmrestd has it in an exit; v0.0.39 calls it ``signal_id``."""

    id: Number = None
    signal_id: Number = None

    @property
    def number(self) -> int | None:
        """The signal's number; 0 or None if there was none."""
        return read_number(self.id) or read_number(self.signal_id)


class ExitCode(msgspec.Struct, gc=False):
    """An exit as slurmrestd has it; a struct because it is decoded faster than a dict."""

    return_code: Number = None
    signal: ExitSignal | Plain = None


class JobId(msgspec.Struct, frozen=True, gc=False):
    """A job's id as Slurm writes it: ``12``, an array's task ``12_3``, a het job's part ``12+1``."""

    number: int
    array_task: int | None = None
    het_offset: int | None = None


_ID = re.compile(r"([0-9]{1,10})(?:_([0-9]{1,10})|\+([0-9]{1,10}))?")
_DECIMAL = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?")


def read_job_id(value: Any) -> JobId:
    """The one reader of job ids: a number > 0, or text such as ``"12"``, ``"12_3"``, ``"12+1"``."""
    number = value if isinstance(value, str) else read_number(value)
    if type(number) is int and 0 < number <= LARGEST:
        return JobId(number)
    match = _ID.fullmatch(str(number).strip())
    if match is None or not 0 < int(match[1]) <= LARGEST:
        raise ProtocolError(f"{value!r} is not a job id; one is e.g. 12, 12_3 or 12+1.")
    return JobId(int(match[1]), *(int(each) if each else None for each in match.groups()[1:]))


def read_number(value: Any) -> int | None:
    """A number in any of its forms, or None if it is unset, infinite or no number.

    :source: slurmrestd's ``*_no_val_struct``; plain numbers in v0.0.38 and slurmdb.
    """
    if type(value) is dict:
        value = msgspec.convert(value, NoVal)
    if type(value) is NoVal:
        value = None if value.set is False or value.infinite is True else value.number
    if value is None or type(value) is int:
        return value
    try:
        # float() alone would read "12_3" as 123, and "1e3" as 1000
        text = value.strip() if isinstance(value, str) else repr(value)
        return int(float(text)) if _DECIMAL.fullmatch(text) else None
    except (ValueError, OverflowError):
        return None


BOOLEANS = {
    **dict.fromkeys(("true", "1", "yes", "on"), True),
    **dict.fromkeys(("false", "0", "no", "off"), False),
}


def read_flag(value: Any) -> bool | None:
    """True or False, also as text; None if it is neither."""
    return BOOLEANS.get(str(value).strip().lower())


def read_object(value: Any) -> dict[str, Any]:
    """An object; an empty one if it is none."""
    return value if isinstance(value, dict) else {}


def read_objects(value: Any) -> list[dict[str, Any]]:
    """The objects of a list; none if it is no list."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def first_text(row: Mapping[str, Any], *names: str) -> str:
    """The first of these fields that is not empty."""
    return next((str(row[name]) for name in names if row.get(name)), "")


def read_time(value: Any) -> datetime | None:
    """A time as an aware datetime in UTC, or None if it is unset (0 means unset).

    :source: ``submit_time``, ``start_time``, ``end_time`` of a job; slurmdbd has NO_VAL for the start of
        one that was cancelled while it was pending.
    """
    seconds = read_number(value) or 0
    return datetime.fromtimestamp(seconds, UTC) if 0 < seconds <= LARGEST else None


def read_exit(value: ExitCode | Plain) -> ExitStatus:
    """The exit in any of its forms.

    :source: ``exit_code`` of a job.
    """
    if type(value) is ExitCode:
        number = value.signal.number if isinstance(value.signal, ExitSignal) else None
        return ExitStatus(signal=number) if number else ExitStatus(read_number(value.return_code))
    status = read_number(value)
    if status is None or status < 0:
        return NOT_ENDED
    if status & 0x7F:
        return ExitStatus(signal=status & 0x7F)
    return ExitStatus(code=(status >> 8) & 0xFF)


ACTIVE = frozenset({"PENDING", "RUNNING", "SUSPENDED"})
TERMINAL = frozenset(
    (
        *("COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "BOOT_FAIL"),
        *("DEADLINE", "OUT_OF_MEMORY"),
    )
)
FLAGS = frozenset(
    (
        *("LAUNCH_FAILED", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESIZING", "CONFIGURING"),
        *("COMPLETING", "STOPPED", "RECONFIG_FAIL", "POWER_UP_NODE", "REVOKED", "REQUEUE_FED"),
        *("RESV_DEL_HOLD", "SIGNALING", "STAGE_OUT", "EXPEDITING"),
    )
)
GOES_ON = frozenset({"REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "EXPEDITING"})
"""Flags under which a terminal base state is not the end: Slurm will run the job again."""

SHORT_FORMS = {
    "PD": "PENDING",
    "R": "RUNNING",
    "S": "SUSPENDED",
    "CD": "COMPLETED",
    "CA": "CANCELLED",
    "F": "FAILED",
    "TO": "TIMEOUT",
    "NF": "NODE_FAIL",
    "PR": "PREEMPTED",
    "BF": "BOOT_FAIL",
    "DL": "DEADLINE",
    "OOM": "OUT_OF_MEMORY",
    "CG": "COMPLETING",
    "CF": "CONFIGURING",
    "RQ": "REQUEUED",
}
UNKNOWN = "UNKNOWN"


class JobState(msgspec.Struct, frozen=True, gc=False):
    """One base state, e.g. ``"RUNNING"``, and its flags, e.g. ``{"CONFIGURING"}``.

    A base that is unknown here is kept as it is, and is never an end.
    """

    base: str
    flags: frozenset[str] = frozenset()

    @property
    def ended(self) -> bool:
        """Whether Slurm is done with the job but for cleaning up."""
        return self.base in TERMINAL and not self.flags & GOES_ON

    @property
    def completing(self) -> bool:
        """Whether the result is known while processes or files are still being cleaned up."""
        return bool(self.flags & {"COMPLETING", "STAGE_OUT"})

    @property
    def finished(self) -> bool:
        """Whether the job has ended and nothing of it is left: no process, no file to stage out."""
        return self.ended and not self.completing

    @property
    def succeeded(self) -> bool:
        """Whether the job ended, and ended well."""
        return self.ended and self.base == "COMPLETED"

    @property
    def known(self) -> bool:
        """Whether every word of it is one that this version knows.

        v0.0.38 says only ``COMPLETING`` while it is so: a flag without a base.
        """
        based = self.base in ACTIVE or self.base in TERMINAL
        return (based or (self.base == UNKNOWN and bool(self.flags))) and self.flags <= FLAGS

    def __str__(self) -> str:
        return "+".join((self.base, *sorted(self.flags)))


NO_STATE = JobState(UNKNOWN)


def read_state(value: Any) -> JobState:
    """The state in any form in which an answer may hold it.

    :source: ``job_state`` of slurmrestd v0.0.38 to v0.0.45, ``state`` of the simple shapes.
    """
    if isinstance(value, dict):
        value = value.get("current")
    if isinstance(value, str):
        return _from_words(tuple(re.split(r"[\s,+]+by\s.*|[\s,+]+", value)))
    if isinstance(value, list | tuple):
        return _from_words(tuple([word for word in value if isinstance(word, str)]))
    return NO_STATE


@lru_cache(maxsize=1024)
def _from_words(words: tuple[str, ...]) -> JobState:
    tidy = (word.strip().upper() for word in words)
    names = [SHORT_FORMS.get(word, word) for word in tidy if word]
    if not names:
        return NO_STATE
    base = min(names, key=_rank)
    base = UNKNOWN if base in FLAGS else base
    return JobState(base, frozenset(names) - {base})


def _rank(name: str) -> int:
    """A base that we know before one that we do not, and that before a flag; a success last of all."""
    ranks = (
        name in ACTIVE,
        name in TERMINAL - {"COMPLETED"},
        name == "COMPLETED",
        name not in FLAGS,
        True,
    )
    return ranks.index(True)


NO_TEXT = ("", "None assigned")


class Job(msgspec.Struct, frozen=True, gc=False):
    """One job. Times are aware, in UTC; None is "not known" or "not yet"."""

    job_id: int
    state: JobState
    name: str = ""
    reason: str = ""
    """Slurm's reason, e.g. ``"Resources"``, ``"NonZeroExitCode"``; ``""`` if there is none."""
    description: str = ""
    """More words for the reason, if Slurm has them."""
    exit: ExitStatus = NOT_ENDED
    submitted_at: datetime | None = None
    started_at: datetime | None = None
    """While the job is pending this may be Slurm's estimate."""
    ended_at: datetime | None = None
    """While the job is running this is when its time limit ends."""
    suspended_seconds: int = 0
    """Between its start and its end, up to the last time that it was suspended or resumed."""
    time_limit_minutes: int | None = None
    nodes: str = ""
    failed_node: str = ""
    """The node whose failure ended the job, as far as Slurm says so."""
    comment: str = ""
    partition: str = ""
    user: str = ""
    restarts: int = 0
    array_job_id: int | None = None
    array_task_id: int | None = None
    array_task_string: str = ""
    """The indices that one record of pending tasks stands for, e.g. ``"2-9%4"``."""
    het_job_id: int | None = None
    het_job_offset: int | None = None
    het_job_ids: str = ""
    """The own ids of a het job's components, e.g. ``"20-22"``; accounting does not say them."""
    standard_output: str = ""
    working_directory: str = ""
    memory_mb: int | None = None
    """The memory asked for, per node or (if :attr:`memory_per_cpu`) per CPU."""
    memory_per_cpu: bool = False
    tres_allocated: str = ""
    """E.g. ``"cpu=2,mem=4G,node=1,gres/gpu=1"``, as :attr:`tres_requested`."""
    tres_requested: str = ""
    admin_comment: str = ""
    tasks: tuple[Job, ...] = ()
    """An array's tasks, or a het job's components, as far as the answer showed them."""
    usage: dict[str, Any] | None = None
    """What it asked for and used, once its end was accounted for."""

    @property
    def parts(self) -> tuple[Job, ...]:
        """Its tasks or components; of any other job, the job itself."""
        return self.tasks or (self,)

    @property
    def ids(self) -> frozenset[int]:
        """Every id that it is asked for by: its own, its array's and its het job's."""
        return frozenset(filter(None, (self.job_id, self.array_job_id, self.het_job_id)))

    @property
    def place(self) -> int:
        """A task's index in its array, or a component's offset; -1 of a job that is no part of another."""
        index = self.het_job_offset if self.array_task_id is None else self.array_task_id
        return -1 if index is None else index

    @property
    def follows_leader(self) -> bool:
        """Whether it is a het job's component after the first, which is the leader.

        It may have a name of its own, and be requeued alone.
        """
        return bool(self.het_job_offset)

    @property
    def ran(self) -> bool:
        """Whether a job that has ended was ever started: if not, Slurm says that it started at its end."""
        if self.nodes or self.tres_allocated:
            return True
        if self.tres_requested or self.state.base in ("CANCELLED", "DEADLINE"):
            return self.started_at not in (None, self.ended_at)
        return True

    @property
    def began_at(self) -> datetime | None:
        """When a job that has ended was started; None if it never was, or that is not known."""
        return self.started_at if self.ran else None

    def raise_for_state(self) -> Job:
        """The job itself when it succeeded.

        :raises JobFailedError: the job ended in any other way, or has not ended.
        """
        if self.state.succeeded:
            return self
        raise JobFailedError(self.describe(), self)

    @property
    def failed_tasks(self) -> tuple[Job, ...]:
        """Its tasks or components that did not succeed."""
        return tuple(task for task in self.tasks if not task.state.succeeded)

    @property
    def failed_task(self) -> Job | None:
        """The first of :attr:`failed_tasks`."""
        return next(iter(self.failed_tasks), None)

    def describe(self) -> str:
        """The job's end in one line: what Slurm says, in words."""
        reason = f" ({self.reason})" if self.reason else ""
        if not self.state.ended:
            return f"Job {self.job_id} is {self.state}{reason}."
        failing, index = self.failed_task, ""
        if failing is not None and failing.array_task_id is not None:
            index = f"[{failing.array_task_id}]"
        exit_words = "" if self.state.base == "CANCELLED" else f": {self.exit}"
        return f"Job {self.job_id}{index} ended {self.state.base}{reason}{exit_words}."


class JobRecord(msgspec.Struct, gc=False):
    """The fields of a job's record that we use, as they came; the decoder skips all others.

    Every field takes any JSON value: what an answer holds is judged by the readers, so that a new
    form of one field loses that field and not the answer. They stand in slurmrestd's own order, in
    which the decoder finds the next one at once.
    """

    admin_comment: Any = None
    array_job_id: Number = None
    array_task_id: Number = None
    array_task_string: Any = None
    comment: Any = None
    end_time: Number = None
    exit_code: ExitCode | Plain = None
    failed_node: Any = None
    het_job_id: Number = None
    het_job_id_set: Any = None
    het_job_offset: Number = None
    job_id: Number = None
    job_state: Any = None
    name: Any = None
    nodes: Any = None
    partition: Any = None
    memory_per_cpu: Number = None
    memory_per_node: Number = None
    pre_sus_time: Number = None
    restart_cnt: Number = None
    start_time: Number = None
    state_description: Any = None
    state_reason: Any = None
    standard_output: Any = None
    stdout_expanded: Any = None
    submit_time: Number = None
    suspend_time: Number = None
    time_limit: Number = None
    tres_req_str: Any = None
    tres_alloc_str: Any = None
    user_name: Any = None
    current_working_directory: Any = None
    state: Any = None
    status: Any = None
    time: Any = None
    user: Any = None
    array: Any = None
    het: Any = None
    working_directory: Any = None


SLURMDBD = {
    "time": {"submission": "submit_time", "start": "start_time", "end": "end_time"}
    | {"limit": "time_limit"},
    "array": {"job_id": "array_job_id", "task_id": "array_task_id", "task": "array_task_string"},
    "het": {"job_id": "het_job_id", "job_offset": "het_job_offset"},
    "comment": {"job": "comment", "administrator": "admin_comment"},
}
"""slurmdbd's groups of fields, and what slurmctld calls the fields themselves."""


def read_record(record: JobRecord) -> Job:
    """One record as a :class:`Job`.

    :source: ``jobs[]`` of ``GET job/{id}``, ``GET jobs/`` and ``GET slurmdb/jobs/``.
    """
    for group, names in SLURMDBD.items():
        values = getattr(record, group)
        if isinstance(values, dict):
            for name in values.keys() & names.keys():
                setattr(record, names[name], values[name])
    found = _id_of(record)
    array_job_id, index = _whole_and_place(
        record.array_job_id, record.array_task_id, found.number, found.array_task
    )
    het_job_id, offset = _whole_and_place(
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
        suspended_seconds=_suspended(record),
        time_limit_minutes=read_number(record.time_limit),
        nodes=_text(record.nodes),
        failed_node=_text(record.failed_node),
        comment=_text(record.comment),
        partition=_text(record.partition),
        user=_text(record.user_name, record.user),
        restarts=read_number(record.restart_cnt) or 0,
        array_job_id=array_job_id,
        array_task_id=index,
        array_task_string=_text(record.array_task_string),
        het_job_id=het_job_id,
        het_job_offset=offset,
        het_job_ids=_text(record.het_job_id_set),
        standard_output=_text(record.stdout_expanded, record.standard_output),
        working_directory=_text(record.current_working_directory, record.working_directory),
        memory_mb=per_cpu if memory is None else memory,
        memory_per_cpu=per_cpu is not None,
        tres_allocated=_text(record.tres_alloc_str),
        tres_requested=_text(record.tres_req_str),
        admin_comment=_text(record.admin_comment),
    )


def _id_of(record: JobRecord) -> JobId:
    """The record's id or, if that is unreadable, its array's or het job's."""
    try:
        return read_job_id(record.job_id)
    except ProtocolError:
        whole = read_number(record.array_job_id) or read_number(record.het_job_id)
        if not whole:
            raise
        return read_job_id(whole)


def _suspended(record: JobRecord) -> int:
    """Slurm counts the seconds before the last suspension, which began or ended at ``suspend_time``."""
    changed = read_number(record.suspend_time)
    if not changed:
        return 0
    start, ran = read_number(record.start_time), read_number(record.pre_sus_time) or 0
    return max(0, changed - start - ran) if start else 0


def _whole_and_place(
    whole: Any, place: Any, number: int, place_in_id: int | None
) -> tuple[int | None, int | None]:
    """The array or het job that a record belongs to, and its place there; its id may say both, e.g. "12_3"."""
    whole_id, index = read_number(whole), read_number(place)
    if whole_id:
        is_set = index is not None and index <= LARGEST
        return whole_id, index if is_set else None
    if place_in_id is not None:
        return number, place_in_id
    return None, None


def one_job(jobs: Sequence[Job], job_id: int) -> Job | None:
    """What several records say of one job: an array or a het job becomes one with ``tasks``.

    :source: ``GET job/{id}`` of an array answers a record a started task and one for the rest.
    """
    parts = [job for job in jobs if job_id in (job.array_job_id, job.het_job_id)]
    if parts:
        return _together(parts, job_id)
    return next((job for job in jobs if job.job_id == job_id), None)


def _together(parts: list[Job], job_id: int) -> Job:
    tasks = tuple(sorted(parts, key=lambda job: (job.place, job.job_id)))
    speaker = min(tasks, key=lambda job: (_urgency(job.state), job.place))
    ended = speaker.state.ended
    completing = ended and any(job.state.completing for job in tasks)
    flags = speaker.state.flags | ({"COMPLETING"} if completing else set())
    return replace(
        speaker,
        job_id=job_id,
        # a het job has its leader's name
        name="" if tasks[0].follows_leader else tasks[0].name,
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


def seconds_between(begin: datetime | None, end: datetime | None) -> float | None:
    """None if one of them is not known."""
    return max(0.0, (end - begin).total_seconds()) if begin and end else None


def timestamp_of(time: datetime | None) -> float:
    """In seconds since 1970, to compare times by; 0 if it is not known."""
    return time.timestamp() if time else 0.0


def _urgency(state: JobState) -> int:
    """Which task's state speaks for all: an active one, then one that failed, then the rest."""
    if not state.ended:
        return 0 if state.base == "RUNNING" else 1
    return 3 if state.succeeded else 2


def read_job_state(record: JobRecord) -> JobState:
    """A record's state, whatever the field is called."""
    for value in (record.job_state, record.state, record.status):
        state = read_state(value)
        if state is not NO_STATE:
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
