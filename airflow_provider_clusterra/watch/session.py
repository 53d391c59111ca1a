"""The connection's session: read for all who wait, and again when it is not accepted any more."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from airflow_provider_clusterra.api.access import Access
from airflow_provider_clusterra.api.errors import AuthenticationError, ClusterraError
from airflow_provider_clusterra.api.retry import Retry

log = logging.getLogger(__name__)

Credentials = Callable[[], Awaitable[Access]]
GRACE = 15 * 60.0
"""Seconds for which a session that is no longer accepted may be renewed before the waits fail, and
a connection that cannot be read may become readable."""
PAUSES = Retry(first=1.0, cap=30.0)


class Session:
    """What a connection holds, while jobs are waited for.

    A wait begins with a job that this connection has submitted or seen. So a session that is not
    accepted has ended, even where this process has never seen it accepted: its triggerer may have
    started since.

    :param credentials: reads the connection.
    :param may_be_renewed: whether it may read another session than before.
    """

    def __init__(self, credentials: Credentials, *, may_be_renewed: bool) -> None:
        self._credentials = credentials
        self._may_be_renewed = may_be_renewed
        self._refused_since: float | None = None

    async def begin(self) -> Access:
        """Read the connection; what is wrong with Airflow's database has its time to heal.

        :raises ClusterraError: there is no such connection, or it cannot be right, or cannot be
            read for as long as :data:`GRACE`.
        """
        end = time.monotonic() + GRACE
        failures = 0
        while True:
            try:
                return await self._credentials()
            except ClusterraError:
                raise
            except Exception as exc:
                if time.monotonic() >= end:
                    raise ClusterraError(f"The connection cannot be read: {exc}") from exc
                failures += 1
                level = logging.WARNING if failures == 1 else logging.DEBUG
                log.log(level, "The connection cannot be read; trying again: %s", exc)
            await asyncio.sleep(PAUSES.pause(failures))

    def accept(self) -> None:
        """The session was accepted."""
        self._refused_since = None

    async def renew(self, held: Access, error: AuthenticationError) -> Access:
        """What to go on with after a 401; a user may have renewed the session.

        :param held: what was not accepted.
        :param error: the 401.
        :returns: what the connection holds now, which may be the same.
        :raises AuthenticationError: it cannot change, or has not changed for as long as
            :data:`GRACE`.
        """
        if not self._may_be_renewed:
            raise error
        try:
            access = await self._credentials()
        except Exception:
            log.exception("The connection cannot be read; going on with what it held before.")
            access = held
        if access != held:
            log.warning("The session was not accepted any more; going on with the renewed one.")
            return access
        now = time.time()
        if self._refused_since is None:
            self._refused_since = now
            log.warning("Renew the connection's session; the jobs go on meanwhile. %s", error)
        if now - self._refused_since >= GRACE:
            raise error
        return held
