"""The processes of jobs: found by a variable, which a new session or a fork does not shake off."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path

MARKER = "CLUSTERRA_LOCAL_JOB"


class Family:
    """All processes that one server's jobs have started, and what they have started."""

    def __init__(self) -> None:
        self._name = uuid.uuid4().hex

    def variable(self, job_id: int) -> dict[str, str]:
        """What a job's environment holds so that its processes are found."""
        return {MARKER: f"{self._name}.{job_id}."}

    def signal(self, number: signal.Signals, job_id: int | None = None) -> int:
        """Send a signal to every process of a job, or of all jobs.

        :returns: how many there were.
        """
        pids = list(self._find(job_id))
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        return len(pids)

    def _find(self, job_id: int | None) -> Iterator[int]:
        wanted = f"{MARKER}={self._name}.{'' if job_id is None else f'{job_id}.'}".encode()
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    if wanted in (entry / "environ").read_bytes() and _alive(entry):
                        yield int(entry.name)


@functools.cache
def end_with_parent() -> tuple[str, ...]:
    """A prefix that lets the kernel end a program when this server is killed outright."""
    found = shutil.which("setpriv")
    return (found, "--pdeathsig", "KILL", "--") if found else ()


def _alive(entry: Path) -> bool:
    """Whether it runs: a dead process that nobody has waited for is none."""
    return (entry / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
