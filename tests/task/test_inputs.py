"""Tests of airflow_provider_clusterra.task.inputs: uploads with a submit, on a real server."""

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from airflow_provider_clusterra.hooks.clusterra import ClusterraHook
from airflow_provider_clusterra.operators.jobs import (
    ClusterraSubmitJobOperator,
    ClusterraSubmitTemplateOperator,
)
from tests.support.wire import Wire, http

ROUTES = http(200, {"routes": []})
READS = """\
#!/bin/bash
set -e
cat "$CLUSTERRA_FILES/$INPUT"
python3 -c 'import os, urllib.request as r; print(r.urlopen(os.environ["INPUT_URL"]).read().decode())'
"""
DEFAULTS = {"task_id": "task", "deferrable": False, "poll_interval": 0.05, "follow_output": False}


def submit(script=READS, **fields):
    return ClusterraSubmitJobOperator(**{**DEFAULTS, "script": script, **fields})


def submit_template(template_id="word-count", **fields):
    return ClusterraSubmitTemplateOperator(**{**DEFAULTS, "template_id": template_id, **fields})


def jobs_of(server):
    with ClusterraHook().client() as client:
        return {job.job_id for job in client.list_jobs(server.cluster_id)}


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "in.txt"
    path.write_text("one two two")
    return path


def test_a_script_finds_its_upload_by_key_and_by_address(connected, run, text):
    result = run(submit(uploads={"INPUT": str(text)}, return_output="text"))

    assert result["output"] == "one two twoone two two\n"


def test_a_template_gets_the_key_of_its_upload(connected, run, text):
    result = run(submit_template(uploads={"text_file": text}, return_output="json"))

    assert result["output"] == {"words": 3, "different": 2, "first": "two"}


def test_mapped_tasks_uploads_of_one_name_are_two_files(connected, ti, tmp_path):
    keys = []
    for index in (0, 1):
        folder = tmp_path / str(index)
        folder.mkdir()
        (folder / "in.txt").write_text(str(index))
        ti.map_index = index
        operator = submit(
            "#!/bin/sh\necho $INPUT",
            uploads={"INPUT": folder / "in.txt"},
            return_output="last_line",
        )
        keys.append(operator.execute({"ti": ti})["output"])

    assert keys[0] != keys[1]
    assert all(key.startswith("data/you/") and key.endswith("-in.txt") for key in keys)


def test_a_failed_upload_submits_nothing(connected, run, text, mocker):
    before = jobs_of(connected)
    text.with_name("b.txt").write_text("x")
    mocker.patch(
        "airflow_provider_clusterra.task.inputs.LOCATION", "shared"
    )  # which only an administrator may write to
    for operator in (
        submit(uploads={"INPUT": text}),
        submit_template(uploads={"text_file": text}),
    ):
        with pytest.raises(AirflowException, match="only an administrator"):
            run(operator)

    assert jobs_of(connected) == before


def test_an_api_without_downloads_is_told_before_anything_is_uploaded(connection, run, text):
    with Wire(ROUTES) as wire:
        connection(wire.url)
        with pytest.raises(AirflowFailException, match="offers no addresses to read files from"):
            run(submit(uploads={"INPUT": text}))

        assert len(wire.requests) == 1
        assert wire.requests[0].startswith(b"GET /v1/api-routes ")


@pytest.mark.parametrize(
    ("uploads", "fields", "words"),
    [
        ({"A-B": "{text}"}, {}, "uploads: 'A-B' is not a variable's name"),
        (
            {"A": "{text}"},
            {"environment": {"A_URL": "x"}},
            "the variable A_URL has a value already",
        ),
        ({"A": "{text}", "A_URL": "{text}"}, {}, "the variable A_URL has a value already"),
        ({"A": ""}, {}, "uploads: A is empty"),
        ({"A": "{folder}/*.txt"}, {}, "uploads: A means 2 files"),
        ({"A": "{folder}"}, {}, "is a folder"),
    ],
    ids=repr,
)
def test_an_upload_that_cannot_be_is_told_by_its_name(connected, run, text, uploads, fields, words):
    text.with_name("b.txt").write_text("x")
    places = {"text": text, "folder": text.parent}
    given = {name: source.format(**places) for name, source in uploads.items()}
    with pytest.raises(AirflowFailException, match=words):
        run(submit(uploads=given, **fields))


def test_an_upload_and_a_value_of_one_name_are_refused(connected, run, text):
    operator = submit_template(uploads={"text_file": text}, template_params={"text_file": "x"})
    with pytest.raises(
        AirflowFailException, match="text_file is in uploads and in template_params"
    ):
        run(operator)


def test_an_upload_for_a_parameter_that_is_not_there_is_refused(connected, run, text):
    with pytest.raises(
        AirflowFailException, match=r"txt_file is not known .did you mean text_file"
    ):
        run(submit_template(uploads={"txt_file": text}))
