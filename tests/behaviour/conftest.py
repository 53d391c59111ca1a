"""Both backends: processes of this machine, and a real Slurm."""

import pytest

from tests.support.cluster import Cluster


@pytest.fixture(params=["processes", pytest.param("slurm", marks=pytest.mark.slurm)])
def cluster(request, connection):
    """A cluster of either kind, driven with the package's own clients and waits."""
    fixture = {"processes": "local", "slurm": "front"}[request.param]
    server = request.getfixturevalue(fixture)
    connection(server.url, server.token, server.cluster_id)
    return Cluster(server)
