"""The processes of jobs: found by a variable, which a new session or a fork does not shake off."""

from __future__ import annotations

import contextlib
import os
import signal
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

MARKER = "CLUSTERRA_LOCAL"
PROC = Path("/proc")


class Family:
    """All processes that one server has started, and what they have started.

    A branch of it is a name such as ``"job.12"``; ``"job"`` holds all jobs, ``""`` everything. A
    process that leaves both its environment and its session (``env -i setsid``) is not found.
    """

    def __init__(self, name: str = "") -> None:
        self.name = name or uuid.uuid4().hex

    def variable(self, branch: str) -> dict[str, str]:
        """What a process's environment holds so that it and its children are found."""
        return {MARKER: f"{self.name}.{branch}."}

    def signal(self, number: signal.Signals, branch: str, session: int = 0) -> int:
        """Send a signal to every process of a branch, and of a session.

        :returns: how many there were.
        """
        pids = list(self._find(branch, session))
        for pid in pids:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)
        return len(pids)

    def _find(self, branch: str, session: int) -> Iterator[int]:
        wanted = f"{MARKER}={self.name}.{f'{branch}.' if branch else ''}".encode()
        for folder in (each for each in PROC.iterdir() if each.name.isdigit()):
            with contextlib.suppress(OSError):
                # state, parent, group and session, behind a name that may hold anything
                facts = (folder / "stat").read_bytes().rpartition(b")")[2].split()
                if facts[0] == b"Z":
                    continue
                same_session = session != 0 and session == int(facts[3])
                if same_session or wanted in (folder / "environ").read_bytes():
                    yield int(folder.name)


def end_orphans(name: str) -> None:
    """End what a server has left behind that could not do so itself.

    :param name: the server's family's.
    """
    family = Family(name)
    while family.signal(signal.SIGKILL, ""):
        time.sleep(0.01)
