"""The processes of a task, as its ``pre_execute`` noted them; killing them."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import NamedTuple


class Leg(NamedTuple):
    """A stretch of a task in one process: until it ends, or is deferred."""

    pid: int
    supervisor: int
    began: float
    """Seconds since 1970."""


def read_legs(notes: Path) -> list[Leg]:
    """The legs in their order; empty where none has begun."""
    if not notes.exists():
        return []
    rows = [line.split() for line in notes.read_text().splitlines()]
    return [Leg(int(pid), int(parent), float(began)) for pid, parent, began in rows]


def in_group(group: int, notes: Path) -> set[str]:
    """Whose processes are in a process group, by the names of their notes."""
    return {
        path.name
        for path in notes.iterdir()
        for leg in read_legs(path)[-1:]
        if _is_ours(leg.pid, notes) and group in (group_of(leg.pid), group_of(leg.supervisor))
    }


def group_of(pid: int) -> int:
    """A process's group; 0 if it has ended."""
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return 0


def terminate(leg: Leg, notes: Path) -> bool:
    """SIGTERM a leg's supervisor, as the eviction of a worker does; whether it was still there."""
    return _is_ours(leg.supervisor, notes) and _kill(leg.supervisor, signal.SIGTERM)


def kill(leg: Leg, notes: Path, *, supervisor: bool) -> bool:
    """SIGKILL a leg's process, its supervisor first where asked, which then can tell nobody.

    :param notes: a folder that the processes' environment names: others are left alone.
    :returns: whether the process was still there.
    """
    if not _is_ours(leg.pid, notes):
        return False
    if supervisor and _is_ours(leg.supervisor, notes):
        _kill(leg.supervisor)
    return _kill(leg.pid)


def _is_ours(pid: int, notes: Path) -> bool:
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return f"CRASH_NOTES={notes}".encode() in environment.split(b"\0") and state != "Z"


def _kill(pid: int, number: signal.Signals = signal.SIGKILL) -> bool:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True
