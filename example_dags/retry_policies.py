"""Retry each kind of failure as it deserves: needs Airflow 3.3.

A preempted job and a failed node are retried at once, without the node that failed; too little memory
with twice as much; whatever the script itself gets wrong is not retried. Anything else follows the
task's own ``retries`` and ``retry_delay``. Bad input never is: those errors fail the task for good.
"""

from datetime import timedelta

from airflow.sdk import DAG, ExceptionRetryPolicy, RetryAction, RetryRule

from airflow_provider_clusterra.operators.jobs import ClusterraSubmitJobOperator
from airflow_provider_clusterra.task.report import (
    JobExitedError,
    JobNodeFailedError,
    JobOutOfMemoryError,
)

AT_ONCE = timedelta(0)

with DAG("retry_policies", schedule=None, tags=["clusterra"]):
    ClusterraSubmitJobOperator(
        task_id="simulate",
        script="#!/bin/bash\n#SBATCH --no-requeue\necho simulated\n",
        memory="100M",
        time_limit="0:05:00",
        deferrable=True,
        return_output="last_line",
        retries=5,
        retry_delay=timedelta(minutes=5),
        retry_policy=ExceptionRetryPolicy(
            rules=[
                # preempted jobs are among them
                RetryRule(JobNodeFailedError, RetryAction.RETRY, AT_ONCE),
                RetryRule(JobOutOfMemoryError, RetryAction.RETRY, AT_ONCE),
                RetryRule(JobExitedError, RetryAction.FAIL),
            ]
        ),
        exclude_failed_nodes=True,
        grow_on_retry={"memory": 2.0},
        max_memory="400M",
    )
