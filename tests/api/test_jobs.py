"""Tests of airflow_provider_clusterra.api.jobs, on answers recorded from real servers."""

import re

import pytest

from airflow_provider_clusterra.api.calls import read_job, read_jobs
from airflow_provider_clusterra.api.errors import JobFailedError
from airflow_provider_clusterra.api.jobs import NO_STATE, Job, one_job
from tests.support.recorded import FOLDER, answer, read, sample

VERSIONS = ("22.05-v0.0.38", "24.11-v0.0.42", "26.05-v0.0.44")
FULL = ("22.05-v0.0.38", "26.05-v0.0.44")


def job_of(name, version="26.05-v0.0.44"):
    recorded = sample(name, version)
    return read_job(recorded, int(re.search(r"/job/(\d+)", recorded.request)[1]))


@pytest.mark.parametrize("version", FULL)
@pytest.mark.parametrize(
    ("name", "state", "exit_words"),
    [
        ("job_completed", "COMPLETED", "exit code 0"),
        ("job_failed_exit3", "FAILED", "exit code 3"),
        ("job_failed_signal9", "FAILED", "signal 9 (SIGKILL)"),
        ("job_timeout", "TIMEOUT", "signal 15 (SIGTERM)"),
        ("job_cancelled_running", "CANCELLED", "signal 15 (SIGTERM)"),
        ("job_after_sigterm", "FAILED", "signal 15 (SIGTERM)"),
        ("job_bad_workdir", "FAILED", "signal 53"),
    ],
)
def test_every_version_tells_the_same_end(version, name, state, exit_words):
    job = job_of(name, version)

    assert job.state.base == state
    assert exit_words is None or str(job.exit) == exit_words
    assert job.name == "cap"
    assert job.submitted_at is not None
    assert job.submitted_at.tzinfo is not None


@pytest.mark.parametrize("version", FULL)
@pytest.mark.parametrize(
    ("name", "state", "reason"),
    [
        ("job_running", "RUNNING", ""),
        ("job_dep_never_satisfied", "PENDING", "DependencyNeverSatisfied"),
        ("job_suspended", "SUSPENDED", ""),
    ],
)
def test_every_version_tells_the_same_of_a_job_that_goes_on(version, name, state, reason):
    job = job_of(name, version)

    assert job.state.base == state
    assert not job.state.ended
    assert job.reason == reason


def test_a_node_that_failed_is_the_jobs_end_only_where_it_is_not_run_again():
    assert job_of("job_node_fail").state.ended
    again = job_of("job_node_fail", "22.05-v0.0.38")
    assert (again.state.base, again.restarts > 0) == ("PENDING", True)


def test_a_held_job_says_so():
    assert job_of("job_held").reason == "JobHeldUser"


def test_every_recorded_job_reads():
    paths = [path for path in FOLDER.rglob("*.json") if path.parent.name.count("-") == 1]
    seen = 0
    for path in paths:
        recorded = read(path)
        if not re.match(r"GET /slurm(db)?/v[\d.]+/jobs?/?(\d+(_\d+)?)?$", recorded.request):
            continue
        if recorded.status == 200:
            seen += 1
            for job in read_jobs(recorded):
                assert job.job_id > 0, path
                assert job.state.known, path
    assert seen > 60


def test_a_running_job_says_where_and_since_when():
    job = job_of("job_running")

    assert job.nodes == "cn1"
    assert job.partition == "main"
    assert job.time_limit_minutes == 5
    assert job.standard_output == "/mnt/efs/2.out"
    assert (job.memory_mb, job.memory_per_cpu) == (100, True)
    assert (job.array_job_id, job.array_task_id, job.het_job_id) == (None, None, None)


def test_accounting_tells_the_same_job():
    recorded = sample("slurmdb_job_after_purge", "24.11-v0.0.42")
    [job] = read_jobs(recorded)

    assert job.state.ended
    assert job.submitted_at is not None
    assert job.started_at is not None


@pytest.mark.parametrize("version", FULL)
def test_an_array_that_is_running_counts_as_one_job_that_runs(version):
    job = job_of("array_running_get_master", version)

    assert job.state.base == "RUNNING"
    assert len(job.tasks) >= 2
    assert job.array_task_id is None


@pytest.mark.parametrize("version", VERSIONS)
def test_an_array_that_is_done_shows_each_index(version):
    job = job_of("array_done_get_master", version)

    assert job.state.base == "FAILED"
    assert [task.array_task_id for task in job.tasks] == [0, 1, 2, 3]
    assert [task.exit.code for task in job.tasks] == [0, 0, 7, 0]


def records(*each):
    return answer({"jobs": list(each)})


def task(index, state, job_id, **fields):
    return {
        "job_id": job_id,
        "array_job_id": 10,
        "array_task_id": {"set": True, "number": index},
        "job_state": state,
        **fields,
    }


def test_one_failed_index_fails_the_array_and_says_which():
    job = read_job(
        records(
            task(0, ["COMPLETED"], 11),
            task(1, ["FAILED"], 10, exit_code=768),
        ),
        10,
    )

    with pytest.raises(JobFailedError, match=r"Job 10\[1\] ended FAILED: exit code 3\."):
        job.raise_for_state()


def test_an_array_goes_on_while_one_index_does():
    job = read_job(records(task(0, ["FAILED"], 11), task(1, ["PENDING"], 10)), 10)

    assert not job.state.ended


def test_an_array_is_completing_while_one_index_is():
    job = read_job(records(task(0, ["FAILED"], 11), task(1, ["COMPLETED", "COMPLETING"], 10)), 10)

    assert str(job.state) == "FAILED+COMPLETING"


@pytest.mark.parametrize(
    "body",
    [
        {"state": "RUNNING"},
        {"job": {"state": "RUNNING"}},
        {"job": {"job_id": "9", "job_state": ["RUNNING"]}},
        {"jobs": [{"job_id": 9, "job_state": "RUNNING"}]},
        [{"job_id": 9, "state": "R"}],
        {"job_id": 9, "status": "running"},
    ],
)
def test_the_simple_shapes_are_read_too(body):
    job = read_job(answer(body), 9)

    assert (job.job_id, job.state.base) == (9, "RUNNING")


def test_a_field_of_a_wrong_type_costs_the_field_and_not_the_job():
    job = read_job(
        records({"job_id": 9, "job_state": ["RUNNING"], "nodes": 7, "submit_time": "?"}), 9
    )

    assert (job.nodes, job.submitted_at) == ("", None)


@pytest.mark.parametrize("unset", [0xFFFFFFFE, 0xFFFFFFFF, None, {"set": False, "number": 3}])
def test_the_rest_of_an_array_has_no_index_of_its_own(unset):
    rest = {"job_id": 9, "array_job_id": 9, "array_task_id": unset, "array_task_string": "1-3"}
    job = read_job(records({**rest, "job_state": ["PENDING"]}), 9)

    assert [task.array_task_id for task in job.tasks] == [None]


def test_a_job_that_is_not_among_the_records_is_none():
    assert one_job([], 9) is None


@pytest.mark.parametrize("words", ["FAILED", "CANCELLED", "RUNNING", "UNKNOWN"])
def test_only_a_completed_job_is_a_success(words):
    job = read_job(answer({"state": words}), 9)

    with pytest.raises(JobFailedError) as caught:
        job.raise_for_state()

    assert caught.value.job is job


@pytest.mark.parametrize(
    ("exit_code", "words"),
    [
        ({"signal": {"signal_id": 9, "name": "KILL"}, "return_code": 0}, "signal 9 (SIGKILL)"),
        ({"signal": {"id": {"set": True, "number": 9}}}, "signal 9 (SIGKILL)"),
        ({"return_code": {"set": True, "number": 3}, "signal": {}}, "exit code 3"),
        ({"return_code": 3}, "exit code 3"),
        ({"return_code": "3", "signal": "none"}, "exit code 3"),
        (768, "exit code 3"),
        ("768", "exit code 3"),
    ],
    ids=repr,
)
def test_an_exit_means_the_same_in_a_short_and_in_a_long_answer(exit_code, words):
    said = answer({"jobs": [{"job_id": 7, "job_state": ["FAILED"], "exit_code": exit_code}]})

    assert str(read_jobs(said)[0].exit) == words
    assert str(read_job(said, 7).exit) == words


def test_a_job_is_its_own_only_part_and_an_array_has_its_tasks():
    tasks = [Job(20 + n, NO_STATE, array_job_id=9, array_task_id=n) for n in (0, 1)]
    assert Job(9, NO_STATE).parts == (Job(9, NO_STATE),)
    assert one_job(tasks, 9).parts == tuple(tasks)


@pytest.mark.parametrize(
    ("fields", "ids", "place"),
    [
        ({}, {20}, -1),
        ({"array_job_id": 9, "array_task_string": "1-3"}, {9, 20}, -1),
        ({"array_job_id": 9, "array_task_id": 0}, {9, 20}, 0),
        ({"het_job_id": 20, "het_job_offset": 0}, {20}, 0),
        ({"het_job_id": 9, "het_job_offset": 1}, {9, 20}, 1),
    ],
    ids=repr,
)
def test_a_part_is_found_by_the_id_of_its_whole_and_knows_its_place(fields, ids, place):
    job = Job(20, NO_STATE, **fields)
    assert (job.ids, job.place) == (ids, place)
    assert job.follows_leader == (fields.get("het_job_offset") == 1)
