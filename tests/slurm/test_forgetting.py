"""Late readers: jobs that a real Slurm has forgotten, with and without slurmdbd."""

import asyncio
import time

import pytest

from airflow_provider_clusterra.api import Client
from airflow_provider_clusterra.watch.verdict import PATIENT, Patience
from tests.slurm.conf import Settings

pytestmark = pytest.mark.slurm


SOON = Patience(grace=5.0, ask_every=1.0)
"""Without slurmdbd, accounting's refusal to answer is doubted for so long."""


@pytest.fixture(scope="module", params=[True, False], ids=["with slurmdbd", "without slurmdbd"])
def slurm_settings(request):
    """A Slurm that forgets within seconds, and whether accounting remembers."""
    return Settings(accounting=request.param, min_job_age=2)


with_slurmdbd = pytest.mark.parametrize(
    "slurm_settings", [True], ids=["with slurmdbd"], indirect=True, scope="module"
)


@pytest.fixture
def forgetful(slurm_settings, cluster):
    """The Slurm, and whether accounting remembers."""
    cluster.accounting = slurm_settings.accounting
    if not cluster.accounting:
        cluster.patience = SOON
    return cluster


async def test_a_job_that_slurm_has_forgotten_is_known_from_accounting_or_lost(forgetful):
    begun = time.time()
    job_ids = [forgetful.submit("exit 0"), forgetful.submit("exit 3")]
    seen = await forgetful.wait_all(job_ids)
    for job_id in job_ids:
        await forgetful.until_gone(job_id)
    # for so long after its submit, a job that is not shown may be one that is not shown yet
    late = await forgetful.wait_all(job_ids, since=begun - PATIENT.grace)

    assert [event.job.exit.code for event in seen] == [0, 3]
    if forgetful.accounting:
        assert [event.outcome for event in late] == ["ended"] * 2
        assert [event.job.state.base for event in late] == ["COMPLETED", "FAILED"]
    else:
        assert [event.outcome for event in late] == ["lost"] * 2
        assert all(
            f"job {job_id}" in event.message for job_id, event in zip(job_ids, late, strict=True)
        )


@with_slurmdbd
async def test_a_job_of_last_week_is_found_by_its_name(lab, cluster):
    name = f"old-{time.time()}"
    job_id = cluster.submit("exit 3", name=name)
    await cluster.wait(job_id)

    def by_name():
        with Client(cluster.access) as client:
            return [job.job_id for job in client.list_accounting(cluster.cluster_id, job_name=name)]

    await cluster.until(lambda: by_name() == [job_id])
    times = ", ".join(
        f"time_{each} = time_{each} - 604800" for each in ("submit", "eligible", "start", "end")
    )
    lab.query(f"update lab_job_table set {times} where id_job = {job_id}")  # noqa: S608 - our own words

    assert by_name() == [job_id]


async def test_an_array_is_known_to_its_last_task_though_they_are_forgotten_one_by_one(forgetful):
    script = "test $SLURM_ARRAY_TASK_ID = 0 && exit 4; sleep 15"
    job_id = forgetful.submit(script, array="0-3")
    event = asyncio.create_task(forgetful.wait(job_id, array="0-3"))

    await forgetful.until(lambda: forgetful.indices(job_id) == {1, 2, 3})
    restarted = await forgetful.wait(job_id, array="0-3")
    whole = await event

    assert whole.job.state.base == "FAILED"
    assert {task.array_task_id for task in whole.job.tasks} == {0, 1, 2, 3}
    if forgetful.accounting:
        assert restarted.outcome == "ended"
        assert restarted.job.tasks[0].exit.code == 4
    else:
        assert restarted.outcome == "lost"
        assert "how it ended is not known" in restarted.message


@with_slurmdbd
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
