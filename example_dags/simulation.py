"""A script of its own file, its input uploaded with the submit, and its result as JSON.

``simulation.sh`` stands beside this file, as it would for ``sbatch``: its ``#SBATCH`` lines count, and
Jinja in it is rendered. The task's arguments win over the lines.
"""

import tempfile
from pathlib import Path

from airflow.sdk import DAG, task

from airflow_provider_clusterra.operators.jobs import ClusterraSubmitJobOperator

with DAG("simulation", schedule=None, params={"steps": 1000}, tags=["clusterra"]):

    @task
    def make_start() -> str:
        """Where a mass on a spring begins, and how fast it is.

        :returns: the path of a small file.
        """
        path = Path(tempfile.mkdtemp()) / "start.txt"
        path.write_text("1.0 0.0\n")
        return str(path)

    simulate = ClusterraSubmitJobOperator(
        task_id="simulate",
        script="simulation.sh",
        uploads={"START": make_start()},
        environment={"STEPS": "{{ params.steps }}"},
        memory="100M",
        deferrable=True,
        return_output="json",
    )

    @task
    def report(result: dict) -> str:
        """Use the result.

        :param result: what the job's task returned.
        """
        spring = result["output"]
        return f"after {spring['steps']} steps the mass is at {spring['position']}"

    report(simulate.output)
