"""What is asked of Slurm: a script and its job's fields, typed as strictly as slurmrestd has them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import msgspec

from airflow_provider_clusterra.api.environment import sbatch_environment
from airflow_provider_clusterra.api.errors import InputError
from airflow_provider_clusterra.api.fields import as_memory, put_cpus_per_task
from airflow_provider_clusterra.api.numbers import no_val

DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin"
DEFAULT_DIRECTORY = "/mnt/efs"
SHOWN = ("job_%j.out", "slurm-%j.out")
SIZES = ("nodes", "tasks", "required_nodes", "minimum_nodes", "minimum_cpus")
"""Fields of which Slurm wants one (its error 2008)."""
OPEN = ("cpus_per_task", "tasks_per_core")
"""Fields with which ``sbatch`` leaves open how many nodes there may be."""
LARGEST_SCRIPT = 4 * 1024 * 1024
"""Bytes: Slurm's ``max_script_size``. A longer one is refused with error 2012."""

put_memory_per_node = as_memory("memory_per_node")


class JobSpec(msgspec.Struct, frozen=True):
    """A job to be submitted. None leaves a field to the cluster's own default."""

    script: str
    name: str
    nodes: str | None = None
    """A count or a range, e.g. ``"1"``, ``"2-4"``; one node where nothing else gives a size."""
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    tasks: int | None = None
    cpus_per_task: int | None = None
    memory_mb: int | None = None
    """Memory per node in MB."""
    time_limit_minutes: int | None = None
    environment: Mapping[str, str] = msgspec.field(default_factory=dict)
    working_directory: str | None = None
    """A folder on the cluster, by its whole path or below :data:`DEFAULT_DIRECTORY`."""
    fields: Mapping[str, Any] = {}
    """Any other field by slurmrestd's name, in its form; what stands above wins over it.
    ``environment`` is a dict here, too."""

    def __post_init__(self) -> None:
        check_script(self.script)
        for name in self.environment:
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
                raise InputError(f"environment: {name!r} is not a variable's name.")

    def body(self) -> dict[str, Any]:
        """The submit's JSON body.

        :source: ``POST /v1/clusters/{cluster_id}/jobs/submit``; slurmrestd v0.0.44
            ``job_desc_msg``. ``nodes`` is a string, ``environment`` is never empty.
        """
        given = {
            "name": self.name,
            "nodes": self.nodes,
            "partition": self.partition,
            "account": self.account,
            "qos": self.qos,
            "tasks": self.tasks,
            "time_limit": no_val(self.time_limit_minutes),
            "current_working_directory": self.working_directory,
        }
        job = {
            "current_working_directory": DEFAULT_DIRECTORY,
            **self.fields,
            **{name: value for name, value in given.items() if value is not None},
        }
        job["current_working_directory"] = str(_folder(job))
        if self.memory_mb is not None:
            put_memory_per_node(job, str(self.memory_mb))
        if self.cpus_per_task is not None:
            put_cpus_per_task(job, str(self.cpus_per_task))
        if job.get("hold"):
            # with a priority beside it, slurmrestd would start the job
            job.pop("priority", None)
        if not any(job.get(name) for name in SIZES):
            is_open = any(job.get(name) for name in OPEN)
            job |= {"minimum_nodes": 1} if is_open else {"nodes": "1"}
        variables = {
            "PATH": DEFAULT_PATH,
            **sbatch_environment(job),
            **job.pop("environment", {}),
            **self.environment,
        }
        job["environment"] = [f"{name}={value}" for name, value in variables.items()]
        return {"script": self.script, "job": job}


def het_body(components: Sequence[JobSpec]) -> dict[str, Any]:
    """The submit's JSON body of a heterogeneous job.

    :param components: at least one; the script is the first one's.
    :source: the same route with ``jobs`` instead of ``job``.
    """
    jobs = [component.body()["job"] for component in components]
    return {"script": components[0].script, "jobs": jobs}


def hidden_outputs(job: Mapping[str, Any]) -> list[str]:
    """What of a job's output the API will not show, in words; empty where it shows all.

    :param job: fields of slurmrestd v0.0.44.
    :source: clusterra-hpc's edge-agent, ``logs.go``: it looks for ``slurm-<id>.out`` and
        ``job_<id>.out`` in ``/mnt/efs`` and in its folders, and nowhere else.
    """
    found = []
    path = _folder(job) / (job.get("standard_output") or "job_%j.out")
    shared = PurePosixPath(DEFAULT_DIRECTORY)
    if path.name not in SHOWN or shared not in (path.parent, path.parent.parent):
        found.append(
            f"The output goes to {path}, where the API does not look for it. It shows only "
            f"{' and '.join(SHOWN)} in {shared} or one folder below."
        )
    if job.get("standard_error"):
        found.append(
            f"What the job writes to standard error goes to {job['standard_error']}, which the API "
            "does not show. Leave it out, and it stands in the output."
        )
    return found


def _folder(job: Mapping[str, Any]) -> PurePosixPath:
    """Where the job begins; Slurm would look for a relative path in a place of its own."""
    return PurePosixPath(DEFAULT_DIRECTORY) / (job.get("current_working_directory") or "")


def check_script(script: str) -> None:
    """Refuse what Slurm would accept and then fail, or cut, or never run.

    :param script: the whole text of a batch script.
    :raises InputError: it is empty, has no shebang, holds a NUL or CRLF, or is over 4 MiB.
    """
    if not script.strip():
        raise InputError(
            "The script is empty. Give the text of a script, e.g. '#!/bin/bash\\necho hello'."
        )
    if not script.startswith("#!"):
        first = script.lstrip().splitlines()[0][:60]
        hint = " (there is white space before it)" if script.lstrip().startswith("#!") else ""
        raise InputError(
            f"The script has no shebang{hint}: its first line is {first!r}. Begin it with #!/bin/bash."
        )
    if "\x00" in script:
        raise InputError(
            "The script holds a NUL byte, at which Slurm would silently cut it. Remove it."
        )
    if "\r\n" in script:
        raise InputError(
            "The script has Windows line ends (CRLF), which Slurm refuses. Save it with LF."
        )
    if len(script.encode()) > LARGEST_SCRIPT:
        raise InputError(
            f"The script has {len(script.encode())} bytes; Slurm takes {LARGEST_SCRIPT}. "
            "Upload the data it carries and let it read them."
        )
