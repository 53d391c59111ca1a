"""Tests of airflow_provider_clusterra.api.readers: any shape in, one value out."""

import json

import pytest

from airflow_provider_clusterra.api import readers
from airflow_provider_clusterra.api import readers as cluster
from airflow_provider_clusterra.api.errors import (
    ApiError,
    AuthenticationError,
    NotFoundError,
    ProtocolError,
    RequestError,
    ServerError,
)
from tests.support.recorded import FOLDER, NEWEST, answer, read, sample

VERSIONS = ["22.05-v0.0.38", "24.11-v0.0.42", NEWEST]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_real_servers_yes_to_a_submit_is_a_job_without_problems(version):
    submitted = readers.read_submitted(sample("submit_ok", version))

    assert submitted.job_id > 0
    assert submitted.problems == ()


@pytest.mark.parametrize(
    "body",
    [
        {"job_id": 42},
        {"job_id": "42"},
        {"job_id": {"set": True, "infinite": False, "number": 42}},
        {"slurm_job_id": 42, "run_id": "r-1"},
        {"result": {"job_id": 42, "step_id": "batch"}, "job_id": 0},
        {"job": {"id": 42}},
        {"steps": [{"slurm_job_id": 42}]},
        {"jobs": [{"job_id": 42}]},
    ],
    ids=repr,
)
def test_a_job_id_is_found_in_every_form(body):
    assert readers.read_submitted(answer(body)).job_id == 42


def test_a_job_id_counts_whatever_stands_beside_it():
    said = {"job_id": 42, "errors": ["odd"], "warnings": ["first", {"description": "second"}]}
    submitted = readers.read_submitted(answer(said, status=500))

    assert [str(problem) for problem in submitted.problems] == ["odd"]
    assert submitted.warnings == ("first", "second")


def test_a_real_servers_answer_to_a_submit_is_a_job_where_it_holds_an_id():
    for path in sorted([*FOLDER.rglob("submit_*.json"), *FOLDER.rglob("err_*.json")]):
        recorded = json.loads(path.read_text())
        body = recorded.get("body", recorded)
        if recorded.get("request", {}).get("method") != "POST":
            continue
        job_id = body.get("job_id") if isinstance(body, dict) else None
        if job_id:
            assert readers.read_submitted(read(path)).job_id == job_id, path
        else:
            with pytest.raises((RequestError, ServerError)):
                readers.read_submitted(read(path))


@pytest.mark.parametrize("body", [{}, {"job_id": 0}, {"job_id": None}, [], "yes", b""], ids=repr)
def test_a_yes_without_a_job_id_cannot_be_read(body):
    with pytest.raises(ProtocolError):
        readers.read_submitted(answer(body))


@pytest.mark.parametrize(
    ("name", "cancelled"),
    [
        ("delete_running", True),
        ("delete_held", True),
        ("delete_array_master", True),
        ("delete_already_finished", False),
        ("delete_purged", False),
        ("err_delete_unknown_job", False),
    ],
)
def test_what_a_real_server_says_to_a_cancel_is_understood(name, cancelled):
    assert readers.read_cancelled(sample(name)) is cancelled


def test_every_recorded_cancel_reads():
    for path in sorted(FOLDER.rglob("delete_*.json")):
        if path.stem == "delete_not_mine":
            with pytest.raises(AuthenticationError, match="another user's"):
                readers.read_cancelled(read(path))
        else:
            assert readers.read_cancelled(read(path)) in (True, False), path


def test_a_job_of_somebody_else_is_not_cancelled():
    said = {"status": [{"error": {"code": 2002, "string": "Access denied"}, "step_id": "7"}]}
    with pytest.raises(AuthenticationError, match="another user's"):
        readers.read_cancelled(answer(said))


def test_a_cancel_that_failed_otherwise_says_slurms_number():
    said = {"status": [{"error": {"code": 1234}, "step_id": "7"}]}
    with pytest.raises(ApiError, match="Slurm says error 1234"):
        readers.read_cancelled(answer(said))


@pytest.mark.parametrize("status", [200, 204])
def test_an_empty_yes_to_a_cancel_is_a_yes(status):
    assert readers.read_cancelled(answer(b"", status=status)) is True


@pytest.mark.parametrize(
    "body",
    [
        {"clusters": [{"id": "c1", "name": "one"}], "total": 1},
        {"clusters": [{"cluster_id": "c1"}, {}, "odd"]},
        [{"id": "c1"}],
    ],
    ids=repr,
)
def test_clusters_are_read_in_every_form(body):
    assert [each.cluster_id for each in cluster.read_clusters(answer(body))] == ["c1"]


def test_an_answer_without_clusters_says_so():
    with pytest.raises(ProtocolError, match="no list of clusters"):
        cluster.read_clusters(answer({"total": 0}))


@pytest.mark.parametrize(
    "body", [{"email": "a@b.c"}, {"user": {"email": "a@b.c"}}, {"user_email": "a@b.c"}], ids=repr
)
def test_a_user_is_read_in_every_form(body):
    assert cluster.read_user(answer(body)).email == "a@b.c"


def test_a_grant_shows_no_signature():
    said = {"upload_url": "https://s3.test/b/k?X-Amz-Signature=5ig", "key": "k", "expires_in": 3600}
    grant = readers.read_grant(answer(said))

    assert (grant.key, grant.expires_in) == ("k", 3600)
    assert grant.shown_url == "https://s3.test/b/k"
    assert "5ig" not in repr(grant)


def test_a_grant_without_an_address_cannot_be_read():
    with pytest.raises(ProtocolError, match="no upload_url and key"):
        readers.read_grant(answer({"key": "k"}))


@pytest.mark.parametrize("name", ["download_url", "url"])
def test_an_address_to_read_from_shows_itself_to_nobody(name):
    said = {name: "https://s3.test/b/k?X-Amz-Signature=5ig", "expires_in": 3600}
    grant = readers.read_download(answer(said))

    assert (grant.download_url, grant.expires_in) == (said[name], 3600)
    assert "5ig" not in f"{grant!r} {grant.__rich_repr__()}"
    with pytest.raises(ProtocolError, match="no download_url"):
        readers.read_download(answer({}))


def test_an_output_is_the_bytes_as_they_are():
    assert readers.read_output(answer(b"a\r\n\xff")).data == b"a\r\n\xff"


@pytest.mark.parametrize("body", [{"output": "hi\n"}, {"content": "hi\n"}, "hi\n"], ids=repr)
def test_an_output_wrapped_in_json_is_unwrapped(body):
    said = answer(body, headers={"Content-Type": "application/json"})
    if isinstance(body, str):
        said = answer(b'"hi\\n"', headers={"Content-Type": "application/json"})

    assert readers.read_output(said).data == b"hi\n"


def test_a_job_that_writes_json_has_its_output_as_it_is():
    said = answer(b'{"result": 1}\n', headers={"Content-Type": "application/json"})

    assert readers.read_output(said).data == b'{"result": 1}\n'


@pytest.mark.parametrize(
    "body",
    [{"jobs": []}, {"jobs": [{"job_id": 8, "job_state": ["RUNNING"]}]}, {}],
    ids=repr,
)
def test_an_answer_without_the_job_is_not_found(body):
    with pytest.raises(NotFoundError, match="no job 7"):
        readers.read_job(answer(body), 7)


@pytest.mark.parametrize(
    "body", [b'"\x80"', b'{"jobs": [{"job_id": "7", "state": ["\x80"]}]}'], ids=repr
)
@pytest.mark.parametrize("read", [readers.read_states, readers.read_jobs])
def test_bytes_that_are_no_text_are_an_answer_that_cannot_be_read(read, body):
    with pytest.raises(ProtocolError):
        read(answer(body))
