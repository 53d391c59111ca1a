"""Each endpoint as a value: what is sent, and how its answer is read, whatever its shape."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from airflow_provider_clusterra.api import usage
from airflow_provider_clusterra.api.answers import (
    ACCESS_DENIED,
    INVALID_JOB_ID,
    LONGEST_DETAIL,
    NOT_JSON,
    Answer,
    Problem,
    checked,
    decode,
    is_page,
    kind_of_number,
    read_problems,
    refusal,
)
from airflow_provider_clusterra.api.errors import (
    AuthenticationError,
    NotFoundError,
    ProtocolError,
    RequestError,
    ServerError,
)
from airflow_provider_clusterra.api.jobs import (
    Job,
    JobRecord,
    JobState,
    Plain,
    first_text,
    one_job,
    read_job_id,
    read_job_state,
    read_number,
    read_object,
    read_objects,
    read_record,
    read_state,
)
from airflow_provider_clusterra.api.sse import Event
from airflow_provider_clusterra.api.uploads import DownloadGrant, UploadGrant
from airflow_provider_clusterra.api.usage import Run

if TYPE_CHECKING:
    from airflow_provider_clusterra.api.templates import Template

log = logging.getLogger(__name__)


class User(msgspec.Struct, frozen=True):
    """Who is signed in."""

    email: str
    name: str = ""
    slurm_user: str = ""
    """As Slurm knows the user, if the API says so."""


class Cluster(msgspec.Struct, frozen=True):
    """One cluster that the user may use."""

    cluster_id: str
    name: str = ""
    state: str = ""
    connection_state: str = ""
    output_folder: str = ""
    """The folder below which outputs are shown, if the API says so (clusterra-server does)."""


class Node(msgspec.Struct, frozen=True):
    """One machine of a cluster."""

    name: str
    state: tuple[str, ...] = ()
    """A base state and flags, e.g. ``("IDLE", "DRAIN")``."""
    cpus: int = 0
    allocated_cpus: int = 0
    memory_mb: int = 0
    partitions: tuple[str, ...] = ()
    gres: str = ""
    """Its other resources, e.g. ``"gpu:a10g:1"``."""
    reason: str = ""
    """Why it is down or drained."""


class ApiRoute(msgspec.Struct, frozen=True):
    """One route that the API says it has."""

    method: str
    path: str
    """With places such as ``{cluster_id}`` and ``{job_id}``."""
    name: str = ""


def read_user(answer: Answer) -> User:
    """Who is signed in, from the answer or its ``user``."""
    row = answer.object("user")
    email = first_text(row, "email", "user_email", "id") or "unknown user"
    return User(email, first_text(row, "name"), first_text(row, "user_name", "slurm_user"))


def read_clusters(answer: Answer) -> list[Cluster]:
    """Clusters; rows without an id are skipped."""
    return [
        Cluster(
            cluster_id,
            name=first_text(row, "name"),
            state=first_text(row, "state"),
            connection_state=first_text(row, "connection_state"),
            output_folder=first_text(row, "output_folder"),
        )
        for row in answer.rows("clusters")
        if (cluster_id := first_text(row, "id", "cluster_id"))
    ]


def read_nodes(answer: Answer) -> list[Node]:
    """Nodes; rows without a name are skipped."""
    return [
        Node(
            name=str(row["name"]),
            state=tuple(word.upper() for word in _words(row.get("state"))),
            cpus=read_number(row.get("cpus")) or 0,
            allocated_cpus=read_number(row.get("alloc_cpus")) or 0,
            memory_mb=read_number(row.get("real_memory")) or 0,
            partitions=_words(row.get("partitions")),
            gres=first_text(row, "gres"),
            reason=first_text(row, "reason"),
        )
        for row in answer.rows("nodes")
        if row.get("name")
    ]


def read_stats(answer: Answer) -> dict[str, Any]:
    """The scheduler's diagnostics, as slurmrestd has them."""
    return answer.object("statistics")


def read_text(answer: Answer) -> str:
    """Plain text."""
    return answer.body.decode("utf-8", "replace")


def read_routes(answer: Answer) -> list[ApiRoute]:
    """The API's own routes; rows without a path are skipped."""
    return [
        ApiRoute(
            (first_text(row, "method") or "GET").upper(), str(row["path"]), first_text(row, "name")
        )
        for row in answer.rows("routes")
        if row.get("path")
    ]


def find_download(routes: Sequence[ApiRoute]) -> str | None:
    """The route that gives addresses to read files from, or None."""
    for route in routes:
        place = route.path.partition("/storage/")[2]
        # a path of the API itself: the session goes to no other origin
        ours = route.path.startswith("/v1/") and "{cluster_id}" in route.path
        if route.method == "POST" and "download" in place and ours:
            return route.path
    return None


def offers_files(routes: Sequence[ApiRoute]) -> bool:
    """Whether the API gives the files of a job's folder: clusterra-server's own routes."""
    job = "/v1/clusters/{cluster_id}/jobs/{job_id}/files"
    wanted = {("GET", job), ("POST", f"{job}/download-url")}
    return wanted <= {(route.method, route.path) for route in routes}


def _words(value: Any) -> tuple[str, ...]:
    words = value.replace("+", ",").split(",") if isinstance(value, str) else value
    return tuple(str(word) for word in words) if isinstance(words, list) else ()


NOTHING_TO_CANCEL = frozenset({INVALID_JOB_ID, 2020, 2021})
"""Slurm's errors for a job that is unknown, no longer pending, or completing or completed."""


class Submitted(msgspec.Struct, frozen=True):
    """A job that exists, whatever else its answer said."""

    job_id: int
    run_id: str | None = None
    """Clusterra's own id of the run, if it gives one."""
    warnings: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    """Errors beside the id: the job runs nevertheless, but not as requested."""


class LightState(msgspec.Struct, frozen=True, gc=False):
    """A job's id and state, and nothing else."""

    job_id: str
    """``"12"``; for arrays ``"12_[3-9]"`` and ``"14_2"`` (its own id), for het jobs ``"12+1"``."""
    state: JobState


class Output(msgspec.Struct, frozen=True):
    """The end of a job's output."""

    data: bytes
    skipped: int = 0
    """Bytes of the output before :attr:`data`."""


def read_submitted(answer: Answer) -> Submitted:
    """The submitted job: there is one if the answer holds an id anywhere, whatever else it says."""
    try:
        body = answer.object()
    except ProtocolError:
        body = {}
    job_id = _find_job_id(body)
    if job_id is None:
        raise refusal(answer) or answer.unreadable("it holds no job id")
    warnings = body.get("warnings")
    words = tuple(map(_warning, warnings)) if isinstance(warnings, list) else ()
    return Submitted(
        job_id, first_text(body, "run_id") or None, words, tuple(read_problems(answer))
    )


def _find_job_id(body: Mapping[str, Any]) -> int | None:
    """The first id, of the answer itself or of the job, result or step in it."""
    parts = read_objects([body.get("job"), body.get("result")])
    parts += read_objects(body.get("steps")) + read_objects(body.get("jobs"))
    found = [body.get("job_id"), body.get("slurm_job_id")]
    found += [part.get(key) for part in parts for key in ("slurm_job_id", "job_id", "id")]
    return next(filter(None, map(_job_number, found)), None)


def _job_number(value: Any) -> int | None:
    try:
        return read_job_id(value).number
    except ProtocolError:
        return None


def _warning(value: Any) -> str:
    return str(value.get("description") or value) if isinstance(value, dict) else str(value)


class _Jobs(msgspec.Struct, gc=False):
    jobs: list[JobRecord | Plain] | msgspec.UnsetType | None = msgspec.UNSET
    job: JobRecord | None = None
    errors: Any = None


JOBS = _Jobs | list[JobRecord | Plain]
"""``{"jobs": […]}``, ``{"job": {…}}`` or ``[…]``; entries that are no objects are skipped."""


def read_jobs(answer: Answer, *, whole: bool = True) -> list[Job]:
    """All jobs of an answer, one a record; rows without an id are skipped.

    Unless the ``whole`` list is needed, errors beside the jobs are ignored.
    """
    rows = _rows(answer, whole=whole)
    if rows is None:
        raise refusal(answer) or answer.unreadable("it holds no list of jobs")
    jobs, odd = _read_each(rows)
    if odd is not None:
        log.debug("%s: a row is left out: %s", answer.request, odd)
    return jobs


def _read_each(rows: Sequence[JobRecord]) -> tuple[list[Job], ProtocolError | None]:
    """The jobs, and the error of a row that cannot be read, if there is one."""
    jobs, odd = [], None
    for row in rows:
        try:
            jobs.append(read_record(row))
        except ProtocolError as error:
            odd = error
    return jobs, odd


def read_job(answer: Answer, job_id: int) -> Job:
    """One job of an answer; an array's records together are one.

    If the job is there, errors beside it are ignored.
    """
    rows = _rows(answer, whole=False)
    job = _read_one(rows or [], job_id)
    if job is not None:
        return job
    if rows is None:
        raise refusal(answer) or answer.unreadable("it holds no job")
    raise refusal(answer) or NotFoundError(
        f"{answer.status} {answer.request}: the answer holds no job {job_id}.",
        status=answer.status,
        number=INVALID_JOB_ID,
    )


def _read_one(rows: Sequence[JobRecord], job_id: int) -> Job | None:
    if len(rows) == 1 and rows[0].job_id is None:
        rows[0].job_id = job_id
    jobs, odd = _read_each(rows)
    job = one_job(jobs, job_id)
    if job is None and odd is not None:
        raise odd
    return job


def _rows(answer: Answer, *, whole: bool) -> list[JobRecord] | None:
    """The records of :data:`JOBS`, or one bare record.

    None if there is no list, not even an empty one (a slurmrestd without its slurmctld says
    ``null``), or if the ``whole`` list is needed and the answer has errors.
    """
    if answer.status >= 300:
        return None
    try:
        body = decode(answer.body, JOBS)
    except NOT_JSON as exc:
        raise answer.unreadable(str(exc)) from exc
    if isinstance(body, list):
        body = _Jobs(jobs=body)
    if whole and body.errors:
        return None
    if body.jobs is msgspec.UNSET:
        return _single(answer, body.job)
    return None if body.jobs is None else [row for row in body.jobs if type(row) is JobRecord]


def _single(answer: Answer, job: JobRecord | None) -> list[JobRecord] | None:
    """One record, within the answer or bare; a proxy's own ``{"status": "ok"}`` is none."""
    if job is not None:
        return [job]
    bare: JobRecord = decode(answer.body, JobRecord)
    named = (bare.job_id, bare.job_state, bare.state)
    return [bare] if any(each is not None for each in named) or read_job_state(bare).known else None


STATES_TOGETHER = 500
"""Rows that are read in less than a millisecond."""


class _StateRows(msgspec.Struct, gc=False):
    jobs: list[msgspec.Raw]


class _UsualState(msgspec.Struct, gc=False):
    job_id: str
    state: msgspec.Raw


State = TypeVar("State", _UsualState, LightState)


def read_states(answer: Answer, job_ids: Collection[int] = ()) -> list[LightState]:
    """Ids and states only, of these jobs (an array's tasks too) or of all; rows without an id are skipped."""
    return [row for batch in state_batches(answer, job_ids) for row in batch]


def state_batches(answer: Answer, job_ids: Collection[int] = ()) -> Iterator[list[LightState]]:
    """The same in batches, each short enough for one turn of an event loop."""
    wanted = frozenset(job_ids)
    try:
        rows = decode(answer.body, _StateRows).jobs
    except NOT_JSON:
        yield _of_these(_odd_states(answer.rows("jobs")), wanted)
        return
    known: dict[bytes, JobState] = {}
    rows.reverse()
    while rows:
        text = b"[%b]" % b",".join(rows[: -STATES_TOGETHER - 1 : -1])
        # freed as it is read: to free all at the end takes longer than a turn of an event loop
        del rows[-STATES_TOGETHER:]
        yield _read_batch(text, wanted, known)


def _read_batch(
    text: bytes, wanted: Collection[int], known: dict[bytes, JobState]
) -> list[LightState]:
    """Thousands of rows have few different states: each is read once, and ``known`` from then on."""
    try:
        rows = _of_these(decode(text, list[_UsualState]), wanted)
    except NOT_JSON:
        return _of_these(_odd_states(read_objects(decode(text))), wanted)
    for word in {bytes(row.state) for row in rows} - known.keys():
        known[word] = read_state(decode(word))
    return [LightState(row.job_id, known[bytes(row.state)]) for row in rows]


def _odd_states(rows: list[dict[str, Any]]) -> list[LightState]:
    return [
        LightState(str(row["job_id"]), read_state(row.get("state", row.get("job_state"))))
        for row in rows
        if row.get("job_id")
    ]


def _of_these(rows: list[State], wanted: Collection[int]) -> list[State]:
    return [row for row in rows if _number_of(row.job_id) in wanted] if wanted else rows


def _number_of(job_id: str) -> int | None:
    """7 of ``"7"``, ``"7_1"``, ``"7_[2-9]"`` and ``"7+1"``."""
    number = job_id if job_id.isdecimal() else job_id.partition("_")[0].partition("+")[0]
    return int(number) if number.isdecimal() else None


def read_cancelled(answer: Answer) -> bool:
    """Whether anything was cancelled: the job, or any task of an array."""
    error = refusal(answer)
    if isinstance(error, RequestError) and error.number in NOTHING_TO_CANCEL:
        return False
    if error is not None:
        raise error
    body = read_object(answer.json()) if answer.body.strip() else {}
    found = [(_cancel_number(entry), entry) for entry in read_objects(body.get("status"))]
    _check_cancelled(answer, {number for number, _ in found})
    # of an array, Slurm names the tasks that had ended, and not those that it cancelled
    whole = [number for number, each in found if "_" not in str(each.get("step_id", ""))]
    return not whole or 0 in whole


def _check_cancelled(answer: Answer, numbers: set[int]) -> None:
    if ACCESS_DENIED in numbers:
        words = f"{answer.request}: not cancelled, because the job is another user's."
        raise AuthenticationError(words, status=403, detail=words, number=ACCESS_DENIED)
    if odd := numbers - NOTHING_TO_CANCEL - {0}:
        words = f"{answer.request}: not cancelled, Slurm says error {min(odd)}."
        kind = kind_of_number(min(odd)) or ServerError
        raise kind(words, status=answer.status, detail=words, number=min(odd))


def _cancel_number(entry: dict[str, Any]) -> int:
    """Slurm's number for a job or one task of it; 0 if it is cancelled."""
    error = entry.get("error")
    return read_number(error.get("code") if isinstance(error, dict) else error) or 0


def read_grant(answer: Answer) -> UploadGrant:
    """An address to which one file may be PUT."""
    body = answer.object()
    url, key = body.get("upload_url"), body.get("key")
    if not isinstance(url, str) or not isinstance(key, str):
        raise ProtocolError(f"{answer.request}: the answer holds no upload_url and key.")
    return UploadGrant(url, key, read_number(body.get("expires_in")))


def read_download(answer: Answer) -> DownloadGrant:
    """An address from which one file may be read."""
    body = answer.object()
    url = body.get("download_url") or body.get("url")
    if not isinstance(url, str):
        raise ProtocolError(f"{answer.request}: the answer holds no download_url.")
    return DownloadGrant(url, read_number(body.get("expires_in")))


def read_run(answer: Answer) -> dict[str, str]:
    """The notes in the comment of a job's newest record."""
    rows = answer.rows("jobs")
    comment = rows[-1].get("comment") if rows else ""
    text = str(comment.get("job") if isinstance(comment, dict) else comment or "")
    pairs = [each.partition("=") for each in text.removeprefix("clusterra:").split(";")]
    return {name: value for name, equals, value in pairs if equals}


class JobFile(msgspec.Struct, frozen=True):
    """One file of a job's folder."""

    path: str
    """Below the job's folder, e.g. ``"out/model.pt"``."""
    size: int
    """Bytes."""
    changed: int | None = None
    """When it was written, moved or copied to its place last, in seconds since 1970."""


class JobFiles(msgspec.Struct, frozen=True):
    """The files of a job's folder that match a pattern."""

    folder: str
    """The job's working directory, as the cluster's machines see it."""
    files: tuple[JobFile, ...]
    truncated: bool = False
    """Whether there may be more."""


def read_files(answer: Answer) -> JobFiles:
    """The files of a job's folder; rows whose path is missing or leaves it are skipped."""
    body = answer.object()
    files = tuple(
        JobFile(
            str(row["path"]), read_number(row.get("size")) or 0, read_number(row.get("changed"))
        )
        for row in answer.rows("files")
        if not {"", ".."} & {*str(row.get("path") or "").split("/")}
    )
    return JobFiles(first_text(body, "folder"), files, body.get("truncated") is True)


def output_of(answer: Answer) -> Output:
    """A job's output as it is, or out of the JSON in which a proxy wrapped it."""
    error = refusal(answer) if answer.status >= 300 or answer.is_json else None
    if error is not None:
        raise error
    text = answer.body
    if is_page(answer.headers):
        raise answer.unreadable("it is a web page")
    if answer.is_json and not answer.skipped:
        body = answer.json()
        inner = body.get("output", body.get("content")) if isinstance(body, dict) else body
        text = inner.encode() if isinstance(inner, str) else text
    return Output(text, answer.skipped)


def is_plain_output(status: int, headers: Mapping[str, str]) -> bool:
    """Whether an answer whose body is not read yet is a job's output, byte for byte."""
    return status == 200 and "json" not in headers.get("content-type", "") and not is_page(headers)


def is_stream(status: int, headers: Mapping[str, str]) -> bool:
    """Whether an answer whose body is not read yet is a stream of events."""
    return status == 200 and headers.get("content-type", "").startswith("text/event-stream")


def refuse_stream(answer: Answer) -> None:
    """A successful answer that is no stream of events is an error."""
    raise answer.unreadable("it is no stream of events")


def read_pieces(request: str, events: Sequence[Event]) -> Iterator[bytes]:
    """The output in events that arrived together, as one piece; an ``error`` event is raised."""
    pieces = [event.data for event in takewhile(lambda event: event.kind != "error", events)]
    if pieces:
        yield b"".join(pieces)
    for error in events[len(pieces) :]:
        words = error.data[:LONGEST_DETAIL].decode("utf-8", "replace")
        what = f"{request}: the output cannot be read: {words}"
        raise NotFoundError(what, status=200, detail=words)


T = TypeVar("T")
DOWNLOAD_ROUTE = "/v1/clusters/{cluster_id}/storage/download-url"
"""``clusterra-server``'s; the vendor's is not documented, and is found with :func:`list_routes`."""
URL_ROOM = 6000
"""Bytes of a query that every proxy lets through."""
LARGEST_BODY = 512 * 1024 * 1024
"""Bytes of an answer that is kept whole, after decompression: a list of 60,000 jobs."""
LARGEST_RUNS = 10 * 1024 * 1024
"""The same of accounting's records, whose steps are decoded whole."""
OUTPUT_KEPT = 1024 * 1024
"""Bytes of an output's end that are kept unless the caller says otherwise."""


class Call(msgspec.Struct, Generic[T], frozen=True):
    """One request, and how its answer is read."""

    request: str
    """Method and path, e.g. ``"GET /v1/clusters"``."""
    read: Callable[[Answer], T]
    json: Mapping[str, Any] | None = None
    repeatable: bool = True
    """Whether it is idempotent."""
    keep: int | None = None
    """How many bytes of the answer's end are kept, or None for all of it."""
    largest: int = LARGEST_BODY
    """Bytes of an answer that is kept whole, after decompression."""


def get_user() -> Call[User]:
    """Who is signed in.

    :raises AuthenticationError: the session is not accepted.
    :source: ``GET /v1/users/me``
    """
    return Call("GET /v1/users/me", checked(read_user))


def list_clusters() -> Call[list[Cluster]]:
    """The clusters that the user may use.

    :source: ``GET /v1/clusters``
    """
    return Call("GET /v1/clusters", checked(read_clusters))


def submit_job(cluster_id: str, body: Mapping[str, Any]) -> Call[Submitted]:
    """Submit a job. Never sent twice: a lost answer may be of a job that runs.

    :param cluster_id: the cluster, e.g. ``"clusde74"``.
    :param body: e.g. :meth:`~airflow_provider_clusterra.api.specs.JobSpec.body`.
    :returns: the job's id, also if the answer holds errors or a bad status beside it.
    :raises ApiError: refused; no job exists.
    :source: ``POST /v1/clusters/{cluster_id}/jobs/submit``
    """
    path = f"{_cluster(cluster_id)}/jobs/submit"
    return Call(f"POST {path}", read_submitted, json=body, repeatable=False)


def get_job(cluster_id: str, job_id: int) -> Call[Job]:
    """One job as the cluster sees it now; an array with its ``tasks``.

    :param cluster_id: the cluster, e.g. ``"clusde74"``.
    :param job_id: Slurm's number for the job, > 0.
    :raises NotFoundError: the cluster never saw this job, or has forgotten it.
    :source: ``GET /v1/clusters/{cluster_id}/jobs/{job_id}``
    """
    path = f"{_cluster(cluster_id)}/jobs/{job_id}"
    return Call(f"GET {path}", lambda answer: read_job(answer, job_id))


def list_jobs(cluster_id: str) -> Call[list[Job]]:
    """All jobs that the cluster still knows, one a record: arrays are not put together.

    :param cluster_id: the cluster, e.g. ``"clusde74"``.
    :source: ``GET /v1/clusters/{cluster_id}/jobs``
    """
    return Call(f"GET {_cluster(cluster_id)}/jobs", read_jobs)


def fits_a_url(job_ids: Collection[int]) -> bool:
    """Whether a query can name all these jobs."""
    if len(job_ids) > URL_ROOM // len("job_id=1&"):
        return False
    return sum(len(f"job_id={job_id}&") for job_id in job_ids) <= URL_ROOM


def list_states(cluster_id: str, job_ids: Collection[int] = ()) -> Call[list[LightState]]:
    """Ids and states only, of these jobs or of all. What is not known is left out.

    Jobs that are too many for a URL are taken from the answer about all.

    :param cluster_id: the cluster, e.g. ``"clusde74"``.
    :param job_ids: Slurm's numbers; empty is all jobs.
    :raises NotFoundError: the API does not offer this.
    :source: ``GET /v1/clusters/{cluster_id}/jobs/state``, ``job_id`` repeated.
    """
    named, wanted = (job_ids, ()) if fits_a_url(job_ids) else ((), job_ids)
    query = "&".join(f"job_id={job_id}" for job_id in sorted(named))
    path = f"{_cluster(cluster_id)}/jobs/state" + (f"?{query}" if query else "")
    return Call(f"GET {path}", checked(partial(read_states, job_ids=wanted)))


def list_accounting(
    cluster_id: str,
    *,
    job_name: str | None = None,
    since: float = 0.0,
    job_ids: Sequence[int] = (),
) -> Call[list[Job]]:
    """Jobs that accounting remembers, the forgotten ones too; a requeued one several times.

    :param cluster_id: the cluster, e.g. ``"clusde74"``.
    :param job_name: the exact name.
    :param since: of a name's jobs only those that were there then or later, in seconds since 1970.
    :param job_ids: Slurm's numbers; an array's id means all its tasks.
    :raises NotFoundError: the API does not offer this.
    :source: ``GET /v1/clusters/{cluster_id}/accounting/jobs``; slurmdbd's ``jobs/`` with
        ``job_name``, ``start_time`` and ``step``.
    """
    query: dict[str, object] = {"job_name": job_name, "step": ",".join(map(str, job_ids))}
    if job_name:
        # without it slurmdbd looks back to midnight and no further; it takes 0 for none
        query["start_time"] = max(1, int(since))
    words = urlencode({name: value for name, value in query.items() if value})
    path = f"{_cluster(cluster_id)}/accounting/jobs" + (f"?{words}" if words else "")
    return Call(f"GET {path}", read_jobs)


def list_runs(cluster_id: str, parts: Sequence[str]) -> Call[list[Run]]:
    """What jobs asked for and used, one entry for each run that accounting remembers.

    :param cluster_id: the cluster, e.g. ``"clusde74"``.
    :param parts: ids such as ``"12"``, which for an array means all its tasks, and ``"12_3"``.
    :raises NotFoundError: the API does not offer this.
    :source: as :func:`list_accounting`; slurmdbd's ``jobs[].tres``, ``time`` and ``steps``.
    """
    # a list with commas is refused, as of 26.05
    steps = urlencode([("step", part) for part in parts])
    path = f"{_cluster(cluster_id)}/accounting/jobs?{steps}"
    return Call(f"GET {path}", usage.read_runs, largest=LARGEST_RUNS)


def list_nodes(cluster_id: str) -> Call[list[Node]]:
    """The cluster's machines, those that are about to go included.

    :param cluster_id: the cluster, e.g. ``"clusde74"``.
    :source: ``GET /v1/clusters/{cluster_id}/nodes``
    """
    return Call(f"GET {_cluster(cluster_id)}/nodes", checked(read_nodes))


def get_stats(cluster_id: str) -> Call[dict[str, Any]]:
    """The scheduler's diagnostics, as slurmrestd has them.

    :param cluster_id: the cluster, e.g. ``"clusde74"``.
    :source: ``GET /v1/clusters/{cluster_id}/stats``; slurmrestd's ``diag/``.
    """
    return Call(f"GET {_cluster(cluster_id)}/stats", checked(read_stats))


def read_metrics(cluster_id: str) -> Call[str]:
    """Counts of jobs as OpenMetrics text.

    :param cluster_id: the cluster, e.g. ``"clusde74"``.
    :source: ``GET /v1/clusters/{cluster_id}/metrics/jobs``
    """
    return Call(f"GET {_cluster(cluster_id)}/metrics/jobs", checked(read_text))


def list_templates() -> Call[list[Template]]:
    """The templates that the user may submit.

    :source: ``GET /v1/templates``
    """
    # loaded only if a template is asked for
    from airflow_provider_clusterra.api.templates import read_templates  # noqa: PLC0415

    return Call("GET /v1/templates", checked(read_templates))


def get_template(template_id: str) -> Call[Template]:
    """One template with its parameters.

    :param template_id: e.g. ``"gromacs"``.
    :raises NotFoundError: there is none of this id.
    :source: ``GET /v1/templates/{template_id}``
    """
    from airflow_provider_clusterra.api.templates import read_template  # noqa: PLC0415

    path = f"/v1/templates/{quote(template_id, safe='')}"
    return Call(f"GET {path}", checked(read_template))


def list_routes() -> Call[list[ApiRoute]]:
    """What the API says that it offers.

    :raises NotFoundError: it does not say.
    :source: ``GET /v1/api-routes``
    """
    return Call("GET /v1/api-routes", checked(read_routes))


def cancel_job(cluster_id: str, job_id: int) -> Call[bool]:
    """Ask for a job's end. It is over when a later look says so.

    :param cluster_id: the cluster, e.g. ``"clusde74"``.
    :param job_id: Slurm's number for the job, > 0.
    :returns: False if there was nothing to cancel: it had ended, or is not known (any more).
    :raises AuthenticationError: it is another user's.
    :source: ``DELETE /v1/clusters/{cluster_id}/jobs/{job_id}``; the answer is 200 whatever
        happened, and ``status[].error`` is what did.
    """
    return Call(f"DELETE {_cluster(cluster_id)}/jobs/{job_id}", read_cancelled)


def presign_upload(cluster_id: str, filename: str, location: str) -> Call[UploadGrant]:
    """An address to which one file may be PUT.

    :param cluster_id: the cluster, e.g. ``"clusde74"``.
    :param filename: the name there, e.g. ``"input.pdb"``.
    :param location: ``"data"``, ``"scripts"``, ``"outputs"`` or ``"shared"``.
    :raises AuthenticationError: this user may not write there.
    :source: ``POST /v1/clusters/{cluster_id}/storage/presigned-url``
    """
    path = f"{_cluster(cluster_id)}/storage/presigned-url"
    json = {"filename": filename, "location": location}
    return Call(f"POST {path}", checked(read_grant), json=json)


def presign_download(cluster_id: str, key: str, route: str = DOWNLOAD_ROUTE) -> Call[DownloadGrant]:
    """An address from which one file may be read, by anybody who has it.

    :param cluster_id: the cluster, e.g. ``"clusde74"``.
    :param key: of an upload, e.g. ``"data/me/md.tpr"``.
    :param route: the API's own, with ``{cluster_id}`` in it.
    :raises AuthenticationError: this user may not read it.
    :source: ``POST /v1/clusters/{cluster_id}/storage/download-url``
    """
    path = route.replace("{cluster_id}", quote(cluster_id, safe=""))
    return Call(f"POST {path}", checked(read_download), json={"key": key})


def find_run(cluster_id: str, job_id: int, *, forgotten: bool = False) -> Call[dict[str, str]]:
    """What Clusterra notes of a template's job, e.g. its ``run_id``; empty if nothing.

    :param cluster_id: the cluster, e.g. ``"clusde74"``.
    :param job_id: Slurm's number for the job, > 0.
    :param forgotten: whether accounting is asked, for a job that Slurm has forgotten.
    :raises NotFoundError: there is no such job.
    :source: a job's ``comment``, ``"clusterra:run_id=…;user_email=…"``.
    """
    place = f"accounting/jobs?step={job_id}" if forgotten else f"jobs/{job_id}"
    return Call(f"GET {_cluster(cluster_id)}/{place}", checked(read_run))


def list_files(cluster_id: str, job_id: int, pattern: str = "") -> Call[JobFiles]:
    """The files of a job's folder, as far as they are the user's own: no links.

    :param cluster_id: the cluster, e.g. ``"clusde74"``.
    :param job_id: Slurm's number for the job, > 0.
    :param pattern: a path in the folder, or a glob such as ``"out/**/*.pt"``; ``""`` is all.
    :raises NotFoundError: there is no such job or folder, or the API does not offer this.
    :source: ``GET /v1/clusters/{cluster_id}/jobs/{job_id}/files``, ``clusterra-server``'s.
    """
    words = f"?{urlencode({'pattern': pattern})}" if pattern else ""
    path = f"{_cluster(cluster_id)}/jobs/{job_id}/files{words}"
    return Call(f"GET {path}", checked(read_files))


def presign_file(cluster_id: str, job_id: int, path: str) -> Call[DownloadGrant]:
    """An address from which one file of a job's folder may be read, by anybody who has it.

    :param cluster_id: the cluster, e.g. ``"clusde74"``.
    :param job_id: Slurm's number for the job, > 0.
    :param path: in the job's folder, e.g. ``"out/model.pt"``.
    :raises NotFoundError: there is no such file, or it is a symbolic link or another user's.
    :source: ``POST /v1/clusters/{cluster_id}/jobs/{job_id}/files/download-url``
    """
    url = f"{_cluster(cluster_id)}/jobs/{job_id}/files/download-url"
    return Call(f"POST {url}", checked(read_download), json={"path": path})


def read_output(cluster_id: str, job_id: int, keep: int = OUTPUT_KEPT) -> Call[Output]:
    """A job's output so far, or its end if it is long.

    :param cluster_id: the cluster, e.g. ``"clusde74"``.
    :param job_id: Slurm's number for the job, > 0.
    :param keep: bytes; what comes before the last so many is counted and dropped.
    :raises NotFoundError: there is no output (yet).
    :source: ``GET /v1/clusters/{cluster_id}/jobs/{job_id}/output``, always the whole file.
    """
    path = f"{_cluster(cluster_id)}/jobs/{job_id}/output"
    return Call(f"GET {path}", output_of, keep=keep)


def stream_output(cluster_id: str, job_id: int) -> Call[None]:
    """A job's output as it is written. The answer never ends by itself.

    It begins up to 64 KiB before the file's end, and brings at most 8 KiB a second.

    :param cluster_id: the cluster, e.g. ``"clusde74"``.
    :param job_id: Slurm's number for the job, > 0.
    :raises NotFoundError: there is no output (yet).
    :raises ProtocolError: the answer is no event stream.
    :source: ``GET /v1/clusters/{cluster_id}/jobs/{job_id}/output/stream``
    """
    path = f"{_cluster(cluster_id)}/jobs/{job_id}/output/stream"
    return Call(f"GET {path}", checked(refuse_stream))


def _cluster(cluster_id: str) -> str:
    return f"/v1/clusters/{quote(cluster_id, safe='')}"
