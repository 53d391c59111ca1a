"""The environment of a job: what its submit gave, and what Slurm adds."""

from __future__ import annotations

from clusterra_server.jobs import Job

NODE = "local1"
"""The one machine's name."""


def job_environment(job: Job) -> dict[str, str]:
    """A job's variables, as a batch script of Slurm finds them.

    :source: recorded ``env`` of a job submitted to slurmrestd: what ``sbatch`` alone would set
        (``SLURM_SUBMIT_DIR``, ``SLURM_CPUS_PER_TASK`` …) is not there.
    """
    given = dict(each.partition("=")[::2] for each in job.request.environment if "=" in each)
    slurm = {
        "SLURM_JOB_ID": str(job.job_id),
        "SLURM_JOBID": str(job.job_id),
        "SLURM_JOB_NAME": job.request.name,
        "SLURM_JOB_PARTITION": job.request.partition,
        "SLURM_JOB_NODELIST": NODE,
        "SLURM_NODELIST": NODE,
        "SLURM_JOB_NUM_NODES": "1",
        "SLURM_NNODES": "1",
        "SLURM_JOB_CPUS_PER_NODE": str(job.request.cpus),
        "SLURM_CPUS_ON_NODE": str(job.request.cpus),
        "SLURM_NTASKS": str(job.request.tasks),
        "SLURM_CLUSTER_NAME": "local",
        "SLURMD_NODENAME": NODE,
    }
    return given | slurm | _array(job)


def _array(job: Job) -> dict[str, str]:
    if not job.array_job_id:
        return {}
    indices = job.request.indices
    return {
        "SLURM_ARRAY_JOB_ID": str(job.array_job_id),
        "SLURM_ARRAY_TASK_ID": str(job.array_task_id),
        "SLURM_ARRAY_TASK_COUNT": str(len(indices)),
        "SLURM_ARRAY_TASK_MIN": str(min(indices)),
        "SLURM_ARRAY_TASK_MAX": str(max(indices)),
        "SLURM_ARRAY_TASK_STEP": str(indices[1] - indices[0] if len(indices) > 1 else 1),
    }
