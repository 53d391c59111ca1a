"""The programs that the server starts, each with all that comes of it, through the spawner."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from clusterra_server import spawner
from clusterra_server.backend import LOG

LOST = -signal.SIGKILL
"""How a program ends whose spawner was killed."""


class LaunchError(OSError):
    """A program that cannot be started; ``filename`` is the call that failed, as slurmd names it."""


class Program:
    """A program that was started."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._gone = asyncio.Event()
        self.is_lost = False
        """Whether the spawner was killed, and this with it."""
        self.usage = (0.0, 0.0, 0)
        """Once it has ended: user and system CPU seconds, and the most memory in bytes."""

    @property
    def returncode(self) -> int | None:
        """As :mod:`subprocess` has it: None while it runs, negative for a signal."""
        return self._ended.result() if self._ended.done() else None

    async def wait(self) -> int:
        """Wait until it has ended; returns its return code."""
        return await asyncio.shield(self._ended)

    async def wait_for_all(self) -> None:
        """Wait until nothing of all that it started is left, which ends with it."""
        await self._gone.wait()

    def end(self, returncode: int) -> None:
        """It has ended."""
        if not self._ended.done():
            self._ended.set_result(returncode)

    def clear(self) -> None:
        """Nothing of it is left."""
        self._gone.set()


class ProcessTree:
    """All programs of one server; an asynchronous context manager that leaves none of them behind."""

    def __init__(self) -> None:
        self._programs: dict[int, Program] = {}
        self._starts: dict[int, asyncio.Future[Program]] = {}
        self._asked = 0
        # what a job writes is for whom its user's own mask lets it be
        self._umask = os.umask(0)
        os.umask(self._umask)
        self._ending = False
        self._restart = asyncio.Lock()
        self._writer: asyncio.StreamWriter | None = None
        self._reads: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Start the spawner."""
        await self._open()
        return self

    async def __aexit__(self, *_: object) -> None:
        """As :meth:`stop`."""
        await self.stop()

    async def stop(self) -> None:
        """End everything, and wait until it has ended."""
        self._ending = True
        if self._writer and self._reads:
            self._writer.write_eof()
            await self._reads

    async def start(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        output: Path,
        umask: int | None = None,
        alone: bool = False,
    ) -> Program:
        """Start a program, whose output is added to a file.

        :param umask: otherwise the one that was found at the start.
        :param alone: it starts no others. The kernel kills it if the spawner is killed, so that it does
            not outlive a server that is killed with the spawner.
        :raises LaunchError: it does not start.
        """
        async with self._restart:
            if self._writer is None:
                await self._open()
        self._asked += 1
        number = self._asked
        said = self._starts[number] = asyncio.get_running_loop().create_future()
        where = {
            "cwd": str(cwd),
            "output": str(output),
            "umask": self._umask if umask is None else umask,
            "alone": alone,
        }
        self._say({"start": number, "argv": list(argv), "env": dict(env), **where})
        return await asyncio.shield(said)

    def signal(self, number: signal.Signals, program: Program) -> None:
        """Send a signal to a program and to all that comes of it."""
        if program.returncode is None:
            self._say({"signal": number, "pid": program.pid})

    def _say(self, words: Mapping[str, Any]) -> None:
        if self._writer is not None:
            self._writer.write(json.dumps(words).encode() + b"\n")

    async def _open(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                # with nothing but the standard library it is there at once
                *(sys.executable, "-I", "-S", spawner.__file__, str(theirs.fileno())),
                pass_fds=[theirs.fileno()],
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                # a Ctrl-C is not for it
                start_new_session=True,
            )
        reader, self._writer = await asyncio.open_connection(sock=ours)
        self._reads = asyncio.get_running_loop().create_task(self._read(reader, process))

    async def _read(
        self, reader: asyncio.StreamReader, process: asyncio.subprocess.Process
    ) -> None:
        with suppress(ConnectionError):
            while line := await reader.readline():
                self._hear(json.loads(line))
        await process.wait()
        if self._writer:
            self._writer.close()
            self._writer = None
        if not self._ending:
            LOG.error("the process that all jobs are below was killed; they are lost")
        while spawner.kill_programs([each.pid for each in self._programs.values()]):  # noqa: ASYNC110 - the kernel sends no notice
            await asyncio.sleep(0.01)
        for said in self._starts.values():
            said.set_exception(_error(errno.ECHILD, "fork()"))
        for program in self._programs.values():
            program.is_lost = True
            program.end(LOST)
            program.clear()
        self._starts.clear()
        self._programs.clear()

    def _hear(self, said: Mapping[str, Any]) -> None:
        """Take what the spawner says, in the order in which it happened."""
        if "start" in said:
            waits = self._starts.pop(said["start"])
            if "pid" in said:
                self._programs[said["start"]] = program = Program(said["pid"])
                waits.set_result(program)
            else:
                waits.set_exception(_error(said["errno"], said["where"]))
        elif "ended" in said:
            program = self._programs[said["ended"]]
            program.usage = tuple(said["usage"])
            program.end(said["returncode"])
        else:
            self._programs.pop(said["gone"]).clear()


def _error(number: int, where: str) -> LaunchError:
    return LaunchError(number, os.strerror(number), where)
