"""Let a job use a secret that Airflow never sees.

What a task's ``environment`` holds is shown in Airflow's UI. So the job gets the name of the
secret, and reads it on the cluster, where only its user can.
"""

from airflow.sdk import DAG

from airflow_provider_clusterra.operators.jobs import ClusterraSubmitJobOperator

SCRIPT = """\
#!/bin/bash
set -euo pipefail
file="${SECRETS:-$HOME/.secrets}/$SECRET_NAME"
if [ -r "$file" ]; then
    export TOKEN=$(cat "$file")
    echo "the secret $SECRET_NAME is there"
else
    echo "there is no secret $SECRET_NAME here"
fi
"""

with DAG("secret_by_name", schedule=None, tags=["clusterra"]):
    ClusterraSubmitJobOperator(
        task_id="fetch",
        script=SCRIPT,
        environment={"SECRET_NAME": "data-portal", "HOME": "/home/you"},
        time_limit="0:05:00",
        deferrable=True,
        return_output="last_line",
    )
