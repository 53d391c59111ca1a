"""Tests of airflow_provider_clusterra.watch.poller and .wait, over real sockets."""

import asyncio
import time

import pytest
from msgspec.structs import replace

from airflow_provider_clusterra.api import (
    Access,
    AsyncClient,
    AuthenticationError,
    ClusterraError,
    InputError,
    WaitTimeoutError,
)
from airflow_provider_clusterra.api.jobs import Job, read_state
from airflow_provider_clusterra.watch import looks
from airflow_provider_clusterra.watch.poller import Subscriber, poller_of
from airflow_provider_clusterra.watch.tail import Tail, TailPace
from airflow_provider_clusterra.watch.verdict import Outcome, WaitSpec, judge
from airflow_provider_clusterra.watch.wait import Wait
from tests.support.waits import HASTY, Log
from tests.support.wire import Wire, headers_of, http


def job(*state, **fields):
    return http(200, {"jobs": [{"job_id": 7, "job_state": list(state), **fields}]})


RUNNING, DONE = job("RUNNING"), job("COMPLETED")
REFUSED = http(401, {"error": "unauthorized"})


class Connection:
    """A connection that somebody may renew, and that counts how often it is read."""

    def __init__(self, url, *secrets):
        self._url = url
        self._secrets = list(secrets) or ["s3cret"]
        self.reads = 0

    async def __call__(self):
        self.reads += 1
        secret = self._secrets.pop(0) if len(self._secrets) > 1 else self._secrets[0]
        return Access(self._url, secret)


async def wait(connection, job_id=7, *, deadline=None, log=None, name="", patience=HASTY, **fields):
    spec = WaitSpec(
        job_id, "c1", "conn", name, since=time.time(), poll_interval=0.01, deadline=deadline
    )
    return await Wait(
        spec, connection, Log() if log is None else log, patience=patience, **fields
    ).watch()


async def test_a_job_is_waited_for_until_it_has_ended():
    with Wire(RUNNING, job("COMPLETED", "COMPLETING"), DONE) as wire:
        verdict = await wait(Connection(wire.url))

    assert verdict.outcome is Outcome.ENDED
    assert verdict.job.state.base == "COMPLETED"
    assert len(wire.requests) == 3


@pytest.mark.parametrize(
    "hiccup",
    [
        None,
        http(500, b"oops"),
        http(503, b"", {"Retry-After": "0"}),
        http(429, b"", {"Retry-After": "0"}),
        http(511, b"<html>"),
        http(200, b"<html>"),
        RUNNING[:-9],
        http(404, {"errors": [{"error": "Invalid job id specified", "error_number": 2017}]}),
    ],
    ids=repr,
)
async def test_a_hiccup_never_ends_a_wait(hiccup):
    with Wire(hiccup, hiccup, RUNNING, hiccup, DONE) as wire:
        assert (await wait(Connection(wire.url))).outcome is Outcome.ENDED


async def test_changes_are_told_once_each():
    log = Log()
    waiting = job("PENDING", state_reason="Resources")
    with Wire(waiting, waiting, RUNNING, RUNNING, DONE) as wire:
        await wait(Connection(wire.url), log=log)

    assert log == ["Job 7 is PENDING (Resources)", "Job 7 is RUNNING", "Job 7 is COMPLETED"]


async def test_all_waits_for_one_job_share_each_look():
    with Wire(RUNNING, RUNNING, RUNNING, DONE) as wire:
        connection = Connection(wire.url)
        verdicts = await asyncio.gather(*(wait(connection) for _ in range(50)))

    assert {verdict.outcome for verdict in verdicts} == {Outcome.ENDED}
    assert len(wire.requests) == 4
    assert connection.reads == 1


async def test_a_wait_that_is_cancelled_takes_nobody_down():
    with Wire(RUNNING) as wire:
        connection = Connection(wire.url)
        first, second = (asyncio.create_task(wait(connection)) for _ in range(2))
        while len(wire.requests) < 2:
            await asyncio.sleep(0.01)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        wire._answers[:] = [DONE]

        assert (await second).outcome is Outcome.ENDED


async def test_a_poller_ends_with_its_last_wait_and_the_next_begins_anew():
    with Wire(DONE) as wire:
        connection = Connection(wire.url)
        first = poller_of("conn", "c1", connection, patience=HASTY)
        await wait(connection)
        await wait(connection)

        assert poller_of("conn", "c1", connection, patience=HASTY) is not first
        assert connection.reads == 2


async def test_a_session_that_had_ended_before_the_poller_began_may_be_renewed_too():
    with Wire(*[REFUSED] * 3, DONE) as wire:
        connection = Connection(wire.url, *["old"] * 3, "new")

        assert (await wait(connection)).outcome is Outcome.ENDED


async def test_a_session_that_cannot_be_renewed_fails_at_once():
    with Wire(RUNNING, REFUSED) as wire:
        connection = Connection(wire.url)
        with pytest.raises(AuthenticationError):
            await wait(connection, may_be_renewed=lambda: False)

        assert len(wire.requests) == 2


SLURMS_NO = http(403, {"errors": [{"error": "Access denied", "error_number": 2002}]})
WEB_PAGE = b"<html>a gateway</html>"
ODD = (302, 304, 400, 403, 405, 407, 408, 409, 410, 421, 425, 431, 451)


async def test_slurms_own_no_about_a_job_fails_at_once():
    with Wire(SLURMS_NO) as wire:
        with pytest.raises(AuthenticationError, match="Access denied"):
            await wait(Connection(wire.url))

        assert len(wire.requests) == 1


@pytest.mark.parametrize("number", [2019, 2027, 9001])
async def test_a_number_that_speaks_of_slurms_daemons_is_a_hiccup(number):
    odd = http(500, {"errors": [{"error": "in standby mode", "error_number": number}]})
    with Wire(odd, RUNNING, odd, odd, DONE) as wire:
        assert (await wait(Connection(wire.url))).outcome is Outcome.ENDED


@pytest.mark.parametrize("status", ODD)
@pytest.mark.parametrize("body", [WEB_PAGE, {"error": "not now"}], ids=["html", "json"])
async def test_what_is_not_slurms_own_no_is_a_hiccup(status, body):
    odd = http(status, body)
    with Wire(odd, RUNNING, odd, odd, DONE) as wire:
        assert (await wait(Connection(wire.url))).outcome is Outcome.ENDED


@pytest.mark.parametrize("status", sorted({*ODD} - {408, 425}))
async def test_a_refusal_that_lasts_ends_the_wait_in_its_words(status):
    refuses = Wire(RUNNING, http(status, {"error": "not now"}))
    with refuses as wire, pytest.raises(ClusterraError, match=str(status)):
        await wait(Connection(wire.url), patience=replace(HASTY, refused=0.1))


async def test_each_wait_has_its_own_patience_whoever_came_first():
    with Wire(RUNNING, *[http(403, {"error": "not now"})] * 20, DONE) as wire:
        connection = Connection(wire.url)
        patient = asyncio.create_task(wait(connection))
        await asyncio.sleep(0)
        with pytest.raises(ClusterraError, match="403"):
            await wait(connection, patience=replace(HASTY, refused=0.0))

        assert (await patient).outcome is Outcome.ENDED


async def test_one_job_that_is_refused_keeps_no_other_from_its_end():
    def answer(request):
        if b"jobs/7 " in request:
            return http(403, WEB_PAGE)
        return http(200, {"jobs": [{"job_id": 8, "job_state": ["COMPLETED"]}]})

    with Wire(answer) as wire:
        connection = Connection(wire.url)
        refused = asyncio.create_task(wait(connection))
        assert (await wait(connection, 8)).outcome is Outcome.ENDED
        refused.cancel()
        await asyncio.gather(refused, return_exceptions=True)


@pytest.mark.parametrize("stumble", [http(429, b""), REFUSED, http(403, WEB_PAGE), http(503, b"")])
async def test_an_accounting_that_stumbles_once_does_not_end_a_wait_as_lost(stumble):
    gone = http(404, {"errors": [{"error": "Invalid job id specified", "error_number": 2017}]})
    record = {"job_id": 7, "state": {"current": ["COMPLETED"]}}
    accounting = iter([stumble, http(200, {"jobs": [record]})])
    looks = iter([RUNNING])

    def answer(request):
        return next(accounting) if b"accounting" in request else next(looks, gone)

    with Wire(answer) as wire:
        verdict = await wait(Connection(wire.url))

    assert (verdict.outcome, verdict.job.state.base) == (Outcome.ENDED, "COMPLETED")


async def test_what_hurries_while_a_look_is_under_way_is_not_lost():
    looked, states = asyncio.Event(), iter(["RUNNING", "RUNNING"])
    loop = asyncio.get_running_loop()

    def answer(request):
        loop.call_soon_threadsafe(looked.set)
        time.sleep(0.2)
        return job(next(states, "COMPLETED"))

    with Wire(answer) as wire:
        connection = Connection(wire.url)
        poller = poller_of("conn", "c1", connection, patience=HASTY)
        begin = time.monotonic()
        async with poller.subscribed(7, poll_interval=30, age=1000) as subscriber:
            assert (await subscriber.next()).state.base == "RUNNING"
            looked.clear()
            poller.hurry(7, whole=True)
            await looked.wait()
            poller.hurry(7, whole=True)
            assert (await subscriber.next()).state.base == "RUNNING"
            assert (await subscriber.next()).state.base == "COMPLETED"

    assert time.monotonic() - begin < 4


async def test_requests_that_come_while_a_look_is_under_way_are_served_by_one_that_follows_it():
    looked, states = asyncio.Event(), iter(["RUNNING"])
    loop = asyncio.get_running_loop()

    def answer(request):
        loop.call_soon_threadsafe(looked.set)
        time.sleep(0.2)
        return job(next(states, "COMPLETED"))

    patience = replace(HASTY, hurry_every=600.0)
    with Wire(answer) as wire:
        poller = poller_of("conn", "c1", Connection(wire.url), patience=patience)
        async with asyncio.timeout(4), poller.subscribed(7, None, age=1e6) as subscriber:
            looked.clear()
            await looked.wait()
            for _ in range(3):
                poller.hurry(7)
                await asyncio.sleep(0.01)
            assert (await subscriber.next()).state.base == "RUNNING"
            assert (await subscriber.next()).state.base == "COMPLETED"


async def test_the_output_of_a_run_after_a_requeue_is_there_from_its_beginning():
    first, second = b"run 1\n" * 20, b"".join(b"run 2 line %d\n" % n for n in range(40))
    runs = iter([(0, first), (0, first), (0, first), (1, second), (1, second)])
    state = {"run": (0, first), "looks": 0}

    def answer(request):
        if b"/output" in request:
            body = state["run"][1]
            return http(404, {"error": "not yet"}) if b"stream" in request else http(200, body)
        state["run"] = next(runs, state["run"])
        state["looks"] += 1
        words = "COMPLETED" if state["looks"] > 8 else "RUNNING"
        return job(words, restart_cnt=state["run"][0], start_time=1, end_time=2)

    log = Log()
    with Wire(answer) as wire:
        spec = WaitSpec(7, "c1", "conn", poll_interval=0.1, follow_output=True)
        verdict = await Wait(spec, Connection(wire.url), log, patience=HASTY).watch()

    assert verdict.outcome is Outcome.ENDED
    text = "\n".join(log)
    assert "Job 7 was started again; here its output begins again." in log
    assert second.decode().removesuffix("\n") in text.rpartition("begins again.")[2]


@pytest.mark.parametrize("rows", [1, 50])
async def test_an_answer_of_millions_of_indices_is_a_hiccup(rows):
    text = "0-3999999" if rows == 1 else "0-90000"
    rest = {
        "job_id": 7,
        "array_job_id": {"set": True, "infinite": False, "number": 7},
        "array_task_string": text,
        "job_state": ["PENDING"],
    }
    log = Log()
    with Wire(http(200, {"jobs": [rest] * rows}), DONE) as wire:
        verdict = await wait(Connection(wire.url), log=log)

    assert verdict.outcome is Outcome.ENDED
    assert any("as many as can be waited for" in line for line in log)


@pytest.mark.parametrize("surprise", [OSError("no room"), ValueError("odd")], ids=repr)
async def test_a_surprise_of_one_look_is_logged_and_ends_no_wait(mocker, caplog, surprise):
    real, failures = looks.read_job_answer, [surprise] * 2

    async def reads(*args):
        if failures:
            raise failures.pop()
        return await real(*args)

    mocker.patch("airflow_provider_clusterra.watch.looks.read_job_answer", reads)
    with Wire(DONE) as wire:
        assert (await wait(Connection(wire.url))).outcome is Outcome.ENDED
    assert repr(surprise) in caplog.text


async def test_a_machine_without_room_to_judge_an_end_judges_it_again(mocker):
    real, failures = judge, [MemoryError(), RuntimeError("can't start new thread")]

    def sometimes(*args):
        if failures:
            raise failures.pop()
        return real(*args)

    mocker.patch("airflow_provider_clusterra.watch.wait.judge", sometimes)
    with Wire(DONE) as wire:
        assert (await wait(Connection(wire.url))).outcome is Outcome.ENDED


async def test_a_machine_without_room_for_accountings_answer_asks_again(mocker):
    past = [Job(7, read_state("COMPLETED"))]
    asks = mocker.AsyncMock(side_effect=[MemoryError(), past])
    mocker.patch.object(AsyncClient, "list_accounting", asks)
    gone = http(404, {"errors": [{"error": "Invalid job id specified", "error_number": 2017}]})
    with Wire(RUNNING, gone) as wire:
        assert (await wait(Connection(wire.url))).outcome is Outcome.ENDED


async def test_a_client_that_cannot_be_made_now_is_made_again(mocker):
    made, failures = AsyncClient, [OSError("Too many open files")] * 3

    def make(*args, **fields):
        if failures:
            raise failures.pop()
        return made(*args, **fields)

    mocker.patch("airflow_provider_clusterra.watch.poller.AsyncClient", make)
    with Wire(DONE) as wire:
        assert (await wait(Connection(wire.url))).outcome is Outcome.ENDED


async def test_a_clock_that_is_set_back_changes_nothing(mocker):
    with Wire(RUNNING, RUNNING, DONE) as wire:
        waiting = asyncio.create_task(wait(Connection(wire.url)))
        while len(wire.requests) < 1:
            await asyncio.sleep(0.01)
        mocker.patch("time.time", return_value=time.time() - 3600)

        async with asyncio.timeout(10):
            assert (await waiting).outcome is Outcome.ENDED


async def test_a_connection_that_cannot_be_read_now_is_read_again():
    with Wire(DONE) as wire:
        connection = Connection(wire.url)
        failures = [RuntimeError("the database is locked")] * 3

        async def sometimes():
            if failures:
                raise failures.pop()
            return await connection()

        assert (await wait(sometimes)).outcome is Outcome.ENDED

        failures.append(RuntimeError("the database is gone"))
        with pytest.raises(ClusterraError, match="cannot be read: the database is gone"):
            await wait(sometimes, patience=replace(HASTY, refused=0.0))


async def test_a_session_that_ends_is_renewed_once_for_all_waits():
    with Wire(RUNNING, REFUSED, DONE) as wire:
        connection = Connection(wire.url, "old", "new")
        verdicts = await asyncio.gather(*(wait(connection) for _ in range(5)))

    assert {verdict.outcome for verdict in verdicts} == {Outcome.ENDED}
    assert connection.reads == 2
    assert [headers_of(request)["cookie"] for request in wire.requests] == [
        "clusterra_session=old",
        "clusterra_session=old",
        "clusterra_session=new",
    ]


async def test_a_session_that_ends_has_time_to_be_renewed():
    with Wire(RUNNING, *[REFUSED] * 5, DONE) as wire:
        connection = Connection(wire.url, *["old"] * 4, "new")

        assert (await wait(connection)).outcome is Outcome.ENDED

    with Wire(RUNNING, REFUSED) as wire, pytest.raises(AuthenticationError):
        await wait(Connection(wire.url), patience=replace(HASTY, refused=0.0))


async def test_a_connection_that_cannot_be_read_fails_every_wait():
    async def unreadable():
        raise InputError("The password is empty.")

    ends = await asyncio.gather(*(wait(unreadable) for _ in range(3)), return_exceptions=True)

    assert [type(end) for end in ends] == [InputError] * 3


async def test_a_job_that_goes_on_past_the_deadline_says_how_it_was():
    with Wire(RUNNING) as wire:
        # a busy machine may take longer to look at all
        for seconds in (0.2, 2.0, 20.0):
            with pytest.raises(WaitTimeoutError) as caught:
                await wait(Connection(wire.url), deadline=time.time() + seconds)
            if caught.value.job is not None:
                break

    assert caught.value.job.job_id == 7
    assert "RUNNING" in str(caught.value)


async def test_a_job_that_vanishes_is_lost_and_its_last_state_is_told():
    gone = http(404, {"errors": [{"error": "Invalid job id specified", "error_number": 2017}]})
    with Wire(RUNNING, gone) as wire:
        verdict = await wait(Connection(wire.url))

    assert verdict.outcome is Outcome.LOST
    assert "last seen RUNNING" in verdict.message


async def test_another_jobs_name_is_not_ours():
    with Wire(job("COMPLETED", name="theirs")) as wire:
        verdict = await wait(Connection(wire.url), name="ours")

    assert verdict.outcome is Outcome.LOST


async def test_a_real_job_is_waited_for(local):
    access = Access(local.url, local.token)

    async def connection():
        return access

    async with AsyncClient(access) as client:
        body = {"environment": ["A=1"], "current_working_directory": "/mnt/efs"}
        submitted = await client.submit_job(
            local.cluster_id, {"script": "#!/bin/sh\nexit 3\n", "job": body}
        )
    spec = WaitSpec(
        submitted.job_id, local.cluster_id, "real", poll_interval=0.05, deadline=time.time() + 60
    )
    verdict = await Wait(spec, connection, Log()).watch()

    assert (verdict.job.state.base, verdict.job.exit.code) == ("FAILED", 3)


@pytest.mark.parametrize("turns", range(6))
async def test_a_wait_that_is_cancelled_as_a_look_arrives_ends(turns):
    subscriber = Subscriber(30.0, born=time.monotonic())
    task = asyncio.create_task(subscriber.next(60))
    for _ in range(3):
        await asyncio.sleep(0)
    subscriber.notify(None)
    for _ in range(turns):
        await asyncio.sleep(0)
    if task.cancel():
        with pytest.raises(asyncio.CancelledError):
            await task


@pytest.mark.parametrize(("left", "within"), [(None, 60), (3600, 60), (10, 40), (-900, 30)])
async def test_the_rest_of_an_output_has_a_minute_unless_the_deadline_is_near(left, within, mocker):
    finish = mocker.patch.object(Tail, "finish")
    deadline = None if left is None else time.time() + left
    spec = WaitSpec(7, "c1", "conn", deadline=deadline, follow_output=True)
    with Wire(job("COMPLETED", start_time=1, end_time=2)) as wire:
        await Wait(spec, Connection(wire.url), Log(), patience=HASTY).look()

    given = min(finish.await_args.args[1], TailPace().end_within)
    assert given == pytest.approx(within, abs=2)
