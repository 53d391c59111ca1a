"""The API that the struck tasks see: one address, and weather of its own for each round."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from threading import Lock
from typing import Any, Self

from tests.support.proxy import Proxy
from tests.support.servers import running


class Gate:
    """An ASGI app that knows by its session which round a request is of; a context manager.

    What is behind it goes on while it is restarted, as Slurm does without its API.
    """

    def __init__(self) -> None:
        self.url = ""
        self._proxies: dict[bytes, Proxy] = {}
        self._serving = ExitStack()
        self._restarting = Lock()
        self._up_until = 0.0

    def open(self, session: str, upstream: str, token: str) -> Proxy:
        """Let a session through, to one server.

        :param token: the session that the server knows instead.
        """
        proxy = Proxy(upstream)
        proxy.session = (session, token)
        self._proxies[f"clusterra_session={session}".encode()] = proxy
        return proxy

    def stay_up(self, seconds: float) -> None:
        """Let a restart end that is under way, and begin none within so many seconds."""
        with self._restarting:
            self._up_until = max(self._up_until, time.monotonic() + seconds)

    def restart(self, seconds: float) -> None:
        """Refuse all connections for so long."""
        with self._restarting:
            time.sleep(max(0.0, self._up_until - time.monotonic()))
            port = int(self.url.rpartition(":")[2])
            try:
                self._serving.close()
            finally:
                time.sleep(seconds)
                self.url = self._serving.enter_context(running(self, port))

    def __enter__(self) -> Self:
        self.url = self._serving.enter_context(running(self))
        return self

    def __exit__(self, *_: object) -> None:
        self._serving.close()

    async def __call__(
        self,
        scope: dict[str, Any],
        receive: Callable[[], Awaitable[dict[str, Any]]],
        send: Callable[[dict[str, Any]], Awaitable[None]],
    ) -> None:
        """One request."""
        await self._proxies[dict(scope["headers"])[b"cookie"]](scope, receive, send)
