"""What a retry asks for instead of the same, and many mapped tasks, on a real Airflow."""

import pytest

pytestmark = pytest.mark.e2e


def test_fifty_mapped_tasks_wait_deferred_and_return_each_its_own(rest):
    run_id = rest.run_dag("mapped")
    seen = set()
    states = rest.wait_for_run("mapped", run_id, within=420, seen=seen)

    failed = [
        row["map_index"]
        for row in rest.task_rows("mapped", run_id, "many")
        if row["state"] != "success"
    ]
    assert failed == [], rest.task_log("mapped", run_id, "many", map_index=failed[0])
    assert states == {"many": "success"}
    assert "many:deferred" in seen
    results = [rest.xcom("mapped", run_id, "many", map_index=index) for index in range(50)]
    assert [each["output"] for each in results] == [f"square {n * n}" for n in range(50)]
    assert len({each["job_id"] for each in results}) == 50


def test_a_job_that_ran_out_of_time_has_more_at_its_retry(rest):
    run_id = rest.run_dag("grown")
    states = rest.wait_for_run("grown", run_id)

    assert states == {"one": "success"}
    assert rest.task("grown", run_id, "one")["try_number"] == 2
    assert rest.xcom("grown", run_id, "one")["output"] == "done"
    first, second = (rest.task_log("grown", run_id, "one", number) for number in (1, 2))
    assert "JobTimedOutError" in first
    assert "ended TIMEOUT (TimeLimit)" in first
    assert "a time limit of 1 min" in first
    assert "a time limit of 2 min instead of 1 min" in second
