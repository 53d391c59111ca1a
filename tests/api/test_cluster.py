"""Tests of airflow_provider_clusterra.api.calls."""

import pytest

from airflow_provider_clusterra.api import ApiRoute, ProtocolError, calls
from airflow_provider_clusterra.api import calls as cluster
from airflow_provider_clusterra.api.calls import find_download
from tests.support.recorded import NEWEST, answer, sample

VERSIONS = ["22.05-v0.0.38", "24.11-v0.0.42", NEWEST]


@pytest.mark.parametrize("version", VERSIONS)
def test_nodes_of_every_version_read(version):
    nodes = cluster.read_nodes(sample("get_nodes", version))

    assert nodes[0].name in ("cn1", "localhost")
    assert nodes[0].cpus >= 1
    assert nodes[0].memory_mb > 0
    assert nodes[0].partitions == ("main",)
    assert "IDLE" in nodes[0].state


@pytest.mark.parametrize("state", [["DOWN", "DRAIN"], "down+drain", "DOWN,DRAIN"], ids=repr)
def test_a_node_that_is_down_says_so_and_why(state):
    (node,) = cluster.read_nodes(
        answer({"nodes": [{"name": "n1", "state": state, "reason": "disk"}]})
    )

    assert (node.state, node.reason) == (("DOWN", "DRAIN"), "disk")


def test_the_scheduler_tells_its_numbers():
    assert cluster.read_stats(sample("get_diag"))["jobs_submitted"] >= 0
    assert cluster.read_stats(answer({"jobs_submitted": 3})) == {"jobs_submitted": 3}


def test_light_states_are_read():
    (row,) = calls.read_states(sample("get_jobs_state"))

    assert (row.job_id, str(row.state)) == ("1", "COMPLETED")


def test_as_many_states_as_a_url_can_name_are_asked_for_by_name():
    some, many = calls.list_states("c1", {12, 3}), calls.list_states("c1", range(10_000, 10_500))

    assert some.request == "GET /v1/clusters/c1/jobs/state?job_id=3&job_id=12"
    assert many.request == "GET /v1/clusters/c1/jobs/state"
    assert len(calls.list_states("c1", range(10_000, 10_400)).request) > 5000


@pytest.mark.parametrize("id_field", ['"{}"', '"{}", "name": 5', '"{}", "state": 5'], ids=repr)
@pytest.mark.parametrize("shown", ["10007", "10007_1", "10007_[2-9%3]", "10007+1"])
def test_of_all_states_those_that_were_asked_for_are_read(id_field, shown):
    ids = ["7", "70", shown, "100071", "100071_1"]
    rows = ",".join(f'{{"job_id": {id_field.format(each)}, "state": ["RUNNING"]}}' for each in ids)
    call = calls.list_states("c1", range(10_000, 11_000))

    assert [row.job_id for row in call.read(answer(f'{{"jobs": [{rows}]}}'.encode()))] == [shown]


def test_states_in_another_form_are_those_that_were_asked_for_too():
    told = answer({"jobs": [{"job_id": each, "job_state": "RUNNING"} for each in (7, 10_007)]})

    assert [row.job_id for row in calls.list_states("c1", range(10_000, 11_000)).read(told)] == [
        "10007"
    ]


def test_light_states_of_a_scheduler_that_is_down_cannot_be_read():
    with pytest.raises(ProtocolError, match="no list of jobs"):
        calls.read_states(answer({"jobs": None}))


def test_routes_are_read():
    said = {"routes": [{"name": "n", "method": "get", "path": "/v1/x"}, {"name": "no path"}, 3]}

    assert cluster.read_routes(answer(said)) == [cluster.ApiRoute("GET", "/v1/x", "n")]


def test_text_is_text():
    assert cluster.read_text(answer("# EOF\n")) == "# EOF\n"


def test_the_route_to_read_files_from_is_found_by_its_path():
    routes = [
        ApiRoute("GET", "/v1/clusters/{cluster_id}/storage/downloads"),
        ApiRoute("POST", "/v1/clusters/{cluster_id}/storage/presigned-url"),
        ApiRoute("POST", "/v1/clusters/{cluster_id}/storage/presigned-download"),
    ]

    assert find_download(routes) == routes[2].path
    assert find_download(routes[:2]) is None
