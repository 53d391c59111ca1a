"""Who is connected: strangers are few and do not stay, so that there is a place for those who sign in."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

from clusterra_server.backend import LOG, ReplyError

Client = tuple[str, int]
LIMITLESS = hasattr(AutoHTTPProtocol, "on_headers_complete")
"""Whether it is httptools' protocol, which reads a head of any length."""
MOST = 65536
"""Descriptors that are asked of the system, at most."""
FEW = 8192
"""With fewer, it is said what they are enough for."""
RESERVE = 256
"""Descriptors for what is no connection of a client's, slurmrestd's answers included."""
STRANGERS = 1000
"""Connections that nobody has signed in on, at most."""
SILENT = 10.0
"""Seconds for which a connection may be open without a whole request."""
LARGEST_HEAD = 64 * 1024
"""Bytes that may come without being a part of a whole request's head, or of a body."""
UNREAD = 60.0
"""Seconds for which an answer may wait to be read."""


def raise_limit() -> int:
    """Let this process open as many files as it may; returns how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST if hard == resource.RLIM_INFINITY else min(hard, MOST)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    if wanted < FEW:
        LOG.warning("with %d open files (ulimit -Hn) few outputs can be followed at once", wanted)
    return wanted


class Connections:
    """All connections of clients.

    :param files: how many descriptors there are.
    """

    def __init__(self, files: int, *, silent: float = SILENT, unread: float = UNREAD) -> None:
        places = max(files - RESERVE, files // 2)
        self._strangers_at_most = min(places // 4, STRANGERS)
        self._followed_at_most = places // 3
        self._followed = 0
        self._silent = silent
        self._unread = unread
        self._open: dict[Client, Any] = {}
        self._strangers: dict[Client, None] = {}
        """In the order of their coming."""
        self._since: dict[Client, float] = {}
        """When each connection was last seen with a request under way, or came."""
        self._sweeps: asyncio.TimerHandle | None = None

    def protocol(self) -> type[asyncio.Protocol]:
        """uvicorn's protocol, which is known here as long as it is connected."""
        connections = self

        class Connection(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
            _head = 0

            def data_received(self, data: bytes) -> None:
                # httptools has no limit of its own; a head that came in one piece is read already
                self._head += len(data)
                super().data_received(data)
                if self._head > LARGEST_HEAD and LIMITLESS:
                    self.transport.abort()

            def on_headers_complete(self) -> None:
                self._head = 0
                super().on_headers_complete()

            def on_body(self, body: bytes) -> None:
                self._head = 0
                super().on_body(body)

            def on_message_complete(self) -> None:
                self._head = 0
                super().on_message_complete()

            def connection_made(self, transport: asyncio.Transport) -> None:
                super().connection_made(transport)
                connections.join(self)

            def connection_lost(self, exc: Exception | None) -> None:
                connections.leave(self)
                super().connection_lost(exc)

        return Connection

    def join(self, connection: Any) -> None:
        """A stranger comes; one stranger too many is who came first."""
        client = connection.client
        if client is None:
            return
        self._open[client] = connection
        self._since[client] = asyncio.get_running_loop().time()
        self._strangers[client] = None
        if len(self._strangers) > self._strangers_at_most:
            self.cut(next(iter(self._strangers)))
        if self._sweeps is None:
            self._sweep()

    def leave(self, connection: Any) -> None:
        """A connection has ended."""
        for each in (self._open, self._since, self._strangers):
            each.pop(connection.client, None)

    def admit(self, client: Client | None) -> None:
        """Somebody has signed in."""
        self._strangers.pop(client, None)  # type: ignore[arg-type]

    def cut(self, client: Client | None) -> None:
        """End a connection at once."""
        if connection := self._open.get(client):  # type: ignore[arg-type]
            self._strangers.pop(connection.client, None)
            connection.transport.abort()

    async def send_in_time(self, sent: Any, client: Client | None) -> None:
        """Send a part of an answer; a client that does not read it is cut off."""
        try:
            async with asyncio.timeout(self._unread):
                await sent
        except TimeoutError:
            LOG.warning("a client that did not read its answer for %g s was cut off", self._unread)
            self.cut(client)

    def follow(self) -> Callable[[], None]:
        """A place for an output that is followed; returns what gives it back.

        :raises ReplyError: there is none: the rest of the API is to have some, too.
        """
        if self._followed >= self._followed_at_most:
            words = f"{self._followed} outputs are followed, and no more can be: see LimitNOFILE"
            raise ReplyError(503, words)
        self._followed += 1
        return self._unfollow

    def _unfollow(self) -> None:
        self._followed -= 1

    def _sweep(self) -> None:
        """End what has been open for long without a request."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        for client, connection in list(self._open.items()):
            cycle = connection.cycle
            if cycle is not None and not cycle.response_complete:
                self._since[client] = now
            elif now - self._since[client] > self._silent:
                self.cut(client)
        self._sweeps = loop.call_later(self._silent / 10, self._sweep) if self._open else None
