"""Tests of airflow_provider_clusterra.task.report: what a bad end says, and what to change."""

import pytest
from msgspec.structs import replace

from airflow_provider_clusterra.api.answers import refusal
from airflow_provider_clusterra.api.calls import read_job
from airflow_provider_clusterra.api.errors import RequestError
from airflow_provider_clusterra.api.jobs import ExitStatus, Job, JobState, one_job, read_state
from airflow_provider_clusterra.task import report as failures
from airflow_provider_clusterra.task.report import advise, advise_refusal, kind_of, report
from tests.support.recorded import NEWEST, sample


def recorded(name, version=NEWEST):
    answer = sample(name, version)
    return read_job(answer, answer.json()["jobs"][0]["job_id"])


def exited(code):
    job = recorded("job_failed_exit3")
    return replace(job, exit=ExitStatus(code))


def killed(number):
    job = recorded("job_failed_signal9")
    return replace(job, exit=ExitStatus(signal=number))


def ended(words, **fields):
    return replace(recorded("job_timeout"), state=read_state(words), **fields)


EXECVE = "slurmstepd: error: execve(): bad interpreter(/no/such): No such file or directory\n"
OOM = recorded("job_oom", f"{NEWEST}-cgroup")


@pytest.mark.parametrize(
    ("job", "output", "kind", "says", "advises"),
    [
        (exited(3), "boom", failures.JobExitedError, "exit code 3", "what its programs wrote"),
        (exited(127), "", failures.JobExitedError, "exit code 127", "did not find a command"),
        (exited(126), "", failures.JobExitedError, "exit code 126", "chmod +x"),
        (
            exited(137),
            "",
            failures.JobExitedError,
            "code 137",
            "137 is 128 + 9: signal 9 (SIGKILL)",
        ),
        (
            exited(139),
            "",
            failures.JobExitedError,
            "code 139",
            "128 + 11: signal 11 (SIGSEGV) ended a program",
        ),
        (exited(190), "", failures.JobExitedError, "code 190", "128 + 62: signal 62 ended"),
        (exited(255), "", failures.JobExitedError, "code 255", "what its programs wrote says why"),
        (exited(2), EXECVE, failures.JobNotStartedError, "exit code 2", "Correct the first line"),
        (killed(9), "", failures.JobKilledError, "signal 9 (SIGKILL)", "more with memory="),
        (killed(11), "", failures.JobKilledError, "signal 11 (SIGSEGV)", "not its own"),
        (killed(15), "", failures.JobKilledError, "signal 15 (SIGTERM)", "scancel"),
        (killed(10), "", failures.JobKilledError, "SIGUSR1", "does not trap it"),
        (recorded("job_oom"), "", failures.JobKilledError, "SIGKILL", "memory ran out"),
        (OOM, "", failures.JobOutOfMemoryError, "OUT_OF_MEMORY", 'grow_on_retry={"memory": 2.0}'),
        (killed(125), "", failures.JobKilledError, "signal 125", "more memory than it had asked"),
        (recorded("job_timeout"), "", failures.JobTimedOutError, "TimeLimit", "time_limit="),
        (recorded("job_node_fail"), "", failures.JobNodeFailedError, "NodeDown", "retries="),
        (ended("BOOT_FAIL"), "", failures.JobNodeFailedError, "BOOT_FAIL", "did not start"),
        (ended("PREEMPTED"), "", failures.JobPreemptedError, "PREEMPTED", "requeue=True"),
        (ended("DEADLINE"), "", failures.JobTimedOutError, "DEADLINE", "the deadline"),
        (
            recorded("job_cancelled_running"),
            "",
            failures.JobCancelledError,
            "CANCELLED",
            "a user, an administrator or a rule",
        ),
        (
            recorded("job_cancelled_while_held"),
            "",
            failures.JobCancelledError,
            "JobHeldUser",
            "without a hold",
        ),
        (
            ended("CANCELLED", reason="DependencyNeverSatisfied"),
            "",
            failures.JobCancelledError,
            "DependencyNeverSatisfied",
            "afterany",
        ),
        (
            recorded("job_bad_workdir"),
            "",
            failures.JobNotStartedError,
            "signal 53",
            "working directory (/no/such/dir) does not exist",
        ),
    ],
    ids=lambda value: value.describe() if isinstance(value, Job) else None,
)
def test_a_bad_end_says_what_slurm_says_and_what_to_change(job, output, kind, says, advises):
    text = report(job, output)

    assert kind_of(job, output) is kind
    assert says in text.split("\n")[0]
    assert advises in text.split("\n")[-1]


@pytest.mark.parametrize(
    ("reason", "advises"),
    [
        ("JobHeldUser", "without a hold"),
        ("JobHeldAdmin", "administrator's hold"),
        ("launch failed requeued held", "after a failed start"),
        ("DependencyNeverSatisfied", "See why the job in dependency= failed"),
        ("PartitionTimeLimit", "a shorter time_limit="),
        ("MaxMemPerLimit", "less memory="),
        ("QOSMaxCpuPerJobLimit", "another account= or qos="),
        ("Resources", "The cluster was full"),
    ],
)
def test_a_job_that_does_not_start_says_what_to_change(reason, advises):
    assert advises in advise(Job(1, JobState("PENDING"), reason=reason))


@pytest.mark.parametrize(
    ("name", "advises"),
    [
        ("err_bad_partition", "Correct partition=, or leave it out"),
        ("err_too_much_mem", "No node of the partition has as much"),
    ],
)
def test_a_refused_submit_says_what_to_change(name, advises):
    assert advises in advise_refusal(refusal(sample(name)))


def test_a_list_that_is_too_long_for_the_cluster_is_named():
    error = RequestError("no", status=500, number=2081)

    assert "the list of map_over, is longer than the cluster's MaxArraySize" in advise_refusal(
        error
    )


def test_a_report_says_what_was_asked_and_shows_the_outputs_last_lines():
    output = "".join(f"line {number}\n" for number in range(100))
    lines = report(recorded("job_timeout"), output).split("\n")

    assert lines[0] == "Job 37 ended TIMEOUT (TimeLimit): signal 15 (SIGTERM)."
    assert lines[1].startswith(
        "It had asked for 100 MB a CPU and a time limit of 1 min. It ran for "
    )
    assert lines[2:5] == ["The end of its output:", "line 80", "line 81"]
    assert lines[-2] == "line 99"


def test_a_report_says_where_there_is_no_output_or_it_cannot_be_read():
    assert "It wrote no output." in report(exited(3), "\n")
    assert "Its output cannot be read: 500" in report(exited(3), "", "500")


def test_an_array_is_reported_by_its_ends_and_not_by_its_tasks():
    states = ["COMPLETED"] * 90 + ["FAILED"] * 8 + ["TIMEOUT"] * 2
    tasks = [
        Job(
            100 + index,
            JobState(base),
            exit=ExitStatus(3 if base == "FAILED" else 0),
            array_job_id=9,
            array_task_id=index,
            memory_mb=50,
        )
        for index, base in enumerate(states)
    ]
    lines = report(one_job(tasks, 9), "boom").split("\n")

    assert lines[:3] == [
        "Of job 9, 10 of 100 array tasks did not succeed:",
        "  90-97: FAILED, exit code 3",
        "  98-99: TIMEOUT",
    ]
    assert "50 MB a node" in lines[3]


def test_an_array_that_ends_in_many_ways_is_reported_in_few_lines():
    tasks = [
        Job(1, JobState("FAILED"), exit=ExitStatus(index), array_job_id=9, array_task_id=index)
        for index in range(1, 31)
    ]

    assert "  and 20 other ends" in report(one_job(tasks, 9), "")


@pytest.mark.parametrize(
    "output",
    [
        "job.sh: line 3: HOME: unbound variable",
        "/bin/bash: line 1: cd: HOME not set",
        "./run: 2: USER: parameter not set",
        "LOGNAME: Undefined variable.",
        "    raise KeyError(key) from None\nKeyError: 'HOME'",
    ],
)
def test_a_script_that_misses_its_users_home_is_told_how_to_have_it(output):
    assert "give login_environment=True" in advise(exited(1), f"begin\n{output}\n")
    assert "login_environment" not in advise(exited(1), "HOMER: unbound variable")
