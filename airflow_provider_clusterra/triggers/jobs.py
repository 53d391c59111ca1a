"""Waiting for a job in the triggerer: one event at the end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from airflow.providers.common.compat.sdk import AirflowException, conf
from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_clusterra.api.errors import ClusterraError, NotFoundError, WaitTimeoutError
from airflow_provider_clusterra.api.jobs import Job
from airflow_provider_clusterra.hooks.clusterra import ClusterraHook
from airflow_provider_clusterra.triggers.events import JobEvent
from airflow_provider_clusterra.triggers.kill import finish_in_spite_of_cancels, is_wanted
from airflow_provider_clusterra.watch.cancel import cancel_and_confirm
from airflow_provider_clusterra.watch.poller import poller_of
from airflow_provider_clusterra.watch.verdict import Watch
from airflow_provider_clusterra.watch.wait import wait_for_job

MIN_DEFERRAL = 7.0
"""Seconds. A task that is resumed sooner may be failed by the scheduler, which still hears of the
worker's end (apache/airflow#66374). Airflow's option ``[clusterra] min_deferral`` changes it."""


class ClusterraJobTrigger(BaseTrigger):
    """Waits for one job, together with all others of its connection and cluster.

    :param job_id: Slurm's number for the job.
    :param cluster_id: the cluster, e.g. ``"clusde74"``.
    :param clusterra_conn_id: the connection's id.
    :param job_name: the name that the job was submitted under; ``""`` where that is not known.
    :param poll_interval: seconds between two looks once the job is old.
    :param deadline: seconds since 1970 at which patience ends, or None.
    :param cancel_at_deadline: whether the job is cancelled then. A sensor's job never is.
    :param cancel_on_kill: whether the job is cancelled when a user ends the task (Airflow 3.3).
    """

    def __init__(
        self,
        *,
        job_id: int,
        cluster_id: str,
        clusterra_conn_id: str,
        job_name: str = "",
        poll_interval: float = 30.0,
        deadline: float | None = None,
        cancel_at_deadline: bool = False,
        cancel_on_kill: bool = False,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.job_id = job_id
        self.cluster_id = cluster_id
        self.clusterra_conn_id = clusterra_conn_id
        self.job_name = job_name
        self.poll_interval = poll_interval
        self.deadline = deadline
        self.cancel_at_deadline = cancel_at_deadline
        self.cancel_on_kill = cancel_on_kill
        self._told = False

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """The trigger as Airflow stores it: plain values, no secret."""
        path = f"{type(self).__module__}.{type(self).__qualname__}"
        return path, {
            "job_id": self.job_id,
            "cluster_id": self.cluster_id,
            "clusterra_conn_id": self.clusterra_conn_id,
            "job_name": self.job_name,
            "poll_interval": self.poll_interval,
            "deadline": self.deadline,
            "cancel_at_deadline": self.cancel_at_deadline,
            "cancel_on_kill": self.cancel_on_kill,
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """One event: a :class:`JobEvent` as its payload."""
        not_before = time.time() + conf.getfloat("clusterra", "min_deferral", fallback=MIN_DEFERRAL)
        event = await self.wait()
        await asyncio.sleep(max(0.0, not_before - time.time()))
        # from here on the task may resume, and a kill is the worker's business
        self._told = True
        yield TriggerEvent(event.to_payload())

    async def on_kill(self) -> None:
        """Cancel the job of a task that a user has ended while it was deferred."""
        if self.cancel_on_kill and not self._told:
            await finish_in_spite_of_cancels(
                self._cancel_unwanted(), f"clusterra-kill-{self.job_id}"
            )

    async def wait(self) -> JobEvent:
        """The end of the wait. A worker that does not defer runs this, too."""
        hook = ClusterraHook(self.clusterra_conn_id, self.cluster_id)
        poller = poller_of(self.clusterra_conn_id, self.cluster_id, hook.async_access)
        watch = Watch(self.job_id, self.job_name, since=time.time())
        try:
            verdict = await wait_for_job(
                poller,
                watch,
                poll_interval=self.poll_interval,
                deadline=self.deadline,
                on_change=self._log_change,
            )
        except WaitTimeoutError as error:
            return await self._at_deadline(hook, error)
        except ClusterraError as error:
            return self._event("refused", None, str(error))
        except AirflowException as error:
            words = f"The connection {self.clusterra_conn_id} cannot be read: {error}"
            return self._event("refused", None, f"{words} Job {self.job_id} is left as it is.")
        return self._event(verdict.outcome, verdict.job, verdict.words)

    async def _at_deadline(self, hook: ClusterraHook, error: WaitTimeoutError) -> JobEvent:
        """Patience has ended; the job may have, too, while nobody looked."""
        try:
            async with await hook.async_client() as client:
                job: Job | None = await client.get_job(self.cluster_id, self.job_id)
                if job is not None and job.state.ended:
                    return self._event("ended", job)
                if self.cancel_at_deadline:
                    job = await cancel_and_confirm(client, self.cluster_id, self.job_id) or job
        except NotFoundError:
            return self._event("lost", error.job, f"{error} The cluster no longer knows it.")
        except ClusterraError as failure:
            return self._event(
                "timed_out", error.job, f"{error} It could not be cancelled: {failure}"
            )
        done = f" It was cancelled and is {job.state}." if job and self.cancel_at_deadline else ""
        return self._event("timed_out", job, f"{error}{done}")

    async def _cancel_unwanted(self) -> None:
        if await is_wanted(self.task_instance, self.job_id):
            self.log.info("Job %s is left alone: its task still waits for it.", self.job_id)
            return
        hook = ClusterraHook(self.clusterra_conn_id, self.cluster_id)
        try:
            async with await hook.async_client() as client:
                job = await cancel_and_confirm(client, self.cluster_id, self.job_id)
        except ClusterraError as error:
            self.log.error(  # noqa: TRY400 - the words say it all
                "The task was ended, and job %s could not be cancelled: %s", self.job_id, error
            )
            return
        state = job.state if job else "no longer known to the cluster"
        self.log.info("The task was ended, so job %s was cancelled: it is %s.", self.job_id, state)

    def _event(self, outcome: str, job: Job | None, words: str = "") -> JobEvent:
        return JobEvent(str(outcome), self.job_id, self.cluster_id, job, words)

    def _log_change(self, job: Job) -> None:
        reason = f" ({job.reason})" if job.reason else ""
        place = f" on {job.nodes}" if job.nodes else ""
        self.log.info("Job %s is %s%s%s", job.job_id, job.state, reason, place)
        if not job.state.known:
            self.log.warning(
                "This version of the provider does not know the state %s; waiting on.", job.state
            )
