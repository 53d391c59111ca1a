"""One round of looks at many jobs, in the cheapest way."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection
from enum import StrEnum
from typing import TypeVar

import msgspec

from airflow_provider_clusterra.api import calls
from airflow_provider_clusterra.api.client import AsyncClient
from airflow_provider_clusterra.api.errors import (
    HICCUPS,
    AuthenticationError,
    ClusterraError,
    NotFoundError,
    RequestError,
)
from airflow_provider_clusterra.api.jobs import Job
from airflow_provider_clusterra.api.readers import LightState
from airflow_provider_clusterra.api.slurm import JobState
from airflow_provider_clusterra.watch.concurrency import in_turns
from airflow_provider_clusterra.watch.reading import read_job_answer, read_jobs_answer

URL_ROOM = 6000
"""Bytes of a query that every proxy lets through."""
REMEASURE = 900.0
"""Seconds after which a figure is too old, and a way that was refused may be tried again."""
UNMEASURED = 0.05
"""Seconds that a request is thought to take before one was made."""
WORTH_A_LIST = 1.0
"""Seconds of single requests that make a list worth a try."""
FAILURES = 3
"""How often in a row a way may fail alone before it is given a rest."""
NEWEST_SHARE = 0.3


class Way(StrEnum):
    """How jobs are asked for."""

    SINGLE = "one by one"
    STATES = "by jobs/state"
    LIST = "by the list"


class Costs:
    """What each way takes, in seconds a request."""

    def __init__(self) -> None:
        self._took: dict[Way, tuple[float, float]] = {}
        self._rests_until: dict[Way, float] = {}
        self._failures: dict[Way, int] = {}

    def note(self, way: Way, seconds: float, now: float) -> None:
        """A request that was answered."""
        old = self.of(way, now)
        mixed = seconds if old is None else old + NEWEST_SHARE * (seconds - old)
        self._took[way] = (mixed, now)
        self._failures.pop(way, None)

    def note_failure(self, way: Way, now: float) -> None:
        """A request that was not answered well while a single one was."""
        self._failures[way] = self._failures.get(way, 0) + 1
        if self._failures[way] >= FAILURES:
            self.rest(way, now)

    def rest(self, way: Way, now: float) -> None:
        """The API does not offer this way, or not now."""
        self._rests_until[way] = now + REMEASURE
        self._failures.pop(way, None)

    def of(self, way: Way, now: float) -> float | None:
        """Seconds that a request takes, or None where that is not known (any more)."""
        seconds, at = self._took.get(way, (0.0, float("-inf")))
        return seconds if now - at < REMEASURE else None

    def way_to_look(self, count: int, now: float) -> Way:
        """How to look at so many jobs of which only a change matters."""
        whole = self.way_to_see(count, now)
        if count < 2 or self._rests(Way.STATES, now):
            return whole
        seconds = self._seconds(whole, count, now)
        return Way.STATES if (self.of(Way.STATES, now) or 0.0) <= seconds else whole

    def way_to_see(self, count: int, now: float) -> Way:
        """How to see so many jobs whole."""
        singly = self._seconds(Way.SINGLE, count, now)
        if count < 2 or self._rests(Way.LIST, now):
            return Way.SINGLE
        listed = self.of(Way.LIST, now)
        if listed is None:
            return Way.LIST if singly > WORTH_A_LIST else Way.SINGLE
        return Way.LIST if listed < singly else Way.SINGLE

    def _seconds(self, way: Way, count: int, now: float) -> float:
        one = self.of(way, now)
        seconds = UNMEASURED if one is None else one
        return seconds * count if way is Way.SINGLE else seconds

    def _rests(self, way: Way, now: float) -> bool:
        return now < self._rests_until.get(way, float("-inf"))


def fits_a_url(job_ids: Collection[int]) -> bool:
    """Whether a query can name all these jobs."""
    if len(job_ids) > URL_ROOM // len("job_id=1&"):
        return False
    return sum(len(f"job_id={job_id}&") for job_id in job_ids) <= URL_ROOM


log = logging.getLogger(__name__)
T = TypeVar("T")

AT_ONCE = 8
"""Requests under way at the same time."""
WHOLE_EVERY = 10
"""A pending job's reason is not among the states, so every tenth look at it is a whole one."""


class Known(msgspec.Struct, eq=False):
    """A job that is looked at again and again."""

    job_id: int
    last: Job | None = None
    """As it was last seen whole; None before, and after a miss."""
    light_looks: int = 0
    """How many looks in a row told its state only."""

    @property
    def singly(self) -> bool:
        """Whether only a look of its own tells all: an array, or a het job."""
        job = self.last
        return job is not None and bool(job.tasks or job.array_job_id or job.het_job_id)


class Found(msgspec.Struct):
    """What a round brought."""

    jobs: dict[int, Job | None] = msgspec.field(default_factory=dict)
    """Jobs that were seen whole; None where the cluster says that it does not know one."""
    unchanged: set[int] = msgspec.field(default_factory=set)
    refused: dict[int, ClusterraError] = msgspec.field(default_factory=dict)
    """What no waiting can heal, of one job."""
    hiccup: ClusterraError | None = None
    unauthorized: AuthenticationError | None = None
    took: float = 0.0
    """Seconds that the dearest request took."""


class Looker:
    """Looks at jobs of one cluster, and remembers what each way of asking costs."""

    def __init__(self, client: AsyncClient, cluster_id: str) -> None:
        self._client = client
        self._cluster_id = cluster_id
        self._costs = Costs()
        self._way: tuple[Way, Way] | None = None

    async def look(self, due: Collection[Known], all_known: Collection[Known]) -> Found:
        """Look at the jobs that are due, and at all others where that costs nothing."""
        found = Found()
        to_see: list[Known] = []
        to_check: list[Known] = []
        async for each in in_turns(due):
            (to_see if each.singly or _wants_a_whole_look(each) else to_check).append(each)
        way = self._costs.way_to_look(len(to_check), time.time())
        if way is Way.STATES:
            changed = await self._check_states(to_check, all_known, found)
            if changed is None:
                return found
            to_see += changed
        else:
            to_see += to_check
        await self._see(to_see, found)
        self._tell_way(way, len(to_check), len(to_see))
        return found

    async def _check_states(
        self, due: list[Known], all_known: Collection[Known], found: Found
    ) -> list[Known] | None:
        """Those of the jobs whose state is another, or not told; None after a hiccup."""
        plain = {
            each.job_id: each async for each in in_turns(all_known) if each.last and not each.singly
        }
        asked = {each.job_id for each in due}
        if len(plain) > len(asked) and fits_a_url(plain):
            asked = set(plain)
        whole = not fits_a_url(asked)
        call = calls.list_states(self._cluster_id, [] if whole else sorted(asked))
        told = await self._batch(Way.STATES, found, due[0], lambda: self._states(call))
        if told is None:
            # another way in the next round, or the same in better weather
            return None if found.hiccup or found.unauthorized else due
        changed = []
        async for job_id, known in in_turns(plain.items()):
            state = told.get(job_id)
            if known.last is not None and state == known.last.state:
                known.light_looks += 1
                found.unchanged.add(job_id)
            elif state is not None or job_id in asked:
                changed.append(known)
        return changed

    async def _states(self, call: calls.Call[list[LightState]]) -> dict[int, JobState]:
        rows = call.read(await self._client.exchange(call))
        return {int(row.job_id): row.state for row in rows if row.job_id.isdigit()}

    async def _see(self, wanted: list[Known], found: Found) -> None:
        plain = [each for each in wanted if not each.singly]
        if self._costs.way_to_see(len(plain), time.time()) is Way.LIST:
            listed = await self._batch(Way.LIST, found, plain[0], self._list)
            if found.hiccup or found.unauthorized:
                return
            for each in plain:
                job = (listed or {}).get(each.job_id)
                # an array's records are many, and a job that is not listed may be known all the same
                if job is not None and not (job.array_job_id or job.het_job_id):
                    found.jobs[each.job_id] = job
        places = asyncio.Semaphore(AT_ONCE)
        left = [each.job_id for each in wanted if each.job_id not in found.jobs]
        await asyncio.gather(*(self._see_one(job_id, places, found) for job_id in left))

    async def _list(self) -> dict[int, Job]:
        call = calls.list_jobs(self._cluster_id)
        jobs = await read_jobs_answer(call, await self._client.exchange(call))
        return {job.job_id: job for job in jobs}

    async def _see_one(self, job_id: int, places: asyncio.Semaphore, found: Found) -> None:
        async with places:
            if found.hiccup or found.unauthorized:
                return
            call = calls.get_job(self._cluster_id, job_id)
            begin = time.perf_counter()
            try:
                answer = await self._client.exchange(call)
                found.jobs[job_id] = await read_job_answer(call, answer, job_id)
            except NotFoundError:
                found.jobs[job_id] = None
            except HICCUPS as error:
                found.hiccup = error
            except ClusterraError as error:
                if isinstance(error, AuthenticationError) and error.status == 401:
                    found.unauthorized = error
                else:
                    found.refused[job_id] = error
            took = time.perf_counter() - begin
            found.took = max(found.took, took)
            self._costs.note(Way.SINGLE, took, time.time())

    async def _batch(
        self, way: Way, found: Found, one: Known, ask: Callable[[], Awaitable[dict[int, T]]]
    ) -> dict[int, T] | None:
        """What one request for many jobs tells; None where it does not."""
        begin = time.perf_counter()
        try:
            told = await ask()
        except HICCUPS as error:
            # the weather, or this way alone: a look at one job tells
            await self._see_one(one.job_id, asyncio.Semaphore(1), found)
            if not found.hiccup and not found.unauthorized:
                self._costs.note_failure(way, time.time())
                found.hiccup = error
        except RequestError as error:
            if isinstance(error, AuthenticationError) and error.status == 401:
                found.unauthorized = error
            else:
                log.debug("Jobs are not asked for %s: %s", way, error)
                self._costs.rest(way, time.time())
        else:
            found.took = max(found.took, time.perf_counter() - begin)
            self._costs.note(way, time.perf_counter() - begin, time.time())
            return told
        return None

    def _tell_way(self, way: Way, checked: int, seen: int) -> None:
        ways = (way, self._costs.way_to_see(seen, time.time()))
        if ways != self._way:
            self._way = ways
            costs = {each.value: self._costs.of(each, time.time()) for each in Way}
            log.debug(
                "Cluster %s: %d jobs checked %s, %d seen %s; seconds a request: %s",
                self._cluster_id,
                checked,
                way,
                seen,
                ways[1],
                costs,
            )


def _wants_a_whole_look(known: Known) -> bool:
    job = known.last
    if job is None:
        return True
    return job.state.base == "PENDING" and known.light_looks >= WHOLE_EVERY
