"""Run many jobs, and only so many at a time.

Needs a pool that counts deferred tasks, too:
``airflow pools set clusterra_jobs 2 "jobs at a time" --include-deferred``.
"""

from airflow.sdk import DAG

from airflow_provider_clusterra.operators.jobs import ClusterraSubmitJobOperator

with DAG("many_jobs", schedule=None, tags=["clusterra"]):
    ClusterraSubmitJobOperator.partial(
        task_id="square",
        script="#!/bin/bash\necho $((NUMBER * NUMBER))\n",
        time_limit="0:05:00",
        deferrable=True,
        return_output="json",
        pool="clusterra_jobs",
    ).expand(environment=[{"NUMBER": str(number)} for number in range(4)])
