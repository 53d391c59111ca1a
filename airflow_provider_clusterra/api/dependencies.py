"""What a job waits for: ``sbatch``'s ``--dependency``, and what is left of it as jobs end."""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from airflow_provider_clusterra.api.errors import InputError
from airflow_provider_clusterra.api.fields import Fields

KINDS = "afterok|afterany|afternotok|aftercorr|afterburstbuffer|after"
CLAUSE = re.compile(rf"({KINDS})((?::\d+(?:_\d+|_\*)?(?:\+\d+)?)+)|singleton", re.IGNORECASE)
SUCCESS = {"afterok": True, "aftercorr": True, "afternotok": False}
"""Which end each kind asks for; any other is content with every end."""


class Clause(msgspec.Struct, frozen=True):
    """One condition, e.g. ``afterok:12:13``."""

    kind: str
    job_ids: tuple[str, ...]
    """As they were written, e.g. ``"12"``, ``"12_3"`` or ``"12+5"``; empty for ``singleton``."""

    def __str__(self) -> str:
        return ":".join((self.kind, *self.job_ids))


def put_dependency(fields: Fields, value: str) -> None:
    """``--dependency``: checked, because Slurm says the same of a typing error and a forgotten job.

    :param fields: the job's.
    :param value: as :func:`read_dependency` takes it.
    """
    read_dependency(value)
    fields["dependency"] = value


def read_dependency(text: str) -> tuple[list[Clause], str]:
    """A dependency's conditions, and what stands between them.

    :param text: e.g. ``"afterok:12:13,afterany:14"``.
    :returns: the conditions, and ``","`` where all must hold or ``"?"`` where one is enough.
    :raises ValueError: it cannot be read; the words say what to give.
    :source: ``sbatch --dependency``.
    """
    between = "?" if "?" in text else ","
    found = []
    for part in text.split(between):
        match = CLAUSE.fullmatch(part.strip())
        if not match:
            raise ValueError("it takes e.g. afterok:12:13, afterany:14 or singleton")
        ids = (match[2] or "").split(":")[1:]
        found.append(Clause((match[1] or "singleton").lower(), tuple(ids)))
    return found, between


def job_id_of(written: str) -> int:
    """The number of a job that a dependency names.

    :param written: e.g. ``"12"``, ``"12_3"``, ``"12_*"`` or ``"12+5"``.
    """
    return int(re.split(r"[_+]", written)[0])


def settle_dependency(text: str, ends: Mapping[str, bool]) -> str:
    """What is left of a dependency once some of its jobs have ended.

    :param text: as :func:`read_dependency` takes it.
    :param ends: whether each job that has ended succeeded, by its id as it was written.
    :returns: the rest; ``""`` where all of it holds.
    :raises InputError: it can never hold; the words name the job.
    """
    clauses, between = read_dependency(text)
    left = []
    broken = []
    for clause in clauses:
        wanted = SUCCESS.get(clause.kind)
        ended = [each for each in clause.job_ids if each in ends]
        bad = [each for each in ended if wanted is not None and ends[each] is not wanted]
        rest = tuple(each for each in clause.job_ids if each not in ends)
        broken += [f"job {each} {'succeeded' if ends[each] else 'failed'}" for each in bad]
        if rest or not ended:
            left += [] if bad else [Clause(clause.kind, rest)]
        elif between == "?" and not bad:
            return ""
    if broken and (between == "," or not left):
        raise InputError(f"dependency: {text} can never hold: {', '.join(broken)}.")
    return between.join(map(str, left))
