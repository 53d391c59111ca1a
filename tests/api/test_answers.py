"""Tests of airflow_provider_clusterra.api.answers: what a no means, and what it says."""

import httpx
import pytest

from airflow_provider_clusterra.api import calls, errors
from airflow_provider_clusterra.api.answers import Answer, refusal, transport_error
from airflow_provider_clusterra.api.client import Body
from tests.support.recorded import FOLDER, answer, read, sample


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.RequestError),
        (401, errors.AuthenticationError),
        (403, errors.AuthenticationError),
        (409, errors.ConflictError),
        (422, errors.RequestError),
        (429, errors.RateLimitedError),
        (500, errors.ServerError),
        (502, errors.ServerError),
        (511, errors.ServerError),
        (307, errors.RequestError),
    ],
)
def test_the_status_says_whose_fault_it_is(status, kind):
    assert type(refusal(answer("no", status=status))) is kind


@pytest.mark.parametrize(
    ("name", "version", "kind", "words"),
    [
        ("err_bad_partition", "26.05-v0.0.44", errors.RequestError, "Invalid partition name"),
        ("err_bad_partition", "22.05-v0.0.38", errors.RequestError, "Invalid partition name"),
        ("err_no_token", "26.05-v0.0.44", errors.AuthenticationError, "Authentication failure"),
        ("err_bad_sig_token", "24.11-v0.0.42", errors.ServerError, "authentication error"),
        ("job_purged", "26.05-v0.0.44", errors.NotFoundError, "Invalid job id"),
        ("job_purged", "22.05-v0.0.38", errors.NotFoundError, "Invalid job id"),
        ("err_unknown_path", "26.05-v0.0.44", errors.ServerError, "Unable to find requested URL"),
        ("err_empty_env", "26.05-v0.0.44", errors.RequestError, "environment|Slurm error"),
    ],
)
def test_a_real_servers_no_is_understood(name, version, kind, words):
    error = refusal(sample(name, version))

    assert type(error) is kind
    assert any(word in str(error) for word in words.split("|"))


def test_every_recorded_no_has_words_and_none_is_too_long():
    for path in sorted(FOLDER.rglob("err_*.json")):
        error = refusal(read(path))
        if error is not None:
            assert error.detail, path
            assert len(str(error)) < 1000, path


@pytest.mark.parametrize(
    "body",
    [
        {"error": "the words"},
        {"error": {"message": "the words"}},
        {"message": "the words"},
        {"detail": "the words"},
        {"errors": [{"description": "the words", "error_number": 9}]},
        {"errors": ["the words"]},
        "the words\n",
    ],
)
def test_the_apis_own_words_are_repeated_whatever_the_form(body):
    error = refusal(answer(body, status=400))

    assert "400 GET /v1/clusters/c1/jobs/9: the words" in str(error)


@pytest.mark.parametrize("body", ["", "<html><h1>502</h1></html>", b"\xff\xfe", "[1, 2", "null"])
def test_a_no_without_words_of_its_own_is_still_an_error(body):
    error = refusal(answer(body, status=502))

    assert type(error) is errors.ServerError
    assert "<" not in str(error)


def test_errors_under_a_200_are_a_no():
    error = refusal(answer({"errors": [{"error": "Invalid account", "error_number": 2045}]}))

    assert type(error) is errors.RequestError
    assert error.number == 2045


def test_no_more_than_500_characters_of_a_body_are_repeated():
    error = refusal(answer("x" * 10_000, status=400))

    assert str(error).count("x") == 500


def test_a_401_says_what_to_do():
    assert "put the new clusterra_session cookie into the connection" in str(
        refusal(answer("", status=401))
    )


def test_a_redirect_is_not_followed_and_says_where_to_without_its_query():
    error = refusal(
        answer("", status=302, headers={"location": "https://sso.example.org/in?state=s3cret"})
    )

    assert "redirected to https://sso.example.org/in" in str(error)
    assert "s3cret" not in str(error)


def test_a_redirect_to_no_address_is_an_error_of_the_api_as_well():
    error = refusal(answer("", status=302, headers={"location": "https://sso\x07.example/in\r?a"}))

    assert "redirected to https://sso.example/in" in str(error)


def test_the_requests_own_id_is_kept():
    error = refusal(answer("", status=500, headers={"X-Request-Id": "7f3a"}))

    assert error.request_id == "7f3a"


@pytest.mark.parametrize("body", ["", "<html>", '{"jobs": [', "\xff"])
def test_an_answer_that_cannot_be_read_says_so(body):
    with pytest.raises(errors.ProtocolError, match="cannot be read"):
        answer(body).json()


def subclasses(kind):
    return [kind] + [each for child in kind.__subclasses__() for each in subclasses(child)]


@pytest.mark.parametrize("kind", subclasses(httpx.TransportError), ids=lambda kind: kind.__name__)
def test_every_error_of_httpx_becomes_one_of_ours(kind):
    error = transport_error("GET /v1/x", kind("broken"), "https://api.example.org")

    never_left = (
        "ConnectError",
        "ConnectTimeout",
        "PoolTimeout",
        "ProxyError",
        "UnsupportedProtocol",
    )
    assert error.may_have_arrived is (kind.__name__ not in never_left)
    assert str(error).startswith("GET /v1/x: ")


@pytest.mark.parametrize("pieces", [[b"abcdef"], [b"a", b"b", b"cdef"], [b"ab", b"", b"cd", b"ef"]])
@pytest.mark.parametrize("keep", [None, 1, 3, 6, 100])
def test_a_bodys_end_is_kept_and_the_rest_counted(pieces, keep):
    body = Body(keep)
    for piece in pieces:
        body.add(piece)
    got = body.answer("GET /", 200, {})

    expected = b"abcdef" if keep is None else b"abcdef"[-keep:]
    assert got.body == expected
    assert got.skipped == 6 - len(expected)


def test_a_403_while_slurm_is_down_is_not_the_users_fault():
    down = {"errors": [{"description": "Failure", "error": "Operation not permitted"}]}

    assert type(refusal(answer(down, status=403))) is errors.ServerError
    assert type(refusal(answer("forbidden", status=403))) is errors.AuthenticationError


PLAIN = ("404 page not found\n", "default backend - 404", "", "<html><h1>404</h1></html>", '"no"')
CALLS = {
    "job": calls.get_job("c1", 9),
    "list": calls.list_jobs("c1"),
    "accounting": calls.list_accounting("c1", job_ids=[9]),
    "states": calls.list_states("c1"),
    "cancel": calls.cancel_job("c1", 9),
    "output": calls.read_output("c1", 9),
    "stream": calls.stream_output("c1", 9),
    "template": calls.get_template("gromacs"),
    "routes": calls.list_routes(),
    "submit": calls.submit_job("c1", {}),
}


GATEWAYS_JSON = (
    {},
    {"message": "Not Found"},
    {"message": "no Route matched with those values", "request_id": "e1"},
    {"message": "Missing Authentication Token"},
    {"timestamp": "2026-11-24", "status": 404, "error": "Not Found", "path": "/v1/x"},
    {"statusCode": 404, "error": "Not Found", "message": "Route GET:/v1/x not found"},
    {"title": "Not Found", "status": 404, "detail": "No static resource v1/x."},
    {"code": 404, "message": "The current request is not defined by this API."},
    {"kind": "Status", "message": 'services "api" not found', "reason": "NotFound", "code": 404},
)


@pytest.mark.parametrize("body", [*PLAIN, *GATEWAYS_JSON])
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_gateways_404_is_a_hiccup_whatever_was_asked(call, body):
    with pytest.raises(errors.ServerError):
        call.read(answer(body, status=404))


@pytest.mark.parametrize(
    "body",
    [
        {"error": "no such job"},
        {"message": "job 9 not found"},
        {"code": "JOB_NOT_FOUND", "message": "job 9 not found"},
        {"detail": "Not Found"},
        {"errors": [{"error_number": 2017}]},
    ],
)
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_the_apis_own_404_is_a_no(call, body):
    if call is CALLS["cancel"] and "errors" in body:
        assert call.read(answer(body, status=404)) is False
        return
    with pytest.raises(errors.NotFoundError):
        call.read(answer(body, status=404))


@pytest.mark.parametrize("status", [400, 405, 408, 409, 410, 415, 421, 422, 425, 431, 451])
def test_a_gateways_page_is_a_hiccup_under_any_status(status):
    page = "<html><head><title>400 Bad Request</title></head></html>"

    assert type(refusal(answer(page, status=status))) is errors.ServerError
    headers = {"Content-Type": "text/html; charset=utf-8"}
    assert type(refusal(answer("no", status=status, headers=headers))) is errors.ServerError


@pytest.mark.parametrize("status", [408, 425])
@pytest.mark.parametrize("body", ["", {"error": "too early"}])
def test_a_request_that_came_too_late_or_too_early_is_a_hiccup(status, body):
    assert type(refusal(answer(body, status=status))) is errors.ServerError


@pytest.mark.parametrize("status", [200, 400, 403, 404, 422, 500, 502])
@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (1800, errors.ServerError),
        (1007, errors.ServerError),
        (2017, errors.NotFoundError),
        (2002, errors.AuthenticationError),
        (2000, errors.RequestError),
        (9001, errors.RequestError),
    ],
)
def test_slurms_number_is_read_before_the_status(status, number, kind):
    said = {"errors": [{"error": "Slurm's words", "error_number": number}]}

    assert type(refusal(answer(said, status=status))) is kind


def test_a_session_that_is_not_accepted_is_one_whatever_slurm_calls_it():
    said = {"errors": [{"error": "Protocol authentication error", "error_number": 1007}]}

    assert type(refusal(answer(said, status=401))) is errors.AuthenticationError


@pytest.mark.parametrize(
    ("status", "number", "kind"),
    [
        (200, -1, errors.ServerError),
        (500, -1, errors.ServerError),
        (400, -1, errors.RequestError),
        (200, 12345, errors.ServerError),
    ],
)
def test_a_number_that_says_nothing_leaves_it_to_the_status(status, number, kind):
    said = {"errors": [{"error": "Unspecified error", "error_number": number}]}

    assert type(refusal(answer(said, status=status))) is kind


def test_the_apis_words_are_repeated_letter_for_letter():
    said = str(refusal(answer({"error": "no ../../data, see a...b."}, status=400)))

    assert said.endswith("no ../../data, see a...b.")


def test_a_body_has_a_cap_and_an_end():
    whole = Body(None, largest=4)
    whole.add(b"abcd")
    with pytest.raises(errors.ProtocolError, match="more than 4 bytes"):
        whole.add(b"e")
    Body(2, largest=4).add(b"abcde")
    with pytest.raises(httpx.ReadTimeout):
        Body(2, until=0.0).add(b"x")


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "bom"])
def test_a_body_may_begin_with_a_byte_order_mark(mark):
    def said(body, status=200):
        return Answer("GET /", status, {"content-type": "application/json"}, mark + body)

    record = b'{"job_id": 9, "job_state": ["RUNNING"]}'
    forms = (record, b'{"jobs": [' + record + b"]}", b"[" + record + b"]")
    for body in (*forms, b'{"jobs": [' + record.replace(b"9,", b'9, "name": "\xff",') + b"]}"):
        assert calls.get_job("c1", 9).read(said(body)).state.base == "RUNNING"
    assert calls.submit_job("c1", {}).read(said(b'{"job_id": 9}')).job_id == 9
    assert calls.list_states("c1").read(said(b'{"jobs": [{"job_id": 9, "state": "R"}]}'))
    assert refusal(said(b'{"errors": [{"error_number": 2017}]}')).number == 2017
    assert type(refusal(said(b"<html>", 400))) is errors.ServerError
    assert calls.read_output("c1", 9).read(said(b'{"output": "hi"}')).data == b"hi"
