"""Tests of airflow_provider_clusterra.watch.cancel, over real sockets."""

import asyncio

import pytest

from airflow_provider_clusterra.api import Access, AsyncClient, ServerError
from airflow_provider_clusterra.api.errors import ONCE
from airflow_provider_clusterra.watch.cancel import KillSwitch, TaskKilledError, cancel_and_confirm
from tests.support.wire import Wire, http


async def submitted(client, cluster_id, script):
    job = {"environment": ["A=1"], "current_working_directory": "/mnt/efs"}
    answer = await client.submit_job(cluster_id, {"script": f"#!/bin/bash\n{script}", "job": job})
    return answer.job_id


@pytest.fixture
async def client(local):
    async with AsyncClient(Access(local.url, local.token)) as made:
        yield made


async def test_a_running_job_is_gone_afterwards(client, local):
    job_id = await submitted(client, local.cluster_id, "trap '' TERM; sleep 60")
    job = await cancel_and_confirm(client, local.cluster_id, job_id, every=0.02)

    assert str(job.state) == "CANCELLED"


async def test_a_job_that_has_ended_stays_as_it_ended(client, local):
    job_id = await submitted(client, local.cluster_id, "exit 0")
    async with asyncio.timeout(30):
        while not (await client.get_job(local.cluster_id, job_id)).state.ended:
            await asyncio.sleep(0.01)

    assert (
        str((await cancel_and_confirm(client, local.cluster_id, job_id, every=0.02)).state)
        == "COMPLETED"
    )


async def test_a_job_that_nobody_knows_needs_no_cancel(client, local):
    assert await cancel_and_confirm(client, local.cluster_id, 999_999) is None


async def test_patience_with_a_job_that_does_not_end_is_bounded():
    going = {"jobs": [{"job_id": 7, "job_state": ["CANCELLED", "COMPLETING"]}]}
    with Wire(http(200, {"status": []}), http(200, going)) as wire:
        async with AsyncClient(Access(wire.url, "s")) as client:
            job = await cancel_and_confirm(client, "c1", 7, within=0.1, every=0.02)

    assert job.state.completing


async def test_a_cancel_that_fails_says_so():
    with Wire(http(500, b"oops")) as wire:
        async with AsyncClient(Access(wire.url, "s"), retry=ONCE) as client:
            with pytest.raises(ServerError):
                await cancel_and_confirm(client, "c1", 7)


ENDED = {"status": [{"job_id": "7", "error": {"code": 2021, "string": "Job already completed"}}]}
UNKNOWN = http(404, {"detail": "Not Found"})
AWAY = http(503, b"")
COMPLETING = http(200, {"jobs": [{"job_id": 7, "job_state": ["COMPLETED", "COMPLETING"]}]})
ENDS = http(200, {"jobs": [{"job_id": 7, "job_state": ["CANCELLED", "COMPLETING"]}]})


@pytest.mark.parametrize(
    ("answers", "may_have_succeeded"),
    [
        ([http(200, {"status": []}), UNKNOWN], False),
        ([AWAY, http(200, {"status": []}), UNKNOWN], False),
        ([http(200, {"status": []}), AWAY], False),
        ([http(200, ENDED), UNKNOWN], True),
        ([http(200, ENDED), AWAY], True),
        ([http(200, ENDED), COMPLETING], True),
        ([http(200, {"status": []}), ENDS], False),
        ([UNKNOWN], True),
        ([AWAY], True),
    ],
    ids=[
        *("accepted", "accepted at last", "accepted and away", "had ended", "had ended and away"),
        *("had ended and is cleaned up", "accepted and is cleaned up"),
        *("not known", "away"),
    ],
)
def test_a_killed_tasks_job_may_have_succeeded_only_if_no_cancel_was_accepted(
    answers, may_have_succeeded
):
    with Wire(*answers) as wire:
        switch = KillSwitch(Access(wire.url, "s"), "c1")
        switch.set_target(7)
        switch.kill()

    assert switch.may_have_succeeded is may_have_succeeded
    with pytest.raises(TaskKilledError):
        switch.check()
