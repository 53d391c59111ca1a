"""Tests of airflow_provider_clusterra.api.specs."""

import pytest

from airflow_provider_clusterra.api.specs import (
    OF_A_COMPONENT,
    JobSpec,
    job_body,
    sbatch_environment,
)


@pytest.mark.parametrize(
    ("job", "variables"),
    [
        (
            {"cpus_per_task": 2, "tres_per_task": "cpu=2,gres/gpu:t4=1"},
            {
                "SLURM_CPUS_PER_TASK": "2",
                "SLURM_TRES_PER_TASK": "cpu=2,gres/gpu:t4=1",
            },
        ),
        ({"tres_bind": "gres/gpu:per_task:1"}, {"SLURM_TRES_BIND": "gres/gpu:per_task:1"}),
        ({"tres_freq": "gpu:high"}, {"SLURM_GPU_FREQ": "high"}),
        ({"tres_per_job": "gres/gpu:a:1,gres/gpu:b:2"}, {"SLURM_GPUS": "a:1,b:2"}),
        ({"open_mode": ["APPEND"]}, {"SLURM_OPEN_MODE": "a"}),
        ({"profile": ["ENERGY", "TASK"]}, {"SLURM_PROFILE": "Energy,Task"}),
        ({"overcommit": True}, {"SLURM_OVERCOMMIT": "1"}),
        ({"oom_kill_step": 0}, {"SLURM_OOM_KILL_STEP": "0"}),
        (
            {"distribution": "plane=4"},
            {"SLURM_DISTRIBUTION": "plane", "SLURM_DIST_PLANESIZE": "4"},
        ),
        ({"tasks_per_node": 2, "nodes": "2-4"}, {"SLURM_NTASKS_PER_NODE": "2"}),
        ({"tres_per_job": "gres/gpu:a10g:2"}, {"SLURM_GPUS": "a10g:2"}),
        ({"tres_per_node": "gres/nvme:1,gres/gpu:2"}, {}),
        ({"memory_per_tres": "gres/gpu:1024"}, {"SLURM_MEM_PER_GPU": "1024"}),
        ({"cpus_per_tres": "gres/gpu:4"}, {"SLURM_CPUS_PER_GPU": "4"}),
        ({"threads_per_core": 1}, {"SLURM_THREADS_PER_CORE": "1"}),
        ({}, {}),
    ],
    ids=repr,
)
def test_the_environment_is_the_one_that_sbatch_would_have_set(job, variables):
    assert sbatch_environment(job) == variables


def environment_of(**fields):
    listed = JobSpec("#!/bin/bash\n", "x", fields=fields).body()["job"]["environment"]
    return dict(each.split("=", 1) for each in listed)


def test_a_job_finds_where_it_was_submitted_and_what_starts_mpi():
    found = environment_of()

    assert found["SLURM_SUBMIT_DIR"] == "/mnt/efs"
    assert found["SLURM_SUBMIT_HOST"]
    assert found["OMPI_MCA_plm_slurm_args"] == found["HYDRA_LAUNCHER_EXTRA_ARGS"]


def test_tasks_of_each_node_are_tasks_of_the_job():
    found = environment_of(tasks_per_node=2, nodes="2")

    assert (found["SLURM_NTASKS"], found["SLURM_NPROCS"]) == ("4", "4")
    assert environment_of(tasks_per_node=2)["SLURM_NTASKS"] == "2"
    assert "SLURM_NTASKS" not in environment_of(tasks_per_node=2, nodes="1-2")


@pytest.mark.parametrize(
    ("variables", "path"),
    [
        ({}, True),
        ({"SLURM_GET_USER_ENV": "1"}, False),
        ({"SLURM_EXPORT_ENV": "NONE", "SLURM_GET_USER_ENV": "1"}, False),
        ({"SLURM_EXPORT_ENV": "nil"}, False),
        ({"SLURM_EXPORT_ENV": "ALL,A=1", "SLURM_GET_USER_ENV": "1"}, True),
        ({"SLURM_EXPORT_ENV": "NONE", "PATH": "/own"}, True),
    ],
    ids=repr,
)
def test_the_users_own_path_is_not_hidden(variables, path):
    assert ("PATH" in environment_of(environment=variables)) is path


def test_a_heterogeneous_jobs_variables_are_those_of_its_components():
    first = JobSpec("#!/bin/bash\n", "x", tasks=1, cpus_per_task=4)
    second = JobSpec(
        "#!/bin/bash\n",
        "x",
        tasks=3,
        fields={"tres_per_node": "gres/gpu:1", "environment": {"SLURM_GPUS_PER_NODE": "1"}},
    )
    for job in job_body("#!/bin/bash\n", [first.all_fields(), second.all_fields()])["jobs"]:
        found = dict(each.split("=", 1) for each in job["environment"])
        for kind in ("HET", "PACK"):
            assert found[f"SLURM_NTASKS_{kind}_GROUP_0"] == "1"
            assert found[f"SLURM_NPROCS_{kind}_GROUP_1"] == "3"
            assert found[f"SLURM_CPUS_PER_TASK_{kind}_GROUP_0"] == "4"
            assert found[f"SLURM_GPUS_PER_NODE_{kind}_GROUP_1"] == "1"
        assert found.keys().isdisjoint(OF_A_COMPONENT)
