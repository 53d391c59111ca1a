"""What a wait tells the task that resumes: a value on both sides, JSON between them."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec.structs import replace

from airflow_provider_clusterra.api.errors import ProtocolError
from airflow_provider_clusterra.api.jobs import Job


class JobEvent(msgspec.Struct, frozen=True):
    """The end of a wait."""

    outcome: str
    """``"ended"``, ``"lost"``, ``"timed_out"``, or ``"refused"`` (no waiting can heal it)."""
    job_id: int
    cluster_id: str
    job: Job | None = None
    """The job as last seen; an array's without its tasks, which the resumed task reads itself."""
    words: str = ""

    def to_payload(self) -> dict[str, Any]:
        """The event as plain JSON values, small enough to be logged."""
        small = replace(self, job=replace(self.job, tasks=()) if self.job else None)
        payload: dict[str, Any] = msgspec.to_builtins(small)
        return payload


def read_event(payload: Any) -> JobEvent:
    """The event, checked: it came through the metadata database.

    :param payload: as :meth:`JobEvent.to_payload` made it.
    :raises ProtocolError: it is something else.
    """
    try:
        return msgspec.convert(payload, JobEvent)
    except msgspec.ValidationError as exc:
        raise ProtocolError(
            f"The event with which this task was resumed cannot be read ({exc}). Was the provider "
            "upgraded while it was deferred? Clear the task."
        ) from exc
