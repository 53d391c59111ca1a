"""What only Airflow 3.4 has: iterations of a loop, clears that keep a task's state, reschedules."""

import uuid
from collections import Counter

import pytest

from tests.e2e.rest import until
from tests.e2e.runs import Run
from tests.support.versions import HAS_LOOPS

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(not HAS_LOOPS, reason="Airflow 3.4 has loops"),
]
DEFERRED = "deferred"


@pytest.fixture
def start(rest, clusterra):
    """Start a run whose jobs have a name of their own; ended at the end."""
    runs = []

    def start(dag_id, fails=0):
        run = Run(rest, clusterra, dag_id, {"name": f"loop{uuid.uuid4().hex[:8]}", "fails": fails})
        runs.append(run)
        return run

    yield start
    for run in runs:
        rest.set_run_state(run.dag_id, run.run_id, "failed")
        run.cancel_jobs()


@pytest.mark.parametrize("how", ["waiting", "deferred"])
def test_a_retry_adopts_no_job_of_another_iteration(start, how):
    run = start(f"loop_{how}", fails=2)

    assert set(run.ends().values()) == {"success"}
    assert run.job_states() == ["COMPLETED", "FAILED", "COMPLETED"]


def test_so_it_is_in_mapped_tasks_of_a_loop(start):
    run = start("loop_mapped", fails=2)

    assert set(run.ends().values()) == {"success"}
    assert Counter(run.job_states()) == {"COMPLETED": 4, "FAILED": 2}


def test_a_retry_cancels_no_job_of_another_iteration(start):
    run = start("loop_apart")

    assert set(run.ends().values()) == {"success"}
    assert run.job_states() == ["RUNNING", "RUNNING"]


def test_an_iteration_that_a_user_ends_cancels_its_job_and_no_others(rest, start):
    run = start("loop_together")
    until(
        lambda: run.iterations("together.job", DEFERRED) == [0, 1],
        120,
        lambda: f"not both are deferred: {rest.tasks(run.dag_id, run.run_id)}",
    )
    until(lambda: run.job_states() == ["RUNNING"] * 2, 60, run.job_states)
    first = run.iteration("together.job", 0)
    until(lambda: "is RUNNING" in run.log_of(first), 60, lambda: run.log_of(first))
    run.set_state_of(first, "failed")

    until(lambda: run.job_states() == ["CANCELLED", "RUNNING"], 60, lambda: run.log_of(first))


def test_a_cleared_iteration_and_those_after_it_submit_anew(rest, start):
    run = start("loop_waiting", fails=4)
    run.ends()
    run.clear(run.iteration("waiting.job", 0), include_downstream=True)

    until(lambda: len(run.job_states()) >= 4, 120, run.job_states)
    assert set(run.ends().values()) == {"success"}
    assert run.job_states() == ["COMPLETED"] * 3 + ["FAILED", "COMPLETED"]


def test_a_function_is_given_its_loops_index_and_what_it_returned_before(start):
    run = start("loop_function")

    assert set(run.ends().values()) == {"success"}
    results = [run.xcom_of(run.iteration("functions.job", index)) for index in range(2)]
    assert results == [[0, 2, None], [1, 2, [0, 2, None]]]


def test_a_sensor_outside_names_the_loop_and_a_cancel_ends_the_jobs_of_all_iterations(rest, start):
    run = start("loop_read")
    run.ends()

    assert "job_id holds the jobs of several tasks" in run.log("sensor")
    assert rest.task(run.dag_id, run.run_id, "sensor")["state"] == "failed"
    assert rest.task(run.dag_id, run.run_id, "cancel")["state"] == "success"
    assert run.job_states() == ["CANCELLED", "CANCELLED"]


@pytest.mark.parametrize("keep", [True, False], ids=["kept", "discarded"])
def test_a_clear_that_keeps_the_tasks_state_reconnects_and_another_submits_afresh(
    rest, start, keep
):
    run = start("cleared")
    old = run.until_watched("job")
    run.clear(rest.task(run.dag_id, run.run_id, "job"), keep_task_state=keep)
    until(
        lambda: "RUNNING" in run.log("job", try_number=2),
        90,
        lambda: run.log("job", try_number=2),
    )

    assert run.job_states() == (["RUNNING"] if keep else ["CANCELLED", "RUNNING"])
    assert (run.job_of("job") == old) is keep


def test_what_a_policy_reschedules_asks_for_more_as_a_retry_does(rest, start):
    run = start("rescheduled")

    assert set(run.ends().values()) == {"success"}
    assert run.job_states() == ["TIMEOUT", "COMPLETED"]
    assert rest.task(run.dag_id, run.run_id, "job")["try_number"] == 1
