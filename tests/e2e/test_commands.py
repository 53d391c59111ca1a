"""Airflow's ways of trying out a DAG without its scheduler and triggerer."""

from contextlib import suppress
from pathlib import Path

import pytest

from tests.e2e.stack import StackError

pytestmark = pytest.mark.e2e
FILE = Path(__file__).parent / "dags" / "alone.py"


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
    # 3.4.0b2 closes a connection to PostgreSQL in the wrong place, and says 1 of a good run
    with suppress(StackError):
        airflow.command(*words)
    log = airflow.said("command")

    assert "Pausing task as DEFERRED" in log
    assert "tried out" in log
    assert "new_state=success" in log
