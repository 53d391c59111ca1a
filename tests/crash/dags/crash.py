"""The tasks that are struck: in every shape, deferred or not, mapped or not, retried soon or late."""

import itertools
import os
import time
from datetime import timedelta
from pathlib import Path

from airflow.sdk import DAG, task, task_group

from airflow_provider_clusterra.operators.jobs import (
    ClusterraSubmitJobOperator,
    ClusterraSubmitTemplateOperator,
)
from airflow_provider_clusterra.sensors.jobs import ClusterraJobSensor
from tests.crash.rounds import MAPPED, Shape, dag_id, shapes_here

NOTES = Path(os.environ["CRASH_NOTES"])
HEAD = """#!/bin/bash
[ "$STUBBORN" = True ] && trap '' TERM
"""
SCRIPT = """end=$((${EPOCHREALTIME/./} + ${LASTS/./}00000))
while [ ${EPOCHREALTIME/./} -lt $end ]; do echo $EPOCHREALTIME; sleep 0.5; done
"""
LASTS = "{{ '%.1f' % dag_run.conf['lasts'][ti.map_index] }}"
STUBBORN = "{{ dag_run.conf['stubborn'] }}"
ENVIRONMENT = {"LASTS": LASTS, "STUBBORN": STUBBORN}
NAME = "r{{ dag_run.conf['round'] }}.{{ ti.map_index }}"
CONNECTION = "round_{{ dag_run.conf['round'] }}_{{ ti.map_index }}"
# without a name of ours, the seed says whose job it is
SEED = "{{ dag_run.conf['round'] }}"


def note(context):
    """Tell the rig that a leg begins, and in which process."""
    ti = context["ti"]
    index = -1 if context.get("loop") else ti.map_index
    with (NOTES / f"{context['dag_run'].conf['round']}.{index}").open("a") as notes:
        notes.write(f"{os.getpid()} {os.getppid()} {time.time()}\n")


def run_for(seconds, stubborn):
    """A job as the script is, as a function."""
    import signal  # noqa: PLC0415 - travels
    import time  # noqa: PLC0415

    if stubborn == "True":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    end = time.time() + float(seconds)
    while time.time() < end:
        print(time.time(), flush=True)
        time.sleep(0.5)


def make_task(shape, arguments, *, mapped):
    """One task of a shape."""
    script = {"script": HEAD + SCRIPT, **arguments}
    match shape:
        case Shape.SCRIPT | Shape.ARRAY:
            more = {"array": "0-2"} if shape is Shape.ARRAY else {}
            if mapped:
                environments = [{**ENVIRONMENT, "N": str(number)} for number in range(2)]
                ClusterraSubmitJobOperator.partial(**script, **more).expand(
                    environment=environments
                )
            else:
                ClusterraSubmitJobOperator(**script, **more, environment=ENVIRONMENT)
        case Shape.UPLOAD:
            ClusterraSubmitJobOperator(
                **script, environment=ENVIRONMENT, uploads={"data": os.environ["CRASH_DATA"]}
            )
        case Shape.FUNCTION:
            task.clusterra(**arguments)(run_for)(LASTS, STUBBORN)
        case Shape.TEMPLATE | Shape.BLIND:
            del arguments["name"]
            body = f"{HEAD}LASTS={LASTS}\nSTUBBORN={STUBBORN}\n{SCRIPT}"
            template, params = (
                ("custom-slurm", {"job_name": NAME, "script_body": body})
                if shape is Shape.TEMPLATE
                else ("estimate-pi", {"points": 1_000_000, "seed": SEED})
            )
            ClusterraSubmitTemplateOperator(
                **arguments, template_id=template, template_params=params
            )
        case Shape.SENSOR:
            submit = ClusterraSubmitJobOperator(
                **{**script, "task_id": "submit", "deferrable": False, "pre_execute": None},
                environment=ENVIRONMENT,
                wait_for_completion=False,
            )
            keep = ("task_id", "clusterra_conn_id", "deferrable", "retries", "retry_delay")
            submit >> ClusterraJobSensor(
                **{name: arguments[name] for name in (*keep, "pre_execute")},
                job_id="{{ ti.xcom_pull('submit', key='job_id') }}",
                poke_interval=1,
            )
        case Shape.LOOP:

            @task_group
            def again():
                environment = {**ENVIRONMENT, "LASTS": LASTS.replace("ti.map_index", "-1")}
                ClusterraSubmitJobOperator(**script, environment=environment)

            again.loop(max_iterations=2)


for shape, deferrable, mapped, slow in itertools.product(
    shapes_here(), (False, True), (False, True), (False, True)
):
    if mapped and shape not in MAPPED:
        continue
    index = "-1" if shape is Shape.LOOP else "{{ ti.map_index }}"
    with DAG(
        dag_id(shape, deferrable=deferrable, mapped=mapped, slow_retry=slow),
        schedule=None,
        max_active_runs=100,
        max_active_tasks=100,
    ) as dag:
        make_task(
            shape,
            {
                "task_id": "job",
                "name": NAME.replace("{{ ti.map_index }}", index),
                "clusterra_conn_id": CONNECTION.replace("{{ ti.map_index }}", index),
                "deferrable": deferrable,
                "poll_interval": 1,
                "retries": 5,
                "retry_delay": timedelta(seconds=15 if slow else 1),
                "pre_execute": note,
                "submit_confirmation_timeout": 8,
            },
            mapped=mapped,
        )
    globals()[dag.dag_id] = dag
