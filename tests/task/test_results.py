"""Tests of airflow_provider_clusterra.task.result."""

import json
import re

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException
from msgspec.structs import replace

from airflow_provider_clusterra.api import Access, Client
from airflow_provider_clusterra.api.answers import Answer
from airflow_provider_clusterra.api.calls import read_job, read_jobs
from airflow_provider_clusterra.api.errors import ONCE, ApiError, InputError
from airflow_provider_clusterra.api.jobs import ExitStatus, Job, JobState, one_job
from airflow_provider_clusterra.task import report as failures
from airflow_provider_clusterra.task.arguments import exit_codes
from airflow_provider_clusterra.task.result import (
    failed_jobs_pushed,
    finish,
    job_result,
    with_tasks,
)
from airflow_provider_clusterra.triggers.jobs import JobEvent, read_event
from tests.support.recorded import NEWEST, sample
from tests.support.wire import Wire, http
from tests.watch.test_array_success import array


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
            "usage",
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
        ("job_failed_exit3", failures.JobExitedError),
        ("job_failed_signal9", failures.JobKilledError),
        ("job_bad_workdir", failures.JobNotStartedError),
        ("job_node_fail", failures.JobNodeFailedError),
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
    with pytest.raises(failures.JobError, match="Its output cannot be read: 500") as caught:
        end("job_failed_exit3", http(500, b"oops"))

    assert re.search(r"Slurm wrote it to /\S+\.", str(caught.value))


@pytest.mark.parametrize(
    ("outcome", "kind"),
    [
        ("refused", AirflowFailException),
        ("timed_out", failures.JobOverdueError),
        ("overdue", failures.JobOverdueError),
        ("stuck", failures.JobStuckError),
        ("lost", failures.JobLostError),
    ],
)
def test_a_wait_that_ended_otherwise_is_an_error_with_its_words(outcome, kind):
    with Client(Access("http://127.0.0.1:9", "s")) as client, pytest.raises(kind, match="why"):
        finish(JobEvent(outcome, 7, "c1", None, "why"), client, None)


def test_a_failed_job_is_told_with_its_error():
    with pytest.raises(failures.JobError) as caught:
        end("job_failed_exit3", http(200, b""))

    assert job_result(caught.value.job)["exit_code"] == 3
    assert json.loads(json.dumps(job_result(caught.value.job)))["state"] == "FAILED"


def test_a_failed_job_is_pushed_for_the_tasks_that_come_after(ti):
    error = failures.JobExitedError("why", recorded("job_failed_exit3"))
    with pytest.raises(failures.JobError), failed_jobs_pushed({"ti": ti}):
        raise error

    assert ti.pushed["job"] == job_result(error.job)


def test_a_job_that_was_never_seen_pushes_nothing(ti):
    with pytest.raises(failures.JobError), failed_jobs_pushed({"ti": ti}):
        raise failures.JobLostError("why")

    assert ti.pushed == {}


def test_an_array_may_succeed_with_some_of_its_tasks():
    event = JobEvent("ended", 9, "c1", array({0: "COMPLETED", 1: "FAILED"}))
    with Client(Access("http://127.0.0.1:9", "s")) as client:
        result = finish(event, client, None, array_success="any")

    assert result["tasks"]["1"]["state"] == "FAILED"


def test_a_retry_of_some_indices_brings_what_the_earlier_tries_brought():
    earlier = array({0: "COMPLETED", 2: "COMPLETED"}).tasks
    event = JobEvent("ended", 50, "c1", array({1: "COMPLETED"}, job_id=50))
    with Client(Access("http://127.0.0.1:9", "s")) as client:
        result = finish(event, client, None, earlier=earlier)

    assert (result["job_id"], result["state"]) == (50, "COMPLETED")
    assert list(result["tasks"]) == ["0", "1", "2"]


def test_a_job_that_ended_well_and_has_no_result_fails_for_good_and_says_both():
    job = recorded("job_completed")
    event = JobEvent("ended", job.job_id, "c1", job)
    with (
        Wire(http(200, b"no json\n")) as wire,
        Client(Access(wire.url, "s"), retry=ONCE) as client,
        pytest.raises(failures.JobResultError, match=r"ended well, but: .* no line") as caught,
    ):
        finish(event, client, "json")

    assert isinstance(caught.value, AirflowFailException)
    assert caught.value.job == job


def exited(*codes, state="FAILED"):
    """A job, or an array's tasks, that exited with this."""
    parts = [
        Job(
            20 + index,
            JobState(state if code else "COMPLETED"),
            exit=ExitStatus(code),
            array_job_id=9 if len(codes) > 1 else None,
            array_task_id=index if len(codes) > 1 else None,
        )
        for index, code in enumerate(codes)
    ]
    return one_job(parts, 9) if len(codes) > 1 else parts[0]


def components(*codes, state="FAILED"):
    """A het job whose leader FAILED with the first code, and whose others did so with theirs."""
    parts = [
        Job(
            9 + offset,
            JobState("FAILED" if offset == 0 else state) if code else JobState("COMPLETED"),
            exit=ExitStatus(code),
            het_job_id=9,
            het_job_offset=offset,
        )
        for offset, code in enumerate(codes)
    ]
    return one_job(parts, 9)


@pytest.mark.parametrize("resumed", [True, False])
@pytest.mark.parametrize(
    ("job", "skip_on", "skipped"),
    [
        (exited(99), {99}, True),
        (exited(99), {98, 99}, True),
        (exited(99), {98}, False),
        (exited(99), (), False),
        (exited(99, state="TIMEOUT"), {99}, False),
        (replace(exited(99), exit=ExitStatus(signal=99)), {99}, False),
        (exited(0, 99, 99), {99}, True),
        (exited(0, 99, 1), {99}, False),
        (exited(99, 98), {98, 99}, True),
        (components(99, 0), {99}, True),
        (components(99, 98), {98, 99}, True),
        (components(99, 1), {99}, False),
        (components(0, 1), {99}, False),
        (components(99, 99, state="OUT_OF_MEMORY"), {99}, False),
    ],
)
def test_a_failed_job_skips_its_task_if_its_exit_code_says_so(job, skip_on, skipped, resumed, ti):
    event = JobEvent("ended", 9, "c1", replace(job, usage={}))
    event = read_event(event.to_payload()) if resumed else event
    with (
        Wire(http(200, b"")) as wire,
        Client(Access(wire.url, "s"), retry=ONCE) as client,
        pytest.raises((AirflowSkipException, failures.JobError)) as caught,
        failed_jobs_pushed({"ti": ti}),
    ):
        finish(event, client, None, skip_on=skip_on)

    assert isinstance(caught.value, AirflowSkipException) is skipped
    assert ti.pushed["job"]["state"] == job.state.base


@pytest.mark.parametrize(
    ("given", "codes"),
    [
        (99, {99}),
        ([99, "100"], {99, 100}),
        ("99", {99}),
        ("[99, 100]", {99, 100}),
        ((99,), {99}),
        (None, set()),
        ("None", set()),
        (frozenset({99}), {99}),
    ],
    ids=repr,
)
def test_exit_codes_are_one_or_several(given, codes):
    assert exit_codes("skip_on_exit_code", given) == codes


@pytest.mark.parametrize("given", [0, 256, -1, "x", [99, "x"], True, {"a": 1}, 1.5], ids=repr)
def test_what_is_no_exit_code_is_refused(given):
    with pytest.raises(InputError, match=r"skip_on_exit_code is .*exit codes from 1 to 255"):
        exit_codes("skip_on_exit_code", given)


def test_an_accounting_that_is_late_is_asked_again_and_one_that_is_absent_is_not_missed():
    event = JobEvent("ended", 9, "c1", Job(9, JobState("COMPLETED"), array_job_id=9))
    tasks = [{"job_id": 10, "array_job_id": 9, "array_task_id": 0, "job_state": ["COMPLETED"]}]
    shown = http(200, {"jobs": tasks})
    for status in (429, 401):
        with (
            Wire(http(status, b"")) as wire,
            Client(Access(wire.url, "s"), retry=ONCE) as client,
            pytest.raises(ApiError, match=str(status)),
        ):
            finish(event, client, None)
    for status in (404, 403):
        with (
            Wire(http(status, {"message": "no such route"}), shown) as wire,
            Client(Access(wire.url, "s"), retry=ONCE) as client,
        ):
            assert finish(event, client, None)["tasks"]["0"]["state"] == "COMPLETED"


MANY = 400
STATES = ["FAILED" if index % 3 == 1 else "COMPLETED" for index in range(MANY)]
STATES[0:2] = ["COMPLETED", "FAILED"]
NOTHING = {"errors": [{"error_number": 2017}]}


def row(index, state, *, hour=9, name="mine"):
    """A task's record, whose id is not one more than the last one's."""
    return {
        "job_id": 100 + index + index // 2,
        "array_job_id": 9,
        "array_task_id": index,
        "job_state": [state],
        "name": name,
        "submit_time": 3600 * hour,
        "exit_code": {"return_code": {"number": 3 * (state == "FAILED")}},
    }


NOW = [row(index, state) for index, state in enumerate(STATES)]


def of_thousands(states, accounting, shown=(), **options):
    """What a resumed task makes of an array that does not fit into its event."""
    rows = [row(index, state) for index, state in enumerate(states)]
    job = read_jobs(Answer("GET x", 200, {}, json.dumps({"jobs": rows}).encode()))
    whole = replace(one_job(job, 9), usage={})
    event = read_event(JobEvent("ended", 9, "c1", whole).to_payload())

    def answer(request):
        if b"/accounting" in request:
            return http(200, {"jobs": accounting})
        return http(200, {"jobs": list(shown)}) if shown else http(404, NOTHING)

    with Wire(answer) as wire, Client(Access(wire.url, "s"), retry=ONCE) as client:
        if not options:
            return with_tasks(event, event.job, client, ids=True)
        return finish(event, client, None, **options)


EARLIER = {
    "an earlier run of each that failed": [
        row(index, "REQUEUED", hour=8) for index, state in enumerate(STATES) if state == "FAILED"
    ],
    "another job's": [row(index, "COMPLETED", hour=7, name="old") for index in range(MANY)],
    "a newer job's": [row(index, "COMPLETED", hour=10, name="new") for index in range(MANY)],
}


@pytest.mark.parametrize("records", EARLIER.values(), ids=EARLIER)
@pytest.mark.parametrize("accounting", [NOW, []], ids=["told", "late"])
def test_no_other_record_makes_a_large_array_a_success(records, accounting):
    for rows in ([*accounting, *records], [*records, *accounting]):
        job = of_thousands(STATES, rows)
        assert job.state.base == "FAILED"
        assert [task.state.base for task in job.tasks] == (STATES if accounting else [])


@pytest.mark.parametrize("known", [0, 200])
def test_a_large_array_of_which_not_all_is_known_is_no_success(known):
    good = [each for each in NOW if each["job_state"] == ["COMPLETED"]][:known]
    for share in ("all", "any", 0.5):
        with pytest.raises(failures.JobError):
            of_thousands(STATES, good, array_success=share)


def test_another_job_of_the_number_that_slurm_shows_by_now_says_nothing_of_a_large_array():
    job = of_thousands(STATES, NOW, shown=[row(1, "COMPLETED", name="new")])

    assert [task.state.base for task in job.tasks] == STATES


@pytest.mark.parametrize("first", ["NODE_FAIL", "PREEMPTED", "REQUEUED", "COMPLETED"])
def test_an_index_that_ran_again_has_the_output_of_its_own_id(first):
    good = ["COMPLETED"] * MANY
    rows = [row(index, "COMPLETED") for index in range(MANY)]
    rows.insert(6, row(5, first, hour=8))
    job = of_thousands(good, rows)

    assert job.state.succeeded
    assert [each.state.base for each in job.tasks] == good
    assert [each.job_id for each in job.tasks] == [
        each["job_id"] for each in rows if each != rows[6]
    ]
