"""A job of the processes backend: its values, and what may start next."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from airflow_provider_clusterra.local.requests import Request

DEPENDENCY = re.compile(r"(afterok|afternotok|afterany)((?::\d+)+)")


@dataclass(slots=True)
class Job:
    """One job, or one task of an array. Times are seconds since 1970; 0 is "not yet"."""

    job_id: int
    request: Request
    submitted: float
    state: str = "PENDING"
    reason: str = "None"
    started: float = 0.0
    ended: float = 0.0
    completing: bool = False
    exit_code: int = 0
    signal: int = 0
    array_job_id: int = 0
    array_task_id: int = -1
    """-1: not a task of an array."""

    @property
    def pending(self) -> bool:
        """Whether it waits to start."""
        return self.state == "PENDING"

    @property
    def active(self) -> bool:
        """Whether it is pending or running."""
        return self.state in ("PENDING", "RUNNING")

    @property
    def occupies(self) -> bool:
        """Whether it waits for CPUs, or holds some: also while it is cleaning up."""
        return self.active or self.completing

    def ended_before(self, when: float) -> bool:
        """Whether it was over, and cleaned up, before a time."""
        return not self.active and not self.completing and self.ended < when

    def end(
        self, state: str, reason: str, now: float, *, exit_code: int = 0, signal: int = 0
    ) -> None:
        """It is over, but for what may still have to be cleaned up."""
        self.state, self.reason, self.ended = state, reason, now
        self.started = self.started or now
        self.exit_code, self.signal = exit_code, signal


def end_of_process(returncode: int) -> tuple[str, str, int, int]:
    """State, reason, exit code and signal of a script that ended by itself.

    :param returncode: as :mod:`subprocess` has it: negative for a signal.
    """
    if returncode == 0:
        return "COMPLETED", "None", 0, 0
    if returncode < 0:
        return "FAILED", "RaisedSignal", 0, -returncode
    return "FAILED", "NonZeroExitCode", returncode, 0


def together(tasks: Sequence[Job]) -> str:
    """The state of an array as a dependency on it sees it."""
    if any(task.active for task in tasks):
        return "RUNNING"
    return "COMPLETED" if all(task.state == "COMPLETED" for task in tasks) else "FAILED"


def next_to_start(jobs: Iterable[Job], states: Mapping[int, str], cpus: int) -> Job | None:
    """The next job to start, if any; each job that must wait gets its reason.

    :param jobs: all that wait for CPUs or hold some, in the order of their submit.
    :param states: every known job's state by its id, for dependencies.
    :param cpus: how many there are.
    """
    active = list(jobs)
    free = cpus - sum(job.request.cpus for job in active if not job.pending)
    chosen: Job | None = None
    blocked = False
    for job in active:
        if not job.pending:
            continue
        job.reason = _waits_for(job, active, states, cpus)
        if job.reason != "None":
            continue
        if blocked or job.request.cpus > free:
            job.reason = "Priority" if blocked else "Resources"
            blocked = True
        elif chosen is None:
            chosen = job
            free -= job.request.cpus
    return chosen


def _waits_for(job: Job, active: list[Job], states: Mapping[int, str], cpus: int) -> str:
    if job.request.hold:
        return "JobHeldUser"
    if job.request.cpus > cpus:
        return "PartitionConfig"
    if job.request.dependency:
        return dependency_reason(job.request.dependency, states)
    if job.request.at_once:
        running = [
            each for each in active if each.array_job_id == job.array_job_id and not each.pending
        ]
        if len(running) >= job.request.at_once:
            return "JobArrayTaskLimit"
    return "None"


def dependency_reason(dependency: str, states: Mapping[int, str]) -> str:
    """Why a job with this dependency must wait: ``"None"`` where it need not.

    :param dependency: e.g. ``"afterok:12:13,afterany:14"``; all must hold.
    :param states: every known job's state by its id; a job that is not there has been purged.
    """
    reason = "None"
    for kind, ids in DEPENDENCY.findall(dependency):
        for job_id in ids.strip(":").split(":"):
            state = states.get(int(job_id), "COMPLETED")
            if state in ("PENDING", "RUNNING"):
                reason = "Dependency"
            elif kind != "afterany" and (kind == "afterok") != (state == "COMPLETED"):
                return "DependencyNeverSatisfied"
    return reason
