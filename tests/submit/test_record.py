"""Tests of airflow_provider_clusterra.submit.record and .request."""

import json

import pytest

from airflow_provider_clusterra.api.jobs import Job
from airflow_provider_clusterra.api.slurm import read_state
from airflow_provider_clusterra.api.templates import CheckedParams
from airflow_provider_clusterra.sbatch.job import JobRequest
from airflow_provider_clusterra.submit.protocol import (
    Failure,
    Kept,
    Record,
    Request,
    Tag,
    TemplateRequest,
    failure_of,
    read_record,
)

TAG = Tag("0123abcd", "89ef4567", "00ff", 0, 1)


def test_a_record_reads_as_it_was_written():
    record = Record(str(TAG), 0, "train", 7, failure=Failure("OUT_OF_MEMORY", memory_mb=512))

    assert read_record(json.loads(json.dumps(record.to_json()))) == record


@pytest.mark.parametrize("value", [None, "text", {"tag": 1}, {"max_tries": 1}])
def test_what_is_no_record_is_none(value):
    assert read_record(value) is None


def test_a_failure_holds_what_the_next_try_needs():
    tasks = tuple(
        Job(10 + index, read_state([state]), array_job_id=7, array_task_id=index)
        for index, state in enumerate(["COMPLETED", "FAILED", "TIMEOUT", "COMPLETED", "FAILED"])
    )
    job = Job(7, read_state(["FAILED"]), tasks=tasks, memory_mb=512, time_limit_minutes=60)

    assert failure_of(job) == Failure("FAILED", ("FAILED", "TIMEOUT"), 512, time_limit_minutes=60)
    assert failure_of(None) == Failure("CANCELLED")


@pytest.mark.parametrize(
    ("job", "names"),
    [
        (JobRequest("#!x", ({"nodes": "1"},), "train"), lambda body: [body["job"]["name"]]),
        (JobRequest("#!x", ({}, {}), "train"), lambda body: [job["name"] for job in body["jobs"]]),
        (
            TemplateRequest(CheckedParams("t", {}, {"x": 1}), "train"),
            lambda body: [body["params"]["job_name"]],
        ),
    ],
    ids=["raw", "heterogeneous", "template"],
)
def test_the_tag_goes_where_the_body_has_its_name(job, names):
    tagged = Request(job, {}).tagged(TAG)

    assert set(names(tagged.job.body())) == {f"train{TAG}"} == {tagged.name}


def test_a_body_without_a_place_for_a_name_stays_as_it_is():
    request = Request(TemplateRequest(CheckedParams("t", {}, {})), {})

    assert request.tagged(TAG) == request


def test_a_record_is_json_and_comes_back_the_same():
    kept = Kept("0-3", "0,2", {"100": "0,2"}, {"time_limit": {"set": True, "number": 5}}, "more")
    record = Record(str(TAG), 0, failure=Failure("FAILED", ("FAILED", "TIMEOUT")), kept=kept)
    plain = record.to_json()

    assert json.loads(json.dumps(plain)) == plain
    assert read_record(plain) == record
