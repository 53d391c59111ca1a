"""``clusterra-server``: a Clusterra on your own machine."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import socket
import stat
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import uvicorn

from clusterra_server import __version__
from clusterra_server.app import Api
from clusterra_server.backend import LOG, TokenError
from clusterra_server.connections import Connections, raise_limit
from clusterra_server.ledger import LedgerError
from clusterra_server.options import DEFAULT_HOST, TOKEN_VARIABLE, is_loopback, read_options
from clusterra_server.process_tree import ProcessTree
from clusterra_server.processes import Processes
from clusterra_server.requests import PARTITIONS
from clusterra_server.scheduler import Limits, Scheduler
from clusterra_server.sign_in import (
    USER,
    Account,
    Session,
    keep_session,
    new_session,
    why_unfit,
)
from clusterra_server.slurm import Slurm, prepare_folders
from clusterra_server.slurmrestd import (
    CONNECTIONS,
    Slurmrestd,
    SlurmrestdUser,
    SlurmToken,
    SlurmUser,
    UnavailableError,
    VersionError,
    privileged,
    read_users,
)
from clusterra_server.storage import Rclone, Storage, StorageError, given_bucket

LOOKS_FOR = 3.0
"""Seconds for which a start waits for slurmrestd."""
OURS = {"efs", "spool", "scratch", "s3", "session", "rclone.log", "rclone.conf", ".cache"} | {
    f"jobs.sqlite{each}" for each in ("", "-wal", "-shm")
}
"""What is in the server's folder."""
SHUTDOWN_SECONDS = 1
"""How long answers that are under way may hold up the end."""


def announce(
    options: argparse.Namespace, port: int, folder: Path, accounts: Sequence[Account]
) -> None:
    """Print it.

    :param port: the one that it listens on.
    """
    host = f"[{options.host}]" if ":" in options.host else options.host
    print(
        f"clusterra-server {__version__}: cluster {options.cluster_id}, {_jobs(options, accounts)}",
        *([f"partitions   {', '.join(PARTITIONS)}"] if options.backend == "processes" else []),
        f"files        {folder}",
        f"API          http://{host}:{port}/v1",
        f"pages        http://{host}:{port}/manage/{options.cluster_id}/jobs",
        sep="\n",
    )
    session = accounts[0].session
    if not is_loopback(options.host):
        print(f"sign-in      with the token in {session.source}", flush=True)
        return
    # a journal is no place for a token that whoever started it knows
    token, where = quote(session.token, safe=""), ""
    if session.source:
        token, where = "TOKEN", f", with the one in {session.source} for TOKEN"
    uri = f"clusterra://:{token}@{host}:{port}/http?cluster_id={options.cluster_id}"
    print(
        f"connection   paste this line where Airflow runs{where}:",
        f"export AIRFLOW_CONN_CLUSTERRA_DEFAULT='{uri}'",
        sep="\n",
        flush=True,
    )


def _jobs(options: argparse.Namespace, accounts: Sequence[Account]) -> str:
    if options.backend == "processes":
        return f"jobs run as processes of this machine on {options.cpus} CPUs"
    whose = ", ".join(account.session.user for account in accounts)
    return f"jobs go to the Slurm behind {options.slurmrestd} as {whose}; output in {options.output_dir}"


@asynccontextmanager
async def processes(
    options: argparse.Namespace, folder: Path, tree: ProcessTree, variables: dict[str, str]
) -> AsyncIterator[list[Account]]:
    """Jobs as processes of this machine.

    :param variables: more of the jobs' environment.
    """
    limits = Limits(options.cpus, options.min_job_age, options.kill_wait, options.minute)
    scheduler = Scheduler(folder, limits, tree, variables)
    scheduler.schedule()
    try:
        yield [Account(_session(options), Processes(scheduler))]
    finally:
        await scheduler.stop()


@asynccontextmanager
async def slurm(options: argparse.Namespace) -> AsyncIterator[list[Account]]:
    """Jobs of a real Slurm.

    :raises TokenError: there is no Slurm token, or one that may not be used.
    :raises VersionError: slurmrestd does not offer the API that is asked for.
    """
    users = _users(options)
    _warn_of_open_files([options.users, *(user.slurm.path for user in users)])
    if options.users:
        prepare_folders(options.output_dir, [user.slurm.user for user in users])
    slurmrestd = Slurmrestd(options.slurmrestd, options.api_version or "")
    open_to_others = not is_loopback(options.host)
    share = max(2, CONNECTIONS // len(users))
    callers = [
        SlurmrestdUser(slurmrestd, user.slurm, ordinary_only=open_to_others, share=share)
        for user in users
    ]
    try:
        await _look(slurmrestd, callers, options.host)
        yield [
            Account(
                Session(user.token, user.slurm.user, str(options.users))
                if user.token
                else _session(options, user.slurm.user or USER),
                Slurm(caller, options.output_dir, own_folder=bool(options.users)),
                is_admin=user.is_admin,
            )
            for user, caller in zip(users, callers, strict=True)
        ]
    finally:
        await slurmrestd.close()


def _users(options: argparse.Namespace) -> list[SlurmUser]:
    if options.users:
        users = read_users(options.users)
        for user in users:
            user.slurm.read()
        return users
    token = SlurmToken(options.token_file)
    return [SlurmUser("", replace(token, given_user=token.user))]


def _warn_of_open_files(paths: Iterable[Path | None]) -> None:
    for path in filter(None, paths):
        with suppress(OSError):
            if path.stat().st_mode & 0o007:
                LOG.warning("every user of this machine can read %s: chmod o= %s", path, path)


def _session(options: argparse.Namespace, user: str = USER) -> Session:
    """The session of a server with one user: given, or kept from the last time, or new."""
    token = os.environ.get(TOKEN_VARIABLE, "")
    if not token:
        return (
            keep_session(Path(options.dir) / "session", user) if options.dir else new_session(user)
        )
    if why := why_unfit(token):
        raise TokenError(f"{TOKEN_VARIABLE} {why}")
    return Session(token, user, TOKEN_VARIABLE)


async def _look(slurmrestd: Slurmrestd, callers: Sequence[SlurmrestdUser], host: str) -> None:
    """Look at slurmrestd and at the users' tokens; what is down now may come later.

    :raises VersionError: slurmrestd does not offer the API that is asked for.
    """
    end = asyncio.get_running_loop().time() + LOOKS_FOR
    try:
        async with asyncio.timeout_at(end):
            await slurmrestd.check_version(callers[0].token)
    except VersionError:
        raise
    except (UnavailableError, TimeoutError):
        # the look at the tokens says so, too
        pass
    found = await asyncio.gather(*(_is_privileged(caller, end) for caller in callers))
    _judge_tokens(callers, found, host)


def _judge_tokens(
    callers: Sequence[SlurmrestdUser], found: Sequence[bool | str], host: str
) -> None:
    """Warn of tokens that may do anything, or might.

    :raises TokenError: one does, where other machines reach the server.
    """
    unknown = [each for each in found if isinstance(each, str)]
    for words in dict.fromkeys(unknown):
        LOG.warning("it is not known yet whose Slurm token it is: %s", words)
    for caller, is_privileged in zip(callers, found, strict=True):
        if is_privileged is not True:
            continue
        words = privileged(caller.token)
        if not is_loopback(host):
            raise TokenError(f"{words}; with --host {host} give one of an ordinary user")
        LOG.warning("%s; give one of an ordinary user", words)


async def _is_privileged(caller: SlurmrestdUser, end: float) -> bool | str:
    """Whether it is; otherwise why that is not known."""
    try:
        async with asyncio.timeout_at(end):
            return await caller.is_privileged()
    except UnavailableError as exc:
        return str(exc)
    except TimeoutError:
        return f"slurmrestd has not answered in {LOOKS_FOR:.0f} s"


class Server(uvicorn.Server):
    """uvicorn, which says when it is ready, and leaves the signals to us.

    uvicorn's own handling raises the signal again at the end, before our processes are stopped.
    """

    when_ready: Callable[[], None]

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take no signal."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to answer."""
        await super().startup(sockets=sockets)
        if not self.should_exit:
            self.when_ready()

    def stop(self) -> None:
        """Answer what is under way, and end."""
        self.should_exit = True
        # that an answer is cut off in the end is no error
        logging.getLogger("uvicorn.error").disabled = True


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or Ctrl-C.

    :param arguments: instead of the command line's.
    :returns: 0, also if it is stopped while it starts; or 2 if it cannot start: the
        reason is on standard error.
    """
    options = read_options(arguments)
    logging.basicConfig(format="clusterra-server: %(message)s", level=logging.WARNING)
    LOG.setLevel(logging.INFO)
    with ExitStack() as stack:
        try:
            listener = stack.enter_context(_listen(options.host, options.port))
            # it lets jobs have the mask and the limits that are found here
            tree = ProcessTree()
            stack.callback(os.umask, os.umask(0o077))
            folder = Path(options.dir or stack.enter_context(tempfile.TemporaryDirectory()))
            folder = folder.resolve()
            make_private(folder)
            asyncio.run(_serve(options, listener, folder, tree))
        except (asyncio.CancelledError, KeyboardInterrupt):
            return 0
        except (OSError, LedgerError, StorageError, TokenError, VersionError) as exc:
            print(f"clusterra-server: {exc}", file=sys.stderr)
            return 2
    return 0


def make_private(folder: Path) -> None:
    """See that nobody else can look into the server's folder, in which there are jobs' secrets.

    :raises OSError: it is somebody else's, or holds other things.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    facts = folder.stat()
    if facts.st_uid != os.geteuid() != 0:
        raise OSError(f"--dir {folder} belongs to another user")
    if facts.st_mode & 0o077:
        if others := {each.name for each in folder.iterdir()} - OURS:
            raise OSError(
                f"--dir {folder} is open to others, and holds other things, such as {min(others)}: "
                "give a folder of its own, or chmod 700 this one"
            )
        for each in (folder, *folder.iterdir()):
            each.chmod(stat.S_IMODE(each.stat().st_mode) & 0o700)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # with the protocol named, asyncio sends what is written at once; else an answer waits for 40 ms
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except (OSError, OverflowError) as exc:
        listener.close()
        why = exc.strerror if isinstance(exc, OSError) else "it is not between 0 and 65535"
        other = "--port" if host == DEFAULT_HOST else "--port or --host"
        words = f"port {port} cannot be used ({why}). Choose another with {other}."
        raise OSError(words) from exc
    return listener


def _on_signals(end: Callable[[], object]) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, end)


async def _serve(
    options: argparse.Namespace, listener: socket.socket, folder: Path, tree: ProcessTree
) -> None:
    if (starting := asyncio.current_task()) is not None:
        _on_signals(starting.cancel)
    async with tree, AsyncExitStack() as stack:
        connections = Connections(raise_limit())
        storage: Storage
        if options.s3:
            storage, variables = given_bucket(options.s3), dict[str, str]()
        else:
            storage = rclone = Rclone(folder, options.cluster_id, tree)
            # a job finds uploaded files under "$CLUSTERRA_FILES/<key>"
            variables = {"CLUSTERRA_FILES": str(rclone.files)}
            stack.push_async_callback(rclone.stop)
            await rclone.start()
        accounts = await stack.enter_async_context(
            slurm(options)
            if options.backend == "slurm"
            else processes(options, folder, tree, variables)
        )
        names = [options.host, socket.gethostname(), *options.name]
        api = Api(options.cluster_id, accounts, storage, connections, names)
        config = uvicorn.Config(
            api.app(),
            http=connections.protocol(),
            log_level="warning",
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        )
        server = Server(config)

        def stop() -> None:
            api.stop()
            server.stop()

        _on_signals(stop)
        port = listener.getsockname()[1]
        server.when_ready = lambda: announce(options, port, folder, accounts)
        await server.serve(sockets=[listener])


if __name__ == "__main__":
    sys.exit(main())
