"""The judge of the crash rounds sees what must not be, and nothing else."""

from dataclasses import replace

import pytest

from tests.crash.clusterras import whole
from tests.crash.judge import Fault, JobRecord, TaskKey, TaskRecord, judge

KEY = TaskKey(7, -1)
TASK = TaskRecord(KEY, "success", ended=100.0, expected=frozenset({"success"}))
FAILED = replace(TASK, state="failed", expected=frozenset({"failed"}))
JOB = JobRecord(1, KEY, max_tries=3, state="COMPLETED", submitted=10.0, ended=20.0)


def faults(task, *jobs):
    return [finding.fault for finding in judge([task], jobs)]


def test_one_job_that_ran_to_success_is_as_it_must_be():
    assert faults(TASK, JOB) == []


def test_a_job_that_ended_badly_may_be_followed_by_another():
    failed = replace(JOB, state="NODE_FAIL")

    assert faults(TASK, failed, replace(JOB, job_id=2, submitted=20.0, ended=30.0)) == []


@pytest.mark.parametrize("end", ["COMPLETED", "FAILED"])
def test_a_requeued_job_ended_as_its_last_run_did(end):
    first = replace(JOB, state="REQUEUED", ended=30.0)
    runs = [first, replace(JOB, state=end, submitted=15.0, ended=30.0)]

    assert whole(runs) == replace(JOB, state=end, ended=30.0)
    assert whole([first]).state == "REQUEUED"


def test_two_jobs_that_ran_to_success_are_a_duplicate():
    second = replace(JOB, job_id=2, submitted=20.0, ended=30.0)

    assert faults(TASK, JOB, second) == [Fault.DUPLICATE]


def test_a_task_that_was_terminated_may_run_a_job_again_but_not_beside_the_first():
    terminated = replace(TASK, terminated=True)
    again = replace(JOB, job_id=2, submitted=20.0, ended=30.0)

    assert faults(terminated, replace(JOB, ended=15.0), again) == []
    assert faults(terminated, replace(JOB, ended=25.0), again) == [Fault.TOGETHER]


def test_a_cleared_task_runs_a_job_again():
    again = replace(JOB, job_id=2, max_tries=4, submitted=20.0, ended=30.0)

    assert faults(TASK, JOB, again) == []


def test_the_job_of_before_the_clear_does_not_count_for_the_success_after_it():
    again = replace(JOB, job_id=2, max_tries=4, state="FAILED", submitted=20.0, ended=30.0)

    assert faults(TASK, JOB, again) == [Fault.FALSE_SUCCESS]


def test_two_jobs_alive_at_once_are_seen_though_only_one_succeeds():
    cancelled = replace(JOB, job_id=2, state="CANCELLED", submitted=19.0, ended=25.0)

    assert faults(TASK, JOB, cancelled) == [Fault.TOGETHER]


@pytest.mark.parametrize(("lives", "expected"), [(9.0, []), (11.0, [Fault.TOGETHER])])
def test_after_a_clear_the_old_job_has_some_seconds_to_go(lives, expected):
    old = replace(JOB, state="CANCELLED", ended=20.0 + lives)
    new = replace(JOB, job_id=2, max_tries=4, submitted=20.0, ended=40.0)

    assert faults(replace(TASK, cleared=True), old, new) == expected
    assert faults(TASK, old, new) == [Fault.TOGETHER]


@pytest.mark.parametrize("task", [TASK, FAILED])
def test_a_job_that_lives_on_after_its_task_is_an_orphan(task):
    orphan = replace(JOB, job_id=2, state="CANCELLED", submitted=30.0, ended=103.0)

    assert faults(task, JOB, orphan) == [Fault.ORPHAN]


@pytest.mark.parametrize(("ended", "expected"), [(120.0, []), (126.0, [Fault.ORPHAN])])
def test_the_job_of_a_task_that_a_user_ends_has_some_seconds_to_go(ended, expected):
    marked = replace(FAILED, by_user=True)

    assert faults(marked, replace(JOB, state="CANCELLED", ended=ended)) == expected


@pytest.mark.parametrize("jobs", [[], [replace(JOB, state="CANCELLED")]])
def test_a_success_needs_a_job_that_succeeded(jobs):
    assert faults(TASK, *jobs) == [Fault.FALSE_SUCCESS]


def test_jobs_without_a_tag_count_as_well():
    first = replace(JOB, max_tries=None)
    second = replace(first, job_id=2, submitted=15.0, ended=30.0)

    assert faults(TASK, first, second) == [Fault.DUPLICATE, Fault.TOGETHER]


def test_a_task_that_does_not_end_or_ends_otherwise_than_it_must_is_told():
    assert faults(replace(TASK, state="running", ended=0.0), JOB) == [Fault.STUCK]
    assert faults(replace(TASK, state="failed"), JOB) == [Fault.WRONG_END]


def test_the_jobs_of_another_task_are_not_this_ones():
    other = replace(JOB, job_id=2, task=TaskKey(7, 1))

    assert faults(TASK, JOB, other) == []


def test_each_iteration_of_a_loop_has_a_job_of_its_own():
    loop = replace(TASK, iterations=2)
    first, second = (
        replace(
            JOB, job_id=number, whose=str(number), submitted=number * 20.0, ended=number * 20.0 + 9
        )
        for number in (1, 2)
    )

    assert faults(loop, first, second) == []
    assert faults(loop, first) == [Fault.FALSE_SUCCESS]
    assert faults(loop, first, replace(second, whose="1")) == [Fault.DUPLICATE, Fault.FALSE_SUCCESS]


def test_a_job_that_nobody_can_tell_is_the_tasks_may_outlive_it():
    nameless = replace(FAILED, may_leave_its_job=True)

    assert faults(nameless, replace(JOB, ended=200.0)) == []
