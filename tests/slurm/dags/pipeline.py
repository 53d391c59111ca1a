"""A whole piece of work for a real Slurm: upload, an array, a job that uses both, and one that fails."""

import tempfile
from pathlib import Path

from airflow.sdk import DAG, task

from airflow_provider_clusterra.operators.jobs import ClusterraSubmitJobOperator
from airflow_provider_clusterra.sensors.jobs import ClusterraJobSensor

PARTS = """\
#!/bin/bash
#SBATCH --mem-per-cpu=50M
mkdir -p pipeline
sleep 2
echo $((SLURM_ARRAY_TASK_ID * 10)) >pipeline/part_$SLURM_ARRAY_TASK_ID
"""
SUM_UP = """\
#!/bin/bash
#SBATCH -J sum-up -t 5
set -euo pipefail
curl --fail --silent --output numbers "$NUMBERS_URL"
for part in 1 2 3; do
    echo "part $part of 3"
    sleep 1
done
sum=$(($(cat numbers pipeline/part_* | paste -sd+ -)))
echo "{\\"sum\\": $sum, \\"cpus\\": $SLURM_CPUS_PER_TASK}"
"""

with DAG("pipeline", schedule=None):

    @task
    def make_input() -> str:
        """A small file of numbers.

        :returns: its path.
        """
        path = Path(tempfile.mkdtemp()) / "numbers"
        path.write_text("1\n2\n3\n")
        return str(path)

    parts = ClusterraSubmitJobOperator(
        task_id="parts", script=PARTS, array="1-3%2", deferrable=True, poll_interval=1
    )
    sum_up = ClusterraSubmitJobOperator(
        task_id="sum_up",
        script=SUM_UP,
        cpus_per_task=2,
        uploads={"NUMBERS": make_input()},
        deferrable=True,
        poll_interval=1,
        return_output="json",
    )
    look = ClusterraJobSensor(
        task_id="look",
        job_id="{{ ti.xcom_pull('sum_up', key='job_id') }}",
        deferrable=True,
        poke_interval=1,
        timeout=120,
    )
    fails = ClusterraSubmitJobOperator(
        task_id="fails",
        script="#!/bin/bash\nsleep 2\necho the input is missing >&2\nexit 3\n",
        deferrable=True,
        poll_interval=1,
    )
    parts >> sum_up >> look

with DAG("full_queue", schedule=None):
    ClusterraSubmitJobOperator.partial(
        task_id="each", deferrable=True, poll_interval=1, timeout=600
    ).expand(script=[f"#!/bin/bash\nsleep 1\necho {number}\n" for number in range(5)])
