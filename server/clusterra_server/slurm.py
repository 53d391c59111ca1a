"""The backend that passes on to a slurmrestd, as one of its users."""

from __future__ import annotations

import os
import pwd
import re
import stat
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import anyio.to_thread
import msgspec

from clusterra_server.backend import (
    LOG,
    Answer,
    JobFolder,
    OutputError,
    OutputPlace,
    Query,
    TokenError,
    bad_job_id,
    job_metrics,
)
from clusterra_server.files import folder_of
from clusterra_server.job_view import (
    JobView,
    RawJob,
    RawJobs,
    Search,
    merge,
    read_number,
    view_of,
)
from clusterra_server.slurmrestd import SlurmrestdUser, words_of

T = TypeVar("T")

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
LONGEST_LIST = 128 * 2**20
"""Bytes of an answer with jobs that is read for a page."""
REMEMBERED = 10_000
"""Places of outputs, at most."""


def own_submit(
    body: Mapping[str, Any], outputs: Path, login: Mapping[str, str], *, own: Path | None = None
) -> dict[str, Any]:
    """The submit as slurmrestd gets it.

    Clusterra's shared folder is ``outputs``; a job's output goes there unless it says otherwise;
    whose job it is, is not the client's to say.

    :param body: ``{"script": str, "job": {…}}``, or ``jobs`` for a heterogeneous one.
    :param outputs: the folder that the jobs share, as they see it.
    :param login: variables that a user finds after signing in, for jobs that do not set them.
    :param own: the user's own folder, if outputs go there.
    """
    own = own or outputs
    found = dict(body)
    if isinstance(body.get("job"), Mapping):
        found["job"] = _own_job(body["job"], outputs, login, own)
    if isinstance(body.get("jobs"), list):
        found["jobs"] = [
            _own_job(each, outputs, login, own) if isinstance(each, Mapping) else each
            for each in body["jobs"]
        ]
    return found


def _own_job(
    job: Mapping[str, Any], outputs: Path, login: Mapping[str, str], folder: Path
) -> dict[str, Any]:
    own = {name: value for name, value in job.items() if name not in OTHER_PEOPLE}
    for name in PLACES:
        if isinstance(own.get(name), str):
            own[name] = _place(own[name], outputs)
    if not own.get("standard_output"):
        own["standard_output"] = f"{folder}/job_%j.out"
    if isinstance(own.get("environment"), list) and own["environment"]:
        own["environment"] = _environment(own["environment"], outputs, login)
    return own


def _environment(given: list[Any], outputs: Path, login: Mapping[str, str]) -> list[Any]:
    names = {str(each).partition("=")[0] for each in given}
    missing = [f"{name}={value}" for name, value in login.items() if name not in names]
    return [_variable(each, outputs) for each in given] + missing


def _variable(given: Any, outputs: Path) -> Any:
    name, _, value = str(given).partition("=")
    return f"{name}={_place(value, outputs)}" if name == "SLURM_SUBMIT_DIR" else given


def _place(path: str, outputs: Path) -> str:
    place = PurePosixPath(path)
    return str(outputs / place.relative_to(EFS)) if place.is_relative_to(EFS) else path


class Slurm:
    """A real Slurm, as one of its users.

    :param outputs: the folder that the jobs share, here as there.
    :param own_folder: whether a user's output goes to a folder of the user's own in it.
    """

    def __init__(self, caller: SlurmrestdUser, outputs: Path, *, own_folder: bool) -> None:
        self._caller = caller
        self._outputs = outputs
        self._own_folder = own_folder
        self._places: dict[str, OutputPlace] = {}
        """Of jobs whose records say where it is."""

    @property
    def user(self) -> str:
        """The jobs' ``user_name``; empty if it is not known."""
        return self._caller.token.user

    @property
    def output_folder(self) -> str:
        """The folder that the jobs share."""
        return str(self._outputs)

    async def submit_job(self, body: Mapping[str, Any]) -> Answer:
        """Take a raw submit, ``{"script": str, "job": {…}}``."""
        user = self._caller.token.given_user
        folder = self._outputs / user if self._own_folder else None
        own = own_submit(body, self._outputs, _login(user), own=folder)
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
        """Cancel: 200 whatever happens; ``status[].error`` says whether it was cancelled."""
        if not JOB_ID.fullmatch(job_id):
            return bad_job_id()
        return await self._caller.ask("DELETE", f"/slurm/{{version}}/job/{job_id}")

    async def list_accounting(self, query: Query) -> Answer:
        """Jobs that slurmdbd remembers; 404 if there is no slurmdbd.

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

    async def find_output(self, job_id: str) -> OutputPlace:
        """Where a job's output is, which need not be there yet: a file of the user's own.

        :raises OutputError: the job is somebody else's, or the folder cannot be read.
        :raises UnavailableError: slurmrestd cannot say now whether this user may ask.
        :source: clusterra-hpc's edge-agent, ``logs.go``: the shared folder, and one level below.
        """
        if not JOB_ID.fullmatch(job_id):
            raise OutputError(400, "invalid job id")
        await self._caller.check()
        if job_id in self._places:
            return self._places[job_id]
        usual = await anyio.to_thread.run_sync(usual_names, self._outputs, job_id)
        closed = not self._own_folder and not self._outputs.stat().st_mode & 0o022
        if closed and any((self._outputs / name).is_file() for name in usual):
            # nobody else can have put it there
            return OutputPlace(self._outputs, usual)
        return await self._find_place(job_id, usual, closed=closed)

    async def _find_place(self, job_id: str, usual: list[str], *, closed: bool) -> OutputPlace:
        """Where it is as the job's record says, or where it usually is.

        :param closed: whether only the jobs' user can have written to the folder.
        """
        user = self._caller.token.user
        jobs = await self._own_facts(job_id, user)
        owner = await self._owner(jobs)
        if owner is None and not closed:
            words = f"log not found: which system's user {user!r} is, is not known here"
            raise OutputError(404, words)
        exact = [job for job in jobs if job.is_called(job_id)]
        names = names_below(self._outputs, exact[0].output) if exact else []
        if self._own_folder:
            usual = [f"{user}/{name.format(job_id)}" for name in NAMES] + usual
        place = OutputPlace(self._outputs, list(dict.fromkeys(names + usual)), owner)
        if names:
            if len(self._places) >= REMEMBERED:
                self._places.clear()
            self._places[job_id] = place
        return place

    async def find_folder(self, job_id: str) -> JobFolder:
        """Where a job's files are.

        :raises OutputError: the job is somebody else's or forgotten, or runs elsewhere.
        :raises UnavailableError: slurmrestd cannot say now whether this user may ask.
        """
        if not JOB_ID.fullmatch(job_id):
            raise OutputError(400, "invalid job id")
        await self._caller.check()
        user = self._caller.token.user
        jobs = await self._own_facts(job_id, user) if user else []
        owner = await self._owner(jobs)
        if not jobs or owner is None:
            raise OutputError(404, f"whose job {job_id} is, and where its files are, is not known")
        exact = [job for job in jobs if job.is_called(job_id)] or jobs
        return folder_of(self._outputs, exact[0].folder, owner)

    async def _owner(self, jobs: Sequence[JobFacts]) -> int | None:
        """The system's user whose jobs they are, as far as that is known."""
        for job in jobs:
            if (uid := read_number(job.user_id)) >= 0:
                return uid
        user = self._caller.token.user
        return await anyio.to_thread.run_sync(uid_of, user) if user else None

    async def _own_facts(self, job_id: str, user: str) -> list[JobFacts]:
        """What is known of a job that is the user's own, or one user's if the token names none."""
        number = re.split("[_+]", job_id)[0]
        jobs = (await _decode(await self.get_job(number), JobsFacts)).jobs
        if not jobs:
            answer = await self.list_accounting([("step", number)])
            jobs = (await _decode(answer, JobsFacts)).jobs
        owners = {job.owner for job in jobs}
        is_anothers = bool(owners - {user}) if user else len(owners) > 1
        if is_anothers or (not jobs and self._own_folder):
            raise OutputError(404, "log not found")
        return jobs

    async def show_job(self, job_id: str) -> list[JobView]:
        """One of the user's own jobs, or the tasks of an array, also if only accounting knows them.

        :raises ReplyError: that cannot be said now.
        """
        if not JOB_ID.fullmatch(job_id):
            return []
        number = re.split("[_+]", job_id)[0]
        live = await self._own(await self.get_job(number))
        if live and not live[0].array_id:
            return live
        # the tasks of an array are forgotten one by one
        asked = ("step", str(live[0].array_id) if live else number)
        return merge(live, await self._past([asked, ("skip_steps", "true")]))

    async def show_past(self, job: JobView) -> RawJob | None:
        """What accounting has of one of the user's own jobs, and its script, if it is kept there.

        :source: ``AccountingStoreFlags=job_script``.
        """
        step = job.shown_id if job.array_id else str(job.job_id)
        answer = await self.list_accounting([("step", step), ("show_batch_script", "true")])
        found = (await _decode(answer, RawJobs)).jobs if answer.status == 200 else []
        user = self._caller.token.user
        own = [each for each in found if user in ("", view_of(each).user)]
        # of the runs of a requeued job the last
        return own[-1] if own else None

    async def list_own(self, search: Search) -> list[JobView]:
        """The user's own jobs, from slurmctld, and from accounting if there is one.

        :raises ReplyError: that cannot be said now, or there are too many.
        """
        live = await self._own(await self.list_jobs())
        query = [("start_time", str(int(max(search.since, 1)))), ("skip_steps", "true")]
        user = self._caller.token.user
        return merge(live, await self._past([*query, *([("users", user)] if user else [])]))

    async def _past(self, query: Query) -> list[JobView]:
        answer = await self.list_accounting(query)
        # there need not be a slurmdbd
        return await self._own(answer) if answer.status == 200 else []

    async def _own(self, answer: Answer) -> list[JobView]:
        """The user's own jobs of an answer; made in a thread, for there may be many."""
        found, user = await _decode(answer, RawJobs), self._caller.token.user

        def own() -> list[JobView]:
            return [each for each in map(view_of, found.jobs) if user in ("", each.user)]

        return await anyio.to_thread.run_sync(own)

    async def _get(self, path: str, query: Query = ()) -> Answer:
        return await self._caller.ask("GET", path, query=query, stream=True)


WIDEST = 10
"""Digits that a number in a file's name is filled up to at most, as Slurm does it."""


class JobFacts(msgspec.Struct):
    """What a record of slurmctld's or slurmdbd's says of whose a job is, and where its output goes."""

    job_id: int = 0
    user_name: str = ""
    user: str = ""
    user_id: Any = None
    array_job_id: Any = None
    array_task_id: Any = None
    het_job_id: Any = None
    het_job_offset: Any = None
    standard_output: str | None = ""
    stdout_expanded: str | None = ""
    current_working_directory: str | None = ""
    working_directory: str | None = ""
    """The same, in accounting."""

    @property
    def owner(self) -> str:
        """The Slurm user's name."""
        return self.user_name or self.user

    @property
    def folder(self) -> str:
        """The job's working directory."""
        return self.current_working_directory or self.working_directory or "/"

    @property
    def output(self) -> str:
        """The file's path; empty if the record has none, or one that is not known in full."""
        path = self.stdout_expanded or self.standard_output or ""
        array, index = read_number(self.array_job_id), read_number(self.array_task_id)
        numbers = {"j": self.job_id, "A": array if array > 0 else self.job_id, "a": index}
        # an older slurmrestd has not expanded it
        path = re.sub(
            "%0*([0-9]*)([jAa])",
            lambda m: str(numbers[m[2]]).zfill(min(int(m[1][:3] or 0), WIDEST)),
            path,
        )
        if not path or "%" in path:
            return ""
        return os.path.join(self.folder, path)  # noqa: PTH118

    def is_called(self, job_id: str) -> bool:
        """Whether it goes by an id: its own, an array's with an index, or a het job's with an offset."""
        number, mark, index = re.fullmatch(r"([0-9]+)(?:([_+])([0-9]+))?", job_id).groups()  # type: ignore[union-attr]
        if not mark:
            return self.job_id == int(number)
        pair = {"_": (self.array_job_id, self.array_task_id)}
        first, second = pair.get(mark, (self.het_job_id, self.het_job_offset))
        return (read_number(first), read_number(second)) == (int(number), int(index))


class JobsFacts(msgspec.Struct):
    """A list of them."""

    jobs: list[JobFacts] = []


async def _decode(answer: Answer, kind: type[T]) -> T:
    """What an answer says of its jobs; nothing if it is not one with jobs.

    :raises OutputError: it comes of an outage and says nothing of the jobs, or is too long.
    """
    if answer.status > 500:
        raise OutputError(answer.status, words_of(answer))
    body = answer.body
    if isinstance(body, AsyncGenerator):
        pieces = bytearray()
        async with aclosing(body):
            async for piece in body:
                pieces += piece
                if len(pieces) > LONGEST_LIST:
                    raise OutputError(502, "Slurm's list of jobs is too long to be shown here")
        body = bytes(pieces)
    try:
        # in a thread: it may be a list of all jobs
        return await anyio.to_thread.run_sync(partial(msgspec.json.decode, body, type=kind))
    except (msgspec.DecodeError, TypeError):
        return kind()


def names_below(outputs: Path, path: str) -> list[str]:
    """A path as a name below a folder; none if it is not there."""
    place = PurePosixPath(path)
    for folder in {outputs, Path(os.path.realpath(outputs))}:
        if place.is_relative_to(folder) and ".." not in place.parts:
            return [str(place.relative_to(folder))]
    return []


def usual_names(outputs: Path, job_id: str) -> list[str]:
    """Where the vendor looks for a job's output: in the shared folder, and one level below.

    :raises OutputError: the folder cannot be read.
    """
    names = [name.format(job_id) for name in NAMES]
    if any((outputs / name).is_file() for name in names):
        return names
    try:
        with os.scandir(outputs) as entries:
            # not what a symbolic link leads to: it may be anywhere
            folders = [each.name for each in entries if each.is_dir(follow_symlinks=False)]
    except OSError as exc:
        raise OutputError(
            500,
            f"The output cannot be read: {outputs}: {exc.strerror}. clusterra-server must be able "
            "to read the folder that the jobs write to; --output-dir names it.",
        ) from exc
    return names + [f"{folder}/{name}" for folder in folders for name in names]


def uid_of(user: str) -> int | None:
    """The system's user of a name, as far as this machine knows."""
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        return None


def prepare_folders(outputs: Path, users: Sequence[str]) -> None:
    """See that nobody can come between the users of a folder and their outputs.

    :raises TokenError: somebody can; the words say what to do.
    """
    if outputs.stat().st_mode & 0o1022 in (0o020, 0o002, 0o022):
        raise TokenError(
            f"{outputs}: its users could put their files in the place of others': chmod +t {outputs}"
        )
    for user in users:
        _prepare_folder(outputs / user, user, uid_of(user))


def _prepare_folder(folder: Path, user: str, uid: int | None) -> None:
    cure = f"install --directory --owner={user} --mode=2750 --group=$(id -gn) {folder}"
    try:
        if uid is not None and os.geteuid() == 0:
            folder.mkdir(mode=0o700)
            os.chown(folder, uid, -1)
        else:
            folder.mkdir()
            folder.chmod(0o1777)
            LOG.warning("%s is open to everybody, for lack of rights; better: %s", folder, cure)
    except FileExistsError:
        facts = folder.lstat()
        if not stat.S_ISDIR(facts.st_mode) or facts.st_uid not in (
            uid or facts.st_uid,
            0,
            os.geteuid(),
        ):
            raise TokenError(f"{folder} is not {user}'s folder; make it: {cure}") from None
    except OSError as exc:
        LOG.warning("%s: %s; the outputs of %s go there: %s", folder, exc.strerror, user, cure)


def _login(user: str) -> dict[str, str]:
    """What a user finds after signing in, as far as this machine knows the user."""
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        return {}
    return {"HOME": entry.pw_dir, "USER": user, "LOGNAME": user}
