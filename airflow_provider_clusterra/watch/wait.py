"""The one wait: a spec and sightings in, a verdict out.

A deferred task's triggerer and the worker of one that is not deferred :meth:`~Wait.run` it; a sensor's
poke is one :meth:`~Wait.look` with the same judgement and the same patience.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import cached_property, partial
from typing import Any

from msgspec.structs import replace

from airflow_provider_clusterra.api import calls
from airflow_provider_clusterra.api.client import AsyncClient
from airflow_provider_clusterra.api.errors import (
    HICCUPS,
    ONCE,
    ClusterraError,
    NotFoundError,
    ProtocolError,
    Retry,
    TransportError,
    WaitTimeoutError,
    is_signed_out,
)
from airflow_provider_clusterra.api.jobs import Job
from airflow_provider_clusterra.watch.arrays import counts_of, read_indices, with_ends
from airflow_provider_clusterra.watch.cancel import cancel_and_confirm
from airflow_provider_clusterra.watch.eventloop import cancel_and_wait
from airflow_provider_clusterra.watch.looks import (
    Looker,
    PolledJob,
    is_final,
    surprises_in_our_words,
)
from airflow_provider_clusterra.watch.poller import (
    CredentialRenewal,
    Credentials,
    Poller,
    Subscriber,
    poller_of,
)
from airflow_provider_clusterra.watch.receipt import Receipts
from airflow_provider_clusterra.watch.tail import Tail, has_output
from airflow_provider_clusterra.watch.verdict import (
    PATIENT,
    WAIT,
    Outcome,
    Patience,
    Progress,
    Verdict,
    WaitSpec,
    judge,
    judge_accounting,
)

THROUGH_A_STUMBLE = Retry(tries=8)
"""About half a minute for each request: Airflow's own timeout ends the deferral two minutes later."""
MANY_TASKS = 500
"""An array with more is judged in a thread: the event loop has others to serve."""
DOUBTED = (Outcome.OVERDUE, Outcome.STUCK)
"""What may no longer hold: only a fresh look confirms it."""
END_MARGIN = 30.0
"""Seconds for reading the rest of the output after the deadline; a trigger has 120 in all."""


class Wait:
    """One wait for one job. ``log`` is the task's."""

    def __init__(
        self,
        spec: WaitSpec,
        credentials: Credentials,
        log: Any,
        *,
        may_be_renewed: Callable[[], bool] = lambda: True,
        patience: Patience = PATIENT,
    ) -> None:
        self._spec = spec
        self._credentials = credentials
        self._log = log
        self._may_be_renewed = may_be_renewed
        self._patience = patience
        self._tail: Tail | None = None
        if spec.follow_output:
            # what looks like a place for a value must stay as it is
            write = partial(log.info, "%s")
            self._tail = Tail(spec.cluster_id, spec.job_id, write, write)
        self.progress = Progress()
        self._accounting = WAIT
        """What accounting's last answer meant."""
        self._shown = ""
        self._warned = ""
        self._restarts = 0
        self._following: asyncio.Task[None] | None = None
        # a clock that is set meanwhile changes nothing
        self._clock = time.time() - time.monotonic()

    @cached_property
    def renewal(self) -> CredentialRenewal:
        """What a look of its own uses; a run has its poller's."""
        return CredentialRenewal(
            self._credentials, may_be_renewed=self._may_be_renewed, patience=self._patience
        )

    async def run(self) -> Verdict:
        """Wait until the job has ended or is lost, or the wait is given up."""
        verdict = WAIT
        while verdict.outcome is Outcome.WAIT:
            try:
                verdict = await self.watch()
            except WaitTimeoutError as error:
                verdict = Verdict(Outcome.TIMED_OUT, error.job, str(error))
            except ClusterraError as error:
                verdict = Verdict(Outcome.REFUSED, None, f"{error}{self._advice(error)}")
            if verdict.outcome not in (Outcome.ENDED, Outcome.LOST):
                verdict = await self.give_up(verdict)
        return verdict

    async def watch(self) -> Verdict:
        """Wait until the job has ended, or waiting is of no use any more.

        :raises WaitTimeoutError: the deadline passed.
        :raises ClusterraError: what no waiting can heal.
        """
        spec = self._spec
        left = None if spec.deadline is None else max(0.0, spec.deadline - time.time())
        poller = poller_of(
            spec.clusterra_conn_id,
            spec.cluster_id,
            self._credentials,
            may_be_renewed=self._may_be_renewed,
            patience=self._patience,
        )
        # indices that are too many to be waited for are refused now
        read_indices(spec.array)
        age = self._now() - spec.since
        # nothing else needs more of a running job than its state
        whole = bool(spec.follow_output or spec.array or spec.max_restarts is not None)
        subscribed = poller.subscribed(spec.job_id, spec.poll_interval, age, whole=whole)
        async with subscribed as subscriber:
            try:
                async with asyncio.timeout(left):
                    verdict = await self._until_verdict(poller, subscriber)
            except TimeoutError:
                raise self._timed_out() from None
            finally:
                await self._stop_following()
            await self._write_rest(poller.client, verdict)
            return await self._accounted(poller.receipts, verdict)

    async def look(self, *, catch_up: bool = False) -> Verdict:
        """One look, with a client of its own; ``catch_up`` writes what is new of the output.

        :raises ClusterraError: what no waiting can heal.
        """
        async with await self.renewal.begin() as client:
            looker = Looker(client, self._spec.cluster_id)
            result = await looker.look([PolledJob(self._spec.job_id)], [])
            error = result.hiccup or result.refused.get(self._spec.job_id)
            if error is not None:
                await self._look_past(client, error)
                return WAIT
            self.renewal.accept()
            verdict = await self._consider(client, result.jobs[self._spec.job_id])
            tail = self._tail_of(self.progress.last)
            if catch_up and verdict.outcome is Outcome.WAIT and tail is not None:
                await self._with_care(tail.catch_up(client))
            await self._write_rest(client, verdict)
            return await self._accounted(Receipts(client, self._spec.cluster_id), verdict)

    async def _look_past(self, client: AsyncClient, error: ClusterraError) -> None:
        """Log an error after which another look may succeed.

        :raises ClusterraError: the error itself, if no later look can succeed.
        """
        if is_final(error):
            raise error
        if not isinstance(error, HICCUPS):
            await self.renewal.renew(client.access, error)
        self._log.warning("The API does not answer well; looking again: %s", error)

    async def give_up(self, verdict: Verdict) -> Verdict:
        """Cancel the task's own job; it may have ended unseen, too.

        WAIT if a fresh look does not confirm one of :data:`DOUBTED`.
        """
        left = f"Job {self._spec.job_id} is left as it is."
        if verdict.outcome is Outcome.REFUSED and not self._spec.owns_job:
            return replace(verdict, message=f"{verdict.message} {left}")
        try:
            access = await self._credentials()
            client = await asyncio.to_thread(AsyncClient, access, retry=THROUGH_A_STUMBLE)
            async with client:
                return await self._last_look(client, verdict)
        except Exception as failure:  # noqa: BLE001 - whatever it is, the job is named
            failed = "cancelled" if self._spec.owns_job else "looked at again"
            message = f"{verdict.message} It could not be {failed}: {failure}"
            if verdict.outcome is Outcome.REFUSED:
                message = f"{message} {left}"
            return replace(verdict, message=message)

    def _advice(self, error: ClusterraError) -> str:
        """What to do about a session that is not accepted."""
        if not is_signed_out(error):
            return ""
        conn_id = self._spec.clusterra_conn_id
        if self._may_be_renewed():
            return f" Renew connection {conn_id}."
        return (
            f" Connection {conn_id} comes from an environment variable, which cannot change in a "
            "running process: restart Airflow with the new one."
        )

    async def _last_look(self, client: AsyncClient, verdict: Verdict) -> Verdict:
        if verdict.outcome in DOUBTED:
            seen = await self._look_again(client)
            if seen.outcome in (Outcome.WAIT, Outcome.MISSING):
                # two answers that differ may do so again
                await asyncio.sleep(self._patience.hurry_every)
                return WAIT
        else:
            seen = await self._look_for_good(client)
        if seen.outcome is Outcome.LOST:
            return replace(seen, message=f"{verdict.message} {seen.message}")
        verdict = seen if seen.outcome is Outcome.ENDED else await self._leave(client, verdict)
        tail = self._tail_of(verdict.job)
        if tail is not None:
            await self._with_care(tail.finish(client, END_MARGIN))
        return await self._accounted(Receipts(client, self._spec.cluster_id), verdict)

    async def _leave(self, client: AsyncClient, verdict: Verdict) -> Verdict:
        """The verdict, once a job of ours that goes on was cancelled."""
        spec, job = self._spec, self.progress.last
        if job is not None and job.state.ended:
            message = f"{verdict.message} How all of it ended is not known."
            return replace(verdict, job=with_ends(job, self.progress.ends), message=message)
        if spec.owns_job:
            now = await cancel_and_confirm(client, spec.cluster_id, spec.job_id)
            end = now.state if now else "not shown any more"
            verdict = replace(verdict, message=f"{verdict.message} It was cancelled and is {end}.")
            job = now or job
        return replace(verdict, job=job)

    async def _accounted(self, receipts: Receipts | None, verdict: Verdict) -> Verdict:
        """The verdict, with what the job used if it has ended."""
        job, patience = verdict.job, self._patience.receipt
        if receipts is None or job is None or not (job.state.ended and patience):
            return verdict
        return replace(verdict, job=await receipts.add_to(job, patience))

    async def _look_again(self, client: AsyncClient) -> Verdict:
        """What a fresh look means; WAIT if there is none."""
        spec = self._spec
        call = calls.get_job(spec.cluster_id, spec.job_id)
        try:
            job = await client.send(call, retry=ONCE)
        except ClusterraError:
            return WAIT
        self.progress, seen = judge(spec, self.progress, self._now(), job, self._patience)
        return seen

    async def _look_for_good(self, client: AsyncClient) -> Verdict:
        """What the last look means; accounting is asked what it does not show (all) any more.

        A job that was alive a moment ago is not lost, whatever an answer says.
        """
        spec, job = self._spec, None
        patience = replace(self._patience, completing=0.0, misses=1)
        with suppress(NotFoundError):
            job = await client.get_job(spec.cluster_id, spec.job_id)
        self.progress, seen = judge(spec, self.progress, self._now(), job, patience)
        if seen.outcome is not Outcome.MISSING:
            return seen
        accounted = await self._ask_accounting(client, self._now())
        return accounted if job is None or accounted.outcome is Outcome.ENDED else seen

    async def _until_verdict(self, poller: Poller, subscriber: Subscriber) -> Verdict:
        job: Job | None = None
        verdict = WAIT
        while verdict.outcome is Outcome.WAIT:
            within = None if verdict.until is None else max(0.0, verdict.until - self._now())
            is_fresh = False
            # if nothing new is seen, time has passed
            with suppress(TimeoutError):
                job = await subscriber.next(within)
                is_fresh = True
            verdict = await self._consider(poller.client, job)
            if verdict.outcome in DOUBTED and not is_fresh:
                # it may have started since
                poller.hurry(self._spec.job_id, whole=True)
                verdict = WAIT
            if verdict.outcome is Outcome.WAIT:
                await self._follow(poller, job)
        return verdict

    async def _consider(self, client: AsyncClient | None, job: Job | None) -> Verdict:
        at = self._now()
        try:
            with surprises_in_our_words():
                shown, verdict = await self._judge(at, job)
        except (ProtocolError, TransportError) as error:
            job_id = self._spec.job_id
            self._warn(f"Job {job_id} cannot be judged by this look; looking again: {error}")
            return Verdict(Outcome.WAIT, until=at + self._patience.ask_every)
        if verdict.outcome is Outcome.MISSING and client is not None:
            if at >= (self._accounting.until or 0.0):
                self._accounting = await self._ask_accounting(client, at)
            verdict = self._accounting
        if job is not None:
            await self._heed_restarts(job)
            self._log_change(job, shown)
        if verdict.outcome is Outcome.WAIT and verdict.message:
            self._warn(verdict.message)
        return verdict

    async def _judge(self, at: float, job: Job | None) -> tuple[str, Verdict]:
        """How the job is, in words, and what that means."""
        judged = partial(_judge_and_show, self._spec, self.progress, at, job, self._patience)
        many = job is not None and (len(job.tasks) > MANY_TASKS or job.array_task_string)
        shown, self.progress, verdict = await asyncio.to_thread(judged) if many else judged()
        return shown, verdict

    async def _heed_restarts(self, job: Job) -> None:
        """Each run of a job begins its output anew."""
        if self._tail is not None and job.restarts > self._restarts:
            self._restarts = job.restarts
            await self._stop_following()
            self._tail.is_run(job.restarts)

    def _log_change(self, job: Job, shown: str) -> None:
        if shown == self._shown:
            return
        self._shown = shown
        self._log.info("Job %s %s", self._spec.job_id, shown)
        if not job.state.known:
            message = "This version of the provider does not know the state %s; waiting on."
            self._log.warning(message, job.state)

    async def _ask_accounting(self, client: AsyncClient, at: float) -> Verdict:
        spec = self._spec
        answer: list[Job] | ClusterraError
        try:
            with surprises_in_our_words():
                answer = await client.list_accounting(spec.cluster_id, job_ids=[spec.job_id])
        except ClusterraError as error:
            answer = error
        self.progress, verdict = judge_accounting(spec, self.progress, at, answer, self._patience)
        return verdict

    def _warn(self, message: str) -> None:
        """Once, however often it is so."""
        if message != self._warned:
            self._warned = message
            self._log.warning(message)

    async def _follow(self, poller: Poller, job: Job | None) -> None:
        if job is None or self._tail is None or poller.client is None:
            return
        if job.state.base == "PENDING":
            # it runs again later, and may begin its output anew
            await self._stop_following()
        if self._following is None and job.state.base == "RUNNING" and has_output(job):
            work = self._tail.follow(poller.client, lambda: poller.hurry(job.job_id))
            name = f"clusterra-tail-{job.job_id}"
            self._following = asyncio.create_task(self._with_care(work), name=name)

    async def _stop_following(self) -> None:
        if self._following is not None:
            await cancel_and_wait(self._following)
            self._following = None

    def _tail_of(self, job: Job | None) -> Tail | None:
        """What writes the output, if it is asked for and there may be any by now."""
        return self._tail if job is not None and has_output(job) else None

    async def _write_rest(self, client: AsyncClient | None, verdict: Verdict) -> None:
        tail = self._tail_of(verdict.job)
        if verdict.outcome is Outcome.ENDED and tail is not None and client is not None:
            deadline = math.inf if self._spec.deadline is None else self._spec.deadline
            within = max(0.0, deadline - time.time()) + END_MARGIN
            await self._with_care(tail.finish(client, within))

    async def _with_care(self, work: Coroutine[Any, Any, None]) -> None:
        """Output is never the reason for which a task fails."""
        try:
            await work
        except Exception as exc:  # noqa: BLE001 - whatever it is, the wait goes on
            job_id = self._spec.job_id
            self._log.warning(f"The output of job {job_id} cannot be followed: {exc!r}")

    def _now(self) -> float:
        return self._clock + time.monotonic()

    def _timed_out(self) -> WaitTimeoutError:
        last = self.progress.last
        waited = self._now() - self._spec.since
        limit = self._spec.limit
        over = f"{limit} has passed since the task began" if limit else "the deadline has passed"
        return WaitTimeoutError(
            f"Job {self._spec.job_id} is {last.state if last else 'not seen yet'}, and {over}.",
            last,
            waited=waited,
        )


def _judge_and_show(
    spec: WaitSpec, progress: Progress, at: float, job: Job | None, patience: Patience
) -> tuple[str, Progress, Verdict]:
    return (_show(job), *judge(spec, progress, at, job, patience))


def _show(job: Job | None) -> str:
    """How a job is, in words that change when it does."""
    if job is None:
        return ""
    if job.tasks:
        counts = ", ".join(f"{count} {state}" for state, count in counts_of(job).items())
        return f"has {counts}"
    reason = f" ({job.reason})" if job.reason else ""
    place = f" on {job.nodes}" if job.nodes else ""
    return f"is {job.state}{reason}{place}"
