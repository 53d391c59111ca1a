"""A slurmrestd as one of its users asks it, once it is known that this user may."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from clusterra_server.backend import Answer, Query
from clusterra_server.slurmrestd import Slurmrestd, UnavailableError
from clusterra_server.tokens import SlurmToken, TokenError


class Caller:
    """One of a slurmrestd's users.

    :param token: the user's.
    :param ordinary_only: whether a token of root's or SlurmUser's is refused: until it is known to
        be none, nothing is asked with it.
    """

    def __init__(
        self, slurmrestd: Slurmrestd, token: SlurmToken, *, ordinary_only: bool = False
    ) -> None:
        self.token = token
        self._slurmrestd = slurmrestd
        self._doubtful = ordinary_only
        self._check = asyncio.Lock()

    async def ask(
        self,
        method: str,
        path: str,
        *,
        query: Query = (),
        body: Mapping[str, Any] | None = None,
        stream: bool = False,
    ) -> Answer:
        """As :meth:`Slurmrestd.ask`."""
        try:
            await self.check()
        except UnavailableError as exc:
            return exc.answer
        return await self._slurmrestd.ask(
            self.token, method, path, query=query, body=body, stream=stream
        )

    async def check(self) -> None:
        """Refuse what may be a token of root's or SlurmUser's, where it is not to be one.

        :raises UnavailableError: it is one, or it cannot be told now.
        """
        if not self._doubtful:
            return
        async with self._check:
            # another request may have seen to it
            if self._doubtful and await self.is_privileged():
                raise UnavailableError(403, privileged(self.token))

    async def is_privileged(self) -> bool:
        """Whether the token may speak for anybody.

        :raises UnavailableError: it cannot be told now.
        """
        try:
            is_root = self.token.user == "root"
        except TokenError as exc:
            raise UnavailableError(503, str(exc)) from exc
        found = is_root or await self._slurmrestd.is_privileged(self.token)
        if not found:
            self._doubtful = False
        return found


def privileged(token: SlurmToken) -> str:
    """What is wrong with a token of root's or SlurmUser's."""
    whose = token.given_user or "root or SlurmUser"
    return f"the Slurm token of {whose} may do anything on the cluster"
