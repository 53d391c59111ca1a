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

T = TypeVar("T")
WITHIN = 4.0
"""Seconds for all of it: Airflow sends SIGKILL 5 s after the SIGTERM."""
ONE_REQUEST = 2.0


class KillSwitch:
    """What ``on_kill`` sets and the main code looks at.

    Airflow calls ``on_kill`` inside a signal handler and lets the main code run on for up to 5 s.
    Any call of Airflow there, a log line included, may wait for a lock that the main code holds.
    So :meth:`pull` makes none: it uses what :meth:`arm` was given, and :meth:`check` tells.
    """

    def __init__(self) -> None:
        self.pulled = False
        self._access: Access | None = None
        self._cluster_id = ""
        self._job_id: int | None = None
        self._done = "no job had been submitted"
        self._stop_waiting: Callable[[], object] | None = None

    def arm(self, access: Access, cluster_id: str, job_id: int | None = None) -> None:
        """Say how to reach the API, and, once there is one, which job to cancel.

        :param access: the API's address and the session.
        :param cluster_id: the cluster, e.g. ``"clusde74"``.
        :param job_id: Slurm's number for the job, or None as long as there is none.
        """
        self._access = replace(access, timeout=ONE_REQUEST)
        self._cluster_id = cluster_id
        self._job_id = job_id

    def check(self) -> None:
        """Go no further in a task that is being killed.

        :raises AirflowException: it is, with what became of the job.
        """
        if self.pulled:
            raise AirflowException(f"The task was killed: {self._done}.")

    def pull(self) -> None:
        """Set the flag, and cancel the job where there is one; :data:`WITHIN` in all."""
        self.pulled = True
        if self._access is not None and self._job_id is not None:
            self._done = self._cancel(self._access, self._job_id)
        if self._stop_waiting is not None:
            self._stop_waiting()

    def run(self, wait: Coroutine[Any, Any, T]) -> T:
        """Run a wait to its end in this thread, or until the switch is pulled.

        :param wait: a coroutine that nobody awaits yet.
        :raises AirflowException: it was pulled.
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
        try:
            return await task
        finally:
            self._stop_waiting = None

    def _cancel(self, access: Access, job_id: int) -> str:
        end = time.monotonic() + WITHIN
        try:
            with Client(access, retry=ONCE) as client:
                client.cancel_job(self._cluster_id, job_id)
                while time.monotonic() < end - ONE_REQUEST:
                    state = client.get_job(self._cluster_id, job_id).state
                    if state.ended and not state.completing:
                        return f"job {job_id} is {state}"
                    time.sleep(0.2)
        except NotFoundError:
            return f"the cluster does not know job {job_id} (any more)"
        except ClusterraError as error:
            return f"job {job_id} could not be cancelled and may be running: {error}"
        return f"job {job_id} is being cancelled"
