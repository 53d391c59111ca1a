"""Processes of the benches' own, and what they have used: read from outside, as they may be too busy."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
CPU_CLOCK = 2
"""Of Linux's clocks of a process the one that the scheduler keeps, in nanoseconds."""


@contextmanager
def served(module: str, *words: object) -> Iterator[str]:
    """A server in a process of its own, which prints its address.

    :param module: run with ``python -m``.
    :param words: its arguments.
    :returns: the address, e.g. ``"http://127.0.0.1:40123"``.
    """
    command = [sys.executable, "-m", module, *map(str, words)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process.stdout.readline().strip() if process.stdout else ""
        finally:
            process.kill()


def end_with_the_parent() -> None:
    """End this process when its standard input does, which is when its parent has ended."""

    def wait() -> None:
        sys.stdin.read()
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()


def cpu_seconds(pid: int) -> float:
    """Seconds of CPU of a process and of its children that have ended.

    :param pid: a running process.
    """
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    # its own from its clock, as clock_getcpuclockid(3) names it: the ticks there are 10 ms each
    return time.clock_gettime(~pid << 3 | CPU_CLOCK) + sum(map(int, words[13:15])) / TICKS


def memory_mib(pid: int | str = "self", *, most: bool = False) -> float:
    """A process's resident memory in MiB.

    :param pid: a running process.
    :param most: the most that it ever had; getrusage would count what the process was before.
    """
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(rf"{'VmHWM' if most else 'VmRSS'}:\s+(\d+)", status)
    return int(found[1]) / 1024 if found else 0.0


def children_of(pid: int) -> list[int]:
    """The processes that a process has started and that run.

    :param pid: a running process.
    """
    children = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(each) for each in children.read_text().split()]


def reset_peak() -> None:
    """Let the most memory that this process ever had begin at what it has now."""
    Path("/proc/self/clear_refs").write_text("5")
