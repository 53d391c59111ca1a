"""The DAGs of the tests on a real Airflow; their connections are the tests' own."""

from datetime import timedelta

from airflow.sdk import DAG

from airflow_provider_clusterra.operators.jobs import ClusterraSubmitJobOperator
from airflow_provider_clusterra.sensors.jobs import ClusterraJobSensor

SHEBANG = "#!/bin/bash\n"
RETRIES = {"retries": 2, "retry_delay": timedelta(seconds=0)}

with DAG("deferred", schedule=None) as deferred:
    for number in range(3):
        ClusterraSubmitJobOperator(
            task_id=f"job_{number}",
            script=f"{SHEBANG}sleep 3\necho '{{\"number\": {number}}}'\n",
            return_output="json",
            deferrable=True,
            poll_interval=1,
        )
    ClusterraSubmitJobOperator(
        task_id="fails",
        script=f"{SHEBANG}sleep 1\necho the input is missing >&2\nexit 3\n",
        deferrable=True,
        poll_interval=1,
    )

with DAG("waiting", schedule=None) as waiting:
    submit = ClusterraSubmitJobOperator(
        task_id="submit", script=f"{SHEBANG}sleep 4\necho done\n", wait_for_completion=False
    )
    for name, how in {
        "poke": {"mode": "poke", "deferrable": False},
        # sooner, Airflow may fail it: it is queued again while its worker still ends
        "reschedule": {"mode": "reschedule", "deferrable": False, "poke_interval": 5},
        "deferrable": {"deferrable": True},
    }.items():
        submit >> ClusterraJobSensor(
            task_id=name,
            job_id="{{ ti.xcom_pull('submit', key='job_id') }}",
            timeout=60,
            return_output="last_line",
            **{"poke_interval": 1, **how},
        )

with DAG("killed", schedule=None) as killed:
    ClusterraSubmitJobOperator(
        task_id="runs", script=f"{SHEBANG}sleep 600\n", deferrable=False, poll_interval=1
    )

with DAG("parked", schedule=None) as parked:
    ClusterraSubmitJobOperator(
        task_id="one", script=f"{SHEBANG}sleep 600\n", deferrable=True, poll_interval=1
    )
    ClusterraSubmitJobOperator.partial(
        task_id="many", script=f"{SHEBANG}sleep 600\n", deferrable=True, poll_interval=1
    ).expand(environment=[{"N": "0"}, {"N": "1"}, {"N": "2"}])

with DAG("timed", schedule=None, dagrun_timeout=timedelta(seconds=12)) as timed:
    ClusterraSubmitJobOperator(
        task_id="one", script=f"{SHEBANG}sleep 600\n", deferrable=True, poll_interval=1
    )

with DAG("shared", schedule=None) as shared:
    ClusterraSubmitJobOperator.partial(
        task_id="many",
        script=f"{SHEBANG}while [ ! -e go_$N ]; do sleep 0.2; done\n",
        deferrable=True,
        poll_interval=1,
        follow_output=False,
        clusterra_conn_id="clusterra_counted",
    ).expand(environment=[{"N": str(number)} for number in range(6)])

with DAG("resumed", schedule=None) as resumed:
    ClusterraSubmitJobOperator(
        task_id="one",
        script=f"{SHEBANG}echo before\nwhile [ ! -e resume ]; do sleep 0.2; done\necho after\n",
        deferrable=True,
        poll_interval=1,
        clusterra_conn_id="{{ dag_run.conf.get('conn', 'clusterra_default') }}",
        return_output="text",
    )

with DAG("talking", schedule=None) as talking:
    ClusterraSubmitJobOperator(
        task_id="one",
        script=f"{SHEBANG}for n in $(seq 20); do echo line $n 100%; sleep 0.2; done\n",
        deferrable=True,
        poll_interval=1,
    )

with DAG("mapped", schedule=None) as mapped:
    ClusterraSubmitJobOperator.partial(
        task_id="many",
        script=f'{SHEBANG}sleep 2\necho "square $((N * N))"\n',
        deferrable=True,
        poll_interval=1,
        follow_output=False,
        return_output="last_line",
    ).expand(environment=[{"N": str(number)} for number in range(50)])

with DAG("grown", schedule=None, default_args=RETRIES) as grown:
    ClusterraSubmitJobOperator(
        task_id="one",
        script=f"{SHEBANG}sleep 8\necho done\n",
        time_limit=1,
        grow_on_retry={"time_limit": 2.0, "memory": 1.5},
        deferrable=True,
        poll_interval=1,
        return_output="last_line",
    )

with DAG("hopeless", schedule=None, default_args=RETRIES) as hopeless:
    for name, arguments in {
        "wrong_session": {"clusterra_conn_id": "clusterra_wrong"},
        "unknown_cluster": {"cluster_id": "typo"},
        "no_shebang": {"script": "echo hi\n"},
    }.items():
        ClusterraSubmitJobOperator(
            task_id=name, **{"script": f"{SHEBANG}true\n", "deferrable": True, **arguments}
        )

with DAG("linked", schedule=None) as linked:
    ClusterraSubmitJobOperator(
        task_id="runs", script=f"{SHEBANG}sleep 600\n", deferrable=True, poll_interval=1
    )
    ClusterraSubmitJobOperator(
        task_id="fails", script=f"{SHEBANG}sleep 1\nexit 3\n", deferrable=True, poll_interval=1
    ) >> ClusterraJobSensor(
        task_id="looks",
        job_id="{{ ti.xcom_pull('fails', key='job_id') }}",
        trigger_rule="all_done",
        deferrable=True,
    )
    ClusterraSubmitJobOperator.partial(
        task_id="many", script=f"{SHEBANG}exit 0\n", deferrable=True, poll_interval=1
    ).expand(environment=[{"N": "0"}, {"N": "1"}])
