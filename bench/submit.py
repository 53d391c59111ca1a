"""How fast jobs are submitted: ``python -m bench.submit [JOBS]``.

Eight workers submit through ``clusterra-server`` to processes (bench/slurm.py: to a real Slurm). Then what
the tag, the record and the search for an earlier try's job add to one submit of the operator.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from airflow_provider_clusterra.api import Access, Client
from bench.figures import RUNS, Figure, at_most, medians_of, ratio, show
from bench.workers import WORKERS, Opens, rate
from tests.support.servers import ClusterraServer

JOBS = 400
SINGLE = 20
BUSY = "#!/bin/bash\nsleep 600\n"
LOCAL = "clusterra-server"
BODY: dict[str, Any] = {
    "script": "#!/bin/bash\ntrue\n",
    "job": {
        "name": "bench",
        "current_working_directory": "/tmp",  # noqa: S108 - nothing runs there
        "environment": ["PATH=/usr/bin:/bin"],
    },
}


@contextmanager
def busy_server() -> Iterator[ClusterraServer]:
    """A ``clusterra-server`` whose only CPU is taken: jobs that wait take none from what is measured."""
    with ClusterraServer(cpus=1, kill_wait=1) as server:
        with Client(Access(server.url, server.token)) as client:
            client.submit_job(server.cluster_id, {**BODY, "script": BUSY})
        yield server


def through(server: ClusterraServer) -> Opens:
    """What gives a worker its own client of a server.

    :param server: running.
    """

    @contextmanager
    def open_client() -> Iterator[Callable[[], object]]:
        with Client(Access(server.url, server.token)) as client:
            yield lambda: client.submit_job(server.cluster_id, BODY)

    return open_client


def _rates(jobs: int) -> list[Figure]:
    at = f"{WORKERS} workers"
    rates = []
    for _ in range(RUNS):
        with busy_server() as server:
            rates.append(rate(through(server), jobs))
    value = statistics.median(rates)
    return [
        Figure(name="jobs submitted, to processes", value=value, unit="jobs/s", of=LOCAL, at=at)
    ]


class Submits:
    """One job at a time, in each way, to one server.

    :param server: running.
    """

    def __init__(self, server: ClusterraServer) -> None:
        self._server = server
        fields = {"conn_type": "clusterra", "host": server.url, "password": server.token}
        extra = {"cluster_id": server.cluster_id}
        os.environ["AIRFLOW_CONN_CLUSTERRA_DEFAULT"] = json.dumps({**fields, "extra": extra})
        self._number = 0

    def plain(self) -> float:
        """The client's submit alone, with a client of its own as the operator has."""
        begin = time.perf_counter()
        with Client(Access(self._server.url, self._server.token)) as client:
            client.submit_job(self._server.cluster_id, BODY)
        return time.perf_counter() - begin

    def tagged(self) -> float:
        """The operator with tag and record."""
        return self._execute(self._context(), tagged=True)

    def untagged(self) -> float:
        """The operator without."""
        return self._execute(self._context(), tagged=False)

    def adopted(self) -> float:
        """The operator's second try after a crash: its job is found, and none is submitted."""
        from tests.support.airflow_side import TaskStateStore

        context = self._context()
        self._execute(context, tagged=True)
        context["ti"].try_number = 2
        # the crash was before Airflow was told the job's id: only the name tells
        return self._execute({**context, "task_state_store": TaskStateStore()}, tagged=True)

    def _context(self) -> dict[str, Any]:
        from tests.support.airflow_side import TaskInstance, TaskStateStore

        self._number += 1
        ti = TaskInstance(run_id=f"run_{self._number}", max_tries=2)
        return {"ti": ti, "task_state_store": TaskStateStore()}

    def _execute(self, context: dict[str, Any], *, tagged: bool) -> float:
        from airflow.sdk.bases.operator import ExecutorSafeguard

        from airflow_provider_clusterra.operators.jobs import ClusterraSubmitJobOperator

        operator = ClusterraSubmitJobOperator(
            task_id="bench",
            script=BODY["script"],
            wait_for_completion=False,
            durable=tagged,
        )
        # as the task runner does; otherwise Airflow logs a warning of its own
        ExecutorSafeguard.tracker.set(operator)
        begin = time.perf_counter()
        operator.execute(context)
        return time.perf_counter() - begin


def _overheads() -> list[Figure]:
    with busy_server() as server:
        submits = Submits(server)
        ways = {
            "the client alone": submits.plain,
            "the operator without tag and record": submits.untagged,
            "the operator": submits.tagged,
            "the operator, which finds an earlier try's job": submits.adopted,
        }
        for way in ways.values():
            way()
        medians = medians_of(list(ways.values()), SINGLE)
        found = {name: value * 1000 for name, value in zip(ways, medians, strict=True)}
    figures = [
        Figure(name="one submit", value=value, unit="ms", at=name) for name, value in found.items()
    ]
    plain, untagged, operator, _ = found.values()
    return [
        ratio(
            "one submit's time",
            operator,
            plain,
            "the operator / the client alone",
            target=at_most(1.6),
        ),
        *figures,
        Figure(name="tag and record add", value=operator - untagged, unit="ms"),
    ]


def measure(jobs: int = JOBS) -> list[Figure]:
    """Rates, then what safety costs.

    :param jobs: for each rate.
    """
    with tempfile.TemporaryDirectory() as home:
        os.environ.setdefault("AIRFLOW_HOME", home)
        return [*_rates(jobs), *_overheads()]


if __name__ == "__main__":
    show(measure(int(sys.argv[1]) if len(sys.argv) > 1 else JOBS))
