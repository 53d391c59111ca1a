"""A real Airflow on loopback: api-server, scheduler, triggerer and dag-processor."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import httpx

from tests.e2e.rest import Rest
from tests.support.component import VARIABLE
from tests.support.ports import free_port
from tests.support.servers import processes_with

COMPONENTS = {
    "api-server": ["api-server"],
    "scheduler": ["scheduler", "--skip-serve-logs"],
    "triggerer": ["triggerer", "--skip-serve-logs"],
    "dag-processor": ["dag-processor"],
}
STARTS_WITHIN = 300.0
STOPS_WITHIN = 10.0
MARKER = "CLUSTERRA_TEST_STACK"


class StackError(Exception):
    """Airflow does not start; the words name the log to read."""


class AirflowStack:
    """Four processes, their database and their logs in one folder; a context manager.

    :param home: a folder for everything; it is made where it is not there.
    :param dags: the folder with the DAGs.
    :param settings: more of Airflow's settings, e.g. ``{"AIRFLOW__CORE__PARALLELISM": "8"}``.
    """

    def __init__(self, home: Path, dags: Path, settings: Mapping[str, str] | None = None) -> None:
        self.home = home
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._name = uuid.uuid4().hex
        self._environment = self._settings(dags) | dict(settings or {})
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._words: dict[str, list[str]] = {}
        self._launched: dict[str, float] = {}
        self.rest = Rest(self.url)

    def start(self) -> Self:
        """Start everything, and wait until it is healthy.

        :raises StackError: it does not become so.
        """
        self.home.mkdir(parents=True, exist_ok=True)
        self.command("airflow", "db", "migrate", log="migrate")
        for name, words in COMPONENTS.items():
            self.launch(name, words)
        self._until_healthy()
        return self

    def launch(self, name: str, words: list[str]) -> None:
        """Start one component in a process group of its own, again where it was killed."""
        self._words[name] = words
        if name in self._processes:
            self._processes[name].wait()
        with self.log(name).open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [_program("airflow"), *words],
                env={**self._environment, VARIABLE: name},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._launched[name] = time.monotonic()

    def revive(self) -> None:
        """Start again what has ended by itself, as a service manager would."""
        for name, process in [*self._processes.items()]:
            if process.poll() is not None:
                self.launch(name, self._words[name])

    def command(self, *words: str, log: str = "command") -> str:
        """Run a program of this environment to its end, as Airflow's user.

        :returns: what it printed.
        :raises StackError: it failed.
        """
        done = subprocess.run(
            [_program(words[0]), *words[1:]],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        self.log(log).write_text(done.stdout + done.stderr)
        if done.returncode:
            raise StackError(f"{' '.join(words)} failed; see {self.log(log)}")
        return done.stdout

    def log(self, name: str) -> Path:
        """Where a component's own log is."""
        return self.home / f"{name}.log"

    def said(self, name: str) -> str:
        """What a component has said itself so far."""
        return self.log(name).read_text()

    def age(self, name: str) -> float:
        """Seconds since a component was started last."""
        return time.monotonic() - self._launched[name]

    def pid(self, name: str) -> int:
        """A component's process."""
        return self._processes[name].pid

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal to all processes of one component."""
        _signal_group(self._processes[name].pid, number)

    def terminate(self, name: str, within: float) -> bool:
        """End one component by SIGTERM, or by SIGKILL once that takes too long; whether it took SIGTERM."""
        process = self._processes[name]
        _signal_group(process.pid, signal.SIGTERM)
        try:
            process.wait(within)
        except subprocess.TimeoutExpired:
            _signal_group(process.pid, signal.SIGKILL)
            return False
        return True

    def stop(self) -> None:
        """End everything, task processes included."""
        self.rest.close()
        for process in self._processes.values():
            _signal_group(process.pid, signal.SIGTERM)
        end = time.monotonic() + STOPS_WITHIN
        while self._left() and time.monotonic() < end:
            for process in self._processes.values():
                process.poll()
            time.sleep(0.05)
        for pid in self._left():
            _signal(pid, signal.SIGKILL)
        for process in self._processes.values():
            _signal_group(process.pid, signal.SIGKILL)
            process.wait()

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _left(self) -> list[int]:
        return processes_with(f"{MARKER}={self._name}")

    def _until_healthy(self) -> None:
        end = time.monotonic() + STARTS_WITHIN
        while time.monotonic() < end:
            for name, process in self._processes.items():
                if process.poll() is not None:
                    raise StackError(f"{name} has ended; see {self.log(name)}")
            try:
                health = self.rest.health()
            except httpx.HTTPError:
                health = {}
            ill = [name for name, status in health.items() if status != "healthy"]
            if health and not ill:
                return
            time.sleep(0.1)
        raise StackError(f"Airflow is not healthy after {STARTS_WITHIN:.0f} s; see {self.home}")

    def _settings(self, dags: Path) -> dict[str, str]:
        clean = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("AIRFLOW") and name != "PYTHONDONTWRITEBYTECODE"
        }
        return {
            **clean,
            MARKER: self._name,
            # a process that gives itself a title shows its environment all the same
            "SPT_NOENV": "1",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{clean.get('PATH', '')}",
            "AIRFLOW_HOME": str(self.home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__PARALLELISM": "4",
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "AIRFLOW__DATABASE__LOAD_DEFAULT_CONNECTIONS": "False",
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(self.port),
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__API__SECRET_KEY": secrets.token_hex(16),
            "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(32),
            "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.2",
            "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
            "AIRFLOW__SCHEDULER__TRIGGER_TIMEOUT_CHECK_INTERVAL": "1",
            "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "30",
            # a worker that lingers after a deferral is what fails short ones (apache/airflow#66374)
            "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
            # so soon is a triggerer that is silent taken for dead
            "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "8",
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        }


def _program(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _signal_group(pid: int, number: signal.Signals) -> None:
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        return
