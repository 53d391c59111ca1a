"""Tests of airflow_provider_clusterra.hooks.form, and of the form that Airflow makes of it."""

import json
import subprocess
import sys

import pytest

from airflow_provider_clusterra import CONNECTION_FORM
from airflow_provider_clusterra.api.client import DEFAULT_HOST, DEFAULT_TIMEOUT
from airflow_provider_clusterra.compat import FORMS_ARE_METADATA
from airflow_provider_clusterra.hooks.clusterra import (
    ClusterraHook,
    field_behaviour,
    read_connection,
)

SHOW_FORM = """
import json
from airflow.api_fastapi.core_api.services.ui.connections import HookMetaService
form = {row.connection_type: row for row in HookMetaService.hook_meta_data()}["clusterra"]
print("FORM", json.dumps(form.model_dump(), default=vars))
"""


@pytest.fixture(scope="module")
def form():
    """The form as the api-server of this Airflow gives it to its page."""
    shown = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SHOW_FORM],
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(shown.stdout.rpartition("FORM ")[2])


def test_airflow_shows_our_fields_with_their_words(form):
    fields = form["extra_fields"]

    assert set(fields) == set(CONNECTION_FORM["conn-fields"])
    for name, field in CONNECTION_FORM["conn-fields"].items():
        assert field["description"] == fields[name]["description"]
        assert field["label"] == fields[name]["schema"]["title"]
    assert fields["auth"]["schema"]["enum"] == ["cookie", "bearer"]
    assert "null" in fields["timeout"]["schema"]["type"]


def test_airflow_hides_the_fields_that_mean_nothing_here(form):
    standard = form["standard_fields"]

    assert standard["host"]["title"] == "API address"
    assert standard["host"]["placeholder"] == DEFAULT_HOST
    assert "clusterra_session" in standard["password"]["placeholder"]
    assert all(standard[name]["hidden"] for name in ("login", "url_schema"))


def test_the_form_as_it_stands_is_a_connection_that_works():
    defaults = {
        name: field["schema"].get("default")
        for name, field in CONNECTION_FORM["conn-fields"].items()
    }
    fields = {"host": None, "schema": None, "port": None, "password": "s3cret"}

    assert defaults["timeout"] == DEFAULT_TIMEOUT
    assert read_connection(**fields, extra=defaults) == read_connection(**fields, extra={})


def test_the_hook_has_the_old_methods_only_where_airflow_asks_them():
    assert ("get_ui_field_behaviour" in vars(ClusterraHook)) is not FORMS_ARE_METADATA
    assert field_behaviour()["hidden_fields"] == ["login", "schema", "extra"]
