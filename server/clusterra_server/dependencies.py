"""What a job may wait for: the ends of others."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

StateOf = Callable[[str], str | None]
"""A job's state by its id, ``"12"`` or ``"12_3"``; None where there never was one."""
CLAUSE = re.compile(r"(afterok|afternotok|afterany)((?::[0-9]{1,10}(?:_[0-9]{1,10})?)+)")


class Dependency(NamedTuple):
    """One job that another one waits for."""

    kind: str
    job_id: str


def read_dependencies(text: str) -> tuple[Dependency, ...]:
    """A list of dependencies, all of which must hold.

    :param text: e.g. ``"afterok:12:13,afterany:14_2"``; empty is none.
    :raises ValueError: it holds anything else.
    :source: ``sbatch --dependency``.
    """
    found: list[Dependency] = []
    for clause in filter(None, text.split(",")):
        match = CLAUSE.fullmatch(clause)
        if not match:
            raise ValueError(clause)
        found += [Dependency(match[1], job_id) for job_id in match[2].split(":")[1:]]
    return tuple(found)


def progress(dependency: Dependency, state_of: StateOf) -> str:
    """How far it is: ``"unfulfilled"``, ``"failed"`` (it will never hold) or ``""`` (it holds)."""
    state = state_of(dependency.job_id)
    if state in ("PENDING", "RUNNING"):
        return "unfulfilled"
    if dependency.kind == "afterany":
        return ""
    return "" if (dependency.kind == "afterok") == (state == "COMPLETED") else "failed"


def write_dependencies(text: str, state_of: StateOf) -> str:
    """The dependencies that do not hold, as a job's record shows them."""
    parts = [(each, progress(each, state_of)) for each in read_dependencies(text)]
    return ",".join(f"{each.kind}:{each.job_id}({word})" for each, word in parts if word)
