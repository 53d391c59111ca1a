"""A clusterra-server as the package's own clients and waits see it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import httpx

from airflow_provider_clusterra.api import Access, Client
from airflow_provider_clusterra.api.jobs import Job
from airflow_provider_clusterra.api.specs import JobSpec
from airflow_provider_clusterra.triggers.jobs import ClusterraJobTrigger, JobEvent
from airflow_provider_clusterra.watch.verdict import Patience
from tests.support.servers import ClusterraServer

WITHIN = 120.0
"""Seconds for which anything is waited for here."""


class Cluster:
    """The server that the connection ``clusterra_default`` leads to.

    :param token: to sign in with; otherwise the server's one.
    """

    def __init__(self, front: ClusterraServer, token: str = "") -> None:
        self.access = Access(front.url, token or front.token)
        self.cluster_id = front.cluster_id
        self.patience: Patience | None = None
        """Of the waits, if it is to be another than the trigger's own."""

    def submit(self, script: str, **fields: Any) -> int:
        """Submit a job.

        :param fields: more of slurmrestd's.
        :returns: its id.
        """
        text = script if script.startswith("#!") else f"#!/bin/bash\n{script}\n"
        body = JobSpec(script=text, name=fields.pop("name", "test"), fields=fields).body()
        return self.submit_body(body)

    def submit_body(self, body: dict[str, Any]) -> int:
        """Submit what is a whole body."""
        with Client(self.access) as client:
            submitted = client.submit_job(self.cluster_id, body)
        assert submitted.problems == ()
        return submitted.job_id

    def job(self, job_id: int) -> Job:
        """A job as it is now."""
        with Client(self.access) as client:
            return client.get_job(self.cluster_id, job_id)

    def cancel(self, job_id: int) -> bool:
        """Cancel a job."""
        with Client(self.access) as client:
            return client.cancel_job(self.cluster_id, job_id)

    def record(self, job_id: int) -> dict[str, Any]:
        """A job's record as slurmrestd has it."""
        (record,) = self.records(job_id)
        return record

    def records(self, job_id: int) -> list[dict[str, Any]]:
        """The records of a het job's components."""
        found = self._get(f"jobs/{job_id}").json()["jobs"]
        assert found
        return found

    def all_records(self) -> list[dict[str, Any]]:
        """The records of all jobs."""
        records: list[dict[str, Any]] = self._get("jobs").json()["jobs"]
        return records

    def indices(self, job_id: int) -> set[int]:
        """The indices of an array's tasks that have begun and are not forgotten."""
        found = self._get(f"jobs/{job_id}").json()["jobs"]
        indices = [record["array_task_id"] for record in found]
        return {index["number"] for index in indices if index["set"]}

    def output(self, job_id: int) -> str:
        """A job's output, or as much as there is."""
        return self._get(f"jobs/{job_id}/output").text

    def download_url(self, key: str) -> str:
        """An address at which a job finds what was uploaded."""
        answer = httpx.post(
            f"{self.access.origin}/v1/clusters/{self.cluster_id}/storage/download-url",
            json={"key": key},
            headers=self.access.headers(),
        )
        return answer.json()["download_url"]

    async def wait(self, job_id: int, **how: Any) -> JobEvent:
        """Wait for a job as a deferred task's trigger does."""
        return await self.trigger(job_id, **how).wait()

    async def wait_all(self, job_ids: list[int], **how: Any) -> list[JobEvent]:
        """Wait for jobs together."""
        return await asyncio.gather(*(self.wait(job_id, **how) for job_id in job_ids))

    def trigger(self, job_id: int, **how: Any) -> ClusterraJobTrigger:
        """The trigger of a task that waits for a job."""
        defaults = {"clusterra_conn_id": "clusterra_default", "poll_interval": 1}
        made = ClusterraJobTrigger(job_id=job_id, cluster_id=self.cluster_id, **{**defaults, **how})
        if self.patience is not None:
            made.patience = self.patience
        return made

    async def until(self, true: Callable[[], bool]) -> None:
        """Wait until something is so."""
        end = time.monotonic() + WITHIN
        while not await asyncio.to_thread(true):
            assert time.monotonic() < end
            await asyncio.sleep(0.1)

    async def until_running(self, job_id: int) -> None:
        """Wait until a job runs."""
        await self.until(lambda: self.job(job_id).state.base == "RUNNING")

    async def until_gone(self, job_id: int) -> None:
        """Wait until Slurm has forgotten a job."""
        await self.until(lambda: self._get(f"jobs/{job_id}").status_code == 404)

    def _get(self, path: str) -> httpx.Response:
        return httpx.get(
            f"{self.access.origin}/v1/clusters/{self.cluster_id}/{path}",
            headers=self.access.headers(),
            timeout=60,
        )
