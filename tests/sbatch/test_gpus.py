"""Tests of airflow_provider_clusterra.sbatch.options: what is expected is what ``sbatch`` 26.05 said."""

from datetime import UTC, datetime

import pytest

from airflow_provider_clusterra.api import InputError
from airflow_provider_clusterra.sbatch.job import read_arguments


def components(lines, **arguments):
    text = f"#!/bin/bash\n#SBATCH {lines}\ntrue\n"
    now = datetime(2026, 3, 1, tzinfo=UTC)
    return read_arguments(text, arguments, job={}, environment={}, now=now, name="x").components


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
