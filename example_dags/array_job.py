"""One job of many tasks: an array, which may lose some of them and still succeed.

Each index is a job of its own to Slurm, and all are one to Airflow: one wait, one log, one result. With
``retry_failed_indices`` a retry runs only those again that did not succeed (Airflow 3.3).
"""

from airflow.sdk import DAG, task

from airflow_provider_clusterra.operators.jobs import ClusterraSubmitJobOperator

with DAG("array_job", schedule=None, tags=["clusterra"]):
    squares = ClusterraSubmitJobOperator(
        task_id="squares",
        script="#!/bin/bash\necho $((SLURM_ARRAY_TASK_ID * SLURM_ARRAY_TASK_ID))\n",
        array="0-9%4",
        array_success=0.9,
        retry_failed_indices=True,
        retries=2,
        time_limit="0:05:00",
        deferrable=True,
        return_output="json",
    )

    @task
    def add_up(result: dict) -> int:
        """Put the tasks' outputs together.

        :param result: what the array's task returned; an index that did not succeed has None.
        """
        return sum(value for value in result["output"].values() if value is not None)

    add_up(squares.output)
