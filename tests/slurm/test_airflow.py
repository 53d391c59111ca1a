"""A whole DAG: a real Airflow in front of a real Slurm."""

import json
import shutil
from pathlib import Path

import pytest

from tests.e2e.runs import check_a_model_is_trained_stored_and_used
from tests.e2e.stack import AirflowStack
from tests.slurm.lab import USER
from tests.support.store import Store

pytestmark = pytest.mark.slurm


EXAMPLES = Path(__file__).parents[2] / "example_dags"


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """An S3 for what jobs have made."""
    with Store(tmp_path_factory.mktemp("store")) as made:
        yield made


@pytest.fixture(scope="module")
def rest(front, store, tmp_path_factory):
    """The REST API of an Airflow whose connections lead to the Slurm and to the store."""
    dags = shutil.copytree(Path(__file__).parent / "dags", tmp_path_factory.mktemp("dags") / "dags")
    for name in ("train_model", "use_model"):
        shutil.copy(EXAMPLES / f"{name}.py", dags)
    with AirflowStack(tmp_path_factory.mktemp("airflow"), dags) as stack:
        extra = json.dumps({"cluster_id": front.cluster_id})
        stack.rest.add_connection(
            "clusterra_default", host=front.url, password=front.token, extra=extra
        )
        stack.rest.add_connection("clusterra_store", **store.connection)
        stack.rest.wait_for_dags("pipeline", "full_queue", "train_model", "use_model")
        yield stack.rest


def test_a_dag_goes_through_scheduler_triggerer_and_slurm(rest, cluster):
    run_id = rest.run_dag("pipeline")
    seen = set()
    states = rest.wait_for_run("pipeline", run_id, seen=seen)

    assert states == {
        "make_input": "success",
        "parts": "success",
        "sum_up": "success",
        "look": "success",
        "fails": "failed",
    }
    assert {"parts:deferred", "sum_up:deferred", "fails:deferred"} <= seen
    result = rest.xcom("pipeline", run_id, "sum_up")
    assert result["output"] == {"sum": 66, "cpus": 2}
    assert rest.xcom("pipeline", run_id, "look")["job_id"] == result["job_id"]
    assert set(rest.xcom("pipeline", run_id, "parts")["tasks"]) == {"1", "2", "3"}
    assert "part 2 of 3" in rest.task_log("pipeline", run_id, "sum_up")
    log = rest.task_log("pipeline", run_id, "fails")
    assert "exit code 3" in log
    assert "the input is missing" in log
    job = cluster.job(result["job_id"])
    # the name ends in the tag that Airflow knows it by
    assert job.name.startswith("sum-up")
    assert ".af-" in job.name


def test_a_jobs_file_goes_to_an_object_storage_and_starts_the_dag_that_reads_it(rest, store):
    check_a_model_is_trained_stored_and_used(rest, store, rest.run_dag("train_model"))


def test_five_deferred_tasks_share_an_account_with_two_places(rest, lab):
    modify = ("sacctmgr", "-i", "modify", "user", USER, "set")
    lab.run(*modify, "MaxSubmitJobs=2")
    try:
        run_id = rest.run_dag("full_queue")
        rest.wait_for_run("full_queue", run_id, within=600)
    finally:
        lab.run(*modify, "MaxSubmitJobs=-1")
    tasks = rest.tasks("full_queue", run_id)
    logs = [rest.task_log("full_queue", run_id, "each", map_index=n) for n in range(5)]

    assert [row["state"] for row in tasks] == ["success"] * 5
    assert any("No place in the queue" in log for log in logs)
    assert all(log.count("Submitted as job") == 1 for log in logs)
