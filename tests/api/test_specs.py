"""Tests of airflow_provider_clusterra.api.specs."""

from contextlib import nullcontext

import pytest

from airflow_provider_clusterra.api.errors import InputError
from airflow_provider_clusterra.api.specs import (
    LARGEST_SCRIPT,
    JobSpec,
    check_output_is_shown,
    hidden_outputs,
    job_body,
)

SCRIPT = "#!/bin/bash\necho hello\n"


def environment(spec):
    return dict(each.split("=", 1) for each in spec.body()["job"]["environment"])


def test_the_smallest_job_has_what_the_api_cannot_do_without():
    body = JobSpec(script=SCRIPT, name="hello").body()
    variables = body["job"].pop("environment")

    assert body == {
        "script": SCRIPT,
        "job": {"name": "hello", "nodes": "1", "current_working_directory": "/mnt/efs"},
    }
    assert {"PATH=/usr/local/bin:/usr/bin:/bin", "SLURM_SUBMIT_DIR=/mnt/efs"} <= set(variables)


def test_numbers_go_in_the_form_that_slurm_does_not_ignore():
    job = JobSpec(script=SCRIPT, name="x", memory_mb=4096, time_limit_minutes=60).body()["job"]

    assert job["memory_per_node"] == {"set": True, "infinite": False, "number": 4096}
    assert job["time_limit"] == {"set": True, "infinite": False, "number": 60}


def test_a_path_of_the_users_own_stays():
    spec = JobSpec(script=SCRIPT, name="x", environment={"PATH": "/opt/bin", "A": "b=c"})

    assert {"PATH": "/opt/bin", "A": "b=c"}.items() <= environment(spec).items()


def test_a_size_that_is_given_needs_no_node_count():
    assert "nodes" not in JobSpec(script=SCRIPT, name="x", tasks=100).body()["job"]
    assert JobSpec(script=SCRIPT, name="x", nodes="2-4", tasks=9).body()["job"]["nodes"] == "2-4"


@pytest.mark.parametrize("fields", [{"cpus_per_task": 2}, {"tasks_per_core": 1}], ids=repr)
def test_how_many_nodes_there_may_be_is_left_open_where_sbatch_does(fields):
    job = JobSpec(script=SCRIPT, name="x", fields=fields).body()["job"]

    assert job["minimum_nodes"] == 1
    assert "nodes" not in job


def test_a_held_job_has_no_priority_because_slurm_would_start_it():
    fields = {"priority": {"set": True, "infinite": False, "number": 100}, "hold": True}
    job = JobSpec(script=SCRIPT, name="x", fields=fields).body()["job"]

    assert job["hold"] is True
    assert "priority" not in job
    assert (
        "priority"
        in JobSpec(script=SCRIPT, name="x", fields={**fields, "hold": False}).body()["job"]
    )


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("sub", "/mnt/efs/sub"),
        ("./a/b", "/mnt/efs/a/b"),
        ("/scratch", "/scratch"),
        ("", "/mnt/efs"),
    ],
)
def test_a_relative_folder_is_one_of_the_shared_folder(given, meant):
    spec = JobSpec(script=SCRIPT, name="x", working_directory=given)
    changed = JobSpec(script=SCRIPT, name="x", fields={"current_working_directory": given})

    assert spec.body()["job"]["current_working_directory"] == meant
    assert changed.body()["job"]["current_working_directory"] == meant
    # sbatch --chdir does not move where it was called
    assert environment(spec)["SLURM_SUBMIT_DIR"] == meant
    assert environment(changed)["SLURM_SUBMIT_DIR"] == "/mnt/efs"
    assert hidden_outputs({"current_working_directory": "sub"}) == []


def test_what_is_given_wins_over_other_fields():
    fields = {
        "partition": "cpu",
        "time_limit": {"set": True, "infinite": True, "number": 0},
        "memory_per_cpu": {"set": True, "infinite": False, "number": 5},
        "comment": "kept",
        "environment": {"A": "fields", "B": "fields", "SLURM_SUBMIT_DIR": "/given"},
    }
    spec = JobSpec(
        script=SCRIPT,
        name="x",
        partition="gpu",
        time_limit_minutes=5,
        memory_mb=9,
        cpus_per_task=2,
        environment={"A": "given"},
        fields=fields,
    )
    job = spec.body()["job"]

    assert (job["partition"], job["comment"]) == ("gpu", "kept")
    assert job["time_limit"]["number"] == 5
    assert job["memory_per_node"]["number"] == 9
    assert "memory_per_cpu" not in job
    assert (job["cpus_per_task"], job["tres_per_task"]) == (2, "cpu=2")
    expected = {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "SLURM_SUBMIT_DIR": "/given",
        "SLURM_CPUS_PER_TASK": "2",
        "SLURM_TRES_PER_TASK": "cpu=2",
        "A": "given",
        "B": "fields",
    }
    assert expected.items() <= environment(spec).items()


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("", "is empty"),
        (" \n", "is empty"),
        ("echo hello", "no shebang.*'echo hello'.*#!/bin/bash"),
        ("\n#!/bin/bash\n", "no shebang .there is white space before it"),
        ("#!/bin/bash\r\necho\r\n", "CRLF"),
        ("#!/bin/bash\necho \x00\n", "NUL"),
        ("#!/bin/bash\n" + "#" * LARGEST_SCRIPT, "bytes; Slurm takes"),
    ],
)
def test_a_script_that_cannot_run_is_refused_in_words(script, words):
    with pytest.raises(InputError, match=words):
        JobSpec(script=script, name="x")


def test_a_variable_that_is_none_is_refused_by_name():
    with pytest.raises(InputError, match="'MY VAR' is not a variable's name"):
        JobSpec(script=SCRIPT, name="x", environment={"MY VAR": "1"})


def test_a_heterogeneous_job_has_one_script_and_several_jobs():
    first = JobSpec(script=SCRIPT, name="x", tasks=1)
    second = JobSpec(script=SCRIPT, name="x", tasks=8, partition="gpu")
    body = job_body(SCRIPT, [first.all_fields(), second.all_fields()])

    assert body["script"] == SCRIPT
    assert [job["tasks"] for job in body["jobs"]] == [1, 8]


@pytest.mark.parametrize(
    "job",
    [
        {},
        {"standard_output": "job_%j.out"},
        {"standard_output": "/mnt/efs/slurm-%j.out"},
        {"standard_output": "/mnt/efs/me/job_%j.out"},
        {"current_working_directory": "/mnt/efs/me"},
    ],
    ids=repr,
)
def test_an_output_that_the_api_finds_needs_no_word(job):
    assert hidden_outputs(job) == []


@pytest.mark.parametrize(
    ("job", "words"),
    [
        ({"standard_output": "out.txt"}, "The output goes to /mnt/efs/out.txt"),
        ({"standard_output": "/mnt/efs/a/b/job_%j.out"}, "goes to /mnt/efs/a/b/job_%j.out"),
        ({"current_working_directory": "/scratch"}, "The output goes to /scratch/job_%j.out"),
        ({"standard_error": "%j.err"}, "standard error goes to %j.err"),
    ],
    ids=repr,
)
def test_an_output_that_the_api_does_not_find_is_told_before(job, words):
    (told,) = hidden_outputs(job)

    assert words in told


@pytest.mark.parametrize(
    ("job", "folder", "refused"),
    [
        ({}, "", False),
        ({"standard_output": "elsewhere.log"}, "", True),
        ({"current_working_directory": "/scratch/me"}, "", True),
        ({"current_working_directory": "/scratch/me"}, "/shared/out", False),
        ({"standard_output": "/shared/out/me/x.log"}, "/shared/out", False),
        ({"standard_output": "/shared/output/x.log"}, "/shared/out", True),
    ],
)
def test_an_output_is_refused_unless_the_api_shows_its_folder(job, folder, refused):
    with (
        pytest.raises(InputError, match="which the API does not show") if refused else nullcontext()
    ):
        check_output_is_shown(job, lambda: folder)
