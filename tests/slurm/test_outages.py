"""Waits while parts of a real Slurm are down: the verdict is right all the same."""

import asyncio
import signal
import threading
import time

import httpx
import pytest

from airflow_provider_clusterra.api import Client
from airflow_provider_clusterra.api.specs import no_val
from airflow_provider_clusterra.operators.jobs import ClusterraSubmitJobOperator
from airflow_provider_clusterra.task.report import JobTimedOutError
from tests.support.airflow_side import TaskInstance

pytestmark = pytest.mark.slurm

STOPPED = 60.0
"""Seconds for which slurmctld is down."""


def operator():
    return ClusterraSubmitJobOperator(
        task_id="unlucky",
        name="unlucky",
        script="#!/bin/bash\nexit 0\n",
        deferrable=False,
        poll_interval=1,
    )


def routes(cluster):
    """What is asked of the server while something is down, each with its answer's status."""
    base = f"{cluster.access.origin}/v1/clusters/{cluster.cluster_id}"
    with httpx.Client(headers=cluster.access.headers(), timeout=90) as client:
        return {
            path: client.request(method, f"{base}/{path}").status_code
            for method, path in (
                ("GET", "jobs/state"),
                ("GET", "jobs/1"),
                ("DELETE", "jobs/1"),
                ("GET", "nodes"),
            )
        }


async def test_slurmrestd_may_be_killed_in_the_middle_of_a_wait(lab, cluster):
    go = lab.shared / "go-on"
    go.unlink(missing_ok=True)
    job_id = cluster.submit("while [ ! -e go-on ]; do sleep 0.2; done; exit 3")
    await cluster.until_running(job_id)
    waiting = asyncio.create_task(cluster.wait(job_id))
    lab.inside.end("slurmrestd", signal.SIGKILL)
    try:
        answers = await asyncio.to_thread(routes, cluster)
        go.touch()
    finally:
        lab.launch()
    event = await waiting

    assert set(answers.values()) == {503}
    assert (event.outcome, event.job.exit.code) == ("ended", 3)


async def test_slurmctld_may_be_down_for_a_minute_in_the_middle_of_a_wait(lab, cluster):
    job_ids = [
        cluster.submit("sleep 10; exit 0"),
        cluster.submit("sleep 75; exit 3"),
        cluster.submit("sleep 600", time_limit=no_val(1)),
    ]
    for job_id in job_ids:
        await cluster.until_running(job_id)
    waiting = asyncio.create_task(cluster.wait_all(job_ids))
    lab.inside.end("slurmctld", signal.SIGTERM)
    down_since = time.monotonic()
    try:
        answers = await asyncio.to_thread(routes, cluster)
        await asyncio.sleep(max(0.0, down_since + STOPPED - time.monotonic()))
    finally:
        lab.launch()
    events = await waiting

    assert set(answers.values()) <= {502, 503}
    assert [event.job.state.base for event in events] == ["COMPLETED", "FAILED", "TIMEOUT"]
    assert events[1].job.exit.code == 3
    with pytest.raises(JobTimedOutError, match="TimeLimit"):
        operator().execute_complete({"ti": TaskInstance()}, events[2].to_payload())


def test_a_submit_while_slurmctld_is_down_is_sent_until_it_is_up(lab, cluster):
    lab.inside.end("slurmctld", signal.SIGKILL)
    up_again = threading.Timer(5, lab.launch)
    up_again.start()
    try:
        result = operator().execute({"ti": TaskInstance()})
    finally:
        up_again.join()

    assert result["state"] == "COMPLETED"
    with Client(cluster.access) as client:
        named = [job for job in client.list_jobs(cluster.cluster_id) if job.name == result["name"]]
    assert [job.job_id for job in named] == [result["job_id"]]
