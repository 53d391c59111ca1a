"""The shell that runs jobs as processes of this machine; what to do is decided in ``jobs``."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from clusterra_server.jobs import Job, end_of_process, job_environment, plan, together
from clusterra_server.ledger import Ledger
from clusterra_server.process_tree import ProcessTree
from clusterra_server.requests import Request

EFS = "/mnt/efs"
"""The folder that Clusterra's jobs share; here it is one in the server's own folder."""
CANNOT_START = 53
"""The signal that Slurm gives a job which could not be started."""


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


class Scheduler:
    """Jobs as processes: each in a session of its own, its output in ``job_<id>.out``.

    :param folder: where everything is kept: outputs, scripts, temporary files, the ledger.
    :param variables: more of the jobs' environment.
    :raises LedgerError: another server uses the folder.
    """

    def __init__(
        self, folder: Path, limits: Limits, tree: ProcessTree, variables: dict[str, str]
    ) -> None:
        self.outputs = folder / "efs"
        self._spool = folder / "spool"
        self._scratch = folder / "scratch"
        for each in (self.outputs, self._spool, self._scratch):
            each.mkdir(parents=True, exist_ok=True)
        self._limits = limits
        self._tree = tree
        self._variables = variables
        self._ledger = Ledger(folder / "jobs.sqlite")
        self._submits: dict[int, list[Job]] = {}
        self._own_ids: dict[int, Job] = {}
        self._open: dict[tuple[int, int], Job] = {}
        """What waits to start or holds CPUs, in the order of its submit."""
        self._running: set[asyncio.Task[None]] = set()
        self._wake: asyncio.TimerHandle | None = None
        self._stopping = False
        self._last_id = 0
        self._remember()

    @property
    def cpus(self) -> int:
        """How many CPU slots there are."""
        return self._limits.cpus

    @property
    def busy_cpus(self) -> int:
        """How many of them are in use."""
        return sum(job.request.cpus for job in self._open.values() if not job.pending)

    def submit_job(self, request: Request) -> list[Job]:
        """Take a job, or an array, and start what can start.

        :returns: the job, or the array's tasks.
        """
        now = time.time()
        job_id = self._new_id()
        jobs = [Job(job_id, request, now)]
        if request.indices:
            jobs = [
                Job(job_id, request, now, array_job_id=job_id, array_task_id=index)
                for index in request.indices
            ]
        self._submits[job_id] = jobs
        self._open |= {job.key: job for job in jobs}
        self._ledger.add(jobs)
        self.schedule()
        return jobs

    def all_jobs(self) -> list[Job]:
        """Every job there ever was, in the order of their submit."""
        return [job for jobs in self._submits.values() for job in jobs]

    def list_jobs(self) -> list[Job]:
        """All jobs that are not purged yet."""
        return self._remembered(self.all_jobs())

    def get_job(self, job_id: int) -> list[Job]:
        """A job, or all tasks of an array that are known; empty where there is none."""
        own = self._own_ids.get(job_id)
        return self._remembered(self._submits.get(job_id) or ([own] if own else []))

    def state_of(self, job_id: str) -> str | None:
        """The state of a job that there was at any time, for a dependency."""
        number, _, index = job_id.partition("_")
        own = self._own_ids.get(int(number))
        jobs = self._submits.get(int(number)) or ([own] if own else [])
        if index:
            jobs = [job for job in jobs if job.array_task_id == int(index)]
        if len(jobs) == 1:
            return jobs[0].state
        return together(jobs) if jobs else None

    def cancel_jobs(self, jobs: Iterable[Job]) -> None:
        """Cancel those that are active: at once, or by SIGTERM and, after KillWait, SIGKILL."""
        for job in jobs:
            if job.pending:
                job.end("CANCELLED", job.reason, time.time())
                self._close(job)
            elif job.active:
                self._terminate(job, "CANCELLED", "None")
        self.schedule()

    def schedule(self) -> None:
        """Start all jobs for which there is room."""
        if self._stopping:
            return
        now = time.time()
        todo = plan(self._open.values(), self.state_of, self.cpus, now)
        for job, reason in todo.waits:
            job.reason = reason
        for job in todo.start:
            self._start(job, now)
        if self._wake:
            self._wake.cancel()
        self._wake = None
        if todo.wake:
            self._wake = asyncio.get_running_loop().call_later(todo.wake - now, self.schedule)

    async def stop(self) -> None:
        """End every process of every job, and wait until they are gone."""
        self._stopping = True
        if self._wake:
            self._wake.cancel()
        while self._tree.signal(signal.SIGKILL, "job") or self._running:  # noqa: ASYNC110 - as below
            await asyncio.sleep(0.01)
        self._ledger.close()

    def _remember(self) -> None:
        """Go on from where a server in this folder ended."""
        now = time.time()
        for jobs in self._ledger.read():
            self._submits[jobs[0].key[0]] = jobs
            for job in jobs:
                self._last_id = max(self._last_id, job.job_id, job.array_job_id)
                if job.array_job_id and not job.pending:
                    self._own_ids[job.job_id] = job
                if job.pending:
                    self._open[job.key] = job
                elif job.active or job.completing:
                    job.completing = False
                    if job.active:
                        job.lose(now)
                    self._ledger.keep(job)

    def _remembered(self, jobs: list[Job]) -> list[Job]:
        oldest = time.time() - self._limits.min_job_age
        return [job for job in jobs if job.remembered_since(oldest)]

    def _new_id(self) -> int:
        self._last_id += 1
        return self._last_id

    def _start(self, job: Job, now: float) -> None:
        if job.array_job_id:
            waiting = sum(each.pending for each in self._submits[job.array_job_id])
            # the last task to start keeps the array's own id, as in Slurm
            job.job_id = self._new_id() if waiting > 1 else job.array_job_id
            self._own_ids[job.job_id] = job
        job.start(now)
        self._ledger.keep(job)
        task = asyncio.get_running_loop().create_task(self._run(job), name=f"job-{job.job_id}")
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _run(self, job: Job) -> None:
        script = self._spool / f"job_{job.job_id}.sh"
        scratch = self._scratch / f"job-{job.job_id}"
        try:
            process = await self._launch(job, script, scratch)
            if process is not None:
                await self._watch(job, process)
        finally:
            script.unlink(missing_ok=True)
            await asyncio.to_thread(shutil.rmtree, scratch, ignore_errors=True)
            self._close(job)
            self.schedule()

    async def _launch(
        self, job: Job, script: Path, scratch: Path
    ) -> asyncio.subprocess.Process | None:
        """Start a job's script; None where the job is over before it began."""
        folder = self._place(job.request.working_directory)
        if not job.active:
            return None
        if not (folder.is_dir() and os.access(folder, os.X_OK)):
            job.end("FAILED", "RaisedSignal", time.time(), signal=CANNOT_START)
            return None
        scratch.mkdir(exist_ok=True)
        script.write_text(job.request.script)
        script.chmod(0o700)
        home = {"HOME": str(self.outputs), "TMPDIR": str(scratch)}
        ours = self._variables | self._tree.variable(f"job.{job.job_id}")
        with (self.outputs / f"job_{job.job_id}.out").open("wb") as output:
            try:
                return await asyncio.create_subprocess_exec(
                    script,
                    cwd=folder,
                    env=home | job_environment(job) | ours,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
            except OSError as exc:
                # what Slurm's own step daemon says and does: its exit code is the errno
                output.write(f"slurmstepd: error: execve(): {exc.strerror}\n".encode())
                number = exc.errno or errno.ENOEXEC
                job.end("FAILED", "NonZeroExitCode", time.time(), exit_code=number)
                return None

    async def _watch(self, job: Job, process: asyncio.subprocess.Process) -> None:
        minutes = job.request.time_limit_minutes
        timer = None
        if minutes is not None:
            timer = asyncio.get_running_loop().call_later(
                minutes * self._limits.minute, self._terminate, job, "TIMEOUT", "TimeLimit"
            )
        if not job.active:
            # cancelled between the fork and here
            self._signal(signal.SIGTERM, job)
        returncode = await process.wait()
        if timer is not None:
            timer.cancel()
        job.completing = True
        state, reason, exit_code, number = end_of_process(returncode)
        if not job.active:
            job.exit_code, job.signal = exit_code, number
        elif self._stopping:
            job.lose(time.time())
        else:
            job.end(state, reason, time.time(), exit_code=exit_code, signal=number)
        # what the script left behind ends with it, as a cgroup would see to
        branch = f"job.{job.job_id}"
        while self._tree.signal(signal.SIGKILL, branch, process.pid):  # noqa: ASYNC110 - the kernel tells nobody
            await asyncio.sleep(0.01)

    def _terminate(self, job: Job, state: str, reason: str) -> None:
        """Ask a running job to end, and see to it after KillWait."""
        if not job.active:
            return
        job.end(state, reason, time.time())
        job.completing = True
        self._ledger.keep(job)
        self._signal(signal.SIGCONT, job)
        self._signal(signal.SIGTERM, job)
        asyncio.get_running_loop().call_later(self._limits.kill_wait, self._kill, job)

    def _kill(self, job: Job) -> None:
        if job.completing:
            self._signal(signal.SIGKILL, job)

    def _signal(self, number: signal.Signals, job: Job) -> None:
        self._tree.signal(number, f"job.{job.job_id}")

    def _close(self, job: Job) -> None:
        """Its CPUs are free again."""
        job.completing = False
        self._open.pop(job.key, None)
        self._ledger.keep(job)

    def _place(self, folder: str) -> Path:
        """A folder of the cluster, on this machine."""
        path = Path(folder)
        if not path.exists() and (folder == EFS or folder.startswith(f"{EFS}/")):
            return self.outputs / path.relative_to(EFS)
        return path
