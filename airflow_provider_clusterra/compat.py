"""The one place that knows what differs between the versions of Airflow."""

from __future__ import annotations

from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_2_PLUS
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
    "FORMS_ARE_METADATA",
    "TRIGGERS_ARE_TOLD_OF_KILLS",
    "TaskDeferralError",
    "TaskDeferralTimeout",
]

FORMS_ARE_METADATA = AIRFLOW_V_3_2_PLUS
"""Airflow 3.2 reads a connection's form from the provider's metadata. Before that, it asks methods
of the hook, which are deprecated since."""

TRIGGERS_ARE_TOLD_OF_KILLS = hasattr(BaseTrigger, "on_kill")
"""Airflow 3.3 calls a trigger's ``on_kill`` when a user ends its task. Before that, the trigger is
only cancelled, as it is when its triggerer stops."""
