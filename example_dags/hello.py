"""Submit a script as a job, and wait for it without holding a worker.

Needs an Airflow connection ``clusterra_default``; see the README.
"""

from airflow.sdk import DAG

from airflow_provider_clusterra.operators.jobs import ClusterraSubmitJobOperator

with DAG("hello", schedule=None, tags=["clusterra"]):
    ClusterraSubmitJobOperator(
        task_id="hello",
        script="#!/bin/bash\nsleep 20\necho hello from $(hostname)\n",
        time_limit="0:05:00",
        deferrable=True,
        return_output="last_line",
    )
