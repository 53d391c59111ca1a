"""The job that a task has, however it came by it."""

from __future__ import annotations

import msgspec

from airflow_provider_clusterra.api.jobs import Job


class Held(msgspec.Struct, frozen=True):
    """A job that this task holds now."""

    job_id: int
    name: str
    """As Slurm has it; ``""`` where it carries none of ours."""
    adopted_at: float | None = None
    """Seconds since 1970; None where this try submitted it."""
    array: str = ""
    """The indices that were submitted; ``""`` where it is no array."""
    ended: Job | None = None
    """Set where an adopted job had succeeded already."""
