"""What comes before a deferral and after one that failed."""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import timedelta
from functools import partial
from typing import Any

from airflow_provider_clusterra.api import calls
from airflow_provider_clusterra.api.access import Access
from airflow_provider_clusterra.api.client import AsyncClient, Client
from airflow_provider_clusterra.api.errors import ClusterraError, InputError
from airflow_provider_clusterra.api.retry import ONCE
from airflow_provider_clusterra.hooks.clusterra import ClusterraHook
from airflow_provider_clusterra.triggers.events import JobEvent
from airflow_provider_clusterra.watch.cancel import cancel_now
from airflow_provider_clusterra.watch.tail import Tail, has_output

log = logging.getLogger(__name__)

TRIGGER_MARGIN = 120.0
"""Seconds by which Airflow's own timeout of a deferral is longer than ours, so that the trigger can
cancel the job, see it gone, read its output to the end, and tell."""
ON_STUCK = ("fail", "warn")


def check_on_stuck(on_stuck: str) -> None:
    """Refuse what is no way of taking a job that will never start.

    :raises InputError: it is not one of :data:`ON_STUCK`.
    """
    if on_stuck not in ON_STUCK:
        raise InputError(f"on_stuck is {on_stuck!r}; it can be 'fail' or 'warn'.")


def seconds(limit: float | timedelta | None) -> float | None:
    """A limit in seconds."""
    if limit is None:
        return None
    return limit.total_seconds() if isinstance(limit, timedelta) else float(limit)


def deadline_of(now: float, *limits: float | timedelta | None) -> float | None:
    """When the earliest of some limits ends, in seconds since 1970; None where there is none."""
    given = [limit for limit in map(seconds, limits) if limit is not None]
    return now + min(given) if given else None


def deferral_of(deadline: float | None) -> float | None:
    """Airflow's timeout of a deferral, in seconds."""
    return None if deadline is None else max(0.0, deadline - time.time()) + TRIGGER_MARGIN


def first_look(client: Client, cluster_id: str, job_id: int) -> JobEvent | None:
    """One look before deferring: a job that has ended already needs no triggerer."""
    try:
        job = client.send(calls.get_job(cluster_id, job_id), retry=ONCE)
    except ClusterraError as error:
        log.debug("The first look at job %s: %s", job_id, error)
        return None
    if job.state.finished and not job.tasks:
        return JobEvent("ended", job.job_id, cluster_id, job)
    return None


def abandon(hook: ClusterraHook, job_id: int) -> None:
    """Cancel a job that nobody waits for any more, see that it is gone, and say so.

    :raises ClusterraError: it could not be cancelled, or not be looked at.
    """
    with hook.client() as client:
        access, cluster_id = client.access, hook.find_cluster(client)
    job = asyncio.run(cancel_now(access, cluster_id, job_id))
    state = job.state if job else "no longer known to the cluster"
    log.warning("Job %s was cancelled: it is %s.", job_id, state)


def read_output(access: Access, tail: Tail, *, to_the_end: bool) -> None:
    """Give what is new of a job's output, in a worker that looks now and then."""

    async def read() -> None:
        async with AsyncClient(access) as client:
            await (tail.finish(client) if to_the_end else tail.catch_up(client))

    try:
        asyncio.run(read())
    except ClusterraError as error:
        log.debug("The output cannot be read now: %s", error)


def write_output(access: Access, event: JobEvent, logger: Any) -> None:
    """Write all of a job's output into a task's log, after the job's end, where it has any."""
    if event.job is None or not has_output(event.job):
        return
    write = partial(logger.info, "%s")
    tail = Tail(event.cluster_id, event.job_id, write=write, note=write)
    read_output(access, tail, to_the_end=True)
