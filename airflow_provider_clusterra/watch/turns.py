"""Going through many things without holding the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import TypeVar

T = TypeVar("T")
AT_A_STRETCH = 200
"""Things that are gone through before others have their turn: less than a millisecond's."""


async def in_turns(things: Iterable[T], stretch: int = AT_A_STRETCH) -> AsyncIterator[T]:
    """The things, with a pause for others now and then.

    :param things: of which none may be added or taken away meanwhile.
    :param stretch: how many are gone through before the others have their turn.
    """
    for number, thing in enumerate(things, 1):
        yield thing
        if number % stretch == 0:
            await asyncio.sleep(0)
