"""The link "Clusterra job" of a task."""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import BaseOperatorLink

KEY = "clusterra_job_url"
"""The XCom that holds the address."""


class ClusterraJobLink(BaseOperatorLink):
    """The page of a task's job, from the moment that the job exists."""

    @property
    def name(self) -> str:
        """What the UI shows."""
        return "Clusterra job"

    @property
    def xcom_key(self) -> str:
        """Where Airflow finds the address."""
        return KEY

    def get_link(self, operator: Any, *, ti_key: Any) -> str:  # noqa: ARG002 - Airflow's form
        """The address that the task pushed: Airflow's worker asks when it ends, and pushes it again."""
        pulled = ti_key.xcom_pull(task_ids=ti_key.task_id, key=KEY, map_indexes=ti_key.map_index)
        return pulled or ""
