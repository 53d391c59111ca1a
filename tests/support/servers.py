"""Real servers for tests and the demo: clusterra-server as a process, any ASGI app in a thread."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import uvicorn

from airflow_provider_clusterra.api import Access, Client

STARTS_WITHIN = 30.0
STOPS_WITHIN = 60.0
CONNECTION = re.compile(r"AIRFLOW_CONN_CLUSTERRA_DEFAULT='(clusterra://:([^@]+)@[^']+)'")
PLACE = re.compile(r"(?s): cluster (\w+),.*^API +(http://127\.0\.0\.1:\d+)/v1$", re.MULTILINE)
READY = re.compile("^(export|sign-in) ")


class ClusterraServer:
    """``clusterra-server`` as a process of its own, on a free port; a context manager.

    :param command: what starts it, if not the module of this environment.
    :param options: the command's options, e.g. ``cpus=2, min_job_age=5, dir=folder, port=8765``.
    """

    def __init__(self, command: Sequence[str] = (), **options: object) -> None:
        self._command = command or (sys.executable, "-m", "clusterra_server")
        self._options = {"port": 0, **options}
        self._process: subprocess.Popen[str] | None = None
        self.errors = ""
        """What it said on standard error, once it has stopped."""
        self.banner = ""
        self.connection_uri = self.token = self.url = self.cluster_id = ""
        self.folder = Path()

    @property
    def pid(self) -> int:
        """The server's process."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> Self:
        """Start it, and read where it is from what it prints."""
        words = [f"--{name.replace('_', '-')}={value}" for name, value in self._options.items()]
        # a pipe that nobody reads would hold up a server that has much to say
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - stop() closes it
        self._process = subprocess.Popen(
            [*self._command, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            start_new_session=True,
        )
        alarm = threading.Timer(STARTS_WITHIN, self._process.kill)
        alarm.start()
        for line in self._process.stdout:
            self.banner += line
            if READY.search(line):
                break
        alarm.cancel()
        found = PLACE.search(self.banner)
        if not found:
            self.stop()
            raise RuntimeError(f"clusterra-server does not start: {self.errors}")
        self.cluster_id, self.url = found.groups()
        # one that was given its tokens names none
        if connection := CONNECTION.search(self.banner):
            self.connection_uri, self.token = connection.groups()
        self.token = os.environ.get("CLUSTERRA_SERVER_TOKEN", self.token)
        self.folder = Path(re.search(r"^files +(.+)$", self.banner, re.MULTILINE)[1])
        return self

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Stop it, and wait until it has ended.

        :returns: its exit code.
        """
        process = self._process
        if process.poll() is None:
            process.send_signal(number)
        try:
            return process.wait(STOPS_WITHIN)
        finally:
            process.kill()
            process.stdout.close()
            if not self._log.closed:
                self._log.seek(0)
                self.errors = self._log.read().decode()
                self._log.close()

    def clear(self) -> None:
        """Cancel all jobs; the server kills those that are left after its ``kill_wait``."""
        with Client(Access(self.url, self.token)) as client:
            for job in client.list_jobs(self.cluster_id):
                if not job.state.finished:
                    client.cancel_job(self.cluster_id, job.job_id)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


@contextmanager
def running(app: Any, port: int = 0) -> Iterator[str]:
    """Serve an ASGI app from a thread, on loopback.

    :param port: otherwise a free one.
    :returns: its address, e.g. ``"http://127.0.0.1:40123"``.
    """
    # with the protocol named, asyncio sends what is written at once
    with socket.socket(proto=socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        ready = threading.Event()
        config = uvicorn.Config(
            app, log_level="critical", lifespan="off", timeout_graceful_shutdown=1
        )
        server = _Server(config, ready)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            assert ready.wait(STARTS_WITHIN)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(STOPS_WITHIN)
            assert not thread.is_alive()


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, ready: threading.Event) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self._ready.set()


def processes_with(variable: str) -> list[int]:
    """The processes whose environment holds a text, e.g. ``"AIRFLOW_HOME=/x"``."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
                if variable.encode() in (entry / "environ").read_bytes() and state != "Z":
                    found.append(int(entry.name))
            except OSError:
                continue
    return found
