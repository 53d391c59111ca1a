"""A real Slurm on one machine: two nodes, slurmrestd, slurmdbd, all on loopback.

``python -m tests.slurm.lab start`` brings it up and leaves it up; ``stop`` takes it down. It needs
root on Debian; the machine itself stays as it is.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import socket
import stat
import sys
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Self

from tests.slurm import conf
from tests.slurm.chroot import SUITE, LabError, build, why_not
from tests.slurm.conf import NODES, Ports, Settings
from tests.slurm.namespaces import Namespaces, until
from tests.support.servers import ClusterraServer

USER = "clusterra"
OTHER = "somebody"
"""Another user, with a token of their own."""
SOCKET = "/run/mysqld/mysqld.sock"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
FOLDER = CACHE / "airflow-provider-clusterra" / "slurm-lab"


class Lab:
    """The Slurm; a context manager that leaves one up which somebody started to work with.

    :param folder: where it is kept.
    """

    def __init__(self, folder: Path = FOLDER) -> None:
        self.root = folder / SUITE
        self.shared = folder / "shared"
        """The folder that jobs see under the same path, for their output."""
        self.inside = Namespaces(self.root, folder / "run")
        self._lock = folder / "lock"
        self._held = ExitStack()

    @property
    def url(self) -> str:
        """Where slurmrestd answers."""
        return f"http://127.0.0.1:{self._ports.slurmrestd}"

    @property
    def settings(self) -> Settings:
        """As it runs now."""
        return Settings(**self.inside.facts["settings"])

    def token_file(self, user: str = USER) -> Path:
        """The file with a user's Slurm token."""
        return self.inside.folder / f"{user}.token"

    def front(self, **options: object) -> ClusterraServer:
        """A ``clusterra-server`` in front of it; a context manager.

        :param options: more of the command's, or others.
        """
        ours = {"backend": "slurm", "slurmrestd": self.url, "output_dir": self.shared}
        whose = {} if "users" in options else {"token_file": self.token_file()}
        return ClusterraServer(**{**ours, **whose, **options})

    def start(self, settings: Settings | None = None) -> Self:
        """Bring it up, where it is not, and wait until its nodes take jobs.

        :raises LabError: it does not come up.
        """
        settings = settings or Settings()
        if self.inside.alive("init"):
            self.launch()
            return self.use(settings)
        build(self.root)
        self._begin(settings, Ports.free())
        return self

    def stop(self) -> None:
        """Take it down: daemons, jobs, mounts."""
        self.inside.leave()
        conf.remove_cgroups()

    def use(self, settings: Settings) -> Self:
        """Begin anew with other settings, at the same addresses."""
        if settings != self.settings:
            ports, kept = self._ports, self._kept
            self.stop()
            self._begin(settings, ports, kept=kept)
        return self

    def run(self, *words: str, user: str = "root", given: str | None = None) -> str:
        """Run a command in there, to its end.

        :param given: its standard input.
        :returns: what it printed.
        :raises LabError: it failed.
        """
        as_user = [] if user == "root" else ["runuser", "-u", user, "--"]
        return self.inside.run(*as_user, *words, given=given)

    def query(self, words: str) -> None:
        """Run SQL on slurmdbd's database.

        :raises LabError: it failed.
        """
        self.run("mariadb", "-S", SOCKET, "-uroot", conf.DATABASE, "-e", words)

    def launch(self) -> None:
        """Start each daemon that does not run, and wait until the nodes take jobs."""
        for name, (words, port) in self._daemons().items():
            self.inside.launch(name, words, port)
        until(self._is_idle, f"the nodes do not come up; see {self.root}/srv/slurm/log")

    def clear(self) -> None:
        """Cancel everybody's jobs, and wait until the queue is empty: limits count what is in it."""
        if self._queue():
            for user in (USER, OTHER, "root"):
                self.run("scancel", "--user", user)
            until(lambda: not self._queue(), "the queue does not become empty")

    def keep(self) -> None:
        """Leave it up when the tests that use it end."""
        self.inside.facts["kept"] = True
        self.inside.keep()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._lock.parent.mkdir(parents=True, exist_ok=True)
            lock = stack.enter_context(self._lock.open("w"))
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                words = "something else works with it; wait for that, or set XDG_CACHE_HOME"
                raise LabError(f"{self._lock.parent}: {words}") from None
            stack.callback(self._leave)
            self.start()
            self._held = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def _leave(self) -> None:
        # one that a killed run has left is taken down as well
        if not self._kept:
            self.stop()

    @property
    def _kept(self) -> bool:
        return bool(self.inside.facts.get("kept"))

    @property
    def _ports(self) -> Ports:
        ports = self.inside.facts["ports"]
        return Ports(**{**ports, "nodes": tuple(ports["nodes"])})

    def _daemons(self) -> dict[str, tuple[list[str], int]]:
        """Each daemon's words and port, in the order in which they start."""
        ports = self._ports
        database = [
            *("mariadbd", "--no-defaults", "--user=mysql", "--datadir=/srv/mysql"),
            *(f"--socket={SOCKET}", "--skip-networking", "--innodb-buffer-pool-size=128M"),
            *("--innodb-lock-wait-timeout=900", "--innodb-snapshot-isolation=OFF"),
            "--innodb-flush-log-at-trx-commit=0",
        ]
        # it refuses to run as root
        rest = ["runuser", "-u", "slurmrest", "--", "env", "SLURM_JWT=daemon", "slurmrestd"]
        rest += ["-a", "rest_auth/jwt", f"127.0.0.1:{ports.slurmrestd}"]
        nodes = zip(NODES, ports.nodes, strict=True)
        return {
            "mariadbd": (database, 0),
            "slurmdbd": (["slurmdbd", "-D"], ports.slurmdbd),
            "slurmctld": (["slurmctld", "-D", "-i"], ports.slurmctld),
            **{f"slurmd-{node}": (["slurmd", "-D", "-N", node], port) for node, port in nodes},
            "slurmrestd": (rest, ports.slurmrestd),
        }

    def _begin(self, settings: Settings, ports: Ports, *, kept: bool = False) -> None:
        self._prepare()
        facts = {"ports": asdict(ports), "settings": asdict(settings), "kept": kept}
        self.inside.facts = facts
        self.inside.enter(self.shared)
        self._write_configuration()
        self._prepare_database()
        if settings.accounting:
            self.inside.launch("slurmdbd", *self._daemons()["slurmdbd"])
            self._add_users()
        self.launch()
        self._make_tokens()

    def _prepare(self) -> None:
        self.inside.folder.mkdir(parents=True, exist_ok=True)
        self.inside.folder.chmod(0o700)
        # it begins anew each time: what was killed in the middle of something is no good start
        for folder in (self.shared, self.root / "srv/slurm"):
            shutil.rmtree(folder, ignore_errors=True)
        mounted = self.root / self.shared.relative_to("/")
        for each in (self.shared, mounted):
            each.mkdir(parents=True, exist_ok=True)
            each.chmod(0o1777)
        for each in mounted.relative_to(self.root).parents:
            folder = self.root / each
            # and /tmp stays everybody's
            folder.chmod(stat.S_IMODE(folder.stat().st_mode) | 0o755)
        for name in ("state", "log", *(f"spool/{node}" for node in NODES)):
            (self.root / "srv/slurm" / name).mkdir(parents=True, exist_ok=True)
        (self.root / "etc/hosts").write_text(f"127.0.0.1 localhost {socket.gethostname()}\n")
        for name, size in (("slurm.key", 1024), ("jwt.key", 32)):
            path = self.root / "etc/slurm" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                path.touch(0o600)
                path.write_bytes(secrets.token_bytes(size))

    def _write_configuration(self) -> None:
        etc = self.root / "etc/slurm"
        cgroups = conf.has_cgroups()
        text = conf.slurm_conf(self.settings, self._ports, cgroups=cgroups)
        (etc / "slurm.conf").write_text(text)
        (etc / "cgroup.conf").write_text(conf.cgroup_conf(cgroups=cgroups))
        (etc / "gres.conf").write_text(conf.gres_conf())
        database = etc / "slurmdbd.conf"
        database.touch(0o600)
        database.chmod(0o600)
        database.write_text(conf.slurmdbd_conf(self._ports))

    def _prepare_database(self) -> None:
        for user in ("slurmrest", USER, OTHER):
            self.run("sh", "-c", f"id {user} || useradd -m -s /bin/bash {user}")
        self.run("sh", "-c", "id mysql || useradd -r mysql")
        self.run(
            "sh", "-c", "mkdir -p /srv/mysql /run/mysqld; chown -R mysql /srv/mysql /run/mysqld"
        )
        if not (self.root / "srv/mysql/mysql").exists():
            self.run(
                *("mariadb-install-db", "--user=mysql", "--datadir=/srv/mysql", "--skip-test-db"),
                "--auth-root-authentication-method=normal",
            )
        self.inside.launch("mariadbd", self._daemons()["mariadbd"][0])
        words = (
            f"drop database if exists {conf.DATABASE}; "
            "create user if not exists slurm@localhost identified by 'slurm'; "
            f"grant all on {conf.DATABASE}.* to slurm@localhost"
        )
        self._until_it_works("mariadbd", "mariadb", "-S", SOCKET, "-uroot", "-e", words)

    def _make_tokens(self) -> None:
        for user in (USER, OTHER, "root"):
            text = self.run("scontrol", "token", "lifespan=604800", f"username={user}")
            path = self.token_file(user)
            path.touch(0o600)
            path.write_text(text)

    def _add_users(self) -> None:
        self._until_it_works("slurmdbd", "sacctmgr", "-i", "list", "cluster")
        for words in (
            ("add", "cluster", "lab"),
            ("add", "account", "lab"),
            *(("add", "user", each, "account=lab") for each in (USER, OTHER, "root")),
        ):
            # it fails for what is there already
            with suppress(LabError):
                self.run("sacctmgr", "-i", *words)

    def _until_it_works(self, daemon: str, *words: str) -> None:
        file = self.inside.folder / f"{daemon}.out"

        def works() -> bool:
            if not self.inside.alive(daemon):
                raise LabError(f"{daemon} has ended; see {file}: {file.read_text()[-300:]}")
            with suppress(LabError):
                self.run(*words)
                return True
            return False

        until(works, f"{words[0]} does not work; see {file}")

    def _queue(self) -> str:
        # those that are completing included
        return self.run("squeue", "--noheader", "--format=%i")

    def _is_idle(self) -> bool:
        with suppress(LabError):
            states = self.run("sinfo", "--noheader", "--Node", "--format=%T").split()
            return bool(states) and set(states) <= {"idle", "mixed", "allocated"}
        return False


def main(words: Sequence[str]) -> int:
    """``start`` or ``stop``."""
    if list(words) not in (["start"], ["stop"]):
        print("python -m tests.slurm.lab start|stop", file=sys.stderr)
        return 2
    if why := why_not():
        print(f"slurm lab: {why}", file=sys.stderr)
        return 2
    lab = Lab()
    if words[0] == "stop":
        lab.stop()
        return 0
    with lab:
        lab.keep()
    version = lab.run("sinfo", "--version").strip()
    print(f"{version}, slurmrestd at {lab.url}", f"token        {lab.token_file()}", sep="\n")
    print(f"outputs      {lab.shared}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
