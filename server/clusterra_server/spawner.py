"""The one parent of all that the server starts: whatever they start cannot leave it.

``python spawner.py FD``: a small process that starts programs for the server, which
asks over the socket FD in lines of JSON. The kernel gives it every process that loses its parent
(prctl(2), PR_SET_CHILD_SUBREAPER), as each program that it starts is given those of its own. So the
tree of parents shows whose a process is, whatever it does to its environment, session or group; and
when the socket ends, which it does however the server ends, everything below is ended.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
PROC = Path("/proc")
SWEEPS_EVERY = 0.01
"""Seconds between two looks at what is to be ended, because the kernel sends no notice."""
SAMPLES_EVERY = 1.0
"""Seconds between two looks at the memory of all that a program started, as jobacct_gather/linux has."""
PAGE = os.sysconf("SC_PAGE_SIZE")
LIBC = ctypes.CDLL(None)


class Place(NamedTuple):
    """Where a process stands among the others."""

    parent: int
    group: int
    session: int
    is_zombie: bool


def places() -> dict[int, Place]:
    """All processes of this machine.

    :source: proc(5), ``/proc/PID/stat``, behind the name, which may hold anything.
    """
    found = {}
    for folder in (each for each in PROC.iterdir() if each.name.isdigit()):
        # one that has just ended
        with contextlib.suppress(OSError, ValueError):
            state, *words = (folder / "stat").read_bytes().rpartition(b")")[2].split()
            parent, group, session = map(int, words[:3])
            found[int(folder.name)] = Place(parent, group, session, is_zombie=state == b"Z")
    return found


def resident(pid: int) -> int:
    """The bytes of memory that a process has; 0 if it has just ended.

    :source: proc(5), ``/proc/PID/statm``.
    """
    with contextlib.suppress(OSError):
        return int((PROC / str(pid) / "statm").read_bytes().split()[1]) * PAGE
    return 0


def descendants(table: Mapping[int, Place], roots: Iterable[int]) -> set[int]:
    """These processes, and all that come of them."""
    children: dict[int, list[int]] = {}
    for pid, place in table.items():
        children.setdefault(place.parent, []).append(pid)
    found: set[int] = set()
    left = list(roots)
    while left:
        pid = left.pop()
        if pid not in found:
            found.add(pid)
            left += children.get(pid, ())
    return found & table.keys()


def of_programs(table: Mapping[int, Place], roots: Iterable[int]) -> set[int]:
    """All that come of programs which began a session; also by session or group, if a parent is lost."""
    known = set(roots)
    theirs = {pid for pid, place in table.items() if {place.session, place.group} & known}
    return descendants(table, theirs | known)


def adopt_orphans() -> None:
    """Be given every process below that loses its parent, if the kernel can do that."""
    LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def send(number: int, pids: Iterable[int], table: Mapping[int, Place]) -> int:
    """Send a signal to processes that live; returns to how many."""
    count = 0
    for pid in pids:
        if not table[pid].is_zombie:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)
                count += 1
    return count


def kill_programs(pids: Iterable[int]) -> int:
    """Kill programs with all that comes of them; returns how many processes there were."""
    table = places()
    return send(signal.SIGKILL, of_programs(table, pids), table)


def kill_children() -> int:
    """Kill all that comes of this process, but not itself; returns how many there were."""
    table, ours = places(), os.getpid()
    return send(signal.SIGKILL, descendants(table, [ours]) - {ours}, table)


class Spawner:
    """Starts programs, signals them with all that they have started, and says how they end."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._running: dict[int, int] = {}
        """The number under which each was asked for, by its process."""
        self._ended: dict[int, int] = {}
        """The process of each that has ended, by its number; others of it may be there still."""
        self._peaks: dict[int, int] = {}
        """The most memory that was seen of each, by its process."""
        self._next_sample = 0.0
        self._unread = b""
        self._children, wakeup = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wakeup)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)

    def run(self) -> None:
        """Serve until the socket ends, and then end everything."""
        with selectors.DefaultSelector() as selector, contextlib.suppress(OSError):
            selector.register(self._channel, selectors.EVENT_READ)
            selector.register(self._children, selectors.EVENT_READ)
            while True:
                pause = SAMPLES_EVERY if self._running else None
                ready = [
                    key.fd for key, _ in selector.select(SWEEPS_EVERY if self._ended else pause)
                ]
                if self._children in ready:
                    os.read(self._children, 4096)
                if self._channel.fileno() in ready and not self._serve():
                    break
                self._reap()
                self._sweep()
                self._sample()
        while kill_children():
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            time.sleep(SWEEPS_EVERY)

    def _serve(self) -> bool:
        """Do what is asked; False if nobody asks any more."""
        piece = self._channel.recv(2**16)
        *lines, self._unread = (self._unread + piece).split(b"\n")
        for line in lines:
            asked = json.loads(line)
            if "signal" in asked:
                table = places()
                send(asked["signal"], of_programs(table, [asked["pid"]]), table)
            else:
                self._say(start=asked["start"], **self._start(asked))
        return bool(piece)

    def _start(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Start a program; returns its process, or what went wrong where."""
        try:
            pid = start_program(asked)
        except StartError as exc:
            return {"where": exc.where, "errno": exc.number}
        self._running[pid] = asked["start"]
        return {"pid": pid}

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while (found := os.wait4(-1, os.WNOHANG))[0]:
                pid, status, used = found
                if pid in self._running:
                    number = self._running.pop(pid)
                    self._ended[number] = pid
                    returncode = os.waitstatus_to_exitcode(status)
                    # of all that it waited for; its memory is the largest process's, in KiB
                    peak = max(used.ru_maxrss * 1024, self._peaks.pop(pid, 0))
                    usage = (used.ru_utime, used.ru_stime, peak)
                    self._say(ended=number, returncode=returncode, usage=usage)

    def _sample(self) -> None:
        """See how much memory all processes of each program have together."""
        now = time.monotonic()
        if self._running and now >= self._next_sample:
            self._next_sample = now + SAMPLES_EVERY
            table = places()
            for pid in self._running:
                together = sum(map(resident, of_programs(table, [pid])))
                self._peaks[pid] = max(self._peaks.get(pid, 0), together)

    def _sweep(self) -> None:
        """Kill what programs have left behind, as a cgroup would; say so when it is gone."""
        if self._ended:
            table = places()
            ours = descendants(table, [os.getpid()]) - {os.getpid()}
            left = ours | of_programs(table, self._ended.values())
            left -= of_programs(table, self._running)
            if not send(signal.SIGKILL, left, table):
                for number in self._ended:
                    self._say(gone=number)
                self._ended.clear()

    def _say(self, **words: Any) -> None:
        self._channel.sendall(json.dumps(words).encode() + b"\n")


class StartError(Exception):
    """A program that was not started: what failed, and its errno."""

    def __init__(self, where: str, number: int) -> None:
        super().__init__(where, number)
        self.where, self.number = where, number


def start_program(asked: Mapping[str, Any]) -> int:
    """Start a program in a session of its own, which it cannot leave without our seeing it.

    :param asked: its ``argv``, ``env``, ``cwd``, the file for its ``output``, the ``umask``, and whether it
        is ``alone``.
    """
    try:
        report, ours = os.pipe2(os.O_CLOEXEC)
    except OSError as exc:
        raise StartError("pipe()", exc.errno or errno.EMFILE) from exc
    try:
        pid = os.fork()
        if pid == 0:
            _become(asked, ours)
        os.close(ours)
        # it ends without a word when the program begins
        words = os.read(report, 100)
    except OSError as exc:
        os.close(ours)
        raise StartError("fork()", exc.errno or errno.EAGAIN) from exc
    finally:
        os.close(report)
    if not words:
        return pid
    os.waitpid(pid, 0)
    where, _, number = words.decode().partition(" ")
    raise StartError(where, int(number))


def _become(asked: Mapping[str, Any], report: int) -> NoReturn:
    """The child's part: be the program, or say why not."""
    where = "setsid()"
    try:
        os.setsid()
        adopt_orphans()
        if asked["alone"]:
            # not for jobs: what a job has started would lose its parent, and could not be found any more
            LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        for each in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(each, signal.SIG_DFL)
        os.umask(asked["umask"])
        where = "open()"
        null = os.open(os.devnull, os.O_RDONLY)
        output = os.open(asked["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        for number, file in enumerate((null, output, output)):
            os.dup2(file, number)
        where = "chdir()"
        os.chdir(asked["cwd"])
        where = "execve()"
        os.execve(asked["argv"][0], asked["argv"], asked["env"])  # noqa: S606 - it is what it is for
    except (OSError, ValueError) as exc:
        os.write(report, f"{where} {getattr(exc, 'errno', errno.EINVAL)}".encode())
    finally:
        os._exit(127)


if __name__ == "__main__":
    adopt_orphans()
    with socket.socket(fileno=int(sys.argv[1])) as made:
        # not for the programs that are started
        made.set_inheritable(False)
        Spawner(made).run()
