"""What the HTTP API needs of whatever runs the jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as slurmrestd v0.0.44 would give it."""

    body: dict[str, Any] | str
    """JSON, or plain text."""
    status: int = 200


class Backend(Protocol):
    """What runs the jobs. A job's id is as it stands in the path: ``"12"`` or ``"12_3"``."""

    @property
    def outputs(self) -> Path:
        """The folder with the jobs' ``job_<id>.out``."""

    async def submit_job(self, body: Mapping[str, Any]) -> Answer:
        """Take a raw submit, ``{"script": str, "job": {…}}``."""

    async def list_jobs(self) -> Answer:
        """All jobs that are remembered."""

    async def list_states(self, job_ids: Sequence[str]) -> Answer:
        """Ids and states of these jobs, or of all."""

    async def get_job(self, job_id: str) -> Answer:
        """One job, or all tasks of an array."""

    async def cancel_job(self, job_id: str) -> Answer:
        """Cancel a job, a task of an array, or a whole array."""

    async def list_accounting(self, query: Mapping[str, str]) -> Answer:
        """Jobs that accounting remembers, by ``job_name`` or ``step``: lists with commas."""

    async def list_nodes(self) -> Answer:
        """The cluster's machines."""

    async def get_stats(self) -> Answer:
        """The scheduler's diagnostics."""

    async def read_metrics(self) -> Answer:
        """OpenMetrics text."""
