"""An array as its task sees it: when it has succeeded, and which indices a retry submits."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from itertools import chain

from msgspec.structs import replace

from airflow_provider_clusterra.api.errors import InputError, ProtocolError
from airflow_provider_clusterra.api.jobs import Job, one_job

Ends = Mapping[int, Job]
"""Array index to the task as it ended."""
PART = re.compile(r"(\d{1,9})(?:-(\d{1,9})(?::(\d{1,9}))?)?")
MASK = re.compile(r"0[xX]([0-9a-fA-F]+)")
MOST = 100_000
"""Indices of one array that can be waited for; a Slurm allows 1001 unless it is set up otherwise."""


@lru_cache(maxsize=16)
def read_indices(text: str) -> frozenset[int]:
    """The indices in Slurm's forms: ``"0-9:3,12%2"``, or as accounting
    writes those that never began, a mask (``"0x3C"``).

    :raises ProtocolError: there are more than :data:`MOST`.
    """
    body = text.partition("%")[0].strip().strip("[]")
    mask = MASK.fullmatch(body)
    if mask:
        return _read_mask(mask[1])
    ranges = [_read_part(part.strip()) for part in body.split(",", MOST)]
    if sum(map(len, ranges)) > MOST:
        raise _too_many(body)
    return frozenset(chain(*ranges))


def _read_part(text: str) -> range:
    found = PART.fullmatch(text)
    if not found:
        return range(0)
    first = int(found[1])
    return range(first, int(found[2] or first) + 1, int(found[3] or 1) or 1)


def _read_mask(digits: str) -> frozenset[int]:
    if len(digits) * 4 > MOST:
        raise _too_many(f"0x{digits}")
    bits = f"{int(digits, 16):b}"[::-1]
    return frozenset(index for index, bit in enumerate(bits) if bit == "1")


def _too_many(text: str) -> ProtocolError:
    return ProtocolError(
        f"The array's indices {text[:40]!r} are more than {MOST}, which is as many as can be waited "
        "for."
    )


def check_indices(array: str) -> None:
    """Refuse an array before its submit that could not be waited for after it.

    :raises InputError: there are more than :data:`MOST` indices.
    """
    try:
        read_indices(array)
    except ProtocolError as error:
        raise InputError(f"array: {error} Split it, or give wait_for_completion=False.") from error


def write_indices(indices: Iterable[int]) -> str:
    """Indices in Slurm's form, e.g. ``"0-3,7"``."""
    runs: list[list[int]] = []
    for index in sorted(indices):
        if runs and runs[-1][-1] == index - 1:
            runs[-1][1:] = [index]
        else:
            runs.append([index])
    return ",".join("-".join(map(str, run)) for run in runs)


def is_array(job: Job) -> bool:
    """Whether a job is an array with its tasks."""
    return any(indices_of(task) for task in job.tasks)


def indices_of(task: Job) -> frozenset[int]:
    """The indices that one record stands for: its own, or those that have not begun."""
    if task.array_task_id is not None:
        return frozenset({task.array_task_id})
    return read_indices(task.array_task_string)


def all_indices(tasks: Iterable[Job]) -> frozenset[int]:
    """The indices of all records together.

    :raises ProtocolError: there are more than :data:`MOST`.
    """
    found: list[frozenset[int]] = []
    count = 0
    for task in tasks:
        found.append(indices_of(task))
        count += len(found[-1])
        if count > 2 * MOST:
            raise _too_many(task.array_task_string)
    return frozenset[int]().union(*found)


def collect_ends(ends: Ends, tasks: Iterable[Job]) -> Ends:
    """The ends known before and those shown now; a task that runs again has none."""
    found = dict(ends)
    for task in tasks:
        for index in indices_of(task):
            if task.state.ended:
                found[index] = replace(task, array_task_id=index, array_task_string="")
            else:
                found.pop(index, None)
    return found


def with_ends(job: Job, ends: Ends) -> Job:
    """An array as the ends of its tasks make it."""
    tasks = [replace(task, array_job_id=job.job_id) for task in ends.values()]
    return one_job(tasks, job.job_id) or job


def counts_of(job: Job) -> dict[str, int]:
    """How many of an array's tasks are in each state, e.g. ``{"RUNNING": 3, "PENDING": 96}``."""
    counts: dict[str, int] = {}
    for task in job.tasks:
        counts[task.state.base] = counts.get(task.state.base, 0) + max(1, len(indices_of(task)))
    return counts


ArraySuccess = str | float
"""``"all"``, ``"any"``, a number of tasks, or a fraction of them."""
OF_THE_WHOLE = re.compile(r"\bSLURM_ARRAY_TASK_(?:COUNT|MIN|MAX|STEP)\b")
"""What a script cannot ask if only some of its indices are submitted: Slurm counts only those."""


def tasks_needed(array_success: ArraySuccess, tasks: int) -> int:
    """How many of an array's tasks must succeed."""
    if array_success == "all":
        return tasks
    if array_success == "any":
        return 1
    if isinstance(array_success, float):
        # 0.7 of 10 is 7, whatever a float makes of it
        return math.ceil(round(array_success * tasks, 9))
    return int(array_success)


def array_succeeded(job: Job, array_success: ArraySuccess = "all") -> bool:
    """Whether a job has succeeded; an array may do so with some of its tasks."""
    tasks = array_tasks(job)
    if not tasks or array_success == "all":
        return job.state.succeeded
    return len(succeeded_indices(job)) >= tasks_needed(array_success, len(tasks))


def exited_only_with(job: Job, codes: Collection[int]) -> bool:
    """Whether the job, or each of its tasks or components that did not succeed, exited with such a code."""
    bad = job.failed_tasks or (job,)
    return all(part.state.base == "FAILED" and part.exit.code in codes for part in bad)


def array_tasks(job: Job) -> tuple[Job, ...]:
    """An array's tasks, as far as they are known; none if it is no array."""
    return tuple(task for task in job.tasks if task.array_task_id is not None)


def failed_array_tasks(job: Job) -> list[Job]:
    """An array's tasks that did not succeed; none if it is no array."""
    return [task for task in array_tasks(job) if not task.state.succeeded]


def succeeded_indices(job: Job) -> frozenset[int]:
    """The indices that have surely succeeded."""
    return frozenset(task.place for task in array_tasks(job) if task.state.succeeded)


def with_earlier(job: Job, earlier: Iterable[Job]) -> Job:
    """An array together with what earlier tries of it brought."""
    tasks = {task.place: task for task in earlier}
    if not tasks:
        return job
    tasks |= {task.place: task for task in array_tasks(job)}
    return replace(job, tasks=tuple(tasks[index] for index in sorted(tasks)))


def narrowed(array: str, indices: Iterable[int]) -> str:
    """An array of some of its indices, as many of them at once as before."""
    _, percent, at_once = array.partition("%")
    return f"{write_indices(indices)}{percent}{at_once}"


def check_indices_alone(script: str, *, of_list: bool = False) -> None:
    """Refuse to submit only some indices of a script that counts on all of them.

    :raises InputError: it names one of the variables that describe the whole array.
    """
    named = OF_THE_WHOLE.search(script)
    if not named:
        return
    if of_list:
        raise InputError(
            f"map_over: the function names {named[0]}, which would describe the failed elements alone "
            "when a retry runs only these. Give it the number as an argument."
        )
    raise InputError(
        f"retry_failed_indices: the script names {named[0]}, which would describe the failed "
        "indices alone when only these are submitted again. Give it the number in environment=, "
        "or leave retry_failed_indices out."
    )


def pack_ids(tasks: Iterable[Job]) -> dict[str, str]:
    """The own job ids of tasks or components, as :attr:`JobEvent.task_ids` has them: few words, because
    Slurm mostly counts on from one to the next.
    """
    groups: dict[str, set[int]] = {}
    for task in tasks:
        if task.place >= 0 and task.job_id:
            groups.setdefault(str(task.job_id - task.place), set()).add(task.place)
    return {more: write_indices(indices) for more, indices in groups.items()}


def unpack_ids(packed: dict[str, str]) -> dict[int, int]:
    """Index to own job id."""
    return {
        index: index + int(more)
        for more, indices in packed.items()
        for index in read_indices(indices)
    }
