"""Arrays and lists on a real Slurm: tasks that are requeued or cancelled, names of other users' jobs."""

import asyncio

import pytest

from airflow_provider_clusterra.api import Client

pytestmark = pytest.mark.slurm


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
