"""Submitting exactly once: what to do, given what is remembered and what is found.

The rules (T is a task's try; "found" are the jobs that Slurm shows for this task of this run):

1. A clear changes ``max_tries``, a retry does not. A found job of another ``max_tries``, or of a
   killed try, is unwanted: it is cancelled, and seen to be gone, before anything is submitted.
2. So is a found job of the same ``max_tries`` and another body: its script has changed.
3. A found job of the same body is adopted while it is alive, and when it has succeeded. One that
   ended badly is followed by a new one, once nothing of it runs any more.
4. A submit that is remembered and not found: its job has ended long ago, or never was. Accounting
   tells; where nothing can tell, the user's ``on_unknown`` decides.
5. An answer that is lost may be of a job that runs: it is looked for, and the submit is not sent
   again. What surely did not arrive is looked for once, and sent again.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

import msgspec
from airflow.providers.common.compat.sdk import conf
from msgspec.structs import replace

from airflow_provider_clusterra.api.errors import (
    ApiError,
    ClusterraError,
    InputError,
    ProtocolError,
    RateLimitedError,
    ServerError,
    TransportError,
)
from airflow_provider_clusterra.api.jobs import Job, one_job
from airflow_provider_clusterra.api.templates import JOB_NAME, CheckedParams
from airflow_provider_clusterra.sbatch.job import JobRequest
from airflow_provider_clusterra.watch.arrays import ArraySuccess

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


def hash_task(task_id: str, map_index: int) -> str:
    """What all jobs of one task of a run have in common, in 8 hex digits."""
    return _hex(task_id, str(map_index), digits=8)


def hash_body(identity: Any) -> str:
    """What an author asks for, in 4 hex digits."""
    return _hex(json.dumps(identity, sort_keys=True, default=str), digits=4)


def read_tag(name: str) -> Tag | None:
    """The tag at the end of a job's name, or None where it has none."""
    found = FORM.search(name)
    if found is None:
        return None
    tries = (int(found["max_tries"]), int(found["try_number"]))
    return Tag(found["run"], found["task"], found["body"], *tries)


def tagged_name(name: str, tag: Tag) -> str:
    """A job's name with its tag: at most :data:`LONGEST_NAME` bytes, no control characters."""
    plain = "".join(each if each.isprintable() else "_" for each in name)
    room = LONGEST_NAME - len(str(tag))
    return plain.encode()[:room].decode("utf-8", "ignore") + str(tag)


def _hex(*parts: str, digits: int) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:digits]


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
    """The record, or None where there is none that can be read."""
    try:
        return msgspec.convert(value, Record)
    except msgspec.ValidationError:
        return None


def failure_of(job: Job | None) -> Failure:
    """What the next try needs of a job that ended badly, or was given up."""
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


class TemplateRequest(msgspec.Struct, frozen=True):
    """A template's values: a value until its POST renders it."""

    checked: CheckedParams
    name: str = ""
    """The job's name, if the template takes one; otherwise ``""``."""
    array: str = ""

    def renamed(self, name: str) -> TemplateRequest:
        """The job under another name."""
        return replace(self.with_params({JOB_NAME: name}), name=name)

    def with_params(self, params: Mapping[str, Any]) -> TemplateRequest:
        """The template with other values."""
        checked = replace(self.checked, params={**self.checked.params, **params})
        return replace(self, checked=checked)

    def body(self) -> dict[str, Any]:
        """The submit's JSON body."""
        return self.checked.body()


class Request(msgspec.Struct, frozen=True):
    """A submit as an operator makes it."""

    job: JobRequest | TemplateRequest
    identity: Any
    """What the author asks for, as plain values: the same at every try, whatever is uploaded, grown
    or chosen for one of them."""
    kept: Kept = Kept()
    """What the next try needs to know of it."""

    @property
    def name(self) -> str:
        """The job's name; ``""`` if the job cannot carry a name of ours."""
        return self.job.name

    @property
    def array(self) -> str:
        """The indices asked for, e.g. ``"0-99%10"``; ``""`` if it is no array."""
        return self.job.array

    def tagged(self, tag: Tag) -> Request:
        """The request whose job carries the tag, if it can carry a name."""
        if not self.name:
            return self
        return replace(self, job=self.job.renamed(tagged_name(self.name, tag)))


CLOCKS_DIFFER = 300.0
"""Seconds by which the cluster's clock may be behind ours."""


class Found(msgspec.Struct, frozen=True):
    """A job that Slurm shows, and which try submitted it."""

    job: Job
    tag: Tag

    @property
    def alive(self) -> bool:
        """Whether anything of it may run, now or later."""
        return not self.job.state.finished


def find_jobs(listed: Sequence[Job], ours: Tag) -> list[Found]:
    """The jobs of our task of our run among all, an array or a het job as one."""
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
    """The ids of a run's jobs of which anything may run, now or later."""
    tags = ((job, read_tag(job.name)) for job in listed)
    ours = [job for job, tag in tags if tag is not None and tag.run == run]
    alive = [job for job in ours if not job.state.finished]
    return sorted({whole_id(job) for job in alive})


def find_named(listed: Sequence[Job], name: str) -> int | None:
    """The id of the job of exactly this name, or None; of an array or a het job, the whole's."""
    found = next((job for job in listed if job.name == name), None)
    return None if found is None else whole_id(found)


def whole_id(job: Job) -> int:
    """The id of the array or het job that a record is a part of, or the job's own."""
    return job.array_job_id or job.het_job_id or job.job_id


def find_candidates(listed: Sequence[Job], since: float, user: str) -> list[Job]:
    """The jobs that may be of a submit whose answer was lost, where they carry no name of ours."""
    begin = since - CLOCKS_DIFFER
    new = [job for job in listed if not job.submitted_at or job.submitted_at.timestamp() >= begin]
    names = {user, user.partition("@")[0]}
    if any(job.user in names for job in listed):
        return [job for job in new if job.user in names]
    return new


class Held(msgspec.Struct, frozen=True):
    """A job that this task holds now."""

    job_id: int
    name: str
    """As Slurm has it; ``""`` where it carries none of ours."""
    adopted_at: float | None = None
    """Seconds since 1970; None where this try submitted it."""
    array: str = ""
    """The indices that were submitted; ``""`` where it is no array."""
    ended: Job | None = None
    """Set where an adopted job had succeeded already."""


ON_UNKNOWN = ("fail", "submit")


class Terms(msgspec.Struct, frozen=True):
    """How a user wants a submit to go. Times are in seconds."""

    tagged: bool = True
    """Whether the job's name says whose it is; without it nothing is adopted."""
    on_unknown: str = "fail"
    timeout: float = 600.0
    """For which a submit that did not arrive is sent again."""
    confirmation_timeout: float = 60.0
    """For which the job of a lost answer is looked for."""
    array_success: ArraySuccess = "all"
    """When an array of an earlier try has succeeded."""


def check_on_unknown(on_unknown: str) -> None:
    """Refuse what is no way of going on where nothing can tell.

    :raises InputError: it is not one of :data:`ON_UNKNOWN`.
    """
    if on_unknown not in ON_UNKNOWN:
        raise InputError(f"on_unknown is {on_unknown!r}; it can be 'fail' or 'submit'.")


def tag_of(ti: Any, instance: str | None, cluster_id: str, identity: Any) -> Tag:
    """The tag of one try of a task."""
    return Tag(
        hash_run(deployment_of(instance), cluster_id, ti.dag_id, ti.run_id),
        hash_task(ti.task_id, -1 if ti.map_index is None else ti.map_index),
        hash_body(identity),
        ti.max_tries,
        ti.try_number,
    )


def deployment_of(instance: str | None) -> str:
    """What tells this Airflow from others on the same cluster."""
    return instance or str(conf.get("api", "base_url", fallback=""))


REPLACED_WITHIN = 120.0
"""Seconds after its adoption in which a job that is cancelled had been cancelled before: by the end
of the try that submitted it."""
NO_CONTROLLER = 1800
"""Slurm's SLURMCTLD_COMMUNICATIONS_CONNECTION_ERROR: the submit never reached slurmctld."""
NOT_TAKEN = (503, 511)
"""Statuses of a service that took nothing in: unavailable, or at odds with its own slurmctld."""
REQUEST_TIMEOUT = 408


class Action(StrEnum):
    """What comes next."""

    SUBMIT = "submit"
    ADOPT = "adopt"
    CANCEL = "cancel"
    """And then submit."""
    ASK = "ask"
    """Accounting, and then decide again: :func:`decide_gone`."""
    FAIL = "fail"


class Decision(msgspec.Struct, frozen=True):
    """What to do before a submit."""

    action: Action
    found: tuple[Found, ...] = ()
    """With ADOPT the one job, with CANCEL those to cancel, with SUBMIT the last that ended badly."""
    words: str = ""
    """Why, for the log or the error."""


class Fate(StrEnum):
    """What became of a submit that ended with an error."""

    REFUSED = "refused"
    NOT_ARRIVED = "not arrived"
    LOST = "lost"
    """It may have worked."""


def decide(ours: Tag, record: Record | None, found: Sequence[Found]) -> Decision:
    """What to do at the beginning of a try."""
    unwanted = tuple(each for each in found if each.alive and _is_unwanted(each, ours, record))
    if unwanted:
        return Decision(Action.CANCEL, unwanted, _why_unwanted(unwanted[0], ours))
    mine = [each for each in found if _is_same(each.tag, ours)]
    mine = [each for each in mine if not _is_unwanted(each, ours, record)]
    mine = [each for each in mine if each.alive or not _has_failed_parts(each, record)]
    going = [each for each in mine if not each.job.state.ended]
    if going:
        newest = max(going, key=_order)
        others = tuple(each for each in going if each is not newest)
        if others:
            return Decision(Action.CANCEL, others, "there is a newer job for this task")
        return Decision(Action.ADOPT, (newest,), "it goes on")
    succeeded = [each for each in mine if each.job.state.succeeded]
    if succeeded:
        return Decision(Action.ADOPT, (max(succeeded, key=_order),), "it has succeeded")
    cleaning = tuple(each for each in mine if each.alive)
    if cleaning:
        return Decision(Action.CANCEL, cleaning, "it has ended badly and is still cleaning up")
    is_asked = _may_be_gone(ours, record, mine)
    ended = tuple(sorted(mine, key=_order)[-1:])
    return Decision(Action.ASK if is_asked else Action.SUBMIT, ended)


def decide_gone(record: Record | None, told: Sequence[Job] | None, on_unknown: str) -> Decision:
    """What to do about an earlier submit whose job Slurm does not show."""
    job = None
    if told:
        job = _last_record(told, (record and record.job_id) or whole_id(told[0]))
    if job is not None and job.state.succeeded:
        return Decision(Action.ADOPT, (Found(job, _tag_of(job, record)),), "it has succeeded")
    if job is not None and job.state.ended:
        return Decision(Action.SUBMIT, (Found(job, _tag_of(job, record)),))
    if record is None or (told is not None and job is None and record.job_id is None):
        # accounting keeps a job from its submit on: what it does not know was never submitted
        return Decision(Action.SUBMIT)
    words = _unknown_words(record, told, job)
    if on_unknown == "submit":
        return Decision(Action.SUBMIT, words=f"{words} on_unknown is 'submit', so it runs again.")
    return Decision(
        Action.FAIL,
        words=f"{words} Look for it before you clear this task, which submits a new one; "
        "on_unknown='submit' would do so by itself.",
    )


def is_same_submit(record: Record, ours: Tag) -> bool:
    """Whether a record is of an earlier try of the same: not cleared since, and not changed."""
    tag = read_tag(record.tag)
    return tag is not None and _is_same(tag, ours)


def fate_of(error: ClusterraError) -> Fate:
    """What became of a submit that ended with this error.

    :source: design of the API: no idempotency key, and 500 for users' errors as well (then with
        Slurm's own error number).
    """
    if isinstance(error, TransportError) and not error.may_have_arrived:
        return Fate.NOT_ARRIVED
    if isinstance(error, TransportError | ProtocolError):
        return Fate.LOST
    if isinstance(error, ApiError):
        if isinstance(error, RateLimitedError) or error.status in NOT_TAKEN:
            return Fate.NOT_ARRIVED
        if error.number == NO_CONTROLLER:
            return Fate.NOT_ARRIVED
        if isinstance(error, ServerError) or error.status == REQUEST_TIMEOUT:
            return Fate.LOST
    return Fate.REFUSED


def is_replaced(job: Job | None, adopted_at: float | None) -> bool:
    """Whether an adopted job's end is a cancel that had been under way before."""
    if adopted_at is None or job is None or job.state.base != "CANCELLED":
        return False
    return job.ended_at is None or job.ended_at.timestamp() - adopted_at < REPLACED_WITHIN


def _is_same(tag: Tag, ours: Tag) -> bool:
    return (tag.max_tries, tag.body) == (ours.max_tries, ours.body)


def _is_unwanted(each: Found, ours: Tag, record: Record | None) -> bool:
    killed = record is not None and record.unwanted and record.tag == str(each.tag)
    return killed or not _is_same(each.tag, ours)


def _has_failed_parts(each: Found, record: Record | None) -> bool:
    """Whether tasks of it are known to have failed, which Slurm may have forgotten since."""
    failure = record.failure if record and record.tag == str(each.tag) else None
    return failure is not None and bool(failure.states)


def _why_unwanted(each: Found, ours: Tag) -> str:
    if each.tag.max_tries != ours.max_tries:
        return "because the task was cleared"
    if each.tag.body != ours.body:
        return "because what the task asks for has changed"
    return "because its try was killed, or Slurm had not taken it as it was asked"


def _may_be_gone(ours: Tag, record: Record | None, shown: Sequence[Found]) -> bool:
    """Whether an earlier try may have submitted a job that is not shown, and whose end counts."""
    if record is None:
        return not shown and ours.try_number > 1
    if record.unwanted or record.failure is not None:
        return False
    is_shown = any(str(each.tag) == record.tag for each in shown)
    return not is_shown and is_same_submit(record, ours)


def _order(each: Found) -> tuple[int, float]:
    submitted = each.job.submitted_at
    return each.tag.try_number, submitted.timestamp() if submitted else 0.0


def _last_record(told: Sequence[Job], number: int) -> Job | None:
    """Of a requeued job there are several records; the last one tells."""
    latest: dict[tuple[int, int | None], Job] = {}
    for job in sorted(
        told, key=lambda each: each.submitted_at.timestamp() if each.submitted_at else 0
    ):
        latest[job.job_id, job.array_task_id] = job
    return one_job(list(latest.values()), number)


def _tag_of(job: Job, record: Record | None) -> Tag:
    tag = read_tag(job.name) or read_tag(record.tag if record else "")
    return tag or Tag("", "", "", 0, 0)


def _unknown_words(record: Record, told: Sequence[Job] | None, job: Job | None) -> str:
    why = "there is no accounting to ask" if told is None else "accounting does not tell its end"
    if job is not None:
        why = f"accounting still says that it is {job.state}"
    if record.job_id is None:
        named = f" named {record.name!r}" if record.name else ", which carries no name of ours"
        what = f"An earlier try may have submitted a job{named}"
        return f"{what}; Slurm does not show it (any more), and {why}."
    return (
        f"An earlier try submitted job {record.job_id}; Slurm no longer shows it, and {why}. "
        f"Its output would be job_{record.job_id}.out."
    )
