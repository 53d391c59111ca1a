"""Looking for the job of a submit whose answer did not come."""

from __future__ import annotations

import logging
import time

from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_clusterra.api.client import Client
from airflow_provider_clusterra.api.errors import ClusterraError, NotFoundError
from airflow_provider_clusterra.api.retry import Retry
from airflow_provider_clusterra.operators.kill import KillSwitch
from airflow_provider_clusterra.submit.finding import (
    Found,
    find_candidates,
    find_jobs,
    find_named,
)
from airflow_provider_clusterra.submit.record import Record
from airflow_provider_clusterra.submit.tag import Tag, read_tag

log = logging.getLogger(__name__)

PAUSES = Retry(first=1.0, cap=30.0)


class Search:
    """Looks for one job.

    :param client: signed in, with one try for each request.
    :param cluster_id: the cluster, e.g. ``"clusde74"``.
    :param name: the job's whole name; ``""`` where it carries none of ours.
    :param since: when the first submit was sent, in seconds since 1970.
    """

    def __init__(self, client: Client, cluster_id: str, name: str, since: float) -> None:
        self._client = client
        self._cluster_id = cluster_id
        self._name = name
        self._since = since
        self.told = False
        """Whether the last look told anything."""

    def look(self) -> int | None:
        """The job's id; None where it is not shown, or where nothing tells now.

        :raises AirflowFailException: it has no name of ours, and may be one of several.
        """
        self.told = False
        try:
            jobs = self._client.list_jobs(self._cluster_id)
            user = "" if self._name else self._client.get_user().email
        except ClusterraError as error:
            log.debug("The job cannot be looked for now: %s", error)
            return None
        self.told = True
        if self._name:
            return find_named(jobs, self._name)
        candidates = find_candidates(jobs, self._since, user)
        if candidates:
            numbers = ", ".join(str(job.job_id) for job in candidates[:20])
            raise AirflowFailException(
                "The submit's answer was lost, and the job carries no name of ours. It may be one "
                f"of these: {numbers}. Look, cancel it or wait for it with a sensor, and then "
                "clear this task."
            )
        return None

    def look_for_a_while(self, patience: float, kill: KillSwitch) -> int | None:
        """As :meth:`look`, with growing pauses until it is there.

        :param patience: seconds.
        :param kill: the task's.
        :raises TaskKilledError: the task is being killed.
        """
        end = time.monotonic() + patience
        attempt = 0
        while True:
            attempt += 1
            kill.check()
            job_id = self.look()
            pause = PAUSES.pause(attempt)
            if job_id is not None or time.monotonic() + pause > end:
                return job_id
            kill.pause(pause)


class EarlierJobs:
    """The jobs of a task's earlier tries, as far as Slurm shows them.

    :param client: signed in.
    :param cluster_id: the cluster, e.g. ``"clusde74"``.
    :param ours: this try's tag.
    :param record: what Airflow remembers of the last submit.
    """

    def __init__(self, client: Client, cluster_id: str, ours: Tag, record: Record | None) -> None:
        self._client = client
        self._cluster_id = cluster_id
        self._ours = ours
        self._record = record

    def find(self, patience: float, kill: KillSwitch) -> list[Found]:
        """All of them; a task's first try has none, and does not look.

        A submit of which nothing was heard may still be under way: its job is waited for.

        :param patience: seconds since that was sent.
        :param kill: the task's.
        :raises TaskKilledError: the task is being killed.
        """
        if self._record is None and self._ours.try_number <= 1:
            return []
        age = 0.0 if self._record is None else max(0.0, time.time() - self._record.sent_at)
        end = time.monotonic() + patience - age
        attempt = 0
        while True:
            attempt += 1
            found = self._look()
            pause = PAUSES.pause(attempt)
            if not self._is_awaited(found) or time.monotonic() + pause > end:
                return found
            if attempt == 1:
                log.info("The last try was sending its submit when it died; looking for its job.")
            kill.pause(pause)

    def _look(self) -> list[Found]:
        found = find_jobs(self._client.list_jobs(self._cluster_id), self._ours)
        record = self._record
        tag = read_tag(record.tag) if record else None
        if record is None or record.job_id is None or tag is None:
            return found
        if tag.is_same_task(self._ours) and record.job_id not in {x.job.job_id for x in found}:
            try:
                job = self._client.get_job(self._cluster_id, record.job_id)
            except NotFoundError:
                log.debug("Job %s is not shown by Slurm any more.", record.job_id)
                return found
            if record.name in ("", job.name):
                # the list may be older than the job, and does not show a name that is not ours
                found.append(Found(job, tag))
        return found

    def _is_awaited(self, found: list[Found]) -> bool:
        record = self._record
        if record is None or record.job_id is not None or not record.name:
            return False
        return all(str(each.tag) != record.tag for each in found)
