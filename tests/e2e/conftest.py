"""One Airflow and one Clusterra for all tests of this folder."""

import json
import shutil
from pathlib import Path

import pytest

from tests.e2e.stack import AirflowStack
from tests.servers import LocalServer

HERE = Path(__file__).parent
DAG_FILES = [*HERE.glob("dags/*.py"), *HERE.parents[1].glob("example_dags/*.py")]
DAGS = ("deferred", "waiting", "killed", "parked", "hopeless", "hello", "upload_then_run")


@pytest.fixture(scope="session")
def clusterra():
    """A clusterra-local that remembers jobs for long enough."""
    with LocalServer(cpus=8, kill_wait=2) as server:
        yield server


@pytest.fixture(scope="session")
def airflow(clusterra, tmp_path_factory):
    """A real Airflow with the connections ``clusterra_default`` and ``clusterra_wrong``."""
    dags = tmp_path_factory.mktemp("dags")
    for path in DAG_FILES:
        shutil.copy(path, dags)
    with AirflowStack(tmp_path_factory.mktemp("airflow"), dags) as stack:
        extra = json.dumps({"cluster_id": clusterra.cluster_id})
        for conn_id, password in {
            "clusterra_default": clusterra.token,
            "clusterra_wrong": "wr0ng-cookie",
        }.items():
            stack.rest.add_connection(conn_id, host=clusterra.url, password=password, extra=extra)
        stack.rest.wait_for_dags(*DAGS)
        yield stack


@pytest.fixture(scope="session")
def rest(airflow):
    """Its REST API."""
    return airflow.rest
