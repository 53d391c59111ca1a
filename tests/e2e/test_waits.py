"""Waits in a real triggerer: shared, killed, resumed, and their jobs' output."""

import re
import signal
import time

import pytest

from tests.e2e.rest import until
from tests.e2e.runs import Run
from tests.support.proxy import Proxy

pytestmark = pytest.mark.e2e


@pytest.fixture
def start(rest, clusterra):
    return lambda dag_id, conf=None: Run(rest, clusterra, dag_id, conf)


def test_a_deferred_task_that_a_user_ends_cancels_its_job_and_no_other(rest, start):
    run = start("parked")
    one, failed, succeeded, last = (
        run.until_watched(*place) for place in [("one", -1), ("many", 0), ("many", 1), ("many", 2)]
    )

    rest.set_task_state("parked", run.run_id, "many", "failed", map_index=0)
    run.until_state(failed, "CANCELLED")
    rest.set_task_state("parked", run.run_id, "many", "success", map_index=1)
    run.until_state(succeeded, "CANCELLED")
    assert run.state_of(last) == ["RUNNING"]

    rest.clear_task("parked", run.run_id, "one")
    run.until_state(one, "CANCELLED")
    until(lambda: run.job_of() not in (None, one), 60, lambda: "no second job")
    again = run.until_watched("one", try_number=2)

    rest.set_run_state("parked", run.run_id, "failed")
    run.until_state(again, "CANCELLED")
    run.until_state(last, "CANCELLED")


def test_a_run_that_takes_too_long_cancels_its_jobs(start):
    run = start("timed")
    job_id = run.until_watched()

    run.until_state(job_id, "CANCELLED")


def test_the_output_of_a_deferred_task_is_in_its_log_line_by_line(start):
    run = start("talking")
    assert run.ends() == {"one": "success"}

    lines = [line for line in run.log().split("\n") if re.fullmatch(r"line \d+ 100%", line)]
    assert lines == [f"line {number} 100%" for number in range(1, 21)]


def test_all_deferred_tasks_of_a_cluster_are_looked_at_together(start, counted, clusterra):
    run = start("shared")
    for index in range(6):
        run.until_watched("many", index)
    before = len(counted.requests)
    until(lambda: len(counted.requests) >= before + 4, 60, lambda: "nobody asks")
    asked = counted.requests[before : before + 4]
    for number in range(6):
        (clusterra.folder / "efs" / f"go_{number}").touch()

    assert set(run.ends().values()) == {"success"}
    assert {request.rpartition("/")[2] for request in asked} == {"state"}


def test_a_triggerer_that_is_killed_cancels_nothing_and_the_wait_goes_on(start, airflow, clusterra):
    (clusterra.folder / "efs" / "resume").unlink(missing_ok=True)
    run = start("resumed")
    job_id = run.until_watched()
    airflow.signal("triggerer", signal.SIGKILL)
    airflow.launch("triggerer", ["triggerer", "--skip-serve-logs"])
    until(
        lambda: run.log().count(f"Job {job_id} is RUNNING") == 2,
        120,
        lambda: f"the wait does not go on: {run.log()}",
    )
    assert run.state_of(job_id) == ["RUNNING"]
    (clusterra.folder / "efs" / "resume").touch()

    assert run.ends() == {"one": "success"}
    assert run.rest.xcom("resumed", run.run_id, "one")["output"] == "before\nafter\n"
    assert run.log().count("after") >= 1


def test_a_session_that_is_renewed_in_the_middle_is_gone_on_with(start, rest, clusterra):
    (clusterra.folder / "efs" / "resume").unlink(missing_ok=True)
    extra = f'{{"cluster_id": "{clusterra.cluster_id}"}}'
    with Proxy(clusterra.url).serve() as proxy:
        proxy.session = ("first-cookie", clusterra.token)
        rest.add_connection("renewed", host=proxy.url, password="first-cookie", extra=extra)
        run = start("resumed", {"conn": "renewed"})
        run.until_watched()
        proxy.session = ("second-cookie", clusterra.token)
        before = len(proxy.requests)
        until(lambda: len(proxy.requests) >= before + 3, 60, lambda: "nobody asks")
        rest.add_connection("renewed", host=proxy.url, password="second-cookie", extra=extra)
        begin = time.monotonic()
        (clusterra.folder / "efs" / "resume").touch()

        assert run.ends() == {"one": "success"}
        assert time.monotonic() - begin < 60
