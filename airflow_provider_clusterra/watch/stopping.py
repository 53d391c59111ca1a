"""Ending a task of ours so that nothing of it stays open."""

from __future__ import annotations

import asyncio
from typing import Any


async def stop(task: asyncio.Task[Any]) -> None:
    """Cancel a task, and wait until it has cleaned up.

    A cancel of whoever waits here is not mistaken for the task's own, as it would be by one who
    awaits the task and takes its CancelledError; and it does not break off the task's cleaning up.

    :param task: of the running event loop; one that has ended is fine.
    """
    task.cancel()
    await asyncio.wait({task})
