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

from collections.abc import Sequence
from enum import StrEnum

import msgspec

from airflow_provider_clusterra.api.errors import (
    ApiError,
    ClusterraError,
    ProtocolError,
    RateLimitedError,
    ServerError,
    TransportError,
)
from airflow_provider_clusterra.api.jobs import Job, one_job
from airflow_provider_clusterra.submit.finding import Found, whole_id
from airflow_provider_clusterra.submit.record import Record
from airflow_provider_clusterra.submit.tag import Tag, read_tag

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
    """What to do at the beginning of a try.

    :param ours: this try's tag.
    :param record: what Airflow remembers of the last submit, where it can.
    :param found: the jobs of this task of this run that Slurm shows.
    """
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
    """What to do about an earlier submit whose job Slurm does not show.

    :param record: of that submit; None where Airflow remembers none, and only the name was asked.
    :param told: accounting's records of it; None where the API does not offer accounting.
    :param on_unknown: ``"fail"`` or ``"submit"``: what to do where nothing can tell.
    """
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
    """Whether a record is of an earlier try of the same: not cleared since, and not changed.

    :param record: what Airflow remembers.
    :param ours: this try's tag.
    """
    tag = read_tag(record.tag)
    return tag is not None and _is_same(tag, ours)


def fate_of(error: ClusterraError) -> Fate:
    """What became of a submit that ended with this error.

    :param error: of the one POST.
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
    """Whether an adopted job's end is a cancel that had been under way before.

    :param job: as it ended.
    :param adopted_at: seconds since 1970; None where it was not adopted.
    """
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
