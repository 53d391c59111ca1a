"""The one place that knows what differs between the versions of Airflow."""

from __future__ import annotations

from airflow import __version__ as airflow_version
from airflow.triggers.base import BaseTrigger

try:
    from airflow.sdk.exceptions import TaskDeferralError, TaskDeferralTimeout
except ImportError:
    # where Airflow 3.1 has them
    from airflow.exceptions import (  # type: ignore[no-redef]
        TaskDeferralError,
        TaskDeferralTimeout,
    )

__all__ = [
    "A_KILL_IS_A_USERS",
    "CLEARS_FORGET",
    "FORMS_ARE_METADATA",
    "MIN_DEFERRAL",
    "TRIGGERS_ARE_TOLD_OF_KILLS",
    "TaskDeferralError",
    "TaskDeferralTimeout",
]

_AIRFLOW = tuple(int(part) for part in airflow_version.split(".")[:2])

FORMS_ARE_METADATA = _AIRFLOW >= (3, 2)
"""Airflow 3.2 reads a connection's form from the provider's metadata. Before that, it asks methods
of the hook, which are deprecated since."""

TRIGGERS_ARE_TOLD_OF_KILLS = hasattr(BaseTrigger, "on_kill")
"""Airflow 3.3 calls a trigger's ``on_kill`` when a user ends its task. Before that, the trigger is
only cancelled, as it is when its triggerer stops."""

A_KILL_IS_A_USERS = _AIRFLOW >= (3, 4)
"""Airflow 3.3 calls ``on_kill`` for a trigger that another triggerer has taken over, too."""

MIN_DEFERRAL = 0.0 if _AIRFLOW >= (3, 4) else 7.0
"""Seconds. Before Airflow 3.4, the scheduler may fail a task that is resumed sooner: it still hears
of the worker's end (apache/airflow#66374). The option ``[clusterra] min_deferral`` changes it."""

CLEARS_FORGET = _AIRFLOW >= (3, 4)
"""A clear discards the task's state, unless its user asks to keep it: then the task is to go on with
its job. Before Airflow 3.4, the state always survives a clear."""
