"""What asyncio leaves to us: ending a task for good, and going through many things in turns."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any, TypeVar


async def cancel_and_wait(task: asyncio.Task[Any]) -> None:
    """Cancel a task, and wait until it has cleaned up.

    A cancel of whoever waits here is not mistaken for the task's own, as it would be by one who
    awaits the task and takes its CancelledError; and it does not break off the task's cleaning up.
    """
    task.cancel()
    await asyncio.wait({task})


T = TypeVar("T")
AT_A_STRETCH = 200
"""Things that are gone through before others have their turn: less than a millisecond's."""


async def yielding(things: Iterable[T], stretch: int = AT_A_STRETCH) -> AsyncIterator[T]:
    """The things, with a pause for others now and then."""
    for number, thing in enumerate(things, 1):
        yield thing
        if number % stretch == 0:
            await asyncio.sleep(0)
