"""The Clusterras that the rounds are played on: two of processes, or one in front of a real Slurm."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, Self

from airflow_provider_clusterra.submit.protocol import read_tag
from clusterra_server.jobs import Job
from clusterra_server.ledger import Ledger
from tests.crash.judge import JobRecord, TaskKey
from tests.crash.rounds import FORGETS, MIN_JOB_AGE, Kind
from tests.slurm.conf import Settings
from tests.slurm.lab import Lab
from tests.support.servers import ClusterraServer

SLURM_REMEMBERS = 10
"""Seconds for which the real Slurm remembers a job that has ended: a wait that first looks when it is
forgotten goes on for the grace after a submit, two minutes."""
KILL_WAIT = 2.0
CPUS = 200


class Clusterras(Protocol):
    """What runs the jobs, and knows afterwards what became of them; a context manager."""

    def server_of(self, kind: Kind) -> ClusterraServer:
        """The one that a round of this kind is played on."""

    def is_busy(self) -> bool:
        """Whether there are jobs still."""

    def jobs(self) -> list[JobRecord]:
        """All jobs there ever were."""

    def requeue(self, name: str) -> bool:
        """Start a running job again, if that can be done here."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


class OfProcesses:
    """Two that run processes: one that remembers jobs, and one that forgets them soon.

    :param folder: for both.
    """

    def __init__(self, folder: Path) -> None:
        self._stack = ExitStack()
        self._servers = {
            name: ClusterraServer(
                dir=folder / name, cpus=CPUS, kill_wait=KILL_WAIT, min_job_age=age
            )
            for name, age in (("clusterra", 300), ("forgetful", MIN_JOB_AGE))
        }
        self._folders = [folder / name for name in self._servers]

    def server_of(self, kind: Kind) -> ClusterraServer:
        """The one that a round of this kind is played on."""
        return self._servers["forgetful" if kind in FORGETS else "clusterra"]

    def is_busy(self) -> bool:
        """Whether there are jobs still."""
        return any(any((folder / "spool").iterdir()) for folder in self._folders)

    def jobs(self) -> list[JobRecord]:
        """All jobs there ever were, read once both have stopped."""
        return [record for folder in self._folders for record in _of_ledger(folder)]

    def requeue(self, name: str) -> bool:
        """There is no such thing here."""
        return False

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for server in self._servers.values():
                stack.enter_context(server)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


class OfSlurm:
    """One in front of a real Slurm, which forgets jobs soon and has slurmdbd to ask.

    :param lab: the Slurm; it is left up.
    """

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._since = 0.0
        self._front = lab.use(Settings(min_job_age=SLURM_REMEMBERS)).front()

    def server_of(self, _: Kind) -> ClusterraServer:
        """The only one."""
        return self._front

    def is_busy(self) -> bool:
        """Whether there are jobs still."""
        return bool(self._lab.run("squeue", "--noheader").strip())

    def jobs(self) -> list[JobRecord]:
        """All jobs since it was entered, as accounting has them."""
        words = ("sacct", "--noheader", "--parsable2", "--allocations", "--duplicates")
        said = self._lab.run(
            *("env", "SLURM_TIME_FORMAT=%s", *words, "--allusers", "--starttime=now-1hour"),
            "--format=JobID,JobIDRaw,State,Submit,End,JobName%300",
        )
        submits: dict[str, list[JobRecord]] = {}
        for line in said.splitlines():
            job_id, *rest = line.split("|", 5)
            record = _of_accounting(self._lab.shared, *rest)
            if record.submitted >= self._since:
                # a requeued job has a row for each of its runs
                submits.setdefault(job_id.partition("_")[0], []).append(record)
        return [whole(parts) for parts in submits.values()]

    def requeue(self, name: str) -> bool:
        """Let Slurm start a running job again; whether there was one."""
        rows = self._lab.run("squeue", "--noheader", "--states=RUNNING", "--format=%i %j")
        ids = [row.split()[0] for row in rows.splitlines() if row.split()[1].startswith(name)]
        if ids:
            self._lab.run("scontrol", "requeue", ids[0])
        return bool(ids)

    def __enter__(self) -> Self:
        self._since = float(int(time.time()))
        self._front.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._front.stop()


def _of_accounting(
    folder: Path, job_id: str, state: str, submitted: str, ended: str, name: str
) -> JobRecord:
    output = folder / f"job_{job_id}.out"
    # it says "Unknown" of a job that nobody has ended yet, and "CANCELLED by 1001" of one that is
    end = float(ended) if ended.isdigit() else time.time()
    return _record(int(job_id), name, state.split(maxsplit=1)[0], float(submitted), end, output)


def _of_ledger(folder: Path) -> Iterator[JobRecord]:
    with closing(Ledger(folder / "jobs.sqlite")) as ledger:
        submits = ledger.read()
    for submit in submits:
        yield whole([_of_job(folder, job) for job in submit])


def _of_job(folder: Path, job: Job) -> JobRecord:
    output = folder / "efs" / f"job_{job.job_id}.out"
    variables = dict(each.partition("=")[::2] for each in job.request.environment)
    # a template's job without a name of ours
    name = f"r{variables['SEED']}.-1" if "SEED" in variables else job.request.name
    return _record(job.job_id, name, job.state, job.submitted, job.ended, output)


def whole(parts: list[JobRecord]) -> JobRecord:
    """An array, or the runs of a requeued job, as one job: it succeeds if all of it does."""
    # both runs have one output, so that they may seem to end at the same time
    ends = [part for part in parts if part.state != "REQUEUED"] or parts
    bad = [part for part in ends if not part.succeeded]
    return replace(
        (bad or ends)[0],
        job_id=parts[0].job_id,
        submitted=min(part.submitted for part in parts),
        ended=max(part.ended for part in parts),
    )


def _record(
    job_id: int, name: str, state: str, submitted: float, ended: float, output: Path
) -> JobRecord:
    number, _, rest = name.removeprefix("r").partition(".")
    index = rest.partition(".")[0]
    # a job that ignores SIGTERM goes on to write after it has ended
    last_sign = output.stat().st_mtime if output.exists() else 0.0
    tag: Any = read_tag(name)
    return JobRecord(
        job_id,
        TaskKey(int(number), int(index)),
        tag.max_tries if tag else None,
        state,
        submitted,
        max(ended, last_sign),
        tag.task if tag else "",
    )
