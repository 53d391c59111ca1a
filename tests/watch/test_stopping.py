"""Tests of airflow_provider_clusterra.watch.eventloop: what a loop's end leaves open, and large answers."""

import asyncio
import gc
import json

import pytest

from airflow_provider_clusterra.api import Access, AsyncClient
from airflow_provider_clusterra.api.answers import Answer
from airflow_provider_clusterra.api.calls import get_job, list_jobs
from airflow_provider_clusterra.watch import eventloop
from airflow_provider_clusterra.watch.eventloop import cancel_and_wait
from airflow_provider_clusterra.watch.verdict import WaitSpec
from airflow_provider_clusterra.watch.wait import Wait
from tests.support.servers import running
from tests.support.waits import Log


class Work:
    """Something that takes its time to clean up, and says how that went."""

    def __init__(self):
        self.cleaned = asyncio.Event()

    async def run(self):
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0.05)
            self.cleaned.set()


@pytest.fixture
async def work():
    return Work()


async def begun(work):
    task = asyncio.create_task(work.run())
    await asyncio.sleep(0)
    return task


async def test_a_task_that_is_stopped_has_cleaned_up(work):
    task = await begun(work)
    await cancel_and_wait(task)

    assert task.cancelled()
    assert work.cleaned.is_set()


async def test_a_task_that_loses_a_cancel_is_cancelled_again():
    async def lose_one():
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            await asyncio.sleep(3600)

    task = asyncio.create_task(lose_one())
    await asyncio.sleep(0)
    async with asyncio.timeout(30):
        await cancel_and_wait(task, again=0.01)

    assert task.cancelled()


async def test_a_cancel_of_who_waits_is_his_own_and_the_task_cleans_up_all_the_same(work):
    task = await begun(work)
    stopping = asyncio.create_task(cancel_and_wait(task))
    await asyncio.sleep(0)
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    await work.cleaned.wait()


async def test_a_task_that_has_ended_or_failed_is_stopped_already():
    async def fail():
        raise ValueError

    task = asyncio.create_task(fail())
    with pytest.raises(ValueError):  # noqa: PT011 - it has no words
        await task
    await cancel_and_wait(task)


async def _runs_for_two_looks(scope, receive, send):
    last = scope["path"].rpartition("/")[2]
    status, body = 404, b"404 page not found"
    if last.isdigit():
        looks[last] = looks.get(last, 0) + 1
        state = b"RUNNING" if looks[last] < 3 else b"COMPLETED"
        status, body = (
            200,
            b'{"jobs": [{"job_id": %b, "job_state": ["%b"]}]}' % (last.encode(), state),
        )
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    # all connections are in use at the same time
    await asyncio.sleep(0.02)
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


looks: dict[str, int] = {}


def wait_for(url, job_id):
    async def credentials():
        return Access(url, "s3cret")

    spec = WaitSpec(job_id, "c1", "conn", poll_interval=0.01)
    return Wait(spec, credentials, Log()).watch()


def test_a_loop_that_ends_with_its_last_wait_leaves_no_connection_open():
    async def wait_for_all():
        await asyncio.gather(*(wait_for(url, job_id) for job_id in range(1, 6)))

    looks.clear()
    with running(_runs_for_two_looks) as url:
        asyncio.run(wait_for_all())
    # an open connection warns when it is collected, and a warning fails the test
    gc.collect()


def test_a_loop_that_ends_before_its_waits_leaves_no_connection_open():
    async def leave():
        waits = [asyncio.create_task(wait_for(url, job_id)) for job_id in range(1, 6)]
        while len(looks) < len(waits):
            await asyncio.sleep(0.01)

    looks.clear()
    with running(_runs_for_two_looks) as url:
        asyncio.run(leave())
    gc.collect()


def test_a_large_answer_that_nobody_waits_for_any_more_leaves_no_process_behind(monkeypatch):
    begun = []
    real = asyncio.create_subprocess_exec

    async def begin(*words, **fields):
        begun.append(await real(*words, **fields))
        return begun[-1]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", begin)
    call = list_jobs("c1")
    answer = Answer(call.request, 200, {}, b'{"jobs": []}' + b" " * eventloop.LARGE)

    async def leave():
        task = asyncio.create_task(eventloop.read_jobs_answer(call, answer))
        while not begun:
            await asyncio.sleep(0.001)
        await cancel_and_wait(task)

    asyncio.run(leave())
    gc.collect()

    assert begun[0].returncode is not None


async def test_a_large_job_counts_whatever_is_complained_of_beside_it():
    task = {"job_id": 8, "array_job_id": 7, "array_task_id": 0, "job_state": ["COMPLETED"]}
    body = json.dumps({"jobs": [task], "errors": [{"error_number": 12345}]}).encode()
    call = get_job("c1", 7)
    for size in (0, eventloop.LARGE):
        answer = Answer(call.request, 200, {}, body + b" " * size)

        assert (await eventloop.read_job_answer(call, answer, 7)).state.base == "COMPLETED"


@pytest.mark.parametrize("turns", range(1, 5))
def test_a_client_whose_closing_is_cancelled_closes_all_the_same(turns):
    async def close():
        client = AsyncClient(Access(url, "s3cret"))
        await asyncio.gather(*(client.get_job("c1", job_id) for job_id in range(1, 6)))
        closing = asyncio.create_task(client.aclose())
        for _ in range(turns):
            await asyncio.sleep(0)
        await cancel_and_wait(closing)

    with running(_runs_for_two_looks) as url:
        asyncio.run(close())
    gc.collect()
