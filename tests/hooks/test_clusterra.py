"""Tests of airflow_provider_clusterra.hooks.clusterra."""

import json

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowNotFoundException,
    BaseHook,
    Connection,
    redact,
)

from airflow_provider_clusterra.api import InputError, NotFoundError
from airflow_provider_clusterra.hooks.clusterra import ClusterraHook
from tests.support.wire import Wire, http

SEVERAL = http(200, {"clusters": [{"id": "c1"}, {"id": "c2"}]})


def test_making_a_hook_reads_no_connection():
    ClusterraHook("there_is_no_such_connection")


def test_a_hooks_client_is_signed_in(connected):
    with ClusterraHook().client() as client:
        assert client.get_user().email == "you@local.clusterra"
    with ClusterraHook().get_conn() as client:
        assert client.list_clusters()


async def test_so_is_its_client_for_an_event_loop(connected):
    async with await ClusterraHook().async_client() as client:
        assert (await client.get_user()).email == "you@local.clusterra"


async def test_a_connection_that_only_the_sync_way_knows_is_found(connected, mocker):
    """So it is in ``airflow dags test``; tests/e2e runs the commands themselves."""
    mocker.patch.object(
        BaseHook, "aget_connection", side_effect=AirflowNotFoundException("isn't defined")
    )
    async with await ClusterraHook().async_client() as client:
        assert (await client.get_user()).email == "you@local.clusterra"


async def test_a_connection_that_nobody_knows_is_an_error_in_an_event_loop_too():
    with pytest.raises(AirflowNotFoundException, match="nowhere"):
        await ClusterraHook("nowhere").async_client()


def test_an_error_in_the_connection_names_it(connection):
    connection("http://example.org")
    with pytest.raises(InputError, match=r"^Connection clusterra_default: .* is plain http"):
        ClusterraHook().access()


EXTRA = {"cluster_id": "clusde74", "auth": "bearer", "timeout": 5, "instance": "prod-eu"}
FORMS = {
    "uri": (
        "clusterra://:s3cret%2Bto%2Fken@127.0.0.1:8765/http"
        "?cluster_id=clusde74&auth=bearer&timeout=5&instance=prod-eu"
    ),
    "uri_with_extra": "clusterra://:s3cret%2Bto%2Fken@127.0.0.1:8765/http?__extra__="
    "%7B%22cluster_id%22%3A%22clusde74%22%2C%22auth%22%3A%22bearer%22%2C%22timeout%22%3A5%2C"
    "%22instance%22%3A%22prod-eu%22%7D",
    "json": json.dumps(
        {
            "conn_type": "clusterra",
            "host": "http://127.0.0.1:8765",
            "password": "s3cret+to/ken",
            "extra": EXTRA,
        }
    ),
    "json_with_extra_as_text": json.dumps(
        {
            "conn_type": "clusterra",
            "host": "http://127.0.0.1:8765",
            "password": "s3cret+to/ken",
            "extra": json.dumps(EXTRA),
        }
    ),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_every_form_of_a_variable_says_the_same(monkeypatch, form):
    monkeypatch.setenv("AIRFLOW_CONN_CLUSTERRA_DEFAULT", form)
    settings = ClusterraHook().settings()

    assert settings.access.origin == "http://127.0.0.1:8765"
    assert settings.access.headers() == {"Authorization": "Bearer s3cret+to/ken"}
    assert settings.access.timeout == 5
    assert (settings.cluster_id, settings.instance) == ("clusde74", "prod-eu")


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_a_connection_of_a_variable_is_known_as_such(monkeypatch, form):
    hook = ClusterraHook()
    assert not hook.is_in_the_environment
    monkeypatch.setenv("AIRFLOW_CONN_CLUSTERRA_DEFAULT", form)
    hook.settings()

    assert hook.is_in_the_environment


def test_a_variable_that_a_secrets_backend_overrules_is_not_where_the_session_is_from(monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_CLUSTERRA_DEFAULT", FORMS["json"])
    backends = Connection(conn_type="clusterra", conn_id="clusterra_default", password="another")
    monkeypatch.setattr(ClusterraHook, "get_connection", lambda self, conn_id: backends)
    hook = ClusterraHook()
    hook.settings()

    assert not hook.is_in_the_environment


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_the_secret_is_masked_in_every_form(monkeypatch, form):
    monkeypatch.setenv("AIRFLOW_CONN_CLUSTERRA_DEFAULT", form)
    settings = ClusterraHook().settings()

    assert "s3cret" not in repr(settings)
    assert "s3cret" not in redact("a line with s3cret+to/ken in it")


@pytest.mark.parametrize(
    ("given", "of_connection", "found"),
    [("mine", "c9", "mine"), (None, "c9", "c9"), (None, None, "clusloc1")],
)
def test_the_cluster_is_the_tasks_the_connections_or_the_only_one(
    local, connection, given, of_connection, found
):
    connection(local.url, local.token, of_connection)
    hook = ClusterraHook(cluster_id=given)
    with hook.client() as client:
        assert hook.find_cluster(client) == found


def test_the_connection_is_read_once_also_if_it_names_no_cluster(local, connection, mocker):
    connection(local.url, local.token, cluster_id=None)
    read = mocker.spy(ClusterraHook, "settings")
    with ClusterraHook().connect() as connected:
        assert connected.cluster_id == "clusloc1"

    assert read.call_count == 1


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (SEVERAL, r"several clusters \(c1, c2\)\. Say which"),
        (http(200, {"clusters": []}), "no cluster"),
    ],
    ids=["several", "none"],
)
def test_a_cluster_that_cannot_be_known_is_asked_for(connection, answer, words):
    with Wire(answer) as wire:
        connection(wire.url, cluster_id=None)
        hook = ClusterraHook()
        with hook.client() as client, pytest.raises(InputError, match=words):
            hook.find_cluster(client)


def test_an_unknown_cluster_is_told_from_an_unknown_job(connected):
    hook = ClusterraHook()
    lost = NotFoundError("404", status=404)
    with hook.client() as client:
        explained = hook.explain(client, "typo", lost)

        assert str(explained) == (
            "Connection clusterra_default: there is no cluster 'typo'. "
            "The session's clusters: clusloc1."
        )
        assert hook.explain(client, "clusloc1", lost) is lost


def test_the_test_button_says_who_which_and_until_when(connected):
    works, words = ClusterraHook().test_connection()

    assert works
    assert words.startswith(
        "Signed in as you@local.clusterra. Clusters: clusloc1. The session ends 20"
    )


def test_the_test_button_is_red_for_a_cluster_that_is_not_there(local, connection):
    connection(local.url, local.token, "typo")

    assert ClusterraHook().test_connection() == (
        False,
        "Signed in as you@local.clusterra, but there is no cluster 'typo'. Clusters: clusloc1.",
    )


@pytest.mark.parametrize("host", ["http://127.0.0.1:8765", "127.0.0.1:8765"])
def test_a_port_beside_an_address_that_has_the_same_one_is_fine(monkeypatch, host):
    fields = {"conn_type": "clusterra", "host": host, "port": 8765, "password": "x"}
    monkeypatch.setenv("AIRFLOW_CONN_CLUSTERRA_DEFAULT", json.dumps(fields))

    assert ClusterraHook().access().origin.endswith("127.0.0.1:8765")


def test_the_test_button_names_the_field_and_not_the_id_that_airflow_made_up(connection):
    connection("http://127.0.0.1:1", auth="basic")

    assert ClusterraHook().test_connection() == (
        False,
        "The extra auth is 'basic'; it can be 'cookie' or 'bearer'.",
    )


@pytest.mark.parametrize(
    ("password", "words"), [("wrong-cookie", "sign in with the browser"), ("", "password is empty")]
)
def test_the_test_button_says_what_is_wrong(local, connection, password, words):
    connection(local.url, password)
    works, shown = ClusterraHook().test_connection()

    assert not works
    assert words in shown
