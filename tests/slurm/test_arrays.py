"""Arrays on a real Slurm: requeued tasks, and what accounting says of those that never began."""

import asyncio
import time

import pytest

from airflow_provider_clusterra.api import Client
from airflow_provider_clusterra.watch.verdict import PATIENT
from tests.slurm.conf import Settings

pytestmark = pytest.mark.slurm


@pytest.fixture
def forgetful(lab, cluster):
    """A Slurm that forgets within seconds; accounting remembers."""
    lab.use(Settings(accounting=True, min_job_age=2))
    yield cluster
    lab.use(Settings())


@pytest.mark.parametrize("requeued", [0, 1])
async def test_an_array_of_which_one_task_is_requeued_is_waited_for(lab, cluster, requeued):
    job_id = cluster.submit("sleep $(( SLURM_RESTART_COUNT ? 1 : 12 ))", array="0-1", requeue=True)
    waiting = asyncio.create_task(cluster.wait(job_id, array="0-1", job_name="test"))
    await cluster.until_running(job_id)
    await asyncio.sleep(2)
    lab.run("scontrol", "requeue", f"{job_id}_{requeued}")
    # the requeued task begins again at once instead of two minutes later
    lab.run("scontrol", "update", f"JobId={job_id}_{requeued}", "StartTime=now")
    event = await waiting

    assert event.outcome == "ended"
    assert event.job.state.base == "COMPLETED"
    assert [task.array_task_id for task in event.job.tasks] == [0, 1]


@pytest.mark.parametrize("known", [True, False], ids=["indices known", "a sensor's"])
async def test_an_array_whose_rest_never_began_ended_as_accounting_says(forgetful, known):
    script = '[ "$SLURM_ARRAY_TASK_ID" = 0 ] || sleep 600'
    job_id = forgetful.submit(script, array="0-5%1")
    await forgetful.until(lambda: forgetful.indices(job_id) >= {1})
    forgetful.cancel(job_id)
    await forgetful.until_gone(job_id)
    with Client(forgetful.access) as client:
        records = client.list_accounting(forgetful.cluster_id, job_ids=[job_id])
    how = {"array": "0-5"} if known else {}
    event = await forgetful.wait(job_id, since=time.time() - PATIENT.grace, **how)

    assert any(record.array_task_string.startswith("0x") for record in records), records
    assert event.outcome == "ended"
    assert event.job.state.base == "CANCELLED"
    assert [task.array_task_id for task in event.job.tasks] == [0, 1, 2, 3, 4, 5]
    assert event.job.tasks[0].state.base == "COMPLETED"


async def test_one_job_whose_name_is_not_utf8_makes_no_list_unreadable(lab, cluster):
    lab.run("bash", "-c", "sbatch --job-name=$'caf\\xe9' --output=/dev/null --wrap='sleep 20'")
    mine = cluster.submit("sleep 1")
    with Client(cluster.access) as client:
        jobs = client.list_jobs(cluster.cluster_id)

    assert mine in {job.job_id for job in jobs}
    assert any(job.name.startswith("caf") for job in jobs)


async def test_a_cancel_of_an_array_says_that_it_cancelled_the_tasks_that_were_left(cluster):
    job_id = cluster.submit('[ "$SLURM_ARRAY_TASK_ID" = 0 ] || sleep 600', array="0-2")

    def first_has_ended():
        tasks = cluster.job(job_id).tasks
        return any(task.array_task_id == 0 and task.state.ended for task in tasks)

    await cluster.until(first_has_ended)

    assert cluster.cancel(job_id) is True
