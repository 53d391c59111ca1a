"""What the tests on a real Slurm share."""

import pytest

from tests.support.cluster import Cluster


@pytest.fixture
def cluster(front, connection):
    """The Slurm, driven with the package's own clients and waits."""
    connection(front.url, front.token, front.cluster_id)
    return Cluster(front)
