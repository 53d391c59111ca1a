"""Tests of airflow_provider_clusterra.hooks.clusterra."""

import pytest

from airflow_provider_clusterra.api import InputError, NotFoundError
from airflow_provider_clusterra.hooks.clusterra import ClusterraHook
from tests.wire import Wire, http

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


def test_an_error_in_the_connection_names_it(connection):
    connection("http://example.org")
    with pytest.raises(InputError, match=r"^Connection clusterra_default: .* is plain http"):
        ClusterraHook().access()


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


@pytest.mark.parametrize(
    ("password", "words"), [("wrong-cookie", "sign in with the browser"), ("", "password is empty")]
)
def test_the_test_button_says_what_is_wrong(local, connection, password, words):
    connection(local.url, password)
    works, shown = ClusterraHook().test_connection()

    assert not works
    assert words in shown
