"""Waits in a real triggerer: shared, killed, resumed, and their jobs' output."""

import re
import signal
import time

import httpx
import pytest

from tests.e2e.rest import until
from tests.proxy import Proxy

pytestmark = pytest.mark.e2e


class Run:
    """A run of a DAG whose jobs are looked at on the server."""

    def __init__(self, rest, clusterra, dag_id, conf=None):
        self.rest = rest
        self._clusterra = clusterra
        self.dag_id = dag_id
        self.run_id = rest.run_dag(dag_id, conf)

    def job_of(self, task_id="one", index=-1):
        return self.rest.xcom(self.dag_id, self.run_id, task_id, "job_id", index)

    def state_of(self, job_id):
        server = self._clusterra
        answer = httpx.get(
            f"{server.url}/v1/clusters/{server.cluster_id}/jobs/{job_id}",
            headers={"Cookie": f"clusterra_session={server.token}"},
        )
        return answer.json()["jobs"][0]["job_state"]

    def until_state(self, job_id, state):
        until(
            lambda: self.state_of(job_id) == [state],
            60,
            lambda: f"job {job_id} is {self.state_of(job_id)}",
        )

    def until_watched(self, task_id="one", index=-1, try_number=1):
        """Airflow tells a trigger nothing of a user who comes before it has begun."""

        def seen():
            job_id = self.job_of(task_id, index)
            return f"Job {job_id} is RUNNING" in self.log(task_id, index, try_number)

        until(seen, 90, lambda: f"not watched: {self.log(task_id, index, try_number)}")
        return self.job_of(task_id, index)

    def log(self, task_id="one", index=-1, try_number=1):
        try:
            return self.rest.task_log(self.dag_id, self.run_id, task_id, try_number, index)
        except RuntimeError:
            return ""

    def ends(self):
        return self.rest.wait_for_run(self.dag_id, self.run_id)


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


def test_a_triggerer_that_stood_still_and_was_replaced_cancels_nothing(start, airflow, clusterra):
    (clusterra.folder / "efs" / "resume").unlink(missing_ok=True)
    run = start("resumed")
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
    airflow.signal("triggerer-2", signal.SIGTERM)


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
