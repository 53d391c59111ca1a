"""What a submit's body asks for, or why it is refused: with a real slurmrestd's words and numbers."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

LARGEST = 10_000
"""Slurm's MaxArraySize on Clusterra's clusters."""
StateOf = Callable[[str], str | None]
"""A job's state by its id, ``"12"`` or ``"12_3"``; None if there never was one."""
CLAUSE = re.compile(r"(afterok|afternotok|afterany)((?::[0-9]{1,10}(?:_[0-9]{1,10})?)+)")
PARTITIONS = ("cpu", "gpu")
"""The first is the default."""
MAX_SCRIPT = 4 * 1024 * 1024
"""Bytes; Slurm's ``max_script_size``."""
MAX_NAME = 1003
FIELDS = frozenset(
    [
        "name",
        "partition",
        "nodes",
        "tasks",
        "cpus_per_task",
        "minimum_cpus",
        "memory_per_node",
        "memory_per_cpu",
        "time_limit",
        "current_working_directory",
        "environment",
        "array",
        "hold",
        "begin_time",
        "dependency",
        "comment",
        "requeue",
        "script",
        "argv",
    ]
)
"""The job's fields that the processes backend knows; each other one is a warning."""
SAYS_THE_SAME = {"minimum_nodes": ("{nodes}",), "tres_per_task": ("cpu={cpus}", "cpu:{cpus}")}
"""Fields that are no news beside those that it knows, with these values."""


def read_array(text: str) -> tuple[tuple[int, ...], int]:
    """The indices of an array, and how many of its tasks may run at once (0: no limit).

    :param text: e.g. ``"0-9"``, ``"0-20:5"``, ``"1,3,7-9%2"``.
    :raises ValueError: it is none of these, or too large.
    :source: ``sbatch --array``.
    """
    found = re.fullmatch(r"([\d,:-]+)(?:%(\d+))?", text.strip())
    if not found:
        raise ValueError(text)
    indices: set[int] = set()
    for part in found[1].split(","):
        piece = re.fullmatch(r"(\d+)(?:-(\d+)(?::([1-9]\d*))?)?", part)
        if not piece:
            raise ValueError(text)
        first, last, step = int(piece[1]), int(piece[2] or piece[1]), int(piece[3] or 1)
        if last < first or last >= LARGEST:
            raise ValueError(text)
        indices.update(range(first, last + 1, step))
    return tuple(sorted(indices)), int(found[2] or 0)


def write_array(indices: Sequence[int], at_once: int = 0) -> str:
    """Indices as one short text, e.g. ``"2-4,7%2"``."""
    parts: list[list[int]] = []
    for index in sorted(indices):
        if parts and index == parts[-1][-1] + 1:
            parts[-1].append(index)
        else:
            parts.append([index])
    text = ",".join(f"{part[0]}-{part[-1]}" if len(part) > 1 else str(part[0]) for part in parts)
    return f"{text}%{at_once}" if at_once else text


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


class RefusedError(Exception):
    """A submit that is not taken: the HTTP status, and slurmrestd's error object."""

    def __init__(self, status: int, number: int, error: str, description: str, source: str) -> None:
        super().__init__(error)
        self.status = status
        self.error = {
            "description": description,
            "error_number": number,
            "error": error,
            "source": source,
        }


@dataclass(frozen=True, slots=True)
class Request:
    """A job as it was asked for."""

    script: str
    name: str
    partition: str
    nodes: int
    tasks: int
    cpus: int
    memory_mb: int | None
    memory_per_cpu_mb: int | None
    time_limit_minutes: int | None
    environment: tuple[str, ...]
    """``NAME=value`` each."""
    working_directory: str
    hold: bool
    begin_time: float
    """Seconds since 1970; 0 is at once."""
    dependency: str
    comment: str
    requeue: bool
    indices: tuple[int, ...]
    """An array's; empty if it is none."""
    at_once: int
    """How many tasks of the array may run at once; 0 is no limit."""
    arguments: tuple[str, ...] = ()
    """The script's own."""

    @property
    def total_memory_mb(self) -> int:
        """What it asks for in all; 0 if it does not say."""
        return self.memory_mb or (self.memory_per_cpu_mb or 0) * self.cpus

    def larger_than(self, cpus: int) -> bool:
        """Whether it can never run here: one machine, with this many CPUs."""
        return self.cpus > cpus or self.nodes > 1


def read_request(body: Mapping[str, Any], memory_mb: int) -> Request:
    """A submit's body, checked as slurmrestd v0.0.44 and Clusterra's proxy check it.

    :param body: ``{"script": str, "job": {…}}``.
    :param memory_mb: how much this machine has.
    :raises RefusedError: with the status and the number that a real server gave.
    :source: recorded answers of slurmrestd 26.05; Clusterra's rules for raw submits.
    """
    job = body.get("job")
    if not isinstance(job, Mapping):
        raise _empty('Populated "job" field is required')
    script = body.get("script") or job.get("script")
    if not isinstance(script, str) or not script:
        raise _empty('Populated "script" field is required for job submission')
    environment = job.get("environment")
    if not isinstance(environment, list) or not environment:
        raise refused(2127, "Environment is missing in job")
    request = _read_job(_cut(script), environment, job)
    _check(request, memory_mb)
    return request


def read_warnings(job: Mapping[str, Any]) -> list[dict[str, str]]:
    """One warning for each field that is not honoured."""
    known = {"nodes": job.get("nodes") or 1, "cpus": job.get("cpus_per_task") or 1}
    same = {
        field: [form.format(**known) for form in forms] for field, forms in SAYS_THE_SAME.items()
    }
    return [
        {
            "description": f'Ignoring field "{field}": the processes backend does not know it',
            "source": f"#/job/{field}/",
        }
        for field in job
        if field not in FIELDS and str(job[field]) not in same.get(field, ())
    ]


def refused(number: int, error: str) -> RefusedError:
    """Slurm's own no to a job."""
    return RefusedError(
        422, number, error, "Batch job submission failed", "slurm_submit_batch_job()"
    )


def _read_job(script: str, environment: list[Any], job: Mapping[str, Any]) -> Request:
    tasks = max(_number(job, "tasks") or 1, 1)
    cpus = tasks * max(_number(job, "cpus_per_task") or 1, 1)
    nodes = re.match(r"[0-9]{1,9}", _text(job, "nodes") or "1")
    indices, at_once = _array(_text(job, "array"))
    return Request(
        script=script,
        name=_text(job, "name") or "sbatch",
        partition=_text(job, "partition") or PARTITIONS[0],
        nodes=int(nodes[0]) if nodes else 1,
        tasks=tasks,
        cpus=max(cpus, _number(job, "minimum_cpus") or 1),
        memory_mb=_number(job, "memory_per_node"),
        memory_per_cpu_mb=_number(job, "memory_per_cpu"),
        time_limit_minutes=_number(job, "time_limit"),
        environment=tuple(_cut(str(each)) for each in environment),
        working_directory=_text(job, "current_working_directory"),
        hold=job.get("hold") is True,
        begin_time=float(_number(job, "begin_time") or 0),
        dependency=_text(job, "dependency"),
        comment=_text(job, "comment"),
        requeue=job.get("requeue", True) is not False,
        indices=indices,
        at_once=at_once,
        # slurmstepd puts the script's path in the place of the first
        arguments=tuple(_texts(job, "argv")[1:]),
    )


def _check(request: Request, memory_mb: int) -> None:
    if not request.working_directory:
        raise refused(
            2063, "Job cannot be submitted without the current working directory specified."
        )
    if request.partition not in PARTITIONS:
        names = " and ".join(PARTITIONS)
        raise RefusedError(
            422,
            2000,
            "Invalid partition name specified",
            f"Batch job submission failed: there is no partition {request.partition!r}; "
            f"there are {names}",
            "slurm_submit_batch_job()",
        )
    if len(request.script.encode()) > MAX_SCRIPT or len(request.name) > MAX_NAME:
        raise refused(2012, "Pathname of a file, directory or other parameter too long")
    memory = max(request.memory_mb or 0, (request.memory_per_cpu_mb or 0) * request.cpus)
    if memory > memory_mb:
        raise refused(2014, "Requested node configuration is not available")
    try:
        read_dependencies(request.dependency)
    except ValueError:
        raise refused(2038, "Job dependency problem") from None


def _array(text: str) -> tuple[tuple[int, ...], int]:
    if not text:
        return (), 0
    try:
        return read_array(text)
    except ValueError:
        raise refused(2041, "Invalid job array specification") from None


def _text(job: Mapping[str, Any], field: str) -> str:
    value = job.get(field)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise _wrong_type(field, "string", value)
    return _cut(value)


def _texts(job: Mapping[str, Any], field: str) -> list[str]:
    value = job.get(field) or []
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise _wrong_type(field, "array of strings", value)
    return [_cut(each) for each in value]


def _cut(text: str) -> str:
    """A text as Slurm, which is written in C, sees it."""
    return text.partition("\0")[0]


def _number(job: Mapping[str, Any], field: str) -> int | None:
    value = job.get(field)
    if isinstance(value, Mapping):
        if not value.get("set") or value.get("infinite"):
            return None
        value = value.get("number")
    if isinstance(value, str) and re.fullmatch("[0-9]{1,20}", value):
        return int(value)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 2**63:
        raise _wrong_type(field, "integer", value)
    return int(value)


def _empty(description: str) -> RefusedError:
    return RefusedError(422, 9000, "Query empty or not RFC7320 compliant", description, "_job_post")


def _wrong_type(field: str, expected: str, value: Any) -> RefusedError:
    return RefusedError(
        500,
        9202,
        "Unable to convert Data type",
        f'Expected {expected} but got "{value}"',
        f"#/job/{field}/",
    )
