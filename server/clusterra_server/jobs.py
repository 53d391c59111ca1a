"""A job of the processes backend: its values, its ends, and what may start next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from signal import SIGHUP

from clusterra_server.requests import Request, StateOf, progress, read_dependencies

NODE = "local1"
"""The one machine's name."""


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
    ran: bool = False
    """Whether it was ever given CPUs."""
    completing: bool = False
    """Whether it is over, and some of its processes may be there still."""
    exit_code: int = 0
    signal: int = 0
    array_job_id: int = 0
    array_task_id: int = -1
    """-1: not a task of an array."""
    details: str = ""
    """What else there is to say of the reason."""
    user_seconds: float = 0.0
    system_seconds: float = 0.0
    peak_memory: int = 0
    """Bytes; 0: nobody measured it."""

    @property
    def key(self) -> tuple[int, int]:
        """What stays: the id that its submit was answered with, and its index."""
        return self.array_job_id or self.job_id, self.array_task_id

    @property
    def pending(self) -> bool:
        """Whether it waits to start."""
        return self.state == "PENDING"

    @property
    def active(self) -> bool:
        """Whether it is pending or running."""
        return self.state in ("PENDING", "RUNNING")

    def remembered_since(self, when: float) -> bool:
        """Whether it is not over, or was not before a time."""
        return self.active or self.completing or self.ended >= when

    def start(self, now: float) -> None:
        """It has its CPUs."""
        self.state, self.reason, self.started, self.ran = "RUNNING", "None", now, True

    def wait_on(self, reason: str) -> None:
        """It does not start after all."""
        self.state, self.reason, self.started, self.ran = "PENDING", reason, 0.0, False
        self.job_id = self.key[0]

    def end(
        self, state: str, reason: str, now: float, *, exit_code: int = 0, signal: int = 0
    ) -> None:
        """It is over, but for what may still have to be cleaned up."""
        self.state, self.reason, self.ended = state, reason, now
        self.started = self.started or now
        self.exit_code, self.signal = exit_code, signal

    def lose(self, now: float) -> None:
        """The server went down under it."""
        self.end("NODE_FAIL", "NodeDown", now, signal=SIGHUP)
        self.completing = False


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


@dataclass(frozen=True, slots=True)
class Plan:
    """What the scheduler decides in one round."""

    start: tuple[Job, ...]
    waits: tuple[tuple[Job, str], ...]
    """The jobs that stay, each with its reason."""
    wake: float | None
    """The next begin time, if there is one."""


class _Room:
    """The CPUs that are free in one round, and how many tasks of each array are under way."""

    def __init__(self, jobs: Iterable[Job], cpus: int) -> None:
        busy = [job for job in jobs if not job.pending]
        self._free = cpus - sum(job.request.cpus for job in busy)
        self._under_way = Counter(job.array_job_id for job in busy)
        self._blocked = False

    def take(self, job: Job) -> str:
        """Give a job its CPUs; otherwise the reason that it waits."""
        if 0 < job.request.at_once <= self._under_way[job.array_job_id]:
            return "JobArrayTaskLimit"
        if self._blocked:
            return "Priority"
        if job.request.cpus > self._free:
            self._blocked = True
            return "Resources"
        self._free -= job.request.cpus
        self._under_way[job.array_job_id] += 1
        return ""


def plan(jobs: Iterable[Job], state_of: StateOf, cpus: int, now: float) -> Plan:
    """Which jobs start now: in the order given, and none overtakes one that waits for CPUs.

    :param jobs: all that wait to start or hold CPUs, also while they are cleaning up.
    :param cpus: how many there are.
    """
    jobs = list(jobs)
    room = _Room(jobs, cpus)
    start: list[Job] = []
    waits: list[tuple[Job, str]] = []
    # the tasks of an array share their request
    reasons: dict[int, str] = {}
    for job in (each for each in jobs if each.pending):
        if id(job.request) not in reasons:
            reasons[id(job.request)] = waits_for(job.request, state_of, cpus, now)
        if reason := reasons[id(job.request)] or room.take(job):
            waits.append((job, reason))
        else:
            start.append(job)
    begins = [job.request.begin_time for job, reason in waits if reason == "BeginTime"]
    return Plan(tuple(start), tuple(waits), min(begins, default=None))


def waits_for(request: Request, state_of: StateOf, cpus: int, now: float) -> str:
    """Why a job cannot start whatever is free; empty if it can.

    :source: Slurm's job reason codes.
    """
    if request.hold:
        return "JobHeldUser"
    if request.begin_time > now:
        return "BeginTime"
    if request.larger_than(cpus):
        return "PartitionConfig"
    words = {progress(each, state_of) for each in read_dependencies(request.dependency)}
    if "failed" in words:
        return "DependencyNeverSatisfied"
    return "Dependency" if "unfulfilled" in words else ""


def job_environment(job: Job) -> dict[str, str]:
    """A job's variables, as a batch script of Slurm finds them.

    :source: recorded ``env`` of a job submitted to slurmrestd: what ``sbatch`` alone would set
        (``SLURM_SUBMIT_DIR``, ``SLURM_CPUS_PER_TASK`` …) is not there.
    """
    given = dict(each.partition("=")[::2] for each in job.request.environment if each.find("=") > 0)
    slurm = {
        "SLURM_JOB_ID": str(job.job_id),
        "SLURM_JOBID": str(job.job_id),
        "SLURM_JOB_NAME": job.request.name,
        "SLURM_JOB_PARTITION": job.request.partition,
        "SLURM_JOB_NODELIST": NODE,
        "SLURM_NODELIST": NODE,
        "SLURM_JOB_NUM_NODES": "1",
        "SLURM_NNODES": "1",
        "SLURM_JOB_CPUS_PER_NODE": str(job.request.cpus),
        "SLURM_CPUS_ON_NODE": str(job.request.cpus),
        "SLURM_NTASKS": str(job.request.tasks),
        "SLURM_CLUSTER_NAME": "local",
        "SLURMD_NODENAME": NODE,
    }
    return given | slurm | _array(job)


def _array(job: Job) -> dict[str, str]:
    if not job.array_job_id:
        return {}
    indices = job.request.indices
    return {
        "SLURM_ARRAY_JOB_ID": str(job.array_job_id),
        "SLURM_ARRAY_TASK_ID": str(job.array_task_id),
        "SLURM_ARRAY_TASK_COUNT": str(len(indices)),
        "SLURM_ARRAY_TASK_MIN": str(min(indices)),
        "SLURM_ARRAY_TASK_MAX": str(max(indices)),
        "SLURM_ARRAY_TASK_STEP": str(indices[1] - indices[0] if len(indices) > 1 else 1),
    }
