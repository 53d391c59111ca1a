"""Bad weather between a wait and a real server: no hiccup fails a task, and what is lost is said.

What lasts a minute in the real world lasts :data:`MINUTE` seconds here, and so do our own pauses.
"""

import asyncio
import itertools
import re
import time
from contextlib import asynccontextmanager

import pytest

from airflow_provider_clusterra.api import Access, AsyncClient, Retry
from airflow_provider_clusterra.watch.eventloop import cancel_and_wait
from airflow_provider_clusterra.watch.verdict import Outcome, Patience, WaitSpec
from airflow_provider_clusterra.watch.wait import Wait
from tests.support.proxy import Proxy, hangs, is_cut, is_short, says
from tests.support.servers import ClusterraServer
from tests.support.waits import Log

MINUTE = 0.8
NOT_KNOWN = {"errors": [{"error": "Invalid job id specified", "error_number": 2017}], "jobs": []}


PATIENCE = Patience(
    grace=2 * MINUTE,
    min_job_age=0.0,
    stuck=MINUTE,
    ask_every=0.1,
    backoff=Retry(first=MINUTE / 60, cap=MINUTE / 2),
)


@pytest.fixture
def weather(local):
    with Proxy(local.url).serve() as proxy:
        yield proxy


async def submitted(server, script, **fields):
    job = {"environment": ["A=1"], "current_working_directory": "/mnt/efs", "name": "mine"}
    body = {"script": f"#!/bin/bash\n{script}", "job": {**job, **fields}}
    async with AsyncClient(Access(server.url, server.token)) as client:
        return (await client.submit_job(server.cluster_id, body)).job_id


def waiting(url, server, job_id, **fields):
    """A wait for a job, and what it has told."""
    access = Access(url, server.token, timeout=MINUTE / 5)
    log = Log()

    async def connection():
        return access

    fields = {"job_name": "mine", "poll_interval": 0.1, "deadline": time.time() + 60, **fields}
    spec = WaitSpec(job_id, server.cluster_id, url, **fields)
    return asyncio.create_task(Wait(spec, connection, log, patience=PATIENCE).watch()), log


@asynccontextmanager
async def seen_running(url, server, job_id):
    """Goes on once the job was seen running; gives the verdict's task."""
    task, told = waiting(url, server, job_id)
    while not any("is RUNNING" in line for line in told):
        await asyncio.sleep(0.02)
    try:
        yield task
    finally:
        await cancel_and_wait(task)


# a 404 that lasts is an end of its own: the cluster has forgotten the job
@pytest.mark.parametrize(
    ("fault", "times"),
    [
        (says(500, b"oops"), None),
        (
            says(
                502,
                {"errors": [{"error": "Unable to contact slurm controller", "error_number": 1800}]},
            ),
            None,
        ),
        (says(503, b"", {"Retry-After": "0"}), None),
        (says(511, b"<html>sign in</html>"), None),
        (says(429, b"", {"Retry-After": "1"}), None),
        (says(404, NOT_KNOWN), 2),
        (says(200, {"jobs": None, "errors": []}), None),
        (hangs(MINUTE), None),
        (is_cut(100), None),
        (is_short(300), None),
    ],
    ids=["500", "502", "503", "511", "429", "404", "null", "hang", "reset", "cut short"],
)
async def test_a_minute_of_bad_weather_fails_nothing(local, weather, fault, times):
    job_id = await submitted(local, f"sleep {2 * MINUTE / 3}; exit 3")
    async with seen_running(weather.url, local, job_id) as wait:
        clears = time.monotonic() + MINUTE
        left = itertools.count(1)

        def falls(request):
            short = times is None or next(left) <= times
            return fault if short and time.monotonic() < clears else None

        weather.fault = falls
        verdict = await wait

    assert verdict.outcome is Outcome.ENDED
    assert (verdict.job.state.base, verdict.job.exit.code) == ("FAILED", 3)


async def test_a_minute_without_a_server_fails_nothing(local):
    job_id = await submitted(local, "sleep 1")
    proxy = Proxy(local.url)
    with proxy.serve():
        port = int(proxy.url.rpartition(":")[2])
        task, told = waiting(proxy.url, local, job_id)
        while not told:
            await asyncio.sleep(0.02)
    await asyncio.sleep(MINUTE)
    with proxy.serve(port):
        verdict = await task

    assert verdict.job.state.succeeded


async def test_a_job_that_is_not_shown_yet_and_then_as_it_was_is_only_late(local, weather):
    job_id = await submitted(local, f"sleep {2 * MINUTE}")
    begin = time.monotonic()
    stale = {"jobs": [{"job_id": job_id, "name": "mine", "job_state": ["PENDING"]}]}

    def falls(request):
        if time.monotonic() - begin < MINUTE / 3:
            return says(404, NOT_KNOWN)
        return says(200, stale) if time.monotonic() - begin < 2 * MINUTE / 3 else None

    weather.fault = falls
    task, told = waiting(weather.url, local, job_id)

    assert (await task).job.state.succeeded
    shown = [re.search("is ([A-Z]+)", line)[1] for line in told if line.startswith("Job")]
    assert [state for state, _ in itertools.groupby(shown)] == ["PENDING", "RUNNING", "COMPLETED"]


async def test_a_server_that_is_restarted_is_asked_on(tmp_path, monkeypatch):
    monkeypatch.setenv("CLUSTERRA_SERVER_TOKEN", "the-same-afterwards")
    with ClusterraServer(cpus=2, dir=tmp_path) as server:
        job_id = await submitted(server, "sleep 60")
        task, told = waiting(server.url, server, job_id)
        while not told:
            await asyncio.sleep(0.02)
        port = int(server.url.rpartition(":")[2])
    with ClusterraServer(cpus=2, dir=tmp_path, port=port):
        verdict = await task

    assert verdict.job.state.base == "NODE_FAIL"


@pytest.fixture(scope="module")
def forgetful():
    """A server that forgets jobs at once."""
    with ClusterraServer(cpus=4, min_job_age=1) as server:
        yield server


async def forgotten(server, job_id):
    async with AsyncClient(Access(server.url, server.token)) as client:
        while any(job.job_id == job_id for job in await client.list_jobs(server.cluster_id)):
            await asyncio.sleep(0.1)


async def test_a_job_that_was_forgotten_while_nobody_looked_is_known_from_accounting(forgetful):
    job_id = await submitted(forgetful, "exit 3")
    await forgotten(forgetful, job_id)
    task, _ = waiting(forgetful.url, forgetful, job_id, since=time.time() - 600)
    verdict = await task

    assert verdict.outcome is Outcome.ENDED
    assert (verdict.job.state.base, verdict.job.exit.code) == ("FAILED", 3)


async def test_without_accounting_such_a_job_is_lost(forgetful):
    job_id = await submitted(forgetful, "exit 0")
    await forgotten(forgetful, job_id)
    with Proxy(forgetful.url).serve() as proxy:
        proxy.fault = lambda request: (
            says(404, {"detail": "Not Found"}) if "accounting" in request else None
        )
        task, _ = waiting(proxy.url, forgetful, job_id, since=time.time() - 600)
        verdict = await task

    assert verdict.outcome is Outcome.LOST
    assert "no accounting to ask" in verdict.message


async def test_accounting_that_is_down_is_asked_again(forgetful):
    job_id = await submitted(forgetful, "exit 0")
    await forgotten(forgetful, job_id)
    downs = iter([says(502, b"")] * 3)
    with Proxy(forgetful.url).serve() as proxy:
        proxy.fault = lambda request: next(downs, None) if "accounting" in request else None
        task, _ = waiting(proxy.url, forgetful, job_id, since=time.time() - 600)

        assert (await task).job.state.succeeded


async def test_an_array_that_is_forgotten_task_by_task_is_known_as_a_whole(forgetful):
    script = "exit $(( SLURM_ARRAY_TASK_ID == 0 ? 4 : 0 ))"
    slow = f'[ "$SLURM_ARRAY_TASK_ID" = 2 ] && sleep 3; {script}'
    job_id = await submitted(forgetful, slow, array="0-2")
    watching, _ = waiting(forgetful.url, forgetful, job_id)
    await asyncio.sleep(2.5)
    # and one that comes when the failed task has been forgotten
    late, _ = waiting(forgetful.url + "/", forgetful, job_id, array="0-2")
    verdicts = await asyncio.gather(watching, late)

    for verdict in verdicts:
        assert verdict.outcome is Outcome.ENDED
        assert verdict.job.state.base == "FAILED"
        assert [task.exit.code for task in verdict.job.tasks] == [4, 0, 0]


async def test_a_number_that_another_job_has_now_is_not_ours(local):
    job_id = await submitted(local, "exit 0", name="theirs")
    task, _ = waiting(local.url, local, job_id)

    assert (await task).outcome is Outcome.LOST


async def test_a_job_whose_dependency_cannot_be_satisfied_is_stuck(local):
    first = await submitted(local, "exit 3")
    job_id = await submitted(local, "exit 0", dependency=f"afterok:{first}")
    task, _ = waiting(local.url, local, job_id)
    verdict = await task

    assert verdict.outcome is Outcome.STUCK
    assert "did not end as the dependency asks (DependencyNeverSatisfied)" in verdict.message


async def test_a_held_job_is_stuck(local):
    job_id = await submitted(local, "exit 0", hold=True)
    task, _ = waiting(local.url, local, job_id)
    verdict = await task

    assert verdict.outcome is Outcome.STUCK
    assert "it is held" in verdict.message
