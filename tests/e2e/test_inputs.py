"""What goes into a job, on a real Airflow: a script's file, uploads, templates, mapped values."""

import pytest

pytestmark = pytest.mark.e2e


def test_a_script_beside_its_dag_reads_what_was_uploaded_with_it(rest):
    run_id = rest.run_dag("simulation")
    states = rest.wait_for_run("simulation", run_id)

    assert set(states.values()) == {"success"}, states
    result = rest.xcom("simulation", run_id, "simulate")
    assert result["output"] == {"steps": 1000, "position": 0.5399}
    assert result["name"].startswith("spring.af-")
    log = rest.task_log("simulation", run_id, "simulate")
    assert "goes through 3 phases from 1.0 0.0" in log
    assert "memory='100M' wins over memory_per_node 200" in log


def test_templates_run_with_uploads_presets_and_mapped_values(rest):
    run_id = rest.run_dag("templates")
    states = rest.wait_for_run("templates", run_id)

    assert set(states.values()) == {"success"}, states
    assert rest.xcom("templates", run_id, "count")["output"]["words"] == 18
    assert rest.xcom("templates", run_id, "long_words")["output"]["different"] == 1
    assert 3 < rest.xcom("templates", run_id, "mean") < 3.3
