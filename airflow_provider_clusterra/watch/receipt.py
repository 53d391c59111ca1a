"""What jobs have used, asked of accounting after their ends: for all that end together at once."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
from contextlib import suppress

from msgspec.structs import replace

from airflow_provider_clusterra.api import calls
from airflow_provider_clusterra.api.client import AsyncClient, Client
from airflow_provider_clusterra.api.errors import ONCE, ClusterraError
from airflow_provider_clusterra.api.jobs import Job
from airflow_provider_clusterra.api.usage import Run, is_told, usage_of
from airflow_provider_clusterra.watch.eventloop import cancel_and_wait
from airflow_provider_clusterra.watch.verdict import Silence, silence_of

log = logging.getLogger(__name__)

PAUSE, LONGEST = 2.0, 10.0
"""Seconds between two rounds of questions: slurmdbd hears of an end seconds later."""
SHARE = 0.02
"""Of the server's time that questions may take."""
TOGETHER = 100
"""Jobs in one question: a record has some KB, and more for each step."""
REST = 600.0
"""Seconds for which accounting that is not there is not asked again."""

Told = dict[int, list[Run]]


class Receipts:
    """Asks accounting of one cluster."""

    def __init__(self, client: AsyncClient, cluster_id: str) -> None:
        self._client = client
        self._cluster_id = cluster_id
        self._wanted: set[str] = set()
        self._next: asyncio.Task[Told] | None = None
        self._rounds: set[asyncio.Task[Told]] = set()
        self._turn = asyncio.Lock()
        self._not_before = 0.0
        self._absent_until = 0.0

    async def add_to(self, job: Job, patience: float) -> Job:
        """An ended job with its usage, as accounting has it in so many seconds, if at all."""
        end = time.monotonic() + patience
        runs: list[Run] = []
        with suppress(TimeoutError):
            async with asyncio.timeout(patience + LONGEST):
                while time.monotonic() >= self._absent_until:
                    runs = (await self._ask(_parts(job))).get(job.job_id, [])
                    if is_told(job, runs) or time.monotonic() >= end:
                        break
        return replace(job, usage=await asyncio.to_thread(usage_of, job, runs))

    async def close(self) -> None:
        """Ask no more."""
        for each in [*self._rounds]:
            await cancel_and_wait(each)

    async def _ask(self, parts: list[str]) -> Told:
        self._wanted.update(parts)
        asked = self._next
        if asked is None:
            asked = self._next = asyncio.get_running_loop().create_task(
                self._round(), name="clusterra-receipts", context=contextvars.Context()
            )
            self._rounds.add(asked)
            asked.add_done_callback(self._rounds.discard)
        # whoever is cancelled leaves it to the others who want to know
        await asyncio.wait({asked})
        return {} if asked.cancelled() else asked.result()

    async def _round(self) -> Told:
        async with self._turn:
            await asyncio.sleep(max(0.0, self._not_before - time.monotonic()))
            wanted, self._wanted, self._next = sorted(self._wanted), set(), None
            told: Told = {}
            begin = time.monotonic()
            try:
                for first in range(0, len(wanted), TOGETHER):
                    call = calls.list_runs(self._cluster_id, wanted[first : first + TOGETHER])
                    answer = await self._client.exchange(call)
                    for run in await asyncio.to_thread(call.read, answer):
                        job = run.job
                        for job_id in {job.job_id, job.array_job_id, job.het_job_id}:
                            told.setdefault(job_id or 0, []).append(run)
            except Exception as error:  # noqa: BLE001 - a receipt is never the reason to fail
                log.debug("Accounting does not say what jobs used: %r", error)
                late = isinstance(error, ClusterraError) and silence_of(error) is Silence.LATE
                self._absent_until = 0.0 if late else time.monotonic() + REST
            now = time.monotonic()
            self._not_before = now + min(LONGEST, max(PAUSE, (now - begin) / SHARE))
            return told


def account_for(client: Client, cluster_id: str, job: Job) -> Job:
    """An ended job with its usage, for which nobody has asked yet."""
    parts, runs = _parts(job), list[Run]()
    for pause in (0.0, PAUSE, PAUSE):
        time.sleep(pause)
        try:
            asked = [parts[first : first + TOGETHER] for first in range(0, len(parts), TOGETHER)]
            calls_ = (calls.list_runs(cluster_id, each) for each in asked)
            runs = [run for call in calls_ for run in client.send(call, retry=ONCE)]
        except Exception as error:  # noqa: BLE001 - a receipt is never the reason to fail
            log.debug("Accounting does not say what job %s used: %r", job.job_id, error)
            break
        if is_told(job, runs):
            break
    return replace(job, usage=usage_of(job, runs)) if runs else job


def _parts(job: Job) -> list[str]:
    """What to ask for: the job, or the tasks of a large array in several questions."""
    tasks = [task.array_task_id for task in job.tasks if task.array_task_id is not None]
    if len(tasks) <= TOGETHER:
        return [str(job.job_id)]
    return [f"{job.job_id}_{index}" for index in tasks]
