"""Tests of airflow_provider_clusterra.operators.results."""

import json

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_clusterra.api import Access, Client, InputError
from airflow_provider_clusterra.api.readers import Output, read_job
from airflow_provider_clusterra.api.retry import ONCE
from airflow_provider_clusterra.operators import failures
from airflow_provider_clusterra.operators.results import finish, job_result, read_result
from airflow_provider_clusterra.triggers.events import JobEvent
from tests.recorded import NEWEST, sample
from tests.wire import Wire, http


def recorded(name):
    # only a Slurm with cgroups tells that it was the memory
    answer = sample(name, f"{NEWEST}-cgroup" if name == "job_oom" else NEWEST)
    return read_job(answer, answer.json()["jobs"][0]["job_id"])


def end(name, output):
    """How a task ends for a recorded job with this output."""
    job = recorded(name)
    with Wire(output) as wire, Client(Access(wire.url, "s"), retry=ONCE) as client:
        return finish(JobEvent("ended", job.job_id, "c1", job), client, None)


def test_a_result_is_plain_json_and_says_everything():
    result = job_result(recorded("job_completed"), output={"a": 1})

    assert json.loads(json.dumps(result)) == result
    assert result["state"] == "COMPLETED"
    assert result["ran_seconds"] >= 0
    assert result["output"] == {"a": 1}
    assert sorted(result) == sorted(
        [
            "job_id",
            "name",
            "state",
            "exit_code",
            "signal",
            "reason",
            "nodes",
            "submitted_at",
            "started_at",
            "ended_at",
            "queued_seconds",
            "ran_seconds",
            "restarts",
            "output",
            "tasks",
        ]
    )


def test_an_arrays_result_says_how_each_index_ended():
    job = read_job(sample("array_done_get_master"), 23)
    tasks = job_result(job)["tasks"]

    assert tasks
    assert all(each["state"] for each in tasks.values())
    assert all(index.isdigit() for index in tasks)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("job_failed_exit3", failures.JobError),
        ("job_oom", failures.JobOutOfMemoryError),
        ("job_timeout", failures.JobTimedOutError),
        ("job_cancelled_running", failures.JobCancelledError),
    ],
)
def test_each_bad_end_has_an_error_of_its_own_with_the_outputs_end(name, kind):
    output = "".join(f"line {number}\n" for number in range(100)).encode()
    with pytest.raises(failures.JobError, match="line 99") as caught:
        end(name, http(200, output))

    assert type(caught.value) is kind
    assert "line 80" in str(caught.value)
    assert "line 79" not in str(caught.value)


def test_a_failed_job_without_output_says_so():
    with pytest.raises(failures.JobError, match="It wrote no output"):
        end("job_failed_exit3", http(200, b""))


def test_a_failure_is_told_even_where_the_output_cannot_be_read():
    with pytest.raises(failures.JobError, match="Its output cannot be read: 500"):
        end("job_failed_exit3", http(500, b"oops"))


@pytest.mark.parametrize(
    ("outcome", "kind"),
    [
        ("refused", AirflowFailException),
        ("timed_out", failures.JobTimedOutError),
        ("lost", failures.JobLostError),
    ],
)
def test_a_wait_that_ended_otherwise_is_an_error_with_its_words(outcome, kind):
    with Client(Access("http://127.0.0.1:9", "s")) as client, pytest.raises(kind, match="why"):
        finish(JobEvent(outcome, 7, "c1", None, "why"), client, None)


@pytest.mark.parametrize(
    ("what", "data", "expected"),
    [
        ("text", b"a\r b\n", "a\r b\n"),
        ("text", b"\xff", "\N{REPLACEMENT CHARACTER}"),
        ("last_line", b"a\nb\r\n\n", "b"),
        ("last_line", b"", ""),
        ("json", b'{"a": 1}\nbye\n', {"a": 1}),
        ("json", b"[1, 2]\n", [1, 2]),
        ("json", b"1\n" + b"[" * 5000, 1),
    ],
    ids=repr,
)
def test_of_the_output_what_was_asked_for_is_returned(what, data, expected):
    assert read_result(Output(data), what) == expected


@pytest.mark.parametrize(
    ("what", "output", "words"),
    [
        ("json", Output(b"no json here\n"), "no line"),
        ("text", Output(b"x" * 70_000), "has 70000 bytes"),
        ("text", Output(b"x", skipped=10), "has 11 bytes"),
    ],
    ids=["no json", "large", "cut"],
)
def test_an_output_that_cannot_be_returned_says_what_to_do(what, output, words):
    with pytest.raises(InputError, match=words):
        read_result(output, what)
