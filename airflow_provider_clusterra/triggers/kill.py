"""Whether a deferred task whose trigger is being ended still wants its job.

Airflow calls a trigger's ``on_kill`` when a user marks, clears or fails the task. It calls it, too,
when another triggerer has taken the trigger over: then the job must live.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from asgiref.sync import sync_to_async

from airflow_provider_clusterra.api.retry import Retry

log = logging.getLogger(__name__)

THROUGH_AN_OUTAGE = Retry(tries=40)
"""About a quarter of an hour: nobody comes back to cancel a job that a kill has left alone."""

_under_way: set[asyncio.Task[None]] = set()


async def finish_in_spite_of_cancels(work: Coroutine[Any, Any, None], name: str) -> None:
    """Run something to its end: the triggerer cancels an ``on_kill`` again after a second.

    :param work: a coroutine that nobody awaits yet.
    :param name: for the logs of asyncio.
    """
    task = asyncio.get_running_loop().create_task(work, name=name)
    _under_way.add(task)
    task.add_done_callback(_under_way.discard)
    await asyncio.shield(task)


async def is_wanted(task_instance: Any, job_id: int) -> bool:
    """Whether the task still waits for this very job, or nobody can tell.

    The state alone does not say it: a task that was cleared may wait again, for its next job.

    :param task_instance: the trigger's, as the triggerer sets it.
    :param job_id: the trigger's job.
    :source: the task's state, and XCom ``job_id``, which each try pushes anew.
    """
    try:
        return await sync_to_async(_look)(task_instance, job_id)
    except Exception:
        log.exception("It cannot be told whether job %s is still wanted; it is left alone.", job_id)
        return True


def _look(task_instance: Any, job_id: int) -> bool:
    # only a kill needs them, and they are large
    from airflow.providers.common.compat.sdk import XCom  # noqa: PLC0415
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance  # noqa: PLC0415

    ti = task_instance
    states = RuntimeTaskInstance.get_task_states(
        dag_id=ti.dag_id,
        task_ids=[ti.task_id],
        run_ids=[ti.run_id],
        map_index=ti.map_index if ti.map_index >= 0 else None,
    )
    # a mapped task's key has its index
    name = f"{ti.task_id}_{ti.map_index}" if ti.map_index >= 0 else ti.task_id
    if states.get(ti.run_id, {}).get(name) != "deferred":
        return False
    pushed = XCom.get_one(
        key="job_id",
        dag_id=ti.dag_id,
        task_id=ti.task_id,
        run_id=ti.run_id,
        map_index=ti.map_index,
    )
    return bool(pushed == job_id)
