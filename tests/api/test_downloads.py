"""Tests of downloads: a file in as many parts as it takes."""

import io
import time

import pytest

from airflow_provider_clusterra.api import (
    Access,
    Client,
    Download,
    JobSpec,
    NotFoundError,
    ProtocolError,
    Retry,
    TransportError,
)
from airflow_provider_clusterra.api.calls import read_files
from tests.support.recorded import answer
from tests.support.wire import Wire, headers_of, http

CONTENT = bytes(range(256)) * 1000
QUICK = Retry(tries=3, first=0.001, cap=0.001)


def part(first, end=256_000, *, sent=None, etag='"1"', status=206):
    """A part of the content, of which perhaps fewer bytes are sent than it says."""
    headers = {"ETag": etag, "Content-Length": str(end - first)}
    if first or status == 206:
        headers["Content-Range"] = f"bytes {first}-{end - 1}/{len(CONTENT)}"
    head = http(status, b"", headers)
    return head.replace(b"Content-Length: 0\r\n", b"") + CONTENT[first:end][:sent]


def download(*answers):
    """What arrives, and what the storage was asked."""
    with Wire(*answers) as storage:
        url = f"{storage.url}/b/k?X-Amz-Signature=5ig"
        with (
            Wire(http(200, {"download_url": url})) as wire,
            Client(Access(wire.url, "s3cret-cookie"), retry=QUICK) as client,
        ):
            file = Download("k", lambda: client.presign_file("c1", 7, "k"))
            arrived = b"".join(client.download_file(file))
        assert file.offset == file.size == len(arrived)
        return arrived, [headers_of(each) for each in storage.requests]


def test_a_file_arrives_and_the_storage_sees_no_session():
    arrived, (asked,) = download(part(0, status=200))

    assert arrived == CONTENT
    assert asked["accept-encoding"] == "identity"
    assert {"cookie", "authorization", "range"}.isdisjoint(asked)


def test_after_each_break_only_the_rest_is_asked_for():
    broken = [part(0, sent=1000, status=200), part(1000, sent=0), part(1000, sent=70_000), None]
    arrived, asked = download(*broken, part(71_000))

    assert arrived == CONTENT
    assert [each.get("range") for each in asked] == [
        None,
        *["bytes=1000-"] * 2,
        *["bytes=71000-"] * 2,
    ]


def test_more_breaks_than_tries_are_no_end_as_long_as_something_arrives():
    steps = range(0, len(CONTENT), len(CONTENT) // 10)
    arrived, asked = download(*(part(first, sent=len(CONTENT) // 10) for first in steps))

    assert arrived == CONTENT
    assert len(asked) == 10


def test_an_answer_in_chunks_that_has_a_length_too_is_read_as_chunks():
    content = CONTENT * 8
    head = http(200, b"", {"Transfer-Encoding": "chunked", "Content-Length": str(len(content))})
    chunks = b"%x\r\n%b\r\n" % (len(CONTENT), CONTENT) * 8 + b"0\r\n\r\n"

    assert download(head.replace(b"Content-Length: 0\r\n", b"") + chunks)[0] == content


def test_a_storage_that_knows_no_ranges_sends_it_all_again():
    arrived, _ = download(part(0, sent=1000, status=200), part(0, status=200))

    assert arrived == CONTENT


def test_a_part_is_one_whatever_the_answers_status_is():
    assert download(part(0, sent=9, status=200), part(9, status=200))[0] == CONTENT


CHUNKED = {"Transfer-Encoding": "chunked", "ETag": '"1"'}


def in_chunks(first=0, *, sent=None, status=200, total="256000"):
    """The rest of the content, whose length its head does not say."""
    headers = dict(CHUNKED)
    if status == 206:
        headers["Content-Range"] = f"bytes {first}-{len(CONTENT) - 1}/{total}"
    rest = CONTENT[first:][:sent]
    head = http(status, b"", headers).replace(b"Content-Length: 0\r\n", b"")
    return head + b"%x\r\n%b\r\n" % (len(rest), rest) + (b"" if sent else b"0\r\n\r\n")


NO_MORE = http(416, b"", {"Content-Range": f"bytes */{len(CONTENT)}"})


@pytest.mark.parametrize(
    "answers",
    [
        [in_chunks(sent=1000), part(1000)],
        [in_chunks(sent=1000), in_chunks(1000, status=206)],
        [in_chunks(sent=1000), in_chunks()],
        [part(0, sent=1000, status=200), in_chunks(1000, status=206, total="*")],
        [in_chunks(sent=1000), in_chunks(1000, status=206, total="*"), NO_MORE],
        [
            in_chunks(sent=1000),
            http(206, CONTENT[1000:2000], {"Content-Range": "bytes 1000-1999/*", "ETag": '"1"'}),
            in_chunks(2000, status=206, total="*"),
            NO_MORE,
        ],
        [in_chunks(sent=len(CONTENT)), NO_MORE],
    ],
    ids=[
        "a-size",
        "chunks",
        "all-again",
        "no-size",
        "never-a-size",
        "short-parts",
        "all-but-the-end",
    ],
)
def test_a_file_whose_size_is_said_late_or_never_is_resumed_too(answers):
    with (
        Wire(*answers) as storage,
        Wire(http(200, {"download_url": f"{storage.url}/k"})) as api,
        Client(Access(api.url, "s"), retry=QUICK) as client,
    ):
        file = Download("k", lambda: client.presign_file("c1", 7, "k"))
        assert b"".join(client.download_file(file)) == CONTENT


def test_a_storage_that_is_asked_too_often_is_asked_again_later():
    assert download(http(429, b"", {"Retry-After": "0"}), part(0, status=200))[0] == CONTENT


def test_an_address_that_has_expired_is_replaced():
    expired = http(403, b"<Error><Code>AccessDenied</Code><Message>Request has expired</Message>")

    assert download(part(0, sent=9, status=200), expired, part(9))[0] == CONTENT


@pytest.mark.parametrize(
    ("answers", "error"),
    [
        ([part(0, sent=9, status=200), part(9, etag='"2"')], ProtocolError),
        ([part(0, sent=9, status=200), part(0, 99, status=200)], ProtocolError),
        ([part(0, sent=9, status=200), part(12)], ProtocolError),
        ([part(0, sent=9, status=200), http(206, b"x")], ProtocolError),
        ([part(0, sent=9, status=200), None], TransportError),
        ([http(404, b"<Code>NoSuchKey</Code>")], NotFoundError),
    ],
    ids=["another-version", "another-size", "another-part", "unknown-part", "no-more", "missing"],
)
def test_what_is_not_the_file_is_no_download(answers, error):
    with pytest.raises(error) as caught:
        download(*answers)

    assert "5ig" not in str(caught.value)


@pytest.mark.parametrize("url", ["ftp://x/y", "http://me:pw@x/y", "file:///etc/passwd"])
def test_a_download_comes_from_no_odd_address(url):
    with (
        Wire(http(200, {"download_url": url})) as wire,
        Client(Access(wire.url, "s3cret-cookie"), retry=QUICK) as client,
        pytest.raises(ProtocolError, match="download_url"),
    ):
        list(client.download_file(Download("k", lambda: client.presign_file("c1", 7, "k"))))


def test_a_jobs_file_and_an_upload_arrive_from_a_real_server(local):
    cluster_id = local.cluster_id
    with Client(Access(local.url, local.token)) as client:
        script = "#!/bin/bash\nmkdir -p out\nhead -c 300000 /dev/zero >out/a.bin\nsleep 0.1\n"
        job_id = client.submit_job(cluster_id, JobSpec(script=script, name="n").body()).job_id
        end = time.monotonic() + 30
        while client.get_job(cluster_id, job_id).state.base != "COMPLETED":
            assert time.monotonic() < end
            time.sleep(0.05)
        found = client.list_files(cluster_id, job_id, "out/*.bin")
        file = Download("a.bin", lambda: client.presign_file(cluster_id, job_id, "out/a.bin"))
        key = client.upload_file(cluster_id, "k", "data", 5, lambda: io.BytesIO(b"bytes"))
        stored = Download(key, lambda: client.presign_download(cluster_id, key))

        assert [(each.path, each.size) for each in found.files] == [("out/a.bin", 300_000)]
        assert b"".join(client.download_file(file)) == bytes(300_000)
        assert b"".join(client.download_file(stored)) == b"bytes"


LARGE = bytes(range(256)) * 20_000


def large(first=0, sent=None):
    """The rest of a file of 5 MB, whose most part is read from the connection itself."""
    headers = {"ETag": '"1"', "Content-Length": str(len(LARGE) - first)}
    if first:
        headers["Content-Range"] = f"bytes {first}-{len(LARGE) - 1}/{len(LARGE)}"
    head = http(206 if first else 200, b"", headers)
    return head.replace(b"Content-Length: 0\r\n", b"") + LARGE[first:][:sent]


def test_a_large_file_arrives_whole_and_after_a_break_the_rest():
    arrived, asked = download(large(sent=3_000_000), large(3_000_000))

    assert arrived == LARGE
    assert [each.get("range") for each in asked] == [None, "bytes=3000000-"]


def test_a_storage_that_falls_silent_within_a_large_file_is_asked_for_the_rest():
    silent = large(sent=2_000_000).replace(b"Connection: close", b"Connection: keep-alive")
    with (
        Wire(silent, large(2_000_000)) as storage,
        Wire(http(200, {"download_url": f"{storage.url}/b/k"})) as api,
        Client(Access(api.url, "s", timeout=0.3), retry=QUICK) as client,
    ):
        file = Download("k", lambda: client.presign_file("c1", 7, "k"))
        arrived = b"".join(client.download_file(file))

    assert arrived == LARGE
    assert [headers_of(each).get("range") for each in storage.requests] == [None, "bytes=2000000-"]


def test_a_large_file_is_resumed_of_a_storage_that_knows_no_ranges():
    arrived, asked = download(large(sent=3_000_000), large())

    assert arrived == LARGE
    assert len(asked) == 2


def test_the_rest_of_an_upload_comes_from_a_real_storage(local):
    with Client(Access(local.url, local.token)) as client:
        content = lambda: io.BytesIO(LARGE)  # noqa: E731
        key = client.upload_file(local.cluster_id, "large", "data", len(LARGE), content)
        file = Download(key, lambda: client.presign_download(local.cluster_id, key))
        begun = client.download_file(file)
        first = next(begun)
        begun.close()
        rest = b"".join(client.download_file(file))

    assert 0 < len(rest) < len(LARGE)
    assert first + rest == LARGE


def test_a_file_that_would_lead_out_of_a_folder_is_none():
    paths = ["../up", "out/../../up", "/etc/passwd", "//x", "", None, "out/..b"]
    said = answer({"folder": "/f", "files": [{"path": each, "size": 1} for each in paths]})

    assert [file.path for file in read_files(said).files] == ["out/..b"]
