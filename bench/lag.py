"""How late an event loop is: what the triggerer's other triggers would feel."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

EVERY = 0.002


@asynccontextmanager
async def measured_lag() -> AsyncIterator[list[float]]:
    """The milliseconds by which a sleep of 2 ms was late, one after the other."""
    late: list[float] = []

    async def measure() -> None:
        while True:
            begin = time.perf_counter()
            await asyncio.sleep(EVERY)
            late.append((time.perf_counter() - begin - EVERY) * 1000)

    task = asyncio.create_task(measure())
    try:
        yield late
    finally:
        task.cancel()


def in_words(late: list[float]) -> str:
    """Median, 99th percentile and maximum."""
    ordered = sorted(late)
    p50, p99 = (ordered[int(len(ordered) * share)] for share in (0.5, 0.99))
    return f"event-loop lag p50 {p50:.1f} ms, p99 {p99:.1f} ms, max {ordered[-1]:.1f} ms"
