"""What jobs have used, asked of accounting after their ends: for all that end together at once."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from airflow_provider_clusterra.api import calls
from airflow_provider_clusterra.api.client import AsyncClient, Client
from airflow_provider_clusterra.api.errors import (
    ONCE,
    ApiError,
    ClusterraError,
    RequestError,
    TooLargeError,
)
from airflow_provider_clusterra.api.jobs import Job
from airflow_provider_clusterra.api.usage import Run, is_told, may_have_used, untold, usage_of
from airflow_provider_clusterra.watch.eventloop import cancel_and_wait
from airflow_provider_clusterra.watch.verdict import Silence, silence_of

log = logging.getLogger(__name__)

PAUSE = 2.0
"""Seconds between two rounds of questions: slurmdbd hears of an end seconds later."""
LONGEST = 10.0
"""Seconds that a question may take beyond a wait's patience."""
SHARE, ARRAY_SHARE = 0.02, 0.2
"""Of the server's time that questions may take; those for a large array end soon."""
OVER = 300.0
"""Seconds of which the share may be taken at once: most jobs that end alone need two questions."""
TOGETHER = 100
"""Records in one question, as far as is known: one has some KB, and more for each step."""
EACH = 0.5
"""Seconds more that an array's receipt may take for each of its questions."""
REST = 600.0
"""Seconds for which accounting that is not there is not asked again."""
VAIN, DOUBT = 3, 60.0
"""After so many waits in a row for nothing, no job waits for a second question for so many seconds."""

Answers = asyncio.Future[list[Run] | None]
"""The runs of one job, or None if asking again is of no use."""


class Budget(msgspec.Struct, frozen=True):
    """Seconds of the server's time that are left for questions, at a time."""

    left: float = SHARE * OVER
    at: float = 0.0
    took: float = 0.0
    """One of the last questions."""

    def after(self, begin: float, end: float, questions: int) -> Budget:
        """What is left once they have been answered."""
        took = end - begin
        return Budget(self._left_at(begin) - took, begin, took / questions)

    def next_turn(self, now: float, middle: float) -> float:
        """When to ask: now, or when slurmdbd surely knows (in a wait's middle) if it cannot be twice."""
        left = self._left_at(now)
        if left >= 2 * self.took:
            return now
        missing = max(0.0, min(self.took, SHARE * OVER) - left)
        return max(middle, now + missing / SHARE)

    def _left_at(self, now: float) -> float:
        return min(SHARE * OVER, self.left + SHARE * (now - self.at))


class _Wait(NamedTuple):
    job: Job
    begin: float
    end: float


class Receipts:
    """Asks accounting of one cluster: one question at a time, and one of a large array."""

    def __init__(
        self,
        client: AsyncClient,
        cluster_id: str,
        *,
        pause: float = PAUSE,
        longest: float = LONGEST,
    ) -> None:
        self._client = client
        self._cluster_id = cluster_id
        self._pause, self._longest = pause, longest
        self._wanted: dict[Answers, _Wait] = {}
        self._asker: asyncio.Task[None] | None = None
        self._array = asyncio.Lock()
        self._budget = Budget()
        self._not_before = 0.0
        self._vain, self._doubt_until = 0, 0.0
        self._absent_until = 0.0

    async def add_to(self, job: Job, patience: float) -> Job:
        """An ended job with its usage, as accounting has it in so many seconds, if at all."""
        if not may_have_used(job):
            return replace(job, usage=usage_of(job))
        many = len(job.tasks) // TOGETHER if _is_large(job) else 0
        begin, told = time.monotonic(), False
        doubted = self._vain >= VAIN and begin < self._doubt_until
        patience = many * EACH + (0 if doubted else patience)
        runs: list[Run] = []
        with suppress(TimeoutError):
            async with asyncio.timeout(patience + self._longest):
                ask = self._ask_array if many else self._ask_job
                told = await ask(job, runs, begin + patience)
        if told:
            self._vain = 0
        elif not doubted and time.monotonic() - begin > patience / 2:
            self._vain, self._doubt_until = self._vain + 1, time.monotonic() + DOUBT
        return replace(job, usage=await asyncio.to_thread(usage_of, job, runs))

    async def close(self) -> None:
        """Ask no more."""
        self._absent_until = float("inf")
        if self._asker is not None:
            await cancel_and_wait(self._asker)
        for answer in [*self._wanted]:
            self._settle(answer, None)

    def _settle(self, answer: Answers, runs: list[Run] | None) -> None:
        """Whoever asked may have been cancelled meanwhile."""
        self._wanted.pop(answer, None)
        if not answer.done():
            answer.set_result(runs)

    async def _ask_job(self, job: Job, runs: list[Run], end: float) -> bool:
        """Together with all others that ask now; whether accounting has its end."""
        begin = time.monotonic()
        while time.monotonic() >= self._absent_until:
            found = await self._ask_with_others(_Wait(job, begin, end))
            if found is None:
                return False
            runs[:] = found
            if await asyncio.to_thread(is_told, job, runs):
                return True
            if time.monotonic() >= end:
                return False
        return False

    async def _ask_with_others(self, wait: _Wait) -> list[Run] | None:
        loop = asyncio.get_running_loop()
        answer: Answers = loop.create_future()
        self._wanted[answer] = wait
        if self._asker is None or self._asker.done():
            self._asker = loop.create_task(
                self._ask_all(), name="clusterra-receipts", context=contextvars.Context()
            )
        try:
            return await answer
        finally:
            self._wanted.pop(answer, None)

    async def _ask_array(self, job: Job, runs: list[Run], end: float) -> bool:
        """In many questions with pauses, and again for those tasks that it left out."""
        async with self._array:
            pieces, _ = await asyncio.to_thread(_left, job, runs)
            while pieces and time.monotonic() >= self._absent_until:
                for parts in pieces:
                    begin = time.monotonic()
                    runs += await self._ask(parts) or []
                    await asyncio.sleep((time.monotonic() - begin) / ARRAY_SHARE)
                pieces, runs[:] = await asyncio.to_thread(_left, job, runs)
                if not pieces or time.monotonic() + self._pause > end:
                    break
                await asyncio.sleep(self._pause)
            return not pieces

    async def _ask_all(self) -> None:
        while self._wanted:
            turn = self._dismiss()
            if not self._wanted:
                return
            await asyncio.sleep(turn - time.monotonic())
            begin = time.monotonic()
            questions = _questions(self._wanted)
            for question in questions:
                await self._answer(question)
            if questions:
                now = time.monotonic()
                self._budget = self._budget.after(begin, now, len(questions))
                self._not_before = now + self._pause

    def _dismiss(self) -> float:
        """When the next questions are due; those that cannot wait for them go on without."""
        middle = min((wait.begin + wait.end) / 2 for wait in self._wanted.values())
        now = time.monotonic()
        turn = max(self._not_before, self._budget.next_turn(now, middle))
        for answer, wait in [*self._wanted.items()]:
            if max(now, wait.end) < turn:
                self._settle(answer, None)
        return turn

    async def _answer(self, question: Mapping[Answers, Job]) -> None:
        waiting = {each: job.job_id for each, job in question.items() if each in self._wanted}
        if not waiting:
            return
        found = await self._ask([str(job_id) for job_id in sorted({*waiting.values()})])
        by_job = _by_job(found or ())
        for each, job_id in waiting.items():
            self._settle(each, None if found is None else by_job.get(job_id, []))

    async def _ask(self, parts: list[str]) -> list[Run] | None:
        """One question, or its halves if the answer is too large; None: to ask again is no use."""
        if time.monotonic() < self._absent_until:
            return None
        call = calls.list_runs(self._cluster_id, parts)
        try:
            answer = await self._client.exchange(call)
            return await asyncio.to_thread(call.read, answer)
        except Exception as error:  # noqa: BLE001 - a receipt is never the reason to fail
            log.debug("Accounting does not say what jobs %s used: %r", ",".join(parts), error)
            if isinstance(error, TooLargeError):
                return await self._ask_halves(parts)
            if _is_absent(error):
                self._absent_until = max(self._absent_until, time.monotonic() + REST)
            return [] if _may_come_back(error) else None

    async def _ask_halves(self, parts: list[str]) -> list[Run] | None:
        middle = len(parts) // 2
        if not middle:
            return None
        halves = [await self._ask(parts[:middle]), await self._ask(parts[middle:])]
        return [run for half in halves for run in half or ()]


def account_for(client: Client, cluster_id: str, job: Job) -> Job:
    """An ended job with its usage, for which nobody has asked yet."""
    if not may_have_used(job):
        return job
    runs: list[Run] = []
    for pause in (0.0, PAUSE, PAUSE):
        time.sleep(pause)
        if not _ask_once(client, cluster_id, job, runs) or is_told(job, runs):
            break
    return replace(job, usage=usage_of(job, runs)) if runs else job


def _ask_once(client: Client, cluster_id: str, job: Job, runs: list[Run]) -> bool:
    """Add what accounting has of a job; False if asking again is of no use."""
    pieces, runs[:] = _left(job, runs)
    for parts in pieces:
        try:
            found = client.send(calls.list_runs(cluster_id, parts), retry=ONCE)
            runs += found
        except Exception as error:  # noqa: BLE001 - a receipt is never the reason to fail
            log.debug("Accounting does not say what job %s used: %r", job.job_id, error)
            if not _may_come_back(error):
                return False
    return True


def records_or_none(ask: Callable[[], list[Job]]) -> list[Job] | None:
    """What accounting answers; None if it refuses.

    :raises ClusterraError: it does not answer now (:attr:`Silence.LATE`), or fails otherwise.
    """
    try:
        return ask()
    except RequestError as error:
        if silence_of(error) is Silence.LATE:
            raise
        log.debug("Accounting cannot be asked: %s", error)
        return None


def _may_come_back(error: Exception) -> bool:
    return isinstance(error, ClusterraError) and silence_of(error) is Silence.LATE


def _is_absent(error: Exception) -> bool:
    """Whether it is the API's no to every question, not to this one alone (400)."""
    return isinstance(error, ApiError) and error.status != 400 and not _may_come_back(error)


def _questions(wanted: Mapping[Answers, _Wait]) -> list[dict[Answers, Job]]:
    """Each of so many records, as far as is known."""
    found: list[dict[Answers, Job]] = []
    size = TOGETHER
    for each, (job, *_) in wanted.items():
        more = max(1, len(job.tasks))
        size += more
        if size > TOGETHER:
            found.append({})
            size = more
        found[-1][each] = job
    return found


def _by_job(runs: Iterable[Run]) -> dict[int, list[Run]]:
    found: dict[int, list[Run]] = {}
    for run in runs:
        for job_id in run.job.ids:
            found.setdefault(job_id, []).append(run)
    return found


def _is_large(job: Job) -> bool:
    return len(job.tasks) > TOGETHER and job.tasks[0].array_task_id is not None


def _left(job: Job, runs: Iterable[Run]) -> tuple[list[list[str]], list[Run]]:
    """What to ask of one job, in pieces, and those runs that stay as they are."""
    if not _is_large(job):
        return [[str(job.job_id)]], []
    left = untold(job, runs)
    parts = [f"{job.job_id}_{index}" for index in sorted(left)]
    pieces = [parts[first : first + TOGETHER] for first in range(0, len(parts), TOGETHER)]
    return pieces, [run for run in runs if run.job.array_task_id not in left]
