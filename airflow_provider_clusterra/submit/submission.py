"""One try's submit: looks, asks, cancels, adopts or submits, as the protocol decides."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import count
from typing import Any

import msgspec
from msgspec.structs import replace

from airflow_provider_clusterra.api import calls
from airflow_provider_clusterra.api.calls import Submitted
from airflow_provider_clusterra.api.client import Client
from airflow_provider_clusterra.api.errors import (
    BACKOFF,
    ONCE,
    ApiError,
    ClusterraError,
    InputError,
    NotFoundError,
)
from airflow_provider_clusterra.api.jobs import Job, JobState
from airflow_provider_clusterra.api.templates import TemplateRequest
from airflow_provider_clusterra.sbatch.job import JobRequest
from airflow_provider_clusterra.sbatch.options import job_id_of, read_dependency, settle_dependency
from airflow_provider_clusterra.submit import protocol
from airflow_provider_clusterra.submit.protocol import (
    Action,
    AnswerLostError,
    Decision,
    Failure,
    Finding,
    Identity,
    QueueFullError,
    Record,
    RetryState,
    SubmitError,
    SubmitOutcome,
    SubmitRefusedError,
    TaggedJob,
)
from airflow_provider_clusterra.submit.retries import (
    RetryOptions,
    earlier_tasks,
    job_of_try,
    refused,
    state_after,
)
from airflow_provider_clusterra.watch.arrays import (
    ArraySuccess,
    array_succeeded,
    exited_only_with,
    indices_of,
    with_earlier,
)
from airflow_provider_clusterra.watch.cancel import KillSwitch, cancel_now
from airflow_provider_clusterra.watch.receipt import records_or_none
from airflow_provider_clusterra.watch.verdict import is_same_job, records_of

log = logging.getLogger(__name__)

Request = JobRequest | TemplateRequest
KEY = "clusterra_submit"


def read_record(value: Any) -> Record | None:
    """The record, or None if there is none that can be read."""
    try:
        return msgspec.convert(value, Record)
    except msgspec.ValidationError:
        return None


class RecordStore(msgspec.Struct):
    """The task's one record in Airflow's task state store, which survives retries.

    Airflow has it from 3.3 on. Before, nothing is remembered, and the tag alone says whose a job is.
    It is read once: nobody else writes while the task runs.
    """

    store: Any
    """Airflow's, or None."""
    iteration: tuple[str, ...] = ()
    """Of a loop. Airflow's own key has it, too, but common.io's object storage backend writes the same
    iteration of all passes to one path."""
    _record: Record | None = None
    _is_read: bool = False

    @property
    def _key(self) -> str:
        return ":".join([KEY, *self.iteration])

    @property
    def lasts(self) -> bool:
        """Whether anything is remembered at all."""
        return self.store is not None

    def load(self) -> Record | None:
        """The record of the last submit, or None."""
        if self.store is not None and not self._is_read:
            self._record = read_record(self.store.get(self._key))
            self._is_read = True
        return self._record

    @property
    def retry_state(self) -> RetryState:
        """What the tries so far have brought, as the record has it."""
        record = self.load()
        return record.retry_state if record else RetryState()

    def save(self, record: Record) -> None:
        """Remember the record instead of the one before."""
        if self.store is not None:
            # as JSON has it: Airflow takes no tuples
            self.store.set(self._key, msgspec.json.decode(msgspec.json.encode(record)))
            self._record, self._is_read = record, True

    def put_back(self, record: Record | None) -> None:
        """Remember what was remembered before a submit that was none."""
        if record is None:
            self.drop()
        else:
            self.save(record)

    def save_failure(self, failure: Failure, state: RetryState | None = None) -> None:
        """Remember how the job ended."""
        self._note(failure=failure, **({"retry_state": state} if state else {}))

    def mark_done(self) -> None:
        """Remember that the task has what it wanted of its job: see :attr:`Record.done`."""
        self._note(done=True)

    def _note(self, **fields: Any) -> None:
        """Remember more of the job; if Airflow cannot, the task reports the job's end all the same."""
        try:
            record = self.load()
            if record is not None:
                self.save(replace(record, **fields))
        except Exception as error:  # noqa: BLE001 - the store's backend may raise anything
            log.warning("Airflow could not remember the job's end: %s", error)

    def mark_killed(self, *, may_have_succeeded: bool) -> None:
        """Remember of a try that is killed that nobody wants its job, unless it has succeeded."""
        record = self.load()
        if record is not None:
            unwanted = record.unwanted or not may_have_succeeded
            self.save(replace(record, killed=True, unwanted=unwanted))

    def drop(self) -> None:
        """Forget the record."""
        if self.store is not None:
            self.store.delete(self._key)
            self._record, self._is_read = None, True


DEPENDENCY_PROBLEM = 2038
"""Slurm: a dependency cannot be read, or names a job that it does not know (any more)."""


class SubmitOptions(msgspec.Struct, frozen=True):
    """How a user wants a submit to go. Times are in seconds."""

    tagged: bool = True
    """Whether the job's name says whose it is; without it nothing is adopted."""
    on_unknown: str = "fail"
    on_full_queue: str = "wait"
    timeout: float = 600.0
    """For which a submit that did not arrive is sent again."""
    confirmation_timeout: float = 60.0
    """For which the job of a lost answer is looked for."""
    array_success: ArraySuccess = "all"
    """When an array of an earlier try has succeeded."""
    skip_on: frozenset[int] = frozenset()
    """The exit codes with which a job skips its task: it is not run again."""
    retries: RetryOptions = RetryOptions()
    clears_forget: bool = False
    """Whether Airflow forgets a task's state at a clear, unless the user asks to keep it."""


class TaskJob(msgspec.Struct, frozen=True):
    """The job that this task has now."""

    job_id: int
    name: str
    """As Slurm has it; ``""`` if it carries none of ours."""
    adopted_at: float | None = None
    """Seconds since 1970; None if this try submitted it, or it had ended by then."""
    array: str = ""
    """The indices that were submitted; ``""`` if it is no array."""
    seen: Job | None = None
    """The adopted job as Slurm just showed it; None for an array or het job that has ended, since parts of
    it may no longer be shown."""


EARLIER_TRIES = 5
"""How many earlier tries' names accounting is asked for if nothing is remembered."""
LOOKS_BACK = 30 * 86400.0
"""Seconds before the last submit, or before now if nothing is remembered, from which on accounting
is asked for a name: a retry comes after its delay, and after a weekend's outage."""


class Submission(msgspec.Struct, kw_only=True):
    """One try's submit."""

    client: Client
    cluster_id: str
    identity: Identity
    options: SubmitOptions
    store: RecordStore
    kill: KillSwitch
    announce: Callable[[int], None]
    """Says at once that the job exists."""
    _state: RetryState = RetryState()
    _before: Record | None = None
    """The record of the try before."""
    _known: frozenset[int] = frozenset()
    """This task's jobs that were there before the submit."""

    def obtain_job(
        self,
        request: Request,
        prepare: Callable[[Request], Request] | None = None,
    ) -> TaskJob:
        """The task's job: one that an earlier try submitted, or a new one.

        ``prepare`` makes the request ready once it is sure that it is submitted.

        :raises QueueFullError: there is no place for it now, and ``on_full_queue`` waits for one.
        :raises SubmitError: there is no job, or none that can be known.
        """
        self._before = self.store.load()
        decision = self._decide(request) if self.options.tagged else self._decide_untagged(request)
        if decision.action is Action.FAIL:
            raise SubmitRefusedError(decision.reason)
        if decision.action is Action.ADOPT:
            return self._adopt(decision.found[0], decision.reason, request)
        for ended in decision.found:
            if reason := self._why_not_again(ended.job):
                return self._adopt(ended, reason, request)
            self._note_end(ended.job)
        if decision.reason:
            log.warning(decision.reason)
        request = self._adapt(request)
        if prepare is not None:
            self.kill.check()
            request = prepare(request)
        try:
            return self._submit(request)
        except ApiError as refusal:
            # raised again unless it is about jobs that Slurm has forgotten
            amended = self._without_forgotten(request, refusal)
        return self._submit(amended)

    def cancel_earlier(self) -> None:
        """Cancel this task's living jobs of earlier tries: there is nothing to run any more."""
        self._before = self.store.load()
        if not self.options.tagged:
            return
        for each in self._find_earlier():
            if not each.job.state.finished:
                self._cancelled(each, Finding.CHANGED)

    def _without_forgotten(self, request: Request, error: ApiError) -> Request:
        """The request without the forgotten jobs that its dependency names.

        :raises ApiError: the refusal is about something else.
        """
        amended = None
        if error.number == DEPENDENCY_PROBLEM and isinstance(request, JobRequest):
            amended = without_forgotten(self.client, self.cluster_id, request)
        if amended is None:
            raise error
        return amended

    def _decide(self, request: Request) -> Decision:
        record, tag = self._before, self.identity.tag
        if record is not None:
            # until it is decided, a kill is of that job
            find = partial(protocol.find_submitted, record.name, record.known)
            self.kill.set_target(record.living_id(tag), record.name, find)
        found = self._find_earlier()
        bodies = protocol.same_bodies(self.identity, record, found)
        decide_again = partial(
            protocol.decide, tag, record, clears_forget=self.options.clears_forget, bodies=bodies
        )
        decision = decide_again(found)
        while decision.action is Action.CANCEL:
            found = [
                self._cancelled(each, decision.reason) if each in decision.found else each
                for each in found
            ]
            decision = decide_again(found)
        self._known = frozenset(each.job.job_id for each in found)
        if record is not None and record.job_id:
            self._known |= {record.job_id}
        if decision.action is Action.ASK:
            log.info("An earlier try's job is not shown by Slurm; asking accounting.")
            return self._decide_gone(request)
        return decision

    def _decide_untagged(self, request: Request) -> Decision:
        """Nothing is looked for, but a submit of which nothing was heard is not just sent again."""
        record = self._before
        if record is None or record.job_id is not None:
            return Decision(Action.SUBMIT)
        bodies = protocol.same_bodies(self.identity, record)
        decision = protocol.decide(self.identity.tag, record, [], bodies=bodies)
        return self._decide_gone(request) if decision.action is Action.ASK else decision

    def _decide_gone(self, request: Request) -> Decision:
        record, accounts = self._before, None
        if record is None or not record.is_untraceable:
            accounts = records_or_none(partial(self._list_accounting, request))
        return protocol.decide_gone(record, accounts, self.options.on_unknown)

    def _find_earlier(self) -> list[TaggedJob]:
        """The jobs of this task's earlier tries, as far as Slurm shows them.

        A submit of which nothing was heard may still be under way: its job is waited for.
        """
        record = self._before
        if record is None and self.identity.tag.try_number <= 1:
            return []
        if record is None or record.job_id is not None or not record.name:
            return self._look_for_earlier()
        log.info("The last try was sending its submit when it died; looking for its job.")
        found: list[TaggedJob] = []
        since = max(0.0, time.time() - record.sent_at)
        for _ in self._looks(self.options.confirmation_timeout - since):
            found = self._look_for_earlier()
            if protocol.is_settled(record, found):
                break
        return found

    def _looks(self, seconds: float) -> Iterator[None]:
        """One turn for each look within so many seconds, one at least; a kill ends the pauses."""
        end = time.monotonic() + seconds
        for attempt in count(1):
            yield
            pause = BACKOFF.pause(attempt)
            if time.monotonic() + pause > end:
                return
            self.kill.pause(pause)

    def _look_for_earlier(self) -> list[TaggedJob]:
        record = self._before
        found = protocol.find_own_jobs(
            self.identity.tag, self.client.get_user, record, self.client.list_jobs(self.cluster_id)
        )
        if record is None or protocol.is_shown(record, found):
            return found
        return found + self._look_at_remembered(record)

    def _look_at_remembered(self, record: Record) -> list[TaggedJob]:
        """The job that is remembered: a list may be older than it, and not show a name of ours."""
        tag = record.tag_of_task(self.identity.tag)
        if record.job_id is None or tag is None:
            return []
        try:
            job = self.client.get_job(self.cluster_id, record.job_id)
        except NotFoundError:
            log.debug("Job %s is not shown by Slurm any more.", record.job_id)
            return []
        own = protocol.keep_own([job], [job], self.client.get_user, record)
        return [
            TaggedJob(each, tag) for each in own if is_same_job(each, record.name, record.sent_job)
        ]

    def _cancelled(self, found: TaggedJob, why: str) -> TaggedJob:
        job_id = found.job.job_id
        if why == Finding.CHANGED and self._before is not None:
            why += protocol.changed_arguments(self._before.arguments, self.identity.arguments)
        job = self._cancel(job_id)
        if job is not None and not job.state.finished:
            raise SubmitError(
                f"Job {job_id} of an earlier try was cancelled and is still {job.state}; nothing is "
                "submitted beside it."
            )
        log.info("Cancelled job %s %s.", job_id, why)
        return TaggedJob(job or replace(found.job, state=JobState("CANCELLED")), found.tag)

    def _cancel(self, job_id: int) -> Job | None:
        self.kill.set_target(job_id)
        job = self.kill.run(cancel_now(self.client.access, self.cluster_id, job_id))
        self.kill.check()
        return job

    def _list_accounting(self, request: Request) -> list[Job]:
        """What accounting knows of earlier submits, without other users' jobs."""
        accounts = self._list_all_accounting(request)
        return protocol.keep_own(accounts, accounts, self.client.get_user, self._before)

    def _list_all_accounting(self, request: Request) -> list[Job]:
        client, cluster_id, record = self.client, self.cluster_id, self._before
        if record is not None and record.job_id:
            return client.list_accounting(cluster_id, job_ids=[record.job_id])
        since = (record.sent_at if record else time.time()) - LOOKS_BACK
        names = [record.name] if record else self._earlier_names(request)
        asked = (client.list_accounting(cluster_id, job_name=each, since=since) for each in names)
        return next((accounts for accounts in asked if accounts), [])

    def _earlier_names(self, request: Request) -> list[str]:
        """What this task's earlier tries would have called the same job, the last try first."""
        last = self.identity.tag.try_number - 1
        tries = range(last, max(0, last - EARLIER_TRIES), -1) if request.name else ()
        tags = [
            replace(self.identity.tag, try_number=each, body=self.identity.body_at(each))
            for each in tries
        ]
        return [protocol.tagged_name(request.name, tag) for tag in tags]

    @property
    def _previous(self) -> Record | None:
        """The record of the last try that submitted, if the task was not cleared since."""
        names = self.options.retries.indexed_by
        return protocol.previous_of(self._before, self.identity, names)

    def _why_not_again(self, job: Job) -> str:
        """Why a job that ended badly is not followed by a new one, or ``""``."""
        whole = self._whole(job)
        if array_succeeded(whole, self.options.array_success):
            return "enough of it has succeeded"
        skips = exited_only_with(whole, self.options.skip_on)
        return "it ended with an exit code of skip_on_exit_code" if skips else ""

    def _whole(self, job: Job) -> Job:
        """An array together with what the tries before it brought."""
        last = self._previous
        return with_earlier(job, earlier_tasks(last.retry_state)) if last else job

    def _note_end(self, job: Job) -> None:
        """Remember how the last one's job ended, if that try could not."""
        last = self._previous
        if last is not None and last.failure is None and last.job_id == job.job_id:
            state = state_after(last.retry_state, self._whole(job))
            self.store.save_failure(protocol.failure_of(job), state)
            self._before = self.store.load()

    def _adapt(self, request: Request) -> Request:
        """What this try asks for."""
        retries = self.options.retries
        if not isinstance(request, JobRequest) or retries == RetryOptions():
            return request
        retries.check(request)
        if not self.store.lasts:
            log.warning(retries.needs)
        adapted, self._state = job_of_try(request, self._previous, retries)
        if adapted.array != request.array:
            log.info("Only the indices that have not succeeded run again: %s.", adapted.array)
        if self._state.failed_nodes:
            nodes = ", ".join(self._state.failed_nodes)
            log.info("Nodes that failed under earlier tries are excluded: %s.", nodes)
        if self._state.more:
            log.info("This try asks for more than the last: %s.", self._state.more)
        return adapted

    def _adopt(self, found: TaggedJob, why: str, request: Request) -> TaskJob:
        last = self._previous
        job, tag = found.job, str(found.tag)
        if last is None and self._before is not None and self._before.tag == tag:
            # a clear that keeps the task's state reconnects to the job with all that is known of it
            last = self._before
        self._state = last.retry_state if last else RetryState(array=request.array)
        self.kill.set_target(job.job_id)
        log.info(
            "Adopted job %s, which try %s submitted: %s.", job.job_id, found.tag.try_number, why
        )
        self.announce(job.job_id)
        self._remember(job.job_id, job.name, tag)
        adopted_at = None if job.state.finished else time.time()
        seen = None if job.state.finished and job.tasks else job
        return TaskJob(job.job_id, job.name, adopted_at, self._state.array, seen)

    def _submit(self, request: Request) -> TaskJob:
        name = ""
        if self.options.tagged and request.name:
            name = protocol.tagged_name(request.name, self.identity.tag)
            request = request.renamed(name)
        self._state = replace(self._state, array=request.array)
        post = calls.submit_job(self.cluster_id, request.body())
        begin = time.time()
        attempt = 0
        while True:
            attempt += 1
            self._remember(None, name, str(self.identity.tag))
            self.kill.set_target(None, name, partial(protocol.find_submitted, name, self._known))
            try:
                submitted = self.client.send(post, retry=ONCE)
            except ClusterraError as error:
                failure = error
            else:
                return self._take(submitted, name)
            found = self._recover(failure, name, begin, attempt)
            if found is not None:
                return self._take(Submitted(found), name)

    def _recover(
        self, failure: ClusterraError, name: str, begin: float, attempt: int
    ) -> int | None:
        """The job of a submit that failed; None if it may be sent again."""
        outcome = protocol.outcome_of(failure)
        if outcome is SubmitOutcome.LOST:
            return self._find_lost(failure, name, begin)
        if outcome is SubmitOutcome.NOT_ARRIVED:
            return self._look_before_resend(failure, name, begin, attempt)
        self.store.put_back(self._before)
        if outcome is SubmitOutcome.QUEUE_FULL and isinstance(failure, ApiError):
            self._raise_if_full(failure)
            if attempt == 1 and self.options.on_full_queue == "wait":
                # the jobs that filled the queue may have ended since
                return None
        raise refused(failure, self._state)

    def _raise_if_full(self, failure: ApiError) -> None:
        """Let the caller wait for a place, unless none of our jobs is there: then the job itself is too large."""
        if self.options.on_full_queue != "wait":
            return
        limit = protocol.full_queue(failure)
        if limit == protocol.UNNAMED_LIMIT:
            listed = self.client.list_jobs(self.cluster_id)
            alive = [job for job in listed if not job.state.finished]
            if not protocol.keep_own(alive, listed, self.client.get_user, self._before):
                return
        raise QueueFullError(limit) from failure

    def _look_before_resend(
        self, failure: ClusterraError, name: str, begin: float, attempt: int
    ) -> int | None:
        while True:
            pause = protocol.pause_before_resend(failure, attempt)
            if time.time() + pause > begin + self.options.timeout:
                self.store.put_back(self._before)
                raise failure
            log.warning("It was not submitted; trying again in %.0f s: %s", pause, failure)
            self.kill.pause(pause)
            found = self._look(name, begin) if name else []
            if found is not None:
                return protocol.whole_id(found[0]) if found else None
            attempt += 1

    def _find_lost(self, failure: ClusterraError, name: str, begin: float) -> int:
        log.warning("It is not sure that the job was submitted; looking for it. (%s)", failure)
        self.kill.check()
        found: list[Job] | None = None
        for _ in self._looks(self.options.confirmation_timeout):
            found = self._look(name, begin)
            if found:
                break
        if found and name:
            return protocol.whole_id(found[0])
        if found is not None and not found and not name:
            # no new job of ours: it was not submitted
            self.store.put_back(self._before)
        raise self._lost(failure, name, found) from failure

    def _lost(self, failure: ClusterraError, name: str, found: list[Job] | None) -> SubmitError:
        if found:
            numbers = ", ".join(str(job.job_id) for job in found[:20])
            return SubmitRefusedError(
                "The submit's answer was lost, and the job carries no name of ours. It may be one "
                f"of these: {numbers}. Look, cancel it or wait for it with a sensor, and then "
                "clear this task."
            )
        what = f"no job named {name!r} is there" if name else "no new job is there"
        if found is None:
            what = "the cluster does not say whether its job is there"
        kind, then = self._next_try(name, found)
        return kind(
            f"The submit's answer was lost ({failure}), and {what} after "
            f"{self.options.confirmation_timeout:.0f} s. {then}"
        )

    def _next_try(self, name: str, found: list[Job] | None) -> tuple[type[SubmitError], str]:
        """What a retry does after a lost answer; an error of the kind that allows one."""
        if name:
            words = "Nothing is submitted again before the next try has looked for it."
            return AnswerLostError, words
        if found is not None:
            return AnswerLostError, "So it counts as not submitted, and the next try submits it."
        unnamed = "The job carries no name of ours, so that no try can look for it"
        if self.options.on_unknown == "submit":
            return (
                AnswerLostError,
                f"{unnamed}; on_unknown is 'submit', so the next try submits it.",
            )
        if self.store.lasts:
            return AnswerLostError, f"{unnamed}: the next try fails, as on_unknown='fail' asks."
        look = "Look for it before you clear this task, which submits a new one."
        return SubmitRefusedError, f"{unnamed}, and on_unknown is 'fail'. {look}"

    def _look(self, name: str, begin: float) -> list[Job] | None:
        """The records that may be of the submit; None if the cluster does not answer now."""
        try:
            listed = self.client.send(calls.list_jobs(self.cluster_id), retry=ONCE)
            new = protocol.find_new(listed, begin)
            found = protocol.find_named(new, name, self._known) if name else new
            return protocol.keep_own(found, listed, self.client.get_user, self._before)
        except ClusterraError as error:
            log.debug("The job cannot be looked for now: %s", error)
            return None

    def _take(self, submitted: Submitted, name: str) -> TaskJob:
        """A job that exists now, whatever else its answer said."""
        job_id = submitted.job_id
        log.info("Submitted as job %s on cluster %s", job_id, self.cluster_id)
        self.kill.set_target(job_id)
        self._remember(job_id, name, str(self.identity.tag), unwanted=bool(submitted.problems))
        self.announce(job_id)
        for warning in submitted.warnings:
            log.warning("Slurm says of job %s: %s", job_id, warning)
        if submitted.problems:
            self._refuse(submitted)
        return TaskJob(job_id, name, array=self._state.array)

    def _refuse(self, submitted: Submitted) -> None:
        """A job that was not taken as it was asked must not run."""
        words = "; ".join(str(problem) for problem in submitted.problems)
        job = self._cancel(submitted.job_id)
        self.store.save_failure(Failure("CANCELLED"))
        state = job.state if job else "gone"
        raise SubmitRefusedError(
            f"Slurm took job {submitted.job_id} but not as it was asked, so it was cancelled and is "
            f"{state}: {words}"
        )

    def _remember(self, job_id: int | None, name: str, tag: str, *, unwanted: bool = False) -> None:
        record = Record(
            tag,
            self.identity.tag.max_tries,
            name,
            job_id,
            time.time(),
            tuple(sorted(self._known - {job_id})),
            unwanted,
            retry_state=self._state,
            arguments=self.identity.arguments,
        )
        try:
            self.store.save(record)
        except Exception as error:
            if job_id is None:
                raise
            # the job is there, and its tag says whose it is
            log.warning("Airflow could not remember job %s: %s", job_id, error)


def without_forgotten(client: Client, cluster_id: str, asked: JobRequest) -> JobRequest | None:
    """The job without the jobs that it need not wait for; None if Slurm knows all of them.

    Accounting says how a job ended that Slurm has forgotten.
    """
    text = asked.dependency
    if not text:
        return None
    clauses, _ = read_dependency(text)
    ends: dict[str, bool] = {}
    for written in dict.fromkeys(each for clause in clauses for each in clause.job_ids):
        try:
            client.get_job(cluster_id, job_id_of(written))
        except NotFoundError:
            ends[written] = _has_succeeded(client, cluster_id, written)
    if not ends:
        return None
    left = settle_dependency(text, ends)
    log.info(
        "Slurm has forgotten job %s. Accounting says that it ended as dependency=%s asks, so the "
        "job is submitted with %s.",
        ", ".join(ends),
        text,
        f"dependency={left}" if left else "no dependency",
    )
    return asked.with_dependency(left)


def _has_succeeded(client: Client, cluster_id: str, written: str) -> bool:
    ask = partial(client.list_accounting, cluster_id, job_ids=[job_id_of(written)])
    records = records_or_none(ask) or []
    return judge_dependency(written, records)


def judge_dependency(written: str, records: Iterable[Job]) -> bool:
    """Whether accounting's records say that a dependency's ``12`` or ``12_3`` has succeeded."""
    parts = _parts_of(written, records_of(job_id_of(written), records))
    if not parts:
        raise InputError(
            f"dependency: Slurm does not know job {written} (any more), and accounting does not "
            "say how it ended. Was it submitted to this cluster?"
        )
    for job in parts:
        if not job.state.ended:
            raise SubmitError(
                f"dependency: Slurm does not know job {written} any more, and accounting still says "
                f"that it is {job.state}. A retry asks again."
            )
    return all(job.state.succeeded for job in parts)


def _parts_of(written: str, records: list[Job]) -> list[Job]:
    """The records that are meant: a task's own before that of its array's rest."""
    _, _, index = written.partition("_")
    if not index.isdigit():
        return records
    own = [job for job in records if job.array_task_id == int(index)]
    return own or [job for job in records if int(index) in indices_of(job)]
