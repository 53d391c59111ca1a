"""A small process that outlives the server, so that nothing else does.

``python -m clusterra_server.guard NAME``: it waits until its standard input ends,
which it does however the server ends, SIGKILL included; then it ends the server's family.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Self

from clusterra_server.family import Family, end_orphans


class Guard:
    """The guard of one server's family; an asynchronous context manager."""

    def __init__(self, family: Family) -> None:
        self._family = family
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        """Start it, in a session of its own: a Ctrl-C is not for it."""
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", __name__, self._family.name),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        """Let it end."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            await self._process.wait()


if __name__ == "__main__":
    sys.stdin.buffer.read()
    end_orphans(sys.argv[1])
