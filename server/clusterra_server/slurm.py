"""The backend that passes on to a slurmrestd, as one of its users."""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import anyio.to_thread

from clusterra_server.backend import Answer, OutputError, Query, bad_job_id, job_metrics
from clusterra_server.slurmrestd import SlurmrestdUser, words_of

EFS = PurePosixPath("/mnt/efs")
"""The folder that Clusterra's jobs share."""
PLACES = (
    "current_working_directory",
    "standard_output",
    "standard_error",
    "standard_input",
)
OTHER_PEOPLE = ("user_id", "group_id")
"""Who a job belongs to is the token's business."""
JOB_ID = re.compile(r"[0-9]{1,10}(?:[_+][0-9]{1,10})?")
NAMES = ("job_{}.out", "slurm-{}.out")


def own_submit(body: Mapping[str, Any], outputs: Path, login: Mapping[str, str]) -> dict[str, Any]:
    """The submit as slurmrestd gets it.

    Clusterra's shared folder is ``outputs``; a job's output goes there unless it says otherwise;
    whose job it is, is not the client's to say.

    :param body: ``{"script": str, "job": {…}}``, or ``jobs`` for a heterogeneous one.
    :param outputs: the folder that the jobs share, as they see it.
    :param login: variables that a user finds after signing in, for jobs that do not set them.
    """
    found = dict(body)
    if isinstance(body.get("job"), Mapping):
        found["job"] = _own_job(body["job"], outputs, login)
    if isinstance(body.get("jobs"), list):
        found["jobs"] = [
            _own_job(each, outputs, login) if isinstance(each, Mapping) else each
            for each in body["jobs"]
        ]
    return found


def _own_job(job: Mapping[str, Any], outputs: Path, login: Mapping[str, str]) -> dict[str, Any]:
    own = {name: value for name, value in job.items() if name not in OTHER_PEOPLE}
    for name in PLACES:
        if isinstance(own.get(name), str):
            own[name] = _place(own[name], outputs)
    if not own.get("standard_output"):
        own["standard_output"] = f"{outputs}/job_%j.out"
    if isinstance(own.get("environment"), list) and own["environment"]:
        own["environment"] = _environment(own["environment"], outputs, login)
    return own


def _environment(given: list[Any], outputs: Path, login: Mapping[str, str]) -> list[Any]:
    names = {str(each).partition("=")[0] for each in given}
    places = [
        f"{name}={_place(value, outputs)}" if name == "SLURM_SUBMIT_DIR" else each
        for each in given
        for name, _, value in [str(each).partition("=")]
    ]
    return places + [f"{name}={value}" for name, value in login.items() if name not in names]


def _place(path: str, outputs: Path) -> str:
    place = PurePosixPath(path)
    return str(outputs / place.relative_to(EFS)) if place.is_relative_to(EFS) else path


class Slurm:
    """A real Slurm, as one of its users.

    :param outputs: the folder that the jobs share, here as there.
    :param own_only: whether a user is given the outputs of their own jobs only.
    """

    def __init__(self, caller: SlurmrestdUser, outputs: Path, *, own_only: bool) -> None:
        self._caller = caller
        self._outputs = outputs
        self._own_only = own_only
        self._own: set[str] = set()
        """Jobs that were seen to be this user's."""

    @property
    def user(self) -> str:
        """The jobs' ``user_name``; empty if it is not known."""
        return self._caller.token.user

    async def submit_job(self, body: Mapping[str, Any]) -> Answer:
        """Take a raw submit, ``{"script": str, "job": {…}}``."""
        login = _login(self._caller.token.given_user)
        own = own_submit(body, self._outputs, login)
        return await self._caller.ask("POST", "/slurm/{version}/job/submit", body=own)

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
        return await self._caller.ask("DELETE", f"/slurm/{{version}}/job/{job_id}")

    async def list_accounting(self, query: Query) -> Answer:
        """Jobs that slurmdbd remembers; 404 where there is no slurmdbd.

        :source: ``GET /slurmdb/v0.0.44/jobs/``; without ``start_time``, one by name looks back no
            further than to midnight.
        """
        names = {name for name, _ in query}
        if "job_name" in names and "start_time" not in names:
            # slurmdbd takes 0 for none
            query = [*query, ("start_time", "1")]
        return await self._get("/slurmdb/{version}/jobs/", query)

    async def list_nodes(self) -> Answer:
        """The cluster's machines."""
        return await self._get("/slurm/{version}/nodes/")

    async def get_stats(self) -> Answer:
        """slurmctld's diagnostics."""
        return await self._get("/slurm/{version}/diag/")

    async def read_metrics(self) -> Answer:
        """Counts of jobs, as OpenMetrics text."""
        answer = await (await self.list_states([])).whole()
        if answer.status != 200:
            return answer
        states = [each.get("state") or ["UNKNOWN"] for each in answer.document().get("jobs") or []]
        return Answer(job_metrics(state[0] for state in states))

    async def find_output(self, job_id: str) -> Path:
        """The file with a job's output, which need not be there yet.

        :raises OutputError: it is somebody else's, or the folder cannot be read.
        :raises UnavailableError: whether this user may ask cannot be told now.
        :source: clusterra-hpc's edge-agent, ``logs.go``: the shared folder, and one level below.
        """
        if not JOB_ID.fullmatch(job_id):
            raise OutputError(400, "invalid job id")
        await self._caller.check()
        if self._own_only and not await self._is_own(job_id):
            raise OutputError(404, "log not found")
        return await anyio.to_thread.run_sync(find_output, self._outputs, job_id)

    async def _is_own(self, job_id: str) -> bool:
        if job_id not in self._own:
            number = re.split("[_+]", job_id)[0]
            users = await _users_of(await self.get_job(number))
            users = users or await _users_of(await self.list_accounting([("step", number)]))
            if users == {self._caller.token.user}:
                self._own.add(job_id)
        return job_id in self._own

    async def _get(self, path: str, query: Query = ()) -> Answer:
        return await self._caller.ask("GET", path, query=query, stream=True)


def find_output(outputs: Path, job_id: str) -> Path:
    """The file with a job's output; where it would be, where it is not there.

    :param outputs: the folder that the jobs share.
    :raises OutputError: the folder cannot be read.
    """
    try:
        found = next(filter(_is_there, _places(outputs, job_id)), None)
    except OSError as exc:
        raise OutputError(
            500,
            f"The output cannot be read: {outputs}: {exc.strerror}. clusterra-server must be able "
            "to read the folder that the jobs write to; --output-dir names it.",
        ) from exc
    return found or outputs / NAMES[0].format(job_id)


def _places(outputs: Path, job_id: str) -> Iterator[Path]:
    names = [name.format(job_id) for name in NAMES]
    yield from (outputs / name for name in names)
    with os.scandir(outputs) as entries:
        # not what a symbolic link leads to: it may be anywhere
        folders = [each.name for each in entries if each.is_dir(follow_symlinks=False)]
    yield from (outputs / folder / name for folder in folders for name in names)


def _is_there(path: Path) -> bool:
    try:
        path.lstat()
    except OSError:
        return False
    return True


async def _users_of(answer: Answer) -> set[Any]:
    """Whose the jobs of an answer are.

    :raises OutputError: it comes of an outage, and tells nothing of the jobs.
    """
    if answer.status > 500:
        raise OutputError(answer.status, words_of(answer))
    jobs = (await answer.whole()).document().get("jobs") or []
    return {each.get("user_name") or each.get("user") for each in jobs}


def _login(user: str) -> dict[str, str]:
    """What a user finds after signing in, as far as this machine knows the user."""
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        return {}
    return {"HOME": entry.pw_dir, "USER": user, "LOGNAME": user}
