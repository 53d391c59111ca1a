"""The backend that runs scripts as processes of this machine, and answers as slurmrestd would."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from clusterra_server.backend import Answer, Query
from clusterra_server.dependencies import read_dependencies
from clusterra_server.environment import NODE
from clusterra_server.jobs import Job
from clusterra_server.metrics import job_metrics
from clusterra_server.records import (
    accounting_record,
    bad_job_id,
    bad_time,
    envelope,
    job_records,
    problem,
    state_records,
)
from clusterra_server.requests import (
    PARTITIONS,
    RefusedError,
    read_request,
    read_warnings,
    refused,
)
from clusterra_server.scheduler import Scheduler

WORDS = {2017: "Invalid job id specified", 2021: "Job/step already completing or completed"}


class JobId(NamedTuple):
    """A job's id as a path holds it."""

    number: int
    task: int | None
    """An array's index, in ``12_3``."""


def read_job_id(text: str) -> JobId | None:
    """A job's id, ``"12"`` or ``"12_3"``; None where it is neither."""
    found = re.fullmatch(r"([0-9]{1,10})(?:_([0-9]{1,10}))?", text)
    return JobId(int(found[1]), int(found[2]) if found[2] else None) if found else None


class Processes:
    """Answers in slurmrestd v0.0.44's shape for what a :class:`Scheduler` does."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._memory_mb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20

    async def find_output(self, job_id: str) -> Path:
        """The file with a job's output, which need not be there yet."""
        # what a path's segment holds has no slash, so it cannot leave the folder
        return self._scheduler.outputs / f"job_{job_id}.out"

    async def submit_job(self, body: Mapping[str, Any]) -> Answer:
        """Take a raw submit, ``{"script": str, "job": {…}}``."""
        try:
            request = read_request(body, self._memory_mb)
            self._check_dependency(request.dependency)
        except RefusedError as exc:
            return Answer(envelope(errors=[exc.error]), exc.status)
        job = self._scheduler.submit_job(request)[0]
        warnings = read_warnings(body["job"])
        if request.larger_than(self._scheduler.cpus):
            text = "Requested partition configuration not available now"
            warnings.append({"description": text, "source": "slurm_submit_batch_job()"})
        fields = {"job_id": job.key[0], "step_id": "batch", "job_submit_user_msg": ""}
        return Answer(envelope(**fields, warnings=warnings))

    def _check_dependency(self, text: str) -> None:
        """Refuse to wait for a job that is forgotten: slurmctld does not ask accounting, either."""
        for each in read_dependencies(text):
            if not self._scheduler.get_job(int(each.job_id.partition("_")[0])):
                raise refused(2038, "Job dependency problem")

    async def list_jobs(self) -> Answer:
        """All jobs that are remembered."""
        return Answer(envelope(jobs=self._records(self._scheduler.list_jobs())))

    async def list_states(self, job_ids: Sequence[str]) -> Answer:
        """Ids and states of these jobs, or of all."""
        jobs = self._scheduler.list_jobs()
        if job_ids:
            asked = [read_job_id(each) for each in job_ids]
            wanted = {job.key for each in asked if each for job in self._find(each)}
            jobs = [job for job in jobs if job.key in wanted]
        return Answer(envelope(jobs=state_records(self._records(jobs))))

    async def get_job(self, job_id: str) -> Answer:
        """One job, or all tasks of an array: all of them for one task's id, too, as Slurm does."""
        asked = read_job_id(job_id)
        if asked is None:
            return bad_job_id()
        found = self._find(asked)
        if found:
            everything = self._scheduler.get_job(asked.number)
            return Answer(envelope(jobs=self._records(everything)))
        words = f"Unable to query JobId={job_id}"
        error = problem(2017, WORDS[2017], words, "_handle_job_get")
        return Answer(envelope(jobs=[], errors=[error]), 404)

    async def cancel_job(self, job_id: str) -> Answer:
        """Cancel: 200 whatever happens; ``status[].error`` tells."""
        asked = read_job_id(job_id)
        if asked is None:
            return bad_job_id()
        found = self._find(asked)
        if any(job.active for job in found):
            self._scheduler.cancel_jobs(found)
            return Answer(envelope(status=[]))
        code = 2021 if found else 2017
        words = WORDS[code]
        known = {"set": bool(found), "infinite": False, "number": asked.number if found else 0}
        entry = {
            "error": {"string": words, "code": code, "message": words},
            "step_id": job_id,
            "job_id": known,
            "federation": {"sibling": ""},
        }
        return Answer(envelope(status=[entry]))

    async def list_accounting(self, query: Query) -> Answer:
        """Jobs that there ever were, by ``job_name`` or ``step``: lists with commas.

        :param query: also with ``start_time`` and ``end_time``, in seconds since 1970.
        """
        asked = dict(query)
        names = set(filter(None, asked.get("job_name", "").split(",")))
        ids = set(filter(None, asked.get("step", "").split(",")))
        times = [asked.get("start_time") or "0", asked.get("end_time") or str(2**63)]
        for each in times:
            if not re.fullmatch("[0-9]{1,20}", each):
                return bad_time(each)
        start, end = map(int, times)
        found = [
            accounting_record(job)
            for job in self._scheduler.all_jobs()
            if (not names or job.request.name in names)
            and (not ids or {str(job.job_id), str(job.array_job_id)} & ids)
            and job.submitted < end
            and job.remembered_since(start)
        ]
        return Answer(envelope(jobs=found))

    async def list_nodes(self) -> Answer:
        """This machine."""
        cpus, busy = self._scheduler.cpus, self._scheduler.busy_cpus
        node = {
            "name": NODE,
            "state": ["MIXED" if 0 < busy < cpus else "ALLOCATED" if busy else "IDLE"],
            "cpus": cpus,
            "alloc_cpus": busy,
            "alloc_idle_cpus": cpus - busy,
            "real_memory": self._memory_mb,
            "partitions": list(PARTITIONS),
        }
        return Answer(envelope(nodes=[node]))

    async def get_stats(self) -> Answer:
        """How many jobs there are in which state."""
        counts = Counter(job.state for job in self._scheduler.list_jobs())
        return Answer(
            envelope(
                statistics={
                    "jobs_submitted": len(self._scheduler.all_jobs()),
                    "jobs_pending": counts["PENDING"],
                    "jobs_running": counts["RUNNING"],
                    "jobs_completed": counts["COMPLETED"],
                    "jobs_canceled": counts["CANCELLED"],
                    "jobs_failed": counts["FAILED"],
                }
            )
        )

    async def read_metrics(self) -> Answer:
        """OpenMetrics text."""
        return Answer(job_metrics(job.state for job in self._scheduler.list_jobs()))

    def _find(self, asked: JobId) -> list[Job]:
        jobs = self._scheduler.get_job(asked.number)
        return [job for job in jobs if asked.task in (None, job.array_task_id)]

    def _records(self, jobs: list[Job]) -> list[dict[str, Any]]:
        return job_records(jobs, self._scheduler.state_of)
