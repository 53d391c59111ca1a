"""Tests of clusterra_server.jobs: what starts next."""

import pytest

from clusterra_server.jobs import Job, end_of_process, plan, together
from clusterra_server.requests import read_dependencies, read_request, write_dependencies

NOW = 1000.0


def job(job_id, state="PENDING", **fields):
    body = {"environment": ["A=1"], "current_working_directory": "/mnt/efs", **fields}
    request = read_request({"script": "#!/bin/sh\n", "job": body}, memory_mb=1000)
    return Job(job_id, request, submitted=NOW, state=state)


def planned(*jobs, cpus=2, states=None):
    made = plan(jobs, (states or {}).get, cpus, NOW)
    return [each.job_id for each in made.start], {each.job_id: why for each, why in made.waits}


def test_jobs_start_in_the_order_of_their_submit_while_there_is_room():
    assert planned(job(1), job(2), job(3)) == ([1, 2], {3: "Resources"})


def test_no_job_overtakes_one_that_waits_for_cpus():
    started, waits = planned(job(1, "RUNNING"), job(2, tasks=2), job(3), job(4))

    assert started == []
    assert waits == {2: "Resources", 3: "Priority", 4: "Priority"}


def test_a_job_that_is_cleaning_up_holds_its_cpus():
    over = job(1, "CANCELLED")
    over.completing = True

    assert planned(over, job(2), cpus=1) == ([], {2: "Resources"})


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"hold": True}, "JobHeldUser"),
        ({"begin_time": int(NOW) + 60}, "BeginTime"),
        ({"cpus_per_task": 3}, "PartitionConfig"),
        ({"nodes": "2"}, "PartitionConfig"),
        ({"dependency": "afterok:9"}, "Dependency"),
        ({"dependency": "afterok:8"}, "DependencyNeverSatisfied"),
    ],
    ids=repr,
)
def test_a_job_that_cannot_start_says_why_and_holds_nobody_up(fields, reason):
    states = {"9": "RUNNING", "8": "FAILED"}

    assert planned(job(1, **fields), job(2), states=states) == ([2], {1: reason})


def test_the_plan_says_when_the_next_begin_time_comes():
    jobs = [job(1, begin_time=int(NOW) + 60), job(2, begin_time=int(NOW) + 30)]

    assert plan(jobs, {}.get, 2, NOW).wake == NOW + 30


def test_an_array_keeps_to_its_limit():
    request = job(1, array="0-3%1").request
    tasks = [Job(1, request, NOW, array_job_id=1, array_task_id=index) for index in range(4)]
    made = plan(tasks, {}.get, 4, NOW)

    assert [task.array_task_id for task in made.start] == [0]
    assert {why for _, why in made.waits} == {"JobArrayTaskLimit"}


@pytest.mark.parametrize(
    ("text", "state", "shown"),
    [
        ("afterok:9", "COMPLETED", ""),
        ("afterok:9", "PENDING", "afterok:9(unfulfilled)"),
        ("afterok:9", "FAILED", "afterok:9(failed)"),
        ("afternotok:9", "FAILED", ""),
        ("afternotok:9", "COMPLETED", "afternotok:9(failed)"),
        ("afterany:9", "CANCELLED", ""),
        ("afterany:9", "RUNNING", "afterany:9(unfulfilled)"),
    ],
)
def test_a_dependency_holds_or_waits_or_never_will(text, state, shown):
    assert write_dependencies(text, {"9": state}.get) == shown


@pytest.mark.parametrize("text", ["after:9", "afterok", "afterok:x", "afterok:9?afterok:8"])
def test_a_dependency_that_is_not_known_is_refused(text):
    with pytest.raises(ValueError, match=r".*"):
        read_dependencies(text)


def test_an_array_is_done_when_all_of_it_is():
    assert together([job(1, "COMPLETED"), job(2, "RUNNING")]) == "RUNNING"
    assert together([job(1, "COMPLETED"), job(2, "FAILED")]) == "FAILED"
    assert together([job(1, "COMPLETED"), job(2, "COMPLETED")]) == "COMPLETED"


@pytest.mark.parametrize(
    ("returncode", "end"),
    [
        (0, ("COMPLETED", "None", 0, 0)),
        (3, ("FAILED", "NonZeroExitCode", 3, 0)),
        (-9, ("FAILED", "RaisedSignal", 0, 9)),
    ],
)
def test_a_script_ends_as_slurm_would_say_it(returncode, end):
    assert end_of_process(returncode) == end
