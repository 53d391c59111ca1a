"""The variables that ``sbatch`` would have set for a job, and the REST API does not."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

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

    :param job: fields of slurmrestd v0.0.44.
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
