"""Airflow's ways of trying out a DAG without its scheduler and triggerer."""

import shutil
from pathlib import Path

import pytest

from tests.e2e.stack import AirflowStack

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
