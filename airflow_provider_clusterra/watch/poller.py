"""One poller per event loop, connection, cluster and patience, however many jobs wait.

It asks, and hands each subscriber what was seen; what that means is the wait's to judge. It runs in
a task of its own, so that cancelling one wait does not stop the others, and in a context of its own,
so that its log lines belong to no wait.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import random
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from contextlib import asynccontextmanager, suppress
from weakref import WeakKeyDictionary

import msgspec

from airflow_provider_clusterra.api.client import Access, AsyncClient
from airflow_provider_clusterra.api.errors import (
    ONCE,
    AuthenticationError,
    ClusterraError,
    asked_pause,
    is_signed_out,
)
from airflow_provider_clusterra.api.jobs import Job
from airflow_provider_clusterra.watch.eventloop import cancel_and_wait, yielding
from airflow_provider_clusterra.watch.looks import (
    NEVER,
    SHARE,
    Load,
    Looker,
    PolledJob,
    RoundResult,
    concerns_all,
    is_final,
)
from airflow_provider_clusterra.watch.receipt import Receipts
from airflow_provider_clusterra.watch.verdict import Patience

log = logging.getLogger(__name__)

SHORTEST = 1.0
"""Seconds between two looks at a job, unless its author's ``poll_interval`` is shorter."""
AGE_SHARE = 0.125
"""A young job is looked at again after this share of its age."""
LONGEST = 5.0
"""Seconds between two looks, whatever a job's age: one look serves all, so an end is seen after
half of it."""
FREE = 4
"""Rounds of looks a minute that may follow each other quickly."""
APART = 3.0
"""Seconds for each of the others: 20 a minute."""
JITTER = 1.1
"""A pause is longer by up to this, so that not all processes ask at once."""


def shortest_pause(load: Load, *, single: bool, recent: int = 0) -> float:
    """Seconds after which the jobs of one kind may be looked at again: what all requests may take.

    A job that is asked for by itself waits until all others of its kind have had their request. If
    both kinds wait, each has half, so that a hundred arrays do not hold up the look that a thousand
    jobs share. It grows with what requests take, and with what earlier ones took beyond their share of
    the server's time. A few after a while without (``recent``, in the last minute) are free.
    """
    single = single or not load.shared.requests
    cost = load.single if single else load.shared
    parts = 2 if load.single.requests and load.shared.requests else 1
    apart = SHORTEST if recent + parts * cost.requests <= FREE else APART
    return parts * max(apart * cost.requests, cost.seconds / SHARE, cost.owed / SHARE)


def pause_before_look(
    age: float, poll_interval: float | None, budget: float = SHORTEST, *, eager: bool = False
) -> float:
    """Seconds until the next look at a job; never longer than ``poll_interval``, which its author
    gives, and otherwise never shorter than ``budget``, its :func:`shortest_pause`.

    A job that is young may end soon, and one that is ``eager`` (not shown, or completing) is about
    to. All that share a look do not make it dearer, so the pause is short for an old one, too.
    """
    wanted = SHORTEST if eager else max(SHORTEST, min(LONGEST, age * AGE_SHARE))
    pause = max(budget, wanted) * random.uniform(1.0, JITTER)
    return pause if poll_interval is None else min(poll_interval, pause)


Credentials = Callable[[], Awaitable[Access]]


class CredentialRenewal:
    """What a connection holds, while jobs are waited for.

    A wait begins with a job that this connection has submitted or seen. So a session that is not
    accepted has ended, even if this process has never seen it accepted: its triggerer may have
    started since.
    """

    def __init__(
        self,
        credentials: Credentials,
        *,
        may_be_renewed: Callable[[], bool],
        patience: Patience,
    ) -> None:
        self._credentials = credentials
        self._may_be_renewed = may_be_renewed
        self._patience = patience
        self.refused_since: float | None = None
        """Seconds since 1970: a rescheduled sensor carries it into its next process."""

    async def begin(self) -> AsyncClient:
        """A client of the connection; what is wrong with Airflow's database, or with this machine,
        has its time to heal.

        :raises ClusterraError: there is no such connection, or it cannot be right, or cannot be
            read for as long as patience lasts.
        """
        end = time.monotonic() + self._patience.refused
        failures = 0
        while True:
            try:
                access = await self._credentials()
                return await asyncio.to_thread(AsyncClient, access, retry=ONCE)
            except ClusterraError:
                raise
            except Exception as exc:
                if time.monotonic() >= end:
                    raise ClusterraError(f"The connection cannot be read: {exc}") from exc
                failures += 1
                level = logging.WARNING if failures == 1 else logging.DEBUG
                log.log(level, "The connection cannot be read; trying again: %s", exc)
            await asyncio.sleep(self._patience.backoff.pause(failures))

    def accept(self) -> None:
        """The session was accepted."""
        self.refused_since = None

    async def renew(self, held: Access, error: ClusterraError) -> Access:
        """What to go on with after a refusal; a user may have renewed the session.

        :raises ClusterraError: the refusal, if it cannot change or has lasted for too long.
        """
        signed_out = is_signed_out(error)
        if signed_out and not self._may_be_renewed():
            raise error
        access = await self._read(held) if signed_out else held
        if access != held:
            log.warning("The session was not accepted any more; going on with the renewed one.")
            return access
        now = time.time()
        if self.refused_since is None:
            self.refused_since = now
            what = "Renew the connection's session; the jobs go on" if signed_out else "Waiting on"
            log.warning("%s meanwhile. %s", what, error)
        if now - self.refused_since >= self._patience.refused:
            raise error
        return held

    async def _read(self, held: Access) -> Access:
        try:
            return await self._credentials()
        except Exception:
            log.exception("The connection cannot be read; going on with what it held before.")
            return held


WOKEN_TOGETHER = 25
"""Jobs whose subscribers are notified before others have their turn: each judges, and writes its log."""
PLANNED_TOGETHER = 50
"""Jobs whose next looks are planned before others have their turn: this takes a few microseconds for each."""

Seen = Job | Exception | None


class Subscriber(msgspec.Struct, eq=False):
    """One wait for one job. There are thousands, and a queue for each would be most of what they
    take."""

    poll_interval: float | None
    born: float
    """Monotonic."""
    _news: list[Seen] = msgspec.field(default_factory=list)
    _waiter: asyncio.Future[None] | None = None

    def notify(self, seen: Seen) -> None:
        """A look brought something new."""
        self._news.append(seen)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def next(self, within: float | None = None) -> Job | None:
        """The next look that brought anything new; None if the job is not shown.

        :raises TimeoutError: there was none in time.
        :raises ClusterraError: what no waiting can heal.
        """
        if not self._news:
            self._waiter = asyncio.get_running_loop().create_future()
            async with asyncio.timeout(within):
                await self._waiter
        seen = self._news.pop(0)
        if isinstance(seen, Exception):
            raise seen
        return seen


class Poller:
    """Looks at jobs for as long as there are waits. Take it from :func:`poller_of`."""

    def __init__(
        self,
        cluster_id: str,
        renewal: CredentialRenewal,
        on_idle: Callable[[Poller], None],
        patience: Patience,
    ) -> None:
        self._cluster_id = cluster_id
        self._renewal = renewal
        self._on_idle = on_idle
        self._patience = patience
        self._jobs: dict[int, PolledJob] = {}
        self._subscribers: dict[int, tuple[Subscriber, ...]] = {}
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._not_before = 0.0
        self._pauses_until = NEVER
        """When the latest pause ends unless it is woken; monotonic, like ``_not_before``."""
        self._rounds: deque[float] = deque(maxlen=20)
        """When the latest began; monotonic."""
        self._load = Load()
        self._failures = 0
        self.client: AsyncClient | None = None
        """Shared by all who wait; there from the first sighting on, until the last wait ends."""
        self.receipts: Receipts | None = None

    @asynccontextmanager
    async def subscribed(
        self, job_id: int, poll_interval: float | None, age: float = 0.0, *, whole: bool = True
    ) -> AsyncIterator[Subscriber]:
        """What is seen of one job, until the block is left. Without ``whole``, a running job's state
        alone is enough.

        The last to leave waits for the poll to end, so that a loop that ends then closes no
        connection in the middle.
        """
        now = time.monotonic()
        subscriber = Subscriber(poll_interval, now - max(0.0, age))
        self._subscribers[job_id] = (*self._subscribers.get(job_id, ()), subscriber)
        due = self._soon(now)
        if poll_interval is not None:
            due = min(due, now + poll_interval)
        known = self._jobs.get(job_id, PolledJob(job_id, whole=whole))
        self._jobs[job_id] = known.joined(now, due, begun=self._begun, whole=whole)
        self._start()
        self._wake(due)
        try:
            yield subscriber
        finally:
            left = tuple(each for each in self._subscribers[job_id] if each is not subscriber)
            self._subscribers[job_id] = left
            if not left:
                del self._jobs[job_id], self._subscribers[job_id]
            if not self._jobs and self._task is not None:
                self._on_idle(self)
                await cancel_and_wait(self._task)

    def hurry(self, job_id: int, *, whole: bool = False) -> None:
        """Look at a job soon: something says that it may have ended.

        ``whole`` brings news even if nothing has changed.
        """
        job = self._jobs.get(job_id)
        if job is not None:
            now, every = time.monotonic(), self._patience.hurry_every
            job = job.hurried(now, self._soon(now), begun=self._begun, every=every, whole=whole)
            self._jobs[job_id] = job
            self._wake(job.due)

    @property
    def _begun(self) -> float:
        """When the latest round of looks began."""
        return self._rounds[-1] if self._rounds else float("-inf")

    def _recent(self, now: float) -> int:
        return sum(1 for begun in self._rounds if begun > now - 60.0)

    def _soon(self, now: float) -> float:
        """When a requested look may begin; it, too, waits for the time that earlier ones took."""
        apart = max(self._load.shared.wait, APART if self._recent(now) >= FREE else 0.0)
        return max(now, self._begun + apart) if apart else now

    def _start(self) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(
                self._run(),
                name=f"clusterra-poller-{self._cluster_id}",
                context=contextvars.Context(),
            )

    def _wake(self, due: float) -> None:
        """End a pause that lasts for longer than a job may wait.

        Each end goes through all jobs, and thousands may join in one pause.
        """
        if max(due, self._not_before) < self._pauses_until:
            self._woken.set()

    async def _run(self) -> None:
        try:
            async with await self._renewal.begin() as client:
                self.client = client
                self.receipts = Receipts(client, self._cluster_id)
                looker = Looker(client, self._cluster_id)
                try:
                    while self._jobs:
                        await self._pause()
                        await self._round(client, looker)
                finally:
                    await self.receipts.close()
        except Exception as exc:  # noqa: BLE001 - whatever it is, each wait must raise it
            self._on_idle(self)
            for job_id in self._jobs:
                self._tell(job_id, exc)

    async def _pause(self) -> None:
        self._woken.clear()
        due = min((job.due for job in self._jobs.values()), default=0.0)
        self._pauses_until = max(due, self._not_before)
        with suppress(TimeoutError):
            async with asyncio.timeout(self._pauses_until - time.monotonic()):
                await self._woken.wait()

    async def _round(self, client: AsyncClient, looker: Looker) -> None:
        begun = time.monotonic()
        jobs = list(self._jobs.values())
        if begun < self._not_before or not any(job.due <= begun for job in jobs):
            return
        self._rounds.append(begun)
        result = await looker.look(await self._due(jobs, begun), jobs)
        await self._take(result)
        self._load = await looker.weigh(list(self._jobs.values()))
        await self._plan(result, begun)
        if result.hiccup is None:
            self._failures = 0
            self._renewal.accept()
        else:
            await self._stumble(client, result.hiccup)

    async def _due(self, jobs: list[PolledJob], begun: float) -> list[PolledJob]:
        """The jobs to look at now: one look serves all that share it."""
        due = [job async for job in yielding(jobs) if job.due <= begun]
        is_shared = any(job.shares_looks and not job.is_hurried for job in due)
        if not is_shared or not self._load.shared.requests:
            return due
        later = [job async for job in yielding(jobs) if job.due > begun and job.joins_looks]
        return due + later

    async def _take(self, result: RoundResult) -> None:
        """Notify each subscriber of what is new."""
        async for job_id in yielding([*self._jobs], WOKEN_TOGETHER):
            job = self._jobs.get(job_id)
            if job is None:
                continue
            now = time.monotonic()
            if job_id in result.jobs:
                seen = result.jobs[job_id]
                if seen is None or job.singly or seen != job.last:
                    self._tell(job_id, seen)
                self._jobs[job_id] = job.seen(seen, now, left_out=job_id in result.left_out)
            elif job_id in result.unchanged:
                self._jobs[job_id] = job.unchanged()
            elif job_id in result.refused:
                self._jobs[job_id] = job.refused(now)
                self._refuse(job, now, result.refused[job_id])

    async def _plan(self, result: RoundResult, begun: float) -> None:
        """Plan the next looks at the jobs of which anything was said."""
        recent = self._recent(begun)
        shared = shortest_pause(self._load, single=False, recent=recent)
        single = shortest_pause(self._load, single=True, recent=recent)
        looked_at = [*result.jobs, *result.unchanged, *result.refused]
        async for job_id in yielding(looked_at, PLANNED_TOGETHER):
            job = self._jobs.get(job_id)
            if job is not None:
                now = time.monotonic()
                pause = self._pause_of(job, now, shared if job.shares_looks else single)
                self._jobs[job_id] = job.looked_at(begun, now, pause)

    def _pause_of(self, job: PolledJob, now: float, budget: float) -> float:
        is_refused = job.refused_since is not None
        eager = job.last is None or is_refused or job.last.state.completing
        if 0 < job.misses < self._patience.misses and not is_refused:
            # it may have ended, and so many misses make the wait ask accounting
            budget = min(budget, APART)
        return min(
            pause_before_look(now - each.born, each.poll_interval, budget, eager=eager)
            for each in self._subscribers[job.job_id]
        )

    def _refuse(self, job: PolledJob, now: float, error: ClusterraError) -> None:
        """Slurm's own no ends the waits for a job at once; anything else has its time to heal."""
        since = now if job.refused_since is None else job.refused_since
        if is_final(error) or now - since >= self._patience.refused:
            self._tell(job.job_id, error)
        elif job.refused_since is None:
            log.warning("Job %s cannot be looked at; waiting on. %s", job.job_id, error)

    def _tell(self, job_id: int, seen: Seen) -> None:
        for subscriber in self._subscribers[job_id]:
            subscriber.notify(seen)

    async def _stumble(self, client: AsyncClient, error: ClusterraError) -> None:
        """No look was answered: again later, with a session that was renewed meanwhile."""
        self._failures += 1
        if not concerns_all(error) or isinstance(error, AuthenticationError):
            access = await self._renewal.renew(client.access, error)
            if access != client.access:
                client.access = access
                return
        pause = max(asked_pause(error) or 0.0, self._patience.backoff.pause(self._failures))
        level = logging.WARNING if self._failures in (1, 10, 100) else logging.DEBUG
        log.log(level, "The API does not answer well; looking again in %.0f s: %s", pause, error)
        self._not_before = time.monotonic() + pause


_pollers: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Hashable, Poller]] = WeakKeyDictionary()


def poller_of(
    key: Hashable,
    cluster_id: str,
    credentials: Credentials,
    *,
    may_be_renewed: Callable[[], bool] = lambda: True,
    patience: Patience,
) -> Poller:
    """The running event loop's one poller of this connection, cluster and patience."""
    pollers = _pollers.setdefault(asyncio.get_running_loop(), {})
    place = (key, cluster_id, patience)

    def forget(idle: Poller) -> None:
        if pollers.get(place) is idle:
            del pollers[place]

    if place not in pollers:
        renewal = CredentialRenewal(credentials, may_be_renewed=may_be_renewed, patience=patience)
        pollers[place] = Poller(cluster_id, renewal, forget, patience)
    return pollers[place]
