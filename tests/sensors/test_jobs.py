"""Tests of airflow_provider_clusterra.sensors.jobs."""

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    TaskDeferred,
)

from airflow_provider_clusterra.hooks.clusterra import ClusterraHook
from airflow_provider_clusterra.operators.failures import JobError, JobLostError
from airflow_provider_clusterra.sensors.jobs import ClusterraJobSensor
from airflow_provider_clusterra.triggers.events import JobEvent
from tests.airflow_side import TaskInstance
from tests.wire import Wire, http

RUNNING = http(200, {"jobs": [{"job_id": 7, "job_state": ["RUNNING"]}]})
GONE = http(404, {"errors": [{"error": "Invalid job id specified", "error_number": 2017}]})


def wait_for(job_id, **fields):
    defaults = {"task_id": "task", "deferrable": False, "poke_interval": 0.05, "timeout": 30}
    return ClusterraJobSensor(job_id=job_id, **{**defaults, **fields})


def run(sensor):
    return sensor.execute({"ti": TaskInstance()})


@pytest.fixture
def submitted(connected):
    """Submits a script, and gives the job's id."""

    def submit(script):
        job = {"environment": ["A=1"], "current_working_directory": "/mnt/efs"}
        body = {"script": f"#!/bin/bash\n{script}\n", "job": job}
        with ClusterraHook().client() as client:
            return client.submit_job(connected.cluster_id, body).job_id

    return submit


def test_a_job_is_waited_for_and_its_result_returned(submitted):
    result = run(wait_for(submitted("sleep 0.2; echo 5"), return_output="json"))

    assert (result["state"], result["output"]) == ("COMPLETED", 5)


def test_a_job_id_may_come_from_xcom_as_text(submitted):
    assert run(wait_for(f" {submitted('exit 0')} "))["state"] == "COMPLETED"


def test_a_deferrable_sensor_leaves_its_worker(submitted, connected):
    with pytest.raises(TaskDeferred) as caught:
        run(wait_for(submitted("sleep 60"), deferrable=True, timeout=100))
    kwargs = caught.value.trigger.serialize()[1]

    assert kwargs["owns_job"] is False
    assert kwargs["poll_interval"] == 0.05
    assert 100 < caught.value.timeout < 300


def test_a_deferrable_sensor_does_not_defer_for_a_job_that_has_ended(submitted):
    job_id = submitted("exit 0")
    run(wait_for(job_id))

    assert run(wait_for(job_id, deferrable=True))["state"] == "COMPLETED"


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_failed_job_fails_the_task_or_skips_it(submitted, deferrable):
    job_id = submitted("echo bad luck; exit 3")
    with pytest.raises(JobError, match="bad luck"):
        run(wait_for(job_id))
    with pytest.raises(JobError, match="bad luck"):
        run(wait_for(job_id, deferrable=deferrable))
    with pytest.raises(AirflowSkipException, match="bad luck"):
        run(wait_for(job_id, deferrable=deferrable, soft_fail=True))


def test_a_sensor_that_runs_out_of_time_leaves_the_job_alone(submitted, connected):
    job_id = submitted("sleep 60")
    with pytest.raises(AirflowSensorTimeout):
        run(wait_for(job_id, timeout=0.2))
    with pytest.raises(AirflowSkipException):
        run(wait_for(job_id, timeout=0.2, soft_fail=True))
    with ClusterraHook().client() as client:
        assert client.get_job(connected.cluster_id, job_id).state.base == "RUNNING"
        client.cancel_job(connected.cluster_id, job_id)


@pytest.mark.parametrize(
    ("soft_fail", "kind"), [(False, AirflowSensorTimeout), (True, AirflowSkipException)]
)
def test_a_deferral_that_runs_out_of_time_means_the_same(connection, soft_fail, kind):
    connection("http://127.0.0.1:9")
    event = JobEvent("timed_out", 7, "c1", None, "Job 7 is RUNNING after 30 s").to_payload()
    with pytest.raises(kind, match="RUNNING after 30 s"):
        wait_for(7, soft_fail=soft_fail).execute_complete({"ti": TaskInstance()}, event)


def test_an_event_becomes_the_same_result(submitted, connected):
    job_id = submitted("echo 5")
    now = run(wait_for(job_id, return_output="json"))
    with ClusterraHook().client() as client:
        job = client.get_job(connected.cluster_id, job_id)
    event = JobEvent("ended", job_id, connected.cluster_id, job).to_payload()
    sensor = wait_for(job_id, return_output="json")

    assert sensor.execute_complete({"ti": TaskInstance()}, event) == now


def test_a_hiccup_is_looked_past(connection, mocker):
    mocker.patch("time.sleep")
    with Wire(
        *[http(503, b"busy")] * 12, http(200, {"jobs": [{"job_id": 7, "job_state": ["COMPLETED"]}]})
    ) as wire:
        connection(wire.url)

        assert run(wait_for(7))["state"] == "COMPLETED"


def test_a_job_that_vanishes_is_lost(connection):
    clusters = http(200, {"clusters": [{"id": "c1"}]})
    with Wire(RUNNING, *[GONE, clusters] * 3) as wire:
        connection(wire.url)
        with pytest.raises(JobLostError, match="last seen RUNNING"):
            run(wait_for(7))


@pytest.mark.parametrize("job_id", [None, "", "None", "abc", 0, -1], ids=repr)
def test_a_job_id_that_is_none_says_so(connection, job_id):
    connection("http://127.0.0.1:9")
    with pytest.raises(AirflowFailException, match="Slurm's number for a job"):
        run(wait_for(job_id))


def test_an_unknown_cluster_fails_for_good(connected):
    with pytest.raises(AirflowFailException, match="no cluster 'typo'"):
        run(wait_for(7, cluster_id="typo"))


def test_a_session_that_is_not_accepted_fails_for_good(local, connection):
    connection(local.url, "wr0ng-cookie", local.cluster_id)
    with pytest.raises(AirflowFailException, match="sign in with the browser"):
        run(wait_for(7))
