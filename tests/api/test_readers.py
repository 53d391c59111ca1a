"""Tests of airflow_provider_clusterra.api.calls: any shape in, one value out."""

import json

import pytest

from airflow_provider_clusterra.api import calls
from airflow_provider_clusterra.api import calls as cluster
from airflow_provider_clusterra.api.answers import refusal
from airflow_provider_clusterra.api.errors import (
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
    submitted = calls.read_submitted(sample("submit_ok", version))

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
    assert calls.read_submitted(answer(body)).job_id == 42


def test_a_job_id_counts_whatever_stands_beside_it():
    said = {"job_id": 42, "errors": ["odd"], "warnings": ["first", {"description": "second"}]}
    submitted = calls.read_submitted(answer(said, status=500))

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
            assert calls.read_submitted(read(path)).job_id == job_id, path
        else:
            with pytest.raises((RequestError, ServerError)):
                calls.read_submitted(read(path))


@pytest.mark.parametrize("body", [{}, {"job_id": 0}, {"job_id": None}, [], "yes", b""], ids=repr)
def test_a_yes_without_a_job_id_cannot_be_read(body):
    with pytest.raises(ProtocolError):
        calls.read_submitted(answer(body))


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
    assert calls.read_cancelled(sample(name)) is cancelled


def test_every_recorded_cancel_reads():
    for path in sorted(FOLDER.rglob("delete_*.json")):
        if path.stem == "delete_not_mine":
            with pytest.raises(AuthenticationError, match="another user's"):
                calls.read_cancelled(read(path))
        else:
            assert calls.read_cancelled(read(path)) in (True, False), path


def test_a_job_of_somebody_else_is_not_cancelled():
    said = {"status": [{"error": {"code": 2002, "string": "Access denied"}, "step_id": "7"}]}
    with pytest.raises(AuthenticationError, match="another user's"):
        calls.read_cancelled(answer(said))


@pytest.mark.parametrize("number", [2017, 2020, 2021])
@pytest.mark.parametrize("status", [200, 404, 422, 500])
def test_a_cancel_of_what_has_ended_is_none_in_the_form_of_an_error_too(status, number):
    said = {"errors": [{"error": "Job/step already completing", "error_number": number}]}

    assert calls.read_cancelled(answer(said, status=status)) is False


@pytest.mark.parametrize(
    ("number", "kind"), [(1234, ServerError), (-1, ServerError), (2009, RequestError)]
)
def test_a_cancel_that_failed_otherwise_says_slurms_number_and_whose_fault_it_is(number, kind):
    said = {"status": [{"error": {"code": number}, "step_id": "7"}]}
    with pytest.raises(kind, match=f"Slurm says error {number}"):
        calls.read_cancelled(answer(said))


@pytest.mark.parametrize("status", [200, 204])
def test_an_empty_yes_to_a_cancel_is_a_yes(status):
    assert calls.read_cancelled(answer(b"", status=status)) is True


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
    grant = calls.read_grant(answer(said))

    assert (grant.key, grant.expires_in) == ("k", 3600)
    assert grant.shown_url == "https://s3.test/b/k"
    assert "5ig" not in repr(grant)


def test_a_grant_without_an_address_cannot_be_read():
    with pytest.raises(ProtocolError, match="no upload_url and key"):
        calls.read_grant(answer({"key": "k"}))


@pytest.mark.parametrize("name", ["download_url", "url"])
def test_an_address_to_read_from_shows_itself_to_nobody(name):
    said = {name: "https://s3.test/b/k?X-Amz-Signature=5ig", "expires_in": 3600}
    grant = calls.read_download(answer(said))

    assert (grant.download_url, grant.expires_in) == (said[name], 3600)
    assert "5ig" not in f"{grant!r} {grant.__rich_repr__()}"
    with pytest.raises(ProtocolError, match="no download_url"):
        calls.read_download(answer({}))


def test_an_output_is_the_bytes_as_they_are():
    assert calls.output_of(answer(b"a\r\n\xff")).data == b"a\r\n\xff"


@pytest.mark.parametrize("body", [{"output": "hi\n"}, {"content": "hi\n"}, "hi\n"], ids=repr)
def test_an_output_wrapped_in_json_is_unwrapped(body):
    said = answer(body, headers={"Content-Type": "application/json"})
    if isinstance(body, str):
        said = answer(b'"hi\\n"', headers={"Content-Type": "application/json"})

    assert calls.output_of(said).data == b"hi\n"


def test_a_job_that_writes_json_has_its_output_as_it_is():
    said = answer(b'{"result": 1}\n', headers={"Content-Type": "application/json"})

    assert calls.output_of(said).data == b'{"result": 1}\n'


@pytest.mark.parametrize(
    "body",
    [{"jobs": []}, {"jobs": [{"job_id": 8, "job_state": ["RUNNING"]}]}],
    ids=repr,
)
def test_an_answer_without_the_job_is_not_found(body):
    with pytest.raises(NotFoundError, match="no job 7"):
        calls.read_job(answer(body), 7)


@pytest.mark.parametrize(
    "body", [{}, {"status": "ok"}, {"message": "maintenance"}, {"jobs": None}], ids=repr
)
def test_a_yes_that_holds_neither_the_job_nor_a_list_cannot_be_read(body):
    with pytest.raises(ProtocolError):
        calls.read_job(answer(body), 7)
    with pytest.raises(ProtocolError):
        calls.read_jobs(answer(body))


@pytest.mark.parametrize("read", [calls.read_states, calls.read_jobs])
def test_bytes_that_are_no_json_are_an_answer_that_cannot_be_read(read):
    with pytest.raises(ProtocolError):
        read(answer(b'{"jobs": [{"job_id": "7", "state": ["\x80"]'))


ODD_WORDS = [b"caf\xe9", b"\xff\xfe\x00", b"\\udce9", b"a\x01b", b"\xed\xa0\x80"]


@pytest.mark.parametrize("words", ODD_WORDS, ids=repr)
@pytest.mark.parametrize("field", [b"name", b"current_working_directory", b"comment"])
def test_a_foreign_job_whose_name_is_no_text_does_not_hide_the_others(words, field):
    """As another user's ``sbatch --job-name=$'caf\\xe9'`` makes it."""
    rows = b'{"job_id": 6, "job_state": ["RUNNING"], "%s": "%s"}' % (field, words)
    ours = b'{"job_id": 7, "name": "caf\xc3\xa9", "job_state": ["COMPLETED"]}'
    listed = answer(b'{"jobs": [%s, %s], "errors": []}' % (rows, ours))

    assert [job.job_id for job in calls.read_jobs(listed)] == [6, 7]
    found = calls.read_job(listed, 7)
    assert (found.name, str(found.state)) == ("café", "COMPLETED")
    assert calls.read_job(listed, 6).name.encode() is not None


@pytest.mark.parametrize("words", ODD_WORDS, ids=repr)
def test_accounting_and_states_are_read_though_a_name_is_no_text(words):
    told = b'{"jobs": [{"job_id": 7, "name": "%s", "time": {"submission": 5}, "state": {"current": ["FAILED"]}}]}'
    [job] = calls.read_jobs(answer(told % words))
    assert (job.state.base, job.submitted_at is not None) == ("FAILED", True)
    states = b'{"jobs": [{"job_id": "7", "name": "%s", "state": ["RUNNING"]}]}' % words
    assert [row.job_id for row in calls.read_states(answer(states))] == ["7"]


def test_a_refusal_and_a_submit_are_read_though_their_words_are_no_text():
    assert calls.read_submitted(answer(b'{"job_id": 9, "warnings": ["\xe9"]}')).job_id == 9
    refused = refusal(answer(b'{"errors": [{"error_number": 2017, "error": "\xe9"}]}', status=404))
    assert (type(refused), refused.number) == (NotFoundError, 2017)


def test_a_number_that_is_none_does_not_hide_a_list():
    told = b'{"jobs": [{"job_id": 7, "job_state": ["RUNNING"], "billable_tres": NaN}]}'

    assert calls.read_jobs(answer(told))[0].job_id == 7


@pytest.mark.parametrize("odd", [{}, {"job_id": "x"}, {"job_id": -3}, {"job_id": 0}, 5, None])
def test_a_row_without_an_id_costs_that_row_and_not_the_list(odd):
    rows = [{"job_id": 6, "job_state": "RUNNING"}, odd, {"job_id": 7, "job_state": "RUNNING"}]

    assert [job.job_id for job in calls.read_jobs(answer({"jobs": rows}))] == [6, 7]


@pytest.mark.parametrize("kind", [{}, {"array_job_id": 7, "array_task_id": 0}])
def test_a_row_without_an_id_beside_the_job_costs_that_row(kind):
    job = {"job_id": 7, "job_state": ["RUNNING"], **kind}
    odd = {"job_id": "1e3", "job_state": ["FAILED"]}

    for rows in ([job, odd], [odd, job], [odd, job, odd]):
        assert calls.read_job(answer({"jobs": rows}), 7).state.base == "RUNNING"
    with pytest.raises(ProtocolError, match="not a job id"):
        calls.read_job(answer({"jobs": [odd, odd]}), 7)


@pytest.mark.parametrize("number", [None, 0, -1, "x"])
@pytest.mark.parametrize(
    "part",
    [
        {"array_job_id": 7, "array_task_id": 1},
        {"array": {"job_id": 7, "task_id": {"set": True, "number": 1}}},
        {"het_job_id": 7, "het_job_offset": 1},
    ],
)
def test_a_part_without_an_id_is_still_one_of_its_array_or_het_job(part, number):
    first = {"het_job_id": 7} if "het_job_id" in part else {"array_job_id": 7, "array_task_id": 0}
    rows = [
        {"job_id": 7, "job_state": ["COMPLETED"], **first},
        {"job_id": number, "job_state": ["FAILED"], **part},
    ]
    job = calls.read_job(answer({"jobs": rows}), 7)

    assert (job.state.base, len(job.tasks)) == ("FAILED", 2)


def test_one_jobs_answer_without_a_readable_id_cannot_be_read():
    with pytest.raises(ProtocolError, match="not a job id"):
        calls.read_job(answer({"jobs": [{"job_id": "1e3", "job_state": "RUNNING"}]}), 1000)


def test_an_id_of_a_part_says_what_it_is_part_of():
    rows = [{"job_id": "12_3", "state": "RUNNING"}, {"job_id": "20+1", "state": "RUNNING"}]
    task, component = calls.read_jobs(answer({"jobs": rows}))

    assert (task.array_job_id, task.array_task_id) == (12, 3)
    assert (component.het_job_id, component.het_job_offset) == (20, 1)


@pytest.mark.parametrize("number", ["-3", -3, "12.5", "1e3", "abc", True], ids=repr)
def test_what_is_no_id_is_no_submitted_job(number):
    with pytest.raises(ProtocolError):
        calls.read_submitted(answer({"job_id": number}))


@pytest.mark.parametrize(
    "errors",
    [[{"error_number": -1, "error": "Unspecified error"}], [{"error_number": 1800}], ["odd"]],
    ids=repr,
)
def test_a_good_job_counts_whatever_is_complained_of_beside_it(errors):
    row = {"job_id": 7, "job_state": ["RUNNING"]}

    assert calls.read_job(answer({"jobs": [row], "errors": errors}), 7).state.base == "RUNNING"
    # a list may lack the very job that is looked for
    for rows in ([row], [], None):
        with pytest.raises(ServerError):
            calls.read_jobs(answer({"jobs": rows, "errors": errors}))
    with pytest.raises(ServerError):
        calls.read_job(answer({"jobs": [], "errors": errors}), 7)


def test_a_jobs_output_is_its_own_whatever_it_complains_of():
    said = answer(b'{"errors": ["mine"]}', headers={"Content-Type": "text/plain"})

    assert calls.output_of(said).data == b'{"errors": ["mine"]}'


def test_a_web_page_is_no_output():
    page = answer(b"<html>Back soon</html>", headers={"Content-Type": "text/html"})

    with pytest.raises(ProtocolError, match="web page"):
        calls.output_of(page)


@pytest.mark.parametrize(
    ("ids", "codes", "cancelled"),
    [
        (["7_0", "7_1", "7_2"], [0, 2021, 0], True),
        # a real Slurm names only the tasks that had ended already
        (["7_0"], [2021], True),
        (["7_0", "7_2"], [2021, 2021], True),
        (["7_0", "7_1"], [2020, 0], True),
        (["7"], [2021], False),
        (["7"], [2017], False),
        ([], [], True),
    ],
)
def test_an_array_is_cancelled_unless_slurm_says_that_all_of_it_has_ended(ids, codes, cancelled):
    entries = zip(ids, codes, strict=True)
    told = {"status": [{"error": {"code": code}, "step_id": step} for step, code in entries]}

    assert calls.read_cancelled(answer(told)) is cancelled
