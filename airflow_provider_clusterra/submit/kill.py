"""A worker's kill: never submit again, and cancel what was submitted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from airflow.providers.common.compat.sdk import AirflowException
from msgspec.structs import replace

from airflow_provider_clusterra.api.access import Access
from airflow_provider_clusterra.api.client import Client
from airflow_provider_clusterra.api.errors import ClusterraError, NotFoundError
from airflow_provider_clusterra.api.retry import ONCE
from airflow_provider_clusterra.submit.protocol import find_named

T = TypeVar("T")
WITHIN = 4.0
"""Seconds for all of it: Airflow sends SIGKILL 5 s after the SIGTERM."""
ONE_REQUEST = 2.0
STEP = 0.2


class TaskKilledError(AirflowException):
    """The task is being killed; the words say what became of its job."""


class KillSwitch:
    """What ``on_kill`` sets and the main code looks at.

    Airflow calls ``on_kill`` inside a signal handler and lets the main code run on for up to 5 s.
    Any call of Airflow there, a log line included, may wait for a lock that the main code holds.
    So :meth:`pull` makes none: it uses what :meth:`arm` was given, and :meth:`check` tells.
    """

    def __init__(self) -> None:
        self.pulled = False
        self._cancels = True
        self._access: Access | None = None
        self._cluster_id = ""
        self._job_id: int | None = None
        self._name = ""
        self._done = "no job had been submitted"
        self._stop_waiting: Callable[[], object] | None = None

    def arm(self, access: Access, cluster_id: str) -> None:
        """Say how to reach the API."""
        self._access = replace(access, timeout=ONE_REQUEST)
        self._cluster_id = cluster_id

    def aim(self, job_id: int | None, name: str = "") -> None:
        """Say which job to cancel."""
        self._job_id = job_id
        self._name = name
        if self.pulled and job_id is not None:
            # its id came after the kill
            self._act()

    def check(self) -> None:
        """Go no further in a task that is being killed.

        :raises TaskKilledError: it is, with what became of the job.
        """
        if self.pulled:
            raise TaskKilledError(f"The task was killed: {self._done}.")

    def pull(self, *, cancel: bool = True) -> None:
        """Set the flag, and cancel the job where there is one; :data:`WITHIN` in all."""
        self._cancels = cancel
        self.pulled = True
        self._act()
        if self._stop_waiting is not None:
            self._stop_waiting()

    def pause(self, seconds: float) -> None:
        """Sleep, but not through a kill.

        :raises TaskKilledError: the task is being killed.
        """
        end = time.monotonic() + seconds
        while not self.pulled and (left := end - time.monotonic()) > 0:
            # a signal's handler does not end a sleep
            time.sleep(min(left, STEP))
        self.check()

    def run(self, wait: Coroutine[Any, Any, T]) -> T:
        """Run a wait to its end in this thread, or until the switch is pulled.

        :raises TaskKilledError: it was pulled.
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
        if self.pulled:
            # before there was anything to stop
            task.cancel()
        try:
            return await task
        finally:
            self._stop_waiting = None

    def _act(self) -> None:
        known = self._job_id is not None or self._name
        if self._cancels and known and self._access is not None:
            self._done = self._cancel(self._access)

    def _cancel(self, access: Access) -> str:
        end = time.monotonic() + WITHIN
        job_id = self._job_id
        what = f"job {job_id}" if job_id else f"a job named {self._name}"
        try:
            with Client(access, retry=ONCE) as client:
                if job_id is None:
                    job_id = find_named(client.list_jobs(self._cluster_id), self._name)
                    if job_id is None:
                        return f"{what} is not there (yet)"
                    what = f"job {job_id}"
                client.cancel_job(self._cluster_id, job_id)
                while time.monotonic() < end - ONE_REQUEST:
                    state = client.get_job(self._cluster_id, job_id).state
                    if state.finished:
                        return f"{what} is {state}"
                    time.sleep(0.2)
        except NotFoundError:
            return f"the cluster does not know {what} (any more)"
        except ClusterraError as error:
            return f"{what} could not be cancelled and may be running: {error}"
        return f"{what} is being cancelled"
