"""Waiting for a job in the triggerer: one event at the end."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Coroutine
from functools import partial
from inspect import Parameter, signature
from typing import Any

from airflow.providers.common.compat.sdk import AirflowNotFoundException, conf
from airflow.triggers.base import BaseTrigger, TriggerEvent
from asgiref.sync import sync_to_async
from msgspec.structs import replace

from airflow_provider_clusterra.api.access import Access
from airflow_provider_clusterra.api.errors import (
    AuthenticationError,
    ClusterraError,
    InputError,
    NotFoundError,
    WaitTimeoutError,
)
from airflow_provider_clusterra.api.jobs import Job
from airflow_provider_clusterra.api.retry import Retry
from airflow_provider_clusterra.compat import (
    A_KILL_IS_A_USERS,
    MIN_DEFERRAL,
    TRIGGERS_ARE_TOLD_OF_KILLS,
)
from airflow_provider_clusterra.hooks.clusterra import ClusterraHook
from airflow_provider_clusterra.triggers.events import JobEvent
from airflow_provider_clusterra.watch.arrays import counts_of, read_indices
from airflow_provider_clusterra.watch.cancel import cancel_and_confirm
from airflow_provider_clusterra.watch.poller import poller_of
from airflow_provider_clusterra.watch.tail import Tail, has_output
from airflow_provider_clusterra.watch.verdict import Outcome, Watch
from airflow_provider_clusterra.watch.wait import Wait

log = logging.getLogger(__name__)

THROUGH_AN_OUTAGE = Retry(tries=40)
"""About a quarter of an hour: nobody comes back to cancel a job that a kill has left alone."""

_under_way: set[asyncio.Task[None]] = set()


async def finish_in_spite_of_cancels(work: Coroutine[Any, Any, None], name: str) -> None:
    """Run something to its end: the triggerer cancels an ``on_kill`` again after a second."""
    task = asyncio.get_running_loop().create_task(work, name=name)
    _under_way.add(task)
    task.add_done_callback(_under_way.discard)
    await asyncio.shield(task)


async def is_wanted(task_instance: Any, job_id: int) -> bool:
    """Whether the task still waits for this very job, or nobody can tell.

    The state alone does not say it: a task that was cleared may wait again, for its next job.

    :source: the task's state, and XCom ``job_id``, which each try pushes anew.
    """
    try:
        return await sync_to_async(_look)(task_instance, job_id)
    except Exception:
        log.exception("It cannot be told whether job %s is still wanted; it is left alone.", job_id)
        return True


def _look(task_instance: Any, job_id: int) -> bool:
    # only a kill needs them, and they are large
    from airflow.providers.common.compat.sdk import XCom  # noqa: PLC0415
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance  # noqa: PLC0415

    ti = task_instance
    states = RuntimeTaskInstance.get_task_states(
        dag_id=ti.dag_id,
        task_ids=[ti.task_id],
        run_ids=[ti.run_id],
        map_index=ti.map_index if ti.map_index >= 0 else None,
    )
    # a mapped task's key has its index
    name = f"{ti.task_id}_{ti.map_index}" if ti.map_index >= 0 else ti.task_id
    if states.get(ti.run_id, {}).get(name) != "deferred":
        return False
    pushed = XCom.get_one(
        key="job_id",
        dag_id=ti.dag_id,
        task_id=ti.task_id,
        run_id=ti.run_id,
        map_index=ti.map_index,
    )
    return bool(pushed == job_id)


THROUGH_A_STUMBLE = Retry(tries=8)
"""About half a minute for each request: Airflow's own timeout ends the deferral two minutes later."""
LATE = 15.0
"""Seconds after the deferral. A trigger that begins later has probably begun before, elsewhere."""


class ClusterraJobTrigger(BaseTrigger):
    """Waits for one job, together with all others of its connection and cluster.

    :param job_id: Slurm's number for the job.
    :param cluster_id: the cluster, e.g. ``"clusde74"``.
    :param clusterra_conn_id: the connection's id.
    :param job_name: the name that the job was submitted under; ``""`` where that is not known.
    :param since: seconds since 1970 from which on it is waited for; otherwise now.
    :param array: the indices that were submitted, e.g. ``"0-99%10"``; ``""`` where it is no array,
        or nobody knows.
    :param poll_interval: seconds between two looks once the job is old.
    :param deadline: seconds since 1970 at which patience ends, or None.
    :param pending_timeout: seconds for which the job may be pending at a time, or None.
    :param max_restarts: how often Slurm may start the job again, or None.
    :param on_stuck: ``"fail"`` or ``"warn"``: what a job means that will never start.
    :param follow_output: whether the job's output goes into the task's log meanwhile.
    :param owns_job: whether the job is the task's own, and is cancelled when the wait is given up.
        A sensor's never is.
    :param cancel_on_kill: whether the job is cancelled when a user ends the task.
    :param adopted_at: when the task took the job over from an earlier try, in seconds since 1970.
    """

    def __init__(  # noqa: PLR0913 - a trigger's arguments are what Airflow stores of it
        self,
        *,
        job_id: int,
        cluster_id: str,
        clusterra_conn_id: str,
        job_name: str = "",
        since: float | None = None,
        array: str = "",
        poll_interval: float = 30.0,
        deadline: float | None = None,
        pending_timeout: float | None = None,
        max_restarts: int | None = None,
        on_stuck: str = "fail",
        follow_output: bool = False,
        owns_job: bool = False,
        cancel_on_kill: bool = False,
        adopted_at: float | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.job_id = job_id
        self.cluster_id = cluster_id
        self.clusterra_conn_id = clusterra_conn_id
        self.job_name = job_name
        self.since = since or time.time()
        self.array = array
        self.poll_interval = poll_interval
        self.deadline = deadline
        self.pending_timeout = pending_timeout
        self.max_restarts = max_restarts
        self.on_stuck = on_stuck
        self.follow_output = follow_output
        self.owns_job = owns_job
        self.cancel_on_kill = cancel_on_kill
        self.adopted_at = adopted_at
        self._told = False

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """The trigger as Airflow stores it: plain values, no secret."""
        path = f"{type(self).__module__}.{type(self).__qualname__}"
        return path, {name: getattr(self, name) for name in STORED}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """One event: a :class:`JobEvent` as its payload."""
        begun = time.time()
        if begun - self.since > LATE:
            again = " Its output begins again here." if self.follow_output else ""
            self.log.info(
                "The wait for job %s goes on here, %.0f s after it began.%s",
                self.job_id,
                begun - self.since,
                again,
            )
        try:
            event = await self.wait()
            held = conf.getfloat("clusterra", "min_deferral", fallback=MIN_DEFERRAL)
            await asyncio.sleep(max(0.0, begun + held - time.time()))
        except asyncio.CancelledError:
            if not TRIGGERS_ARE_TOLD_OF_KILLS:
                await self.on_kill()
            raise
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
        poller = poller_of(
            self.clusterra_conn_id,
            self.cluster_id,
            partial(_read_connection, hook),
            may_be_renewed=not hook.is_in_the_environment,
        )
        tail = self._tail() if self.follow_output else None
        wait = Wait(
            poller,
            self._watch(),
            poll_interval=self.poll_interval,
            on_change=self._log_change,
            on_warning=self.log.warning,
            tail=tail,
        )
        try:
            verdict = await wait.run(self.deadline)
        except WaitTimeoutError as error:
            return await self._give_up(hook, tail, self._event("timed_out", error.job, str(error)))
        except AuthenticationError as error:
            return self._event("refused", None, f"{error} {self._renewal(hook, error)}")
        except ClusterraError as error:
            return self._event("refused", None, f"{error} {self._left}")
        event = self._event(verdict.outcome, verdict.job, verdict.words)
        if verdict.outcome in (Outcome.STUCK, Outcome.OVERDUE):
            return await self._give_up(hook, tail, event)
        return event

    def _watch(self) -> Watch:
        return Watch(
            self.job_id,
            self.job_name,
            since=self.since,
            array=read_indices(self.array),
            pending_timeout=self.pending_timeout,
            max_restarts=self.max_restarts,
            fail_stuck=self.on_stuck == "fail",
        )

    def _tail(self) -> Tail:
        # what looks like a place for a value must stay as it is
        write = partial(self.log.info, "%s")
        return Tail(self.cluster_id, self.job_id, write=write, note=write)

    @property
    def _left(self) -> str:
        return f"Job {self.job_id} is left as it is."

    def _renewal(self, hook: ClusterraHook, error: AuthenticationError) -> str:
        if error.status != 401:
            return self._left
        if hook.is_in_the_environment:
            return (
                f"Connection {self.clusterra_conn_id} comes from an environment variable, which "
                "cannot change in a running process: restart Airflow with the new one. "
                f"{self._left}"
            )
        return f"Renew connection {self.clusterra_conn_id}. {self._left}"

    async def _give_up(self, hook: ClusterraHook, tail: Tail | None, event: JobEvent) -> JobEvent:
        """Patience has ended; the job may have, too, while nobody looked."""
        job: Job | None
        words = event.words
        try:
            async with await hook.async_client(THROUGH_A_STUMBLE) as client:
                job = await client.get_job(self.cluster_id, self.job_id)
                if not job.state.ended and self.owns_job:
                    job = await cancel_and_confirm(client, self.cluster_id, self.job_id) or job
                    event = replace(
                        event, job=job, words=f"{words} It was cancelled and is {job.state}."
                    )
                elif job.state.ended:
                    event = self._event("ended", job)
                if tail is not None and has_output(job):
                    await tail.finish(client)
        except NotFoundError:
            return replace(event, outcome="lost", words=f"{words} The cluster no longer knows it.")
        except ClusterraError as failure:
            return replace(event, words=f"{words} It could not be cancelled: {failure}")
        return event

    async def _cancel_unwanted(self) -> None:
        if not A_KILL_IS_A_USERS and await is_wanted(self.task_instance, self.job_id):
            self.log.info("Job %s is left alone: its task still waits for it.", self.job_id)
            return
        hook = ClusterraHook(self.clusterra_conn_id, self.cluster_id)
        try:
            async with await hook.async_client(THROUGH_AN_OUTAGE) as client:
                job = await cancel_and_confirm(client, self.cluster_id, self.job_id)
        except ClusterraError as error:
            self.log.error(  # noqa: TRY400 - the words say it all
                "The task was ended, and job %s could not be cancelled: %s", self.job_id, error
            )
            return
        state = job.state if job else "no longer known to the cluster"
        self.log.info("The task was ended, so job %s was cancelled: it is %s.", self.job_id, state)

    def _event(self, outcome: str, job: Job | None, words: str = "") -> JobEvent:
        return JobEvent(
            str(outcome), self.job_id, self.cluster_id, job, words, adopted_at=self.adopted_at
        )

    def _log_change(self, job: Job) -> None:
        if job.tasks:
            counts = ", ".join(f"{count} {state}" for state, count in counts_of(job).items())
            self.log.info("Job %s has %s", job.job_id, counts)
            return
        reason = f" ({job.reason})" if job.reason else ""
        place = f" on {job.nodes}" if job.nodes else ""
        self.log.info("Job %s is %s%s%s", job.job_id, job.state, reason, place)
        if not job.state.known:
            self.log.warning(
                "This version of the provider does not know the state %s; waiting on.", job.state
            )


async def _read_connection(hook: ClusterraHook) -> Access:
    try:
        return await hook.async_access()
    except AirflowNotFoundException as error:
        raise InputError(
            f"The connection {hook.clusterra_conn_id} cannot be read: {error}"
        ) from error


STORED = tuple(
    name
    for name, parameter in signature(ClusterraJobTrigger.__init__).parameters.items()
    if parameter.kind is Parameter.KEYWORD_ONLY
)
"""The arguments, which are all that a trigger is."""
