"""A worker's kill: never submit again, and cancel what was submitted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Coroutine
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace

from airflow_provider_clusterra.api.access import Access
from airflow_provider_clusterra.api.client import Client
from airflow_provider_clusterra.api.errors import ONCE, ClusterraError, NotFoundError
from airflow_provider_clusterra.submit.protocol import (
    TaskKilledError,
    find_named,
    keep_own,
    whole_id,
)

T = TypeVar("T")
WITHIN = 4.0
"""Seconds for all of it: Airflow sends SIGKILL 5 s after the SIGTERM."""
ONE_REQUEST = 2.0
STEP = 0.2


class KillSwitch(msgspec.Struct):
    """What ``on_kill`` sets and the main code looks at.

    Airflow calls ``on_kill`` inside a signal handler and lets the main code run on for up to 5 s.
    Any call of Airflow there, a log line included, may wait for a lock that the main code holds.
    So :meth:`kill` makes none: it uses the ``access`` that was set, and :meth:`check` raises.
    """

    access: Access | None = None
    cluster_id: str = ""
    killed: bool = False
    came_too_late: bool = False
    """The job had succeeded: a retry returns it."""
    _cancels: bool = True
    _job_id: int | None = None
    _name: str = ""
    _known: Collection[int] = ()
    _done: str = "no job had been submitted"
    _stop_waiting: Callable[[], object] | None = None

    def set_target(self, job_id: int | None, name: str = "", known: Collection[int] = ()) -> None:
        """Say which job to cancel; of a name, none that was there before the submit.

        :raises TaskKilledError: the task is being killed.
        """
        self._job_id, self._name, self._known = job_id, name, known
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
        """Set the flag, and cancel the job if there is one; :data:`WITHIN` in all."""
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
        end = time.monotonic() + WITHIN
        try:
            with Client(access, retry=ONCE) as client:
                job_id = self._job_id or self._find(client)
                if job_id is None:
                    return f"a job named {self._name} is not there (yet)"
                client.cancel_job(self.cluster_id, job_id)
                while time.monotonic() < end - ONE_REQUEST:
                    state = client.get_job(self.cluster_id, job_id).state
                    if state.finished:
                        self.came_too_late = state.succeeded
                        return f"job {job_id} is {state}"
                    time.sleep(STEP)
        except NotFoundError:
            return f"the cluster does not know {target} (any more)"
        except ClusterraError as error:
            return f"{target} could not be cancelled and may be running: {error}"
        return f"job {job_id} is being cancelled"

    def _find(self, client: Client) -> int | None:
        listed = client.list_jobs(self.cluster_id)
        named = keep_own(find_named(listed, self._name, self._known), listed, client.get_user)
        return whole_id(named[0]) if named else None
