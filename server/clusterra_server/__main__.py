"""``clusterra-server``: a Clusterra on your own machine."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, contextmanager
from pathlib import Path

import uvicorn

from clusterra_server.app import Api
from clusterra_server.backends import processes, slurm
from clusterra_server.banner import tell
from clusterra_server.family import Family
from clusterra_server.guard import Guard
from clusterra_server.ledger import LedgerError
from clusterra_server.options import DEFAULT_HOST, is_loopback, read_options
from clusterra_server.slurmrestd import VersionError
from clusterra_server.storage import Rclone, Storage, StorageError, given_bucket
from clusterra_server.tokens import TokenError

SHUTDOWN_SECONDS = 1
"""How long answers that are under way may hold up the end."""


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
    :returns: 0, also where it is told to end while it starts; or 2 where it cannot start: the
        reason is on standard error.
    """
    options = read_options(arguments)
    with ExitStack() as stack:
        try:
            listener = stack.enter_context(_listen(options.host, options.port))
            folder = Path(options.dir or stack.enter_context(tempfile.TemporaryDirectory()))
            folder = folder.resolve()
            folder.mkdir(parents=True, exist_ok=True)
            asyncio.run(_serve(options, listener, folder))
        except (asyncio.CancelledError, KeyboardInterrupt):
            return 0
        except (OSError, LedgerError, StorageError, TokenError, VersionError) as exc:
            print(f"clusterra-server: {exc}", file=sys.stderr)
            return 2
    return 0


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


async def _serve(options: argparse.Namespace, listener: socket.socket, folder: Path) -> None:
    family = Family()
    if (starting := asyncio.current_task()) is not None:
        _on_signals(starting.cancel)
    async with Guard(family), AsyncExitStack() as stack:
        storage: Storage
        if options.s3:
            storage, variables = given_bucket(options.s3), dict[str, str]()
        else:
            storage = rclone = Rclone(folder, options.cluster_id, family)
            # a job finds uploaded files under "$CLUSTERRA_FILES/<key>"
            variables = {"CLUSTERRA_FILES": str(rclone.files)}
            stack.push_async_callback(rclone.stop)
            await rclone.start()
        accounts = await stack.enter_async_context(
            slurm(options)
            if options.backend == "slurm"
            else processes(options, folder, family, variables)
        )
        open_pages = options.backend == "processes" and is_loopback(options.host)
        api = Api(options.cluster_id, accounts, storage, open_pages=open_pages)
        config = uvicorn.Config(
            api.app(),
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
        server.when_ready = lambda: tell(options, port, folder, accounts)
        await server.serve(sockets=[listener])


if __name__ == "__main__":
    sys.exit(main())
