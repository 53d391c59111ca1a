"""Cancelling a job, and knowing that it is gone."""

from __future__ import annotations

import asyncio
import time

from airflow_provider_clusterra.api.access import Access
from airflow_provider_clusterra.api.client import AsyncClient
from airflow_provider_clusterra.api.errors import NotFoundError
from airflow_provider_clusterra.api.jobs import Job

CONFIRM_WITHIN = 45.0
"""Seconds: Slurm's KillWait (30 s), in which a script may ignore SIGTERM, and a margin."""
LOOK_EVERY = 1.0


async def cancel_and_confirm(
    client: AsyncClient, cluster_id: str, job_id: int, within: float = CONFIRM_WITHIN
) -> Job | None:
    """Cancel a job and wait until it has ended and nothing of it runs any more.

    :raises ClusterraError: it could not be cancelled, or not be looked at.
    :source: ``DELETE …/jobs/{job_id}``, which only requests it; ``GET …/jobs/{job_id}``.
    """
    await client.cancel_job(cluster_id, job_id)
    end = time.monotonic() + within
    while True:
        try:
            job = await client.get_job(cluster_id, job_id)
        except NotFoundError:
            return None
        if time.monotonic() >= end or job.state.finished:
            return job
        await asyncio.sleep(LOOK_EVERY)


async def cancel_if_alive(
    client: AsyncClient, cluster_id: str, job_id: int
) -> tuple[bool, Job | None]:
    """As :func:`cancel_and_confirm`, for a job that may have ended.

    :raises ClusterraError: it could not be cancelled, or not be looked at.
    """
    try:
        job = await client.get_job(cluster_id, job_id)
    except NotFoundError:
        return False, None
    if job.state.finished:
        return False, job
    return True, await cancel_and_confirm(client, cluster_id, job_id)


async def cancel_now(access: Access, cluster_id: str, job_id: int) -> Job | None:
    """As :func:`~airflow_provider_clusterra.watch.cancel.cancel_and_confirm`, with its own client.

    :raises ClusterraError: it could not be cancelled, or not be looked at.
    """
    async with AsyncClient(access) as client:
        return await cancel_and_confirm(client, cluster_id, job_id)
