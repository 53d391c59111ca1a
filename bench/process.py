"""What a process has used, read from outside: it may be too busy to tell."""

from __future__ import annotations

import os
import re
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """Seconds of CPU of a process and of its children that have ended.

    :param pid: a running process.
    """
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, words[11:15])) / TICKS


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
