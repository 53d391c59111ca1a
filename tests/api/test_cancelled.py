"""A request in an event loop ends when its task is cancelled, at whatever moment that is."""

import asyncio

import pytest

from airflow_provider_clusterra.api import Access, AsyncClient, Retry
from tests.support.ports import free_port
from tests.support.wire import Wire, http

MOMENTS = 40
"""Turns of the event loop: more than it takes to connect and receive an answer."""
WITHIN = 2.0
"""Seconds for which a request that goes on is waited for: those that hold up no one end at once."""


async def ask(client, cluster_id):
    await client.list_jobs(cluster_id)


async def read_output(client, cluster_id):
    async for _ in client.read_output_pieces(cluster_id, 1):
        pass


async def follow_output(client, cluster_id):
    async for _ in client.stream_output(cluster_id, 1):
        pass


async def turns(number):
    for _ in range(number):
        await asyncio.sleep(0)


async def message_of_the_cancel(request):
    try:
        await request
    except asyncio.CancelledError as cancel:
        return cancel.args


async def not_cancelled(access, request_of):
    """The moments at which a cancel does not end a request, or loses its message.

    By a message Airflow knows a user's kill, after which the job is cancelled.
    """
    lost = []
    for moment in range(1, MOMENTS):
        async with AsyncClient(access, retry=Retry(tries=1)) as client:
            task = asyncio.create_task(message_of_the_cancel(request_of(client, "c1")))
            await turns(moment)
            if not task.cancel("by a user"):
                # the request had already ended
                break
            await asyncio.wait({task}, timeout=WITHIN)
            if not task.done() or task.exception() or task.result() != ("by a user",):
                lost.append(moment)
    assert moment > 1
    return lost


@pytest.fixture
def silent():
    """A server that takes each request and never answers."""
    with Wire(http()) as wire:
        wire.silent.set()
        yield wire.url


@pytest.mark.parametrize("request_of", [ask, read_output, follow_output])
async def test_a_cancel_ends_a_request_that_is_never_answered(silent, request_of):
    assert await not_cancelled(Access(silent, "s3cret-cookie"), request_of) == []


@pytest.mark.parametrize("request_of", [ask, read_output, follow_output])
async def test_a_cancel_ends_a_request_to_a_host_that_does_not_speak_tls(silent, request_of):
    access = Access(silent.replace("http:", "https:"), "s3cret-cookie", verify=False)

    assert await not_cancelled(access, request_of) == []


async def test_a_request_that_is_cancelled_twice_leaves_no_task(silent):
    left = []
    for moment in range(1, MOMENTS):
        async with AsyncClient(Access(silent, "s3cret-cookie"), retry=Retry(tries=1)) as client:
            task = asyncio.create_task(ask(client, "c1"))
            await turns(moment)
            task.cancel()
            await turns(1)
            task.cancel()
            await asyncio.wait({task}, timeout=WITHIN)
            left += [moment] if len(asyncio.all_tasks()) > 1 else []

    assert left == []


@pytest.mark.parametrize("request_of", [ask, read_output, follow_output])
async def test_a_cancel_ends_a_request_at_any_moment(local, request_of):
    assert await not_cancelled(Access(local.url, local.token), request_of) == []


@pytest.mark.parametrize("request_of", [ask, read_output, follow_output])
async def test_a_cancel_ends_a_request_to_a_host_that_refuses_it(request_of):
    access = Access(f"http://127.0.0.1:{free_port()}", "s3cret-cookie")

    assert await not_cancelled(access, request_of) == []
