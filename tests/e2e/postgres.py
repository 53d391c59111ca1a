"""A PostgreSQL of the tests' own, where the machine has one: two triggerers want no SQLite."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

from tests.e2e.stack import StackError
from tests.support.ports import free_port

FOLDERS = "/usr/lib/postgresql"
STARTS_WITHIN = 60.0
USER = "postgres"
"""Who it runs as where the tests run as root, which PostgreSQL refuses."""


def why_not() -> str:
    """Why there can be no PostgreSQL here, or ``""``."""
    if not _program("initdb"):
        return "this machine has no PostgreSQL"
    if not (find_spec("psycopg2") and find_spec("asyncpg")):
        return "Airflow's drivers for PostgreSQL are not installed"
    if os.geteuid() == 0 and not _has_user():
        return f"PostgreSQL does not run as root, and there is no user {USER}"
    return ""


class Postgres:
    """A server on loopback, in a folder of its own; a context manager."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"postgresql+psycopg2://airflow@127.0.0.1:{self.port}/postgres"
        """As SQLAlchemy wants it."""
        self._user = USER if os.geteuid() == 0 else None
        self._folder = tempfile.TemporaryDirectory()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        folder = Path(self._folder.name)
        if self._user:
            shutil.chown(folder, self._user)
        data = str(folder / "data")
        self._run(
            "initdb", "--pgdata", data, "--username", "airflow", "--auth", "trust", "--no-sync"
        )
        self._start()
        return self

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        """What a query finds; nothing while the server is away."""
        # only where there is a server there is its driver
        import psycopg2  # noqa: PLC0415

        try:
            with closing(psycopg2.connect(self.url.replace("+psycopg2", ""))) as connection:
                cursor = connection.cursor()
                cursor.execute(query)
                found: list[tuple[Any, ...]] = cursor.fetchall()
                return found
        except psycopg2.Error:
            return []

    def restart(self) -> None:
        """End it as a machine's shutdown does, whoever is connected, and start it again."""
        self._stop()
        self._start()

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._stop()
        self._folder.cleanup()

    def _start(self) -> None:
        folder = Path(self._folder.name)
        log = folder / "log"
        with log.open("ab") as words:
            self._process = subprocess.Popen(
                [
                    *(_program("postgres"), "-D", str(folder / "data"), "-p", str(self.port)),
                    *("-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="),
                    *("-c", "fsync=off", "-c", "max_connections=300"),
                ],
                cwd=folder,
                user=self._user,
                stdout=words,
                stderr=words,
            )
        end = time.monotonic() + STARTS_WITHIN
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > end:
                raise StackError(f"PostgreSQL does not start: {log.read_text()}")
            time.sleep(0.1)

    def _stop(self) -> None:
        # a fast shutdown: it waits for nobody
        self._process.send_signal(signal.SIGINT)
        self._process.wait()

    def _is_ready(self) -> bool:
        words = ["--host", "127.0.0.1", "--port", str(self.port), "--quiet"]
        return subprocess.run([_program("pg_isready"), *words], check=False).returncode == 0

    def _run(self, name: str, *words: str) -> None:
        subprocess.run(
            [_program(name), *words],
            cwd=self._folder.name,
            user=self._user,
            check=True,
            capture_output=True,
        )


def _program(name: str) -> str:
    """A program of PostgreSQL; Debian keeps them out of the PATH."""
    found = shutil.which(name)
    newest = sorted(Path(FOLDERS).glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    return found or (str(newest[-1]) if newest else "")


def _has_user() -> bool:
    try:
        pwd.getpwnam(USER)
    except KeyError:
        return False
    return True
