"""Cancelling a job, and knowing that it is gone: from an event loop, and in a worker that is killed."""

from __future__ import annotations

# ruff: noqa: PLC0415 - whoever reads a DAG needs no client, and a task that has a job has one
import asyncio
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from msgspec.structs import replace

from airflow_provider_clusterra.api.errors import HICCUPS, ONCE, ClusterraError, NotFoundError
from airflow_provider_clusterra.api.jobs import Job, JobState

if TYPE_CHECKING:
    from airflow_provider_clusterra.api.calls import User
    from airflow_provider_clusterra.api.client import Access, AsyncClient, Client

    Find = Callable[[list[Job], Callable[[], User]], int | None]
    """Takes all jobs, and how to ask who is signed in; returns the id of the one that is meant."""

CONFIRM_WITHIN = 45.0
"""Seconds: Slurm's KillWait (30 s), in which a script may ignore SIGTERM, and a margin."""


async def cancel_and_confirm(
    client: AsyncClient,
    cluster_id: str,
    job_id: int,
    *,
    within: float = CONFIRM_WITHIN,
    every: float = 1.0,
) -> Job | None:
    """Cancel a job and wait so many seconds until it has ended and nothing of it runs any more.

    The job as last seen, so it may still run; None if the cluster does not know it.

    :raises ClusterraError: it could not be cancelled, or not be looked at.
    :source: ``DELETE …/jobs/{job_id}``, which only requests it; ``GET …/jobs/{job_id}``.
    """
    await client.cancel_job(cluster_id, job_id)
    end = time.monotonic() + within
    while True:
        try:
            job = await client.get_job(cluster_id, job_id)
        except NotFoundError:
            return None
        if time.monotonic() >= end or job.state.finished:
            return job
        await asyncio.sleep(every)


def state_of(job: Job | None) -> str:
    """How a cancelled job is, in words."""
    return str(job.state) if job else "no longer known to the cluster"


async def cancel_if_alive(
    client: AsyncClient, cluster_id: str, job_id: int
) -> tuple[bool, Job | None]:
    """As :func:`cancel_and_confirm`, for a job that may have ended.

    :raises ClusterraError: it could not be cancelled, or not be looked at.
    """
    job = None
    with suppress(NotFoundError):
        job = await client.get_job(cluster_id, job_id)
    if job is None:
        # a stale answer says so, too, and Slurm itself knows better
        try:
            if not await client.cancel_job(cluster_id, job_id):
                return False, None
        except NotFoundError:
            return False, None
    elif job.state.finished:
        return False, job
    return True, await cancel_and_confirm(client, cluster_id, job_id)


async def cancel_now(access: Access, cluster_id: str, job_id: int) -> Job | None:
    """As :func:`cancel_and_confirm`, with its own client.

    :raises ClusterraError: it could not be cancelled, or not be looked at.
    """
    from airflow_provider_clusterra.api.client import AsyncClient

    async with AsyncClient(access) as client:
        return await cancel_and_confirm(client, cluster_id, job_id)


T = TypeVar("T")
WITHIN = 4.0
"""Seconds after which a request that failed is not repeated, and the job's end is not waited for: Airflow sends
SIGKILL 5 s after the SIGTERM. A job whose id must be looked up first is cancelled even later: a cancel that is
sent counts more than the words about it."""
ONE_REQUEST = 2.0
STEP = 0.2


class TaskKilledError(ClusterraError):
    """The task is being killed; the words say what became of its job."""


class KillSwitch(msgspec.Struct):
    """What ``on_kill`` sets and the main code looks at.

    Airflow calls ``on_kill`` inside a signal handler and lets the main code run on for up to 5 s.
    Any call of Airflow there, a log line included, may wait for a lock that the main code holds.
    So :meth:`kill` makes none: it uses the ``access`` that was set, and :meth:`check` raises.
    """

    access: Access | None = None
    cluster_id: str = ""
    killed: bool = False
    may_have_succeeded: bool = False
    """The job had succeeded, or no cancel was accepted: a retry finds out."""
    _cancels: bool = True
    _job_id: int | None = None
    _name: str = ""
    _find: Find | None = None
    _done: str = "no job had been submitted"
    _stop_waiting: Callable[[], object] | None = None

    def set_target(self, job_id: int | None, name: str = "", find: Find | None = None) -> None:
        """Say which job to cancel; ``find`` finds it by its name while its id is not known.

        :raises TaskKilledError: the task is being killed.
        """
        self._job_id, self._name, self._find = job_id, name, find
        if self.killed and job_id is not None:
            # its id came after the kill
            self._act()
        self.check()

    def check(self) -> None:
        """Go no further in a task that is being killed.

        :raises TaskKilledError: it is, with what became of the job.
        """
        if self.killed:
            raise TaskKilledError(f"The task was killed: {self._done}.")

    def kill(self, *, cancel: bool = True) -> None:
        """Set the flag, and cancel the job if there is one: see :data:`WITHIN`."""
        self._cancels = cancel
        self.killed = True
        self._act()
        if self._stop_waiting is not None:
            self._stop_waiting()

    def pause(self, seconds: float) -> None:
        """Sleep, but not through a kill.

        :raises TaskKilledError: the task is being killed.
        """
        end = time.monotonic() + seconds
        while not self.killed and (left := end - time.monotonic()) > 0:
            # a signal's handler does not end a sleep
            time.sleep(min(left, STEP))
        self.check()

    def run(self, wait: Coroutine[Any, Any, T]) -> T:
        """Run a wait to its end in this thread, or until the task is killed.

        :raises TaskKilledError: it was.
        """
        try:
            return asyncio.run(self._run(wait))
        except asyncio.CancelledError:
            self.check()
            raise

    async def _run(self, wait: Coroutine[Any, Any, T]) -> T:
        task = asyncio.ensure_future(wait)
        loop = asyncio.get_running_loop()
        self._stop_waiting = lambda: loop.call_soon_threadsafe(task.cancel)
        if self.killed:
            # before there was anything to stop
            task.cancel()
        try:
            return await task
        finally:
            self._stop_waiting = None

    def _act(self) -> None:
        if self._job_id is None and not self._name:
            return
        target = f"a job named {self._name}, if it is there,"
        if self._job_id:
            target = f"job {self._job_id}"
        if not self._cancels:
            self._done = f"{target} goes on, as cancel_on_kill=False asks"
        elif self.access is not None:
            self._done = self._cancel(replace(self.access, timeout=ONE_REQUEST), target)

    def _cancel(self, access: Access, target: str) -> str:
        from airflow_provider_clusterra.api.client import Client

        last = time.monotonic() + WITHIN - ONE_REQUEST
        self.may_have_succeeded = True
        try:
            with Client(access, retry=ONCE) as client:
                job_id = self._request(client, last)
                state = None if job_id is None else self._end_of(client, job_id, last)
        except NotFoundError:
            return f"the cluster does not know {target} (any more)"
        except ClusterraError as error:
            return f"{target} could not be cancelled and may be running: {error}"
        if job_id is None:
            self.may_have_succeeded = False
            return f"a job named {self._name} is not there (yet)"
        if state is not None:
            self.may_have_succeeded = state.succeeded
        return f"job {job_id} is {state or 'being cancelled'}"

    def _request(self, client: Client, last: float) -> int | None:
        """Ask for the job's end, again and again if the API is away for a moment; its id."""
        while True:
            try:
                job_id = self._job_id or self._look(client)
                if job_id is not None:
                    self.may_have_succeeded = not client.cancel_job(self.cluster_id, job_id)
            except HICCUPS:
                if time.monotonic() + STEP > last:
                    raise
                time.sleep(STEP)
            else:
                return job_id

    def _look(self, client: Client) -> int | None:
        if self._find is None:
            return None
        return self._find(client.list_jobs(self.cluster_id), client.get_user)

    def _end_of(self, client: Client, job_id: int, last: float) -> JobState | None:
        while time.monotonic() < last:
            state = client.get_job(self.cluster_id, job_id).state
            if state.finished:
                return state
            time.sleep(STEP)
        return None
