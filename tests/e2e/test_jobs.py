"""Jobs on a real Airflow: scheduler, triggerer, worker processes, database."""

import httpx
import pytest

from tests.e2e.rest import until

pytestmark = pytest.mark.e2e


def job_state(clusterra, job_id):
    answer = httpx.get(
        f"{clusterra.url}/v1/clusters/{clusterra.cluster_id}/jobs/{job_id}",
        headers={"Cookie": f"clusterra_session={clusterra.token}"},
    )
    return answer.json()["jobs"][0]["job_state"]


def test_deferred_tasks_are_really_deferred_and_resumed(rest):
    run_id = rest.run_dag("deferred")
    seen = set()
    states = rest.wait_for_run("deferred", run_id, seen=seen)

    assert states == {"job_0": "success", "job_1": "success", "job_2": "success", "fails": "failed"}
    assert {f"{task}:deferred" for task in states} <= seen
    for number in range(3):
        result = rest.xcom("deferred", run_id, f"job_{number}")
        assert result["output"] == {"number": number}
        assert result["job_id"] == rest.xcom("deferred", run_id, f"job_{number}", "job_id")

    log = rest.task_log("deferred", run_id, "fails")
    assert "ended FAILED" in log
    assert "exit code 3" in log
    assert "the input is missing" in log


def test_the_smallest_example_says_hello(rest):
    run_id = rest.run_dag("hello")
    rest.wait_for_run("hello", run_id)

    assert rest.xcom("hello", run_id, "hello")["output"].startswith("hello from ")


def test_a_sensor_waits_in_every_mode_alike(rest):
    run_id = rest.run_dag("waiting")
    seen = set()
    states = rest.wait_for_run("waiting", run_id, seen=seen)
    results = [rest.xcom("waiting", run_id, name) for name in ("poke", "reschedule", "deferrable")]

    assert set(states.values()) == {"success"}, states
    assert {"deferrable:deferred", "reschedule:up_for_reschedule"} <= seen
    assert results[0]["output"] == "done"
    assert results[1] == results[2] == results[0]


def test_a_running_task_that_is_marked_failed_cancels_its_job(rest, clusterra):
    run_id = rest.run_dag("killed")
    rest.wait_for_task("killed", run_id, "runs", "running")
    until(
        lambda: rest.xcom("killed", run_id, "runs", "job_id") is not None,
        60,
        lambda: rest.task_log("killed", run_id, "runs"),
    )
    job_id = rest.xcom("killed", run_id, "runs", "job_id")
    until(
        lambda: job_state(clusterra, job_id) == ["RUNNING"],
        30,
        lambda: job_state(clusterra, job_id),
    )
    rest.set_task_state("killed", run_id, "runs", "failed")
    until(
        lambda: job_state(clusterra, job_id) == ["CANCELLED"],
        30,
        lambda: f"{job_state(clusterra, job_id)}\n{rest.task_log('killed', run_id, 'runs')}",
    )


def test_what_no_retry_can_help_fails_at_once_and_says_why(rest):
    run_id = rest.run_dag("hopeless")
    states = rest.wait_for_run("hopeless", run_id)

    assert set(states.values()) == {"failed"}
    for task_id, words in {
        "wrong_session": "put the new clusterra_session cookie into the connection's password",
        "unknown_cluster": "there is no cluster 'typo'. The session's clusters: clusloc1.",
        "no_shebang": "Begin it with #!/bin/bash",
    }.items():
        assert rest.task("hopeless", run_id, task_id)["try_number"] == 1
        log = rest.task_log("hopeless", run_id, task_id)
        assert words in log
        assert "wr0ng-cookie" not in log
