"""Tests of airflow_provider_clusterra.api.specs."""

import pytest

from airflow_provider_clusterra.api.specs import sbatch_environment


@pytest.mark.parametrize(
    ("job", "variables"),
    [
        (
            {"cpus_per_task": 2, "tres_per_task": "cpu=2,gres/gpu:t4=1"},
            {
                "SLURM_CPUS_PER_TASK": "2",
                "SLURM_TRES_PER_TASK": "cpu=2,gres/gpu:t4=1",
                "SLURM_GPUS_PER_TASK": "t4:1",
            },
        ),
        ({"current_working_directory": "/x"}, {"SLURM_SUBMIT_DIR": "/x"}),
        (
            {"tasks_per_node": 2, "nodes": "2"},
            {"SLURM_NTASKS_PER_NODE": "2", "SLURM_NTASKS": "4", "SLURM_NPROCS": "4"},
        ),
        ({"tasks_per_node": 2, "nodes": "2-4"}, {"SLURM_NTASKS_PER_NODE": "2"}),
        ({"tres_per_job": "gres/gpu:a10g:2"}, {"SLURM_GPUS": "a10g:2"}),
        ({"tres_per_node": "gres/nvme:1,gres/gpu:2"}, {"SLURM_GPUS_PER_NODE": "2"}),
        ({"memory_per_tres": "gres/gpu:1024"}, {"SLURM_MEM_PER_GPU": "1024"}),
        ({"cpus_per_tres": "gres/gpu:4"}, {"SLURM_CPUS_PER_GPU": "4"}),
        ({"threads_per_core": 1}, {"SLURM_THREADS_PER_CORE": "1"}),
        ({}, {}),
    ],
    ids=repr,
)
def test_the_environment_is_the_one_that_sbatch_would_have_set(job, variables):
    assert sbatch_environment(job) == variables
