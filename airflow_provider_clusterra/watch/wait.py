"""The one wait: sightings in, a verdict out. The triggerer and a worker run the same coroutine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from airflow_provider_clusterra.api.errors import WaitTimeoutError
from airflow_provider_clusterra.api.jobs import Job
from airflow_provider_clusterra.watch.poller import Poller
from airflow_provider_clusterra.watch.verdict import Outcome, Progress, Verdict, Watch, judge


async def wait_for_job(
    poller: Poller,
    watch: Watch,
    *,
    poll_interval: float,
    deadline: float | None,
    on_change: Callable[[Job], None],
) -> Verdict:
    """Wait until the job has ended, or is lost.

    :param poller: of the job's connection and cluster.
    :param watch: the job.
    :param poll_interval: seconds between two looks once the job is old.
    :param deadline: seconds since 1970 at which patience ends, or None.
    :param on_change: called with the job when its state or reason is another than before.
    :returns: a verdict whose outcome is not "wait".
    :raises WaitTimeoutError: the deadline passed.
    :raises ClusterraError: what no waiting can heal.
    """
    progress = Progress()
    shown: tuple[object, ...] | None = None
    left = None if deadline is None else max(0.0, deadline - time.time())
    try:
        async with (
            asyncio.timeout(left),
            poller.sightings(watch.job_id, poll_interval) as sightings,
        ):
            async for sighting in sightings:
                progress, verdict = judge(watch, progress, sighting)
                if sighting.job is not None and shown != (face := _face(sighting.job)):
                    shown = face
                    on_change(sighting.job)
                if verdict.outcome is not Outcome.WAIT:
                    return verdict
    except TimeoutError:
        waited = time.time() - watch.since
        state = progress.last.state if progress.last else "not seen yet"
        raise WaitTimeoutError(
            f"Job {watch.job_id} is {state} after {waited:.0f} s, which is as long as it may take.",
            progress.last,
            waited=waited,
        ) from None
    raise AssertionError("sightings never end by themselves")


def _face(job: Job) -> tuple[object, ...]:
    return (job.state, job.reason, job.restarts, job.nodes)
