"""Tests of airflow_provider_clusterra.api.arguments and .merged."""

import re
from datetime import UTC, datetime, timedelta

import pytest

from airflow_provider_clusterra.api import InputError
from airflow_provider_clusterra.api.specs import no_val
from airflow_provider_clusterra.sbatch.job import (
    ARGUMENTS,
    check_fields,
    read_arguments,
    read_components,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def script(*lines):
    return "\n".join(["#!/bin/bash", *(f"#SBATCH {line}" for line in lines), "srun hostname", ""])


def asked(*lines, job=None, environment=None, **arguments):
    return read_arguments(
        script(*lines),
        arguments,
        job=job or {},
        environment=environment or {},
        now=NOW,
        name="dag.task",
        defaults={"AIRFLOW_CTX_DAG_ID": "dag", "BOTH": "ours"},
    )


def fields(*lines, **given):
    (only,) = asked(*lines, **given).components
    return only


@pytest.mark.parametrize(
    ("argument", "line"),
    [
        ({"name": "md"}, "-J md"),
        ({"partition": "gpu"}, "-p gpu"),
        ({"account": "lab"}, "-A lab"),
        ({"qos": "high"}, "-q high"),
        ({"nodes": 2}, "-N 2"),
        ({"nodes": "2-4"}, "-N 2-4"),
        ({"tasks": "8"}, "-n 8"),
        ({"cpus_per_task": 4}, "-c 4"),
        ({"memory": "4G"}, "--mem=4G"),
        ({"memory": 4096}, "--mem=4G"),
        ({"memory_per_cpu": "2G"}, "--mem-per-cpu=2G"),
        ({"time_limit": 90}, "-t 90"),
        ({"time_limit": 1.5}, "-t 2"),
        ({"time_limit": timedelta(hours=1, seconds=1)}, "-t 61"),
        ({"time_limit": "1-12:00:00"}, "-t 1-12"),
        ({"time_limit": "UNLIMITED"}, "-t 0"),
        ({"gpus": 2}, "--gpus=2"),
        ({"gpus": "a10g:1"}, "-G a10g:1"),
        ({"constraint": "spot"}, "-C spot"),
        ({"exclusive": True}, "--exclusive"),
        ({"exclusive": "True"}, "--exclusive"),
        ({"exclusive": "user"}, "--exclusive=user"),
        ({"licenses": "matlab:2"}, "-L matlab:2"),
        ({"array": "0-99%10"}, "-a 0-99%10"),
        ({"dependency": "afterok:12:13,afterany:14"}, "-d afterok:12:13,afterany:14"),
        ({"requeue": True}, "--requeue"),
        ({"requeue": "false"}, "--no-requeue"),
        ({"signal": "B:USR1@120"}, "--signal=B:USR1@120"),
    ],
    ids=repr,
)
def test_an_argument_is_what_its_option_of_sbatch_is(argument, line):
    found = fields(**argument)

    assert found == read_components(script(line))[0].fields(NOW)
    assert found
    assert check_fields(found) == found


def test_a_working_directory_is_where_the_job_is_submitted_as_well():
    given, line = asked(working_directory="x").body()["job"], asked("-D x").body()["job"]

    assert given["current_working_directory"] == line["current_working_directory"] == "/mnt/efs/x"
    assert "SLURM_SUBMIT_DIR=/mnt/efs/x" in given["environment"]
    assert "SLURM_SUBMIT_DIR=/mnt/efs" in line["environment"]


def test_every_argument_is_an_option_with_a_field():
    assert set(ARGUMENTS) <= {
        *("name", "partition", "account", "qos", "nodes", "tasks", "cpus_per_task", "memory"),
        *("memory_per_cpu", "time_limit", "gpus", "constraint", "exclusive", "licenses", "array"),
        *("dependency", "requeue", "signal", "working_directory"),
    }


@pytest.mark.parametrize("nothing", [None, "", " "])
def test_what_is_not_given_asks_for_nothing(nothing):
    assert fields(**dict.fromkeys(ARGUMENTS, nothing)) == {}
    assert fields(exclusive=False) == {}


def test_the_lines_of_the_script_count():
    assert fields("-p gpu", "--mem=2G", tasks=2) == {
        "partition": "gpu",
        "memory_per_node": no_val(2048),
        "tasks": 2,
    }


@pytest.mark.parametrize(
    ("lines", "given", "expected", "conflict"),
    [
        (
            ["-p cpu"],
            {"partition": "gpu"},
            {"partition": "gpu"},
            "partition='gpu' wins over partition 'cpu' of the script's #SBATCH lines.",
        ),
        (
            ["--mem-per-cpu=1G"],
            {"memory": "4G"},
            {"memory_per_node": no_val(4096)},
            "memory='4G' wins over memory_per_cpu 1024 of the script's #SBATCH lines.",
        ),
        (
            ["-t 60"],
            {"job": {"time_limit": 30}},
            {"time_limit": no_val(30)},
            "job={'time_limit': 30} wins over time_limit 60 of the script's #SBATCH lines.",
        ),
        (
            ["-c 2"],
            {"job": {"cpus_per_task": "4"}},
            {"cpus_per_task": 4, "tres_per_task": "cpu=4"},
            "job={'cpus_per_task': 4} wins over cpus_per_task 2 of the script's #SBATCH lines.",
        ),
        (
            [],
            {"job": {"partition": "cpu"}, "partition": "gpu"},
            {"partition": "gpu"},
            "partition='gpu' wins over partition 'cpu' of job=.",
        ),
        (
            ["--export=ALL,A=1"],
            {"environment": {"A": "2"}},
            {
                "environment": {
                    "A": "2",
                    "SLURM_EXPORT_ENV": "ALL,A=1",
                    "SLURM_GET_USER_ENV": "1",
                }
            },
            "environment's A wins over the script's #SBATCH lines.",
        ),
        (
            ["-t 0"],
            {"time_limit": 5},
            {"time_limit": no_val(5)},
            "time_limit=5 wins over time_limit without a limit of the script's #SBATCH lines.",
        ),
    ],
    ids=repr,
)
def test_arguments_win_over_job_and_both_over_lines_and_say_so(lines, given, expected, conflict):
    found = asked(*lines, **given)

    assert found.components == (expected,)
    assert found.conflicts == (conflict,)


@pytest.mark.parametrize(
    ("lines", "given"),
    [
        (["-p gpu"], {"partition": "gpu"}),
        (["--gpus-per-task=1 -n 2"], {"cpus_per_task": 4}),
        (["--spread-job"], {"job": {"nice": 5}}),
        (["--export=A=1"], {"environment": {"B": "2"}}),
    ],
    ids=repr,
)
def test_what_says_the_same_or_adds_to_it_is_no_conflict(lines, given):
    assert asked(*lines, **given).conflicts == ()


def test_resources_per_task_add_up():
    found = fields("--gpus-per-task=1 -n 2", cpus_per_task=4)

    assert found["tres_per_task"] == "cpu=4,gres/gpu=1"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"tasks": "many"}, "tasks is 'many': it takes a whole number of at least 1."),
        ({"memory": "lots"}, "memory: 'lots' is no amount. Give MB as a number, or e.g. '4G'."),
        ({"time_limit": "soon"}, "time_limit: 'soon' is no time."),
        ({"nodes": "two"}, "nodes is 'two': it takes a count or a range"),
        ({"gpus": "a b"}, "gpus is 'a b': it takes a number, a type, or a type and a number"),
        (
            {"exclusive": "maybe"},
            "exclusive is 'maybe': it takes nothing, exclusive, allocation, user,",
        ),
        ({"requeue": "maybe"}, "requeue is 'maybe'; it takes True or False."),
        ({"array": "a-b"}, "array is 'a-b': it takes indices"),
        ({"dependency": "after_ok:1"}, "dependency is 'after_ok:1': it takes e.g. afterok:12:13"),
        ({"dependency": 12}, "dependency is 12: it takes e.g. afterok:12:13"),
        ({"signal": "@"}, "signal is '@': it takes a signal and seconds"),
        ({"job": {"partitoin": "x"}}, "no field 'partitoin'. Did you mean partition?"),
        ({"job": {"nice": "low"}}, "nice is 'low'; it is of type integer"),
        ({"time_limit": float("nan")}, "time_limit is nan, which is no time"),
        ({"time_limit": float("inf")}, "time_limit is inf, which is no time"),
        ({"memory": "9" * 400}, "is no amount. Give MB as a number"),
        ({"gpus": -1}, "gpus is -1: it takes a number, a type, or a type and a number"),
        ({"job": {"cpus_per_task": 0}}, "job: cpus_per_task is 0: it takes a whole number"),
        (
            {"job": {"priority": {"set": True, "number": float("nan")}}},
            "job: priority is {'set': True, 'number': nan}, and that is no JSON",
        ),
        ({"job": {"crontab": {"minute": {1, 2}}}}, "job: crontab is {'minute': {1, 2}}"),
    ],
    ids=repr,
)
def test_what_cannot_be_asked_is_told_by_its_name_in_one_line(given, words):
    with pytest.raises(InputError, match=re.escape(words)) as caught:
        asked(**given)

    assert "\n" not in str(caught.value)


def test_an_option_that_cannot_be_honoured_names_its_line():
    with pytest.raises(InputError, match=r"Line 3 of the script, #SBATCH: --wrap=.* cannot be"):
        asked("-p cpu", "--wrap=x")


def test_numbers_and_flags_that_jinja_made_text_are_read_back():
    job = {"nice": "5", "contiguous": "True", "priority": "7"}

    assert fields(job=job) == {"nice": 5, "contiguous": True, "priority": no_val(7)}


def test_variables_of_all_sources_come_together():
    found = asked(
        "--export=LINE=1,BOTH=line",
        job={"environment": {"JOB": "2", "BOTH": "job"}},
        environment={"ARGUMENT": 3},
    )
    body = found.body()

    assert {"LINE=1", "BOTH=job", "JOB=2", "ARGUMENT=3", "AIRFLOW_CTX_DAG_ID=dag"} <= set(
        body["job"]["environment"]
    )
    assert found.conflicts == ("job={'environment': …} wins over the script's #SBATCH lines.",)


def test_a_job_without_a_name_takes_the_one_it_is_given():
    assert asked().name == asked().body()["job"]["name"] == "dag.task"
    assert asked("-J md").body()["job"]["name"] == "md"
    assert asked("-J md", name="mine").name == "mine"


def test_a_heterogeneous_job_has_a_component_for_each_part_of_its_lines():
    found = asked("-J md", "-n 1", "hetjob", "-n 8", "-p gpu", tasks=2, account="lab")
    body = found.body()

    assert [(each["name"], each["tasks"], each["account"]) for each in body["jobs"]] == [
        ("md", 2, "lab"),
        ("md", 8, "lab"),
    ]
    assert all("BOTH=ours" in each["environment"] for each in body["jobs"])
    assert "job" not in body
    with pytest.raises(InputError, match="cannot be an array"):
        asked("hetjob", "-n 2", array="0-1")
    with pytest.raises(InputError, match="cannot be an array"):
        asked("-n 2", "hetjob", "-a 0-1")


def test_an_argument_reaches_the_components_that_follow_the_first_one():
    lines = ["-t 5", "hetjob", "-n 2", "hetjob", "-t 7 --mem-per-cpu=1G", "hetjob", "--no-requeue"]
    found = asked(*lines, time_limit=10, memory="2G", requeue=True, partition="gpu")

    assert [
        (
            each["time_limit"]["number"],
            each.get("memory_per_node", {}).get("number"),
            each["requeue"],
            each.get("partition"),
        )
        for each in found.components
    ] == [
        (10, 2048, True, "gpu"),
        (10, 2048, True, None),
        (7, None, True, None),
        (7, None, False, None),
    ]
    assert found.conflicts == (
        "time_limit=10 wins over time_limit 5 of the script's #SBATCH lines.",
    )


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"memory": "4G", "memory_per_cpu": "1G"}, "memory and memory_per_cpu exclude each other"),
        (
            {"job": {"memory_per_node": 1, "memory_per_tres": "gres/gpu:1"}},
            "job: memory_per_node and memory_per_tres exclude each other",
        ),
    ],
    ids=repr,
)
def test_what_excludes_each_other_is_refused(given, words):
    with pytest.raises(InputError, match=words):
        asked(**given)


def test_a_job_is_a_value_until_it_is_rendered():
    first = asked("-a 0-9", "-d afterok:7", name="md")
    before = first.body()
    changed = (
        first.renamed("md.tag")
        .with_environment({"INPUT": "key"})
        .with_array("3")
        .with_fields({"memory_per_tres": "gres/gpu:200"})
        .with_dependency("")
    )
    job = changed.body()["job"]

    assert first.body() == before
    assert (job["name"], job["array"]) == ("md.tag", "3")
    assert "dependency" not in job
    assert {"INPUT=key", "SLURM_MEM_PER_GPU=200"} <= set(job["environment"])


def test_memory_in_another_form_takes_the_place_of_the_first():
    changed = asked(memory="1G").with_fields({"memory_per_cpu": no_val(10)})

    assert changed.components == ({"memory_per_cpu": no_val(10)},)


def test_a_script_finds_its_authors_name_whatever_slurm_shows():
    found = asked(name="md").renamed("md.first").renamed("md.second").body()["job"]

    assert found["name"] == "md.second"
    assert "SLURM_JOB_NAME=md" in found["environment"]


def test_each_component_keeps_its_own_name_until_the_job_has_another():
    found = asked("-J a", "hetjob", "-J b")

    assert [each["name"] for each in found.body()["jobs"]] == ["a", "b"]
    assert [each["name"] for each in found.renamed("x").body()["jobs"]] == ["x", "x"]


def test_a_dependency_changes_in_each_component_that_has_the_first_ones():
    found = asked("-d afterok:7", "hetjob", "-d singleton", "hetjob", "-d afterok:7")
    left = found.with_dependency("afterok:8").components

    assert [each["dependency"] for each in left] == ["afterok:8", "singleton", "afterok:8"]
    assert found.with_dependency("").dependency == ""


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("%x.out", "100%% md.out"),
        ("log/%x_%j", "log/100%% md_%j"),
        ("%%x", "%%x"),
        ("%5x", "100%% md"),
        ("\\\\%x", "\\%x"),
        ("job_%j.out", "job_%j.out"),
    ],
)
def test_the_authors_name_stands_in_the_paths_of_a_renamed_job(given, shown):
    found = asked(f"-o '{given}' -e '{given}'", name="100% md")

    assert found.renamed("md.tag").body()["job"]["standard_output"] == shown
    assert found.renamed("md.tag").body()["job"]["standard_error"] == shown
    assert found.body()["job"]["standard_output"] == given.replace("\\\\", "\\")


def test_a_singleton_is_refused_if_names_are_tagged():
    for lines in (["-d singleton"], ["-d afterok:7,singleton"], ["-n 1", "hetjob", "-d Singleton"]):
        with pytest.raises(InputError, match=r"durable=False.*max_active_tis_per_dag"):
            asked(*lines).check_tagged()

    asked("-d afterok:7").check_tagged()


def test_a_scripts_arguments_stand_behind_its_name():
    found = read_arguments(
        script("-n 1", "hetjob", "-n 2"),
        {},
        job={},
        environment={},
        now=NOW,
        name="x",
        script_arguments=["3", "two words"],
    )

    assert [each.get("argv") for each in found.components] == [["script", "3", "two words"], None]
    assert "argv" not in asked().body()["job"]


def test_what_is_overlooked_is_told_with_the_conflicts():
    assert "is not read" in asked("-n 1\n   #SBATCH -n 2").conflicts[0]


def test_other_gpus_of_a_node_take_their_variable_with_them_and_leave_the_first_job_as_it_was():
    first = asked("--gpus-per-node=2 --export=ALL,A=1")
    before = first.body()
    changed = first.with_fields({"tres_per_node": "gres/gpu:1"})

    assert "SLURM_GPUS_PER_NODE=2" in before["job"]["environment"]
    assert not any("GPUS_PER_NODE" in each for each in changed.body()["job"]["environment"])
    assert first.body() == before


def test_a_cluster_that_a_line_names_is_told_to_be_the_tasks_own():
    (words,) = asked("-M lab").conflicts

    assert words == "--clusters=lab chooses nothing: the job runs on the task's cluster_id."
