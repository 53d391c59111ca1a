"""An array's tasks: Slurm forgets them one by one, so their ends are collected."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from msgspec.structs import replace

from airflow_provider_clusterra.api.jobs import Job, one_job

Ends = Mapping[int, Job]
"""Array index to the task as it ended."""
PART = re.compile(r"(\d+)(?:-(\d+)(?::(\d+))?)?")
MOST = 4_000_000
"""Slurm's own bound of an index (MAX_ARRAY_SIZE)."""


def read_indices(text: str) -> frozenset[int]:
    """The indices of Slurm's form, as far as it tells them.

    :param text: e.g. ``"0-9:2%4"``, ``"1,3,7-9"``; Slurm ends a long one with ``"..."``.
    """
    found: set[int] = set()
    for part in text.partition("%")[0].strip("[]").split(","):
        told = PART.fullmatch(part.strip())
        if told:
            first = int(told[1])
            last = min(int(told[2] or first), first + MOST)
            found.update(range(first, last + 1, int(told[3] or 1) or 1))
    return frozenset(found)


def write_indices(indices: Iterable[int]) -> str:
    """Indices in Slurm's form, e.g. ``"0-3,7"``.

    :param indices: in any order.
    """
    runs: list[list[int]] = []
    for index in sorted(indices):
        if runs and runs[-1][-1] == index - 1:
            runs[-1][1:] = [index]
        else:
            runs.append([index])
    return ",".join("-".join(map(str, run)) for run in runs)


def is_array(job: Job) -> bool:
    """Whether a job is an array with its tasks.

    :param job: of :func:`~airflow_provider_clusterra.api.jobs.one_job`.
    """
    return any(indices_of(task) for task in job.tasks)


def indices_of(task: Job) -> frozenset[int]:
    """The indices that one record stands for: its own, or those that have not begun.

    :param task: of an array's ``tasks``.
    """
    if task.array_task_id is not None:
        return frozenset({task.array_task_id})
    return read_indices(task.array_task_string)


def collect_ends(ends: Ends, tasks: Iterable[Job]) -> Ends:
    """The ends known before and those shown now; a task that runs again has none.

    :param ends: known before.
    :param tasks: as shown now.
    """
    found = dict(ends)
    for task in tasks:
        for index in indices_of(task):
            if task.state.ended:
                found[index] = replace(task, array_task_id=index, array_task_string="")
            else:
                found.pop(index, None)
    return found


def with_ends(job: Job, ends: Ends) -> Job:
    """An array as the ends of its tasks make it.

    :param job: the array as last seen.
    :param ends: at least one.
    """
    tasks = [replace(task, array_job_id=job.job_id) for task in ends.values()]
    return one_job(tasks, job.job_id) or job


def counts_of(job: Job) -> dict[str, int]:
    """How many of an array's tasks are in each state, e.g. ``{"RUNNING": 3, "PENDING": 96}``.

    :param job: of :func:`~airflow_provider_clusterra.api.jobs.one_job`.
    """
    counts: dict[str, int] = {}
    for task in job.tasks:
        counts[task.state.base] = counts.get(task.state.base, 0) + max(1, len(indices_of(task)))
    return counts
