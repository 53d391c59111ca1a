"""The processes of jobs: found by a variable, which a new session or a fork does not shake off."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Self

MARKER = "CLUSTERRA_LOCAL"
PROC = Path("/proc")
STATE, SESSION, VSIZE, ENV_END = 0, 3, 20, 48
"""Fields of ``/proc/PID/stat``, behind the name: proc(5)'s 3rd, 6th, 23rd and 51st."""
EXEC_WITHIN = 0.5
"""Seconds for which a process that becomes another program is waited for."""


class ProcessTree:
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
                facts = _facts(folder)
                if facts[STATE] == b"Z":
                    continue
                same_session = session != 0 and session == int(facts[SESSION])
                if same_session or wanted in _environment(folder):
                    yield int(folder.name)


def _environment(folder: Path) -> bytes:
    """A process's environment, also of one that becomes another program in this very moment."""
    path = folder / "environ"
    end = time.monotonic() + EXEC_WITHIN
    found = path.read_bytes()
    while not found and time.monotonic() < end:
        settled = not _is_in_exec(folder)
        # what was read above may have been the old program's memory as it went away
        found = path.read_bytes()
        if settled:
            break
        time.sleep(0.001)
    return found


def _is_in_exec(folder: Path) -> bool:
    """Whether a process has its new memory, and no environment in it yet: the kernel shows none."""
    facts = _facts(folder)
    return facts[VSIZE] != b"0" and facts[ENV_END] == b"0"


def _facts(folder: Path) -> list[bytes]:
    """What the kernel says of a process, behind its name, which may hold anything."""
    return (folder / "stat").read_bytes().rpartition(b")")[2].split()


def end_orphans(name: str) -> None:
    """End what a server has left behind that could not do so itself.

    :param name: the server's tree's.
    """
    tree = ProcessTree(name)
    while tree.signal(signal.SIGKILL, ""):
        time.sleep(0.01)


class Guard:
    """The guard of one server's tree; an asynchronous context manager."""

    def __init__(self, tree: ProcessTree) -> None:
        self._tree = tree
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        """Start it, in a session of its own: a Ctrl-C is not for it."""
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", __name__, self._tree.name),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        """Let it end."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            await self._process.wait()


if __name__ == "__main__":
    sys.stdin.buffer.read()
    end_orphans(sys.argv[1])
