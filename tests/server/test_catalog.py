"""Tests of clusterra_server.catalog, over clusterra-server's real socket."""

import json

import httpx
import pytest

from clusterra_server.catalog import Catalog, TemplateError
from tests.server.test_server import Rest

TEXT = "To be or not to be\nthat is the question, Whether\n"


@pytest.fixture
def rest(local):
    made = Rest(local)
    yield made
    made.http.close()


@pytest.fixture
def key(rest):
    """The key of an uploaded text."""
    wanted = {"filename": "hamlet.txt", "location": "data"}
    grant = rest.http.post(f"{rest.cluster}/storage/presigned-url", json=wanted).json()
    assert httpx.put(grant["upload_url"], content=TEXT).status_code == 200
    return grant["key"]


def submit(rest, body):
    answer = rest.http.post(f"{rest.cluster}/jobs/submit", json=body)
    return answer.status_code, answer.json()


def ended(rest, job_id):
    """A job's name and state, and its output's last line."""
    (job,) = rest.ended(job_id)
    return job["name"], job["job_state"], rest.output(job_id).decode().splitlines()[-1]


def test_the_catalogue_lists_and_shows_every_template(rest):
    listed = rest.http.get("/v1/templates").json()["templates"]

    assert [each["id"] for each in listed] == sorted(each["id"] for each in listed)
    assert {each["kind"] for each in listed} == {"batch", "preset", "interactive"}
    assert [each["id"] for each in listed if not each["ready"]] == ["align-reads"]
    for each in listed:
        assert rest.http.get(f"/v1/templates/{each['id']}").json() == each
    assert rest.http.get("/v1/templates/none").status_code == 404


def test_a_template_runs_with_its_own_values_and_the_given_ones(rest, key):
    params = {"text_file": key, "job_name": "hamlet", "min_length": 2}
    status, body = submit(rest, {"template_id": "word-count", "params": params})
    name, state, last = ended(rest, body["job_id"])

    assert (status, name, state) == (200, "hamlet", ["COMPLETED"])
    assert json.loads(last) == {"words": 11, "different": 9, "first": "be"}


def test_a_run_of_one_step_answers_with_a_run_and_a_slurm_job(rest):
    step = {"step_id": "main", "template_id": "estimate-pi", "inputs": {}, "params": {"points": 10}}
    status, body = submit(rest, {"run_name": "pi", "steps": [step]})
    name, state, last = ended(rest, body["slurm_job_id"])

    assert (status, name, state) == (200, "pi", ["COMPLETED"])
    assert "job_id" not in body
    assert body["run_id"] in rest.jobs(body["slurm_job_id"])[0]["comment"]
    assert 0 <= json.loads(last)["pi"] <= 4


def test_custom_slurm_runs_the_users_own_script_where_they_say(rest, tmp_path):
    params = {"script_body": "#!/bin/sh\npwd", "working_directory": str(tmp_path)}
    _, body = submit(rest, {"template_id": "custom-slurm", "params": params})

    assert ended(rest, body["job_id"]) == ("my-run", ["COMPLETED"], str(tmp_path))


def test_a_value_is_never_a_part_of_the_script(rest, key):
    params = {"script_body": "#!/bin/sh\necho no", "job_name": "$(touch x); `id` \"'"}
    _, body = submit(rest, {"template_id": "custom-slurm", "params": params})

    assert ended(rest, body["job_id"])[2] == "no"


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"template_id": "none"}, 404, 'template "none" not found'),
        ({"template_id": "long-words"}, 400, "long-words is a preset: submit word-count"),
        ({"template_id": "align-reads"}, 400, "align-reads cannot be submitted"),
        ({"template_id": "notebook"}, 400, "notebook cannot be submitted"),
        ({"template_id": "word-count"}, 400, "text_file is missing"),
        ({"steps": []}, 400, "a run has exactly one step here"),
        ({"steps": [1]}, 400, "a step is an object"),
        ({"template_id": "estimate-pi", "params": []}, 200, None),
        ({"template_id": "estimate-pi", "params": [1]}, 400, "params is not an object"),
        ({"template_id": "estimate-pi", "params": {"points": 0}}, 400, "points is out of range"),
        ({"template_id": "estimate-pi", "params": {"points": "9"}}, 400, "points is not a number"),
        ({"template_id": "estimate-pi", "params": {"a": 1}}, 400, "a is not known"),
    ],
    ids=repr,
)
def test_what_cannot_be_submitted_is_refused_in_words(rest, body, status, words):
    found, answer = submit(rest, body)

    assert found == status
    if words:
        assert words in answer["error"]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("ignore_case", "yes", "ignore_case is not true or false"),
        ("order", "length", "order is none of"),
        ("text_file", 5, "text_file is not a text"),
        ("min_length", True, "min_length is not a number"),
    ],
)
def test_a_value_of_a_wrong_type_is_refused(name, value, words):
    params = {"text_file": "data/you/x", name: value}
    with pytest.raises(TemplateError, match=words):
        Catalog().render({"template_id": "word-count", "params": params}, "you@here")


def test_a_raw_submit_is_left_alone():
    assert Catalog().render({"script": "#!/bin/sh", "job": {}}, "you@here") is None
