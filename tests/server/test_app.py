"""Tests of clusterra_server.app: bodies, over a real socket."""

import json
import socket

import httpx
import pytest

from clusterra_server.app import LIMIT

SUBMIT = "/v1/clusters/clusloc1/jobs/submit"


@pytest.fixture
def post(local):
    """Posts a body as it is."""

    def send(text, path=SUBMIT, kind="application/json"):
        headers = {
            "Authorization": f"Bearer {local.token}",
            **({"Content-Type": kind} if kind else {}),
        }
        return httpx.post(local.url + path, content=text, headers=headers, timeout=30)

    return send


@pytest.mark.parametrize("path", [SUBMIT, "/v1/clusters/clusloc1/storage/presigned-url"])
@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"\xff",
        b'{"script": NaN}',
        b'{"script": "\\ud800"}',
        b'{"script": "\\ud800 and more"}',
        b'{"job": {"tasks": ' + b"1" * 5000 + b"}}",
        b'{"job": {"tasks": 1e999}}',
        b"[" * 200_000,
    ],
    ids=lambda text: repr(text[:30]),
)
def test_what_is_no_json_surely_submits_nothing(post, path, text):
    answer = post(text, path)

    assert answer.status_code == 400
    assert answer.json()["error"].startswith("the body cannot be read as JSON: ")


@pytest.mark.parametrize("kind", ["", "text/plain", "application/x-www-form-urlencoded"])
@pytest.mark.parametrize("path", [SUBMIT, "/v1/clusters/clusloc1/storage/download-url"])
def test_a_body_that_does_not_say_that_it_is_json_is_not_taken(post, path, kind):
    answer = post(b"{}", path, kind)

    assert answer.status_code == 415
    assert "Content-Type: application/json" in answer.json()["error"]


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "Application/JSON"])
def test_json_may_say_more(post, kind):
    assert post(b"{}", kind=kind).status_code == 422


@pytest.mark.parametrize("text", [b"[]", b"7", b"null"])
def test_json_that_is_no_object_submits_nothing_either(post, text):
    assert post(text).status_code == 422


@pytest.mark.parametrize("depth", range(800, 1000, 10))
def test_what_is_only_just_read_is_refused_as_clearly(post, depth):
    nested = b"[" * depth + b"]" * depth
    answer = post(
        b'{"script": "#!/bin/sh\n", "job": {"environment": [1], "nodes": ' + nested + b"}}"
    )

    assert answer.status_code == 400 or answer.json()["errors"][0]["error_number"] == 9202


@pytest.mark.parametrize(
    ("fields", "number"),
    [
        ({"tasks": "1" * 5000}, 9202),
        ({"begin_time": 10**400}, 9202),
        ({"nodes": "1" * 5000, "dependency": "none"}, 2038),
        ({"dependency": f"afterok:{'1' * 5000}"}, 2038),
    ],
    ids=["tasks", "begin_time", "nodes", "dependency"],
)
def test_a_number_of_too_many_digits_is_none(post, fields, number):
    job = {"environment": ["A=1"], "current_working_directory": "/", **fields}
    answer = post(json.dumps({"script": "#!/bin/sh\n", "job": job}))

    assert answer.json()["errors"][0]["error_number"] == number


def test_a_body_that_is_too_large_is_refused_before_it_is_there(local):
    host, port = local.url.removeprefix("http://").split(":")
    head = (
        f"POST {SUBMIT} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {local.token}\r\n"
        f"Content-Length: {LIMIT * 1000}\r\n\r\n"
    )
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(head.encode())
        said = connection.makefile("rb").read()

    assert said.startswith(b"HTTP/1.1 413 ")
    assert b"a body has 32 MiB at most" in said


def test_a_body_without_a_length_is_refused_when_it_is_too_large(post):
    answer = post(b"x" * 2**20 for _ in range(LIMIT // 2**20 + 1))

    assert answer.status_code == 413


def test_a_script_of_the_greatest_size_is_taken_however_it_is_written(post):
    script = b"#!/bin/bash\\n" + b"\\u001b" * (4 * 2**20 - 12)
    # which is looked at last
    job = b'{"environment": ["A=1"], "current_working_directory": "/", "dependency": "none"}'
    answer = post(b'{"script": "' + script + b'", "job": ' + job + b"}")

    assert answer.json()["errors"][0]["error_number"] == 2038
