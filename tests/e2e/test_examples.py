"""Each example DAG, end to end on a real Airflow and a clusterra-server."""

from pathlib import Path

import pytest

from tests.e2e.rest import place_of
from tests.e2e.runs import check_a_model_is_trained_stored_and_used
from tests.support.versions import HAS_LOOPS, NEED_LOOPS

pytestmark = pytest.mark.e2e

ENDS = {
    "array_job": ("add_up", lambda value: value == sum(number**2 for number in range(10))),
    "container": ("version", lambda value: value.startswith("3.")),
    "hello": ("hello", lambda value: value["output"].startswith("hello from ")),
    "upload_then_run": ("report", lambda value: value.startswith("1000 numbers, ")),
    "python_function": ("mean", lambda value: 3.1 < value < 3.2),
    "simulation": ("report", lambda value: value == "after 1000 steps the mass is at 0.5399"),
    "templates": ("mean", lambda value: 3 < value < 3.3),
    "train_model": ("train", lambda value: value["outputs"]["model"]["size"] == 12),
    "wait_for_job": ("wait", lambda value: value["output"] == "done"),
    "helper_job": ("work", lambda value: value["output"].startswith("working beside job ")),
    "arrays": ("add_up", lambda value: value == 285),
    "list_as_array": ("mean", lambda value: 3.1 < value < 3.2),
    "many_jobs": ("square", lambda value: value["output"] in (0, 1, 4, 9)),
    "checkpoint": ("simulate", lambda value: value["output"] == "all 5 steps are done"),
    "retry_policies": ("simulate", lambda value: value["output"] == "simulated"),
    "until_converged": ("refine.step", lambda value: 1.4142 < value["x"] < 1.4143),
    "environments": ("with_conda", lambda value: value.endswith("python3")),
    "secret_by_name": (
        "fetch",
        lambda value: value["output"] == "there is no secret data-portal here",
    ),
}
"""For each example, a task and what its value is."""


@pytest.fixture(scope="module")
def runs(rest):
    """A run of each example, all begun together."""
    rest.add_pool("clusterra_jobs", slots=2, include_deferred=True)
    return {
        dag_id: rest.run_dag(dag_id) for dag_id in ENDS if HAS_LOOPS or dag_id not in NEED_LOOPS
    }


def test_every_example_is_run():
    files = (Path(__file__).parents[2] / "example_dags").glob("*.py")

    assert {path.stem for path in files} == {*ENDS, "use_model"}


def test_a_jobs_file_starts_the_dag_that_reads_it(rest, store, runs):
    check_a_model_is_trained_stored_and_used(rest, store, runs["train_model"])


@pytest.mark.parametrize("dag_id", ENDS)
def test_an_example_does_what_it_says(rest, runs, dag_id):
    if dag_id not in runs:
        pytest.skip("Airflow 3.4 has loops")
    states = rest.wait_for_run(dag_id, runs[dag_id], within=240)
    task_id, is_right = ENDS[dag_id]
    rows = rest.task_rows(dag_id, runs[dag_id], task_id)
    row = max(rows, key=lambda row: row.get("region_index", 0))
    where = place_of(row) if dag_id in NEED_LOOPS else None
    value = rest.xcom(dag_id, runs[dag_id], task_id, map_index=row["map_index"], where=where)

    assert set(states.values()) == {"success"}, rest.task_log(
        dag_id, runs[dag_id], task_id, map_index=row["map_index"]
    )
    assert is_right(value), value
