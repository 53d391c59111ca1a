"""What is asked of Slurm: a script and its job's fields, typed as strictly as slurmrestd has them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import msgspec

from airflow_provider_clusterra.api.errors import InputError
from airflow_provider_clusterra.api.slurm import no_val

FROM_FIELD = {
    "SLURM_SUBMIT_DIR": "current_working_directory",
    "SLURM_CPUS_PER_TASK": "cpus_per_task",
    "SLURM_NTASKS_PER_NODE": "tasks_per_node",
    "SLURM_NTASKS_PER_CORE": "tasks_per_core",
    "SLURM_NTASKS_PER_SOCKET": "tasks_per_socket",
    "SLURM_THREADS_PER_CORE": "threads_per_core",
    "SLURM_TRES_PER_TASK": "tres_per_task",
}
FROM_GPUS = {
    "SLURM_GPUS": "tres_per_job",
    "SLURM_GPUS_PER_NODE": "tres_per_node",
    "SLURM_GPUS_PER_TASK": "tres_per_task",
    "SLURM_CPUS_PER_GPU": "cpus_per_tres",
    "SLURM_MEM_PER_GPU": "memory_per_tres",
}


def sbatch_environment(job: Mapping[str, Any]) -> dict[str, str]:
    """The variables for a job's fields; what the user gives comes before them.

    :source: ``env`` of the same scripts under ``sbatch`` and slurmrestd 26.05.
    """
    found = {name: str(job[field]) for name, field in FROM_FIELD.items() if job.get(field)}
    for name, field in FROM_GPUS.items():
        gpus = re.search(r"gres/gpu[:=]([^,;]+)", str(job.get(field) or ""))
        if gpus:
            found[name] = gpus[1].replace("=", ":")
    nodes, per_node = str(job.get("nodes") or ""), job.get("tasks_per_node")
    if per_node and nodes.isdigit() and not job.get("tasks"):
        found["SLURM_NTASKS"] = found["SLURM_NPROCS"] = str(int(nodes) * per_node)
    return found


DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin"
DEFAULT_DIRECTORY = "/mnt/efs"
SHOWN = ("job_%j.out", "slurm-%j.out")
SIZES = ("nodes", "tasks", "required_nodes", "minimum_nodes", "minimum_cpus")
"""Fields of which Slurm wants one (its error 2008)."""
OPEN = ("cpus_per_task", "tasks_per_core")
"""Fields with which ``sbatch`` leaves open how many nodes there may be."""
LARGEST_SCRIPT = 4 * 1024 * 1024
"""Bytes: Slurm's ``max_script_size``. A longer one is refused with error 2012."""


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
            job.pop("memory_per_cpu", None)
            job.pop("memory_per_tres", None)
            job["memory_per_node"] = no_val(self.memory_mb)
        if self.cpus_per_task is not None:
            job["cpus_per_task"] = self.cpus_per_task
            put_tres_per_task(job, "cpu", f"cpu={self.cpus_per_task}")
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

    :source: the same route with ``jobs`` instead of ``job``.
    """
    jobs = [component.body()["job"] for component in components]
    return {"script": components[0].script, "jobs": jobs}


def hidden_outputs(job: Mapping[str, Any]) -> list[str]:
    """What of a job's output the API will not show, in words; empty where it shows all.

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


def put_tres_per_task(fields: dict[str, Any], name: str, entry: str) -> None:
    """What each task needs of one resource, in the place of what it needed of it."""
    others = [each for each in str(fields.get("tres_per_task", "")).split(",") if each]
    kept = [each for each in others if not each.startswith(name)]
    fields["tres_per_task"] = ",".join(sorted([*kept, entry]))
