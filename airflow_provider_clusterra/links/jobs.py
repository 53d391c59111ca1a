"""The link "Clusterra job" of a task."""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import BaseOperatorLink, Context

from airflow_provider_clusterra.hooks.connection import ConnectionSettings

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
        """The address that the task pushed: Airflow's worker asks when it ends, and pushes it again.

        :param operator: the task's.
        :param ti_key: the task instance.
        :returns: ``""`` where there is no job.
        """
        pulled = ti_key.xcom_pull(task_ids=ti_key.task_id, key=KEY, map_indexes=ti_key.map_index)
        return pulled or ""


def show_job(context: Context, settings: ConnectionSettings, cluster_id: str, job_id: int) -> None:
    """Let the task's link lead to a job.

    :param context: the task's.
    :param settings: of the job's connection.
    :param cluster_id: the cluster, e.g. ``"clusde74"``.
    :param job_id: Slurm's number for the job, > 0.
    """
    context["ti"].xcom_push(key=KEY, value=settings.job_url(cluster_id, job_id))
