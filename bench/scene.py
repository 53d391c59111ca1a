"""One event loop full of triggers and the stub that they ask, each in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import httpx
import msgspec

from bench.lag import read_lag, read_longest
from bench.process import cpu_seconds, memory_mib, served
from bench.stub import FIRST

COLLECTED_WITHIN = 60.0


class Moment(msgspec.Struct, frozen=True):
    """What had been used up to a moment."""

    at: float
    """Seconds since 1970."""
    cpu: float
    """Seconds."""
    asked: int
    singles: int
    """Of these, those for one of our jobs alone."""
    bytes: int
    shown: int
    """Jobs that were looked at once, at least."""
    began: float
    """When the latest request came, but for single ones of our jobs; by the stub's clock."""
    busy: float
    """Seconds of answering all such requests before it."""


class Scene:
    """A context manager. Nothing waits yet when it is entered.

    :param system: one of :data:`bench.systems.SYSTEMS`.
    :param count: jobs that are waited for.
    :param queue: jobs that there are, if they are more.
    """

    def __init__(self, system: str, count: int, queue: int = 0) -> None:
        self._system = system
        self._count = count
        self._queue = max(count, queue)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            url = stack.enter_context(served("bench.stub", self._queue))
            self._folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            self._server = stack.enter_context(httpx.Client(base_url=url, timeout=60))
            self._process = self._start(stack, url)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def begin(self) -> None:
        """Let the triggers begin."""
        if self._process.stdin is not None:
            self._process.stdin.write("\n")
            self._process.stdin.flush()

    def until_shown(self, within: float) -> Moment:
        """Wait until each job was looked at.

        :param within: seconds after which it is given up; for all triggers to begin there is a minute.
        """
        begin = time.time()
        while (now := self.now()).shown < self._count and now.at < begin + within:
            time.sleep(0.05)
        while not (self._folder / "started").exists() and time.time() < begin + 60.0:
            time.sleep(0.05)
        return now

    def collect(self) -> None:
        """Let Python's garbage collector go through all objects, and wait for it.

        New objects bring such a run about once they are a quarter of all. Whether the last one comes
        while jobs are still added or just afterwards is chance, and 20,000 jobs' takes 0.4 s.
        """
        self._process.send_signal(signal.SIGUSR2)
        end = time.time() + COLLECTED_WITHIN
        while not (self._folder / "collected").exists():
            if time.time() > end:
                raise TimeoutError(f"{self._system}: the garbage collector did not run")
            time.sleep(0.01)

    def end_a_job(self) -> float:
        """Let one more job end; when that was, in seconds since 1970."""
        self._server.post("/end?count=1")
        return time.time()

    def end_lag(self) -> None:
        """Measure the loop's lag no longer: from now on the CPU is the triggers' alone."""
        self._process.send_signal(signal.SIGUSR1)

    def now(self) -> Moment:
        """What has been used so far."""
        told = self._server.get("/count").json()
        return Moment(
            time.time(),
            cpu_seconds(self._process.pid),
            sum(told["asked"].values()),
            told["asked"].get("single", 0),
            told["bytes"],
            told["shown"],
            told["began"],
            told["seconds_before"],
        )

    def memory(self) -> float:
        """The loop's process's, in MiB."""
        return memory_mib(self._process.pid)

    def lag(self, begin: float, end: float) -> list[float]:
        """See :func:`bench.lag.read_lag`."""
        return read_lag(self._folder / "lag", begin, end) or [0.0]

    def collected(self, begin: float, end: float) -> float:
        """Milliseconds of the garbage collector's longest run; see :func:`bench.lag.read_longest`."""
        return read_longest(self._folder / "collections", begin, end)

    def told(self) -> dict[int, float]:
        """When each job's end was told, by how many ended before it."""
        lines = (self._folder / "events").read_text().splitlines()
        rows = [line.split() for line in lines if line.count(" ") == 1]
        return {int(job_id) - FIRST: float(at) for job_id, at in rows}

    def _start(self, stack: ExitStack, url: str) -> subprocess.Popen[str]:
        words = [self._system, url, str(self._count), str(self._folder)]
        log = stack.enter_context((self._folder / "log").open("w"))
        process = stack.enter_context(
            subprocess.Popen(
                [sys.executable, "-m", "bench.triggers", *words],
                # what a peer logs with each look costs it nothing here
                env={**os.environ, "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        )
        stack.callback(process.kill)
        if process.stdout is None or process.stdout.readline().strip() != "ready":
            raise RuntimeError(f"{self._system}: {(self._folder / 'log').read_text()[-1000:]}")
        return process
