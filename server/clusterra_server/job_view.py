"""What a person is shown of a job: values for the pages, made of Slurm's records, and words."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import accumulate
from typing import Any, NamedTuple

import msgspec

MOST_TASKS = 20_000
"""Tasks of an array that are shown at most."""
LONGEST_LINE = 2_000
"""Characters of a line of output."""
TAG = re.compile(r"\.af-[0-9a-f]{8}-[0-9a-f]{8}-[0-9a-f]{4}-[0-9]+\.([0-9]+)\Z")
"""What the Airflow provider puts behind a job's name; the last number is the try."""
ENDED = {
    "COMPLETED": "It succeeded",
    "FAILED": "It failed",
    "CANCELLED": "It was cancelled",
    "TIMEOUT": "It reached its time limit",
    "OUT_OF_MEMORY": "It needed more memory than it asked for",
    "NODE_FAIL": "Its node failed",
    "BOOT_FAIL": "Its node did not start",
    "DEADLINE": "It reached its deadline",
    "PREEMPTED": "A job of higher priority took its place",
    "REVOKED": "Another cluster took it",
    "LAUNCH_FAILED": "It could not be launched",
    "RECONFIG_FAIL": "Its node could not be configured",
}
"""Slurm's states of jobs that are over."""
GOES_ON = {
    "RUNNING": "It runs",
    "SUSPENDED": "It is suspended",
    "STOPPED": "It is stopped",
    "CONFIGURING": "Its nodes are made ready",
    "COMPLETING": "It is being cleaned up",
    "REQUEUED": "It was requeued",
}
"""Others."""
REASONS = {
    "Priority": "jobs of higher priority come first",
    "Resources": "the resources that it asks for are in use",
    "Dependency": "it depends on a job that has not ended",
    "DependencyNeverSatisfied": "it depends on a job that did not end as it had to: it never starts",
    "JobHeldUser": "its user holds it",
    "JobHeldAdmin": "an administrator holds it",
    "JobHoldMaxRequeue": "it was requeued too often, and is held",
    "BeginTime": "the time at which it may begin has not come",
    "JobArrayTaskLimit": "as many tasks of its array run as may run at once",
    "PartitionConfig": "no node of its partition has what it asks for",
    "PartitionDown": "its partition takes no jobs to its nodes now",
    "PartitionInactive": "its partition is inactive",
    "PartitionNodeLimit": "it asks for more nodes than its partition allows",
    "PartitionTimeLimit": "it asks for more time than its partition allows",
    "BadConstraints": "no node satisfies its constraints",
    "Licenses": "the licenses that it asks for are in use",
    "Reservation": "its reservation has not begun",
    "ReqNodeNotAvail": "a node that it asks for is not available",
    "NodeDown": "a node that it ran on, or asks for, is down",
    "SystemFailure": "Slurm, a file system or the network failed",
    "JobLaunchFailure": "it could not be launched: a wrong path or interpreter, perhaps",
    "InvalidAccount": "its account may not be used",
    "InvalidQOS": "its QOS may not be used",
    "Prolog": "the node's prolog runs",
    "Cleaning": "what an earlier run left is cleaned up",
    "TimeLimit": "the script ran for as long as its time limit allows",
    "OutOfMemory": "the kernel killed a process of it for its memory",
    "None": "",
}
"""Slurm's reason codes in words that fit behind a colon."""
LIMITS = re.compile(r"(QOS|Assoc|MaxJobs|.*Grp).*")
"""Reasons that name a limit of the QOS or of the account."""


class RawJob(msgspec.Struct):
    """The fields of slurmctld's and slurmdbd's records that the pages read, each of any shape."""

    job_id: Any = None
    name: Any = None
    user_name: Any = None
    user: Any = None
    account: Any = None
    qos: Any = None
    partition: Any = None
    nodes: Any = None
    job_state: Any = None
    state: Any = None
    state_reason: Any = None
    state_description: Any = None
    exit_code: Any = None
    comment: Any = None
    dependency: Any = None
    submit_time: Any = None
    eligible_time: Any = None
    start_time: Any = None
    end_time: Any = None
    time_limit: Any = None
    time: Any = None
    array_job_id: Any = None
    array_task_id: Any = None
    array_task_string: Any = None
    array: Any = None
    het_job_id: Any = None
    het_job_offset: Any = None
    restart_cnt: Any = None
    cpus: Any = None
    tres_req_str: Any = None
    tres: Any = None
    current_working_directory: Any = None
    working_directory: Any = None
    script: Any = None
    steps: Any = None


class RawJobs(msgspec.Struct):
    """An answer with a list of them."""

    jobs: list[RawJob] = []


class Owner(NamedTuple):
    """What a job was submitted for."""

    dag: str = ""
    task: str = ""
    run: str = ""
    attempt: str = ""
    """Airflow's try."""


NOBODY = Owner()


@dataclass(frozen=True, slots=True)
class JobView:
    """One job, one task of an array, or the tasks of an array that wait. Times are seconds since
    1970; 0 is "not yet", or not known."""

    job_id: int
    name: str = ""
    user: str = ""
    account: str = ""
    qos: str = ""
    partition: str = ""
    nodes: str = ""
    states: tuple[str, ...] = ("UNKNOWN",)
    """The state, and Slurm's flags to it."""
    reason: str = ""
    details: str = ""
    exit_code: int = 0
    signal: str = ""
    comment: str = ""
    dependency: str = ""
    submitted: float = 0
    eligible: float = 0
    started: float = 0
    ended: float = 0
    limit_minutes: int = 0
    """0 is none."""
    array_id: int = 0
    """0: it is not part of an array."""
    task: int = -1
    waiting: tuple[int, ...] = ()
    """The indices of an array's waiting tasks."""
    het_id: int = 0
    offset: int = -1
    """A heterogeneous job's component."""
    restarts: int = 0
    asked: Mapping[str, str] = field(default_factory=dict)
    """Slurm's TRES: ``{"cpu": "8", "mem": "16G", "node": "1", "gres/gpu": "2"}``."""
    folder: str = ""
    owner: Owner = NOBODY

    @property
    def shown_id(self) -> str:
        """As users and the API's paths write it."""
        if self.array_id and self.task >= 0:
            return f"{self.array_id}_{self.task}"
        if self.het_id:
            return f"{self.het_id}+{self.offset}"
        return str(self.array_id or self.job_id)

    @property
    def title(self) -> str:
        """The name as its author gave it."""
        return TAG.sub("", self.name) or self.name or "(no name)"

    @property
    def state(self) -> str:
        """Without the flags."""
        return self.states[0]

    @property
    def is_over(self) -> bool:
        """Whether nothing about it will change."""
        return self.state in ENDED and "COMPLETING" not in self.states

    @property
    def kind(self) -> str:
        """What the pages show a state as."""
        return kind_of(self.state)


def kind_of(state: str) -> str:
    """A state as one of four, for its colour and mark; one that is not known is ``"other"``."""
    kinds = {"PENDING": "waits", "RUNNING": "runs", "COMPLETED": "good", "CANCELLED": "other"}
    return kinds.get(state, "bad" if state in ENDED else "other")


def read_number(value: Any, missing: int = -1) -> int:
    """A number of Slurm's, which may be one of its objects."""
    if isinstance(value, Mapping):
        value = value.get("number") if value.get("set") and not value.get("infinite") else missing
    return int(value) if isinstance(value, int | float) and abs(value) < 2**63 else missing


def view_of(raw: RawJob) -> JobView:
    """A record of slurmctld's or slurmdbd's as the pages show it."""
    state, time, array, comment = map(_object, (raw.state, raw.time, raw.array, raw.comment))
    states = _texts(_first(raw.job_state, state.get("current"))) or ("UNKNOWN",)
    nodes = _text(raw.nodes).replace("None assigned", "") if states[0] != "PENDING" else ""
    exit_code = _object(raw.exit_code)
    signal = _object(exit_code.get("signal"))
    array_id = read_number(_first(raw.array_job_id, array.get("job_id")), 0)
    task = read_number(_first(raw.array_task_id, array.get("task_id")))
    waiting = read_indices(_text(_first(raw.array_task_string, array.get("task"))))
    return JobView(
        job_id=read_number(raw.job_id, 0),
        name=_text(raw.name),
        user=_text(_first(raw.user_name, raw.user)),
        account=_text(raw.account),
        qos=_text(raw.qos),
        partition=_text(raw.partition),
        nodes=nodes,
        states=states,
        reason=_text(_first(raw.state_reason, state.get("reason"))),
        details=_text(raw.state_description),
        exit_code=read_number(exit_code.get("return_code"), 0),
        signal=_text(signal.get("name")),
        comment=_text(_first(comment.get("job"), raw.comment)),
        dependency=_text(raw.dependency),
        submitted=_time(raw.submit_time, time.get("submission")),
        eligible=_time(raw.eligible_time, time.get("eligible")),
        # without a node both are Slurm's guess
        started=_time(raw.start_time, time.get("start")) if nodes else 0,
        ended=_time(raw.end_time, time.get("end")) if states[0] in ENDED else 0,
        limit_minutes=read_number(_first(raw.time_limit, time.get("limit")), 0),
        array_id=array_id,
        task=task if array_id else -1,
        waiting=waiting if array_id else (),
        het_id=read_number(raw.het_job_id, 0),
        offset=read_number(raw.het_job_offset),
        restarts=read_number(raw.restart_cnt, 0),
        asked=_asked(raw),
        folder=_text(_first(raw.current_working_directory, raw.working_directory)),
        owner=read_owner(_text(_first(comment.get("job"), raw.comment)), _text(raw.name)),
    )


def _first(*values: Any) -> Any:
    """The first that holds something."""
    return next((each for each in values if each), values[-1])


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _texts(value: Any) -> tuple[str, ...]:
    values = [value] if isinstance(value, str) else value if isinstance(value, list) else []
    return tuple(each for each in values if isinstance(each, str))


def _time(*values: Any) -> int:
    return next((found for found in (read_number(each) for each in values) if found > 0), 0)


def _asked(raw: RawJob) -> dict[str, str]:
    if text := _text(raw.tres_req_str):
        return {name: value for name, _, value in (part.partition("=") for part in text.split(","))}
    return {
        kind: bytes_text(count * 2**20) if kind == "mem" else str(count)
        for kind, count in _tres(_object(raw.tres).get("requested")).items()
    }


def _tres(rows: Any) -> dict[str, int]:
    """Slurm's list of trackable resources as counts: memory in MiB for a job, in bytes for a step."""
    found = {}
    for row in rows if isinstance(rows, list) else []:
        kind, name = _text(_object(row).get("type")), _text(_object(row).get("name"))
        if (count := read_number(_object(row).get("count"))) >= 0:
            found[f"{kind}/{name}" if name else kind] = count
    return found


def read_owner(comment: str, name: str, variables: Mapping[str, str] | None = None) -> Owner:
    """What a job was submitted for, as far as its variables, comment or name say.

    :param variables: Airflow's of a task, ``AIRFLOW_CTX_*``, if they are known.
    """
    values = variables or {}
    names = ("DAG_ID", "TASK_ID", "DAG_RUN_ID", "TRY_NUMBER")
    found = Owner(*(values.get(f"AIRFLOW_CTX_{each}", "") for each in names))
    if found.dag:
        return found
    # a run's id may have a slash in it
    if match := re.fullmatch(r"([^/]+)/([^/]+)/(.+)/([0-9]+)(?: \([a-z ]+\))?", comment):
        return Owner(*match.groups())
    tag = TAG.search(name)
    return Owner(attempt=tag[1] if tag else "")


def read_indices(text: str) -> tuple[int, ...]:
    """The indices that an array's waiting tasks are shown as, e.g. ``"3-9:2,12%2"``, as far as it goes."""
    found: dict[int, None] = {}
    for part in text.partition("%")[0].strip("[]").split(","):
        if match := re.fullmatch(r"([0-9]{1,9})(?:-([0-9]{1,9})(?::([0-9]{1,9}))?)?", part):
            first, last, step = int(match[1]), int(match[2] or match[1]), int(match[3] or 1)
            found |= dict.fromkeys(range(first, last + 1, step or 1)[: MOST_TASKS - len(found)])
    return tuple(found)


def select(views: Sequence[JobView], asked: str) -> list[JobView]:
    """Of the records that there are for an id, those that it means: one, or an array's tasks."""
    found = re.fullmatch(r"([0-9]{1,10})(?:([_+])([0-9]{1,10}))?", asked)
    if not found:
        return []
    job_id, index = int(found[1]), int(found[3] or 0)
    if found[2] == "+":
        return [each for each in views if each.offset == index]
    return _select_task(views, job_id, index) if found[2] else _select_job(views, job_id)


def _select_job(views: Sequence[JobView], job_id: int) -> list[JobView]:
    """A job or a whole array; a task of one by its own id, which is not the array's."""
    tasks = [each for each in views if each.array_id and each.job_id == job_id != each.array_id]
    return tasks[:1] or list(views)


def _select_task(views: Sequence[JobView], job_id: int, index: int) -> list[JobView]:
    """A task's own record, or its part of the one that an array's waiting tasks share."""
    tasks = [each for each in views if each.array_id == job_id]
    own = [each for each in tasks if each.task == index]
    return own or [_waiting_task(each, index) for each in tasks if index in each.waiting]


def _waiting_task(view: JobView, index: int) -> JobView:
    return replace(view, task=index, waiting=())


def spread(views: Iterable[JobView]) -> list[JobView]:
    """Each task of an array, or component of a heterogeneous job, by itself and in order."""
    found: dict[int, JobView] = {}
    for each in views:
        for index in each.waiting:
            found.setdefault(index, _waiting_task(each, index))
        if not each.waiting:
            found.setdefault(each.offset if each.het_id else each.task, each)
    return [found[index] for index in sorted(found)][:MOST_TASKS]


def sentence(view: JobView) -> str:
    """What there is to say of a job's state."""
    why = reason_words(view)
    if view.state == "PENDING":
        return f"It waits: {why}." if why else "It waits for its turn."
    if view.state not in ENDED:
        where = f" on {view.nodes}" if view.nodes else ""
        return GOES_ON.get(view.state, f"Slurm calls it {view.state}") + f"{where}."
    return f"{ENDED[view.state]}: {why}." if why else f"{ENDED[view.state]}."


def reason_words(view: JobView) -> str:
    """Slurm's reason as words; empty if there is none, or the state says it."""
    ends = {
        "NonZeroExitCode": f"the script ended with exit code {view.exit_code}",
        "RaisedSignal": f"signal {view.signal or '?'} ended the script",
        view.state.title().replace("_", ""): "",
    }
    code = view.reason.partition(",")[0].strip()
    words = {**REASONS, **ends}.get(code)
    if words is None and LIMITS.fullmatch(code):
        words = f"a limit of its QOS or account is reached ({code})"
    found = words if words is not None else code
    if view.state in ENDED and not found and view.exit_code:
        found = ends["NonZeroExitCode"]
    return "; ".join(filter(None, (found, view.details)))


class Span(NamedTuple):
    """A part of a job's life."""

    kind: str
    label: str
    begin: float
    end: float
    x: float
    """Where it begins, in percent of it all."""
    width: float

    @property
    def lasted(self) -> str:
        """How long it took."""
        return duration(self.end - self.begin)


def timeline(view: JobView, now: float) -> list[Span]:
    """A job's life so far: held back, queued, run; what took no time is left out."""
    begin, eligible, started, end = _milestones(view, now)
    if not begin:
        return []
    is_past = bool(view.ended)
    parts = (
        ("held", "Not yet allowed to start", begin, eligible),
        ("waits", "Waited in the queue" if view.started or is_past else "Waits", eligible, started),
        ("runs", "Ran" if is_past else "Runs", started, end),
    )
    latest = "runs" if view.started else "waits"
    percent = 100 / max(end - begin, 1e-6)
    return [
        Span(kind, label, since, until, percent * (since - begin), percent * (until - since))
        for kind, label, since, until in parts
        if until > since or kind == latest
    ]


def _milestones(view: JobView, now: float) -> tuple[float, float, float, float]:
    """Submitted, eligible, started, ended, in this order whatever the clocks of several machines say."""
    begin = view.submitted
    end = max(begin, view.ended or now)
    started = _between(begin, view.started, end) if view.started else end
    return begin, _between(begin, view.eligible, started), started, end


def _between(least: float, value: float, most: float) -> float:
    return min(max(value, least), most)


def merge(live: Sequence[JobView], past: Iterable[JobView]) -> list[JobView]:
    """Jobs that slurmctld knows, and those that only accounting does."""
    known = {key for each in live for key in _keys(each)}
    return [*live, *(each for each in past if known.isdisjoint(_keys(each)))]


def _keys(view: JobView) -> list[tuple[int, int]]:
    """The jobs that a record is of: ids, and indices of an array."""
    return [(view.array_id or view.job_id, index) for index in view.waiting or (view.task,)]


class Used(NamedTuple):
    """A row of what was asked and used."""

    label: str
    asked: str
    used: str
    share: float | None = None
    """In percent of what was asked, if both are known."""


OTHER_RESOURCES = {"gres/gpu": "GPUs", "node": "Nodes", "license": "Licenses"}


def receipt(view: JobView, raw: RawJob | None, now: float) -> list[Used]:
    """What a job asked for and what it used, as far as it is known.

    :param raw: accounting's record.
    """
    used = measure(raw) if raw else Measured()
    ran = (view.ended or now) - view.started if view.started else None
    rows = [
        _cpu_row(view, used.cpu_seconds, ran),
        _memory_row(view, used.peak_memory),
        Used(
            "Run time",
            duration(60 * view.limit_minutes) if view.limit_minutes else "",
            _said(ran, duration),
            share(ran, 60 * view.limit_minutes),
        ),
        *(Used(label, view.asked.get(name, ""), "") for name, label in OTHER_RESOURCES.items()),
        Used(
            "CPU time",
            "",
            _said(used.cpu_seconds, lambda s: f"{s:.1f} s" if s < 60 else duration(s)),
        ),
        Used("Energy", "", _said(used.joules, "{:,.0f} J".format)),
    ]
    return [row for row in rows if row.asked or row.used]


def _cpu_row(view: JobView, seconds: float | None, ran: float | None) -> Used:
    asked = view.asked.get("cpu", "")
    busy = seconds / ran if seconds is not None and ran and view.ended else None
    return Used(
        "CPUs", asked, _said(busy, "{:.1f} on average".format), share(busy, number_of(asked))
    )


def _memory_row(view: JobView, peak: float | None) -> Used:
    asked = read_bytes(view.asked.get("mem", ""))
    said = _said(peak, lambda count: f"{bytes_text(count)} at most")
    return Used("Memory", bytes_text(asked) if asked else "", said, share(peak, asked))


def _said(value: float | None, words: Callable[[float], str]) -> str:
    return "" if value is None else words(value)


def share(used: float | None, asked: float) -> float | None:
    """In percent."""
    return min(100 * used / asked, 999) if used is not None and asked > 0 else None


def number_of(text: str) -> float:
    """A number that was asked for; 0 if it is none."""
    return float(text) if re.fullmatch(r"[0-9]{1,15}(\.[0-9]{1,9})?", text) else 0


class Measured(NamedTuple):
    """What accounting gathered of a job; None is what it did not."""

    cpu_seconds: float | None = None
    peak_memory: float | None = None
    """In bytes."""
    joules: float | None = None


def measure(raw: RawJob) -> Measured:
    """What accounting gathered of a job: of its steps, each of which had its own peak of memory."""
    steps = [_object(each) for each in raw.steps] if isinstance(raw.steps, list) else []
    joules = sum(_usage(each, "consumed").get("energy", 0) for each in steps)
    peak = _peak(steps)
    # the job's own total is 0, as slurmdbd has it; and where nothing is gathered, zero is no measure
    seconds = None if peak is None else sum(map(_cpu_seconds, steps))
    return Measured(seconds, peak, joules or None)


def _cpu_seconds(step: Mapping[str, Any]) -> float:
    total = _object(_object(step.get("time")).get("total"))
    return read_number(total.get("seconds"), 0) + read_number(total.get("microseconds"), 0) / 1e6


def _peak(steps: Iterable[Mapping[str, Any]]) -> float | None:
    """The most memory that steps had at one time: those side by side together."""
    changes: list[tuple[float, float]] = []
    for step in steps:
        if (count := _usage(step, "requested").get("mem")) is not None:
            time = _object(step.get("time"))
            begin = read_number(time.get("start"), 0)
            # Slurm's clock has whole seconds, and the end comes before what begins in the same one
            end = max(read_number(time.get("end"), 0) or math.inf, begin + 0.5)
            changes += [(begin, count), (end, -count)]
    return max(accumulate(count for _, count in sorted(changes)), default=None)


def _usage(step: Mapping[str, Any], kind: str) -> dict[str, int]:
    """A step's ``TRESUsageInTot`` (``"requested"``) or ``TRESUsageOutTot`` (``"consumed"``)."""
    return _tres(_object(_object(step.get("tres")).get(kind)).get("total"))


UNITS = ("B", "KB", "MB", "GB", "TB", "PB")


def bytes_text(count: float) -> str:
    """Bytes in a unit of 1024, as Slurm counts them, e.g. ``"3.1 GB"``."""
    power = 0
    while count >= 1024 and power < len(UNITS) - 1:
        count, power = count / 1024, power + 1
    return f"{count:.1f}".removesuffix(".0") + f" {UNITS[power]}"


def read_bytes(text: str) -> float:
    """Slurm's text for memory, e.g. ``"16G"``, in bytes; 0 if it is none. Without a unit it is MiB."""
    found = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]{1,9})?) ?([KMGTP]?)B?", text.upper())
    return float(found[1]) * 1024 ** ("KMGTP".index(found[2] or "M") + 1) if found else 0


def duration(seconds: float) -> str:
    """A time as a person says it, e.g. ``"41 min 5 s"``."""
    rest, parts = max(0, round(seconds)), []
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2]) or "0 s"


def moment(seconds: float) -> str:
    """A time of day as the pages write it."""
    return (
        f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}" if 0 < seconds < 2**37 else ""
    )


def clock(seconds: float) -> str:
    """The same for a machine."""
    return (
        f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}" if 0 < seconds < 2**37 else ""
    )


@dataclass(frozen=True, slots=True)
class Search:
    """Which jobs a list shows."""

    state: str = ""
    name: str = ""
    """A part of it, in capitals or not."""
    since: float = 0

    def finds(self, states: Iterable[str], name: str, submitted: float) -> bool:
        """Whether it shows a job, or an array with these states."""
        return (
            self.state in ("", *states)
            and self.name.lower() in name.lower()
            and submitted >= self.since
        )


class Row(NamedTuple):
    """A line of a list: a job, or a whole array."""

    view: JobView
    counts: dict[str, int]
    """How many tasks of an array are in which state."""


def list_rows(views: Iterable[JobView], search: Search) -> list[Row]:
    """Jobs that are looked for, the newest first; an array is one line."""
    groups: dict[int, list[JobView]] = {}
    for each in views:
        groups.setdefault(each.array_id or each.job_id, []).append(each)
    rows = [
        Row(group[0], count_states(group) if group[0].array_id else {})
        for group in groups.values()
        if search.finds({each.state for each in group}, group[0].name, group[0].submitted)
    ]
    return sorted(rows, key=lambda row: (row.view.submitted, row.view.job_id), reverse=True)


def count_states(views: Iterable[JobView]) -> dict[str, int]:
    """How many tasks are in which state, what failed first."""
    counts: Counter[str] = Counter()
    for each in views:
        counts[each.state] += len(each.waiting) or 1
    order = ("bad", "runs", "waits", "other", "good")
    return {state: counts[state] for state in sorted(counts, key=lambda s: order.index(kind_of(s)))}


CONTROLS = re.compile(
    "[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
)
"""Control characters, those that turn or hide text, and halves of characters; but tab and newline."""
ESCAPES = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b\n]*(?:\x07|\x1b\\)|[ -/]*[0-~])"
)
"""What a terminal takes for colours, titles and the like; one without an end hides no other line."""


def visible(text: str) -> str:
    """A text in which nothing acts or hides: control characters are shown as pictures of themselves."""
    return CONTROLS.sub(_picture, text)


def _picture(found: re.Match[str]) -> str:
    code = ord(found[0])
    return chr(0x2400 + code) if code < 0x20 else "\u2421" if code == 0x7F else "\ufffd"


def output_text(tail: bytes, *, from_begin: bool) -> str:
    """The end of an output as a page shows it: as a terminal would, but without colours.

    :param from_begin: whether the tail is all of it; otherwise its first line is half a line.
    """
    text = ESCAPES.sub("", tail.decode("utf-8", "replace").replace("\r\n", "\n"))
    if not from_begin and "\n" in text[:-1]:
        text = text.partition("\n")[2]
    return "\n".join(map(_line, text.split("\n")))


def _line(text: str) -> str:
    # a progress bar goes back to the line's begin
    text = text.rstrip("\r").rpartition("\r")[2]
    if (more := len(text) - LONGEST_LINE) > 0:
        text = f"{text[:LONGEST_LINE]} … and {more:,} more characters"
    return visible(text)
