"""What a submit's body asks for, or why it is refused: with a real slurmrestd's words and numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_provider_clusterra.local.arrays import read_array

PARTITIONS = ("cpu", "gpu")
"""The first is the default."""
FIELDS = frozenset(
    {
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
        "dependency",
        "comment",
        "requeue",
    }
)
"""The job's fields that the processes backend honours; each other one is a warning."""


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
    cpus: int
    environment: tuple[str, ...]
    """``NAME=value`` each."""
    working_directory: str
    time_limit_minutes: int | None
    memory_mb: int | None
    hold: bool
    dependency: str
    comment: str
    indices: tuple[int, ...]
    """An array's; empty where it is none."""
    at_once: int
    """How many tasks of the array may run at once; 0 is no limit."""
    nodes: str
    tasks: int
    warnings: tuple[str, ...]


def read_request(body: Any) -> Request:
    """A submit's body, checked as slurmrestd v0.0.44 and Clusterra's proxy check it.

    :param body: ``{"script": str, "job": {…}}``.
    :raises RefusedError: with the status and the number that a real server gave.
    :source: recorded answers of slurmrestd 26.05; Clusterra's rules for raw submits.
    """
    if not isinstance(body, Mapping):
        raise RefusedError(
            400, 9001, "Failure during parsing", "the body is not an object", "_job_post"
        )
    if "template_id" in body or "steps" in body:
        raise RefusedError(
            501,
            9999,
            "Not here",
            "clusterra-local has no templates; submit a script",
            "clusterra-local",
        )
    job = body.get("job")
    if not isinstance(job, Mapping):
        raise RefusedError(
            422,
            9000,
            "Query empty or not RFC7320 compliant",
            'Populated "job" field is required',
            "_job_post",
        )
    script = body.get("script") or job.get("script")
    if not isinstance(script, str) or not script:
        raise RefusedError(
            422,
            9000,
            "Query empty or not RFC7320 compliant",
            'Populated "script" field is required for job submission',
            "_job_post",
        )
    return _read_job(script, job)


def _read_job(script: str, job: Mapping[str, Any]) -> Request:
    environment = job.get("environment")
    if not isinstance(environment, list) or not environment:
        raise _not_submitted(2127, "Environment is missing in job")
    folder = _text(job, "current_working_directory")
    if not folder:
        raise _not_submitted(
            2063, "Job cannot be submitted without the current working directory specified."
        )
    partition = _text(job, "partition") or PARTITIONS[0]
    if partition not in PARTITIONS:
        raise _not_submitted(2000, "Invalid partition name specified")
    tasks = _number(job, "tasks") or 1
    cpus = max(tasks * (_number(job, "cpus_per_task") or 1), _number(job, "minimum_cpus") or 1)
    indices, at_once = _array(_text(job, "array"))
    return Request(
        script=script,
        name=_text(job, "name") or "sbatch",
        partition=partition,
        cpus=cpus,
        environment=tuple(str(each) for each in environment),
        working_directory=folder,
        time_limit_minutes=_number(job, "time_limit"),
        memory_mb=_number(job, "memory_per_node"),
        hold=job.get("hold") is True,
        dependency=_text(job, "dependency"),
        comment=_text(job, "comment"),
        indices=indices,
        at_once=at_once,
        nodes=_text(job, "nodes") or "1",
        tasks=tasks,
        warnings=tuple(
            f'Ignoring field "{field}": the processes backend does not know it'
            for field in job
            if field not in FIELDS
        ),
    )


def _array(text: str) -> tuple[tuple[int, ...], int]:
    if not text:
        return (), 0
    try:
        return read_array(text)
    except ValueError:
        raise _not_submitted(2041, "Invalid job array specification") from None


def _text(job: Mapping[str, Any], field: str) -> str:
    value = job.get(field)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise _wrong_type(field, "string", value)
    return value


def _number(job: Mapping[str, Any], field: str) -> int | None:
    value = job.get(field)
    if isinstance(value, Mapping):
        if not value.get("set") or value.get("infinite"):
            return None
        value = value.get("number")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _wrong_type(field, "integer", value)
    return int(value)


def _wrong_type(field: str, expected: str, value: Any) -> RefusedError:
    return RefusedError(
        500,
        9202,
        "Unable to convert Data type",
        f'Expected {expected} but got "{value}"',
        f"#/job/{field}/",
    )


def _not_submitted(number: int, error: str) -> RefusedError:
    return RefusedError(
        422, number, error, "Batch job submission failed", "slurm_submit_batch_job()"
    )
