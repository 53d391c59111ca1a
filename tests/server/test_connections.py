"""Tests of clusterra_server.connections: strangers, silent and slow ones, over real sockets."""

import asyncio
import socket
import sys
import time
from contextlib import ExitStack, asynccontextmanager, suppress

import httpx
import pytest
import uvicorn

from clusterra_server.backend import ReplyError
from clusterra_server.connections import Connections
from tests.support.servers import ClusterraServer


@pytest.fixture(scope="module")
def small():
    """A server that may open few files."""
    command = ("prlimit", "--nofile=300:300", sys.executable, "-m", "clusterra_server")
    with ClusterraServer(command, cpus=1) as server:
        yield server


def connect(server):
    host, _, port = server.url.removeprefix("http://").partition(":")
    return socket.create_connection((host, int(port)))


def asks(server, path="/v1/users/me"):
    headers = {"Authorization": f"Bearer {server.token}"}
    return httpx.get(server.url + path, headers=headers, timeout=30)


@pytest.mark.parametrize("words", [b"", b"GET /v1/users/me HTTP/1.1\r\nHost: h\r\n"])
def test_many_strangers_leave_a_place_for_a_user(small, words):
    with ExitStack() as stack:
        strangers = [stack.enter_context(connect(small)) for _ in range(400)]
        for each in strangers:
            # the first ones may have been cut off already
            with suppress(ConnectionError):
                each.sendall(words)

        assert asks(small).status_code == 200


def test_no_more_outputs_are_followed_than_there_are_places_for(small):
    headers = {"Authorization": f"Bearer {small.token}"}
    base = f"{small.url}/v1/clusters/{small.cluster_id}/jobs"
    job = {"environment": ["A=1"], "current_working_directory": "/mnt/efs"}
    body = {"script": "#!/bin/sh\necho up; exec sleep 600\n", "job": job}
    with httpx.Client(headers=headers, timeout=30, limits=httpx.Limits()) as client:
        job_id = client.post(f"{base}/submit", json=body).json()["job_id"]
        while not client.get(f"{base}/{job_id}/output").text:
            time.sleep(0.01)
        with ExitStack() as stack:
            path = f"{base}/{job_id}/output/stream"
            statuses = {
                stack.enter_context(client.stream("GET", path)).status_code for _ in range(80)
            }
            assert statuses == {200, 503}
            assert asks(small).status_code == 200
        client.delete(f"{base}/{job_id}")


def test_a_stranger_is_refused_and_does_not_stay(small):
    with connect(small) as stranger:
        stranger.sendall(b"POST /v1/users/me HTTP/1.1\r\nHost: h\r\nContent-Length: 99\r\n\r\n")
        said = stranger.makefile("rb").read()

    assert said.startswith(b"HTTP/1.1 401 ")


async def echo(scope, receive, send):
    """An application whose answer is as long as nobody wants to read."""
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(scope["path"].count("x") * 1000):
        message = {"type": "http.response.body", "body": b"x" * 65536, "more_body": True}
        await scope["state"]["connections"].send_in_time(send(message), scope["client"])
    await send({"type": "http.response.body", "body": b"done"})


@pytest.fixture
async def quick():
    """The port of a server that soon loses its patience."""
    async with served(Connections(1000, silent=0.3, unread=0.3)) as port:
        yield port


@pytest.fixture
async def patient():
    """The port of a server that does not."""
    async with served(Connections(1000)) as port:
        yield port


@asynccontextmanager
async def served(connections):
    """The port of a server that echoes."""

    async def app(scope, receive, send):
        await echo({**scope, "state": {"connections": connections}}, receive, send)

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(
            app, http=connections.protocol(), lifespan="off", log_level="critical"
        )
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server._serve([listener]))
        while not server.started:
            await asyncio.sleep(0.01)
        yield listener.getsockname()[1]
        server.should_exit = True
        await serving


@pytest.mark.parametrize(
    "words",
    [b"", b"GET", b"GET / HTTP/1.1\r\nHost: h\r\n", b"GET / HTTP/1.1\r\nHost: h\r\n\r\nGET / HT"],
)
async def test_a_silent_connection_is_ended(quick, words):
    reader, writer = await asyncio.open_connection("127.0.0.1", quick)
    writer.write(words)
    async with asyncio.timeout(30):
        said = b""
        with suppress(ConnectionResetError):
            said = await reader.read()
    writer.close()

    assert (b" 200 " in said) is (words.count(b"GET") == 2)


@pytest.mark.parametrize(
    "words",
    [
        b"GET /?name=",
        b"GET / HTTP/1.1\r\nHost: h\r\n" + b"X-A: " + b"y" * 1000 + b"\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n",
    ],
    ids=["address", "headers", "trailers"],
)
async def test_a_head_that_has_no_end_is_cut_off(patient, words):
    _, writer = await asyncio.open_connection("127.0.0.1", patient)
    writer.write(words)
    sent = 0
    with suppress(ConnectionError):
        while sent < 4 * 2**20:
            line = b"a" * 1000 if words.endswith(b"=") else b"X-A: " + b"y" * 1000 + b"\r\n"
            writer.write(line)
            await writer.drain()
            # the server has its turn in this loop, too
            await asyncio.sleep(0)
            sent += len(line)
    writer.close()

    assert sent < 4 * 2**20


async def test_a_body_may_be_longer_than_a_head(patient):
    size = 2**20
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{patient}") as client:
        for _ in range(3):
            assert (await client.post("/", content=b"x" * size)).text == "done"
            assert (await client.post("/", content=_pieces(size))).text == "done"


async def _pieces(size):
    for _ in range(0, size, 1000):
        yield b"x" * 1000


async def test_an_answer_that_nobody_reads_is_given_up(quick, caplog):
    reader, writer = await asyncio.open_connection("127.0.0.1", quick, limit=1)
    writer.write(b"GET /xxxx HTTP/1.1\r\nHost: h\r\n\r\n")
    async with asyncio.timeout(30):
        while "did not read its answer" not in caplog.text:
            await asyncio.sleep(0.02)
        said = b""
        with suppress(ConnectionResetError):
            while piece := await reader.read(2**20):
                said += piece
    writer.close()

    assert not said.endswith(b"done")


async def test_a_place_to_follow_is_given_back():
    connections = Connections(512)
    leaves = [connections.follow() for _ in range(256 // 3)]
    with pytest.raises(ReplyError, match="LimitNOFILE"):
        connections.follow()
    leaves.pop()()

    assert connections.follow()
