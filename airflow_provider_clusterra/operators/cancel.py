"""Cancelling jobs that nobody wants any more."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from airflow.providers.common.compat.sdk import AirflowException, BaseOperator, Context

from airflow_provider_clusterra.api.client import Access, AsyncClient
from airflow_provider_clusterra.api.jobs import Job
from airflow_provider_clusterra.hooks.clusterra import ClusterraHook, Connected
from airflow_provider_clusterra.submit.protocol import find_run, hash_run, keep_own, whole_id
from airflow_provider_clusterra.task import arguments as given
from airflow_provider_clusterra.task.report import airflow_errors
from airflow_provider_clusterra.watch.cancel import cancel_if_alive

AT_ONCE = 8
"""Jobs that are cancelled at the same time."""


class ClusterraCancelJobOperator(BaseOperator):
    """Cancel jobs, and see that they are gone. A job that has already ended is a success.

    For a teardown, or behind tasks with ``trigger_rule="one_failed"``.

    :param job_id: Slurm's number for the job, or a list of them, e.g.
        ``"{{ ti.xcom_pull('train', key='job_id') }}"``; if nothing was pushed, nothing is
        cancelled.
    :param tag_of_run: instead: all jobs of this DAG run on this cluster, found by their names' tag.
    :param clusterra_conn_id: the connection's id.
    :param cluster_id: the cluster; otherwise the connection's.
    """

    READERS: ClassVar[dict[str, given.Reader]] = {"job_id": given.job_ids}
    """How each argument that may be templated is read."""
    template_fields: Sequence[str] = ("job_id", "clusterra_conn_id", "cluster_id")
    ui_color = "#f6dbdb"

    def __init__(
        self,
        *,
        job_id: int | str | Sequence[int | str] | None = None,
        tag_of_run: bool = False,
        clusterra_conn_id: str = ClusterraHook.default_conn_name,
        cluster_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if tag_of_run == (job_id is not None):
            raise given.ArgumentError(
                "Give either job_id, or tag_of_run=True for all jobs of this run."
            )
        self.job_id = job_id
        self.tag_of_run = tag_of_run
        self.clusterra_conn_id = clusterra_conn_id
        self.cluster_id = cluster_id
        given.check_plain(self, self.READERS)

    def execute(self, context: Context) -> list[int]:
        """Cancel, and wait until nothing of the jobs runs any more.

        :returns: the ids of the jobs that were cancelled; those that had ended are not among them.
        :raises AirflowFailException: what no retry can heal.
        :raises AirflowException: a job is still there.
        """
        with airflow_errors(self.clusterra_conn_id):
            hook = ClusterraHook(self.clusterra_conn_id, self.cluster_id)
            with hook.connect() as connected:
                if self.tag_of_run:
                    job_ids = jobs_of_the_run(context, connected)
                else:
                    job_ids = given.job_ids("job_id", self.job_id)
                access, cluster_id = connected.settings.access, connected.cluster_id
            return self._report(asyncio.run(cancel_all(access, cluster_id, job_ids)))

    def _report(self, seen: dict[int, tuple[bool, Job | None]]) -> list[int]:
        for job_id, (was_alive, job) in seen.items():
            state = job.state if job else "not known to the cluster (any more)"
            self.log.info("Job %s %s %s.", job_id, "was cancelled:" if was_alive else "is", state)
        if not seen:
            self.log.info("There is no job to cancel.")
        if left := describe_left(seen):
            raise AirflowException(left)
        return [job_id for job_id, (was_alive, _) in seen.items() if was_alive]


def describe_left(seen: Mapping[int, tuple[bool, Job | None]]) -> str:
    """Which jobs a cancel has left, in words, or ``""``."""
    left = [str(job_id) for job_id, (_, job) in seen.items() if job and not job.state.finished]
    return f"Cancelled, and still there: jobs {', '.join(left)}." if left else ""


def jobs_of_the_run(context: Context, connected: Connected) -> list[int]:
    """The ids of this DAG run's jobs of which anything may run, now or later."""
    ti, client, cluster_id = context["ti"], connected.client, connected.cluster_id
    run = hash_run(connected.settings.deployment, cluster_id, ti.dag_id, ti.run_id)
    listed = client.list_jobs(cluster_id)
    own = keep_own(find_run(listed, run), listed, client.get_user)
    return sorted({whole_id(job) for job in own})


async def cancel_all(
    access: Access, cluster_id: str, job_ids: Sequence[int]
) -> dict[int, tuple[bool, Job | None]]:
    """Cancel jobs, several at a time: for each whether it was alive, and what became of it."""
    slots = asyncio.Semaphore(AT_ONCE)
    async with AsyncClient(access) as client:

        async def cancel(job_id: int) -> tuple[bool, Job | None]:
            async with slots:
                return await cancel_if_alive(client, cluster_id, job_id)

        # all are cancelled, even if one of them cannot be
        cancels = [asyncio.create_task(cancel(job_id)) for job_id in job_ids]
        await asyncio.gather(*cancels, return_exceptions=True)
    return {job_id: each.result() for job_id, each in zip(job_ids, cancels, strict=True)}
