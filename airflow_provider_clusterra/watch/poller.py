"""One poller per event loop, connection and cluster, however many jobs wait.

It asks, and hands each waiter what was seen; what that means is the waiter's to judge. It is a task
of its own, so that a waiter that is cancelled takes nobody down with it, and in a context of its
own, so that its log lines belong to no waiter.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from contextlib import asynccontextmanager
from weakref import WeakKeyDictionary

import msgspec

from airflow_provider_clusterra.api.access import Access
from airflow_provider_clusterra.api.client import AsyncClient
from airflow_provider_clusterra.api.errors import AuthenticationError, ClusterraError, RequestError
from airflow_provider_clusterra.api.jobs import Job
from airflow_provider_clusterra.api.retry import ONCE, Retry
from airflow_provider_clusterra.watch.concurrency import in_turns, stop
from airflow_provider_clusterra.watch.looks import Found, Known, Looker
from airflow_provider_clusterra.watch.verdict import Sighting

SHORTEST = 1.0
"""Seconds: no job is looked at more often."""
AGE_SHARE = 0.125
"""A young job is looked at again after this share of its age."""
AFTER_A_MISS = 5.0
"""Seconds at most until a job that was not shown is looked for again."""
DEAR = 10.0
"""A look is followed by a pause of at least so many times what it took, up to the interval."""


def next_look(
    age: float, poll_interval: float, *, took: float = 0.0, missed: bool = False
) -> float:
    """Seconds until the next look at a job, with jitter."""
    pause = min(poll_interval, max(SHORTEST, age * AGE_SHARE))
    if missed:
        pause = min(pause, AFTER_A_MISS)
    return max(pause, min(poll_interval, took * DEAR)) * random.uniform(0.9, 1.1)


log = logging.getLogger(__name__)

Credentials = Callable[[], Awaitable[Access]]
GRACE = 15 * 60.0
"""Seconds for which a session that is no longer accepted may be renewed before the waits fail, and
a connection that cannot be read may become readable."""
PAUSES = Retry(first=1.0, cap=30.0)


class Session:
    """What a connection holds, while jobs are waited for.

    A wait begins with a job that this connection has submitted or seen. So a session that is not
    accepted has ended, even where this process has never seen it accepted: its triggerer may have
    started since.
    """

    def __init__(self, credentials: Credentials, *, may_be_renewed: bool) -> None:
        self._credentials = credentials
        self._may_be_renewed = may_be_renewed
        self._refused_since: float | None = None

    async def begin(self) -> Access:
        """Read the connection; what is wrong with Airflow's database has its time to heal.

        :raises ClusterraError: there is no such connection, or it cannot be right, or cannot be
            read for as long as :data:`GRACE`.
        """
        end = time.monotonic() + GRACE
        failures = 0
        while True:
            try:
                return await self._credentials()
            except ClusterraError:
                raise
            except Exception as exc:
                if time.monotonic() >= end:
                    raise ClusterraError(f"The connection cannot be read: {exc}") from exc
                failures += 1
                level = logging.WARNING if failures == 1 else logging.DEBUG
                log.log(level, "The connection cannot be read; trying again: %s", exc)
            await asyncio.sleep(PAUSES.pause(failures))

    def accept(self) -> None:
        """The session was accepted."""
        self._refused_since = None

    async def renew(self, held: Access, error: AuthenticationError) -> Access:
        """What to go on with after a 401; a user may have renewed the session.

        :raises AuthenticationError: it cannot change, or has not changed for as long as
            :data:`GRACE`.
        """
        if not self._may_be_renewed:
            raise error
        try:
            access = await self._credentials()
        except Exception:
            log.exception("The connection cannot be read; going on with what it held before.")
            access = held
        if access != held:
            log.warning("The session was not accepted any more; going on with the renewed one.")
            return access
        now = time.time()
        if self._refused_since is None:
            self._refused_since = now
            log.warning("Renew the connection's session; the jobs go on meanwhile. %s", error)
        if now - self._refused_since >= GRACE:
            raise error
        return held


WOKEN_TOGETHER = 25
"""Jobs whose waiters are told before others have their turn: each judges, and writes into its log."""
BACKOFF = Retry(first=1.0, cap=30.0)
TOGETHER = 0.25
"""A round takes those along that are due within this share of their pause."""
HURRY_EVERY = 5.0
"""Seconds between two looks at one job that somebody asked for."""


class Waiter(msgspec.Struct, eq=False):
    """One wait for one job."""

    poll_interval: float
    born: float
    seen: asyncio.Queue[Sighting | Exception] = msgspec.field(default_factory=asyncio.Queue)

    async def next(self, until: float | None = None) -> Sighting | None:
        """The next look that brought anything new.

        :raises ClusterraError: what no waiting can heal.
        """
        left = None if until is None else max(0.0, until - time.time())
        try:
            async with asyncio.timeout(left):
                seen = await self.seen.get()
        except TimeoutError:
            return None
        if isinstance(seen, Exception):
            raise seen
        return seen


class Watched(Known, eq=False):
    """One job, and those who wait for it."""

    due: float = 0.0
    pause: float = 0.0
    hurried: float = 0.0
    waiters: set[Waiter] = msgspec.field(default_factory=set)

    def tell(self, seen: Sighting | Exception) -> None:
        """Hand it to all who wait."""
        for waiter in self.waiters:
            waiter.seen.put_nowait(seen)

    def plan(self, now: float, *, took: float, missed: bool) -> None:
        """Say when to look again."""
        self.pause = min(
            next_look(now - waiter.born, waiter.poll_interval, took=took, missed=missed)
            for waiter in self.waiters
        )
        self.due = now + self.pause


class Poller:
    """Looks at jobs for as long as somebody waits for one. Take it from :func:`poller_of`."""

    def __init__(
        self,
        cluster_id: str,
        credentials: Credentials,
        on_idle: Callable[[Poller], None],
        *,
        may_be_renewed: bool,
    ) -> None:
        self._cluster_id = cluster_id
        self._session = Session(credentials, may_be_renewed=may_be_renewed)
        self._on_idle = on_idle
        self._jobs: dict[int, Watched] = {}
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._not_before = 0.0
        self._failures = 0
        self.client: AsyncClient | None = None
        """Shared by all who wait; there from the first sighting on, until the last wait ends."""

    @asynccontextmanager
    async def sightings(
        self, job_id: int, poll_interval: float, since: float
    ) -> AsyncIterator[Waiter]:
        """What is seen of one job, until the block is left.

        The last to leave waits for the poll to end, so that a loop that ends then closes no
        connection in the middle.
        """
        now = time.time()
        waiter = Waiter(poll_interval, born=since)
        watched = self._jobs.setdefault(job_id, Watched(job_id))
        watched.waiters.add(waiter)
        # a whole look, and soon: the others have seen it already, this one has not
        watched.last, watched.due = None, now
        self._start()
        try:
            yield waiter
        finally:
            watched.waiters.discard(waiter)
            if not watched.waiters:
                del self._jobs[job_id]
            if not self._jobs and self._task is not None:
                self._on_idle(self)
                await stop(self._task)

    def hurry(self, job_id: int) -> None:
        """Look at a job soon: something says that it may have ended."""
        now = time.time()
        watched = self._jobs.get(job_id)
        if watched is not None and now - watched.hurried >= HURRY_EVERY:
            watched.due = watched.hurried = now
            watched.last = None
            self._woken.set()

    async def list_accounting(self, job_id: int) -> list[Job] | None:
        """What accounting knows of a job that is waited for.

        :raises ClusterraError: no answer, or none that can be read.
        """
        if self.client is None:
            return None
        try:
            return await self.client.list_accounting(self._cluster_id, job_ids=[job_id])
        except RequestError as error:
            log.debug("Accounting does not tell of job %s: %s", job_id, error)
            return None

    def _start(self) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(
                self._run(),
                name=f"clusterra-poller-{self._cluster_id}",
                context=contextvars.Context(),
            )
        self._woken.set()

    async def _run(self) -> None:
        try:
            access = await self._session.begin()
            async with await asyncio.to_thread(AsyncClient, access, retry=ONCE) as client:
                self.client = client
                looker = Looker(client, self._cluster_id)
                while self._jobs:
                    await self._pause()
                    await self._round(client, looker)
        except Exception as exc:  # noqa: BLE001 - whatever it is, those who wait must hear it
            self._on_idle(self)
            for watched in self._jobs.values():
                watched.tell(exc)

    async def _pause(self) -> None:
        self._woken.clear()
        due = min((watched.due for watched in self._jobs.values()), default=0.0)
        due = max(due, self._not_before)
        try:
            async with asyncio.timeout(max(0.0, due - time.time())):
                await self._woken.wait()
        except TimeoutError:
            return

    async def _round(self, client: AsyncClient, looker: Looker) -> None:
        now = time.time()
        jobs = list(self._jobs.values())
        if now < self._not_before or not any(watched.due <= now for watched in jobs):
            return
        due = [each async for each in in_turns(jobs) if each.due <= now + each.pause * TOGETHER]
        found = await looker.look(due, jobs)
        await self._tell(found)
        if found.unauthorized is not None:
            await self._renew(client, found.unauthorized)
        elif found.hiccup is not None:
            self._back_off(found.hiccup)
        else:
            self._failures = 0
            self._session.accept()

    async def _tell(self, found: Found) -> None:
        now = time.time()
        async for watched in in_turns(list(self._jobs.values()), WOKEN_TOGETHER):
            job_id = watched.job_id
            if not watched.waiters:
                continue
            if job_id in found.jobs:
                job = found.jobs[job_id]
                if job is None or job != watched.last or watched.singly:
                    watched.tell(Sighting(now, job))
                watched.last, watched.light_looks = job, 0
                watched.plan(now, took=found.took, missed=job is None)
            elif job_id in found.unchanged:
                watched.plan(now, took=found.took, missed=False)
            elif job_id in found.refused:
                watched.tell(found.refused[job_id])
                watched.plan(now, took=found.took, missed=False)

    def _back_off(self, error: ClusterraError) -> None:
        self._failures += 1
        wait = BACKOFF.delay(error, 1, repeatable=True) or 0.0
        pause = max(wait, BACKOFF.pause(self._failures))
        level = logging.WARNING if self._failures in (1, 10, 100) else logging.DEBUG
        log.log(level, "The API does not answer well; looking again in %.0f s: %s", pause, error)
        self._not_before = time.time() + pause

    async def _renew(self, client: AsyncClient, error: AuthenticationError) -> None:
        access = await self._session.renew(client.access, error)
        if access == client.access:
            self._failures += 1
            self._not_before = time.time() + BACKOFF.pause(self._failures)
        client.access = access


_pollers: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Hashable, Poller]] = WeakKeyDictionary()


def poller_of(
    key: Hashable, cluster_id: str, credentials: Credentials, *, may_be_renewed: bool = True
) -> Poller:
    """The running event loop's one poller of this connection and cluster."""
    pollers = _pollers.setdefault(asyncio.get_running_loop(), {})
    place = (key, cluster_id)

    def forget(idle: Poller) -> None:
        if pollers.get(place) is idle:
            del pollers[place]

    if place not in pollers:
        pollers[place] = Poller(cluster_id, credentials, forget, may_be_renewed=may_be_renewed)
    return pollers[place]
