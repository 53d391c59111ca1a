"""Keep a helping job for as long as another one needs it, and cancel it whatever happens.

The helper is e.g. a database or a scheduler of workers. Its task is a setup and ``end`` its teardown: the
latter runs as soon as the helper was submitted, also if the work between them fails.
"""

from airflow.sdk import DAG

from airflow_provider_clusterra.operators.cancel import ClusterraCancelJobOperator
from airflow_provider_clusterra.operators.jobs import ClusterraSubmitJobOperator

with DAG("helper_job", schedule=None, tags=["clusterra"]):
    helper = ClusterraSubmitJobOperator(
        task_id="helper",
        script="#!/bin/bash\necho helping\nsleep 3000\n",
        time_limit="1:00:00",
        wait_for_completion=False,
    )

    work = ClusterraSubmitJobOperator(
        task_id="work",
        script="#!/bin/bash\necho working beside job $HELPER\n",
        environment={"HELPER": "{{ ti.xcom_pull('helper', key='job_id') }}"},
        time_limit="0:05:00",
        deferrable=True,
        return_output="last_line",
    )

    end = ClusterraCancelJobOperator(task_id="end", job_id=helper.output["job_id"])

    helper >> work >> end.as_teardown(setups=helper)
