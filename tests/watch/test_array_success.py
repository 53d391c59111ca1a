"""Tests of airflow_provider_clusterra.watch.arrays."""

import pytest

from airflow_provider_clusterra.api import InputError
from airflow_provider_clusterra.api.jobs import Job, JobState, one_job
from airflow_provider_clusterra.task.arguments import check_array_success
from airflow_provider_clusterra.watch.arrays import (
    array_succeeded,
    check_indices_alone,
    narrowed,
    read_indices,
    succeeded_indices,
    tasks_needed,
    with_earlier,
)


def array(states, job_id=9):
    """An array whose index has this state, e.g. ``{0: "COMPLETED"}``."""
    tasks = [
        Job(100 + index, JobState(base), array_job_id=job_id, array_task_id=index)
        for index, base in states.items()
    ]
    return one_job(tasks, job_id)


MIXED = array({0: "COMPLETED", 1: "FAILED", 2: "COMPLETED", 3: "COMPLETED"})


@pytest.mark.parametrize(
    ("array_success", "succeeded"),
    [("all", False), ("any", True), (3, True), (4, False), (0.75, True), (0.76, False), (1, True)],
    ids=repr,
)
def test_an_array_succeeds_with_as_many_tasks_as_its_author_says(array_success, succeeded):
    assert array_succeeded(MIXED, array_success) is succeeded


@pytest.mark.parametrize("array_success", ["all", "any", 1, 0.5])
def test_a_job_that_is_no_array_succeeds_by_itself(array_success):
    assert array_succeeded(Job(1, JobState("COMPLETED")), array_success)
    assert not array_succeeded(Job(1, JobState("FAILED")), array_success)


def test_a_fraction_is_not_more_than_it_says_because_of_a_float():
    assert tasks_needed(0.7, 10) == 7
    assert tasks_needed(0.95, 99) == 95
    assert tasks_needed(1.0, 10) == 10


@pytest.mark.parametrize("array_success", ["some", "", 0, -1, 0.0, 1.5, True, None, "0.5"])
def test_what_says_of_no_array_whether_it_succeeded_is_refused(array_success):
    with pytest.raises(InputError, match="array_success is"):
        check_array_success(array_success)


@pytest.mark.parametrize("array_success", ["all", "any", 1, 500, 0.01, 1.0])
def test_what_says_it_is_taken(array_success):
    check_array_success(array_success)


def test_a_retry_submits_the_indices_that_have_not_surely_succeeded():
    assert read_indices("0-5:1%2") - succeeded_indices(MIXED) == {1, 4, 5}
    assert narrowed("0-99%10", {7, 3, 4}) == "3-4,7%10"
    assert narrowed("0-99", {7}) == "7"


def test_a_retry_and_the_tries_before_it_are_one_array():
    earlier = [task for task in MIXED.tasks if task.state.succeeded]
    whole = with_earlier(array({1: "COMPLETED"}, job_id=50), earlier)

    assert [task.array_task_id for task in whole.tasks] == [0, 1, 2, 3]
    assert array_succeeded(whole)
    assert not array_succeeded(with_earlier(array({1: "FAILED"}), earlier))
    assert with_earlier(MIXED, []) is MIXED


@pytest.mark.parametrize("name", ["COUNT", "MIN", "MAX", "STEP"])
def test_a_script_that_counts_on_the_whole_array_cannot_run_some_indices_alone(name):
    with pytest.raises(InputError, match=f"names SLURM_ARRAY_TASK_{name}"):
        check_indices_alone(f"#!/bin/bash\necho ${{SLURM_ARRAY_TASK_{name}}}\n")
    with pytest.raises(InputError, match=f"^map_over: the function names SLURM_ARRAY_TASK_{name}"):
        check_indices_alone(f'os.environ["SLURM_ARRAY_TASK_{name}"]', of_list=True)


def test_a_script_that_looks_only_at_its_own_index_can():
    check_indices_alone(
        "#!/bin/bash\necho $SLURM_ARRAY_TASK_ID $SLURM_ARRAY_TASK_MAXIMUM_OF_MINE\n"
    )
