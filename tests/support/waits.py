"""A wait without Airflow, for tests: short patience, and a log that can be read."""

from __future__ import annotations

import asyncio

from airflow_provider_clusterra.api import Retry
from airflow_provider_clusterra.watch.verdict import Patience

HASTY = Patience(
    min_job_age=0.0, ask_every=0.05, hurry_every=0.05, backoff=Retry(first=0.01, cap=0.01)
)
"""A patience that suits servers which answer at once, and forget at once."""


class Log(list[str]):
    """The lines of a task's log."""

    def info(self, words: str, *values: object) -> None:
        """Keep a line."""
        self.append(words % values if values else words)

    warning = error = debug = info


MOST_TURNS = 200_000
"""Of an event loop at one instant: tests wait with thousands of jobs at most."""


class VirtualClock(asyncio.SelectorEventLoop):
    """An event loop that does not wait: its time goes on to what is due next."""

    now = 1000.0
    _turns = 0
    """Since the time last went on."""

    def time(self) -> float:
        """Seconds, as those of ``time.monotonic``."""
        return self.now

    def _run_once(self) -> None:
        if not self._ready and self._scheduled:
            then = max(self.now, self._scheduled[0].when())
            self._turns = 0 if then > self.now else self._turns
            self.now = then
        self._turns += 1
        if self._turns > MOST_TURNS:
            raise RuntimeError(f"something spins: {MOST_TURNS} turns, and no time has gone by")
        super()._run_once()
