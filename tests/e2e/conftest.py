"""One Airflow and one Clusterra for all tests of this folder."""

import json
import os
import shutil
from pathlib import Path

import pytest

from airflow_provider_clusterra.api import Access, Client, Retry
from tests.e2e.postgres import Postgres, why_not
from tests.e2e.stack import AirflowStack
from tests.support.containers import APPTAINER
from tests.support.proxy import Proxy
from tests.support.servers import ClusterraServer
from tests.support.store import Store
from tests.support.versions import HAS_LOOPS, NEED_LOOPS

HERE = Path(__file__).parent
EXAMPLES = [
    path
    for path in sorted(HERE.parents[1].glob("example_dags/*.py"))
    if HAS_LOOPS or path.stem not in NEED_LOOPS
]
DAG_FILES = [
    HERE / "dags" / "jobs.py",
    *(HERE.glob("loops/*.py") if HAS_LOOPS else ()),
    *EXAMPLES,
    *HERE.parents[1].glob("example_dags/*.sh"),
]
DAGS = (
    "deferred",
    "waiting",
    "killed",
    "parked",
    "timed",
    "shared",
    "resumed",
    "talking",
    "mapped",
    "grown",
    "hopeless",
    "linked",
    *(path.stem for path in EXAMPLES),
    *(("loop_read", "rescheduled") if HAS_LOOPS else ()),
)

NEWEST = 20
"""How many jobs a failure shows."""
LAST_SAID = 6000
"""Characters of a component's own log that it shows."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """With a failure, what the server and Airflow had to say: nobody can ask them afterwards."""
    report = yield
    if report.failed and call.when == "call":
        server, stack = item.funcargs.get("clusterra"), item.funcargs.get("airflow")
        if server:
            report.sections.append(("jobs of clusterra-server", _told(_newest_jobs, server)))
        for name in ("scheduler", "triggerer") if stack else ():
            report.sections.append((f"end of {name}.log", _told(stack.said, name)[-LAST_SAID:]))
    return report


def _told(tell, whom):
    try:
        return tell(whom)
    except Exception as error:  # noqa: BLE001 - whatever it is, the failure itself is shown
        return f"It cannot be read: {error!r}"


def _newest_jobs(server):
    with Client(Access(server.url, server.token), retry=Retry(tries=1)) as client:
        jobs = client.list_jobs(server.cluster_id)
    return "\n".join(f"{job.job_id} {job.name}: {job.describe()}" for job in jobs[-NEWEST:])


@pytest.fixture
def pictures(tmp_path):
    """Where pictures go: into the docs if ``make pictures`` asks for them."""
    folder = Path(os.environ.get("PICTURES", tmp_path))
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def clusterra():
    """A clusterra-server that remembers jobs for long enough, and whose minutes last five seconds."""
    with ClusterraServer(cpus=8, kill_wait=2, minute=5) as server:
        yield server


@pytest.fixture(scope="session")
def counted(clusterra):
    """A proxy that counts requests; the connection ``clusterra_counted`` leads to it."""
    with Proxy(clusterra.url).serve() as proxy:
        yield proxy


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    """An S3 for what jobs have made; the connection ``clusterra_store`` leads to it."""
    with Store(tmp_path_factory.mktemp("store")) as made:
        yield made


@pytest.fixture(scope="session")
def database():
    """Airflow's settings for a PostgreSQL; its own SQLite where the machine has none."""
    if why_not():
        yield {}
        return
    with Postgres() as postgres:
        yield {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": postgres.url}


@pytest.fixture(scope="session")
def airflow(clusterra, counted, store, database, tmp_path_factory):
    """A real Airflow with connections to the server, one of them with a wrong session."""
    dags = tmp_path_factory.mktemp("dags")
    for path in DAG_FILES:
        shutil.copy(path, dags)
    with AirflowStack(tmp_path_factory.mktemp("airflow"), dags, database) as stack:
        apptainer = tmp_path_factory.mktemp("bin") / "apptainer"
        apptainer.write_text(APPTAINER)
        apptainer.chmod(0o755)
        extra = json.dumps(
            {"cluster_id": clusterra.cluster_id, "container_runtime": str(apptainer)}
        )
        for conn_id, host, password in (
            ("clusterra_default", clusterra.url, clusterra.token),
            ("clusterra_counted", counted.url, clusterra.token),
            ("clusterra_wrong", clusterra.url, "wr0ng-cookie"),
        ):
            stack.rest.add_connection(conn_id, host=host, password=password, extra=extra)
        stack.rest.add_connection("clusterra_store", **store.connection)
        stack.rest.wait_for_dags(*DAGS)
        yield stack


@pytest.fixture(scope="session")
def rest(airflow):
    """Its REST API."""
    return airflow.rest
