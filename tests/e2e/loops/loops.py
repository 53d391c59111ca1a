"""DAGs with what only Airflow 3.4 has: loops, and retry policies that reschedule."""

from datetime import timedelta

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, RetryDecision, RetryPolicy, TriggerRule, task, task_group

from airflow_provider_clusterra.operators.cancel import ClusterraCancelJobOperator
from airflow_provider_clusterra.operators.jobs import ClusterraSubmitJobOperator
from airflow_provider_clusterra.sensors.jobs import ClusterraJobSensor

NAME = "{{ dag_run.conf['name'] }}"
SOON = {"retries": 1, "retry_delay": timedelta(seconds=0)}
COUNTS = """#!/bin/bash
echo run >> "$NAME"
[ "$(wc -l < "$NAME")" != "$FAILS" ]
"""
COUNTED = {
    "task_id": "job",
    "script": COUNTS,
    "name": NAME,
    "poll_interval": 1,
    **SOON,
}
ENVIRONMENT = {"NAME": NAME, "FAILS": "{{ dag_run.conf['fails'] }}"}
SLEEPS = {"script": "#!/bin/bash\nsleep 600\n", "name": NAME, "poll_interval": 1}


def stumble(context):
    """A worker that dies before its submit, in the second iteration's first try."""
    if context["loop"].index == 1 and context["ti"].try_number == 1:
        raise RuntimeError("stumbled")


@task_group
def waiting():
    """Iterations whose bodies are equal."""
    ClusterraSubmitJobOperator(**COUNTED, environment=ENVIRONMENT, deferrable=False)


@task_group
def deferred():
    """The same, deferred."""
    ClusterraSubmitJobOperator(**COUNTED, environment=ENVIRONMENT, deferrable=True)


@task_group
def mapped():
    """The same, twice in each iteration."""
    ClusterraSubmitJobOperator.partial(**COUNTED).expand(
        environment=[{**ENVIRONMENT, "NAME": f"{NAME}-{n}"} for n in range(2)]
    )


for body in (waiting, deferred, mapped):
    with DAG(f"loop_{body.function.__name__}", schedule=None) as dag:
        body.loop(max_iterations=2)
    globals()[dag.dag_id] = dag


@task_group
def apart():
    """Iterations that ask for something else each, and leave their jobs alone."""
    ClusterraSubmitJobOperator(
        **SLEEPS,
        **SOON,
        task_id="job",
        environment={"PASS": "{{ loop.index }}"},
        wait_for_completion=False,
        pre_execute=stumble,
    )


with DAG("loop_apart", schedule=None) as loop_apart:
    apart.loop(max_iterations=2)


@task_group
def together():
    """Iterations that do not wait for each other's job."""
    quick = EmptyOperator(task_id="quick")
    slow = ClusterraSubmitJobOperator(**SLEEPS, task_id="job", deferrable=True)
    last = EmptyOperator(task_id="last", trigger_rule=TriggerRule.ONE_SUCCESS)
    [quick, slow] >> last


with DAG("loop_together", schedule=None) as loop_together:
    together.loop(max_iterations=2)


@task_group
def submits():
    """Jobs that outlive their iterations."""
    ClusterraSubmitJobOperator(
        **SLEEPS, task_id="job", wait_for_completion=False, environment={"N": "{{ loop.index }}"}
    )


with DAG("loop_read", schedule=None) as loop_read:
    submits.loop(max_iterations=2)
    output = loop_read.get_task("submits.job").output
    ClusterraJobSensor(task_id="sensor", job_id=output)
    ClusterraCancelJobOperator(task_id="cancel", job_id=output, trigger_rule=TriggerRule.ALL_DONE)


@task_group
def functions():
    """A function that asks for the loop."""

    @task.clusterra(poll_interval=1)
    def job(*, loop):
        return [loop.index, loop.max_iterations, loop.previous]

    job()


with DAG("loop_function", schedule=None) as loop_function:
    functions.loop(max_iterations=2)


class Reschedule(RetryPolicy):
    """Run it again without using a retry."""

    def evaluate(self, exception, try_number, max_tries, context=None):
        """What a failure means."""
        return RetryDecision.reschedule(timedelta(seconds=1), max_reschedules=3)


with DAG("rescheduled", schedule=None) as rescheduled:
    ClusterraSubmitJobOperator(
        task_id="job",
        name=NAME,
        script="#!/bin/bash\nsleep 8\n",
        time_limit=1,
        grow_on_retry={"time_limit": 2.0},
        deferrable=True,
        poll_interval=1,
        retry_policy=Reschedule(),
    )

with DAG("cleared", schedule=None) as cleared:
    ClusterraSubmitJobOperator(**SLEEPS, task_id="job", deferrable=True)
