"""What the rounds run on: a real Airflow, Clusterras, and the gate between them."""

from __future__ import annotations

import json
import shutil
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import httpx

from tests.crash.clusterras import Clusterras
from tests.crash.gate import Gate
from tests.crash.rounds import TIMEOUT, Round
from tests.crash.victim import Leg, read_legs
from tests.e2e.rest import until
from tests.e2e.stack import STARTS_WITHIN, AirflowStack, free_port
from tests.support.proxy import Proxy

SETTLES_WITHIN = 30.0
SETTINGS = {
    "AIRFLOW__CORE__PARALLELISM": "16",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "10",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
    # a busy machine is no dead triggerer
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "30",
}


class Rig:
    """Everything that runs; a context manager.

    :param folder: for files and logs.
    :param clusterras: what runs the jobs.
    """

    def __init__(self, folder: Path, clusterras: Clusterras) -> None:
        self.folder = folder
        self.clusterras = clusterras
        self.notes = folder / "notes"
        self.notes.mkdir(parents=True)
        dags = folder / "dags"
        shutil.copytree(
            Path(__file__).parent / "dags", dags, ignore=shutil.ignore_patterns("__pycache__")
        )
        self.gate = Gate()
        self._tasks_api = f"http://127.0.0.1:{free_port()}"
        home = folder / "airflow"
        self.airflow = AirflowStack(
            home,
            dags,
            {
                **SETTINGS,
                "CRASH_NOTES": str(self.notes),
                # many tasks at once wait long for SQLite's one writer
                "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db?timeout=30",
                "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self._tasks_api}/execution/",
            },
        )
        self._stack = ExitStack()

    def open(self, game: Round, index: int) -> Proxy:
        """A connection for a round's task, ``round_<number>_<index>``.

        :returns: the proxy that it leads through.
        """
        server = self.clusterras.server_of(game.kind)
        conn_id = f"round_{game.number}_{index}"
        proxy = self.gate.open(conn_id, server.url, server.token)
        extra = json.dumps({"cluster_id": server.cluster_id, "timeout": TIMEOUT})
        self.airflow.rest.add_connection(conn_id, host=self.gate.url, password=conn_id, extra=extra)
        return proxy

    def legs(self, number: int, index: int) -> list[Leg]:
        """The processes that a task has had so far."""
        return read_legs(self.notes / f"{number}.{index}")

    def settle(self) -> None:
        """Give what is being cancelled the time to go."""
        end = time.monotonic() + SETTLES_WITHIN
        while time.monotonic() < end and self.clusterras.is_busy():
            time.sleep(0.5)

    def __enter__(self) -> Self:
        try:
            self._stack.enter_context(self.clusterras)
            self._stack.enter_context(self.gate)
            self._stack.enter_context(self.airflow)
            self._serve_tasks()
            self.airflow.rest.wait_for_dags("crash_waiting", "crash_deferred_mapped_slow")
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _serve_tasks(self) -> None:
        """An api-server of the tasks' own.

        Airflow's user API writes its audit log in its event loop. While it waits there for SQLite,
        no request of a task that holds SQLite's one lock can end.
        """
        port = self._tasks_api.rpartition(":")[2]
        self.airflow.launch("tasks-api", ["api-server", "--apps", "execution", "--port", port])

        def answers() -> bool:
            try:
                return httpx.get(f"{self._tasks_api}/execution/health").is_success
            except httpx.HTTPError:
                return False

        until(answers, STARTS_WITHIN, lambda: f"see {self.airflow.log('tasks-api')}")
