"""What a job used, in each mode, against the real clusterra-server."""

import asyncio
import logging
import os

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_clusterra.sensors.jobs import ClusterraJobSensor
from airflow_provider_clusterra.task.report import JobError
from tests.operators.test_jobs import submit

MB = 2**20
BURN = """\
python3 -c "
import time
b = b'x' * (80 * 2**20)
while time.process_time() < 1.2: pass
"
"""


ASKED = {"memory": 400, "cpus_per_task": 2, "environment": {"PATH": os.environ["PATH"]}}


def check(usage):
    assert 80 * MB <= usage["memory_bytes_peak"] <= 200 * MB
    assert usage["memory_bytes_requested"] == 400 * MB
    assert 0.8 <= usage["cpu_core_seconds_used"] <= 5
    assert usage["cpus_allocated"] == 2
    assert usage["run_seconds"] >= 1
    assert usage["queue_seconds"] >= 0
    assert not {"gpus_allocated", "energy_joules", "cost_usd"} & usage.keys()


def test_a_task_that_waits_in_its_worker_returns_what_its_job_used(connected, run, caplog):
    caplog.set_level(logging.INFO)
    result = run(submit(BURN, **ASKED))

    check(result["usage"])
    assert f"Job {result['job_id']} used " in caplog.text
    assert " of 400 MB, " in caplog.text


def test_a_deferred_task_returns_what_its_trigger_was_told(connected, run, ti):
    operator = submit(BURN, deferrable=True, **ASKED)
    with pytest.raises(TaskDeferred) as deferred:
        run(operator)
    event = asyncio.run(deferred.value.trigger.wait()).to_payload()

    check(operator.execute_complete({"ti": ti}, event)["usage"])


def test_a_job_that_had_ended_before_the_wait_has_its_receipt_and_a_sensor_as_well(
    connected, run, ti
):
    job_id = run(submit(BURN, wait_for_completion=False, **ASKED))["job_id"]
    sensor = {"task_id": "wait", "job_id": job_id, "poke_interval": 0.05}
    for fields in ({}, {"deferrable": True}):
        check(ClusterraJobSensor(**sensor, **fields).execute({"ti": ti})["usage"])


def test_a_failed_jobs_usage_is_in_xcom_job(connected, run, ti):
    with pytest.raises(JobError):
        run(submit(f"{BURN}\nexit 3", **ASKED))
    check(ti.pushed["job"]["usage"])


def test_an_arrays_usage_is_that_of_its_tasks(connected, run):
    usage = run(submit(BURN, array="0-1", **ASKED))["usage"]

    assert usage["tasks"]["count"] == 2
    assert usage["cpu_core_seconds_used"] >= 1.6
    assert usage["tasks"]["median"]["memory_bytes_peak"] >= 80 * MB
