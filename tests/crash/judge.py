"""The verdict over what the server remembers of its jobs and Airflow of its tasks. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations
from typing import NamedTuple

TASK_ENDS = frozenset({"success", "failed"})
OVERLAP_AFTER_CLEAR = 10.0
"""Seconds for which a cleared task's old job may live beside its new one."""
CANCELLED_WITHIN = 25.0
"""Seconds after a user has ended a task within which its job is gone. A triggerer's first look at
Airflow alone takes up to 8 s."""
AT_ONCE = 2.0
"""Seconds by which clocks and files may tell a job's end late."""


class TaskKey(NamedTuple):
    """A round's task."""

    round: int
    index: int
    """Its map index, or -1."""


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A job as the server remembers it. Times are seconds since 1970."""

    job_id: int
    task: TaskKey
    max_tries: int | None
    """As the tag in its name tells; a clear changes it. None where there is no tag."""
    state: str
    submitted: float
    ended: float
    """When the last of it was gone."""
    whose: str = ""
    """What its tag says of the task: another in each iteration of a loop."""

    @property
    def owner(self) -> tuple[str, int | None]:
        """Whose job it is: a clear, too, makes it another one's."""
        return self.whose, self.max_tries

    @property
    def succeeded(self) -> bool:
        """Whether it ran to success."""
        return self.state == "COMPLETED"


@dataclass(frozen=True, slots=True)
class TaskRecord:
    """A task as Airflow shows it at the end."""

    task: TaskKey
    state: str
    ended: float
    """Seconds since 1970; 0 where it has not ended."""
    expected: frozenset[str]
    """The states in which it may end."""
    by_user: bool = False
    """Whether a user has ended it."""
    cleared: bool = False
    """Whether a user has cleared it."""
    terminated: bool = False
    """Whether a SIGTERM ended a try: a kill, after which a job that has just ended is run again."""
    iterations: int = 1
    """How many jobs it takes: in a loop it is one record for all of them."""
    may_leave_its_job: bool = False
    """Whether its job may outlive it: nobody can tell that it is its own, or it is another task's."""


class Fault(StrEnum):
    """What must not be."""

    DUPLICATE = "duplicate"
    TOGETHER = "two alive"
    ORPHAN = "orphan"
    FALSE_SUCCESS = "false success"
    STUCK = "stuck"
    WRONG_END = "wrong end"


class Finding(NamedTuple):
    """Something that must not be, of one task."""

    task: TaskKey
    fault: Fault
    words: str


def judge(tasks: Iterable[TaskRecord], jobs: Sequence[JobRecord]) -> list[Finding]:
    """Everything that must not be."""
    found: list[Finding] = []
    for task in tasks:
        own = sorted((job for job in jobs if job.task == task.task), key=lambda job: job.submitted)
        for check in (_duplicates, _together, _orphans, _false_success, _end):
            found += [Finding(task.task, fault, words) for fault, words in check(task, own)]
    return found


Told = Iterable[tuple[Fault, str]]


def _duplicates(task: TaskRecord, jobs: list[JobRecord]) -> Told:
    if task.terminated:
        return
    counts = Counter(job.owner for job in jobs if job.succeeded)
    for owner, count in counts.items():
        if count > 1:
            ids = [job.job_id for job in jobs if job.succeeded and job.owner == owner]
            yield Fault.DUPLICATE, f"jobs {ids} all ran to success"


def _together(task: TaskRecord, jobs: list[JobRecord]) -> Told:
    for old, new in combinations(jobs, 2):
        overlap = min(old.ended, new.ended) - new.submitted
        allowed = OVERLAP_AFTER_CLEAR if task.cleared and old.owner != new.owner else 0.0
        if overlap > allowed:
            words = f"jobs {old.job_id} and {new.job_id} were alive together for {overlap:.1f} s"
            yield Fault.TOGETHER, words


def _orphans(task: TaskRecord, jobs: list[JobRecord]) -> Told:
    if task.state not in TASK_ENDS or task.may_leave_its_job:
        return
    allowed = CANCELLED_WITHIN if task.by_user else AT_ONCE
    for job in jobs:
        longer = job.ended - task.ended
        if longer > allowed:
            words = f"job {job.job_id} lived {longer:.0f} s longer than its task ({task.state})"
            yield Fault.ORPHAN, words


def _false_success(task: TaskRecord, jobs: list[JobRecord]) -> Told:
    if task.state != "success":
        return
    owners = {job.owner for job in jobs if job.succeeded}
    # in a loop, a clear may have made more of them
    if len(owners) < task.iterations or jobs[-1].owner not in owners:
        yield Fault.FALSE_SUCCESS, "no job ran to success, but the task succeeded"


def _end(task: TaskRecord, _: list[JobRecord]) -> Told:
    if task.state not in TASK_ENDS:
        yield Fault.STUCK, f"the task is {task.state}"
    elif task.state not in task.expected:
        yield Fault.WRONG_END, f"the task is {task.state}, not {' or '.join(sorted(task.expected))}"
