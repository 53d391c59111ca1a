"""A full queue: who waits for a place in it, and who may try next."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from weakref import WeakKeyDictionary

from airflow_provider_clusterra.api.errors import Retry

PAUSES = Retry(first=15.0, cap=300.0)
"""Between two tries, for all that wait for one cluster."""
SETTLED_AFTER = 30.0
"""Seconds after which a task that was let go has found its place, or is back."""


class PlaceQueue:
    """Lets one of all waiting tasks try, and twice as many each time as long as none comes back."""

    def __init__(self, pauses: Retry = PAUSES, settled_after: float = SETTLED_AFTER) -> None:
        self._pauses = pauses
        self._settled_after = settled_after
        self._waiting: list[asyncio.Future[None]] = []
        self._one_is_back = False
        self._letting_go: asyncio.Task[None] | None = None

    async def wait(self, *, is_back: bool, until: float | None = None) -> None:
        """Wait for a turn, for so many seconds at the most; ``is_back`` after a try in vain."""
        self._one_is_back |= is_back
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        if self._letting_go is None or self._letting_go.done():
            self._letting_go = asyncio.create_task(self._let_go())
        try:
            await asyncio.wait([turn], timeout=until)
        finally:
            if turn in self._waiting:
                self._waiting.remove(turn)

    async def _let_go(self) -> None:
        at_once, failures = 1, 1
        await asyncio.sleep(self._pauses.pause(failures))
        while self._waiting:
            self._one_is_back = False
            now, self._waiting = self._waiting[:at_once], self._waiting[at_once:]
            for turn in now:
                turn.set_result(None)
            await asyncio.sleep(self._settled_after)
            if self._one_is_back:
                at_once, failures = 1, failures + 1
                await asyncio.sleep(self._pauses.pause(failures))
            else:
                at_once, failures = 2 * at_once, 1


_queues: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Hashable, PlaceQueue]] = (
    WeakKeyDictionary()
)


def place_queue_of(*place: Hashable) -> PlaceQueue:
    """The running event loop's one queue of this connection and cluster."""
    queues = _queues.setdefault(asyncio.get_running_loop(), {})
    return queues.setdefault(place, PlaceQueue())
