"""Tests of airflow_provider_clusterra.triggers.events."""

import json

import pytest
from msgspec.structs import replace

from airflow_provider_clusterra.api.calls import read_job
from airflow_provider_clusterra.api.jobs import ExitStatus, Job, one_job, read_state
from airflow_provider_clusterra.triggers.events import JobEvent, read_event
from tests.support.recorded import sample


def array(states):
    tasks = [
        Job(
            100 + index,
            read_state(words),
            exit=ExitStatus(0 if words == "COMPLETED" else 3),
            array_job_id=9,
            array_task_id=index,
        )
        for index, words in enumerate(states)
    ]
    return one_job(tasks, 9)


def through_the_database(event):
    return read_event(json.loads(json.dumps(event.to_payload())))


def test_an_array_of_thousands_is_told_whole_in_few_words():
    states = ["COMPLETED"] * 5000
    states[4321] = "FAILED"
    event = JobEvent("ended", 9, "c1", array(states))
    told = through_the_database(event)

    assert len(json.dumps(event.to_payload())) < 4096
    assert told.job.state.base == "FAILED"
    assert len(told.job.tasks) == 5000
    assert told.job.tasks[4321].exit.code == 3
    assert told.job.tasks[4321].job_id == 4421
    assert told.job.describe() == event.job.describe()


def test_an_array_whose_tasks_need_too_many_words_is_told_without_them():
    states = ["COMPLETED", "FAILED"] * 1000
    event = JobEvent("ended", 9, "c1", array(states))

    assert len(json.dumps(event.to_payload())) < 4096
    assert through_the_database(event).job.tasks == ()


def test_a_real_array_is_told_whole():
    job = read_job(sample("array_done_get_master"), 23)
    told = through_the_database(JobEvent("ended", 23, "c1", job))

    shown = [(task.array_task_id, task.state, task.exit) for task in job.tasks]
    assert [(task.array_task_id, task.state, task.exit) for task in told.job.tasks] == shown


def test_an_event_is_under_4_kb_whatever_is_long():
    job = read_job(sample("job_oom"), 34)
    long = replace(
        job,
        name="n" * 5000,
        nodes="c" * 5000,
        description="d" * 5000,
        standard_output="/" * 5000,
        working_directory="/" * 5000,
    )

    assert len(json.dumps(JobEvent("lost", 34, "c1", long, "w" * 9000).to_payload())) < 4096


@pytest.mark.parametrize("words", ["", "Why it is lost."])
def test_an_event_without_a_job_is_the_same_afterwards(words):
    event = JobEvent("lost", 9, "c1", None, words)

    assert through_the_database(event) == event
