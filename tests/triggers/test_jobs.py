"""Tests of airflow_provider_clusterra.triggers."""

import asyncio
import json
import time

import pytest
from airflow.providers.common.compat.sdk import AirflowNotFoundException
from msgspec.structs import replace

from airflow_provider_clusterra.api import Access, AsyncClient, ProtocolError
from airflow_provider_clusterra.api.calls import read_job
from airflow_provider_clusterra.hooks.clusterra import ClusterraHook
from airflow_provider_clusterra.triggers.jobs import ClusterraJobTrigger, JobEvent, read_event
from airflow_provider_clusterra.watch.verdict import Outcome, Verdict
from tests.support.recorded import sample
from tests.support.waits import HASTY
from tests.support.wire import Wire, http

RUNNING = http(200, {"jobs": [{"job_id": 7, "job_state": ["RUNNING"]}]})


@pytest.fixture(autouse=True)
def _no_min_deferral(monkeypatch):
    monkeypatch.setenv("AIRFLOW__CLUSTERRA__MIN_DEFERRAL", "0")


def trigger(job_id=7, cluster_id="c1", **fields):
    return ClusterraJobTrigger(
        job_id=job_id,
        cluster_id=cluster_id,
        clusterra_conn_id="clusterra_default",
        **{"poll_interval": 0.05, **fields},
    )


async def submitted(local, script):
    job = {"environment": ["A=1"], "current_working_directory": "/mnt/efs"}
    async with AsyncClient(Access(local.url, local.token)) as client:
        answer = await client.submit_job(
            local.cluster_id, {"script": f"#!/bin/bash\n{script}", "job": job}
        )
    return answer.job_id


async def state_of(local, job_id):
    async with AsyncClient(Access(local.url, local.token)) as client:
        return str((await client.get_job(local.cluster_id, job_id)).state)


async def events(made):
    return [read_event(event.payload) async for event in made.run()]


def test_a_trigger_that_was_stored_is_the_same():
    made = trigger(job_name="x", deadline=12.5, owns_job=True, cancel_on_kill=True)
    path, kwargs = made.serialize()

    assert path == "airflow_provider_clusterra.triggers.jobs.ClusterraJobTrigger"
    assert json.loads(json.dumps(kwargs)) == kwargs
    assert ClusterraJobTrigger(**kwargs).serialize() == made.serialize()


def test_an_event_that_went_through_the_database_is_the_same():
    job = read_job(sample("job_oom"), 34)
    event = JobEvent("ended", 34, "c1", job)

    assert read_event(json.loads(json.dumps(event.to_payload()))) == event


@pytest.mark.parametrize("payload", [None, {}, {"outcome": "ended", "job_id": "x"}], ids=repr)
def test_an_event_that_is_none_says_what_to_do(payload):
    with pytest.raises(ProtocolError, match="Clear the task"):
        read_event(payload)


async def test_a_jobs_end_is_one_event(connected):
    job_id = await submitted(connected, "sleep 0.3; exit 3")
    (event,) = await events(trigger(job_id, connected.cluster_id))

    assert (event.outcome, event.job.state.base, event.job.exit.code) == ("ended", "FAILED", 3)


async def test_an_event_is_held_until_airflow_can_take_it(connected, monkeypatch):
    monkeypatch.setenv("AIRFLOW__CLUSTERRA__MIN_DEFERRAL", "0.5")
    job_id = await submitted(connected, "exit 0")
    begin = time.monotonic()
    await events(trigger(job_id, connected.cluster_id))

    assert time.monotonic() - begin >= 0.5


async def test_at_the_deadline_a_job_is_cancelled_where_that_was_asked(connected):
    job_id = await submitted(connected, "sleep 60")
    (event,) = await events(
        trigger(job_id, connected.cluster_id, deadline=time.time() + 0.2, owns_job=True)
    )

    assert event.outcome == "timed_out"
    assert "It was cancelled and is CANCELLED." in event.message
    assert await state_of(connected, job_id) == "CANCELLED"


async def test_at_the_deadline_any_other_job_goes_on(connected):
    job_id = await submitted(connected, "sleep 60")
    (event,) = await events(trigger(job_id, connected.cluster_id, deadline=time.time() + 0.2))

    assert event.outcome == "timed_out"
    assert await state_of(connected, job_id) == "RUNNING"


async def test_a_deadline_that_passed_in_a_pause_does_not_fail_a_job_that_has_ended(connected):
    job_id = await submitted(connected, "exit 0")
    async with AsyncClient(Access(connected.url, connected.token)) as client:
        while not (await client.get_job(connected.cluster_id, job_id)).state.ended:
            await asyncio.sleep(0.01)
    (event,) = await events(trigger(job_id, connected.cluster_id, deadline=time.time() - 1))

    assert event.outcome == "ended"


async def test_what_no_waiting_can_heal_is_told_at_once(connection):
    with Wire(http(401, {"error": "unauthorized"})) as wire:
        connection(wire.url)
        (event,) = await events(trigger())

    assert event.outcome == "refused"
    assert "sign in with the browser" in event.message
    assert "s3cret-cookie" not in event.message


async def test_a_job_that_cannot_be_cancelled_at_the_deadline_is_named(connection):
    def answer(request):
        return http(403, b"no") if request.startswith(b"DELETE") else RUNNING

    with Wire(answer) as wire:
        connection(wire.url)
        (event,) = await events(trigger(deadline=time.time() + 0.02, owns_job=True))

    assert event.outcome == "timed_out"
    assert "It could not be cancelled: 403 DELETE" in event.message


async def test_a_state_that_nobody_knows_is_told_and_waited_through(connection, caplog):
    odd = http(200, {"jobs": [{"job_id": 7, "job_state": ["DREAMING"]}]})
    done = http(200, {"jobs": [{"job_id": 7, "job_state": ["COMPLETED"]}]})
    with Wire(odd, odd, done) as wire:
        connection(wire.url)
        (event,) = await events(trigger())

    assert event.outcome == "ended"


async def test_a_connection_that_airflow_does_not_find_for_a_moment_is_read_again(mocker):
    """So Airflow says while its database restarts."""
    with Wire(DONE) as wire:
        undefined = AirflowNotFoundException("The conn_id `x` isn't defined")
        answers = [undefined, undefined, Access(wire.url, "s3cret-cookie")]
        read = mocker.patch.object(ClusterraHook, "async_access", side_effect=answers)
        made = trigger()
        made.patience = HASTY
        (event,) = await events(made)

    assert (event.outcome, read.call_count) == ("ended", 3)


async def test_a_connection_that_is_gone_is_told_with_the_job():
    made = ClusterraJobTrigger(job_id=7, cluster_id="c1", clusterra_conn_id="nobody_has_this")
    made.patience = replace(HASTY, undefined=0.0)
    (event,) = await events(made)

    assert event.outcome == "refused"
    assert "The connection nobody_has_this cannot be read" in event.message
    assert "Job 7 is left as it is." in event.message


@pytest.fixture
def logged(mocker):
    """What the trigger writes into the task's log."""
    lines = []

    def write(words, *values):
        lines.append(words % values if values else words)

    logger = mocker.patch.object(ClusterraJobTrigger, "log", mocker.Mock())
    logger.info.side_effect = logger.warning.side_effect = write
    return lines


async def test_the_jobs_output_is_in_the_log(connected, logged):
    script = "for n in 1 2 3; do echo line $n %s; sleep 0.5; done; printf 'no end'"
    job_id = await submitted(connected, script)
    await events(trigger(job_id, connected.cluster_id, follow_output=True))
    output = [line for line in logged if not line.startswith("Job ")]

    assert "\n".join(output).replace("\n[…] ", "") == ("line 1 %s\nline 2 %s\nline 3 %s\nno end")


async def test_output_that_nobody_wants_is_not_in_the_log(connected, logged):
    job_id = await submitted(connected, "echo hello")
    await events(trigger(job_id, connected.cluster_id))

    assert not any("hello" in line for line in logged)


async def test_an_array_is_told_by_counts_and_its_tasks_are_in_the_event(connected, logged):
    body = {
        "script": "#!/bin/bash\nsleep 0.3; exit $SLURM_ARRAY_TASK_ID\n",
        "job": {
            "environment": ["A=1"],
            "current_working_directory": "/mnt/efs",
            "array": "0-1",
        },
    }
    async with AsyncClient(Access(connected.url, connected.token)) as client:
        job_id = (await client.submit_job(connected.cluster_id, body)).job_id
    (event,) = await events(trigger(job_id, connected.cluster_id, array="0-1", follow_output=True))

    assert f"Job {job_id} has 2 RUNNING" in logged
    assert [task.exit.code for task in event.job.tasks] == [0, 1]
    assert event.job.state.base == "FAILED"


async def test_a_job_that_is_pending_for_too_long_is_cancelled_where_it_is_the_tasks_own(connected):
    for owns_job, state in ((True, "CANCELLED"), (False, "PENDING")):
        body = {
            "script": "#!/bin/bash\n",
            "job": {
                "environment": ["A=1"],
                "current_working_directory": "/mnt/efs",
                "hold": True,
            },
        }
        async with AsyncClient(Access(connected.url, connected.token)) as client:
            job_id = (await client.submit_job(connected.cluster_id, body)).job_id
        made = trigger(job_id, connected.cluster_id, pending_timeout=0.2, owns_job=owns_job)
        (event,) = await events(made)

        assert event.outcome == "overdue"
        assert "pending_timeout" in event.message
        assert ("It was cancelled and is CANCELLED." in event.message) is owns_job
        assert await state_of(connected, job_id) == state


PENDING = http(200, {"jobs": [{"job_id": 7, "job_state": ["PENDING"]}]})
HELD = {"job_id": 7, "job_state": ["PENDING"], "state_reason": "JobHeldAdmin"}
DONE = http(200, {"jobs": [{"job_id": 7, "job_state": ["COMPLETED"]}]})
BUSY = http(503, b"busy", {"Retry-After": "0"})


@pytest.mark.parametrize(
    "then", [[RUNNING, DONE], [BUSY] * 4 + [RUNNING, DONE]], ids=["at once", "after an outage"]
)
async def test_a_job_that_started_since_the_last_look_is_not_pending_for_too_long(connection, then):
    with Wire(PENDING, *then) as wire:
        connection(wire.url)
        made = trigger(poll_interval=30.0, pending_timeout=0.3, owns_job=True)
        made.patience = HASTY
        (event,) = await events(made)

        assert not [request for request in wire.requests if request.startswith(b"DELETE")]
    assert event.outcome == "ended"


@pytest.mark.parametrize("fields", [{"pending_timeout": 0.0}, {}], ids=["overdue", "stuck"])
@pytest.mark.parametrize("look", [RUNNING, BUSY], ids=["that started", "that cannot be looked at"])
async def test_a_job_is_not_cancelled_as_pending_by_the_last_look(connection, fields, look):
    with Wire(http(200, {"jobs": [HELD]}), look, RUNNING, DONE) as wire:
        connection(wire.url)
        made = trigger(owns_job=True, **fields)
        made.patience = replace(HASTY, stuck=0.0, hurry_every=0.0)
        (event,) = await events(made)

        assert not [request for request in wire.requests if request.startswith(b"DELETE")]
    assert event.outcome == "ended"


async def test_a_job_that_cannot_be_looked_at_is_not_cancelled_before_the_deadline(connection):
    def answer(request):
        if request.startswith(b"DELETE"):
            return http(200, {})
        return PENDING if len(wire.requests) <= 1 else http(403, b"no")

    with Wire(answer) as wire:
        connection(wire.url)
        made = trigger(
            poll_interval=30.0, pending_timeout=0.1, deadline=time.time() + 0.6, owns_job=True
        )
        (event,) = await events(made)

        assert not [request for request in wire.requests if request.startswith(b"DELETE")]
    assert event.outcome == "timed_out"


async def test_a_trigger_that_begins_late_says_so(connected, logged):
    job_id = await submitted(connected, "echo again")
    made = trigger(job_id, connected.cluster_id, since=time.time() - 100, follow_output=True)
    await events(made)

    assert f"The wait for job {job_id} goes on here, 100 s after it began." in logged[0]
    assert "Its output begins again here." in logged[0]
    assert "again" in logged[1:]


async def test_a_session_in_a_variable_that_ends_is_told_as_what_cannot_be_renewed(connection):
    with Wire(RUNNING, http(401, {"error": "unauthorized"})) as wire:
        connection(wire.url)
        (event,) = await events(trigger(follow_output=False))

        assert len(wire.requests) == 2
    assert event.outcome == "refused"
    assert "comes from an environment variable" in event.message
    assert "Job 7 is left as it is." in event.message


def array_task(index, *states, **fields):
    return {
        "job_id": 7 + index,
        "job_state": list(states),
        "array_job_id": 7,
        "array_task_id": index,
        **fields,
    }


def het_part(offset, *states):
    return {
        "job_id": 7 + offset,
        "job_state": list(states),
        "het_job_id": 7,
        "het_job_offset": offset,
    }


CLEANING_UP = array_task(1, "COMPLETED", "COMPLETING")
FAILED_0, COMPLETED_1 = array_task(0, "FAILED"), array_task(1, "COMPLETED")
NO_ACCOUNTING = http(404, {"error": "not offered"})
NO_SUCH_JOB = http(404, {"errors": [{"error": "Invalid job id specified", "error_number": 2017}]})


def jobs(*records):
    return http(200, {"jobs": records})


def accounted(*records):
    """As slurmdbd has them."""
    rows = [
        {
            "job_id": each["job_id"],
            "state": {"current": each["job_state"]},
            "array": {"job_id": 7, "task_id": each["array_task_id"]},
        }
        for each in records
    ]
    return http(200, {"jobs": rows})


ALIVE = http(200, {"jobs": [{"job_id": 7, "job_state": ["RUNNING"]}]})


@pytest.mark.parametrize("accounting", [NO_ACCOUNTING, http(200, {"jobs": []})])
@pytest.mark.parametrize("owns_job", [True, False])
@pytest.mark.parametrize(
    "seen",
    [ALIVE, jobs(COMPLETED_1, array_task(0, "RUNNING")), None],
    ids=["job", "array", "never"],
)
async def test_a_job_that_was_alive_a_moment_ago_is_cancelled_at_the_deadline_all_the_same(
    connection, seen, accounting, owns_job
):
    shown = [seen, NO_SUCH_JOB] if seen else [NO_SUCH_JOB]

    def answer(request):
        line = request.partition(b"\r\n")[0]
        if line.startswith(b"DELETE"):
            return http(200, {"status": []})
        if b"/accounting" in line:
            return accounting
        return shown.pop(0) if len(shown) > 1 else shown[0]

    with Wire(answer) as wire:
        connection(wire.url)
        made = trigger(owns_job=owns_job, since=time.time())
        made.patience = replace(HASTY, min_job_age=60.0)
        if seen:
            await made.look()
        verdict = await made.the_wait.give_up(Verdict(Outcome.TIMED_OUT, None, "Too late."))

        sent = [request for request in wire.requests if request.startswith(b"DELETE")]
    assert len(sent) == owns_job
    assert verdict.outcome is Outcome.TIMED_OUT
    assert ("It was cancelled and is not shown any more." in verdict.message) is owns_job


async def test_a_job_whose_cancel_was_not_found_either_is_left_to_the_worker(connection):
    shown = [ALIVE, http(404, {"error": "not found"})]
    with Wire(lambda _: shown.pop(0) if len(shown) > 1 else shown[0]) as wire:
        connection(wire.url)
        made = trigger(owns_job=True)
        made.patience = replace(HASTY, min_job_age=60.0)
        await made.look()
        verdict = await made.the_wait.give_up(Verdict(Outcome.TIMED_OUT, None, "Too late."))

    assert verdict.outcome is Outcome.TIMED_OUT
    assert "It could not be cancelled: 404" in verdict.message


@pytest.mark.parametrize(
    ("fields", "looks", "accounting", "end"),
    [
        (
            {"array": "0-1"},
            [jobs(FAILED_0, array_task(1, "RUNNING")), jobs(CLEANING_UP)],
            NO_ACCOUNTING,
            ("ended", "FAILED"),
        ),
        ({"array": "0-1"}, [jobs(COMPLETED_1)], NO_ACCOUNTING, ("timed_out", "COMPLETED")),
        ({"array": "0-1"}, [jobs(CLEANING_UP)], BUSY, ("timed_out", "COMPLETED")),
        ({"array": "0-1"}, [jobs(COMPLETED_1)], accounted(FAILED_0), ("ended", "FAILED")),
        ({}, [jobs(CLEANING_UP)], accounted(FAILED_0, COMPLETED_1), ("ended", "FAILED")),
        (
            {},
            [
                jobs(het_part(0, "RUNNING"), het_part(1, "FAILED")),
                jobs(het_part(0, "COMPLETED", "COMPLETING")),
            ],
            NO_ACCOUNTING,
            ("ended", "FAILED"),
        ),
        (
            {},
            [jobs(het_part(0, "RUNNING"), het_part(1, "FAILED")), NO_SUCH_JOB],
            NO_ACCOUNTING,
            ("lost", "RUNNING"),
        ),
        (
            {"array": "0-1"},
            [jobs(array_task(0, "RUNNING"), COMPLETED_1), NO_SUCH_JOB],
            accounted(FAILED_0, COMPLETED_1),
            ("ended", "FAILED"),
        ),
    ],
    ids=[
        "a task seen to fail was purged while another cleans up",
        "a task that was never seen, without accounting",
        "a task that was never seen, while accounting is away",
        "a task that was never seen, which accounting knows",
        "an array whose indices nobody knows",
        "a component that was purged",
        "a job that nobody knows any more",
        "an array that accounting alone knows",
    ],
)
async def test_at_the_deadline_no_part_of_a_job_is_forgotten(
    connection, fields, looks, accounting, end
):
    looks = list(looks)

    def answer(request):
        if b"/accounting" in request.partition(b"\r\n")[0]:
            return accounting
        return looks.pop(0) if len(looks) > 1 else looks[0]

    with Wire(answer) as wire:
        connection(wire.url)
        made = trigger(owns_job=True, **fields)
        made.patience = HASTY
        if len(looks) > 1:
            await made.look()
        verdict = await made.the_wait.give_up(Verdict(Outcome.TIMED_OUT, None, "Too late."))

        assert not [request for request in wire.requests if request.startswith(b"DELETE")]
    assert (verdict.outcome, verdict.job.state.base if verdict.job else "") == end
