"""Tests of airflow_provider_clusterra.sbatch.options: what is expected is what ``sbatch`` 26.05 said."""

from datetime import UTC, datetime

import pytest

from airflow_provider_clusterra.api import InputError
from airflow_provider_clusterra.sbatch.job import read_arguments


def components(lines, job=None, **arguments):
    text = f"#!/bin/bash\n#SBATCH {lines}\ntrue\n"
    now = datetime(2026, 3, 1, tzinfo=UTC)
    found = read_arguments(text, arguments, job=job or {}, environment={}, now=now, name="x")
    return found.components


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("--gpus-per-task=1", "GPUs: 1 for each task, and not how many tasks"),
        ("--gpus-per-task=1 --ntasks-per-node=2", "and not how many tasks"),
        ("--gpus-per-task=2 --gpus-per-node=2", "and not how many tasks"),
        ("--gpus-per-task=t4:1 --gpus=2", "GPUs: 1 for each task (t4), and not how many tasks"),
        (
            "--gpus-per-task=1 --gpus=2 -n 4",
            "GPUs: 1 for each task are not the 2 of the job with 4 tasks",
        ),
        ("--gpus-per-task=1 --gpus=4 -N 2", "are not the 4 of the job with 2 tasks"),
        ("--gpus-per-task=1 -N 1-2", "and not how many tasks"),
        (
            "--gpus-per-task=2 --gpus=3",
            "2 for each task are not the 3 of the job with any number of tasks",
        ),
        ("-n 2\n#SBATCH hetjob\n#SBATCH --gpus-per-task=1", "and not how many tasks"),
    ],
    ids=repr,
)
def test_gpus_per_task_without_a_number_of_tasks_are_refused(lines, words):
    with pytest.raises(InputError) as caught:
        components(lines)

    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("lines", "arguments", "tasks"),
    [
        ("--gpus-per-task=1 -n 2", {}, 2),
        ("--gpus-per-task=1 --gpus=2", {}, 2),
        ("--gpus-per-task=1 --gpus=2 -n 2", {}, 2),
        ("--gpus-per-task=2 --gpus=4 -n 2", {}, 2),
        ("--gpus-per-task=t4:1 --gpus=t4:3", {}, 3),
        ("--gpus-per-task=1", {"tasks": 2}, 2),
        ("--gpus-per-task=2", {"gpus": 4}, 2),
        ("--gpus-per-task=1 --gpus=4 -N 2 --ntasks-per-node=2", {}, 4),
        ("--gpus-per-task=1 --gpus=2 -N 1-2", {}, 2),
        ("--gpus-per-task=1 -N 2", {}, 2),
    ],
    ids=repr,
)
def test_gpus_per_task_are_for_as_many_tasks_as_sbatch_counts(lines, arguments, tasks):
    (fields,) = components(lines, **arguments)

    assert fields["tres_per_task"].startswith("gres/gpu")
    assert fields["tres_bind"].startswith("gres/gpu:per_task:")
    assert fields.get("tasks") == tasks


@pytest.mark.parametrize(
    ("lines", "tasks"),
    [
        ("--gpus=2 --ntasks-per-gpu=2", 4),
        ("--gpus=a100:1,v100:2 --ntasks-per-gpu=2", 6),
        ("-N 2 --gpus-per-node=2 --ntasks-per-gpu=1", 4),
        ("--gres=gpu:2 --ntasks-per-gpu=1", 2),
        ("-n 3 --gpus=2 --ntasks-per-gpu=2", 4),
        ("-n 4 --gpus=1 --ntasks-per-gpu=2", 4),
        ("-N 1-2 --gpus-per-node=2 --ntasks-per-gpu=1", None),
        ("-n 4 --ntasks-per-gpu=2", 4),
    ],
    ids=repr,
)
def test_tasks_for_each_gpu_are_as_many_as_sbatch_counts(lines, tasks):
    (fields,) = components(lines)

    assert fields.get("tasks") == tasks


def test_another_binding_than_each_tasks_own_gpus_stays():
    (fields,) = components("--gpu-bind=none --gpus-per-task=1 -n 2")

    assert fields["tres_bind"] == "gres/gpu:none"


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("-n 1 --gpus-per-task=4k", "--gpus-per-task=4k: it takes whole numbers"),
        ("-n 1 --gpus-per-task=a100:1K", "--gpus-per-task=a100:1K: it takes whole numbers"),
        ("-n 1 --gpus-per-task=1g", "--gpus-per-task=1g: it takes whole numbers"),
        ("-n 1 --gpus-per-task=a100:1,2m", "--gpus-per-task=a100:1,2m: it takes whole numbers"),
        ("-n 1 --gpus-per-task=2080ti", "sbatch would read the digits only"),
        ("-n 1 --gpus-per-task=1.5", "--gpus-per-task=1.5: it takes a number, a type"),
        ("--gpus=1.5", "--gpus=1.5: it takes a number, a type"),
        ("--gpus=0-3", "--gpus=0-3: it takes a number, a type"),
        ("--gpus=a100:1x", "--gpus=a100:1x: it takes a number, a type"),
        ("--gpus-per-node=-1", "--gpus-per-node=-1: it takes a number, a type"),
        ("--tres-per-task=gres/gpu=1x", "--tres-per-task=gres/gpu=1x: it takes resources with"),
        ("--tres-per-task=cpu=2x", "--tres-per-task=cpu=2x: it takes resources with whole numbers"),
        ("--tres-per-task=cpu=1.5", "--tres-per-task=cpu=1.5: it takes resources with whole"),
        ("--tres-per-task=cpu=0", "--tres-per-task=cpu=0: it takes a whole number of at least 1"),
        ("--tres-per-task=cpu", "--tres-per-task=cpu: it takes a whole number of at least 1"),
        ("--tres-per-task=1", "--tres-per-task=1: it takes resources with whole numbers"),
        ("--tres-per-task=gpu:1", "--tres-per-task=gpu:1: it takes resources with whole numbers"),
        ("--gpus=1 --cpus-per-gpu=1k", "--cpus-per-gpu=1k: it takes a whole number"),
        ("-n 1k", "--ntasks=1k: it takes a whole number"),
    ],
    ids=repr,
)
def test_a_count_that_sbatch_would_misread_or_refuse_is_refused_in_words(lines, words):
    with pytest.raises(InputError) as caught:
        components(lines)

    assert str(caught.value).startswith("Line 2 of the script, #SBATCH: --")
    assert words in str(caught.value)


@pytest.mark.parametrize("value", ["1.5", "a100:1x", "-1", "1:2:3"])
def test_an_argument_that_is_no_count_of_gpus_is_refused_in_the_same_words(value):
    with pytest.raises(InputError) as caught:
        components("-n 1", gpus=value)

    assert str(caught.value) == (
        f"gpus is {value!r}: it takes a number, a type, or a type and a number, e.g. a10g:1."
    )


@pytest.mark.parametrize(
    ("lines", "job", "expected"),
    [
        ("--gpus=4k --gpus-per-task=2", {}, {"tasks": 2048}),
        ("--gpus=4k", {"tres_per_task": "gres/gpu=2"}, {"tasks": 2048}),
        ("--gpus=1k --ntasks-per-gpu=1", {}, {"tasks": 1024}),
        ("-N 2 --gpus-per-node=1k --ntasks-per-gpu=1", {}, {"tasks": 2048}),
        ("--gres=gpu:a100:1k --ntasks-per-gpu=2", {}, {"tasks": 2048}),
        ("-n 2", {"tres_per_task": "gres/gpu:4k"}, {"tres_bind": "gres/gpu:per_task:4096"}),
        (
            "-n 2 --tres-per-task=gres/gpu:a100=1k,gres/gpu:2080ti=2",
            {},
            {"tres_bind": "gres/gpu:per_task:1026"},
        ),
        ("-n 1 --tres-per-task=cpu:2k,gres/gpu:1", {}, {"cpus_per_task": 2048}),
        ("-n 1 --tres-per-task=cpu=1K", {}, {"cpus_per_task": 1024, "tres_per_task": "cpu=1K"}),
    ],
    ids=repr,
)
def test_a_count_of_thousands_is_the_number_that_it_is_to_sbatch(lines, job, expected):
    (fields,) = components(lines, job)

    assert {name: fields.get(name) for name in expected} == expected


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("--gpus=a100 --ntasks-per-gpu=2", {"tasks": 2}),
        ("--gres=gpu --ntasks-per-gpu=2", {"tasks": 2}),
        ("--gpus=a100 --gpus-per-task=a100:1", {"tasks": 1}),
        ("-n 2 --tres-per-task=gres/gpu", {"tres_bind": "gres/gpu:per_task:1", "tasks": 2}),
        ("--gpus=2 --tres-per-task=gres/gpu", {"tres_bind": "gres/gpu:per_task:1", "tasks": 2}),
        ("-n 2 --tres-per-task=gres/gpu:a100:0", {"tres_bind": None}),
    ],
    ids=repr,
)
def test_gpus_of_a_type_without_a_count_are_one_as_to_sbatch(lines, expected):
    (fields,) = components(lines)

    assert {name: fields.get(name) for name in expected} == expected


@pytest.mark.parametrize("kind", ["a100", "2080ti"])
def test_gpus_for_each_task_are_taken_from_those_of_their_type(kind):
    (fields,) = components(f"--gpus=a100:2,2080ti:2 --gpus-per-task={kind}:1")

    assert fields["tasks"] == 2
