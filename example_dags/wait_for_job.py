"""Wait for a job that something else submitted, and take its last line of output.

Here another task submits it, and does not wait. The sensor never cancels it.
"""

from airflow.sdk import DAG

from airflow_provider_clusterra.operators.jobs import ClusterraSubmitJobOperator
from airflow_provider_clusterra.sensors.jobs import ClusterraJobSensor

with DAG("wait_for_job", schedule=None, tags=["clusterra"]):
    submit = ClusterraSubmitJobOperator(
        task_id="submit",
        script="#!/bin/bash\nsleep 5\necho done\n",
        time_limit="0:05:00",
        wait_for_completion=False,
    )

    wait = ClusterraJobSensor(
        task_id="wait",
        job_id="{{ ti.xcom_pull('submit', key='job_id') }}",
        deferrable=True,
        timeout=3600,
        return_output="last_line",
    )

    submit >> wait
