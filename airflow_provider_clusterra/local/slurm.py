"""The backend that passes on to a slurmrestd, as one of its users."""

from __future__ import annotations

import pwd
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import anyio.to_thread

from airflow_provider_clusterra.local.backend import Answer, OutputError
from airflow_provider_clusterra.local.metrics import job_metrics
from airflow_provider_clusterra.local.records import bad_job_id
from airflow_provider_clusterra.local.slurmrestd import Slurmrestd
from airflow_provider_clusterra.local.submits import own_submit
from airflow_provider_clusterra.local.tokens import SlurmToken

JOB_ID = re.compile(r"[0-9]{1,10}(?:[_+][0-9]{1,10})?")
NAMES = ("job_{}.out", "slurm-{}.out")


class Slurm:
    """A real Slurm, as one of its users.

    :param outputs: the folder that the jobs share, here as there.
    :param own_only: whether a user is given the outputs of their own jobs only.
    """

    def __init__(
        self, slurmrestd: Slurmrestd, token: SlurmToken, outputs: Path, *, own_only: bool
    ) -> None:
        self._slurmrestd = slurmrestd
        self._token = token
        self._outputs = outputs
        self._own_only = own_only
        self._own: set[str] = set()
        """Jobs that were seen to be this user's."""

    async def submit_job(self, body: Mapping[str, Any]) -> Answer:
        """Take a raw submit, ``{"script": str, "job": {…}}``."""
        login = _login(self._token.given_user)
        own = own_submit(body, self._outputs, login)
        return await self._slurmrestd.ask(
            self._token, "POST", "/slurm/{version}/job/submit", body=own
        )

    async def list_jobs(self) -> Answer:
        """All jobs that slurmctld remembers."""
        return await self._get("/slurm/{version}/jobs/")

    async def list_states(self, job_ids: Sequence[str]) -> Answer:
        """Ids and states of these jobs, or of all."""
        if not all(JOB_ID.fullmatch(each) for each in job_ids):
            return bad_job_id()
        return await self._get("/slurm/{version}/jobs/state/", [("job_id", i) for i in job_ids])

    async def get_job(self, job_id: str) -> Answer:
        """One job, or all tasks of an array."""
        if not JOB_ID.fullmatch(job_id):
            return bad_job_id()
        return await self._get(f"/slurm/{{version}}/job/{job_id}")

    async def cancel_job(self, job_id: str) -> Answer:
        """Cancel: 200 whatever happens; ``status[].error`` tells."""
        if not JOB_ID.fullmatch(job_id):
            return bad_job_id()
        return await self._slurmrestd.ask(self._token, "DELETE", f"/slurm/{{version}}/job/{job_id}")

    async def list_accounting(self, query: Mapping[str, str]) -> Answer:
        """Jobs that slurmdbd remembers; 404 where there is no slurmdbd."""
        asked = [(name, query[name]) for name in ("job_name", "step") if query.get(name)]
        return await self._get("/slurmdb/{version}/jobs/", asked)

    async def list_nodes(self) -> Answer:
        """The cluster's machines."""
        return await self._get("/slurm/{version}/nodes/")

    async def get_stats(self) -> Answer:
        """slurmctld's diagnostics."""
        return await self._get("/slurm/{version}/diag/")

    async def read_metrics(self) -> Answer:
        """Counts of jobs, as OpenMetrics text."""
        answer = await self.list_states([])
        if answer.status != 200:
            return answer
        states = [each.get("state") or ["UNKNOWN"] for each in answer.document().get("jobs") or []]
        return Answer(job_metrics(state[0] for state in states))

    async def find_output(self, job_id: str) -> Path:
        """The file with a job's output, which need not be there yet.

        :raises OutputError: it is somebody else's, or the folder cannot be read.
        :source: clusterra-hpc's edge-agent, ``logs.go``: the shared folder, and one level below.
        """
        if not JOB_ID.fullmatch(job_id):
            raise OutputError(400, "invalid job id")
        if self._own_only and not await self._is_own(job_id):
            raise OutputError(404, "log not found")
        return await anyio.to_thread.run_sync(find_output, self._outputs, job_id)

    async def _is_own(self, job_id: str) -> bool:
        if job_id in self._own:
            return True
        number = re.split("[_+]", job_id)[0]
        user = self._token.user
        for answer in (await self.get_job(number), await self.list_accounting({"step": number})):
            jobs = answer.document().get("jobs") or []
            users = {each.get("user_name") or each.get("user") for each in jobs}
            if users:
                if users == {user}:
                    self._own.add(job_id)
                return users == {user}
        return False

    async def _get(self, path: str, query: Sequence[tuple[str, str]] = ()) -> Answer:
        return await self._slurmrestd.ask(self._token, "GET", path, query=query)


def find_output(outputs: Path, job_id: str) -> Path:
    """The file with a job's output; where it would be, where it is not there.

    :param outputs: the folder that the jobs share.
    :raises OutputError: the folder cannot be read.
    """
    try:
        folders = [outputs, *_folders_in(outputs)]
    except OSError as exc:
        raise OutputError(
            500,
            f"The output cannot be read: {outputs}: {exc.strerror}. clusterra-local must be able "
            "to read the folder that the jobs write to; --output-dir names it.",
        ) from exc
    places = [folder / name.format(job_id) for folder in folders for name in NAMES]
    return next((path for path in places if _is_there(path)), places[0])


def _folders_in(folder: Path) -> Iterator[Path]:
    # not what a symbolic link leads to: it may be anywhere
    return (each for each in folder.iterdir() if stat.S_ISDIR(each.lstat().st_mode))


def _is_there(path: Path) -> bool:
    try:
        path.lstat()
    except OSError:
        return False
    return True


def _login(user: str) -> dict[str, str]:
    """What a user finds after signing in, as far as this machine knows the user."""
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        return {}
    return {"HOME": entry.pw_dir, "USER": user, "LOGNAME": user}
