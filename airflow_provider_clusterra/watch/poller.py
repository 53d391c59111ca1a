"""One poller per event loop, connection and cluster, however many jobs wait.

It asks, and hands each waiter what was seen; what that means is the waiter's to judge. It is a task
of its own, so that a waiter that is cancelled takes nobody down with it, and in a context of its
own, so that its log lines belong to no waiter.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from contextlib import asynccontextmanager
from weakref import WeakKeyDictionary

import msgspec

from airflow_provider_clusterra.api.access import Access
from airflow_provider_clusterra.api.async_client import AsyncClient
from airflow_provider_clusterra.api.errors import (
    HICCUPS,
    AuthenticationError,
    ClusterraError,
    NotFoundError,
)
from airflow_provider_clusterra.api.retry import ONCE, Retry
from airflow_provider_clusterra.watch.pace import next_look
from airflow_provider_clusterra.watch.verdict import Sighting

log = logging.getLogger(__name__)

Credentials = Callable[[], Awaitable[Access]]
AT_ONCE = 8
"""Requests under way at the same time."""
SESSION_GRACE = 15 * 60.0
"""Seconds for which a session that is no longer accepted may be renewed before the waits fail."""
BACKOFF = Retry(first=1.0, cap=60.0)


class Waiter(msgspec.Struct, eq=False):
    """One wait for one job."""

    job_id: int
    poll_interval: float
    born: float
    due: float
    seen: asyncio.Queue[Sighting | Exception] = msgspec.field(default_factory=asyncio.Queue)


class Poller:
    """Looks at jobs for as long as somebody waits for one. Take it from :func:`poller_of`."""

    def __init__(
        self, cluster_id: str, credentials: Credentials, on_idle: Callable[[Poller], None]
    ) -> None:
        self._cluster_id = cluster_id
        self._credentials = credentials
        self._on_idle = on_idle
        self._waiters: set[Waiter] = set()
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._failures = 0
        self._refused_since: float | None = None
        self._accepted = False

    @asynccontextmanager
    async def sightings(
        self, job_id: int, poll_interval: float
    ) -> AsyncIterator[AsyncIterator[Sighting]]:
        """What is seen of one job, look by look, until the block is left.

        :param job_id: Slurm's number for the job.
        :param poll_interval: seconds between two looks once the job is old.
        :raises ClusterraError: from the iterator: what no waiting can heal.
        """
        now = time.time()
        waiter = Waiter(job_id, poll_interval, born=now, due=now)
        self._waiters.add(waiter)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(
                self._run(),
                name=f"clusterra-poller-{self._cluster_id}",
                context=contextvars.Context(),
            )
        self._woken.set()
        try:
            yield _each(waiter)
        finally:
            self._waiters.discard(waiter)
            if not self._waiters:
                self._on_idle(self)
                self._woken.set()

    async def _run(self) -> None:
        try:
            while self._waiters:
                await self._poll()
        except Exception as exc:  # noqa: BLE001 - whatever it is, those who wait must hear it
            self._on_idle(self)
            for waiter in self._waiters:
                waiter.seen.put_nowait(exc)

    async def _poll(self) -> None:
        access = await self._credentials()
        async with await asyncio.to_thread(AsyncClient, access, retry=ONCE) as client:
            while self._waiters:
                await self._pause()
                await self._round(client)

    async def _pause(self) -> None:
        self._woken.clear()
        due = min((waiter.due for waiter in self._waiters), default=0.0)
        try:
            await asyncio.wait_for(self._woken.wait(), max(0.0, due - time.time()))
        except TimeoutError:
            return

    async def _round(self, client: AsyncClient) -> None:
        now = time.time()
        due = {waiter.job_id for waiter in self._waiters if waiter.due <= now}
        places = asyncio.Semaphore(AT_ONCE)
        errors = await asyncio.gather(*(self._look(client, job_id, places) for job_id in due))
        hiccups = [error for error in errors if isinstance(error, HICCUPS)]
        refused = next((error for error in errors if isinstance(error, AuthenticationError)), None)
        if refused is not None:
            await self._renew(client, refused)
        elif hiccups:
            self._back_off(hiccups[0])
        elif due:
            self._failures = 0
            self._refused_since = None
            self._accepted = True

    async def _look(
        self, client: AsyncClient, job_id: int, places: asyncio.Semaphore
    ) -> ClusterraError | None:
        async with places:
            try:
                job = await client.get_job(self._cluster_id, job_id)
            except NotFoundError:
                self._tell(job_id, Sighting(time.time(), None))
            except (*HICCUPS, AuthenticationError) as error:
                return error
            except ClusterraError as error:
                self._tell(job_id, error)
            else:
                self._tell(job_id, Sighting(time.time(), job))
        return None

    def _tell(self, job_id: int, seen: Sighting | Exception) -> None:
        now = time.time()
        for waiter in [each for each in self._waiters if each.job_id == job_id]:
            waiter.due = now + next_look(now - waiter.born, waiter.poll_interval)
            waiter.seen.put_nowait(seen)

    def _back_off(self, error: ClusterraError) -> None:
        self._failures += 1
        wait = BACKOFF.delay(error, 1, repeatable=True) or 0.0
        pause = max(wait, BACKOFF.pause(self._failures))
        level = logging.WARNING if self._failures in (1, 10, 100) else logging.DEBUG
        log.log(level, "The API does not answer well; looking again in %.0f s: %s", pause, error)
        for waiter in self._waiters:
            waiter.due = max(waiter.due, time.time() + pause)

    async def _renew(self, client: AsyncClient, error: AuthenticationError) -> None:
        """Read the connection again, once for all; a user may have renewed the session."""
        try:
            access = await self._credentials()
        except Exception:
            log.exception("The connection cannot be read; going on with what it held before.")
            access = client.access
        if access != client.access:
            log.warning("The session was not accepted any more; going on with the renewed one.")
            client.access = access
            return
        now = time.time()
        self._refused_since = self._refused_since or now
        if not self._accepted or now - self._refused_since >= SESSION_GRACE:
            raise error
        self._back_off(error)


async def _each(waiter: Waiter) -> AsyncIterator[Sighting]:
    while True:
        seen = await waiter.seen.get()
        if isinstance(seen, Exception):
            raise seen
        yield seen


_pollers: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Hashable, Poller]] = WeakKeyDictionary()


def poller_of(key: Hashable, cluster_id: str, credentials: Credentials) -> Poller:
    """The running event loop's one poller of this connection and cluster.

    :param key: names the connection, e.g. its id.
    :param cluster_id: the cluster, e.g. ``"clusde74"``.
    :param credentials: reads the connection; called once at the start and once for each 401.
    """
    pollers = _pollers.setdefault(asyncio.get_running_loop(), {})
    place = (key, cluster_id)

    def forget(idle: Poller) -> None:
        if pollers.get(place) is idle:
            del pollers[place]

    return pollers.setdefault(place, Poller(cluster_id, credentials, forget))
