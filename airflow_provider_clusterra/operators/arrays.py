"""An array as its task sees it: when it has succeeded, and which indices a retry submits."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from msgspec.structs import replace

from airflow_provider_clusterra.api.errors import InputError
from airflow_provider_clusterra.api.jobs import Job
from airflow_provider_clusterra.watch.arrays import read_indices, write_indices

ArraySuccess = str | float
"""``"all"``, ``"any"``, a number of tasks, or a fraction of them."""
OF_THE_WHOLE = re.compile(r"\bSLURM_ARRAY_TASK_(?:COUNT|MIN|MAX|STEP)\b")
"""What a script cannot ask where only some of its indices are submitted: Slurm tells it of those."""


def check_array_success(array_success: ArraySuccess) -> None:
    """Refuse what says of no array whether it has succeeded.

    :param array_success: as an author wrote it.
    :raises InputError: it is neither ``"all"`` nor ``"any"``, nor a number of tasks (an int above
        0), nor a fraction of them (a float, 0 < fraction <= 1).
    """
    if array_success in ("all", "any"):
        return
    if isinstance(array_success, int) and not isinstance(array_success, bool):
        possible = array_success > 0
    else:
        possible = isinstance(array_success, float) and 0 < array_success <= 1
    if not possible:
        raise InputError(
            f"array_success is {array_success!r}; it can be 'all', 'any', a number of tasks, e.g. "
            "95, or a fraction of them, e.g. 0.95."
        )


def tasks_needed(array_success: ArraySuccess, tasks: int) -> int:
    """How many of an array's tasks must succeed.

    :param array_success: of :func:`check_array_success`.
    :param tasks: how many it has.
    """
    if array_success == "all":
        return tasks
    if array_success == "any":
        return 1
    if isinstance(array_success, float):
        # 0.7 of 10 is 7, whatever a float makes of it
        return math.ceil(round(array_success * tasks, 9))
    return int(array_success)


def array_succeeded(job: Job, array_success: ArraySuccess = "all") -> bool:
    """Whether a job has succeeded, where an array may do so with some of its tasks.

    :param job: that has ended.
    :param array_success: of :func:`check_array_success`.
    """
    tasks = array_tasks(job)
    if not tasks or array_success == "all":
        return job.state.succeeded
    return len(succeeded_indices(job)) >= tasks_needed(array_success, len(tasks))


def array_tasks(job: Job) -> tuple[Job, ...]:
    """An array's tasks, as far as they are known; none where it is no array.

    :param job: of :func:`~airflow_provider_clusterra.api.jobs.one_job`.
    """
    return tuple(task for task in job.tasks if task.array_task_id is not None)


def succeeded_indices(job: Job) -> frozenset[int]:
    """The indices that have surely succeeded.

    :param job: an array.
    """
    return frozenset(
        task.array_task_id
        for task in job.tasks
        if task.array_task_id is not None and task.state.succeeded
    )


def with_earlier(job: Job, earlier: Iterable[Job]) -> Job:
    """An array together with what earlier tries of it brought.

    :param job: this try's.
    :param earlier: tasks that succeeded before.
    """
    tasks = {task.array_task_id: task for task in earlier}
    if not tasks:
        return job
    tasks |= {task.array_task_id: task for task in array_tasks(job)}
    together = sorted(tasks.values(), key=lambda task: task.array_task_id or 0)
    return replace(job, tasks=tuple(together))


def narrowed(array: str, indices: Iterable[int]) -> str:
    """An array of some of its indices, as many of them at once as before.

    :param array: as it was submitted first, e.g. ``"0-99%10"``.
    :param indices: of it, e.g. ``{3, 7}``: ``"3,7%10"``.
    """
    _, percent, at_once = array.partition("%")
    return f"{write_indices(indices)}{percent}{at_once}"


def left_of(array: str, succeeded: Iterable[int]) -> frozenset[int]:
    """The indices that have not succeeded: they failed, or nobody knows.

    :param array: as it was submitted first.
    :param succeeded: indices.
    """
    return read_indices(array) - frozenset(succeeded)


def check_indices_alone(script: str) -> None:
    """Refuse to submit only some indices of a script that counts on all of them.

    :param script: its text.
    :raises InputError: it names one of the variables that tell of the whole array.
    """
    named = OF_THE_WHOLE.search(script)
    if named:
        raise InputError(
            f"retry_failed_indices: the script names {named[0]}, which would tell of the failed "
            "indices alone when only these are submitted again. Give it the number in environment=, "
            "or leave retry_failed_indices out."
        )
