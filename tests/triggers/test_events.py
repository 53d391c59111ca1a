"""Tests of airflow_provider_clusterra.triggers.jobs."""

import json

import pytest
from msgspec.structs import replace

from airflow_provider_clusterra.api.calls import read_job
from airflow_provider_clusterra.api.jobs import ExitStatus, Job, one_job, read_state
from airflow_provider_clusterra.api.usage import (
    ALL_RUNS,
    MOST_COMPONENTS,
    PER_COMPONENT,
    PER_TASK,
    USAGE,
)
from airflow_provider_clusterra.submit.protocol import failure_of
from airflow_provider_clusterra.triggers.jobs import JobEvent, read_event
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


def longest_usage():
    values = dict.fromkeys(USAGE, 123456789.1234)
    spread = {"median": values, "largest": values}
    spread = {name: {key: values[key] for key in PER_TASK} for name in spread}
    components = {
        str(n): {key: values[key] for key in PER_COMPONENT} for n in range(MOST_COMPONENTS)
    }
    sums = {key: values[key] for key in ALL_RUNS}
    return [
        {**values, "tasks": {"count": 10_000, **spread}, "all_runs": {"count": 3, **sums}},
        {**values, "components": components, "all_runs": {"count": 3, **sums}},
    ]


@pytest.mark.parametrize("usage", longest_usage(), ids=["array", "het"])
@pytest.mark.parametrize("failed", [7, 2, 10**9], ids=["many ends", "every other", "one end"])
def test_an_event_with_a_usage_is_under_4_kb_and_keeps_it(usage, failed):
    job = array(["COMPLETED" if n % failed else "FAILED" for n in range(700)])
    texts = (*("name", "nodes", "description", "comment"), "standard_output", "working_directory")
    job = replace(job, usage=usage, **dict.fromkeys(texts, "x" * 5000))
    event = JobEvent("ended", 9, "c1", job, "w" * 9000)

    assert len(json.dumps(event.to_payload())) < 4096
    assert through_the_database(event).job.usage == usage


def test_an_event_is_under_4_kb_whatever_is_long():
    job = read_job(sample("job_oom"), 34)
    long = replace(
        job,
        name="n" * 5000,
        nodes="c" * 5000,
        description="d" * 5000,
        comment="c" * 5000,
        standard_output="/" * 5000,
        working_directory="/" * 5000,
    )

    assert len(json.dumps(JobEvent("lost", 34, "c1", long, "w" * 9000).to_payload())) < 4096


@pytest.mark.parametrize(
    "states", [("FAILED", "NODE_FAIL"), ("NODE_FAIL", "COMPLETED", "BOOT_FAIL")]
)
def test_the_nodes_that_failed_under_an_array_are_known_after_the_event(states):
    tasks = [
        Job(
            *(100 + index, read_state(words)),
            nodes=f"n{index + 1}",
            array_job_id=9,
            array_task_id=index,
        )
        for index, words in enumerate(states)
    ]
    job = one_job(tasks, 9)
    failed = tuple(task.nodes for task in tasks if task.state.base.endswith("_FAIL"))

    assert failure_of(job).nodes == failed
    assert failure_of(through_the_database(JobEvent("ended", 9, "c1", job)).job).nodes == failed


@pytest.mark.parametrize("name", ["n", "ip-10-0-12-", "n" * 200])
def test_of_many_nodes_that_failed_the_last_ones_are_known_after_the_event(name):
    states = [read_state("FAILED"), *[read_state("NODE_FAIL")] * 40]
    tasks = [
        Job(100 + index, state, nodes=f"{name}{index}", array_job_id=9, array_task_id=index)
        for index, state in enumerate(states)
    ]
    job = one_job(tasks, 9)
    event = JobEvent("ended", 9, "c1", job)
    told = through_the_database(event).job

    assert len(json.dumps(event.to_payload())) < 4096
    assert failure_of(job).nodes == tuple(f"{name}{index}" for index in range(25, 41))
    assert not told.tasks or failure_of(told).nodes == failure_of(job).nodes


@pytest.mark.parametrize("words", ["", "Why it is lost."])
def test_an_event_without_a_job_is_the_same_afterwards(words):
    event = JobEvent("lost", 9, "c1", None, words)

    assert through_the_database(event) == event


def test_a_het_jobs_components_are_told_too():
    ends = [("FAILED", ExitStatus(99)), ("OUT_OF_MEMORY", ExitStatus(signal=9))]
    parts = [
        Job(9 + n, read_state(words), exit=status, het_job_id=9, het_job_offset=n)
        for n, (words, status) in enumerate(ends)
    ]
    job = one_job(parts, 9)

    assert through_the_database(JobEvent("ended", 9, "c1", job)).job == job


@pytest.mark.parametrize("length", [1, 200, 255])
def test_a_name_by_which_accounting_knows_a_job_is_told_whole(length):
    event = JobEvent(
        "ended", 9, "c1", replace(array(["FAILED"] * 5), name="n" * length), "w" * 9000
    )

    assert through_the_database(event).job.name == "n" * length
