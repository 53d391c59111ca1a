"""Processes in namespaces of their own: when the first one ends, so do all others, and the mounts."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from tests.slurm.chroot import LabError

WITHIN = 60.0
"""Seconds for which anything is waited for here."""
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}


class Namespaces:
    """A chroot with processes, which another run of the tests may have started.

    :param root: the chroot.
    :param folder: for what is kept of it: the processes, what they print, and the caller's facts.
    """

    def __init__(self, root: Path, folder: Path) -> None:
        self.root = root
        self.folder = folder
        self.facts: dict[str, Any] = {}
        """The caller's own, kept with :meth:`keep`."""
        self._processes: dict[str, list[int]] = {}
        with suppress(OSError, ValueError):
            self.facts, self._processes = json.loads(self._state.read_text())

    def enter(self, shared: Path) -> None:
        """Make the namespaces, with a first process that reaps what daemons leave behind.

        :param shared: a folder that is seen in there under the same path.
        """
        self._end_strangers()
        entered = self.folder / "entered"
        entered.unlink(missing_ok=True)
        lines = [
            "set -e",
            f"mount -t proc proc {self.root}/proc",
            f"mount --rbind /dev {self.root}/dev",
            f"mount --rbind /sys {self.root}/sys",
            f"mount --bind {shared} {self.root}{shared}",
            f"touch {entered}",
            "sleep infinity & wait",
        ]
        unshare = ["unshare", "--mount", "--pid", "--fork", "--kill-child=KILL"]
        words = [*unshare, "--propagation=private", "bash", "-c", "\n".join(lines)]
        pid = self._spawn("init", words, dict(os.environ))
        until(entered.exists, f"the namespaces cannot be made; see {self.folder}")
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        self._processes = {}
        self._remember("init", pid)
        self._remember("inside", int(children[0]))

    def leave(self) -> None:
        """End everything."""
        if self.alive("init"):
            os.kill(self._processes["init"][0], signal.SIGKILL)
            until(lambda: not self.alive("inside"), "the namespaces do not end")
        self._end_strangers()
        self._state.unlink(missing_ok=True)

    def run(self, *words: str, given: str | None = None) -> str:
        """Run a command in there, to its end.

        :param given: its standard input.
        :returns: what it printed.
        :raises LabError: it failed.
        """
        done = subprocess.run(
            self._inside(words),
            env=ENVIRONMENT,
            input=given,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise LabError(f"{' '.join(words)}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def launch(self, name: str, words: Sequence[str], port: int = 0) -> None:
        """Start a daemon, where it is not running, and wait until it listens.

        :param port: on loopback; 0: it listens on none.
        :raises LabError: it does not.
        """
        if self.alive(name):
            return
        self._remember(name, self._spawn(name, self._inside(words), ENVIRONMENT))

        def listens() -> bool:
            if not self.alive(name):
                raise LabError(f"{name} ended at once; see {self.folder}/{name}.out")
            return not port or _listens(port)

        until(listens, f"{name} does not listen; see {self.folder}/{name}.out")

    def signal(self, name: str, number: int) -> None:
        """Send a signal to a daemon."""
        os.killpg(self._processes[name][0], number)

    def end(self, name: str, number: int) -> None:
        """End a daemon by a signal, and wait until it has ended."""
        with suppress(ProcessLookupError):
            self.signal(name, number)
        until(lambda: not self.alive(name), f"{name} does not end")

    def alive(self, name: str) -> bool:
        """Whether a daemon runs; ``"init"`` is the namespaces themselves."""
        pid, started = self._processes.get(name, (0, 0))
        with suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
        return bool(pid) and _start_time(pid) == started

    def keep(self) -> None:
        """Remember the facts and the processes for another run."""
        self._state.write_text(json.dumps([self.facts, self._processes]))

    @property
    def _state(self) -> Path:
        return self.folder / "state.json"

    def _inside(self, words: Sequence[str]) -> list[str]:
        target = f"--target={self._processes['inside'][0]}"
        return ["nsenter", target, "--mount", "--pid", "chroot", str(self.root), *words]

    def _end_strangers(self) -> None:
        """End what runs in the chroot and nobody remembers: two Slurms there end each other's jobs."""
        ours = Path("/proc/self/ns/mnt").readlink()
        mounted = f" {self.root}/proc "
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                is_apart = (process / "ns/mnt").readlink() != ours
                if is_apart and mounted in (process / "mountinfo").read_text():
                    os.kill(int(process.name), signal.SIGKILL)

    def _spawn(self, name: str, words: Sequence[str], environment: dict[str, str]) -> int:
        """Start a process that outlives this one."""
        output = os.open(self.folder / f"{name}.out", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        nothing = os.open(os.devnull, os.O_RDONLY)
        try:
            files = [(os.POSIX_SPAWN_DUP2, nothing, 0)]
            files += [(os.POSIX_SPAWN_DUP2, output, number) for number in (1, 2)]
            # not what whoever started the tests has open, such as a lock
            files += [(os.POSIX_SPAWN_CLOSE, number) for number in _inherited()]
            return os.posix_spawnp(
                words[0], list(words), environment, file_actions=files, setsid=True
            )
        finally:
            os.close(output)
            os.close(nothing)

    def _remember(self, name: str, pid: int) -> None:
        # the number may be another process's one day
        self._processes[name] = [pid, _start_time(pid)]
        self.keep()


def until(true: Callable[[], bool], words: str) -> None:
    """Wait for something.

    :raises LabError: with these words, when it does not come.
    """
    end = time.monotonic() + WITHIN
    while not true():
        if time.monotonic() > end:
            raise LabError(words)
        time.sleep(0.05)


def _inherited() -> list[int]:
    """The open files of this process that those it starts would have, too."""
    found = []
    for path in Path("/proc/self/fd").iterdir():
        number = int(path.name)
        with suppress(OSError):
            if number > 2 and os.get_inheritable(number):
                found.append(number)
    return found


def _listens(port: int) -> bool:
    with closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _start_time(pid: int) -> int:
    """When a process was started, in ticks; 0 where there is none of this number."""
    with suppress(OSError):
        facts = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return 0 if facts[0] == "Z" else int(facts[19])
    return 0
