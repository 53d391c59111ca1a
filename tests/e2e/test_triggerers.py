"""Two triggerers on one PostgreSQL, as teams have them who want one to stand in for the other."""

import signal
import time

import pytest

from tests.e2e.postgres import why_not
from tests.e2e.rest import until
from tests.e2e.runs import Run

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(bool(why_not()), reason=why_not() or "there is PostgreSQL"),
]
REASSIGNED = "reassigned to another triggerer"
"""As Airflow 3.4 says it, which does not ask our trigger then."""


def test_a_triggerer_that_stood_still_and_was_replaced_cancels_nothing(airflow, clusterra, request):
    (clusterra.folder / "efs" / "resume").unlink(missing_ok=True)
    run = Run(airflow.rest, clusterra, "resumed")
    job_id = run.until_watched()
    airflow.launch("triggerer-2", ["triggerer", "--skip-serve-logs"])
    request.addfinalizer(lambda: airflow.signal("triggerer-2", signal.SIGTERM))
    airflow.signal("triggerer", signal.SIGSTOP)
    request.addfinalizer(lambda: airflow.signal("triggerer", signal.SIGCONT))
    begin = time.monotonic()

    def goes_on():
        nonlocal begin
        if time.monotonic() - begin > 40:
            # stopped within a transaction it keeps the row locked: it is stopped at another moment
            airflow.signal("triggerer", signal.SIGCONT)
            time.sleep(0.5)
            airflow.signal("triggerer", signal.SIGSTOP)
            begin = time.monotonic()
        return run.log().count(f"Job {job_id} is RUNNING") == 2

    until(goes_on, 150, lambda: f"the wait does not go on: {run.log()}")
    airflow.signal("triggerer", signal.SIGCONT)
    until(
        lambda: (
            f"Job {job_id} is left alone" in run.log() or REASSIGNED in airflow.said("triggerer")
        ),
        60,
        lambda: f"the first triggerer does not wake up: {run.log()}",
    )
    assert run.state_of(job_id) == ["RUNNING"]
    (clusterra.folder / "efs" / "resume").touch()

    assert run.ends() == {"one": "success"}
