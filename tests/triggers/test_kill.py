"""Tests of a trigger's on_kill; tests/e2e shows the same with Airflow's own answers."""

import asyncio
from types import SimpleNamespace

import pytest
from airflow.providers.common.compat.sdk import AirflowNotFoundException
from msgspec.structs import replace

from airflow_provider_clusterra.api import Access, AsyncClient
from airflow_provider_clusterra.hooks.clusterra import ClusterraHook
from airflow_provider_clusterra.triggers.jobs import ClusterraJobTrigger
from tests.support.proxy import Proxy, says
from tests.support.waits import HASTY

RUN = "airflow.sdk.execution_time.task_runner.RuntimeTaskInstance.get_task_states"
XCOM = "airflow.sdk.execution_time.xcom.XCom.get_one"
JOBS = "airflow_provider_clusterra.triggers.jobs"


@pytest.fixture
def fenced(mocker):
    """Before Airflow 3.4: a kill may be another triggerer's doing."""
    mocker.patch(f"{JOBS}.A_KILL_IS_A_USERS", new=False)


@pytest.fixture
async def client(connected):
    async with AsyncClient(Access(connected.url, connected.token)) as made:
        yield made


@pytest.fixture
async def trigger(client, connected):
    """The trigger of a job that runs."""
    job = {"environment": ["A=1"], "current_working_directory": "/mnt/efs"}
    body = {"script": "#!/bin/bash\nsleep 60\n", "job": job}
    submitted = await client.submit_job(connected.cluster_id, body)
    made = ClusterraJobTrigger(
        job_id=submitted.job_id,
        cluster_id=connected.cluster_id,
        clusterra_conn_id="clusterra_default",
        cancel_on_kill=True,
    )
    made.task_instance = SimpleNamespace(dag_id="d", task_id="t", run_id="r", map_index=-1)
    yield made
    await client.cancel_job(connected.cluster_id, submitted.job_id)


async def state(client, trigger):
    return (await client.get_job(trigger.spec.cluster_id, trigger.spec.job_id)).state.base


async def cancelled(client, trigger):
    async with asyncio.timeout(30):
        while await state(client, trigger) != "CANCELLED":
            await asyncio.sleep(0.01)


async def test_a_task_that_was_ended_cancels_its_job(client, trigger, mocker):
    mocker.patch(RUN, return_value={"r": {"t": "failed"}})
    await trigger.on_kill()

    assert await state(client, trigger) == "CANCELLED"


async def test_a_kill_outlasts_an_outage_of_the_api(client, trigger, connected, connection, mocker):
    mocker.patch(RUN, return_value={"r": {"t": "failed"}})
    with Proxy(connected.url).serve() as proxy:
        connection(proxy.url, connected.token, connected.cluster_id)
        proxy.fault = lambda request: (
            says(503, b"restarting", {"Retry-After": "0"}) if len(proxy.requests) <= 10 else None
        )
        await trigger.on_kill()

    assert await state(client, trigger) == "CANCELLED"


async def test_a_kill_reads_again_a_connection_that_airflow_does_not_find_for_a_moment(
    client, trigger, connected, mocker
):
    mocker.patch(RUN, return_value={"r": {"t": "failed"}})
    undefined = AirflowNotFoundException("The conn_id `x` isn't defined")
    answers = [undefined, Access(connected.url, connected.token)]
    mocker.patch.object(ClusterraHook, "async_access", side_effect=answers)
    trigger.patience = HASTY
    await trigger.on_kill()

    assert await state(client, trigger) == "CANCELLED"


async def test_a_kill_says_that_the_connection_is_gone(client, trigger, mocker):
    mocker.patch(RUN, return_value={"r": {"t": "failed"}})
    log = mocker.patch.object(ClusterraJobTrigger, "log")
    trigger.spec = replace(trigger.spec, clusterra_conn_id="nobody_has_this")
    trigger.patience = replace(HASTY, undefined=0.0)
    await trigger.on_kill()

    words, job_id, error = log.error.call_args.args
    assert "could not be cancelled" in words
    assert job_id == trigger.spec.job_id
    assert "The connection nobody_has_this cannot be read" in str(error)


async def test_a_task_that_was_cleared_and_waits_for_its_next_job_cancels_this_one(
    client, trigger, mocker
):
    mocker.patch(RUN, return_value={"r": {"t": "deferred"}})
    mocker.patch(XCOM, return_value=trigger.spec.job_id + 1)
    await trigger.on_kill()

    assert await state(client, trigger) == "CANCELLED"


@pytest.mark.parametrize("form", [int, float, str, "{}.0".format])
async def test_a_trigger_that_another_triggerer_has_taken_over_leaves_the_job_alone(
    client, trigger, mocker, fenced, form
):
    mocker.patch(RUN, return_value={"r": {"t": "deferred"}})
    # an XCom backend may give a number in another form
    mocker.patch(XCOM, return_value=form(trigger.spec.job_id))
    await trigger.on_kill()

    assert not (await client.get_job(trigger.spec.cluster_id, trigger.spec.job_id)).state.ended


async def test_a_mapped_task_is_told_by_its_index(client, trigger, mocker, fenced):
    trigger.task_instance.map_index = 3
    mocker.patch(RUN, return_value={"r": {"t_2": "failed", "t_3": "deferred"}})
    xcom = mocker.patch(XCOM, return_value=trigger.spec.job_id)
    await trigger.on_kill()

    assert not (await client.get_job(trigger.spec.cluster_id, trigger.spec.job_id)).state.ended
    assert xcom.call_args.kwargs["map_index"] == 3


async def test_a_job_lives_where_airflow_does_not_tell(client, trigger, mocker, fenced):
    mocker.patch(RUN, side_effect=RuntimeError("no answer"))
    await trigger.on_kill()

    assert not (await client.get_job(trigger.spec.cluster_id, trigger.spec.job_id)).state.ended


async def test_from_airflow_3_4_on_every_kill_is_a_users(client, trigger, mocker):
    mocker.patch(f"{JOBS}.A_KILL_IS_A_USERS", new=True)
    asked = mocker.patch(RUN)
    await trigger.on_kill()

    asked.assert_not_called()
    assert await state(client, trigger) == "CANCELLED"


@pytest.mark.parametrize(
    ("told", "state"),
    [
        ({"r": {"t": None}}, "RUNNING"),
        ({"r": {"t": "deferred"}}, "RUNNING"),
        ({"r": {"t": "failed"}}, "CANCELLED"),
        ({"r": {}}, "CANCELLED"),
        (RuntimeError("no answer"), "CANCELLED"),
    ],
    ids=str,
)
async def test_from_airflow_3_4_on_the_next_try_decides_about_a_cleared_tasks_job(
    client, trigger, mocker, told, state
):
    mocker.patch(f"{JOBS}.A_KILL_IS_A_USERS", new=True)
    mocker.patch(RUN, side_effect=[told])
    trigger.kept_on_clear = True
    await trigger.on_kill()

    job = await client.get_job(trigger.spec.cluster_id, trigger.spec.job_id)
    assert job.state.base == state


async def test_a_kill_that_is_itself_cancelled_goes_on(client, trigger, mocker):
    mocker.patch(RUN, return_value={"r": {"t": "failed"}})
    kill = asyncio.create_task(trigger.on_kill())
    await asyncio.sleep(0)
    kill.cancel()
    with pytest.raises(asyncio.CancelledError):
        await kill

    await cancelled(client, trigger)


@pytest.mark.parametrize("why", ["not asked for", "told already"])
async def test_a_kill_that_is_none_of_its_business_does_nothing(client, trigger, mocker, why):
    asked = mocker.patch(RUN)
    trigger.cancel_on_kill = why != "not asked for"
    trigger._is_over = why == "told already"
    await trigger.on_kill()

    asked.assert_not_called()
    assert not (await client.get_job(trigger.spec.cluster_id, trigger.spec.job_id)).state.ended


@pytest.mark.parametrize(
    ("states", "ends"),
    [({"t": "failed"}, True), ({"t": "deferred"}, False), (None, False)],
    ids=["the task was ended", "the triggerer stops", "Airflow does not tell"],
)
async def test_before_airflow_3_3_a_trigger_that_is_cancelled_finds_out_why(
    client, trigger, mocker, fenced, states, ends
):
    mocker.patch(f"{JOBS}.TRIGGERS_ARE_TOLD_OF_KILLS", new=False)
    failure = RuntimeError("no answer") if states is None else None
    mocker.patch(RUN, return_value={"r": states}, side_effect=failure)
    mocker.patch(XCOM, return_value=trigger.spec.job_id)
    running = asyncio.create_task(anext(trigger.run()))
    await asyncio.sleep(0.1)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert (await state(client, trigger) == "CANCELLED") is ends


async def test_from_airflow_3_3_on_a_trigger_that_is_cancelled_waits_to_be_told(
    client, trigger, mocker
):
    mocker.patch(f"{JOBS}.TRIGGERS_ARE_TOLD_OF_KILLS", new=True)
    asked = mocker.patch(RUN)
    running = asyncio.create_task(anext(trigger.run()))
    await asyncio.sleep(0.1)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    asked.assert_not_called()
