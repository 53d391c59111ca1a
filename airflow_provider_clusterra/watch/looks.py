"""One round of looks at many jobs, in the cheapest way."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from enum import Enum, StrEnum
from functools import partial
from itertools import islice
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace

from airflow_provider_clusterra.api import calls
from airflow_provider_clusterra.api.answers import ACCESS_DENIED, INVALID_JOB_ID, Answer, checked
from airflow_provider_clusterra.api.client import AsyncClient
from airflow_provider_clusterra.api.errors import (
    HICCUPS,
    ClusterraError,
    NotFoundError,
    RequestError,
    Retry,
    TransportError,
    is_signed_out,
)
from airflow_provider_clusterra.api.jobs import Job, JobState
from airflow_provider_clusterra.watch.eventloop import (
    Stopwatch,
    read_job_answer,
    read_jobs_answer,
    yielding,
)
from airflow_provider_clusterra.watch.verdict import NOT_OFFERED

REMEASURE = 900.0
"""Seconds after which a figure is too old."""
BYTES_A_SECOND = 4e6
"""An answer's bytes count as time, too: a list is not cheap because a server is fast."""
SINGLE_AT_LEAST = 0.05
"""Seconds that a request for one job counts at least, however fast it is: they are to be few."""
WORTH_A_LIST = 1.0
"""Seconds that a list is thought to take before there was one."""
SINGLES_TO_LIST = 20
"""Requests for one job that a list is thought to take at least: a server that is slow is slow with it, too."""
LIST_TO_STATES = 100
"""Times the bytes that the same jobs' states have: 8 KB a job, and 80 bytes."""
FAILURES = 3
"""How often in a row a way may fail alone before it is given a rest."""
RESTS = Retry(first=20.0, cap=REMEASURE)
"""The rests of a way that fails, or is refused, again and again: what a gateway refuses for a moment is soon
asked for again, and what the API does not offer hardly ever."""
NEWEST_SHARE = 0.3
MOST_AT_ONCE = 4.0
"""A slow answer counts as so many times what was usual: the next one shows whether it was the only one."""
OUTLIER = 0.5
"""An answer that took less than this share of what was usual shows that those before it were slow."""
SHARE = 0.019
"""Of the server's time that looks may take: a slow one is followed by a long pause."""
SAVED = 2.0
"""Seconds of answering beyond that share before looks have to wait for it: a slow one is no rule."""
LONGEST_DEBT = 60.0
"""Seconds that a look waits for what earlier ones took, or one dear look's own share: looks that wait
for nothing (``poll_interval``) must not hold up all others for hours."""


class Way(StrEnum):
    """How jobs are asked for."""

    SINGLE = "one by one"
    STATES = "by jobs/state"
    LIST = "by the list"
    ARRAY = "arrays, one by one"


TOGETHER = (Way.STATES, Way.LIST)
"""Looks at many jobs; those at single ones come with each that ends."""


class Cost(msgspec.Struct, frozen=True):
    """What the next look at all jobs of a kind takes."""

    seconds: float = 0.0
    """Of the server."""
    requests: int = 1
    owed: float = 0.0
    """Seconds that earlier looks took beyond what they may."""

    @property
    def wait(self) -> float:
        """Seconds that a requested look waits: no more than one look's share."""
        return min(self.owed, self.seconds) / SHARE


class Load(msgspec.Struct, frozen=True):
    """What the next looks at all jobs that wait take."""

    shared: Cost = Cost()
    """One look that serves many jobs; no request if none do."""
    single: Cost = Cost(requests=0)
    """The jobs that are asked for one by one: arrays, those that are not shown or refused, and all if
    that is cheaper."""


class Costs:
    """What each way takes, in seconds a request."""

    def __init__(self) -> None:
        self._took: dict[Way, tuple[float, float]] = {}
        self._bytes: dict[Way, int] = {}
        self._rests_until: dict[Way, float] = {}
        self._failures: dict[Way, int] = {}
        self._spent = (0.0, float("-inf"))

    def note(self, way: Way, seconds: float, now: float, size: int = 0) -> None:
        """A request that took so long, be it in vain, and brought so many bytes."""
        self._bytes[way] = size
        old = self.of(way, now)
        if old is None or seconds < old * OUTLIER:
            old = seconds
        usual = min(seconds, old * MOST_AT_ONCE)
        self._took[way] = (old + NEWEST_SHARE * (usual - old), now)
        self._failures.pop(way, None)
        if way in TOGETHER:
            self.charge(seconds, now)

    def charge(self, seconds: float, now: float) -> None:
        """Seconds of answering that the next looks make up for."""
        most = SAVED + max(LONGEST_DEBT * SHARE, seconds)
        self._spent = (min(self._unpaid(now) + seconds, most), now)

    def _unpaid(self, now: float) -> float:
        """Seconds of answering that have not yet been made up for."""
        spent, at = self._spent
        return max(0.0, spent - SHARE * (now - at))

    def note_failure(self, way: Way, now: float, *, refused: bool = False) -> None:
        """A request was not answered well, or ``refused``, while a single one was."""
        failures = self._failures.get(way, 0) + 1
        if refused:
            failures = max(failures, FAILURES)
        self._failures[way] = failures
        if failures >= FAILURES:
            self._rests_until[way] = now + RESTS.pause(failures - FAILURES + 1)

    def of(self, way: Way, now: float) -> float | None:
        """Seconds that a request takes, or None if that is not known (any more)."""
        seconds, at = self._took.get(way, (0.0, float("-inf")))
        return seconds if now - at < REMEASURE else None

    def way_to_look(self, count: int, now: float, among: int = 0) -> Way:
        """How to look at so many jobs, ``among`` others, of which only a change matters."""
        if not count or max(count, among) < 2 or self._rests(Way.STATES, now):
            return self.way_to_see(count, now)
        if self.of(Way.STATES, now) is None:
            return Way.STATES
        # the list is never less: it has the same rows, and a hundred times the bytes
        ways = (Way.STATES, Way.SINGLE)
        return min(ways, key=lambda way: self._seconds(way, count, now))

    def way_to_see(self, count: int, now: float) -> Way:
        """How to see so many jobs whole."""
        if count < 2 or self._rests(Way.LIST, now):
            return Way.SINGLE
        if count > 2 and self._rests(Way.STATES, now) and self._bytes.keys().isdisjoint(TOGETHER):
            # nothing says what it costs but a try
            return Way.LIST
        ways = (Way.SINGLE, Way.LIST)
        return min(ways, key=lambda way: self._seconds(way, count, now))

    def are_many(self, count: int, now: float) -> bool:
        """Whether to see so many jobs whole is expensive."""
        way = self.way_to_see(count, now)
        return way is Way.LIST or self._seconds(way, count, now) > WORTH_A_LIST

    def load(self, shared: int, alone: int, arrays: int, now: float) -> Load:
        """What a look takes at so many jobs of which only a change matters, and at those that need
        a request each: ``alone``, and ``arrays``."""
        way = self.way_to_look(shared, now)
        if way is Way.SINGLE:
            shared, alone = 0, alone + shared
        seconds = alone * (self.of(Way.SINGLE, now) or 0.0) + arrays * (
            self.of(Way.ARRAY, now) or 0.0
        )
        owed = max(0.0, self._unpaid(now) - SAVED)
        one = Cost(self.of(way, now) or 0.0, 1, owed) if shared else Cost(requests=0)
        return Load(one, Cost(seconds, alone + arrays))

    def _seconds(self, way: Way, count: int, now: float) -> float:
        """What a way costs in all, bytes included."""
        one = self.of(way, now)
        if one is None and way is Way.LIST:
            states = LIST_TO_STATES * self._bytes.get(Way.STATES, 0) / BYTES_A_SECOND
            singles = SINGLES_TO_LIST * (self.of(Way.SINGLE, now) or 0.0)
            return max(WORTH_A_LIST, states, singles)
        if one is None:
            return SINGLE_AT_LEAST * count
        seconds = one + self._bytes[way] / BYTES_A_SECOND
        return max(seconds, SINGLE_AT_LEAST) * count if way is Way.SINGLE else seconds

    def _rests(self, way: Way, now: float) -> bool:
        return now < self._rests_until.get(way, float("-inf"))


log = logging.getLogger(__name__)
T = TypeVar("T")

AT_ONCE = 8
"""Requests under way at the same time."""
ABOUT_THE_JOB = (ACCESS_DENIED, INVALID_JOB_ID)
"""Slurm's own error numbers that speak of the job that was asked for; others are of its daemons."""
REASON_EVERY = 300.0
"""Seconds: a pending job's reason is not among the states, so it is seen whole now and then."""


RUNNING = JobState("RUNNING")
NEVER = float("inf")
LEFT_OUT = 2
"""How often in a row the states leave a job out that is there, until it is asked for by itself: an
answer may be older than that of a look."""


def is_singly(job: Job) -> bool:
    """Whether it is an array or a het job, which only a look of its own shows whole."""
    return bool(job.tasks or job.array_job_id or job.het_job_id)


class Need(Enum):
    """What the next look at a job has to show."""

    WHOLE = "all of it"
    """A pending job's reason, for one, is not among the states."""
    EITHER = "all of it, or its state if there are many"
    STATE = "its state"


class PolledJob(msgspec.Struct, frozen=True, gc=False):
    """What is remembered of a job that is looked at again and again. Times are monotonic."""

    job_id: int
    last: Job | None = None
    """As it was last seen whole; None before, after a miss, and if its waits want to see it anew."""
    seen_at: float = float("-inf")
    """When it was last seen whole."""
    whole: bool = True
    """Whether any wait needs more of it than its state while it runs."""
    misses: int = 0
    """How often in a row it was not shown."""
    left_out: int = 0
    """How often in a row the states left it out, although it is there."""
    left_out_at: float = float("-inf")
    planned: float = NEVER
    """When it is looked at next if nothing asks for a look before."""
    asked: float = NEVER
    """When the look is due that was asked for: by a wait that joined, or an output that ended."""
    asked_at: float = float("-inf")
    """When a look was last asked for."""
    hurried_to: float = float("-inf")
    """When the latest look that an output asked for is, or was, due: two of them are kept apart."""
    refused_since: float | None = None

    @property
    def singly(self) -> bool:
        """Whether only a look of its own shows all: an array, or a het job."""
        return self.last is not None and is_singly(self.last)

    @property
    def shares_looks(self) -> bool:
        """Whether the look that serves many is enough for it."""
        alone = self.singly or self.left_out >= LEFT_OUT or self.refused_since is not None
        return self.last is not None and not alone

    @property
    def joins_looks(self) -> bool:
        """Whether it takes part in a look that is due for others."""
        # no look has yet shown it to its waits, or failed to
        is_new = self.last is None and not self.misses and self.refused_since is None
        return is_new or self.shares_looks

    @property
    def due(self) -> float:
        """When it is looked at next."""
        # each pause asks all jobs, and min() takes three times as long
        return self.planned if self.planned < self.asked else self.asked  # noqa: FURB136

    @property
    def is_hurried(self) -> bool:
        """Whether it was seen before, and its next look is one that was asked for."""
        return self.last is not None and self.asked < self.planned

    def need(self, now: float) -> Need:
        """What of it is to be seen."""
        if self.last is None:
            return Need.EITHER if self.may_be_checked else Need.WHOLE
        is_stale = self.last.state.base == "PENDING" and now - self.seen_at >= REASON_EVERY
        return Need.STATE if self.shares_looks and not is_stale else Need.WHOLE

    @property
    def may_be_checked(self) -> bool:
        """Whether its state alone may be enough."""
        return not self.singly and (self.last is not None or not (self.whole or self.misses))

    @property
    def may_be_listed(self) -> bool:
        """Whether the list may show all of it."""
        return not (self.singly or self.misses or self.refused_since)

    def is_still(self, state: JobState | None) -> bool:
        """Whether it is as it was last seen."""
        return self.last is not None and state == self.last.state

    def is_to_be_seen(
        self, state: JobState | None, asked: Collection[int], needed: Collection[int]
    ) -> bool:
        """Whether its state, or that there is none, needs a look; one of its own comes when due."""
        if state is not None and self.last is not None and self.refused_since is None:
            # another state than before, even if the states have left it out until now
            return True
        return self.job_id in (asked if self.shares_looks else needed)

    def asked_after(self, begun: float) -> float:
        """When the look is due that was asked for; never, if the round that has ``begun`` last serves it."""
        return self.asked if self.asked > begun else NEVER

    def joined(self, now: float, due: float, *, begun: float, whole: bool) -> PolledJob:
        """One more wait for it begins, which has seen nothing yet."""
        asked = min(self.asked_after(begun), due)
        return replace(self, last=None, asked=asked, asked_at=now, whole=self.whole or whole)

    def hurried(
        self, now: float, soonest: float, *, begun: float, every: float, whole: bool
    ) -> PolledJob:
        """Something says that it may have ended."""
        due = max(soonest, self.hurried_to + every)
        if self.hurried_to > begun:
            # the look that was asked for before is still to come, and serves both
            due = max(now, self.hurried_to)
        last = None if whole else self.last
        asked = min(self.asked_after(begun), due)
        return replace(self, last=last, asked=asked, asked_at=now, hurried_to=due)

    def seen(self, job: Job | None, now: float, *, left_out: bool = False) -> PolledJob:
        """It was seen whole, or is not shown."""
        misses = self.misses + 1 if job is None else 0
        known = replace(self, last=job, seen_at=now, misses=misses, refused_since=None)
        if left_out and job is not None:
            return replace(known, left_out=self.left_out + 1, left_out_at=now)
        if self.left_out and now - self.left_out_at >= REMEASURE:
            # the states are tried once more
            return replace(known, left_out=LEFT_OUT - 1)
        return known

    def unchanged(self) -> PolledJob:
        """Its state is as it was."""
        was_alone = self.refused_since or self.left_out
        return replace(self, refused_since=None, left_out=0) if was_alone else self

    def refused(self, now: float) -> PolledJob:
        """The answer was no, and not Slurm's."""
        return self if self.refused_since is not None else replace(self, refused_since=now)

    def looked_at(self, begun: float, now: float, pause: float) -> PolledJob:
        """A look at it is over; what was asked for since it began is not forgotten."""
        asked = self.asked if self.asked_at > begun else NEVER
        return replace(self, planned=now + pause, asked=asked)


class RoundResult(msgspec.Struct):
    """What a round brought, for the poller to act on."""

    jobs: dict[int, Job | None] = msgspec.field(default_factory=dict)
    """Jobs as they were seen, with all that their waits need; None if the cluster says that it does not know one."""
    unchanged: set[int] = msgspec.field(default_factory=set)
    refused: dict[int, ClusterraError] = msgspec.field(default_factory=dict)
    """What was said about one job only, and is no answer."""
    hiccup: ClusterraError | None = None
    """What concerns all, and ended the round."""
    left_out: set[int] = msgspec.field(default_factory=set)
    """Jobs that the states do not show."""


def is_final(error: ClusterraError) -> bool:
    """Whether an error is Slurm's own numbered no, which no waiting changes. All else is said by
    something between Slurm and us."""
    return isinstance(error, RequestError) and error.number in ABOUT_THE_JOB


def concerns_all(error: ClusterraError) -> bool:
    """Whether an error says nothing of the job that was asked for: no answer, or no session."""
    return is_signed_out(error) or isinstance(error, HICCUPS)


@contextmanager
def surprises_in_our_words() -> Iterator[None]:
    """One look's surprise must not end all waits: without room on the machine it is a hiccup, and
    otherwise a refusal, which has its time to heal."""
    try:
        yield
    except ClusterraError:
        raise
    except Exception as exc:
        words = f"A look failed unexpectedly: {exc!r}"
        log.debug(words, exc_info=True)
        # RuntimeError: no thread can be started
        no_room = isinstance(exc, (OSError, MemoryError, RuntimeError))
        raise (TransportError if no_room else ClusterraError)(words) from exc


async def _read_states(wanted: Collection[int], answer: Answer) -> dict[int, JobState]:
    batches = checked(partial(calls.state_batches, job_ids=wanted))(answer)
    states = {
        int(row.job_id): row.state
        async for rows in yielding(batches, 1)
        for row in rows
        if row.job_id.isdecimal()
    }
    if states.keys().isdisjoint(wanted):
        # from a cache that is older than all of them: that says nothing of any one
        words = "The states show none of the jobs that they are asked for."
        raise NotFoundError(words, status=answer.status)
    return states


async def _compare(
    plain: Mapping[int, PolledJob],
    states: Mapping[int, JobState],
    asked: Collection[int],
    needed: Collection[int],
    result: RoundResult,
) -> AsyncIterator[PolledJob]:
    """Yield the jobs that need a look of their own, and record the others in the result."""
    async for job_id, job in yielding(plain.items()):
        state = states.get(job_id)
        if job.is_still(state):
            result.unchanged.add(job_id)
        elif job.last is None and state == RUNNING:
            result.jobs[job_id] = Job(job_id, RUNNING)
        elif job.is_to_be_seen(state, asked, needed):
            yield job


class Looker:
    """Looks at jobs of one cluster, and remembers what each way of asking costs."""

    def __init__(self, client: AsyncClient, cluster_id: str) -> None:
        self._client = client
        self._cluster_id = cluster_id
        self._costs = Costs()
        self._way: tuple[Way, Way] | None = None

    async def look(self, due: Collection[PolledJob], known: Collection[PolledJob]) -> RoundResult:
        """Look at the jobs that are due, and at all others if that costs nothing."""
        result = RoundResult()
        whole, light = await self._sort(due)
        two = [*islice((each for each in known if each.shares_looks), 2)]
        way = self._costs.way_to_look(len(light), time.monotonic(), len(two))
        if way is Way.STATES:
            whole += await self._check_states(light, known, result)
        else:
            whole += light
            self._charge_hurried(light)
        await self._see(whole, result)
        self._log_way(way, len(light), len(whole))
        return result

    def _charge_hurried(self, light: list[PolledJob]) -> None:
        """Looks at single jobs that an output asked for come on top of those planned."""
        now = time.monotonic()
        hurried = sum(each.is_hurried for each in light)
        self._costs.charge(hurried * (self._costs.of(Way.SINGLE, now) or 0.0), now)

    async def weigh(self, known: Collection[PolledJob]) -> Load:
        """What the next looks take; thousands of jobs that have just joined will share one."""
        shared = alone = arrays = 0
        async for each in yielding(known):
            if each.joins_looks:
                shared += 1
            elif each.singly:
                arrays += 1
            else:
                alone += 1
        return self._costs.load(shared, alone, arrays, time.monotonic())

    async def _sort(self, due: Collection[PolledJob]) -> tuple[list[PolledJob], list[PolledJob]]:
        """The jobs that are to be seen whole, and those whose state is enough for now."""
        now = time.monotonic()
        by_need: dict[Need, list[PolledJob]] = {need: [] for need in Need}
        async for each in yielding(due):
            by_need[each.need(now)].append(each)
        whole, either, light = by_need[Need.WHOLE], by_need[Need.EITHER], by_need[Need.STATE]
        if self._costs.are_many(len(whole) + len(either), now):
            # of many that run, their states are enough
            return whole, light + either
        return whole + either, light

    async def _check_states(
        self, due: list[PolledJob], known: Collection[PolledJob], result: RoundResult
    ) -> list[PolledJob]:
        """Those of the jobs whose state is another, or not shown."""
        plain = {each.job_id: each async for each in yielding(known) if each.may_be_checked}
        needed = {each.job_id for each in due}
        asked = plain.keys() if calls.fits_a_url(plain) else needed
        call = calls.list_states(self._cluster_id, asked)
        # too many to be named are asked for with all jobs: that is news of those that are not due, too
        read = partial(_read_states, plain)
        states = await self._batch(Way.STATES, result, due[0], call, read)
        if states is None:
            # another way in the next round, or the same in better weather
            return due
        changed = [each async for each in _compare(plain, states, asked, needed, result)]
        result.left_out = {each.job_id for each in changed} - states.keys()
        return changed

    async def _see(self, wanted: list[PolledJob], result: RoundResult) -> None:
        plain = [each for each in wanted if each.may_be_listed]
        if self._costs.way_to_see(len(plain), time.monotonic()) is Way.LIST:
            await self._see_in_list(plain, result)
        slots = asyncio.Semaphore(AT_ONCE)
        left = [each.job_id for each in wanted if each.job_id not in result.jobs]
        # after a hiccup these ask nothing
        await asyncio.gather(*(self._see_one(job_id, slots, result) for job_id in left))

    async def _see_in_list(self, plain: list[PolledJob], result: RoundResult) -> None:
        call = calls.list_jobs(self._cluster_id)
        read = partial(read_jobs_answer, call)
        jobs = await self._batch(Way.LIST, result, plain[0], call, read) or []
        # an array's records are many, and a job that is not listed may be known all the same
        listed = {job.job_id: job for job in jobs if not is_singly(job)}
        for each in plain:
            if each.job_id in listed:
                result.jobs[each.job_id] = listed[each.job_id]

    async def _see_one(self, job_id: int, slots: asyncio.Semaphore, result: RoundResult) -> None:
        async with slots:
            if result.hiccup is not None:
                return
            call = calls.get_job(self._cluster_id, job_id)
            watch, size = Stopwatch(), 0
            try:
                with surprises_in_our_words():
                    async with watch:
                        answer = await self._client.exchange(call)
                    size = len(answer.body)
                    result.jobs[job_id] = await read_job_answer(call, answer, job_id)
            except NotFoundError:
                result.jobs[job_id] = None
            except ClusterraError as error:
                if concerns_all(error):
                    result.hiccup = error
                else:
                    result.refused[job_id] = error
            seen = result.jobs.get(job_id)
            self._note(Way.ARRAY if seen and is_singly(seen) else Way.SINGLE, watch, size)

    async def _batch(
        self,
        way: Way,
        result: RoundResult,
        one: PolledJob,
        call: calls.Call[Any],
        read: Callable[[Answer], Awaitable[T]],
    ) -> T | None:
        """The answer of one request for many jobs, or None."""
        watch = Stopwatch()
        try:
            with surprises_in_our_words():
                async with watch:
                    answer = await self._client.exchange(call)
                answered = await read(answer)
        except ClusterraError as error:
            await self._blame(way, error, one, result)
            return None
        self._note(way, watch, len(answer.body))
        return answered

    async def _blame(
        self, way: Way, error: ClusterraError, one: PolledJob, result: RoundResult
    ) -> None:
        """Find out with a look at one job whether the API fails or this way alone."""
        if is_signed_out(error):
            result.hiccup = error
            return
        await self._see_one(one.job_id, asyncio.Semaphore(1), result)
        if result.hiccup is not None:
            return
        if one.job_id in result.refused:
            result.hiccup = error
            return
        refused = not concerns_all(error) or getattr(error, "status", 0) in NOT_OFFERED
        self._costs.note_failure(way, time.monotonic(), refused=refused)
        if refused:
            log.debug("Jobs are not asked for %s for now: %s", way, error)
        else:
            result.hiccup = error

    def _note(self, way: Way, watch: Stopwatch, size: int) -> None:
        self._costs.note(way, watch.seconds, time.monotonic(), size)

    def _log_way(self, way: Way, checked: int, seen: int) -> None:
        now = time.monotonic()
        ways = (way, self._costs.way_to_see(seen, now))
        if ways != self._way:
            self._way = ways
            log.debug(
                "Cluster %s: %d jobs checked %s, %d seen %s; seconds a request: %s",
                self._cluster_id,
                checked,
                way,
                seen,
                ways[1],
                {each.value: self._costs.of(each, now) for each in Way},
            )
