"""Submitting exactly once: what to do, given what is remembered and what is found.

The rules:

1. A clear changes ``max_tries``, a retry does not. A living job of another ``max_tries``, of another
   body, or of a killed try is unwanted: it is cancelled, and seen to be gone, before anything is
   submitted. If Airflow forgets a task's state at a clear, a record that is still there means that its
   user asked to reconnect: then a living job of the same body is wanted. A killed try's job that its
   cancel did not reach may succeed all the same: then it is adopted.
2. Of several living jobs the newest is wanted, the others are not.
3. A job of the same body is adopted while it is alive, and when it has succeeded. One that ended badly
   is followed by a new one, once nothing of it runs any more.
   A job whose result its task had taken is adopted by a retry, also if nothing shows it any more.
   An end that the author lets pass (``array_success``, ``skip_on_exit_code``) is no bad one.
4. If a submit is remembered and its job is not found, the job ended long ago or never was. Accounting
   is asked; if nothing knows its end, or accounting knows a job of ours that has not ended, the user's
   ``on_unknown`` decides. If nothing is remembered (before Airflow 3.3), accounting is asked for the names
   that earlier tries would have given, and what it does not know is submitted.
5. If a submit's answer is lost, the job may run: it is looked for, and the submit is not sent again.
   A submit that did not arrive is sent again after a look.
6. Only jobs of the session's own Slurm user count, if the API says who that is: names are public.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from airflow_provider_clusterra.api.errors import (
    BACKOFF,
    ApiError,
    ClusterraError,
    NotFoundError,
    ProtocolError,
    RateLimitedError,
    ServerError,
    TransportError,
    asked_pause,
)
from airflow_provider_clusterra.api.jobs import Job, JobState, one_job, timestamp_of
from airflow_provider_clusterra.watch.verdict import records_of

if TYPE_CHECKING:
    from airflow_provider_clusterra.api.calls import User


class SubmitError(ClusterraError):
    """A submit that ended without a job; its subclasses say why."""


class AnswerLostError(SubmitError):
    """A submit may have worked, and its job is not to be found: the next try looks again."""


class SubmitRefusedError(SubmitError):
    """A retry cannot succeed: somebody has to act."""


class QueueFullError(SubmitError):
    """Slurm takes no more jobs for now: there may be a place later."""


LONGEST_NAME = 200
"""Bytes of a whole name: slurmdbd keeps 255, slurmctld 1003."""
FORM = re.compile(
    r"\.af-(?P<run>[0-9a-f]{8})-(?P<task>[0-9a-f]{8})-(?P<body>[0-9a-f]{4})"
    r"-(?P<max_tries>\d+)\.(?P<try_number>\d+)\Z"
)


class Tag(msgspec.Struct, frozen=True):
    """Which try of which task submitted a job, and with which body."""

    run: str
    """8 hex digits of :func:`hash_run`."""
    task: str
    """8 hex digits of the task and its map index."""
    body: str
    """4 hex digits of what the author asks for."""
    max_tries: int
    """Airflow's: a clear changes it, a retry does not."""
    try_number: int

    def __str__(self) -> str:
        return f".af-{self.run}-{self.task}-{self.body}-{self.max_tries}.{self.try_number}"

    def is_same_task(self, other: Tag) -> bool:
        """Whether both are of one task of one run."""
        return (self.run, self.task) == (other.run, other.task)


def hash_run(deployment: str, cluster_id: str, dag_id: str, run_id: str) -> str:
    """What all jobs of one DAG run on one cluster have in common, in 8 hex digits."""
    return _hex(deployment, cluster_id, dag_id, run_id, digits=8)


def hash_task(task_id: str, map_index: int, *iteration: str) -> str:
    """What all jobs of one task of a run have in common, in 8 hex digits; in a loop, of one iteration."""
    return _hex(task_id, str(map_index), *iteration, digits=8)


SORTED = json.JSONEncoder(sort_keys=True)


def hash_body(arguments: Any) -> str:
    """What an author asks for, in 4 hex digits."""
    return _hex(SORTED.encode(_stable(arguments)), digits=4)


def map_index_of(context: Mapping[str, Any]) -> int:
    """Which of a mapped task's instances a task is; -1 if it is not mapped."""
    index = context["ti"].map_index
    return -1 if index is None else index


def iteration_of(context: Mapping[str, Any]) -> tuple[str, ...]:
    """Which iteration of a loop (Airflow 3.4) a task runs in; empty outside of loops.

    All iterations share the other names of a task, and the fields exist outside of loops as well.
    """
    ti = context["ti"]
    return (str(ti.region_id), str(ti.region_index)) if context.get("loop") else ()


class Identity(msgspec.Struct, frozen=True):
    """Which try of which task this is, and what it asks for."""

    tag: Tag
    arguments: dict[str, str]
    """The hash of each argument."""
    body_at: Callable[[int], str] = lambda _: ""
    """The hash of the body as it would have been at another try of this task."""


def identity_of(
    context: Mapping[str, Any], deployment: str, cluster_id: str, arguments: Mapping[str, Any]
) -> Identity:
    """Which try this is, of a job that is asked for with these arguments."""
    ti = context["ti"]
    hashes = {name: hash_body(value) for name, value in arguments.items()}
    run = hash_run(deployment, cluster_id, ti.dag_id, ti.run_id)
    task = hash_task(ti.task_id, map_index_of(context), *iteration_of(context))
    tag = Tag(run, task, hash_body(hashes), ti.max_tries, ti.try_number)
    return Identity(tag, hashes)


class Owner(msgspec.Struct, frozen=True):
    """Whose a job is, for a reader: what its comment says."""

    dag_id: str
    task_id: str
    map_index: int
    """-1 if the task is not mapped."""
    run_id: str
    waits: bool = True
    """Whether the task waits for its job's end."""
    is_written: bool = True
    """Whether a comment says so; otherwise it is found by its hash."""

    def comment(self, try_number: int) -> str:
        """The comment."""
        index = "" if self.map_index < 0 else f"[{self.map_index}]"
        words = f"{self.dag_id}/{self.task_id}{index}/{self.run_id}/{try_number}"
        return words if self.waits else words + NOT_AWAITED


NOT_AWAITED = " (not waited for)"
OWNER = re.compile(
    r"(?P<dag>[^/]+)/(?P<task>[^/\[]+)(?:\[(?P<index>\d+)\])?/(?P<run>.+)/\d+(?P<left> .*)?"
)


def owner_of(context: Mapping[str, Any], *, waits: bool) -> Owner:
    """The owner of the job that a task submits."""
    ti = context["ti"]
    return Owner(ti.dag_id, ti.task_id, map_index_of(context), ti.run_id, waits)


def read_owner(comment: str) -> Owner | None:
    """The owner that a comment names, or None: it may be an author's own."""
    found = OWNER.fullmatch(comment)
    if found is None or found["left"] not in (None, NOT_AWAITED):
        return None
    index = int(found["index"] or -1)
    return Owner(found["dag"], found["task"], index, found["run"], not found["left"])


def read_tag(name: str) -> Tag | None:
    """The tag at the end of a job's name, or None."""
    found = FORM.search(name)
    if found is None:
        return None
    max_tries, try_number = int(found["max_tries"]), int(found["try_number"])
    return Tag(found["run"], found["task"], found["body"], max_tries, try_number)


NOT_ASKED = ",\"'\\"
"""What accounting cannot be asked for: it takes a list of names, and quotes in it."""


def tagged_name(name: str, tag: Tag) -> str:
    """A job's name with its tag: at most :data:`LONGEST_NAME` bytes, and none of :data:`NOT_ASKED`."""
    end = str(tag)
    plain = "".join(
        [each if each.isprintable() and each not in NOT_ASKED else "_" for each in name]
    )
    return plain.encode()[: LONGEST_NAME - len(end)].decode("utf-8", "ignore") + end


def _hex(*parts: str, digits: int) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "replace")).hexdigest()[:digits]


def _stable(value: Any) -> Any:
    """A value as JSON that is the same in every process: sets are sorted, addresses left out."""
    if isinstance(value, str | int | float | None):
        return value
    if isinstance(value, Mapping):
        return {str(key): _stable(each) for key, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        # a mapped task's output is one, too: its own text only counts its values
        return [_stable(each) for each in value]
    if isinstance(value, set | frozenset):
        return sorted(SORTED.encode(_stable(each)) for each in value)
    text = str(value)
    return type(value).__qualname__ if re.search(r"\bat 0x[0-9a-f]+", text) else text


class Failure(msgspec.Struct, frozen=True):
    """How the job ended, as far as the next try needs it."""

    state: str = ""
    """Slurm's base state."""
    states: tuple[str, ...] = ()
    """All of an array's tasks that did not succeed."""
    memory_mb: int | None = None
    memory_per_cpu: bool = False
    time_limit_minutes: int | None = None
    nodes: tuple[str, ...] = ()
    """Those that failed under it."""


class RetryState(msgspec.Struct, frozen=True):
    """What the last submit asked for and the tries so far have brought."""

    array: str = ""
    """The indices that were submitted, e.g. ``"3,7-9%4"``; ``""`` if it was no array."""
    succeeded: str = ""
    """Those that have succeeded in any try, in the same form."""
    task_ids: dict[str, str] = msgspec.field(default_factory=dict)
    """Their own job ids: what to add to an index, to the indices."""
    requested: dict[str, Any] = msgspec.field(default_factory=dict)
    """The job's fields of memory and time."""
    more: str = ""
    """Both figures of what had grown, in words."""
    failed_nodes: tuple[str, ...] = ()
    """The nodes that failed under the jobs so far, the last one last."""
    written: dict[str, Any] | None = None
    """The author's own fields of memory and time, if the job asked for others."""


class Record(msgspec.Struct, frozen=True):
    """One submit: written before it as an intent, and again once there is a job."""

    tag: str
    max_tries: int
    """The task's when it submitted or adopted the job."""
    name: str = ""
    """The job's whole name; ``""`` if it carries none of ours."""
    job_id: int | None = None
    """None: the submit was about to be sent, and nothing was heard of it."""
    sent_at: float = 0.0
    """Seconds since 1970, when it was about to be sent, its answer came, or its job was adopted."""
    known: tuple[int, ...] = ()
    """This task's jobs that were there before: a try that is rescheduled has several of one tag."""
    unwanted: bool = False
    """Nobody wants it any more: its task's kill has cancelled it, or Slurm did not take it as it was
    asked."""
    killed: bool = False
    """Its task was killed, and nobody wants it unless it has succeeded all the same."""
    done: bool = False
    """The task is finished with its job. If Airflow missed the success and retries, the retry adopts the
    job; a clear submits a new one."""
    failure: Failure | None = None
    retry_state: RetryState = RetryState()
    arguments: dict[str, str] = msgspec.field(default_factory=dict)
    """Each argument's :func:`hash_body`: which one has changed."""

    def is_killed(self, job: Job) -> bool:
        """Whether nobody wants its job, as it is shown."""
        return self.unwanted or (self.killed and not job.state.ended)

    @property
    def sent_job(self) -> Job:
        """Its job, with the latest possible submit time: the cluster's clock may be ahead."""
        latest = datetime.fromtimestamp(self.sent_at + CLOCKS_DIFFER, UTC)
        return Job(self.job_id or 0, JobState("PENDING"), submitted_at=latest)

    @property
    def is_untraceable(self) -> bool:
        """Whether its job can be neither found nor cancelled, whatever it was asked for."""
        return not (self.name or self.job_id)

    def tag_of_task(self, ours: Tag) -> Tag | None:
        """Its tag, if it is of this task on this cluster."""
        tag = read_tag(self.tag)
        return tag if tag is not None and tag.is_same_task(ours) else None

    def living_id(self, ours: Tag) -> int | None:
        """The job's id, if it is of this task on this cluster and its end is not known."""
        return self.job_id if self.tag_of_task(ours) and self.failure is None else None


MOST_NODES = 16
"""Failed nodes that a retry excludes, the last ones: a cluster that loses more has another problem."""


def failure_of(job: Job | None) -> Failure:
    """What the next try needs of a job that ended badly, or was given up."""
    if job is None:
        return Failure("CANCELLED")
    bad = {task.state.base for task in job.failed_tasks}
    return Failure(
        job.state.base,
        tuple(sorted(bad)),
        job.memory_mb,
        job.memory_per_cpu,
        job.time_limit_minutes,
        tuple(failed_nodes((job, *job.tasks)))[-MOST_NODES:],
    )


def failed_nodes(jobs: Iterable[Job]) -> dict[str, Job]:
    """The nodes that failed, each with the first job that says so."""
    found: dict[str, Job] = {}
    for job in jobs:
        for node in _failed_node(job):
            found.setdefault(node, job)
    return found


def _failed_node(job: Job) -> list[str]:
    """The node that failed; none if there are several and Slurm does not name the one."""
    if job.state.base not in ("NODE_FAIL", "BOOT_FAIL"):
        return []
    is_one = job.nodes and not any(mark in job.nodes for mark in ",[")
    return [job.failed_node or job.nodes] if job.failed_node or is_one else []


class TaggedJob(msgspec.Struct, frozen=True):
    """A job that Slurm shows, and which try submitted it."""

    job: Job
    tag: Tag


def find_jobs(listed: Iterable[Job], ours: Tag) -> list[TaggedJob]:
    """The jobs of our task of our run among all, an array or a het job as one."""
    groups: dict[int, list[Job]] = {}
    tags: dict[int, Tag] = {}
    for job in listed:
        tag = read_tag(job.name)
        if tag is not None and tag.is_same_task(ours):
            groups.setdefault(whole_id(job), []).append(job)
            tags[whole_id(job)] = tag
    wholes = {number: one_job(records, number) for number, records in groups.items()}
    return [TaggedJob(job, tags[number]) for number, job in wholes.items() if job is not None]


def find_own_jobs(
    ours: Tag, get_user: Callable[[], User], record: Record | None, listed: Sequence[Job]
) -> list[TaggedJob]:
    """As :func:`find_jobs`, without the jobs of other Slurm users."""
    found = find_jobs(listed, ours)
    jobs = keep_own([each.job for each in found], listed, get_user, record)
    own = {job.job_id for job in jobs}
    return [each for each in found if each.job.job_id in own]


def is_shown(record: Record, found: Iterable[TaggedJob]) -> bool:
    """Whether the job that is remembered is among those that were found."""
    return any(each.job.job_id == record.job_id for each in found)


def same_bodies(
    identity: Identity, record: Record | None, found: Iterable[TaggedJob] = ()
) -> set[str]:
    """The hashes that this try's body had at earlier tries: of what differs because of the try."""
    tags = [each.tag for each in found]
    tags += [tag] if record and (tag := read_tag(record.tag)) else []
    others = {(tag.try_number, tag.body) for tag in tags if tag.body != identity.tag.body}
    return {body for try_number, body in others if identity.body_at(try_number) == body}


def find_run(listed: Iterable[Job], run: str) -> list[Job]:
    """The records of a run's jobs of which anything may run, now or later."""
    tags = ((job, read_tag(job.name)) for job in listed if not job.state.finished)
    return [job for job, tag in tags if tag is not None and tag.run == run]


def find_named(listed: Iterable[Job], name: str, known: Collection[int] = ()) -> list[Job]:
    """The records of exactly this name, but for jobs that were there before the submit."""
    return [job for job in listed if job.name == name and whole_id(job) not in known]


def find_submitted(
    name: str, known: Collection[int], listed: Sequence[Job], get_user: Callable[[], User]
) -> int | None:
    """The id of our job of exactly this name, if Slurm shows it."""
    named = keep_own(find_named(listed, name, known), listed, get_user)
    return whole_id(named[0]) if named else None


def whole_id(job: Job) -> int:
    """The id of the array or het job that a record is a part of, or the job's own."""
    return job.array_job_id or job.het_job_id or job.job_id


def keep_own(
    found: Sequence[Job],
    listed: Sequence[Job],
    get_user: Callable[[], User],
    record: Record | None = None,
) -> list[Job]:
    """What is found, without the jobs of other Slurm users: rule 6.

    The job whose id is remembered is ours; otherwise the API is asked who we are, if a user is shown at
    all. If its names of users are not Slurm's, all jobs are kept.
    """
    if not any(job.user for job in found):
        return list(found)
    names = _user_of(record, listed) or _names_in_slurm(get_user, {job.user for job in listed})
    return [job for job in found if not names or job.user in {"", *names}]


def _user_of(record: Record | None, listed: Iterable[Job]) -> set[str]:
    own = (record.job_id, record.name) if record else None
    return {job.user for job in listed if (whole_id(job), job.name) == own} - {""}


def _names_in_slurm(get_user: Callable[[], User], shown: Collection[str]) -> set[str]:
    try:
        user = get_user()
    except NotFoundError:
        return set()
    if user.slurm_user:
        return {user.slurm_user}
    return {user.email, user.email.partition("@")[0], user.name} & set(shown)


CLOCKS_DIFFER = 300.0
"""Seconds by which the cluster's clock may be behind ours, or ahead."""


def find_new(listed: Iterable[Job], since: float) -> list[Job]:
    """The jobs that may have been submitted since then."""
    begin = since - CLOCKS_DIFFER
    return [job for job in listed if not job.submitted_at or job.submitted_at.timestamp() >= begin]


class Finding(StrEnum):
    """What a job that is found means for this try."""

    CLEARED = "because the task was cleared"
    CHANGED = "because what the task asks for has changed"
    KILLED = "because its try was killed, or Slurm had not taken it as it was asked"
    SUPERSEDED = "because there is a newer job for this task"
    GOING = "it goes on"
    SUCCEEDED = "it has succeeded"
    CLEANING_UP = "which has ended badly and is still cleaning up"
    ENDED_BADLY = "it has ended badly"
    PAST = "it has ended, and nobody wants it"
    FINISHED_WITH = "that try had already taken its result, and Slurm no longer shows it"


class Action(StrEnum):
    """What comes next."""

    SUBMIT = "submit"
    ADOPT = "adopt"
    CANCEL = "cancel"
    """And then decide again."""
    ASK = "ask"
    """Accounting: :func:`decide_gone`."""
    FAIL = "fail"


ACTIONS = {
    Finding.CLEARED: Action.CANCEL,
    Finding.CHANGED: Action.CANCEL,
    Finding.KILLED: Action.CANCEL,
    Finding.SUPERSEDED: Action.CANCEL,
    Finding.GOING: Action.ADOPT,
    Finding.SUCCEEDED: Action.ADOPT,
    Finding.CLEANING_UP: Action.CANCEL,
}
"""The first row of which anything was found says what to do: rules 1 to 3."""


class Decision(msgspec.Struct, frozen=True):
    """What to do before a submit."""

    action: Action
    found: tuple[TaggedJob, ...] = ()
    """With ADOPT the one job, with CANCEL those to cancel, with SUBMIT the last that ended badly."""
    reason: str = ""
    """Why, for the log or the error."""


def decide(
    ours: Tag,
    record: Record | None,
    found: Iterable[TaggedJob],
    *,
    clears_forget: bool = False,
    bodies: Collection[str] = (),
) -> Decision:
    """What to do at the beginning of a try.

    ``clears_forget``: whether Airflow forgets a task's state at a clear; ``bodies``: hashes of the same
    body at other tries.
    """
    reconnects = clears_forget and record is not None
    bodies = {ours.body, *bodies}
    groups: dict[Finding, list[TaggedJob]] = {finding: [] for finding in Finding}
    for each in sorted(found, key=_order):
        finding = classify(each, ours, record, reconnects=reconnects, bodies=bodies)
        groups[finding].append(each)
    going = groups[Finding.GOING]
    groups[Finding.SUPERSEDED], groups[Finding.GOING] = going[:-1], going[-1:]
    for finding, action in ACTIONS.items():
        if jobs := groups[finding]:
            return Decision(action, tuple(jobs if action is Action.CANCEL else jobs[-1:]), finding)
    ended = groups[Finding.ENDED_BADLY]
    is_asked = _may_be_gone(ours, record, ended, bodies)
    return Decision(Action.ASK if is_asked else Action.SUBMIT, tuple(ended[-1:]))


def classify(
    each: TaggedJob,
    ours: Tag,
    record: Record | None,
    *,
    reconnects: bool,
    bodies: Collection[str],
) -> Finding:
    """What one job means."""
    recorded = record if record is not None and record.tag == str(each.tag) else None
    state = each.job.state
    unwanted = _why_unwanted(each, ours, recorded, bodies, reconnects=reconnects)
    if state.finished and (unwanted or _has_failed_parts(recorded)):
        return Finding.PAST
    if unwanted is not None:
        return unwanted
    if not state.ended:
        return Finding.GOING
    if state.succeeded:
        return Finding.SUCCEEDED
    return Finding.ENDED_BADLY if state.finished else Finding.CLEANING_UP


def _has_failed_parts(recorded: Record | None) -> bool:
    """Whether tasks of an array have failed, which Slurm may have forgotten since."""
    return recorded is not None and recorded.failure is not None and bool(recorded.failure.states)


def _why_unwanted(
    each: TaggedJob,
    ours: Tag,
    recorded: Record | None,
    bodies: Collection[str],
    *,
    reconnects: bool,
) -> Finding | None:
    max_tries = each.tag.max_tries if recorded is None else recorded.max_tries
    if recorded is not None and recorded.is_killed(each.job):
        return Finding.KILLED
    if max_tries != ours.max_tries and (each.job.state.ended or not reconnects):
        return Finding.CLEARED
    return None if each.tag.body in bodies else Finding.CHANGED


def changed_arguments(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Which arguments have other hashes than they had, in brackets; ``""`` if nobody knows."""
    changed = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    return f" ({', '.join(changed)})" if before and changed else ""


def is_same_life(record: Record, ours: Tag) -> bool:
    """Whether a record is of an earlier try of this task that has not been cleared since."""
    return record.tag_of_task(ours) is not None and record.max_tries == ours.max_tries


def previous_of(
    record: Record | None, identity: Identity, indexed_by: Iterable[str]
) -> Record | None:
    """The record of the last try that submitted, if the task was not cleared since.

    If an argument of ``indexed_by`` has changed, an array's indices stand for something else.
    """
    if record is None or not is_same_life(record, identity.tag):
        return None
    now = identity.arguments
    if all(record.arguments.get(name) == now.get(name) for name in indexed_by):
        return record
    state = replace(record.retry_state, succeeded="", task_ids={})
    return replace(record, retry_state=state)


def is_settled(record: Record, shown: Iterable[TaggedJob]) -> bool:
    """Whether a job is shown that the record's submit may have made."""
    new = (each for each in shown if each.job.job_id not in record.known)
    return any(str(each.tag) == record.tag for each in new)


def _may_be_gone(
    ours: Tag, record: Record | None, shown: Iterable[TaggedJob], bodies: Collection[str]
) -> bool:
    """Whether an earlier try may have submitted a job that is not shown, and whose end counts."""
    if record is None:
        return not any(shown) and ours.try_number > 1
    tag = read_tag(record.tag)
    is_over = record.unwanted or record.failure is not None or is_settled(record, shown)
    if is_over or not is_same_life(record, ours):
        return False
    return record.is_untraceable or (tag is not None and tag.body in bodies)


def _order(each: TaggedJob) -> tuple[int, float, int]:
    return each.tag.try_number, timestamp_of(each.job.submitted_at), each.job.job_id


def decide_gone(record: Record | None, accounts: Sequence[Job] | None, on_unknown: str) -> Decision:
    """What to do about an earlier submit whose job Slurm does not show: rule 4.

    ``accounts`` are the records of accounting, None if it cannot be asked.
    """
    job = _last_record(accounts, record) if accounts else None
    end = _end_of(job, record)
    if end is not None:
        ended, finding = end
        found = (TaggedJob(ended, _tag_of(ended, record)),)
        if finding is Finding.ENDED_BADLY:
            return Decision(Action.SUBMIT, found)
        return Decision(Action.ADOPT, found, finding)
    if job is None and _never_was(record, accounts):
        return Decision(Action.SUBMIT)
    reason = _unknown_reason(record, accounts, job)
    if on_unknown == "submit":
        return Decision(Action.SUBMIT, reason=f"{reason} on_unknown is 'submit', so it runs again.")
    advice = "Look for it before you clear this task, which submits a new one; on_unknown='submit' "
    return Decision(Action.FAIL, reason=f"{reason} {advice}would do so by itself.")


def _never_was(record: Record | None, accounts: Sequence[Job] | None) -> bool:
    # accounting has a job from its submit on
    return record is None or (accounts is not None and record.job_id is None)


def _end_of(job: Job | None, record: Record | None) -> tuple[Job, Finding] | None:
    """The job as it ended, if accounting says so, or if its task had taken its result."""
    if job is not None and job.state.ended:
        return job, Finding.SUCCEEDED if job.state.succeeded else Finding.ENDED_BADLY
    if record is None or not record.done or not record.job_id:
        return None
    return Job(record.job_id, JobState("COMPLETED"), name=record.name), Finding.FINISHED_WITH


def _last_record(accounts: Sequence[Job], record: Record | None) -> Job | None:
    """The job of the record's submit, or the newest that this may have made."""
    sent_at, known, name = (record.sent_at, record.known, record.name) if record else (0.0, (), "")
    new = [job for job in find_new(accounts, sent_at) if whole_id(job) not in known]
    newest = max(new, key=lambda job: (timestamp_of(job.submitted_at), whole_id(job)), default=None)
    number = (record and record.job_id) or (newest and whole_id(newest))
    if not number:
        return None
    sent = record.sent_job if record else None
    return one_job(records_of(number, accounts, name, sent), number)


def _tag_of(job: Job, record: Record | None) -> Tag:
    tag = read_tag(job.name) or read_tag(record.tag if record else "")
    return tag or Tag("", "", "", 0, 0)


def _unknown_reason(record: Record | None, accounts: Sequence[Job] | None, job: Job | None) -> str:
    why = (
        "there is no accounting to ask"
        if accounts is None
        else "accounting does not say how it ended"
    )
    if job is not None:
        why = f"accounting still says that it is {job.state}"
    number = (record and record.job_id) or (job and job.job_id)
    if number:
        return (
            f"An earlier try submitted job {number}; Slurm no longer shows it, and {why}. "
            f"Its output would be job_{number}.out."
        )
    what = "An earlier try may have submitted a job"
    if record is None or not record.name:
        return f"{what}, which carries no name of ours and cannot be looked for."
    return f"{what} named {record.name!r}; Slurm does not show it (any more), and {why}."


class SubmitOutcome(StrEnum):
    """What became of a submit that ended with an error."""

    REFUSED = "refused"
    QUEUE_FULL = "queue full"
    """Slurm takes no more jobs for now."""
    NOT_ARRIVED = "not arrived"
    LOST = "lost"
    """It may have worked."""


NEVER_TAKEN = (1800, 1804, 1805)
"""Slurm's numbers of a submit that never reached slurmctld, or that it had no time for (rate limits)."""
OWN_WORDS = (503, 511)
"""Statuses with which Slurm or the server itself says, in JSON, that it took nothing in: unavailable,
or at odds with its own slurmctld. A gateway says them as well, after its upstream died with the
request."""
NOTHING_TAKEN = (None, 1007)
"""Slurm's numbers with such a status that say so: none, or SLURM_PROTOCOL_AUTHENTICATION_ERROR. With
any other it may be Slurm's answer that was lost on its way."""
MAY_HAVE_ARRIVED = (408, 425)
STALE_FOR = 5.0
"""Seconds for which a list may be older than a submit that was answered with 503: a service that is
overloaded is one behind a cache, too."""


def outcome_of(error: ClusterraError) -> SubmitOutcome:
    """What became of a submit that ended with this error: rule 5.

    The API answers 500 to users' errors as well, then with Slurm's own error number.
    """
    if isinstance(error, TransportError):
        return SubmitOutcome.LOST if error.may_have_arrived else SubmitOutcome.NOT_ARRIVED
    if isinstance(error, ApiError):
        return _outcome_of_answer(error)
    return SubmitOutcome.LOST if isinstance(error, ProtocolError) else SubmitOutcome.REFUSED


def _outcome_of_answer(error: ApiError) -> SubmitOutcome:
    own_word = error.number is not None or error.in_own_words
    if isinstance(error, RateLimitedError) or error.number in NEVER_TAKEN:
        return SubmitOutcome.NOT_ARRIVED
    if full_queue(error):
        return SubmitOutcome.QUEUE_FULL
    if error.status in OWN_WORDS and own_word and error.number in NOTHING_TAKEN:
        return SubmitOutcome.NOT_ARRIVED
    if isinstance(error, ServerError) or error.status in MAY_HAVE_ARRIVED:
        return SubmitOutcome.LOST
    return SubmitOutcome.REFUSED


POLICY = 2050
"""Slurm's ESLURM_ACCOUNTING_POLICY: a limit on jobs, or on one job's size or time."""
MOST_JOBS = (11, 2007)
"""Slurm has as many jobs as ``MaxJobCount``; before 26.05 it says EAGAIN."""
LIMIT = re.compile(r"\b(?:Assoc|QOS)[A-Z]\w+")
"""A reason that names the limit, as in ``AssocMaxSubmitJobLimit``."""


def full_queue(error: ApiError) -> str:
    """Which limit on jobs refused a submit, in words; ``""`` if it was none.

    slurmrestd 26.05 does not say whether it was a limit on jobs or on the job: then it may be both.
    """
    reason = LIMIT.search(error.detail or str(error))
    if error.number in MOST_JOBS or "temporarily unable to accept" in error.detail:
        return "MaxJobCount"
    if error.number != POLICY or (reason and "Submit" not in reason[0]):
        return ""
    return reason[0] if reason else UNNAMED_LIMIT


UNNAMED_LIMIT = "Slurm does not say which limit: on jobs, or on this job's size or time"


def pause_before_resend(error: ClusterraError, attempt: int) -> float:
    """Seconds after a submit that did not arrive before it is looked for and sent again."""
    status = error.status if isinstance(error, ApiError) else None
    return max(
        asked_pause(error) or 0.0, BACKOFF.pause(attempt), STALE_FOR if status in OWN_WORDS else 0.0
    )


REPLACED_WITHIN = 120.0
"""Seconds after its adoption in which a job that is cancelled had been cancelled before: by the end
of the try that submitted it."""


def is_replaced(job: Job | None, adopted_at: float | None) -> bool:
    """Whether an adopted job's end is a cancel that had been under way before."""
    if adopted_at is None or job is None or job.state.base != "CANCELLED":
        return False
    return job.ended_at is None or job.ended_at.timestamp() - adopted_at < REPLACED_WITHIN
