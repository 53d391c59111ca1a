"""What the HTTP API needs of whatever runs the jobs."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from clusterra_server import __version__
from clusterra_server.job_view import JobView, RawJob, Search

LOG = logging.getLogger("clusterra_server")
Query = Sequence[tuple[str, str]]
"""What stands behind a path's ``?``: names and values."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as slurmrestd v0.0.44 would give it."""

    body: dict[str, Any] | str | bytes | AsyncGenerator[bytes, None]
    """JSON, plain text, or what another server says, byte for byte, perhaps as it comes."""
    status: int = 200
    media_type: str = "application/json"
    """Of bytes."""

    async def whole(self) -> Answer:
        """The answer with all of its body.

        :raises BrokenOffError: it breaks off.
        """
        if not isinstance(self.body, AsyncGenerator):
            return self
        return replace(self, body=b"".join([piece async for piece in self.body]))

    def document(self) -> dict[str, Any]:
        """The JSON object that a whole answer holds; empty if it holds none."""
        if not isinstance(self.body, bytes):
            return self.body if isinstance(self.body, dict) else {}
        try:
            found = json.loads(self.body)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}


@dataclass(frozen=True, slots=True)
class OutputPlace:
    """Where a job's output is, or will be."""

    folder: Path
    names: Sequence[str]
    """Below the folder; the first that is there is it."""
    owner: int | None = None
    """The system's user whose file it must be; None is anybody."""


@dataclass(frozen=True, slots=True)
class JobFolder:
    """Where a job's files are."""

    shared: Path
    """The folder that the jobs share, and below which alone files are given."""
    name: str
    """The job's working directory below it."""
    owner: int | None = None
    """The system's user whose files they must be; None is anybody."""

    def __str__(self) -> str:
        return str(self.shared / self.name)

    @property
    def parts(self) -> tuple[str, ...]:
        """The folders on the way to it."""
        return PurePosixPath(self.name).parts


class ReplyError(Exception):
    """A request that is answered with an HTTP status and words alone."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status


class OutputError(ReplyError):
    """An output that is not given."""


class BrokenOffError(ReplyError):
    """An answer whose rest does not come; the words say whose."""

    def __init__(self, words: str) -> None:
        super().__init__(502, words)


class Backend(Protocol):
    """What runs one user's jobs. A job's id is as it stands in the path: ``"12"`` or ``"12_3"``."""

    @property
    def user(self) -> str:
        """The jobs' ``user_name``; empty if it is not known."""

    @property
    def output_folder(self) -> str:
        """The folder below which a job's output is shown."""

    async def find_output(self, job_id: str) -> OutputPlace:
        """Where a job's output is, which need not be there yet.

        :raises OutputError: this user cannot be given it.
        """

    async def find_folder(self, job_id: str) -> JobFolder:
        """Where the files of one of the user's own jobs are.

        :raises OutputError: this user cannot be given them, or they are not in the shared folder.
        """

    async def submit_job(self, body: Mapping[str, Any]) -> Answer:
        """Take a raw submit, ``{"script": str, "job": {…}}``."""

    async def list_jobs(self) -> Answer:
        """All jobs that are remembered."""

    async def list_states(self, job_ids: Sequence[str]) -> Answer:
        """Ids and states of these jobs, or of all."""

    async def get_job(self, job_id: str) -> Answer:
        """One job, or all tasks of an array."""

    async def cancel_job(self, job_id: str) -> Answer:
        """Cancel a job, a task of an array, or a whole array."""

    async def show_job(self, job_id: str) -> list[JobView]:
        """One of the user's own jobs, or the tasks of an array, also if only accounting knows them.

        :raises ReplyError: that cannot be said now.
        """

    async def show_past(self, job: JobView) -> RawJob | None:
        """What accounting has of one of the user's own jobs, its script included, if it is kept."""

    async def list_own(self, search: Search) -> list[JobView]:
        """The user's own jobs, at least those that are looked for.

        :raises ReplyError: that cannot be said now, or there are too many.
        """

    async def list_accounting(self, query: Query) -> Answer:
        """Jobs that accounting remembers, by ``job_name`` or ``step``: lists with commas.

        :param query: as slurmrestd takes it, e.g. with ``start_time`` and ``end_time`` in seconds
            since 1970: jobs that were there between them.
        """

    async def list_nodes(self) -> Answer:
        """The cluster's machines."""

    async def get_stats(self) -> Answer:
        """The scheduler's diagnostics."""

    async def read_metrics(self) -> Answer:
        """OpenMetrics text."""


def envelope(**fields: Any) -> dict[str, Any]:
    """An answer's frame: meta, errors and warnings around the fields."""
    return {
        **fields,
        "meta": {
            "plugin": {
                "type": "openapi/slurmctld",
                "name": "Slurm OpenAPI slurmctld",
                "data_parser": "data_parser/v0.0.44",
                "accounting_storage": "",
            },
            "client": {"source": "clusterra-server", "user": "", "group": ""},
            "command": [],
            "slurm": {
                "version": {"major": "25", "micro": "7", "minor": "11"},
                "release": f"clusterra-server {__version__}",
                "cluster": "local",
            },
        },
        "errors": fields.get("errors", []),
        "warnings": fields.get("warnings", []),
    }


def problem(number: int, error: str, description: str, source: str) -> dict[str, Any]:
    """An error object of slurmrestd."""
    return {
        "description": description,
        "error_number": number,
        "error": error,
        "source": source,
    }


def bad_job_id() -> Answer:
    """The answer to an id that is none."""
    words = "Rejecting request. Failure parsing parameters"
    error = problem(9000, "Query empty or not RFC7320 compliant", words, "op_handler_job")
    return Answer(envelope(errors=[error]), 422)


def job_metrics(states: Iterable[str]) -> str:
    """How many jobs there are in which state.

    :param states: each job's.
    """
    counts = Counter(states)
    lines = [f'slurm_jobs{{state="{state}"}} {counts[state]}' for state in sorted(counts)]
    return "\n".join(["# TYPE slurm_jobs gauge", *lines, "# EOF", ""])


class TokenError(Exception):
    """There is no token, or no users; the words say why."""
