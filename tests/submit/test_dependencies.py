"""Tests of a dependency on a job that Slurm has forgotten, on a server that forgets soon."""

import logging
import time

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_clusterra.api import NotFoundError
from airflow_provider_clusterra.api.errors import InputError
from airflow_provider_clusterra.api.jobs import Job, read_state
from airflow_provider_clusterra.hooks.clusterra import ClusterraHook
from airflow_provider_clusterra.operators.jobs import ClusterraSubmitJobOperator
from airflow_provider_clusterra.sbatch.job import JobRequest
from airflow_provider_clusterra.submit.protocol import SubmitError
from airflow_provider_clusterra.submit.submission import judge_dependency, without_forgotten
from tests.support.servers import ClusterraServer


@pytest.fixture(scope="module")
def forgetful():
    with ClusterraServer(cpus=4, min_job_age=0) as server:
        yield server


@pytest.fixture
def waiting_for(forgetful, connection, run):
    """Runs a task whose job depends on others."""
    connection(forgetful.url, forgetful.token, forgetful.cluster_id)
    return lambda dependency: run(
        ClusterraSubmitJobOperator(
            task_id="task",
            script="#!/bin/sh\ntrue",
            dependency=dependency,
            wait_for_completion=False,
            deferrable=False,
        )
    )


@pytest.fixture
def forgotten(forgetful, connection):
    """The id of a job that has ended with this exit code, and is forgotten."""
    connection(forgetful.url, forgetful.token, forgetful.cluster_id)

    def make(exit_code, **fields):
        with ClusterraHook().client() as client:
            job = {
                "environment": ["A=1"],
                "current_working_directory": "/mnt/efs",
                "nodes": "1",
                **fields,
            }
            body = {"script": f"#!/bin/sh\n{exit_code}\n", "job": job}
            job_id = client.submit_job(forgetful.cluster_id, body).job_id
            while True:
                try:
                    client.get_job(forgetful.cluster_id, job_id)
                except NotFoundError:
                    return job_id
                time.sleep(0.02)

    return make


def test_a_forgotten_job_that_succeeded_is_no_longer_waited_for(waiting_for, forgotten, caplog):
    caplog.set_level(logging.INFO)
    job_id = forgotten("exit 0")
    result = waiting_for(f"afterok:{job_id}")

    assert result["job_id"] > job_id
    assert f"Slurm has forgotten job {job_id}." in caplog.text
    assert "submitted with no dependency" in caplog.text


def test_a_forgotten_job_that_failed_fails_the_task_at_once(waiting_for, forgotten):
    job_id = forgotten("exit 3")
    with pytest.raises(AirflowFailException, match=f"can never hold: job {job_id} failed"):
        waiting_for(f"afterok:{job_id}")

    assert waiting_for(f"afternotok:{job_id}")["job_id"]


def test_a_forgotten_array_counts_by_all_its_tasks_or_by_one(waiting_for, forgotten):
    job_id = forgotten("exit $SLURM_ARRAY_TASK_ID", array="0-1")
    with pytest.raises(AirflowFailException, match=f"job {job_id} failed"):
        waiting_for(f"afterok:{job_id}")

    assert waiting_for(f"afterok:{job_id}_0")["job_id"]


def test_every_component_of_a_heterogeneous_job_is_relieved_of_it(forgetful, forgotten):
    written = f"afterok:{forgotten('exit 0')}"
    jobs = [
        {"dependency": written, "tasks": 1},
        {"dependency": "singleton"},
        {"dependency": written},
    ]
    with ClusterraHook().client() as client:
        left = without_forgotten(
            client, forgetful.cluster_id, JobRequest("#!/bin/bash", tuple(jobs), "x")
        )

    assert [*left.components] == [{"tasks": 1}, {"dependency": "singleton"}, {}]


def test_a_job_that_nobody_knows_is_told(waiting_for):
    with pytest.raises(AirflowFailException, match=r"Slurm does not know job 9999 .any more"):
        waiting_for("afterok:9999")


def part(state, index=None, *, rest="", **fields):
    return Job(
        9,
        read_state([state]),
        array_job_id=9,
        array_task_id=index,
        array_task_string=rest,
        **fields,
    )


@pytest.mark.parametrize(
    ("written", "records", "succeeded"),
    [
        ("9", [part("COMPLETED", 0), part("COMPLETED", 1)], True),
        ("9", [part("COMPLETED", 0), part("CANCELLED", rest="0xE")], False),
        ("9_0", [part("COMPLETED", 0), part("FAILED", 1)], True),
        ("9_3", [part("COMPLETED", 0), part("CANCELLED", rest="0x8")], False),
        ("9_3", [part("COMPLETED", 3), part("CANCELLED", rest="0xE")], True),
    ],
)
def test_accounting_says_how_each_part_of_a_dependency_ended(written, records, succeeded):
    assert judge_dependency(written, records) is succeeded


@pytest.mark.parametrize(
    ("written", "records"),
    [
        ("9", [part("COMPLETED", 0), part("RUNNING", 1)]),
        ("9", [part("COMPLETED", 0), part("PENDING", rest="0xE")]),
        ("9_3", [part("COMPLETED", 0), part("PENDING", rest="0xE")]),
        (
            "9",
            [
                Job(9, read_state(["COMPLETED"]), het_job_id=9, het_job_offset=0),
                Job(10, read_state(["RUNNING"]), het_job_id=9, het_job_offset=1),
            ],
        ),
    ],
)
def test_a_part_that_accounting_has_not_seen_end_leaves_the_question_to_a_retry(written, records):
    with pytest.raises(SubmitError, match=r"still says that it is (RUNNING|PENDING)"):
        judge_dependency(written, records)


def test_a_task_of_an_array_that_accounting_does_not_know_has_no_end():
    with pytest.raises(InputError, match="does not know job 9_7"):
        judge_dependency("9_7", [part("COMPLETED", 0), part("CANCELLED", rest="0xE")])
