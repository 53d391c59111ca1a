"""Tests of airflow_provider_clusterra.api.client: both twins, over real sockets."""

import gzip
import inspect
import io
import socketserver
import threading
import time
import traceback
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from msgspec.structs import replace

from airflow_provider_clusterra.api import (
    Access,
    AsyncClient,
    AuthenticationError,
    Client,
    ClusterraError,
    InputError,
    JobSpec,
    NotFoundError,
    ProtocolError,
    RequestError,
    ServerError,
    TransportError,
    calls,
)
from airflow_provider_clusterra.api.errors import ONCE
from tests.api.conftest import QUICK
from tests.support.wire import Wire, headers_of, http

USER = http(200, {"id": "me", "email": "me@example.org"})
SCRIPT = "#!/bin/bash\n"


def spec(script, **fields):
    return JobSpec(script=SCRIPT + script, name="test", **fields).body()


@pytest.fixture
def client(connect, local):
    return connect(local.url, local.token)


def ended(client, cluster_id, job_id):
    end = time.monotonic() + 30
    while time.monotonic() < end:
        job = client.get_job(cluster_id, job_id)
        if job.state.finished:
            return job
        time.sleep(0.02)
    raise AssertionError(f"job {job_id} does not end")


def test_a_session_says_who_it_is_and_what_it_may_use(client, local):
    assert client.get_user().email == "you@local.clusterra"
    assert [cluster.cluster_id for cluster in client.list_clusters()] == [local.cluster_id]


def test_a_bearer_token_does_as_well(connect, local):
    assert connect(local.url, local.token, auth="bearer").get_user().email


def test_a_job_runs_and_its_output_is_read_to_the_byte(client, local):
    body = spec("printf 'a\\r b\\n\\xff'", environment={"X": "1"})
    submitted = client.submit_job(local.cluster_id, body)
    job = ended(client, local.cluster_id, submitted.job_id)

    assert job.raise_for_state() is job
    assert submitted.problems == ()
    assert client.read_output(local.cluster_id, job.job_id).data == b"a\r b\n\xff"
    assert job.job_id in [each.job_id for each in client.list_jobs(local.cluster_id)]


def test_of_a_long_output_only_the_end_is_kept(client, local):
    job_id = client.submit_job(local.cluster_id, spec("seq 1 200000")).job_id
    ended(client, local.cluster_id, job_id)
    output = client.read_output(local.cluster_id, job_id, keep=7)

    assert output.data == b"200000\n"
    assert output.skipped + len(output.data) == len("".join(f"{n}\n" for n in range(1, 200001)))


def test_a_job_is_cancelled_once(client, local):
    job_id = client.submit_job(local.cluster_id, spec("sleep 60")).job_id

    assert client.cancel_job(local.cluster_id, job_id) is True
    assert ended(client, local.cluster_id, job_id).state.base == "CANCELLED"
    assert client.cancel_job(local.cluster_id, job_id) is False


def test_a_job_that_nobody_knows_is_not_found(client, local):
    with pytest.raises(NotFoundError, match="Invalid job id"):
        client.get_job(local.cluster_id, 999_999)
    assert client.cancel_job(local.cluster_id, 999_999) is False


def test_a_cluster_that_nobody_knows_is_not_found(client):
    with pytest.raises(NotFoundError, match="'nowhere' not found"):
        client.list_jobs("nowhere")


def test_a_wrong_session_is_refused_at_once_and_not_shown(connect, local):
    with pytest.raises(AuthenticationError, match="sign in with the browser") as caught:
        connect(local.url, "wr0ng-cookie").get_user()

    assert "wr0ng-cookie" not in str(caught.value)


def test_a_bad_field_is_refused_in_the_servers_words(client, local):
    body = spec("true", partition="nowhere")
    with pytest.raises(RequestError, match="Invalid partition name"):
        client.submit_job(local.cluster_id, body)


@pytest.mark.parametrize(
    "bad",
    [
        http(503, b"busy"),
        http(502, b"<html>Bad gateway</html>"),
        http(511, b""),
        http(429, b"slow down", {"Retry-After": "0"}),
        http(200, b'{"id": "me", "ema'),
        http(200, b""),
        USER[:-10],
        None,
    ],
    ids=repr,
)
def test_a_question_is_asked_again_after_a_hiccup(connect, bad):
    with Wire(bad, USER) as wire:
        assert connect(wire.url).get_user().email == "me@example.org"
        assert len(wire.requests) == 2


def test_a_question_is_not_asked_for_ever(connect):
    with Wire(http(503, b"busy")) as wire:
        with pytest.raises(ServerError, match=r"503 GET /v1/users/me: busy"):
            connect(wire.url).get_user()
        assert len(wire.requests) == QUICK.tries


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (http(500, b"oops"), ServerError),
        (http(504, b""), ServerError),
        (http(200, b"{}"), ProtocolError),
        (http(200, b'{"job_i'), ProtocolError),
        (http(200, {"job_id": 7})[:-3], TransportError),
        (None, TransportError),
    ],
    ids=repr,
)
def test_a_submit_is_never_repeated_once_it_may_have_left(connect, answer, kind):
    with Wire(answer) as wire:
        with pytest.raises(kind):
            connect(wire.url).submit_job("c1", spec("true"))
        assert len(wire.requests) == 1


def test_a_submit_that_was_not_taken_is_sent_again(connect):
    with Wire(http(429, b"", {"Retry-After": "0"}), http(200, {"job_id": 7})) as wire:
        assert connect(wire.url).submit_job("c1", spec("true")).job_id == 7
        assert len(wire.requests) == 2


def test_a_submit_whose_answer_takes_too_long_may_have_arrived(connect):
    with Wire(b"") as wire:
        wire.silent.set()
        with pytest.raises(TransportError, match="no answer in time") as caught:
            connect(wire.url, timeout=0.2).submit_job("c1", spec("true"))
        assert caught.value.may_have_arrived
        while not wire.requests:
            # a busy machine reads it later than the client gives up
            time.sleep(0.01)
        assert len(wire.requests) == 1


def test_a_host_that_is_not_there_was_not_reached(connect):
    with Wire(b"") as wire:
        url = wire.url
    with pytest.raises(TransportError, match="Is the connection's host right") as caught:
        connect(url).submit_job("c1", spec("true"))

    assert not caught.value.may_have_arrived


def test_an_answer_with_a_job_id_is_a_job_whatever_its_status(connect):
    said = {"job_id": 7, "errors": [{"error": "Bad account", "error_number": 2045}]}
    with Wire(http(500, said)) as wire:
        submitted = connect(wire.url).submit_job("c1", spec("true"))

    assert submitted.job_id == 7
    assert [problem.number for problem in submitted.problems] == [2045]


def test_a_redirect_is_not_followed_with_the_session(connect):
    with Wire(USER) as elsewhere:
        answer = http(307, b"", {"Location": f"{elsewhere.url}/v1/users/me"})
        with Wire(answer) as wire, pytest.raises(RequestError, match="which is not followed"):
            connect(wire.url).get_user()
        assert elsewhere.requests == []


def test_a_session_for_loopback_goes_through_no_proxy(connect, local, monkeypatch):
    with Wire(USER) as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)

        assert connect(local.url, local.token).get_user().email == "you@local.clusterra"
        assert proxy.requests == []


def test_a_cookie_of_the_servers_is_not_kept(connect):
    answer = http(
        200, {"email": "me@example.org"}, {"Set-Cookie": "clusterra_session=other; Path=/"}
    )
    with Wire(answer) as wire:
        client = connect(wire.url)
        client.get_user()
        client.get_user()

    assert [headers_of(request)["cookie"] for request in wire.requests] == [
        "clusterra_session=s3cret-cookie"
    ] * 2


def test_everything_else_is_told_too(client, local):
    cluster_id = local.cluster_id
    job_id = client.submit_job(cluster_id, spec("exit 0", environment={"X": "1"})).job_id
    ended(client, cluster_id, job_id)

    assert [str(row.state) for row in client.list_states(cluster_id, [job_id])] == ["COMPLETED"]
    assert job_id in [job.job_id for job in client.list_accounting(cluster_id, job_name="test")]
    (kept,) = client.list_accounting(cluster_id, job_ids=[job_id])
    assert kept.state.succeeded
    assert client.list_nodes(cluster_id)[0].cpus >= 8
    assert client.get_stats(cluster_id)["jobs_submitted"] >= 1
    assert client.read_metrics(cluster_id).endswith("# EOF\n")
    assert "stream_output" in [route.name for route in client.list_routes()]


def upload(url, content, size=None):
    with Client(Access(url, "s3cret-cookie"), retry=QUICK) as client:
        return client.upload_file(
            "c1",
            "a.txt",
            "data",
            len(content) if size is None else size,
            lambda: io.BytesIO(content),
        )


def grant(wire):
    return http(200, {"upload_url": f"{wire.url}/b/a.txt?X-Amz-Signature=5ig", "key": "data/me/a"})


def test_an_upload_arrives_whole_and_its_key_is_returned(local):
    content = bytes(range(256)) * 10_000
    with Client(Access(local.url, local.token)) as client:
        key = client.upload_file(
            local.cluster_id, "été/a b.bin", "data", len(content), lambda: io.BytesIO(content)
        )

    assert key == "data/you/été/a b.bin"
    assert Path(local.folder, "s3", local.cluster_id, key).read_bytes() == content


def test_the_storage_sees_no_session_and_a_length():
    with Wire(http(200)) as storage, Wire(grant(storage)) as wire:
        assert upload(wire.url, b"content") == "data/me/a"

    headers = headers_of(storage.requests[0])
    assert headers["content-length"] == "7"
    assert {"cookie", "authorization", "content-type", "transfer-encoding"}.isdisjoint(headers)
    assert storage.requests[0].endswith(b"\r\n\r\ncontent")


def test_a_long_answer_arrives_whole(connect):
    output = bytes(range(256)) * 20_000
    with Wire(http(200, output)) as wire:
        assert connect(wire.url).read_output("c1", 1, keep=len(output)).data == output


def test_uploads_share_a_connection_and_no_cookie():
    said = http(200, headers={"Connection": "keep-alive", "Set-Cookie": "mine=1"})
    with Wire(said) as storage, Wire(grant(storage)) as wire:
        with Client(Access(wire.url, "s3cret-cookie"), retry=QUICK) as client:
            for _ in range(3):
                client.upload_file("c1", "a.txt", "data", 1, lambda: io.BytesIO(b"x"))

        assert len(storage.requests) == 3
        assert storage.connections == 1
        assert "cookie" not in headers_of(storage.requests[-1])


def test_an_address_that_has_expired_is_replaced_by_a_fresh_one():
    expired = http(403, b"<Error><Code>AccessDenied</Code><Message>Request has expired</Message>")
    with Wire(expired, http(200)) as storage, Wire(grant(storage)) as wire:
        upload(wire.url, b"content")

        assert len(wire.requests) == 2
        assert len(storage.requests) == 2


def test_an_uploads_error_shows_no_signature():
    refused = http(403, b"<Error><Code>SignatureDoesNotMatch</Code><Message>No</Message></Error>")
    with Wire(refused) as storage, Wire(grant(storage)) as wire:
        with pytest.raises(Exception, match="SignatureDoesNotMatch: No") as caught:
            upload(wire.url, b"content")
        assert len(storage.requests) == 1

    assert "5ig" not in str(caught.value)


@pytest.mark.parametrize("size", [3, 100])
def test_a_file_that_changes_while_it_is_read_is_no_upload(size):
    with Wire(http(200)) as storage, Wire(grant(storage)) as wire:
        with pytest.raises(InputError, match="changed while it was uploaded"):
            upload(wire.url, b"content", size=size)
        assert storage.requests == []


def test_patience_belongs_to_the_request(connect):
    with Wire(http(503), USER) as wire:
        with pytest.raises(ServerError):
            connect(wire.url).send(calls.get_user(), retry=ONCE)

        assert len(wire.requests) == 1
        assert connect(wire.url, retry=ONCE).send(calls.get_user(), retry=QUICK).email


@pytest.mark.parametrize("kind", [Client, AsyncClient])
async def test_a_renewed_session_takes_the_old_ones_place(kind):
    with Wire(USER) as wire:
        client = kind(Access(wire.url, "s3cret-old"))
        client.access = Access(wire.url, "s3cret-new")
        said = client.get_user()
        if kind is AsyncClient:
            await said
            await client.aclose()
        else:
            client.close()

        assert headers_of(wire.requests[0])["cookie"] == "clusterra_session=s3cret-new"


def test_the_twins_have_the_same_names_and_signatures():
    only_sync = {"close", "upload_file", "download_file"}
    only_async = {"aclose", "exchange", "read_output_pieces", "stream_output"}
    sync = {name for name, _ in inspect.getmembers(Client, callable) if name[0] != "_"}
    twin = {name for name, _ in inspect.getmembers(AsyncClient, callable) if name[0] != "_"}

    assert sync - only_sync == twin - only_async
    for name in sync - only_sync:
        assert inspect.signature(getattr(Client, name)) == inspect.signature(
            getattr(AsyncClient, name)
        )


def test_a_body_that_drips_has_an_end(connect):
    begin = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n"
    with dripping(begin) as url, pytest.raises(TransportError, match="no answer in time"):
        connect(url, timeout=0.2).send(calls.get_user(), retry=ONCE)


async def test_headers_that_drip_have_an_end_in_an_event_loop():
    with dripping(b"HTTP/1.1 200 OK\r\n") as url:
        async with AsyncClient(Access(url, "s3cret", timeout=0.2)) as client:
            with pytest.raises(TransportError, match="no answer in time"):
                await client.send(calls.get_user(), retry=ONCE)


@contextmanager
def dripping(begin):
    """A server that sends a beginning, and then a byte each 50 ms for as long as it is read."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self):
            self.request.recv(65536)
            with suppress(OSError):
                self.request.sendall(begin)
                while not done.wait(0.05):
                    self.request.sendall(b" ")

    done = threading.Event()
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            done.set()
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
def test_an_answer_has_a_cap_after_decompression(connect, encoding):
    body = b"[" + b" " * 100_000 + b"]"
    sent = gzip.compress(body) if encoding == "gzip" else body
    headers = {"Content-Encoding": encoding, "Content-Type": "application/json"}
    with Wire(http(200, sent, headers)) as wire:
        call = replace(calls.list_clusters(), largest=50_000)
        with pytest.raises(ProtocolError, match="more than 50000 bytes"):
            connect(wire.url).send(call, retry=ONCE)
        assert connect(wire.url).list_clusters() == []


@pytest.mark.parametrize("status", [200, 400, 404, 500])
@pytest.mark.parametrize("kind", ["text/plain", "text/html", "application/json"])
def test_an_api_that_repeats_the_session_does_not_spread_it(connect, status, kind):
    said = (
        b'{"error": "sent: clusterra_session=s3cret-cookie"}'
        if "json" in kind
        else (b"<p>s3cret-cookie" if "html" in kind else b"you sent s3cret-cookie")
    )
    with (
        Wire(http(status, said, {"Content-Type": kind})) as wire,
        pytest.raises(ClusterraError) as caught,
    ):
        connect(wire.url).send(calls.list_clusters(), retry=ONCE)

    assert "s3cret-cookie" not in f"{caught.value!r} {vars(caught.value)}"


@pytest.mark.parametrize(
    "answer", [None, b"no http", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx"]
)
def test_no_frame_of_an_error_holds_the_session(connect, answer):
    """What error reporters collect: the variables of each frame of an error and of its causes."""
    with Wire(answer) as wire, pytest.raises(TransportError) as caught:
        connect(wire.url).send(calls.get_user(), retry=ONCE)
    shown = []
    error = caught.value
    while error is not None:
        frames = traceback.walk_tb(error.__traceback__)
        shown += [
            repr(frame.f_locals) for frame, _ in frames if "/tests/" not in frame.f_code.co_filename
        ]
        error = error.__cause__ or error.__context__

    assert shown
    assert "s3cret-cookie" not in " ".join(shown)


def test_nobody_logs_a_signature(caplog):
    caplog.set_level("DEBUG")
    with Wire(http(200)) as storage, Wire(grant(storage)) as wire:
        upload(wire.url, b"content")

    assert "PUT" in caplog.text  # httpcore's
    assert "5ig" not in caplog.text
