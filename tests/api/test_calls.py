"""Tests of airflow_provider_clusterra.api.calls: what is asked, and whether it may be asked twice."""

import inspect

import pytest

from airflow_provider_clusterra.api import calls
from airflow_provider_clusterra.api.errors import NotFoundError
from airflow_provider_clusterra.api.sse import Event

EVERY = [
    (calls.get_user(), "GET /v1/users/me"),
    (calls.list_clusters(), "GET /v1/clusters"),
    (calls.submit_job("c1", {"script": "x"}), "POST /v1/clusters/c1/jobs/submit"),
    (calls.get_job("c1", 9), "GET /v1/clusters/c1/jobs/9"),
    (calls.list_jobs("c1"), "GET /v1/clusters/c1/jobs"),
    (calls.cancel_job("c1", 9), "DELETE /v1/clusters/c1/jobs/9"),
    (calls.read_output("c1", 9), "GET /v1/clusters/c1/jobs/9/output"),
    (calls.list_states("c1"), "GET /v1/clusters/c1/jobs/state"),
    (calls.list_accounting("c1"), "GET /v1/clusters/c1/accounting/jobs"),
    (
        calls.list_runs("c1", ["9", "8_1"]),
        "GET /v1/clusters/c1/accounting/jobs?step=9&step=8_1",
    ),
    (calls.list_nodes("c1"), "GET /v1/clusters/c1/nodes"),
    (calls.get_stats("c1"), "GET /v1/clusters/c1/stats"),
    (calls.read_metrics("c1"), "GET /v1/clusters/c1/metrics/jobs"),
    (calls.list_templates(), "GET /v1/templates"),
    (calls.get_template("a/b"), "GET /v1/templates/a%2Fb"),
    (calls.list_routes(), "GET /v1/api-routes"),
    (calls.stream_output("c1", 9), "GET /v1/clusters/c1/jobs/9/output/stream"),
    (calls.presign_upload("c1", "a", "data"), "POST /v1/clusters/c1/storage/presigned-url"),
    (calls.find_run("c1", 8), "GET /v1/clusters/c1/jobs/8"),
    (calls.list_files("c1", 9, "a/*"), "GET /v1/clusters/c1/jobs/9/files?pattern=a%2F%2A"),
    (calls.presign_file("c1", 9, "a"), "POST /v1/clusters/c1/jobs/9/files/download-url"),
    (calls.presign_download("c1", "a"), "POST /v1/clusters/c1/storage/download-url"),
]


@pytest.mark.parametrize(("call", "request_line"), EVERY, ids=lambda value: str(value)[:40])
def test_each_call_asks_its_route(call, request_line):
    assert call.request == request_line


def test_each_call_is_tested():
    functions = inspect.getmembers(calls, inspect.isfunction)
    public = [
        name
        for name, function in functions
        if str(inspect.signature(function).return_annotation).startswith("Call[")
    ]

    assert len(public) == len(EVERY)


def test_only_the_submit_is_not_repeatable():
    assert [call.request for call, _ in EVERY if not call.repeatable] == [
        "POST /v1/clusters/c1/jobs/submit"
    ]


def test_a_clusters_name_cannot_lead_elsewhere():
    assert (
        calls.get_job("../users/me?x=#", 9).request
        == "GET /v1/clusters/..%2Fusers%2Fme%3Fx%3D%23/jobs/9"
    )


def test_an_upload_asks_for_a_name_and_a_place():
    assert calls.presign_upload("c1", "a.pdb", "data").json == {
        "filename": "a.pdb",
        "location": "data",
    }


def test_states_are_asked_by_repeating_the_id():
    assert calls.list_states("c1", [1, 2]).request.endswith("/jobs/state?job_id=1&job_id=2")


def test_accounting_is_asked_by_name_or_by_ids():
    by_name = calls.list_accounting("c1", job_name="a b&c")

    assert by_name.request.endswith("/accounting/jobs?job_name=a+b%26c&start_time=1")
    later = calls.list_accounting("c1", job_name="a", since=1_700_000_000.5)
    assert later.request.endswith("?job_name=a&start_time=1700000000")
    assert calls.list_accounting("c1", job_ids=[1, 2]).request.endswith("?step=1%2C2")


def test_output_that_came_together_is_one_piece_and_comes_before_an_error():
    events = [Event(b"a"), Event(b"b\n"), Event(b"no such file", "error"), Event(b"c")]
    pieces = calls.read_pieces("GET …", events)

    assert next(pieces) == b"ab\n"
    with pytest.raises(NotFoundError, match="no such file"):
        next(pieces)
    assert list(calls.read_pieces("GET …", [])) == []
