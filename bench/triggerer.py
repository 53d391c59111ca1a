"""A real Airflow whose triggerer waits for 1000 jobs: ``python -m bench.triggerer [JOBS]``.

The tasks begin in the triggerer (``start_from_trigger``): a worker for each of them would measure how
fast this machine starts a thousand processes. With each such task Airflow hands the triggerer its whole
DAG, so the DAGs are small. The API is the stub (bench/stub.py).
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path
from string import Template

import httpx

from bench.figures import Figure, at_most, show
from bench.process import children_of, cpu_seconds, memory_mib, served
from bench.stub import FIRST
from tests.e2e.stack import AirflowStack

JOBS = 1000
DAGS = 100
PARSED_WITHIN = 120.0
STARTS_WITHIN = 120.0
SETTLED = 5.0
SECONDS = 30.0
ENDS = 20
RESUMED_WITHIN = 30.0
DAG_FILE = Template('''
"""Tasks that wait for a job from their beginning."""
from airflow.sdk import DAG, BaseOperator
from airflow.triggers.base import StartTriggerArgs


class Wait(BaseOperator):
    start_from_trigger = True

    def __init__(self, *, job_id, **kwargs):
        super().__init__(**kwargs)
        self.start_trigger_args = StartTriggerArgs(
            trigger_cls="airflow_provider_clusterra.triggers.jobs.ClusterraJobTrigger",
            trigger_kwargs={
                "job_id": job_id,
                "cluster_id": "c1",
                "clusterra_conn_id": "clusterra_default",
                "since": $since,
            },
            next_method="execute_complete",
        )

    def execute_complete(self, context, event=None):
        return None


for number in range($dags):
    with DAG(f"wait_{number}", schedule=None, max_active_tasks=$jobs) as dag:
        for job_id in range($first + number, $first + $jobs, $dags):
            Wait(job_id=job_id, task_id=f"job_{job_id}")
    globals()[f"wait_{number}"] = dag
''')
SETTINGS = {
    "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": str(JOBS),
    "AIRFLOW__TRIGGERER__CAPACITY": str(JOBS),
    "AIRFLOW__SCHEDULER__MAX_TIS_PER_QUERY": "200",
    # all at once, as far as the scheduler is concerned
    "AIRFLOW__SCHEDULER__MAX_DAGRUNS_PER_LOOP_TO_SCHEDULE": str(DAGS),
    "AIRFLOW__SCHEDULER__MAX_DAGRUNS_TO_CREATE_PER_LOOP": str(DAGS),
}


def measure(jobs: int = JOBS) -> list[Figure]:
    """Until all wait, and then one interval of waiting.

    :param jobs: a multiple of a hundred.
    """
    with tempfile.TemporaryDirectory() as folder, served("bench.stub", jobs) as url:
        dags = Path(folder, "dags")
        dags.mkdir()
        since = time.time() - 3600
        text = DAG_FILE.substitute(dags=DAGS, jobs=jobs, first=FIRST, since=since)
        (dags / "waiting.py").write_text(text)
        with AirflowStack(Path(folder, "airflow"), dags, SETTINGS) as stack:
            stack.rest.add_connection("clusterra_default", host=url, password="a-session")  # noqa: S106
            names = [f"wait_{number}" for number in range(DAGS)]
            stack.rest.wait_for_dags(*names, within=PARSED_WITHIN)
            return _measured(stack, url, names, jobs)


def _measured(stack: AirflowStack, url: str, names: list[str], jobs: int) -> list[Figure]:
    begin = time.monotonic()
    for name in names:
        stack.rest.run_dag(name)
    while (waiting := _running(stack)) < jobs and time.monotonic() - begin < STARTS_WITHIN:
        time.sleep(0.5)
    started = time.monotonic() - begin
    if not waiting:
        raise RuntimeError(f"No task waits after {started:.0f} s.")
    time.sleep(SETTLED)
    supervisor = stack.pid("triggerer")
    runners = children_of(supervisor)
    before, cpu = _asked(url), [cpu_seconds(pid) for pid in (supervisor, *runners)]
    ends = _let_jobs_end(url)
    asked = _asked(url) - before
    used = [
        (cpu_seconds(pid) - earlier) / SECONDS * 100
        for pid, earlier in zip((supervisor, *runners), cpu, strict=True)
    ]
    at = f"{waiting} tasks"
    note = "" if waiting >= jobs else f"of {jobs}, after {STARTS_WITHIN:.0f} s"
    per_minute = asked * 60 / SECONDS
    resumed = _resumed(stack, ends)
    return [
        Figure(name="all wait after", value=started, unit="s", at=at, note=note),
        Figure(name="requests a minute", value=per_minute, at=at, target=at_most(20)),
        Figure(
            name="a job's end to its task resumed, median",
            value=statistics.median(resumed) if resumed else None,
            unit="s",
            at=at,
            note=f"of {ENDS}, {len(resumed)} within {RESUMED_WITHIN:.0f} s",
        ),
        Figure(name="the runner's CPU", value=sum(used[1:]), unit="% of a core", at=at),
        Figure(name="the supervisor's CPU", value=used[0], unit="% of a core", at=at),
        Figure(name="the runner's memory", value=sum(map(memory_mib, runners)), unit="MiB", at=at),
    ]


def _running(stack: AirflowStack) -> int:
    """How many waits have begun: each has a log of its own from its first word on."""
    return sum(1 for _ in (stack.home / "logs").rglob("*.trigger.*.log"))


def _let_jobs_end(url: str) -> dict[int, float]:
    """Let jobs end one after the other, for as long as is measured; when each did."""
    ends = {}
    for number in range(ENDS):
        httpx.post(f"{url}/end?count=1")
        ends[FIRST + number] = time.time()
        time.sleep(SECONDS / ENDS)
    return ends


def _resumed(stack: AirflowStack, ends: dict[int, float]) -> list[float]:
    """Seconds from each end to the last word of the resumed task's own log so far."""
    logs = stack.home / "logs"
    found: dict[int, float] = {}
    until = time.monotonic() + RESUMED_WITHIN
    while len(found) < len(ends) and time.monotonic() < until:
        for job_id in ends.keys() - found.keys():
            for log in logs.glob(f"dag_id=wait_*/*/task_id=job_{job_id}/attempt=1.log"):
                if log.stat().st_size:
                    found[job_id] = log.stat().st_mtime
        time.sleep(0.2)
    return [at - ends[job_id] for job_id, at in found.items()]


def _asked(url: str) -> int:
    """Requests but those for one job that has ended."""
    asked = httpx.get(f"{url}/count").json()["asked"]
    return sum(count for kind, count in asked.items() if kind != "single")


if __name__ == "__main__":
    show(measure(int(sys.argv[1]) if len(sys.argv) > 1 else JOBS))
