"""A wait without Airflow, for tests: short patience, and a log that can be read."""

from __future__ import annotations

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
