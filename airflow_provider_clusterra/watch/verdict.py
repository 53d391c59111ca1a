"""What sightings of a job and Slurm's reasons mean: wait, ended, lost, stuck, or too long.

Success is not decided here but by :meth:`~airflow_provider_clusterra.api.jobs.Job.raise_for_state`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import StrEnum

import msgspec
from msgspec.structs import replace

from airflow_provider_clusterra.api.errors import (
    BACKOFF,
    ApiError,
    ClusterraError,
    NotFoundError,
    RequestError,
    Retry,
)
from airflow_provider_clusterra.api.jobs import Job, one_job, timestamp_of
from airflow_provider_clusterra.watch.arrays import (
    Ends,
    all_indices,
    collect_ends,
    indices_of,
    is_array,
    read_indices,
    with_ends,
    write_indices,
)


class Patience(msgspec.Struct, frozen=True):
    """How long a wait distrusts an answer; in seconds, but for ``misses``."""

    grace: float = 120.0
    """After the wait's begin, a job that is not shown is only late: the API's answers come from a
    cache, and a submit takes its time to be seen."""
    misses: int = 3
    """How often in a row a job must be missing before it counts as missing."""
    min_job_age: float = 300.0
    """For so long Slurm remembers a job after its end (MinJobAge): one that was alive a moment ago
    cannot have been forgotten, whatever an answer says."""
    completing: float = 60.0
    """A job that has ended may go on cleaning up before its end counts all the same."""
    stuck: float = 60.0
    """A reason that never goes away must have been shown for so long."""
    accounting: float = 600.0
    """Accounting may say that a job still runs, or not answer, before the job is lost: slurmdbd
    hears of an end from slurmctld, which may be down."""
    ask_every: float = 15.0
    """Between two questions to accounting."""
    receipt: float = 0.0
    """After a job's end, accounting may take so long to know what it used; 0: it is not asked."""
    refused: float = 15 * 60.0
    """A session that is no longer accepted may be renewed, a connection that cannot be read become
    readable, and a gateway that refuses everything be mended."""
    undefined: float = 60.0
    """Airflow may say that there is no such connection."""
    hurry_every: float = 5.0
    """Between two looks at one job that somebody asked for."""
    backoff: Retry = BACKOFF


PATIENT = Patience(receipt=6.0)


class Outcome(StrEnum):
    """What a wait comes to."""

    WAIT = "wait"
    ENDED = "ended"
    MISSING = "missing"
    """The cluster does not show it (all) any more: accounting is to be asked."""
    LOST = "lost"
    STUCK = "stuck"
    """It will not start unless somebody acts."""
    OVERDUE = "overdue"
    """It has been pending for longer, or was started again more often, than the user allows."""
    TIMED_OUT = "timed_out"
    """The deadline has passed."""
    REFUSED = "refused"
    """No waiting can heal it: a session that is not renewed, Slurm's own no."""


class WaitSpec(msgspec.Struct, frozen=True, gc=False):
    """What is waited for, and for how long: plain values, as a trigger is stored."""

    job_id: int
    cluster_id: str = ""
    clusterra_conn_id: str = ""
    job_name: str = ""
    """The name that it was submitted under; ``""`` if that is not known."""
    since: float = msgspec.field(default_factory=time.time)
    """When the wait began, in seconds since 1970."""
    array: str = ""
    """The indices that were asked for, e.g. ``"0-99%10"``; ``""`` if it is no array, or nobody
    knows."""
    poll_interval: float | None = None
    """The longest pause between two looks, in seconds, if the author gives one."""
    deadline: float | None = None
    """Seconds since 1970."""
    limit: str = ""
    """Which limit the deadline is, in the author's message, e.g. ``"timeout=3600 s"``."""
    pending_timeout: float | None = None
    """Seconds for which it may be pending at a time."""
    max_restarts: int | None = None
    """How often Slurm may start it again."""
    on_stuck: str = "fail"
    """Whether a job that will not start ends the wait, or is only logged (``"warn"``)."""
    follow_output: bool = False
    """Whether its output goes into the log meanwhile."""
    owns_job: bool = False
    """Whether it is the task's own, and is cancelled when the wait is given up."""

    @property
    def indices(self) -> frozenset[int]:
        """Those that were asked for; none if it is no array, or nobody knows."""
        return read_indices(self.array)


class Progress(msgspec.Struct, frozen=True, gc=False):
    """What is remembered between two looks. Times are in seconds since 1970."""

    last: Job | None = None
    misses: int = 0
    missing_since: float | None = None
    accounting_since: float | None = None
    """When accounting was first asked about it."""
    completing_since: float | None = None
    pending_since: float | None = None
    has_run: bool = False
    """Whether it was seen to do more than wait."""
    stuck_since: float | None = None
    indices: frozenset[int] = frozenset()
    """Of an array: all that were ever shown."""
    ends: Ends = msgspec.field(default_factory=dict)
    requeued: Mapping[int, Job] = msgspec.field(default_factory=dict)
    """Its tasks that were seen to have been submitted again."""


class Verdict(msgspec.Struct, frozen=True, gc=False):
    """What the looks so far mean."""

    outcome: Outcome
    job: Job | None = None
    """The job as last seen."""
    message: str = ""
    """Why, if the job itself does not say it; with WAIT, what is worth a warning."""
    until: float | None = None
    """With WAIT: when the same sighting would mean something else, in seconds since 1970."""


WAIT = Verdict(Outcome.WAIT)


class _Look(msgspec.Struct, frozen=True, gc=False):
    """For which wait something was seen, and when."""

    spec: WaitSpec
    at: float
    patience: Patience


class Reason(msgspec.Struct, frozen=True):
    """What a reason means."""

    stuck: str = ""
    """Why the job will not start unless somebody acts; ``""`` if it will."""
    advice: str = ""
    """What to change in the submit."""


NORMAL = Reason()
HELD = Reason(
    "it is held, and only its user or an administrator can release it",
    "Submit it without a hold; if somebody will release it, on_stuck='warn' waits for that. An "
    "administrator's hold, and one after a failed start, only an administrator can explain.",
)
TOO_LARGE = Reason(
    "it asks for more than its account or its QOS allows one job",
    "Ask for less, or for another account= or qos=.",
)
REASONS = {
    "DependencyNeverSatisfied": Reason(
        "a job that it depends on did not end as the dependency asks",
        "See why the job in dependency= failed; afterany: instead of afterok: starts this one "
        "however that one ends.",
    ),
    "BadConstraints": Reason(
        "no node fits the constraints that it asks for",
        "Correct constraint=, or ask for less in one node.",
    ),
    "PartitionConfig": Reason(
        "no nodes of its partition can ever hold it",
        "Ask for fewer nodes, CPUs or GPUs, or for another partition=.",
    ),
    "PartitionNodeLimit": Reason(
        "it asks for more nodes than its partition allows",
        "Ask for fewer nodes=, or for another partition=.",
    ),
    "PartitionTimeLimit": Reason(
        "it asks for more time than its partition allows",
        "Ask for a shorter time_limit=, or for another partition=.",
    ),
    "InvalidAccount": Reason("its account may not run it", "Correct account=, or leave it out."),
    "InvalidQOS": Reason("its QOS may not run it", "Correct qos=, or leave it out."),
    "AccountNotAllowed": Reason(
        "its partition does not take its account", "Give another account=, or another partition=."
    ),
    "QOSNotAllowed": Reason(
        "its partition does not take its QOS", "Give another qos=, or another partition=."
    ),
    "ReservationDeleted": Reason(
        "the reservation that it asks for is gone",
        "Leave the reservation out, or name one that exists.",
    ),
    "MaxMemPerLimit": Reason(
        "it asks for more memory than its partition allows",
        "Ask for less memory=, or for another partition=.",
    ),
    "Resources": Reason(
        advice="The cluster was full: ask for less, for another partition=, or wait for longer."
    ),
    "Priority": Reason(
        advice="Others came first: ask for less, for another partition=, or wait for longer."
    ),
}
FORMS = (
    (re.compile(r"JobHeld.*|JobHold.*|.*held", re.IGNORECASE), HELD),
    # limits that a job breaks by itself, not those that it shares with others that will end
    (re.compile(r"(Assoc|Association|QOS)\w*Per(Job|Node)\w*|QOSMin\w+"), TOO_LARGE),
)


def reason_of(words: str) -> Reason:
    """What a reason means; most, such as ``BeginTime``, are normal."""
    forms = (reason for form, reason in FORMS if form.fullmatch(words))
    return REASONS.get(words) or next(forms, NORMAL)


def judge(
    spec: WaitSpec, progress: Progress, at: float, job: Job | None, patience: Patience = PATIENT
) -> tuple[Progress, Verdict]:
    """What one more look means, at ``at``; ``job`` is None if the cluster says that it knows none."""
    look = _Look(spec, at, patience)
    if job is None or _is_older(job, progress.last):
        return _judge_missing(look, progress)
    whole = _with_components(job, progress.last)
    if not is_same_job(whole, spec.job_name, progress.last):
        return progress, _replaced(spec, progress.last, job)
    seen = _remember(progress, whole)
    if not job.state.ended:
        seen = replace(seen, completing_since=None, accounting_since=None)
        return _judge_going(look, seen, whole)
    is_partial = is_array(whole) and _unended(spec, seen)
    if is_partial or not whole.state.ended:
        # its last tasks or components are shown, and others not any more
        missing = replace(seen, misses=progress.misses, missing_since=progress.missing_since)
        return _judge_missing(look, missing)
    return _judge_end(look, seen, whole)


def _replaced(spec: WaitSpec, last: Job | None, job: Job) -> Verdict:
    name = spec.job_name or (last.name if last else "")
    message = (
        f"Job {spec.job_id} is now another job, named {job.name!r} instead of {name!r}: the cluster "
        "has begun to count anew, so how our job ended is unknown."
    )
    return Verdict(Outcome.LOST, last, message)


def _judge_end(look: _Look, seen: Progress, job: Job) -> tuple[Progress, Verdict]:
    ended = with_ends(job, seen.ends) if is_array(job) else job
    since = seen.completing_since or look.at
    until = since + look.patience.completing
    if ended.state.completing and look.at < until:
        return replace(seen, completing_since=since), Verdict(Outcome.WAIT, until=until)
    return seen, Verdict(_end_of(look.spec, seen), ended)


def _with_components(job: Job, last: Job | None) -> Job:
    """A het job with the components that were seen and are not shown any more."""
    if last is None or not job.het_job_id:
        return job
    shown = {task.job_id for task in job.tasks}
    gone = [task for task in last.tasks if task.het_job_id and task.job_id not in shown]
    if not gone:
        return job
    return one_job([*job.tasks, *gone], job.job_id) or job


def is_same_job(job: Job, name: str, last: Job | None) -> bool:
    """Whether a job is the one that had its id before: a reinstalled controller counts anew.

    The ``name`` that it was submitted under decides. If either has none, a new name alone is a rename; with
    a submit that is later than the ``last`` known and that no requeue explains, it is another job.
    """
    if name and job.name:
        return job.name == name
    if last is None or (last.name and job.name in ("", last.name)):
        return True
    return job.restarts > last.restarts or not _is_older(last, job)


def _is_older(job: Job, last: Job | None) -> bool:
    """Submitted earlier than the job that was seen: a stale answer, or another job.

    A later time is a requeue, which changes it.
    """
    if last is None or last.submitted_at is None or job.submitted_at is None:
        return False
    return job.submitted_at < last.submitted_at


def _expected(spec: WaitSpec, progress: Progress) -> frozenset[int]:
    """An array's indices: those asked for, or else all that were ever shown."""
    return spec.indices or progress.indices


def _unended(spec: WaitSpec, progress: Progress) -> frozenset[int]:
    """Those of them that were not seen to end."""
    return _expected(spec, progress) - progress.ends.keys()


def _remember(progress: Progress, job: Job) -> Progress:
    last = progress.last
    if last is not None and job.submitted_at is None:
        # an API may answer with the state alone
        job = replace(job, name=job.name or last.name, submitted_at=last.submitted_at)
    seen = replace(progress, last=job, misses=0, missing_since=None)
    if not job.tasks:
        return seen
    requeued = {task.place: task for task in job.tasks if _is_older(job, task)}
    return replace(
        seen,
        indices=progress.indices | all_indices(job.tasks),
        ends=collect_ends(progress.ends, job.tasks),
        requeued={**progress.requeued, **requeued},
    )


def _judge_going(look: _Look, seen: Progress, job: Job) -> tuple[Progress, Verdict]:
    spec = look.spec
    if spec.max_restarts is not None and job.restarts > spec.max_restarts:
        message = (
            f"Slurm has started job {spec.job_id} again {job.restarts} times, and max_restarts is "
            f"{spec.max_restarts}."
        )
        return seen, Verdict(Outcome.OVERDUE, job, message)
    if job.state.base != "PENDING":
        return replace(seen, pending_since=None, stuck_since=None, has_run=True), WAIT
    since = seen.pending_since or (look.at if seen.has_run else _pending_since(look, job))
    seen = replace(seen, pending_since=since)
    waits = _judge_pending(look, since, job)
    if waits.outcome is not Outcome.WAIT:
        return seen, waits
    return _judge_reason(look, seen, job, waits)


def _pending_since(look: _Look, job: Job) -> float:
    """When its pending time began: with the wait, its last requeue, or when another task of the array last ran."""
    since = look.spec.since
    ran = [part for part in job.parts if part.state.base != "PENDING" or part.restarts]
    if not ran and not _forgotten(look.spec, job):
        return since
    # a requeue is a new submit; if nothing shows when it was, it was just now
    times = [part.submitted_at if part.restarts else part.ended_at for part in ran]
    last = max(map(timestamp_of, times), default=0) or look.at
    return min(max(since, last), look.at)


def _forgotten(spec: WaitSpec, job: Job) -> frozenset[int]:
    """The indices that were asked for and are not shown any more."""
    if any("..." in task.array_task_string for task in job.tasks):
        # Slurm cuts a long list ("1,3,..."): those that it does not name may not have begun
        return frozenset()
    return spec.indices - all_indices(job.tasks)


def _judge_pending(look: _Look, since: float, job: Job) -> Verdict:
    spec = look.spec
    if spec.pending_timeout is None:
        return WAIT
    until = since + spec.pending_timeout
    if look.at < until:
        return Verdict(Outcome.WAIT, until=until)
    reason = f" ({job.reason})" if job.reason else ""
    message = (
        f"Job {spec.job_id} has been pending{reason} for {look.at - since:.0f} s, and "
        f"pending_timeout is {spec.pending_timeout:.0f} s."
    )
    return Verdict(Outcome.OVERDUE, job, message)


def _judge_reason(
    look: _Look, seen: Progress, job: Job, waits: Verdict
) -> tuple[Progress, Verdict]:
    """Whether a pending job will ever start."""
    why = reason_of(job.reason).stuck
    if not why:
        return replace(seen, stuck_since=None), waits
    since = seen.stuck_since or look.at
    seen = replace(seen, stuck_since=since)
    until = since + look.patience.stuck
    if look.at < until:
        return seen, replace(waits, until=min(until, waits.until or until))
    message = f"Job {look.spec.job_id} will not start: {why} ({job.reason})."
    if look.spec.on_stuck == "fail":
        return seen, Verdict(Outcome.STUCK, job, message)
    return seen, replace(waits, message=message)


def _judge_missing(look: _Look, progress: Progress) -> tuple[Progress, Verdict]:
    since = progress.missing_since or look.at
    missed = replace(progress, misses=progress.misses + 1, missing_since=since)
    ended = _seen_end(look.spec, progress)
    if ended is not None:
        return missed, Verdict(_end_of(look.spec, progress), ended)
    last = progress.last
    is_late = last is None and look.at - look.spec.since < look.patience.grace
    if is_late or missed.misses < look.patience.misses:
        return missed, WAIT
    return missed, Verdict(Outcome.MISSING, last)


def _seen_end(spec: WaitSpec, seen: Progress) -> Job | None:
    """The job as it was seen to end, an array with all its tasks; None if not all of it was."""
    if seen.last is None or not seen.last.state.ended or _unended(spec, seen):
        return None
    return with_ends(seen.last, seen.ends)


def _end_of(spec: WaitSpec, seen: Progress) -> Outcome:
    """Parts may have been forgotten before the first look: indices that nobody knows, or components."""
    is_partial = _lacks_components(seen.last) or (seen.indices and not spec.array)
    return Outcome.MISSING if is_partial else Outcome.ENDED


def _lacks_components(job: Job | None) -> bool:
    """A het job has a leader, and one more component at least."""
    if job is None or job.het_job_id != job.job_id:
        return False
    if all(part.follows_leader for part in job.tasks):
        return True
    return len(job.tasks) < (len(read_indices(job.het_job_ids)) or 2)


NOT_OFFERED = (404, 405, 501)
"""What an API says of a route that it does not have; a gateway says so, too, and of all routes."""


class Silence(StrEnum):
    """What it means that accounting does not answer a question."""

    ABSENT = "there is no accounting to ask"
    REFUSED = "accounting refuses to answer"
    """Maybe not for good, because a gateway says so as well: it is asked again for :attr:`Patience.grace`."""
    LATE = "accounting does not answer"


def silence_of(error: ClusterraError) -> Silence:
    """Why accounting does not answer. Only the API's own no says at once that there is none."""
    if isinstance(error, NotFoundError):
        return Silence.ABSENT
    if isinstance(error, ApiError) and error.status in NOT_OFFERED:
        return Silence.REFUSED
    comes_back = not isinstance(error, RequestError) or error.status in (401, 429)
    return Silence.LATE if comes_back else Silence.REFUSED


def judge_accounting(
    spec: WaitSpec,
    progress: Progress,
    at: float,
    answer: Sequence[Job] | ClusterraError,
    patience: Patience = PATIENT,
) -> tuple[Progress, Verdict]:
    """What accounting's answer, or its silence, means for a job that is missing.

    RUNNING there proves nothing: the job may have ended since.
    """
    since = progress.accounting_since or progress.missing_since or at
    progress = replace(progress, accounting_since=since)
    look = _Look(spec, at, patience)
    if isinstance(answer, ClusterraError):
        return progress, _judge_silence(look, progress, answer)
    records = records_of(spec.job_id, answer, spec.job_name, progress.last)
    if _expected(spec, progress) or any(job.array_job_id == spec.job_id for job in records):
        return _judge_array(look, progress, records)
    return progress, _judge_record(look, progress, records)


def _judge_record(look: _Look, progress: Progress, records: list[Job]) -> Verdict:
    record = one_job(records, look.spec.job_id)
    if record is None:
        return _lost(look, progress, "and accounting has no record of it")
    found = _with_components(record, progress.last)
    is_known = not _outdated(record.parts, progress)
    if is_known and found.state.ended:
        return Verdict(Outcome.ENDED, found)
    still = f"still says that it is {found.state}" if is_known else "has only an earlier run of it"
    return _ask_again(look, progress, f"and accounting {still}")


def _outdated(records: Iterable[Job], progress: Progress) -> set[int]:
    """The places whose records are older than what was seen: what ran since is not in accounting yet."""
    last = progress.last
    if last is None:
        return set()
    parts = (*progress.requeued.values(), *last.parts)
    seen = {place: part for part in parts for place in _places(part)}
    tasks_were_seen = is_array(last)
    found: set[int] = set()
    for record in records:
        # an index that was not seen may be older than those that were
        unseen = None if tasks_were_seen and record.array_job_id else last
        found |= {place for place in _places(record) if _is_older(record, seen.get(place, unseen))}
    return found


def _places(part: Job) -> Collection[int]:
    """A task's indices, or a component's offset; -1: the job itself."""
    return indices_of(part) or (part.place,)


def records_of(
    job_id: int, records: Iterable[Job], name: str = "", last: Job | None = None
) -> list[Job]:
    """Accounting's last record of each part of one job, and of no other that had its number.

    Without a name, the newest is meant that may be the ``last`` known: a reinstalled controller counts
    anew.
    """
    meant = [job for job in records if job_id in job.ids]
    if not name:
        meant = _without_others(meant, last)
    named = _named(meant, name)
    newest = max(named, key=lambda job: timestamp_of(job.submitted_at), default=None)
    if newest is None:
        return []
    whole = (newest.array_job_id, newest.het_job_id)
    parts = [job for job in meant if (job.array_job_id, job.het_job_id) == whole]
    return _last_records(_of_same_name(name or newest.name, parts))


def _without_others(records: list[Job], last: Job | None) -> list[Job]:
    """A het job's components stay with their leader."""
    if not any(is_same_job(job, "", last) for job in _leaders(records)):
        return []
    return [job for job in records if job.follows_leader or is_same_job(job, "", last)]


def _named(records: list[Job], name: str) -> list[Job]:
    return [job for job in _leaders(records) if not name or job.name in ("", name)]


def _leaders(records: list[Job]) -> list[Job]:
    """Without a het job's components, which may have names of their own, unless there is nothing else."""
    return [job for job in records if not job.follows_leader] or records


def _of_same_name(name: str, parts: list[Job]) -> list[Job]:
    """Together with tasks that were renamed, and with all components unless there are two such jobs."""
    submits = {job.submitted_at for job in parts if job.name == name} - {None}
    if all(job.follows_leader or job.submitted_at in submits for job in parts):
        return parts
    return [job for job in parts if job.name in ("", name) or job.submitted_at in submits]


def _last_records(records: Iterable[Job]) -> list[Job]:
    """Accounting's last record of each job, array task and het component: a requeue makes several."""
    by_age = sorted(records, key=_order)
    last = {(job.job_id, job.array_task_id, job.het_job_offset): job for job in by_age}
    return [*last.values()]


def _order(job: Job) -> tuple[bool, float, float]:
    """A record of an index's own is later than the one that stands for all that never began."""
    return (
        job.array_task_id is not None,
        timestamp_of(job.submitted_at),
        timestamp_of(job.started_at),
    )


def _judge_array(look: _Look, progress: Progress, records: list[Job]) -> tuple[Progress, Verdict]:
    spec = look.spec
    tasks = [job for job in records if job.array_job_id == spec.job_id]
    recorded = collect_ends({}, tasks)
    outdated = _outdated(recorded.values(), progress)
    recorded = {index: end for index, end in recorded.items() if index not in outdated}
    # what was seen to end stays as it was seen: accounting may be late
    ends = {**recorded, **progress.ends}
    shown = all_indices(tasks)
    unknown = (spec.indices or progress.indices | shown) - ends.keys()
    known = replace(progress, ends=ends)
    last = progress.last or next(reversed(tasks), None)
    if not unknown and last is not None:
        return known, Verdict(Outcome.ENDED, with_ends(replace(last, job_id=spec.job_id), ends))
    if unknown & shown:
        why = "and accounting still shows some tasks as running, or an earlier run of them"
        return known, _ask_again(look, known, why)
    which = f"What became of its indices {write_indices(unknown)[:200]} is not known, "
    why = f"{which}and accounting has no record of them"
    return known, _lost(look, known, why)


def _judge_silence(look: _Look, progress: Progress, error: ClusterraError) -> Verdict:
    silence = silence_of(error)
    if silence is Silence.LATE:
        return _ask_again(look, progress, f"and {silence} ({error})")
    if silence is Silence.REFUSED and _asked_for(look, progress) < look.patience.grace:
        return Verdict(Outcome.WAIT, until=look.at + look.patience.ask_every)
    ended = _seen_end(look.spec, progress)
    if ended is not None and not _lacks_components(ended):
        # without accounting, an array is what was seen of it
        return Verdict(Outcome.ENDED, ended)
    words = f" ({error})" if silence is Silence.REFUSED else ""
    return _lost(look, progress, f"and {silence}{words}")


def _ask_again(look: _Look, progress: Progress, why: str) -> Verdict:
    if _asked_for(look, progress) < look.patience.accounting:
        return Verdict(Outcome.WAIT, until=look.at + look.patience.ask_every)
    return _lost(look, progress, why)


def _asked_for(look: _Look, progress: Progress) -> float:
    """For how many seconds accounting has been asked."""
    return look.at - (progress.accounting_since or look.at)


def _lost(look: _Look, progress: Progress, why: str) -> Verdict:
    last, job_id = progress.last, look.spec.job_id
    known_until = (progress.missing_since or look.at) + look.patience.min_job_age
    if last is not None and not last.state.ended and look.at < known_until:
        until = min(look.at + look.patience.ask_every, known_until)
        return Verdict(Outcome.WAIT, until=until)
    before = f"It was last seen {last.state}." if last else "It was never seen."
    message = (
        f"The cluster no longer knows job {job_id}, {why}, so how it ended is not known. "
        f"{before} Slurm forgets a job some minutes after its end; its output may still be there "
        f"as job_{job_id}.out."
    )
    return Verdict(Outcome.LOST, last, message)
