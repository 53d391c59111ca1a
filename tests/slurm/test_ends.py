"""How jobs end on a real Slurm alone, as the wait tells it."""

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_clusterra.operators.jobs import ClusterraSubmitJobOperator
from airflow_provider_clusterra.task.report import JobError, JobOutOfMemoryError
from tests.slurm.conf import has_cgroups
from tests.support.airflow_side import TaskInstance

pytestmark = pytest.mark.slurm

TAKES_TOO_MUCH = (
    "exec python3 -c 'bytearray(400 * 2**20)[::4096] and __import__(\"time\").sleep(5)'"
)


def operator(script, **fields):
    defaults = {"task_id": "task", "deferrable": False, "poll_interval": 1}
    return ClusterraSubmitJobOperator(
        **{**defaults, "script": f"#!/bin/bash\n{script}\n", **fields}
    )


def run(made):
    return made.execute({"ti": TaskInstance()})


def test_too_much_memory_is_told_apart(cluster):
    kind = JobOutOfMemoryError if has_cgroups() else JobError
    with pytest.raises(kind):
        run(operator(TAKES_TOO_MUCH, memory=100))


@pytest.mark.parametrize(
    ("fields", "words"),
    [({"account": "nobodys"}, "Invalid account"), ({"qos": "platinum"}, "Invalid qos")],
    ids=["account", "qos"],
)
def test_what_accounting_does_not_know_is_refused_in_its_words(cluster, fields, words):
    with pytest.raises(AirflowFailException, match=f"(?i){words}"):
        run(operator("exit 0", **fields))


async def test_a_job_whose_folder_is_not_there_fails_with_its_output(cluster):
    fields = {"current_working_directory": "/nowhere", "standard_output": "job_%j.out"}
    event = await cluster.wait(cluster.submit("exit 0", **fields))

    assert (event.job.state.base, event.job.exit.signal) == ("FAILED", 53)


async def test_a_job_whose_folder_is_not_there_runs_elsewhere_where_its_output_is(cluster):
    job_id = cluster.submit("pwd", current_working_directory="/nowhere")
    event = await cluster.wait(job_id)

    assert event.job.state.base == "COMPLETED"
    assert "couldn't chdir to `/nowhere'" in cluster.output(job_id)
    assert "going to /tmp instead" in cluster.output(job_id)


async def test_a_held_job_runs_once_it_is_released(lab, cluster):
    job_id = cluster.submit("exit 0", hold=True)
    await cluster.until(lambda: cluster.job(job_id).reason == "JobHeldUser")
    lab.run("scontrol", "release", str(job_id))

    assert (await cluster.wait(job_id)).job.state.base == "COMPLETED"


async def test_a_requeued_job_is_waited_for_to_its_real_end(lab, cluster):
    go = lab.shared / "requeued"
    go.unlink(missing_ok=True)
    job_id = cluster.submit("while [ ! -e requeued ]; do sleep 0.2; done", requeue=True)
    await cluster.until_running(job_id)
    lab.run("scontrol", "requeue", str(job_id))
    go.touch()
    event = await cluster.wait(job_id)

    assert (event.job.state.base, event.job.restarts) == ("COMPLETED", 1)


async def test_a_job_whose_node_dies_is_told_apart(lab, cluster):
    job_id = cluster.submit("sleep 600", required_nodes=["lab2"], requeue=False)
    await cluster.until_running(job_id)
    lab.inside.end("slurmd-lab2", 9)
    try:
        # Slurm itself would notice after SlurmdTimeout, five minutes
        lab.run("scontrol", "update", "NodeName=lab2", "State=DOWN", "Reason=killed")
        event = await cluster.wait(job_id)
    finally:
        # it comes back by itself once its slurmd does
        lab.launch()

    assert (event.job.state.base, event.job.reason) == ("NODE_FAIL", "NodeDown")


async def test_many_jobs_are_waited_for_at_once(cluster):
    job_ids = [cluster.submit(f"exit {number % 2}") for number in range(200)]
    events = await cluster.wait_all(job_ids)

    assert [event.job.exit.code for event in events] == [0, 1] * 100
