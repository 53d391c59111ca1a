"""Looking for the job of a submit whose answer did not come."""

from __future__ import annotations

import logging
import time

from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_clusterra.api.client import Client
from airflow_provider_clusterra.api.errors import HICCUPS
from airflow_provider_clusterra.api.retry import Retry
from airflow_provider_clusterra.operators.kill import KillSwitch
from airflow_provider_clusterra.submit.finding import find_candidates, find_named

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

    def look(self) -> int | None:
        """The job's id; None where it is not shown, or where nothing tells now.

        :raises AirflowFailException: it has no name of ours, and may be one of several.
        """
        try:
            jobs = self._client.list_jobs(self._cluster_id)
            user = "" if self._name else self._client.get_user().email
        except HICCUPS as error:
            log.debug("The job cannot be looked for now: %s", error)
            return None
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
