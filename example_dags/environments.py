"""Use a module in a script, and the Python of a conda environment in a function."""

from airflow.sdk import DAG, task

from airflow_provider_clusterra.operators.jobs import ClusterraSubmitJobOperator

SCRIPT = """\
#!/bin/bash
set -eo pipefail
# a job's shell is no login shell: define the command module first
if [ -r /etc/profile.d/modules.sh ]; then
    source /etc/profile.d/modules.sh
    module load python
fi
python3 --version
"""

with DAG("environments", schedule=None, tags=["clusterra"]):
    ClusterraSubmitJobOperator(
        task_id="with_modules",
        script=SCRIPT,
        time_limit="0:05:00",
        deferrable=True,
        return_output="last_line",
    )

    # e.g. the Airflow variable clusterra_python is /shared/envs/md/bin/python
    @task.clusterra(
        python="{{ var.value.get('clusterra_python', 'python3') }}",
        time_limit="0:05:00",
        deferrable=True,
    )
    def with_conda() -> str:
        """Which interpreter it is."""
        import sys

        return sys.executable

    with_conda()
