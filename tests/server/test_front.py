"""Tests of clusterra-server as a process, in front of a slurmrestd that says what it is told."""

import re
import socket
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from clusterra_server.storage import find_rclone
from tests.support.ports import free_port
from tests.support.servers import ClusterraServer
from tests.support.wire import Wire, http

OFFERS = http(200, {"paths": {"/slurm/v0.0.44/jobs/": {}}})
ORDINARY = [OFFERS, http(200, {}), http(511, {})]
"""What a server asks at its start, with an ordinary user's token."""
JOBS = "/v1/clusters/clusloc1/jobs"


@pytest.fixture
def token_file(tmp_path):
    """Alice's Slurm token."""
    path = tmp_path / "token"
    path.write_text("e30.eyJzdW4iOiAiYWxpY2UifQ.c2VjcmV0")
    path.chmod(0o600)
    return path


@pytest.fixture
def serve(tmp_path, token_file):
    """Starts a server in front of an address."""

    def start(url, **options):
        defaults = {"token_file": token_file, "output_dir": tmp_path}
        made = ClusterraServer(backend="slurm", slurmrestd=url, **{**defaults, **options})
        return stack.enter_context(made)

    with ExitStack() as stack:
        yield start


@pytest.fixture
def asking():
    """Clients signed in to servers."""

    def ask(server):
        made = httpx.Client(
            base_url=server.url, headers={"Authorization": f"Bearer {server.token}"}, timeout=30
        )
        return stack.enter_context(made)

    with ExitStack() as stack:
        yield ask


def peak_mb(pid):
    """The most memory that a process ever had."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024


def test_a_long_list_is_passed_on_in_pieces(serve, asking):
    jobs = http(200, b"x" * 40_000_000, {"Content-Type": "application/json"})
    with Wire(*ORDINARY, jobs) as wire:
        server = serve(wire.url)
        client = asking(server)
        before = peak_mb(server.pid)
        answers = [client.get(JOBS) for _ in range(3)]

    assert {len(answer.content) for answer in answers} == {40_000_000}
    assert answers[0].headers["content-type"] == "application/json"
    assert peak_mb(server.pid) - before < 20


def test_an_answer_that_breaks_off_does_not_look_whole(serve, asking):
    cut = http(200, b"x" * 1_000_000)[:-1000]
    with Wire(*ORDINARY, cut) as wire:
        server = serve(wire.url)
        with pytest.raises(httpx.RemoteProtocolError):
            asking(server).get(JOBS)
    server.stop()

    assert "broke off in the middle of an answer" in server.errors
    assert "Traceback" not in server.errors


def test_a_reader_who_leaves_early_takes_no_connection_along(serve, asking):
    with Wire(*ORDINARY, http(200, b"x" * 5_000_000)) as wire:
        server = serve(wire.url)
        client = asking(server)
        # there are 100 to slurmrestd
        for _ in range(105):
            with client.stream("GET", JOBS) as answer:
                assert next(answer.iter_raw())
        whole = client.get(JOBS)
    server.stop()

    assert len(whole.content) == 5_000_000
    assert server.errors == ""


def test_a_page_of_an_answer_that_breaks_off_says_so(serve, asking):
    with Wire(*ORDINARY, http(200, b"x" * 1000)[:-10]) as wire:
        answer = asking(serve(wire.url)).get("/manage/clusloc1/jobs/7")

    assert answer.status_code == 502


def test_open_streams_end_with_the_server_and_nothing_is_said_of_it(serve, asking, tmp_path):
    (tmp_path / "job_7.out").write_text("one\n")
    with Wire(*ORDINARY) as wire, ExitStack() as stack:
        server = serve(wire.url)
        client = asking(server)
        streams = [
            stack.enter_context(client.stream("GET", f"{JOBS}/7/output/stream")) for _ in range(20)
        ]
        pieces = [stream.iter_raw() for stream in streams]
        for each in pieces:
            assert next(each) == b"data: one\ndata: \n\n"

        assert server.stop() == 0
        assert [b"".join(each) for each in pieces] == [b""] * 20
    assert server.errors == ""


def test_a_request_that_is_under_way_at_the_end_is_cut_off_without_a_word(serve, asking):
    with Wire(*ORDINARY, http(200, {})) as wire:
        server = serve(wire.url)
        client = asking(server)
        wire.silent.set()
        request = client.build_request("GET", JOBS)
        with socket.create_connection((request.url.host, request.url.port)) as connection:
            connection.sendall(
                f"GET {JOBS} HTTP/1.1\r\nHost: h\r\n"
                f"Authorization: Bearer {server.token}\r\n\r\n".encode()
            )
            while len(wire.requests) <= len(ORDINARY):
                time.sleep(0.01)

            assert server.stop() == 0
            assert b" 200 " not in connection.makefile("rb").read()
    assert server.errors == ""


def listens(port):
    """Whether there is a server."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def s3(tmp_path, monkeypatch):
    """The address of a bucket at an S3 server, and the folder where it keeps it."""
    port = free_port()
    (tmp_path / "s3/bucket").mkdir(parents=True)
    process = subprocess.Popen(
        [find_rclone(), "serve", "s3", "--addr", f"127.0.0.1:{port}", tmp_path / "s3"],
        env={"HOME": str(tmp_path), "RCLONE_AUTH_KEY": '"the-key,the-secret"'},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "the-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "the-secret")
    try:
        while not listens(port):
            assert process.poll() is None
            time.sleep(0.02)
        yield f"http://127.0.0.1:{port}/bucket", tmp_path / "s3/bucket"
    finally:
        process.terminate()
        process.wait()


def test_uploads_go_to_the_s3_endpoint_that_is_given(serve, asking, s3):
    address, folder = s3
    storage = "/v1/clusters/clusloc1/storage"
    with Wire(*ORDINARY) as wire:
        client = asking(serve(wire.url, s3=address))
        said = client.post(f"{storage}/presigned-url", json={"filename": "a/b c.txt"}).json()
        sent = httpx.put(said["upload_url"], content=b"hello")
        back = client.post(f"{storage}/download-url", json={"key": said["key"]}).json()

        assert sent.status_code == 200
        assert (folder / "data/alice/a/b c.txt").read_bytes() == b"hello"
        assert httpx.get(back["download_url"]).content == b"hello"
        assert said["upload_url"].startswith(f"{address}/data/alice/a/b%20c.txt?")
        assert httpx.put(said["upload_url"].partition("?")[0], content=b"evil").status_code >= 400
