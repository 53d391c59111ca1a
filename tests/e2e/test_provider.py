"""What Airflow itself knows of the provider."""

import json

import pytest

pytestmark = pytest.mark.e2e


def test_airflow_lists_the_provider_and_what_it_brings(airflow):
    shown = json.loads(
        airflow.command(
            "airflow", "providers", "get", "airflow-provider-clusterra", "--full", "-o", "json"
        )
    )
    words = json.dumps(shown)

    for word in (
        "airflow_provider_clusterra.hooks.clusterra.ClusterraHook",
        "airflow_provider_clusterra.operators.jobs",
        "airflow_provider_clusterra.operators.storage",
        "airflow_provider_clusterra.sensors.jobs",
        "airflow_provider_clusterra.triggers.jobs",
        "airflow_provider_clusterra.decorators.jobs.clusterra_task",
        "airflow_provider_clusterra.links.jobs.ClusterraJobLink",
    ):
        assert word in words
    options = airflow.command(
        "airflow", "config", "list", "--section", "clusterra", "--include-descriptions"
    )
    assert "min_deferral" in options
    assert "is not resumed" in options
    hooks = json.loads(airflow.command("airflow", "providers", "hooks", "-o", "json"))
    assert [row for row in hooks if row["connection_type"] == "clusterra"]


def test_the_test_button_answers(airflow, clusterra):
    good = airflow.rest.test_connection(host=clusterra.url, password=clusterra.token)
    bad = airflow.rest.test_connection(host=clusterra.url, password="wr0ng-cookie")

    assert good["status"] is True
    assert good["message"].startswith("Signed in as you@local.clusterra. Clusters: clusloc1.")
    assert bad["status"] is False
    assert "sign in with the browser" in bad["message"]
    assert "wr0ng-cookie" not in bad["message"]


def test_the_test_button_names_the_field_that_cannot_be_right(airflow, clusterra):
    fields = {"host": clusterra.url, "password": clusterra.token}
    answer = airflow.rest.test_connection(**fields, extra='{"timeout": "soon"}')

    assert answer["status"] is False
    assert answer["message"].startswith("The extra timeout is 'soon'; it is a number of seconds")


def test_no_dag_has_an_import_error(airflow):
    assert airflow.rest.import_errors() == []


def test_no_secret_is_in_any_log(airflow, clusterra):
    texts = [path.read_text(errors="replace") for path in airflow.home.rglob("*.log")]

    assert texts
    assert not [text for text in texts if clusterra.token in text or "wr0ng-cookie" in text]
