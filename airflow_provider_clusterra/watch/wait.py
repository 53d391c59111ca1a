"""The one wait: sightings in, a verdict out. The triggerer and a worker run the same coroutine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

from msgspec.structs import replace

from airflow_provider_clusterra.api.errors import ClusterraError, WaitTimeoutError
from airflow_provider_clusterra.api.jobs import Job
from airflow_provider_clusterra.watch.arrays import counts_of
from airflow_provider_clusterra.watch.concurrency import stop
from airflow_provider_clusterra.watch.poller import Poller, Waiter
from airflow_provider_clusterra.watch.tail import Tail, has_output
from airflow_provider_clusterra.watch.verdict import (
    WAIT,
    Outcome,
    Progress,
    Sighting,
    Verdict,
    Watch,
    judge,
    judge_accounting,
)


class Wait:
    """One wait for one job."""

    def __init__(
        self,
        poller: Poller,
        watch: Watch,
        *,
        poll_interval: float,
        on_change: Callable[[Job], object],
        on_warning: Callable[[str], object],
        tail: Tail | None = None,
    ) -> None:
        self._poller = poller
        self._watch = watch
        self._poll_interval = poll_interval
        self._on_change = on_change
        self._on_warning = on_warning
        self._tail = tail
        self._progress = Progress()
        self._shown: tuple[object, ...] | None = None
        self._warned = ""
        self._following: asyncio.Task[None] | None = None

    async def run(self, deadline: float | None) -> Verdict:
        """Wait until the job has ended, or waiting has no sense any more.

        :raises WaitTimeoutError: the deadline passed.
        :raises ClusterraError: what no waiting can heal.
        """
        watch = self._watch
        left = None if deadline is None else max(0.0, deadline - time.time())
        seen = self._poller.sightings(watch.job_id, self._poll_interval, watch.since)
        async with seen as waiter:
            try:
                async with asyncio.timeout(left):
                    verdict = await self._until_verdict(waiter)
            except TimeoutError:
                raise self._timed_out() from None
            finally:
                await self._stop_following()
            client = self._poller.client
            ended = verdict.job if verdict.outcome is Outcome.ENDED else None
            if self._tail is not None and client is not None and ended and has_output(ended):
                await self._with_care(self._tail.finish(client))
            return verdict

    async def _until_verdict(self, waiter: Waiter) -> Verdict:
        sighting: Sighting | None = None
        verdict = WAIT
        ask_from = 0.0
        while True:
            seen = await waiter.next(verdict.until)
            if seen is None and sighting is not None:
                # nothing was seen, but time has passed
                seen = replace(sighting, at=time.time())
            if seen is None:
                continue
            sighting = seen
            self._progress, found = judge(self._watch, self._progress, seen)
            if found.outcome is Outcome.MISSING:
                found = verdict
                if seen.at >= ask_from:
                    found = await self._ask_accounting()
                    ask_from = found.until or 0.0
            verdict = found
            await self._tell(seen.job, verdict)
            if verdict.outcome is not Outcome.WAIT:
                return verdict

    async def _ask_accounting(self) -> Verdict:
        told: list[Job] | ClusterraError | None
        try:
            told = await self._poller.list_accounting(self._watch.job_id)
        except ClusterraError as error:
            told = error
        self._progress, verdict = judge_accounting(self._watch, self._progress, time.time(), told)
        return verdict

    async def _tell(self, job: Job | None, verdict: Verdict) -> None:
        if job is not None and self._shown != (face := _face(job)):
            self._shown = face
            self._on_change(job)
        if verdict.outcome is Outcome.WAIT and verdict.words and verdict.words != self._warned:
            self._warned = verdict.words
            self._on_warning(verdict.words)
        if job is None:
            return
        if self._following is not None and job.state.base == "PENDING":
            # it runs again later, and may begin its output anew
            await self._stop_following()
        if self._following is None and job.state.base == "RUNNING" and has_output(job):
            self._follow(job.job_id)

    def _follow(self, job_id: int) -> None:
        client = self._poller.client
        if self._tail is not None and client is not None:
            work = self._tail.follow(client, lambda: self._poller.hurry(job_id))
            self._following = asyncio.create_task(
                self._with_care(work), name=f"clusterra-tail-{job_id}"
            )

    async def _stop_following(self) -> None:
        if self._following is not None:
            await stop(self._following)
            self._following = None

    async def _with_care(self, work: Coroutine[Any, Any, None]) -> None:
        """Output is never the reason for which a task fails."""
        try:
            await work
        except Exception as exc:  # noqa: BLE001 - whatever it is, the wait goes on
            self._on_warning(f"The output of job {self._watch.job_id} cannot be followed: {exc!r}")

    def _timed_out(self) -> WaitTimeoutError:
        last = self._progress.last
        waited = time.time() - self._watch.since
        return WaitTimeoutError(
            f"Job {self._watch.job_id} is {last.state if last else 'not seen yet'} after "
            f"{waited:.0f} s, which is as long as it may take.",
            last,
            waited=waited,
        )


def _face(job: Job) -> tuple[object, ...]:
    if job.tasks:
        return tuple(sorted(counts_of(job).items()))
    return (job.state, job.reason, job.restarts, job.nodes)
