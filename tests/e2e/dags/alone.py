"""A DAG that is tried out without a scheduler, as its author does."""

from airflow.sdk import DAG

from airflow_provider_clusterra.operators.jobs import ClusterraSubmitJobOperator

with DAG("alone", schedule=None) as dag:
    ClusterraSubmitJobOperator(
        task_id="one",
        script="#!/bin/bash\nsleep 3\necho tried out\n",
        deferrable=True,
        poll_interval=1,
        return_output="last_line",
    )

if __name__ == "__main__":
    dag.test()
