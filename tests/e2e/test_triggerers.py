"""Two triggerers on one PostgreSQL, as teams have them who want one to stand in for the other."""

import json
import shutil
import signal
from pathlib import Path

import pytest

from tests.e2e.postgres import Postgres, why_not
from tests.e2e.rest import until
from tests.e2e.runs import Run
from tests.e2e.stack import AirflowStack

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(bool(why_not()), reason=why_not() or "there is PostgreSQL"),
]
DAGS = Path(__file__).parent / "dags" / "jobs.py"


@pytest.fixture(scope="module")
def airflow(clusterra, tmp_path_factory):
    """An Airflow whose database lets two triggerers work."""
    dags = tmp_path_factory.mktemp("dags")
    shutil.copy(DAGS, dags)
    home = tmp_path_factory.mktemp("airflow")
    with (
        Postgres() as postgres,
        AirflowStack(home, dags, {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": postgres.url}) as stack,
    ):
        stack.rest.add_connection(
            "clusterra_default",
            host=clusterra.url,
            password=clusterra.token,
            extra=json.dumps({"cluster_id": clusterra.cluster_id}),
        )
        stack.rest.wait_for_dags("resumed")
        yield stack


def test_a_triggerer_that_stood_still_and_was_replaced_cancels_nothing(airflow, clusterra):
    (clusterra.folder / "efs" / "resume").unlink(missing_ok=True)
    run = Run(airflow.rest, clusterra, "resumed")
    job_id = run.until_watched()
    airflow.signal("triggerer", signal.SIGSTOP)
    airflow.launch("triggerer-2", ["triggerer", "--skip-serve-logs"])
    try:
        until(
            lambda: run.log().count(f"Job {job_id} is RUNNING") == 2,
            120,
            lambda: f"the wait does not go on: {run.log()}",
        )
    finally:
        airflow.signal("triggerer", signal.SIGCONT)
    until(
        lambda: f"Job {job_id} is left alone" in run.log(),
        60,
        lambda: f"the first triggerer does not wake up: {run.log()}",
    )
    assert run.state_of(job_id) == ["RUNNING"]
    (clusterra.folder / "efs" / "resume").touch()

    assert run.ends() == {"one": "success"}
