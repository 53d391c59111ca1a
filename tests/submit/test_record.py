"""Tests of what airflow_provider_clusterra.submit.protocol remembers, and of what carries a tag."""

import pytest

from airflow_provider_clusterra.api.jobs import Job, read_state
from airflow_provider_clusterra.api.templates import CheckedParams, TemplateRequest
from airflow_provider_clusterra.sbatch.job import JobRequest
from airflow_provider_clusterra.submit.protocol import (
    Failure,
    Record,
    RetryState,
    Tag,
    failure_of,
    tagged_name,
)
from airflow_provider_clusterra.submit.submission import RecordStore, read_record
from tests.support.airflow_side import TaskStateStore

TAG = Tag("0123abcd", "89ef4567", "00ff", 0, 1)


def test_a_record_reads_as_it_was_written():
    record = Record(str(TAG), 0, "train", 7, failure=Failure("OUT_OF_MEMORY", memory_mb=512))

    airflows = TaskStateStore()
    RecordStore(airflows).save(record)

    assert RecordStore(airflows).load() == record


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
    tagged = job.renamed(tagged_name(job.name, TAG))

    assert set(names(tagged.body())) == {f"train{TAG}"} == {tagged.name}


def test_a_record_is_json_and_comes_back_the_same():
    state = RetryState(
        "0-3", "0,2", {"100": "0,2"}, {"time_limit": {"set": True, "number": 5}}, "more"
    )
    failure = Failure("FAILED", ("FAILED", "TIMEOUT"))
    record = Record(str(TAG), 0, failure=failure, retry_state=state, arguments={"script": "00ff"})
    airflows = TaskStateStore()
    RecordStore(airflows).save(record)

    assert RecordStore(airflows).load() == record


class Store(TaskStateStore):
    """One that counts."""

    reads = 0

    def get(self, key, default=None):
        self.reads += 1
        return super().get(key, default)


def test_the_record_is_read_once_and_known_after_it_was_written():
    airflows = Store()
    store = RecordStore(airflows)
    assert (store.load(), store.load(), airflows.reads) == (None, None, 1)
    store.save(Record(str(TAG), 0, "train", 7))
    store.save_failure(Failure("FAILED"))

    assert (store.load().failure, airflows.reads) == (Failure("FAILED"), 1)
    assert RecordStore(airflows).load() == store.load()
    assert RecordStore(airflows, ("another", "0")).load() is None
