"""Tests of AsyncClient.stream_output, over real sockets."""

import asyncio

import pytest

from airflow_provider_clusterra.api import (
    Access,
    AsyncClient,
    AuthenticationError,
    NotFoundError,
    ProtocolError,
    ServerError,
    TransportError,
)
from tests.support.wire import Wire, http

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n"


async def pieces(wire):
    async with AsyncClient(Access(wire.url, "s")) as client:
        return [piece async for piece in client.stream_output("c1", 7)]


async def test_a_real_jobs_output_is_followed_to_the_byte(local):
    script = (
        "#!/bin/bash\nfor n in 1 2 3; do printf 'step %d\\r' $n; sleep 0.2; done; echo; sleep 30\n"
    )
    job = {"environment": ["A=1"], "current_working_directory": "/mnt/efs"}
    async with AsyncClient(Access(local.url, local.token)) as client:
        body = {"script": script, "job": job}
        job_id = (await client.submit_job(local.cluster_id, body)).job_id
        async with asyncio.timeout(30):
            while True:
                try:
                    if (await client.read_output(local.cluster_id, job_id)).data:
                        break
                except NotFoundError:
                    pass
                await asyncio.sleep(0.01)
            got = b""
            stream = client.stream_output(local.cluster_id, job_id)
            async for piece in stream:
                got += piece
                if got.endswith(b"\n"):
                    break
            await stream.aclose()
        await client.cancel_job(local.cluster_id, job_id)

    assert got == b"step 1\rstep 2\rstep 3\r\n"


async def test_an_output_that_is_not_there_is_not_found(local):
    async with AsyncClient(Access(local.url, local.token)) as client:
        with pytest.raises(NotFoundError, match="the output cannot be read: No such file"):
            async for _ in client.stream_output(local.cluster_id, 999_999):
                pass


async def test_a_stream_that_ends_gives_all_it_had():
    with Wire(HEAD + b"\r\ndata: a\ndata: b\n\ndata: c") as wire:
        assert await pieces(wire) == [b"a\nb", b"c"]


async def test_a_stream_that_breaks_says_so():
    broken = HEAD + b"Transfer-Encoding: chunked\r\n\r\n9\r\ndata: a\n\n\r\n9\r\nda"
    with Wire(broken) as wire, pytest.raises(TransportError):
        await pieces(wire)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (http(401, {"error": "no"}), AuthenticationError),
        (http(404, {"error": "log not found"}), NotFoundError),
        (http(404, b"404 page not found"), ServerError),
        (http(200, b"<html>"), ProtocolError),
        (None, TransportError),
    ],
    ids=repr,
)
async def test_what_is_no_stream_is_an_error(answer, kind):
    with Wire(answer) as wire:
        with pytest.raises(kind):
            await pieces(wire)
        assert len(wire.requests) == 1


async def test_a_job_may_be_silent_for_longer_than_an_answer_may_take(local):
    script = "#!/bin/bash\necho one; sleep 1.5; echo two; sleep 30\n"
    job = {"environment": ["A=1"], "current_working_directory": "/mnt/efs"}
    async with AsyncClient(Access(local.url, local.token, timeout=1.0)) as client:
        body = {"script": script, "job": job}
        job_id = (await client.submit_job(local.cluster_id, body)).job_id
        await asyncio.sleep(0.3)
        got = b""
        async with asyncio.timeout(30):
            async for piece in client.stream_output(local.cluster_id, job_id):
                got += piece
                if got.endswith(b"two\n"):
                    break
        await client.cancel_job(local.cluster_id, job_id)

    assert got == b"one\ntwo\n"
