"""One try's submit: looks, asks, cancels, adopts or submits, as the protocol decides."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from airflow.providers.common.compat.sdk import AirflowFailException
from msgspec.structs import replace

from airflow_provider_clusterra.api.client import Client
from airflow_provider_clusterra.api.errors import ApiError, ClusterraError, RequestError
from airflow_provider_clusterra.api.jobs import Job
from airflow_provider_clusterra.api.readers import Submitted
from airflow_provider_clusterra.api.retry import ONCE
from airflow_provider_clusterra.api.states import JobState
from airflow_provider_clusterra.operators.again import Again, EarlierTries, refused
from airflow_provider_clusterra.operators.arrays import array_succeeded
from airflow_provider_clusterra.operators.failures import SubmitLostError
from airflow_provider_clusterra.operators.kill import KillSwitch
from airflow_provider_clusterra.operators.records import RecordStore
from airflow_provider_clusterra.operators.search import PAUSES, EarlierJobs, Search
from airflow_provider_clusterra.operators.terms import Terms
from airflow_provider_clusterra.operators.waiting import cancel_now
from airflow_provider_clusterra.submit.finding import Found
from airflow_provider_clusterra.submit.held import Held
from airflow_provider_clusterra.submit.protocol import (
    Action,
    Decision,
    Fate,
    decide,
    decide_gone,
    fate_of,
)
from airflow_provider_clusterra.submit.record import Failure, Kept, Record
from airflow_provider_clusterra.submit.request import Request
from airflow_provider_clusterra.submit.tag import Tag, tagged_name

log = logging.getLogger(__name__)

EARLIER_TRIES = 5
"""How many earlier tries' names accounting is asked for where nothing is remembered."""
LOOKS_BACK = 30 * 86400.0
"""Seconds before the last submit, or before now where nothing is remembered, from which on accounting
is asked for a name: a retry comes after its delay, and after a weekend's outage."""
NOT_ANSWERED = (401, 429)
"""Statuses that do not say whether the API offers accounting."""


class Submission:
    """One try's submit.

    :param client: signed in.
    :param cluster_id: the cluster, e.g. ``"clusde74"``.
    :param tag: this try's.
    :param terms: the user's.
    :param store: what Airflow remembers.
    :param kill: the task's.
    :param again: what the user wants of a retry.
    :param announce: called with the job's id, at once when there is one.
    """

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

        :param request: what the author asks for.
        :param prepare: makes the request ready once it is sure that it is submitted: uploads.
        :param amend: what to submit after a refusal; it raises where nothing helps.
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
        if job is not None and not (job.state.ended and not job.state.completing):
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
        ended = job if job.state.succeeded and not job.state.completing and not job.tasks else None
        return Held(job.job_id, job.name, time.time(), self._kept.array, ended)

    def _submit(self, request: Request) -> Held:
        name = request.name if self._terms.tagged else ""
        self._before = self._store.load()
        self._kept = request.kept
        self._kill.aim(None, name)
        begin = time.time()
        attempt = 0
        with Client(self._client.access, retry=ONCE) as once:
            search = Search(once, self._cluster_id, name, begin)
            while True:
                attempt += 1
                self._remember(None, name, str(self._tag))
                self._kill.check()
                try:
                    submitted = once.submit_job(self._cluster_id, request.body)
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
