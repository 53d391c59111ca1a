"""One try's submit: looks, asks, cancels, adopts or submits, as the protocol decides."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from airflow.providers.common.compat.sdk import AirflowFailException, Context
from msgspec.structs import replace

from airflow_provider_clusterra.api import calls
from airflow_provider_clusterra.api.client import Client
from airflow_provider_clusterra.api.errors import (
    ApiError,
    ClusterraError,
    NotFoundError,
    RequestError,
)
from airflow_provider_clusterra.api.jobs import Job
from airflow_provider_clusterra.api.readers import Submitted
from airflow_provider_clusterra.api.retry import ONCE, Retry
from airflow_provider_clusterra.api.slurm import JobState
from airflow_provider_clusterra.submit.kill import KillSwitch, TaskKilledError
from airflow_provider_clusterra.submit.protocol import (
    Action,
    Decision,
    Failure,
    Fate,
    Found,
    Held,
    Kept,
    Record,
    Request,
    Tag,
    Terms,
    decide,
    decide_gone,
    failure_of,
    fate_of,
    find_candidates,
    find_jobs,
    find_named,
    is_same_submit,
    read_record,
    read_tag,
    tagged_name,
)
from airflow_provider_clusterra.submit.retries import NEEDS, Again, ask_again, kept_after, refused
from airflow_provider_clusterra.task.report import SubmitLostError
from airflow_provider_clusterra.watch.arrays import array_succeeded
from airflow_provider_clusterra.watch.cancel import cancel_now

log = logging.getLogger(__name__)

KEY = "clusterra_submit"


class RecordStore:
    """The task's one record in Airflow's task state store, which survives retries and clears.

    Airflow has it from 3.3 on. Before, nothing is remembered, and the tag alone tells.
    """

    def __init__(self, context: Context) -> None:
        self._store: Any = context.get("task_state_store")

    @property
    def lasts(self) -> bool:
        """Whether anything is remembered at all."""
        return self._store is not None

    def load(self) -> Record | None:
        """The record of the last submit that did not end well, or None."""
        return None if self._store is None else read_record(self._store.get(KEY))

    def save(self, record: Record) -> None:
        """Remember the record instead of the one before."""
        if self._store is not None:
            self._store.set(KEY, record.to_json())

    def put_back(self, record: Record | None) -> None:
        """Remember what was remembered before a submit that was none."""
        if record is None:
            self.drop()
        else:
            self.save(record)

    def save_failure(self, failure: Failure, kept: Kept | None = None) -> None:
        """Remember how the job ended, where Airflow can: the end itself is the task's to tell."""
        try:
            record = self.load()
            if record is not None:
                self.save(replace(record, failure=failure, kept=kept or record.kept))
        except Exception as error:  # noqa: BLE001 - whatever it is, the job's end is told
            log.warning("Airflow could not remember how the job ended: %s", error)

    @contextmanager
    def told_of_kills(self, *, wanted: bool) -> Iterator[None]:
        """Remember of a try that is killed that nobody wants its job any more."""
        try:
            yield
        except TaskKilledError:
            record = None if wanted else self.load()
            if record is not None:
                # as far as the time lasts that Airflow gives
                self.save(replace(record, unwanted=True))
            raise

    def drop(self) -> None:
        """Forget the record: a task that is cleared after its success runs a new job."""
        if self._store is not None:
            self._store.delete(KEY)


PAUSES = Retry(first=1.0, cap=30.0)


class Search:
    """Looks for one job."""

    def __init__(self, client: Client, cluster_id: str, name: str, since: float) -> None:
        self._client = client
        self._cluster_id = cluster_id
        self._name = name
        self._since = since
        self.told = False
        """Whether the last look told anything."""

    def look(self) -> int | None:
        """The job's id; None where it is not shown, or where nothing tells now.

        :raises AirflowFailException: it has no name of ours, and may be one of several.
        """
        self.told = False
        try:
            jobs = self._client.send(calls.list_jobs(self._cluster_id), retry=ONCE)
            user = "" if self._name else self._client.send(calls.get_user(), retry=ONCE).email
        except ClusterraError as error:
            log.debug("The job cannot be looked for now: %s", error)
            return None
        self.told = True
        if self._name:
            return find_named(jobs, self._name)
        candidates = find_candidates(jobs, self._since, user)
        if candidates:
            numbers = ", ".join(str(job.job_id) for job in candidates[:20])
            raise AirflowFailException(
                "The submit's answer was lost, and the job carries no name of ours. It may be one "
                f"of these: {numbers}. Look, cancel it or wait for it with a sensor, and then "
                "clear this task."
            )
        return None

    def look_for_a_while(self, patience: float, kill: KillSwitch) -> int | None:
        """As :meth:`look`, with growing pauses until it is there.

        :raises TaskKilledError: the task is being killed.
        """
        end = time.monotonic() + patience
        attempt = 0
        while True:
            attempt += 1
            kill.check()
            job_id = self.look()
            pause = PAUSES.pause(attempt)
            if job_id is not None or time.monotonic() + pause > end:
                return job_id
            kill.pause(pause)


class EarlierJobs:
    """The jobs of a task's earlier tries, as far as Slurm shows them."""

    def __init__(self, client: Client, cluster_id: str, ours: Tag, record: Record | None) -> None:
        self._client = client
        self._cluster_id = cluster_id
        self._ours = ours
        self._record = record

    def find(self, patience: float, kill: KillSwitch) -> list[Found]:
        """All of them; a task's first try has none, and does not look.

        A submit of which nothing was heard may still be under way: its job is waited for.

        :raises TaskKilledError: the task is being killed.
        """
        if self._record is None and self._ours.try_number <= 1:
            return []
        age = 0.0 if self._record is None else max(0.0, time.time() - self._record.sent_at)
        end = time.monotonic() + patience - age
        attempt = 0
        while True:
            attempt += 1
            found = self._look()
            pause = PAUSES.pause(attempt)
            if not self._is_awaited(found) or time.monotonic() + pause > end:
                return found
            if attempt == 1:
                log.info("The last try was sending its submit when it died; looking for its job.")
            kill.pause(pause)

    def _look(self) -> list[Found]:
        found = find_jobs(self._client.list_jobs(self._cluster_id), self._ours)
        record = self._record
        tag = read_tag(record.tag) if record else None
        if record is None or record.job_id is None or tag is None:
            return found
        if tag.is_same_task(self._ours) and record.job_id not in {x.job.job_id for x in found}:
            try:
                job = self._client.get_job(self._cluster_id, record.job_id)
            except NotFoundError:
                log.debug("Job %s is not shown by Slurm any more.", record.job_id)
                return found
            if record.name in ("", job.name):
                # the list may be older than the job, and does not show a name that is not ours
                found.append(Found(job, tag))
        return found

    def _is_awaited(self, found: list[Found]) -> bool:
        record = self._record
        if record is None or record.job_id is not None or not record.name:
            return False
        return all(str(each.tag) != record.tag for each in found)


EARLIER_TRIES = 5
"""How many earlier tries' names accounting is asked for where nothing is remembered."""
LOOKS_BACK = 30 * 86400.0
"""Seconds before the last submit, or before now where nothing is remembered, from which on accounting
is asked for a name: a retry comes after its delay, and after a weekend's outage."""
NOT_ANSWERED = (401, 429)
"""Statuses that do not say whether the API offers accounting."""


class Submission:
    """One try's submit."""

    def __init__(
        self,
        client: Client,
        cluster_id: str,
        tag: Tag,
        *,
        terms: Terms,
        store: RecordStore,
        kill: KillSwitch,
        again: Again,
        announce: Callable[[int], None],
    ) -> None:
        self._client = client
        self._cluster_id = cluster_id
        self._tag = tag
        self._terms = terms
        self._store = store
        self._kill = kill
        self._again = again
        self._announce = announce
        self._earlier = EarlierTries(store, tag)
        self._kept = Kept()
        self._before: Record | None = None

    def hold(
        self,
        request: Request,
        prepare: Callable[[Request], Request],
        amend: Callable[[Request, ApiError], Request],
    ) -> Held:
        """The task's job: one that an earlier try submitted, or a new one.

        :raises InputError: a retry cannot be what the user wants of it.
        :raises AirflowFailException: nothing can tell what became of an earlier submit; or the job
            was not taken as it was asked.
        :raises SubmitLostError: the answer was lost, and no job is to be found.
        :raises TaskKilledError: the task is being killed.
        :raises ClusterraError: the API refused, or did not answer.
        """
        self._again.check(request)
        decision = self._decide(request) if self._terms.tagged else Decision(Action.SUBMIT)
        if decision.action is Action.FAIL:
            raise AirflowFailException(decision.words)
        if decision.action is Action.ADOPT:
            return self._adopt(decision.found[0], decision.words, request)
        for ended in decision.found:
            if array_succeeded(ended.job, self._terms.array_success):
                return self._adopt(ended, "enough of it has succeeded", request)
            self._earlier.note_end(ended.job)
        if decision.words:
            log.warning(decision.words)
        self._kill.check()
        prepared = prepare(self._earlier.ask_again(request, self._again))
        tagged = prepared.tagged(self._tag) if self._terms.tagged else prepared
        try:
            return self._submit(tagged)
        except ApiError as error:
            refusal = error
        return self._submit(amend(tagged, refusal))

    def _decide(self, request: Request) -> Decision:
        record = self._store.load()
        if record is not None:
            # until it is decided, a kill is of that job
            self._kill.aim(None, record.name)
        earlier = EarlierJobs(self._client, self._cluster_id, self._tag, record)
        found = earlier.find(self._terms.confirmation_timeout, self._kill)
        decision = decide(self._tag, record, found)
        while decision.action is Action.CANCEL:
            gone = {id(each): self._cancelled(each, decision.words) for each in decision.found}
            found = [gone.get(id(each), each) for each in found]
            decision = decide(self._tag, record, found)
        if decision.action is Action.ASK:
            log.info("An earlier try's job is not shown by Slurm; asking accounting.")
            told = self._ask_accounting(record, request)
            decision = decide_gone(record, told, self._terms.on_unknown)
        return decision

    def _cancelled(self, found: Found, why: str) -> Found:
        job_id = found.job.job_id
        self._kill.aim(job_id)
        job = self._kill.run(cancel_now(self._client.access, self._cluster_id, job_id))
        self._kill.check()
        if job is not None and not job.state.finished:
            raise SubmitLostError(
                f"Job {job_id} of an earlier try was cancelled and is still {job.state}; nothing is "
                "submitted beside it."
            )
        log.info("Cancelled job %s %s.", job_id, why)
        return Found(job or replace(found.job, state=JobState("CANCELLED")), found.tag)

    def _ask_accounting(self, record: Record | None, request: Request) -> list[Job] | None:
        try:
            if record is not None and not record.name:
                ids = [record.job_id] if record.job_id else []
                return self._client.list_accounting(self._cluster_id, job_ids=ids) if ids else None
            told: list[Job] = []
            since = (record.sent_at if record else time.time()) - LOOKS_BACK
            for name in [record.name] if record else self._earlier_names(request):
                told = told or self._client.list_accounting(
                    self._cluster_id, job_name=name, since=since
                )
        except RequestError as error:
            if error.status in NOT_ANSWERED:
                raise
            log.debug("Accounting does not tell: %s", error)
            return None
        return told

    def _earlier_names(self, request: Request) -> list[str]:
        """What this task's earlier tries would have called the same job, the last try first."""
        last = self._tag.try_number - 1
        tries = range(last, max(0, last - EARLIER_TRIES), -1) if request.name else ()
        return [tagged_name(request.name, replace(self._tag, try_number=each)) for each in tries]

    def _adopt(self, found: Found, why: str, request: Request) -> Held:
        job = found.job
        last = self._earlier.last()
        self._kept = last.kept if last else Kept(array=request.array)
        self._kill.aim(job.job_id)
        log.info(
            "Adopted job %s, which try %s submitted: %s.", job.job_id, found.tag.try_number, why
        )
        self._announce(job.job_id)
        self._remember(job.job_id, job.name, str(found.tag))
        done = job.state.succeeded and job.state.finished and not job.tasks
        return Held(job.job_id, job.name, time.time(), self._kept.array, job if done else None)

    def _submit(self, request: Request) -> Held:
        name = request.name if self._terms.tagged else ""
        self._before = self._store.load()
        self._kept = request.kept
        self._kill.aim(None, name)
        begin = time.time()
        attempt = 0
        search = Search(self._client, self._cluster_id, name, begin)
        while True:
            attempt += 1
            self._remember(None, name, str(self._tag))
            self._kill.check()
            try:
                post = calls.submit_job(self._cluster_id, request.job.body())
                submitted = self._client.send(post, retry=ONCE)
            except ClusterraError as error:
                failure = error
            else:
                return self._take(submitted, name)
            found = self._look_for(search, name, failure)
            if found is not None:
                return self._take(Submitted(found), name)
            asked = PAUSES.delay(failure, 1, repeatable=True) or 0.0
            pause = max(asked, PAUSES.pause(attempt))
            if time.time() + pause > begin + self._terms.timeout:
                self._store.put_back(self._before)
                raise failure
            log.warning("It was not submitted; trying again in %.0f s: %s", pause, failure)
            self._kill.pause(pause)

    def _look_for(self, search: Search, name: str, failure: ClusterraError) -> int | None:
        """The job of a submit that failed; None where it may be sent again."""
        fate = fate_of(failure)
        if fate is Fate.REFUSED:
            self._store.put_back(self._before)
            raise refused(failure, self._kept)
        if fate is Fate.NOT_ARRIVED:
            return search.look() if name else None
        log.warning("It is not sure that the job was submitted; looking for it. (%s)", failure)
        found = search.look_for_a_while(self._terms.confirmation_timeout, self._kill)
        if found is not None:
            return found
        what = f"no job named {name!r} is there" if name else "no new job is there"
        if not search.told:
            what = "the cluster does not tell whether its job is there"
        elif not name:
            self._store.put_back(self._before)
        raise SubmitLostError(
            f"The submit's answer was lost ({failure}), and {what} after "
            f"{self._terms.confirmation_timeout:.0f} s. Nothing is submitted again before the next "
            "try has looked for it."
        ) from failure

    def _take(self, submitted: Submitted, name: str) -> Held:
        """A job that exists now, whatever else its answer said."""
        job_id = submitted.job_id
        self._kill.aim(job_id)
        log.info("Submitted as job %s on cluster %s", job_id, self._cluster_id)
        self._kill.check()
        self._remember(job_id, name, str(self._tag), unwanted=bool(submitted.problems))
        self._announce(job_id)
        for warning in submitted.warnings:
            log.warning("Slurm says of job %s: %s", job_id, warning)
        if submitted.problems:
            self._refuse(submitted)
        return Held(job_id, name, array=self._kept.array)

    def _refuse(self, submitted: Submitted) -> None:
        """A job that was not taken as it was asked must not run."""
        job_id = submitted.job_id
        words = "; ".join(str(problem) for problem in submitted.problems)
        job = self._kill.run(cancel_now(self._client.access, self._cluster_id, job_id))
        self._kill.check()
        self._store.save_failure(Failure("CANCELLED"))
        state = job.state if job else "gone"
        raise AirflowFailException(
            f"Slurm took job {job_id} but not as it was asked, so it was cancelled and is {state}: "
            f"{words}"
        )

    def _remember(self, job_id: int | None, name: str, tag: str, *, unwanted: bool = False) -> None:
        tries = self._tag.max_tries
        record = Record(tag, tries, name, job_id, time.time(), unwanted, kept=self._kept)
        if job_id is None:
            self._store.save(record)
            return
        try:
            self._store.save(record)
        except Exception as error:  # noqa: BLE001 - the job is there, and its tag says whose it is
            log.warning("Airflow could not remember job %s: %s", job_id, error)


class EarlierTries:
    """What is remembered of the tries before this one, as far as they asked for the same."""

    def __init__(self, store: RecordStore, tag: Tag) -> None:
        self._store = store
        self._tag = tag

    def last(self) -> Record | None:
        """The record of the last one that submitted, or None."""
        record = self._store.load()
        return record if record and is_same_submit(record, self._tag) else None

    def note_end(self, job: Job) -> None:
        """Remember how the last one's job ended, where that try could not tell."""
        last = self.last()
        if last is not None and last.failure is None and last.job_id == job.job_id:
            self._store.save_failure(failure_of(job), kept_after(last.kept, job))

    def ask_again(self, request: Request, again: Again) -> Request:
        """As :func:`ask_again`, and say so.

        :raises InputError: growth has come to its end.
        """
        if again.wanted and not self._store.lasts:
            log.warning(NEEDS)
        asked = ask_again(request, self.last(), again)
        if asked.array != request.array:
            log.info("Only the indices that have not succeeded run again: %s.", asked.array)
        if asked.kept.more:
            log.info("This try asks for more than the last: %s.", asked.kept.more)
        return asked
