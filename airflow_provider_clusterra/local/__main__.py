"""``clusterra-local``: a Clusterra on your own machine."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import quote

import uvicorn

from airflow_provider_clusterra import __version__
from airflow_provider_clusterra.local.app import Api
from airflow_provider_clusterra.local.family import Family
from airflow_provider_clusterra.local.guard import Guard
from airflow_provider_clusterra.local.ledger import LedgerError
from airflow_provider_clusterra.local.processes import Processes
from airflow_provider_clusterra.local.scheduler import Limits, Scheduler
from airflow_provider_clusterra.local.session import Session, new_session
from airflow_provider_clusterra.local.storage import Storage, StorageError

DEFAULT_PORT = 8765
TOKEN_VARIABLE = "CLUSTERRA_LOCAL_TOKEN"  # noqa: S105 - a variable's name
SHUTDOWN_SECONDS = 1
"""How long open output streams may hold up the end."""


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


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or Ctrl-C.

    :param arguments: instead of the command line's.
    :returns: 0, or 2 where it cannot start; the reason is on standard error.
    """
    options = _options(arguments)
    with ExitStack() as stack:
        try:
            listener = stack.enter_context(_listen(options.port))
            folder = Path(options.dir or stack.enter_context(tempfile.TemporaryDirectory()))
            folder = folder.resolve()
            folder.mkdir(parents=True, exist_ok=True)
            asyncio.run(_serve(options, listener, folder))
        except (OSError, LedgerError, StorageError) as exc:
            print(f"clusterra-local: {exc}", file=sys.stderr)
            return 2
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="clusterra-local", description=__doc__)
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument(
        "--port", type=int, default=DEFAULT_PORT, help=f"on 127.0.0.1; 0: any ({DEFAULT_PORT})"
    )
    parser.add_argument("--dir", help="where files are kept; otherwise a folder that goes with it")
    parser.add_argument(
        "--cpus", type=_positive, default=os.cpu_count() or 1, help="CPU slots for jobs (all)"
    )
    parser.add_argument(
        "--min-job-age",
        type=float,
        default=300.0,
        help="seconds for which an ended job is remembered (300)",
    )
    parser.add_argument(
        "--kill-wait", type=float, default=30.0, help="seconds between SIGTERM and SIGKILL (30)"
    )
    parser.add_argument(
        "--minute",
        type=float,
        default=60.0,
        help="seconds that a minute of a job's time limit lasts, to try out its end (60)",
    )
    parser.add_argument("--cluster-id", default="clusloc1", help="the cluster's id (clusloc1)")
    return parser.parse_args(arguments)


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _listen(port: int) -> socket.socket:
    # with the protocol named, asyncio sends what is written at once; else an answer waits for 40 ms
    listener = socket.socket(proto=socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
    except (OSError, OverflowError) as exc:
        listener.close()
        why = exc.strerror if isinstance(exc, OSError) else "it is not between 0 and 65535"
        words = f"port {port} cannot be used ({why}). Choose another with --port."
        raise OSError(words) from exc
    return listener


def _session() -> Session:
    token = os.environ.get(TOKEN_VARIABLE, "")
    if not token:
        return new_session()
    if not token.isascii() or not token.isprintable() or set(token) & set(" ;,"):
        raise OSError(f"{TOKEN_VARIABLE} holds what no cookie can: a space, ';', ',' or the like")
    return Session(token)


async def _serve(options: argparse.Namespace, listener: socket.socket, folder: Path) -> None:
    session = _session()
    family = Family()
    storage = Storage(folder, options.cluster_id, family)
    limits = Limits(options.cpus, options.min_job_age, options.kill_wait, options.minute)
    # a job finds uploaded files under "$CLUSTERRA_FILES/<key>"
    scheduler = Scheduler(folder, limits, family, {"CLUSTERRA_FILES": str(storage.files)})
    config = uvicorn.Config(
        Api(options.cluster_id, session, Processes(scheduler), storage).app(),
        log_level="warning",
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )
    server = Server(config)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.stop)
    async with Guard(family):
        try:
            await storage.start()
            scheduler.schedule()
            server.when_ready = lambda: _tell(options, listener.getsockname()[1], folder, session)
            await server.serve(sockets=[listener])
        finally:
            await scheduler.stop()
            await storage.stop()


def _tell(options: argparse.Namespace, port: int, folder: Path, session: Session) -> None:
    token = quote(session.token, safe="")
    uri = f"clusterra://:{token}@127.0.0.1:{port}/http?cluster_id={options.cluster_id}"
    print(
        f"clusterra-local {__version__}: cluster {options.cluster_id}, jobs run as processes of "
        f"this machine on {options.cpus} CPUs",
        f"files        {folder}",
        f"API          http://127.0.0.1:{port}/v1",
        "connection   paste this line where Airflow runs:",
        f"export AIRFLOW_CONN_CLUSTERRA_DEFAULT='{uri}'",
        sep="\n",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
