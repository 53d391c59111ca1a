"""What the rounds run on: a real Airflow, Clusterras, and the gate between them."""

from __future__ import annotations

import json
import shutil
import signal
import time
from contextlib import ExitStack
from pathlib import Path
from threading import Lock, RLock
from typing import Self

import httpx

from tests.crash.clusterras import Clusterras
from tests.crash.gate import Gate
from tests.crash.rounds import TIMEOUT, Kind, Round, dag_id, shapes_here
from tests.crash.victim import Leg, group_of, in_group, read_legs
from tests.e2e.postgres import Postgres
from tests.e2e.rest import until
from tests.e2e.stack import STARTS_WITHIN, AirflowStack
from tests.support.ports import free_port
from tests.support.proxy import Proxy

SETTLES_WITHIN = 30.0
SETTINGS = {
    "AIRFLOW__CORE__PARALLELISM": "16",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "10",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
    # a busy machine is no dead triggerer
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "30",
    "AIRFLOW__CORE__HOSTNAME_CALLABLE": "tests.support.component.component",
}


SECOND = {
    "scheduler-2": ["scheduler", "--skip-serve-logs"],
    "triggerer-2": ["triggerer", "--skip-serve-logs"],
}
"""What teams have twice, and SQLite cannot bear."""
STALLED = 40.0
"""Seconds after which a triggerer that stands still has surely been replaced."""
TERMINATED_WITHIN = 30.0
"""Seconds after a SIGTERM before a SIGKILL, as in Kubernetes."""
STARTED = 180.0
"""Seconds after a start within which there may be no heartbeat yet, on a busy machine."""
SILENT = 90.0
"""Seconds without a heartbeat after which a part of Airflow hangs. Schedulers do: when one ends, after a
SIGTERM or because its database is away, its LocalExecutor may wait for ever for a worker that is idle."""
HEARTBEATS = (
    "select hostname, extract(epoch from now() - max(latest_heartbeat)) from job group by 1"
)
PROBE_EVERY = 5.0
DOWN = 3.0
"""Seconds before what was ended is started again."""


class Rig:
    """Everything that runs; a context manager.

    :param folder: for files and logs.
    :param clusterras: what runs the jobs.
    :param postgres: Airflow's database, not yet started; otherwise it is SQLite.
    """

    def __init__(
        self, folder: Path, clusterras: Clusterras, postgres: Postgres | None = None
    ) -> None:
        self.folder = folder
        self.clusterras = clusterras
        self._postgres = postgres
        self.calm = RLock()
        """Held while a part of Airflow is down, and by who needs all of them."""
        self._reviving = Lock()
        self._probe_at = 0.0
        self._terminated: set[str] = set()
        self.notes = folder / "notes"
        self.notes.mkdir(parents=True)
        dags = folder / "dags"
        shutil.copytree(
            Path(__file__).parent / "dags", dags, ignore=shutil.ignore_patterns("__pycache__")
        )
        data = folder / "data"
        data.write_bytes(b"data\n")
        self.gate = Gate()
        self._tasks_api = f"http://127.0.0.1:{free_port()}"
        home = folder / "airflow"
        self.airflow = AirflowStack(
            home,
            dags,
            {
                **SETTINGS,
                "CRASH_NOTES": str(self.notes),
                "CRASH_DATA": str(data),
                # its DAGs import what the rounds are
                "PYTHONPATH": str(Path(__file__).parents[2]),
                # many tasks at once wait long for SQLite's one writer
                "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": postgres.url
                if postgres
                else f"sqlite:///{home}/airflow.db?timeout=30",
                "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self._tasks_api}/execution/",
            },
        )
        self._stack = ExitStack()

    def open(self, game: Round, index: int | str) -> Proxy:
        """A connection for a round's task, ``round_<number>_<index>``.

        :returns: the proxy that it leads through.
        """
        server = self.clusterras.server_of(game.kind)
        conn_id = f"round_{game.number}_{index}"
        proxy = self.gate.open(conn_id, server.url, server.token)
        extra = json.dumps({"cluster_id": server.cluster_id, "timeout": TIMEOUT})
        self.airflow.rest.add_connection(conn_id, host=self.gate.url, password=conn_id, extra=extra)
        return proxy

    def strike(self, kind: Kind, leg: Leg | None) -> bool:
        """Strike a part of Airflow, and start it again; whether it could be struck."""
        if self._postgres is None:
            return False
        with self.calm:
            match kind:
                case Kind.TERM_SCHEDULER:
                    name = self._scheduler_of(leg)
                    self._terminated |= in_group(self.airflow.pid(name), self.notes)
                    if not self.airflow.terminate(name, TERMINATED_WITHIN):
                        print(f"{name} did not end after a SIGTERM, and was killed", flush=True)
                case Kind.KILL_TRIGGERER:
                    self.airflow.signal("triggerer", signal.SIGKILL)
                case Kind.STALL_TRIGGERER:
                    self.airflow.signal("triggerer", signal.SIGSTOP)
                    time.sleep(STALLED)
                    self.airflow.signal("triggerer", signal.SIGCONT)
                case _:
                    self._postgres.restart()
            time.sleep(DOWN)
            self.revive()
        return True

    def _scheduler_of(self, leg: Leg | None) -> str:
        """The scheduler whose process group a task runs in."""
        group = group_of(leg.pid) if leg else 0
        return "scheduler-2" if group == self.airflow.pid("scheduler-2") else "scheduler"

    def revive(self) -> None:
        """Start again what has ended or hangs, as a service manager with a liveness probe would."""
        with self._reviving:
            if time.monotonic() >= self._probe_at and self.calm.acquire(blocking=False):
                try:
                    self._kill_hung()
                finally:
                    self.calm.release()
                self._probe_at = time.monotonic() + PROBE_EVERY
            self.airflow.revive()

    def _kill_hung(self) -> None:
        for name, silent in self._postgres.ask(HEARTBEATS) if self._postgres else ():
            if silent > SILENT and self.airflow.age(name) > STARTED:
                print(f"{name} has no heartbeat any more, and is killed", flush=True)
                self.airflow.signal(name, signal.SIGKILL)

    def legs(self, number: int, index: int) -> list[Leg]:
        """The processes that a task has had so far."""
        return read_legs(self.notes / f"{number}.{index}")

    def was_terminated(self, number: int, index: int) -> bool:
        """Whether a task was hit by a SIGTERM that ended a scheduler, be it in another round."""
        return f"{number}.{index}" in self._terminated

    def settle(self) -> None:
        """Give what is being cancelled the time to go."""
        end = time.monotonic() + SETTLES_WITHIN
        while time.monotonic() < end and self.clusterras.is_busy():
            time.sleep(0.5)

    def __enter__(self) -> Self:
        try:
            self._stack.enter_context(self.clusterras)
            self._stack.enter_context(self.gate)
            if self._postgres is not None:
                self._stack.enter_context(self._postgres)
            self._stack.enter_context(self.airflow)
            if self._postgres is not None:
                for name, words in SECOND.items():
                    self.airflow.launch(name, words)
            self._serve_tasks()
            self.airflow.rest.wait_for_dags(
                *(
                    dag_id(shape, deferrable=True, mapped=False, slow_retry=True)
                    for shape in shapes_here()
                ),
                within=180,
            )
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
