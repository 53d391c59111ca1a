"""The backend that runs scripts as processes of this machine."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from airflow_provider_clusterra.local.family import Family, end_with_parent
from airflow_provider_clusterra.local.jobs import Job, end_of_process, next_to_start, together
from airflow_provider_clusterra.local.records import NODE
from airflow_provider_clusterra.local.requests import Request

EFS = "/mnt/efs"
"""The folder that Clusterra's jobs share; here it is one in the server's own folder."""
CANNOT_START = 53
"""The signal that Slurm gives a job which could not be started."""
NO_INTERPRETER = 2
NOT_EXECUTABLE = 8


@dataclass(frozen=True, slots=True)
class Limits:
    """What bounds the jobs. Seconds, but for ``cpus``."""

    cpus: int
    min_job_age: float = 300.0
    """How long an ended job is remembered, as Slurm's MinJobAge."""
    kill_wait: float = 30.0
    """How long a job may ignore SIGTERM, as Slurm's KillWait."""
    minute: float = 60.0
    """How long a minute of a job's time limit is."""


class Processes:
    """Jobs as processes: each in a session of its own, its output in ``job_<id>.out``."""

    def __init__(self, folder: Path, limits: Limits, variables: dict[str, str]) -> None:
        self.efs = folder / "efs"
        self._spool = folder / "spool"
        self._counter = folder / "last_job_id"
        self._limits = limits
        self._variables = variables
        self._jobs: dict[int, Job] = {}
        self._arrays: dict[int, list[Job]] = {}
        self._history: list[Job] = []
        self._running: dict[int, asyncio.Task[None]] = {}
        self._family = Family()
        for each in (self.efs, self._spool):
            each.mkdir(parents=True, exist_ok=True)
        self._last_id = int(self._counter.read_text()) if self._counter.exists() else 0

    @property
    def cpus(self) -> int:
        """How many CPU slots there are."""
        return self._limits.cpus

    @property
    def busy_cpus(self) -> int:
        """How many of them are in use."""
        return sum(job.request.cpus for job in self._jobs.values() if job.state == "RUNNING")

    def submit_job(self, request: Request) -> int:
        """Take a job, or an array, and start what can start.

        :returns: the job's id.
        """
        now = time.time()
        job_id = self._new_id()
        if request.indices:
            tasks = [
                Job(job_id, request, now, array_job_id=job_id, array_task_id=index)
                for index in request.indices
            ]
            self._arrays[job_id] = tasks
        else:
            self._jobs[job_id] = Job(job_id, request, now)
        self._history += self._arrays.get(job_id, []) or [self._jobs[job_id]]
        self.schedule()
        return job_id

    def list_jobs(self) -> list[Job]:
        """All jobs that are not purged yet."""
        self._purge()
        return sorted(self._all(), key=lambda job: job.job_id)

    def get_job(self, job_id: int) -> list[Job]:
        """A job, or all tasks of an array that are known; empty where there is none."""
        self._purge()
        return [job for job in self._all() if job_id in (job.job_id, job.array_job_id)]

    def accounting(self) -> list[Job]:
        """Every job that there ever was, the purged ones too."""
        return list(self._history)

    def cancel_job(self, job_id: int) -> int:
        """Cancel a job, or all tasks of an array.

        :returns: 0, or Slurm's error: 2017 (not known), 2021 (already ended).
        """
        found = self.get_job(job_id)
        active = [job for job in found if job.active]
        for job in active:
            if job.pending:
                job.end("CANCELLED", job.reason, time.time())
            else:
                self._terminate(job, "CANCELLED", "None")
        self.schedule()
        return 0 if active else 2021 if found else 2017

    def output(self, job_id: int) -> Path:
        """Where a job's output is, or will be."""
        return self.efs / f"job_{job_id}.out"

    def schedule(self) -> None:
        """Start all jobs for which there is room."""
        while True:
            active = sorted((job for job in self._all() if job.occupies), key=_order)
            job = next_to_start(active, self._states(), self._limits.cpus)
            if job is None:
                return
            self._start(job)

    async def stop(self) -> None:
        """End every process of every job, and wait until they are gone."""
        self._family.signal(signal.SIGKILL)
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._family.signal(signal.SIGKILL)

    def _states(self) -> dict[int, str]:
        states = {job.job_id: job.state for job in self._all()}
        return states | {number: together(tasks) for number, tasks in self._arrays.items()}

    def _all(self) -> Iterator[Job]:
        yield from self._jobs.values()
        for tasks in self._arrays.values():
            yield from tasks

    def _new_id(self) -> int:
        self._last_id += 1
        self._counter.write_text(str(self._last_id))
        return self._last_id

    def _start(self, job: Job) -> None:
        siblings = self._arrays.get(job.array_job_id, [])
        if siblings and sum(each.pending for each in siblings) > 1:
            # the last task to start keeps the array's own id, as in Slurm
            job.job_id = self._new_id()
        job.state, job.reason, job.started = "RUNNING", "None", time.time()
        task = asyncio.get_running_loop().create_task(self._run(job), name=f"job-{job.job_id}")
        self._running[job.job_id] = task
        task.add_done_callback(lambda _: self._finished(job.job_id))

    def _finished(self, job_id: int) -> None:
        del self._running[job_id]
        self.schedule()

    async def _run(self, job: Job) -> None:
        folder = self._place(job.request.working_directory)
        script = self._spool / f"job_{job.job_id}.sh"
        try:
            process = await self._execute(job, folder, script)
        except OSError:
            process = None
        if process is None:
            if job.active:
                job.end("FAILED", "RaisedSignal", time.time(), signal=CANNOT_START)
            return
        await self._watch(job, process)
        script.unlink(missing_ok=True)

    async def _execute(
        self, job: Job, folder: Path, script: Path
    ) -> asyncio.subprocess.Process | None:
        """Start the script; None where the job is over before it began."""
        if not folder.is_dir():
            return None
        script.write_text(job.request.script)
        script.chmod(0o700)
        with self.output(job.job_id).open("wb") as output:
            problem = _cannot_execute(job.request.script)
            if problem:
                output.write(f"slurmstepd: error: execve(): {os.strerror(problem)}\n".encode())
                job.end("FAILED", "NonZeroExitCode", time.time(), exit_code=problem)
                return None
            return await asyncio.create_subprocess_exec(
                *end_with_parent(),
                str(script),
                cwd=folder,
                env=self._environment(job),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    async def _watch(self, job: Job, process: asyncio.subprocess.Process) -> None:
        limit = job.request.time_limit_minutes
        timer = None
        if limit is not None:
            loop = asyncio.get_running_loop()
            timer = loop.call_later(
                limit * self._limits.minute, self._terminate, job, "TIMEOUT", "TimeLimit"
            )
        if not job.active:
            # cancelled between the fork and here
            self._family.signal(signal.SIGTERM, job.job_id)
        returncode = await process.wait()
        if timer is not None:
            timer.cancel()
        if job.active:
            state, reason, exit_code, number = end_of_process(returncode)
            job.end(state, reason, time.time(), exit_code=exit_code, signal=number)
        # what the script left behind in the background ends with it, as a cgroup would see to
        while self._family.signal(signal.SIGKILL, job.job_id):  # noqa: ASYNC110 - the kernel tells nobody
            await asyncio.sleep(0.01)
        job.completing = False

    def _terminate(self, job: Job, state: str, reason: str) -> None:
        """Ask a running job to end, and see to it after KillWait."""
        job.end(state, reason, time.time(), signal=signal.SIGTERM)
        job.completing = True
        self._family.signal(signal.SIGCONT, job.job_id)
        self._family.signal(signal.SIGTERM, job.job_id)
        loop = asyncio.get_running_loop()
        loop.call_later(self._limits.kill_wait, self._kill_rest, job)

    def _kill_rest(self, job: Job) -> None:
        if job.completing:
            self._family.signal(signal.SIGKILL, job.job_id)

    def _place(self, folder: str) -> Path:
        """A folder of the cluster, on this machine."""
        path = Path(folder)
        if not path.exists() and (folder == EFS or folder.startswith(f"{EFS}/")):
            return self.efs / path.relative_to(EFS)
        return path

    def _environment(self, job: Job) -> dict[str, str]:
        given = dict(each.partition("=")[::2] for each in job.request.environment)
        slurm = {
            "SLURM_JOB_ID": str(job.job_id),
            "SLURM_JOBID": str(job.job_id),
            "SLURM_JOB_NAME": job.request.name,
            "SLURM_JOB_PARTITION": job.request.partition,
            "SLURM_JOB_NODELIST": NODE,
            "SLURM_JOB_NUM_NODES": "1",
            "SLURM_JOB_CPUS_PER_NODE": str(job.request.cpus),
            "SLURM_CPUS_ON_NODE": str(job.request.cpus),
            "SLURM_NTASKS": str(job.request.tasks),
            "SLURM_CLUSTER_NAME": "local",
            "SLURMD_NODENAME": NODE,
        }
        if job.array_job_id:
            indices = job.request.indices
            slurm |= {
                "SLURM_ARRAY_JOB_ID": str(job.array_job_id),
                "SLURM_ARRAY_TASK_ID": str(job.array_task_id),
                "SLURM_ARRAY_TASK_COUNT": str(len(indices)),
                "SLURM_ARRAY_TASK_MIN": str(min(indices)),
                "SLURM_ARRAY_TASK_MAX": str(max(indices)),
            }
        return {**given, **slurm, **self._variables, **self._family.variable(job.job_id)}

    def _purge(self) -> None:
        oldest = time.time() - self._limits.min_job_age
        self._jobs = {
            number: job for number, job in self._jobs.items() if not job.ended_before(oldest)
        }
        self._arrays = {
            number: kept
            for number, tasks in self._arrays.items()
            if (kept := [task for task in tasks if not task.ended_before(oldest)])
        }


def _order(job: Job) -> tuple[float, int, int]:
    return job.submitted, job.array_job_id or job.job_id, job.array_task_id


def _cannot_execute(script: str) -> int:
    """The errno with which the kernel would refuse the script, or 0."""
    found = re.match(r"#![ \t]*([^ \t\n]+)", script)
    if not found:
        return NOT_EXECUTABLE
    return 0 if Path(found[1]).exists() else NO_INTERPRETER
