"""What tests of every part share."""

import json
import os
from contextvars import ContextVar
from importlib.metadata import version
from pathlib import Path

import anyio
import hypothesis
import pytest
from anyio._backends._asyncio import AsyncIOBackend

# before anything imports Airflow, which writes its settings into its home
os.environ["AIRFLOW_HOME"] = str(
    Path(__file__).parent.parent
    / ".work"
    / f"airflow-{version('apache-airflow-core')}-of-the-tests"
    # each of several processes that share the tests writes its own
    / os.environ.get("PYTEST_XDIST_WORKER", "all")
)

from airflow_provider_clusterra.watch.tail import Tail, TailPace
from airflow_provider_clusterra.watch.verdict import Patience
from tests.slurm.fixtures import _own_slurm, front, lab, slurm_settings
from tests.support.servers import ClusterraServer

__all__ = ["_own_slurm", "front", "lab", "slurm_settings"]


# another process may take the machine for a second
hypothesis.settings.register_profile(
    "busy", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("busy")


def pytest_collection_modifyitems(config, items):
    """Tests on a real Slurm run where they are asked for, and nowhere else."""
    if "slurm" in config.getoption("-m"):
        return
    left_out = [item for item in items if item.get_closest_marker("slurm")]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)


OTHERS_WARN = (
    "ignore::DeprecationWarning",
    "ignore::FutureWarning",
    "ignore::PendingDeprecationWarning",
    "error:::airflow_provider_clusterra",
)


def pytest_configure(config):
    """Airflow's other versions warn of themselves: there, only warnings at our own code count."""
    if not version("apache-airflow-core").startswith("3.3."):
        for line in OTHERS_WARN:
            config.addinivalue_line("filterwarnings", line)


_made: ContextVar[list] = ContextVar("made")
"""The connections of one anyio.connect_tcp."""


@pytest.fixture(scope="session", autouse=True)
def _forgotten_connections_are_closed():
    """anyio forgets a connection that is made in the moment in which its task is cancelled: the
    garbage collector would find it in the middle of any test."""
    connect, make = anyio.connect_tcp, AsyncIOBackend.connect_tcp

    async def making(*place):
        stream = await make(*place)
        _made.get([]).append(stream)
        return stream

    async def connecting(*place, **options):
        made = []
        _made.set(made)
        try:
            return await connect(*place, **options)
        except BaseException:
            for stream in made:
                await stream.aclose()
            raise

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AsyncIOBackend, "connect_tcp", making)
        patch.setattr(anyio, "connect_tcp", connecting)
        yield


@pytest.fixture(scope="session")
def _shared_server():
    with ClusterraServer(cpus=8, kill_wait=0.5) as server:
        yield server


@pytest.fixture
def local(_shared_server):
    """One clusterra-server for all tests that only need to talk to one.

    None finds the jobs of another: they would hold the CPUs that its own job waits for.
    """
    yield _shared_server
    _shared_server.clear()


@pytest.fixture
def connection(monkeypatch):
    """Sets the connection ``clusterra_default``."""

    def set_connection(url, password="s3cret-cookie", cluster_id="c1", **extra):
        if cluster_id:
            extra["cluster_id"] = cluster_id
        fields = {"conn_type": "clusterra", "host": url, "password": password, "extra": extra}
        monkeypatch.setenv("AIRFLOW_CONN_CLUSTERRA_DEFAULT", json.dumps(fields))

    return set_connection


@pytest.fixture
def connected(local, connection):
    """A clusterra-server that the connection ``clusterra_default`` leads to."""
    connection(local.url, local.token, local.cluster_id)
    return local


@pytest.fixture(autouse=True)
def _settled_files(monkeypatch):
    """The file systems of the tests do not show late."""
    monkeypatch.setattr(Tail, "pace", TailPace(settled=0.02))


@pytest.fixture
def patience(monkeypatch):
    """Sets the patience of triggers that are made far away, by Airflow or in a task."""

    def set_patience(**fields):
        trigger = "airflow_provider_clusterra.triggers.jobs.ClusterraJobTrigger"
        monkeypatch.setattr(f"{trigger}.patience", Patience(**fields))

    return set_patience
