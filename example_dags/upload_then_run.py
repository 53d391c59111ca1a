"""Make an input, upload it, run a job that reads it, and use the job's result.

The job prints its result as one line of JSON; ``return_output="json"`` brings it into XCom. The
script finds the input at ``$CLUSTERRA_FILES``, where ``clusterra-server`` keeps uploaded files.
"""

import random
import tempfile
from pathlib import Path

from airflow.sdk import DAG, task

from airflow_provider_clusterra.operators.jobs import ClusterraSubmitJobOperator
from airflow_provider_clusterra.operators.storage import ClusterraUploadFileOperator
from airflow_provider_clusterra.sensors.jobs import ClusterraJobSensor

SUM_UP = """\
#!/bin/bash
set -euo pipefail
input="$CLUSTERRA_FILES/$INPUT_KEY"
echo "Job $SLURM_JOB_ID on $SLURMD_NODENAME reads $INPUT_KEY"
for part in 1 2 3 4 5; do
    echo "part $part of 5"
    sleep 1
done
awk '{ sum += $1 } END { printf "{\\"count\\": %d, \\"sum\\": %d}\\n", NR, sum }' "$input"
"""

with DAG("upload_then_run", schedule=None, tags=["clusterra"]):

    @task
    def make_input() -> str:
        """A small file of numbers.

        :returns: its path.
        """
        path = Path(tempfile.mkdtemp()) / "numbers.txt"
        path.write_text("".join(f"{random.randint(1, 100)}\n" for _ in range(1000)))
        return str(path)

    upload = ClusterraUploadFileOperator(task_id="upload", source=make_input())

    run = ClusterraSubmitJobOperator(
        task_id="run",
        name="sum-up",
        script=SUM_UP,
        environment={"INPUT_KEY": "{{ ti.xcom_pull('upload') }}"},
        time_limit="0:05:00",
        deferrable=True,
    )

    wait = ClusterraJobSensor(
        task_id="wait",
        job_id="{{ ti.xcom_pull('run', key='job_id') }}",
        deferrable=True,
        return_output="json",
    )

    @task
    def report(result: dict) -> str:
        """Use the result.

        :param result: what the sensor returned.
        """
        numbers = result["output"]
        return f"{numbers['count']} numbers, {numbers['sum']} in all"

    upload >> run >> wait
    report(wait.output)
