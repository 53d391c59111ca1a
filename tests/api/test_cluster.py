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
