"""The tasks that are struck: deferred or not, mapped or not, retried soon or late."""

import itertools
import os
import time
from datetime import timedelta
from pathlib import Path

from airflow.sdk import DAG

from airflow_provider_clusterra.operators.jobs import ClusterraSubmitJobOperator

NOTES = Path(os.environ["CRASH_NOTES"])
SCRIPT = """#!/bin/bash
[ "$STUBBORN" = True ] && trap '' TERM
end=$((${EPOCHREALTIME/./} + ${LASTS/./}00000))
while [ ${EPOCHREALTIME/./} -lt $end ]; do echo $EPOCHREALTIME; sleep 0.5; done
"""


def note(context):
    """Tell the rig that a leg begins, and in which process."""
    name = f"{context['dag_run'].conf['round']}.{context['ti'].map_index}"
    with (NOTES / name).open("a") as notes:
        notes.write(f"{os.getpid()} {os.getppid()} {time.time()}\n")


for deferrable, mapped, slow in itertools.product((False, True), repeat=3):
    words = ["crash", "deferred" if deferrable else "waiting"]
    with DAG(
        "_".join(words + ["mapped"] * mapped + ["slow"] * slow),
        schedule=None,
        max_active_runs=100,
        max_active_tasks=100,
    ) as dag:
        environment = {
            "LASTS": "{{ '%.1f' % dag_run.conf['lasts'][ti.map_index] }}",
            "STUBBORN": "{{ dag_run.conf['stubborn'] }}",
        }
        task = {
            "task_id": "job",
            "script": SCRIPT,
            "name": "r{{ dag_run.conf['round'] }}.{{ ti.map_index }}",
            "clusterra_conn_id": "round_{{ dag_run.conf['round'] }}_{{ ti.map_index }}",
            "deferrable": deferrable,
            "poll_interval": 1,
            "retries": 3,
            "retry_delay": timedelta(seconds=15 if slow else 1),
            "pre_execute": note,
            "submit_confirmation_timeout": 8,
        }
        if mapped:
            ClusterraSubmitJobOperator.partial(**task).expand(
                environment=[{**environment, "N": str(number)} for number in range(2)]
            )
        else:
            ClusterraSubmitJobOperator(environment=environment, **task)
    globals()[dag.dag_id] = dag
