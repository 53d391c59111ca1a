"""The shell that runs jobs as processes of this machine; what to do is decided in ``jobs``."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from clusterra_server.backend import LOG, ReplyError
from clusterra_server.job_view import visible
from clusterra_server.jobs import Job, end_of_process, job_environment, plan, together
from clusterra_server.ledger import Ledger, LedgerError
from clusterra_server.process_tree import ProcessTree, Program
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
    record_again: float = 5.0
    """After how long it is tried again to record what could not be."""


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
        self._shown: dict[tuple[int, int], Job] = {}
        """What is not purged, in the order of its submit."""
        self._open: dict[tuple[int, int], Job] = {}
        """What waits to start or holds CPUs, in the order of its submit."""
        self._unkept: dict[tuple[int, int], Job] = {}
        """What could not be written to the ledger yet."""
        self._programs: dict[tuple[int, int], Program] = {}
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
        :raises ReplyError: it could not be recorded, so it was not submitted.
        """
        now = time.time()
        job_id = self._new_id()
        jobs = [Job(job_id, request, now)]
        if request.indices:
            jobs = [
                Job(job_id, request, now, array_job_id=job_id, array_task_id=index)
                for index in request.indices
            ]
        try:
            self._ledger.add(jobs)
        except LedgerError as exc:
            raise ReplyError(503, f"the job was not submitted: {exc}") from exc
        self._submits[job_id] = jobs
        self._shown |= {job.key: job for job in jobs}
        self._open |= {job.key: job for job in jobs}
        self.schedule()
        return jobs

    def all_jobs(self) -> list[Job]:
        """Every job there ever was, in the order of their submit."""
        return [job for jobs in self._submits.values() for job in jobs]

    def all_submits(self) -> list[list[Job]]:
        """The same by their submits."""
        return list(self._submits.values())

    def list_jobs(self) -> list[Job]:
        """All jobs that are not purged yet."""
        shown = self._remembered(self._shown.values())
        if len(shown) < len(self._shown):
            self._shown = {job.key: job for job in shown}
        return shown

    def find_jobs(self, job_id: int) -> list[Job]:
        """A job, or all tasks of an array, that there was at any time; empty if there was none."""
        own = self._own_ids.get(job_id)
        return self._submits.get(job_id) or ([own] if own else [])

    def get_job(self, job_id: int) -> list[Job]:
        """A job, or all tasks of an array that are not purged yet."""
        return self._remembered(self.find_jobs(job_id))

    def state_of(self, job_id: str) -> str | None:
        """The state of a job that there was at any time, for a dependency."""
        number, _, index = job_id.partition("_")
        jobs = self.find_jobs(int(number))
        if index:
            jobs = [job for job in jobs if job.array_task_id == int(index)]
        if len(jobs) == 1:
            return jobs[0].state
        return together(jobs) if jobs else None

    def cancel_jobs(self, jobs: Iterable[Job]) -> None:
        """Cancel those that are active: at once, or by SIGTERM and, after KillWait, SIGKILL."""
        jobs = list(jobs)
        waiting = [job for job in jobs if job.pending]
        for job in waiting:
            job.end("CANCELLED", job.reason, time.time())
        self._close(waiting)
        for job in jobs:
            self._terminate(job, "CANCELLED", "None")
        self.schedule()

    def schedule(self) -> None:
        """Start all jobs for which there is room."""
        if self._stopping:
            return
        if self._wake:
            self._wake.cancel()
            self._wake = None
        now = time.time()
        todo = plan(self._open.values(), self.state_of, self.cpus, now)
        for job, reason in todo.waits:
            job.reason = reason
        if not all(self._start(job, now) for job in todo.start) or not self._keep([]):
            self._wake_in(self._limits.record_again)
        elif todo.wake:
            self._wake_in(todo.wake - now)

    async def stop(self) -> None:
        """End every process of every job, and wait until they are gone."""
        self._stopping = True
        if self._wake:
            self._wake.cancel()
        for program in self._programs.values():
            self._tree.signal(signal.SIGKILL, program)
        while self._running:
            await asyncio.wait(self._running)
        self._ledger.close()

    def _remember(self) -> None:
        """Go on from where a server in this folder ended."""
        now = time.time()
        self._last_id = self._ledger.last_id()
        changed = []
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
                    changed.append(job)
        self._shown = {job.key: job for job in self.all_jobs()}
        self._keep(changed)

    def _remembered(self, jobs: Iterable[Job]) -> list[Job]:
        oldest = time.time() - self._limits.min_job_age
        return [job for job in jobs if job.remembered_since(oldest)]

    def _new_id(self) -> int:
        self._last_id += 1
        return self._last_id

    def _wake_in(self, seconds: float) -> None:
        self._wake = asyncio.get_running_loop().call_later(seconds, self.schedule)

    def _keep(self, jobs: Iterable[Job]) -> bool:
        """Write to the ledger, with what could not be written before; return whether that worked."""
        waiting = self._unkept | {job.key: job for job in jobs}
        if not waiting:
            return True
        try:
            self._ledger.keep(waiting.values())
        except LedgerError as exc:
            if not self._unkept:
                LOG.error("%s; it is tried again every %g s", exc, self._limits.record_again)
            self._unkept = waiting
            return False
        self._unkept = {}
        return True

    def _start(self, job: Job, now: float) -> bool:
        """Start a job, once the ledger knows: one that it does not would run again."""
        if job.array_job_id:
            waiting = sum(each.pending for each in self._submits[job.array_job_id])
            # the last task to start keeps the array's own id, as in Slurm
            job.job_id = self._new_id() if waiting > 1 else job.array_job_id
        job.start(now)
        if not self._keep([job]):
            job.wait_on("SystemFailure")
            return False
        if job.array_job_id:
            self._own_ids[job.job_id] = job
        task = asyncio.get_running_loop().create_task(self._run(job), name=f"job-{job.job_id}")
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return True

    async def _run(self, job: Job) -> None:
        script = self._spool / f"job_{job.job_id}.sh"
        scratch = self._scratch / f"job-{job.job_id}"
        try:
            program = await self._launch(job, script, scratch)
            if program is not None:
                self._programs[job.key] = program
                await self._watch(job, program)
        finally:
            self._programs.pop(job.key, None)
            if job.active:
                _fail(job, "it could not be watched")
            with suppress(OSError):
                script.unlink(missing_ok=True)
            await asyncio.to_thread(shutil.rmtree, scratch, ignore_errors=True)
            job.completing = False
            self._close([job])
            self.schedule()

    async def _launch(self, job: Job, script: Path, scratch: Path) -> Program | None:
        """Start a job's script; None if the job is over before it began."""
        if not job.active:
            return None
        output = self.outputs / f"job_{job.job_id}.out"
        try:
            folder = self.place(job.request.working_directory)
            scratch.mkdir(exist_ok=True)
            script.write_text(job.request.script)
            script.chmod(0o700)
            output.write_bytes(b"")
            home = {"HOME": str(self.outputs), "TMPDIR": str(scratch)}
            env = home | job_environment(job) | self._variables
            return await self._tree.start(
                [str(script), *job.request.arguments], env=env, cwd=folder, output=output
            )
        except OSError as exc:
            # a script's own fault has the errno as its exit code
            number = exc.errno if exc.filename == "execve()" else 0
            _fail(job, f"{exc.filename}: {exc.strerror}", exit_code=number or 0)
        except ValueError as exc:
            _fail(job, str(exc))
        with suppress(OSError):
            # what Slurm's own step daemon says
            output.write_text(f"slurmstepd: error: {job.details}\n")
        return None

    async def _watch(self, job: Job, program: Program) -> None:
        minutes = job.request.time_limit_minutes
        timer = None
        if minutes is not None:
            timer = asyncio.get_running_loop().call_later(
                minutes * self._limits.minute, self._terminate, job, "TIMEOUT", "TimeLimit"
            )
        if self._stopping or not job.active:
            # it is to end since between the fork and here
            self._tree.signal(signal.SIGKILL if self._stopping else signal.SIGTERM, program)
        returncode = await program.wait()
        if timer is not None:
            timer.cancel()
        job.completing = True
        job.user_seconds, job.system_seconds, job.peak_memory = program.usage
        state, reason, exit_code, number = end_of_process(returncode)
        if not job.active:
            job.exit_code, job.signal = exit_code, number
        elif self._stopping or program.is_lost:
            job.lose(time.time())
        else:
            job.end(state, reason, time.time(), exit_code=exit_code, signal=number)
        await program.wait_for_all()

    def _terminate(self, job: Job, state: str, reason: str) -> None:
        """Ask a running job to end, and see to it after KillWait."""
        if not job.active:
            return
        job.end(state, reason, time.time())
        job.completing = True
        self._keep([job])
        for number in (signal.SIGCONT, signal.SIGTERM):
            self._signal(number, job)
        asyncio.get_running_loop().call_later(
            self._limits.kill_wait, self._signal, signal.SIGKILL, job
        )

    def _signal(self, number: signal.Signals, job: Job) -> None:
        if program := self._programs.get(job.key):
            self._tree.signal(number, program)

    def _close(self, jobs: list[Job]) -> None:
        """Their CPUs are free again."""
        for job in jobs:
            self._open.pop(job.key, None)
        self._keep(jobs)
        if jobs:
            more = f" and {len(jobs) - 1} more" if len(jobs) > 1 else ""
            job = jobs[0]
            name = visible(job.request.name)
            LOG.info("job %s (%s)%s ended: %s", job.job_id, name, more, job.state)

    def place(self, folder: str) -> Path:
        """A folder of the cluster, on this machine."""
        path = Path(folder)
        if not os.path.exists(path) and (folder == EFS or folder.startswith(f"{EFS}/")):  # noqa: PTH110 - raises nothing
            return self.outputs / path.relative_to(EFS)
        return path


def _fail(job: Job, words: str, *, exit_code: int = 0) -> None:
    """A job that could not be started, in Slurm's numbers; execve()'s exit code is the errno."""
    if job.active:
        reason = "NonZeroExitCode" if exit_code else "RaisedSignal"
        number = 0 if exit_code else CANNOT_START
        job.end("FAILED", reason, time.time(), exit_code=exit_code, signal=number)
    job.details = words
    LOG.warning("job %s could not be started: %s", job.job_id, words)
