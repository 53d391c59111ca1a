"""Airflow's ways of trying out a DAG without its scheduler and triggerer."""

import json
import shutil
from pathlib import Path

import pytest

from airflow_provider_clusterra.api import Client
from tests.e2e.stack import AirflowStack
from tests.support.cluster import Cluster

pytestmark = pytest.mark.e2e
FILE = Path(__file__).parent / "dags" / "alone.py"


@pytest.fixture(scope="module")
def airflow(clusterra, tmp_path_factory):
    """An Airflow of which nothing runs: a scheduler would take the run for its own."""
    dags = tmp_path_factory.mktemp("dags")
    shutil.copy(FILE, dags)
    stack = AirflowStack(tmp_path_factory.mktemp("airflow"), dags)
    stack.command("airflow", "db", "migrate")
    uri = clusterra.connection_uri
    stack.command("airflow", "connections", "add", "clusterra_default", "--conn-uri", uri)
    stack.command("airflow", "dags", "reserialize")
    yield stack
    stack.stop()


@pytest.mark.parametrize(
    "words",
    [
        ("airflow", "dags", "test", "alone"),
        ("airflow", "tasks", "test", "alone", "one", "2026-01-01"),
        ("python", str(FILE)),
    ],
    ids=["dags test", "tasks test", "dag.test()"],
)
def test_a_deferred_task_is_tried_out_with_a_connection_of_airflows_database(airflow, words):
    airflow.command(*words)
    log = airflow.said("command")

    assert "Pausing task as DEFERRED" in log
    assert "tried out" in log
    assert "new_state=success" in log


def test_a_job_and_its_task_find_each_other(airflow, clusterra):
    cluster = Cluster(clusterra)
    airflow.command("airflow", "dags", "test", "alone")
    with Client(cluster.access) as client:
        ended = max(
            (job for job in client.list_jobs(clusterra.cluster_id) if "alone.one" in job.name),
            key=lambda job: job.job_id,
        )
    shown = json.loads(
        airflow.command(*["airflow", "clusterra", "job", "-o", "json"], str(ended.job_id))
    )
    # what a task would leave whose cancel did not arrive
    left = cluster.submit("sleep 600", name=ended.name, comment=ended.comment)
    on_purpose = f"{ended.comment} (not waited for)"
    cluster.submit("sleep 1", name=ended.name, comment=on_purpose)
    cluster.submit("sleep 1", name="alone.one.af-00000000-00000000-0000-0.1")
    orphans = ("airflow", "clusterra", "orphans", "--output", "json")
    young = json.loads(airflow.command(*orphans, "--older-than", "1h"))
    listed = json.loads(airflow.command(*orphans, "--cancel"))

    assert [(row["dag_id"], row["task_id"]) for row in shown] == [("alone", "one")]
    assert shown[0]["task"].endswith(f"/dags/alone/runs/{shown[0]['run_id']}/tasks/one")
    assert shown[0]["task_state"] == "success"
    assert young == []
    assert [(int(row["job_id"]), row["run_id"]) for row in listed] == [(left, shown[0]["run_id"])]
    assert cluster.job(left).state.base == "CANCELLED"
