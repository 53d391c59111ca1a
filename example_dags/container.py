"""Run a script and a function inside of container images.

The connection's extra ``container_runtime`` says what starts them: apptainer, singularity, pyxis or oci.
"""

from airflow.sdk import DAG, task

from airflow_provider_clusterra.operators.jobs import ClusterraSubmitJobOperator

with DAG("container", schedule=None, tags=["clusterra"]):
    shell = ClusterraSubmitJobOperator(
        task_id="shell",
        script="#!/bin/sh\n. /etc/os-release\necho $PRETTY_NAME\n",
        container="docker://alpine:3.20",
        deferrable=True,
        return_output="last_line",
    )

    @task.clusterra(container="docker://python:3.12-slim", deferrable=True)
    def version() -> str:
        import platform

        return platform.python_version()

    shell >> version()
