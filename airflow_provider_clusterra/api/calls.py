"""Each endpoint as a value: what is sent, and how its answer is read."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar
from urllib.parse import quote, urlencode

import httpx
import msgspec
from msgspec.structs import replace

from airflow_provider_clusterra.api import readers, templates
from airflow_provider_clusterra.api.access import WHOLE, WHOLE_OUTPUT, Access
from airflow_provider_clusterra.api.answers import LARGEST_BODY, Answer, Body, checked
from airflow_provider_clusterra.api.jobs import Job
from airflow_provider_clusterra.api.readers import (
    ApiRoute,
    Cluster,
    LightState,
    Node,
    Output,
    Submitted,
    User,
)
from airflow_provider_clusterra.api.templates import Template
from airflow_provider_clusterra.api.uploads import DownloadGrant, UploadGrant

T = TypeVar("T")
DOWNLOAD_ROUTE = "/v1/clusters/{cluster_id}/storage/download-url"
"""``clusterra-server``'s; the vendor's is not documented, and is found with :func:`list_routes`."""
LARGEST_WORDS = 64 * 1024
"""Bytes of an answer that may be repeated in an error."""
OUTPUT_KEPT = 1024 * 1024
"""Bytes of an output's end that are kept unless the caller says otherwise."""


class Call(msgspec.Struct, Generic[T], frozen=True):
    """One request, and how its answer is read."""

    method: str
    path: str
    read: Callable[[Answer], T]
    json: Mapping[str, Any] | None = None
    repeatable: bool = True
    """Whether doing it twice is doing it once."""
    keep: int | None = None
    """How many bytes of the answer's end are kept, or None for all of it."""

    largest: int = LARGEST_BODY
    """Bytes of an answer that is kept whole, after decompression."""

    @property
    def request(self) -> str:
        """The request in words."""
        return f"{self.method} {self.path}"

    def longest(self, access: Access) -> float:
        """Seconds that the answer may take in all; an output has no size that is known before."""
        return access.timeout * (WHOLE if self.keep is None else WHOLE_OUTPUT)

    def body(self, access: Access) -> Body:
        """The answer's body, which is about to arrive."""
        return Body(self.keep, self.largest, time.monotonic() + self.longest(access))

    def answer(self, body: Body, response: httpx.Response, access: Access) -> Answer:
        """The answer, once its body has arrived."""
        answer = body.answer(self.request, response.status_code, response.headers)
        # what an error repeats is short; a job's output is as it is
        if len(answer.body) > LARGEST_WORDS or (self.keep is not None and answer.status < 300):
            return answer
        return replace(answer, body=access.hide_session(answer.body))


def get_user() -> Call[User]:
    """Who is signed in.

    :raises AuthenticationError: the session is not accepted.
    :source: ``GET /v1/users/me``
    """
    return Call("GET", "/v1/users/me", checked(readers.read_user))


def list_clusters() -> Call[list[Cluster]]:
    """The clusters that the user may use.

    :source: ``GET /v1/clusters``
    """
    return Call("GET", "/v1/clusters", checked(readers.read_clusters))


def submit_job(cluster_id: str, body: Mapping[str, Any]) -> Call[Submitted]:
    """Submit a job. Never sent twice: a lost answer may be of a job that runs.

    :param cluster_id: the cluster, e.g. ``"clusde74"``.
    :param body: e.g. :meth:`~airflow_provider_clusterra.api.specs.JobSpec.body`.
    :returns: the job's id, also where the answer holds errors or a bad status beside it.
    :raises ApiError: refused; no job exists.
    :source: ``POST /v1/clusters/{cluster_id}/jobs/submit``
    """
    path = f"{_cluster(cluster_id)}/jobs/submit"
    return Call("POST", path, readers.read_submitted, json=body, repeatable=False)


def get_job(cluster_id: str, job_id: int) -> Call[Job]:
    """One job as the cluster sees it now; an array with its ``tasks``.

    :param cluster_id: the cluster, e.g. ``"clusde74"``.
    :param job_id: Slurm's number for the job, > 0.
    :raises NotFoundError: the cluster never saw this job, or has forgotten it.
    :source: ``GET /v1/clusters/{cluster_id}/jobs/{job_id}``
    """
    path = f"{_cluster(cluster_id)}/jobs/{job_id}"
    return Call("GET", path, lambda answer: readers.read_job(answer, job_id))


def list_jobs(cluster_id: str) -> Call[list[Job]]:
    """All jobs that the cluster still knows, one a record: arrays are not put together.

    :param cluster_id: the cluster, e.g. ``"clusde74"``.
    :source: ``GET /v1/clusters/{cluster_id}/jobs``
    """
    return Call("GET", f"{_cluster(cluster_id)}/jobs", readers.read_jobs)


def list_states(cluster_id: str, job_ids: Sequence[int] = ()) -> Call[list[LightState]]:
    """Ids and states only, of these jobs or of all. What is not known is left out.

    :param cluster_id: the cluster, e.g. ``"clusde74"``.
    :param job_ids: Slurm's numbers; empty is all jobs.
    :raises NotFoundError: the API does not offer this.
    :source: ``GET /v1/clusters/{cluster_id}/jobs/state``, ``job_id`` repeated.
    """
    query = "&".join(f"job_id={job_id}" for job_id in job_ids)
    path = f"{_cluster(cluster_id)}/jobs/state" + (f"?{query}" if query else "")
    return Call("GET", path, checked(readers.read_states))


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
    return Call("GET", path, readers.read_jobs)


def list_nodes(cluster_id: str) -> Call[list[Node]]:
    """The cluster's machines, those that are about to go included.

    :param cluster_id: the cluster, e.g. ``"clusde74"``.
    :source: ``GET /v1/clusters/{cluster_id}/nodes``
    """
    return Call("GET", f"{_cluster(cluster_id)}/nodes", checked(readers.read_nodes))


def get_stats(cluster_id: str) -> Call[dict[str, Any]]:
    """The scheduler's diagnostics, as slurmrestd has them.

    :param cluster_id: the cluster, e.g. ``"clusde74"``.
    :source: ``GET /v1/clusters/{cluster_id}/stats``; slurmrestd's ``diag/``.
    """
    return Call("GET", f"{_cluster(cluster_id)}/stats", checked(readers.read_stats))


def read_metrics(cluster_id: str) -> Call[str]:
    """Counts of jobs as OpenMetrics text.

    :param cluster_id: the cluster, e.g. ``"clusde74"``.
    :source: ``GET /v1/clusters/{cluster_id}/metrics/jobs``
    """
    return Call("GET", f"{_cluster(cluster_id)}/metrics/jobs", checked(readers.read_text))


def list_templates() -> Call[list[Template]]:
    """The templates that the user may submit.

    :source: ``GET /v1/templates``
    """
    return Call("GET", "/v1/templates", checked(templates.read_templates))


def get_template(template_id: str) -> Call[Template]:
    """One template with its parameters.

    :param template_id: e.g. ``"gromacs"``.
    :raises NotFoundError: there is none of this id.
    :source: ``GET /v1/templates/{template_id}``
    """
    path = f"/v1/templates/{quote(template_id, safe='')}"
    return Call("GET", path, checked(templates.read_template))


def list_routes() -> Call[list[ApiRoute]]:
    """What the API says that it offers.

    :raises NotFoundError: it does not say.
    :source: ``GET /v1/api-routes``
    """
    return Call("GET", "/v1/api-routes", checked(readers.read_routes))


def cancel_job(cluster_id: str, job_id: int) -> Call[bool]:
    """Ask for a job's end. It is over when a later look says so.

    :param cluster_id: the cluster, e.g. ``"clusde74"``.
    :param job_id: Slurm's number for the job, > 0.
    :returns: False where there was nothing to cancel: it had ended, or is not known (any more).
    :raises AuthenticationError: it is another user's.
    :source: ``DELETE /v1/clusters/{cluster_id}/jobs/{job_id}``; the answer is 200 whatever
        happened, ``status[].error`` tells.
    """
    return Call("DELETE", f"{_cluster(cluster_id)}/jobs/{job_id}", readers.read_cancelled)


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
    return Call("POST", path, checked(readers.read_grant), json=json)


def presign_download(cluster_id: str, key: str, route: str = DOWNLOAD_ROUTE) -> Call[DownloadGrant]:
    """An address from which one file may be read, by anybody who has it.

    :param cluster_id: the cluster, e.g. ``"clusde74"``.
    :param key: of an upload, e.g. ``"data/me/md.tpr"``.
    :param route: the API's own, with ``{cluster_id}`` in it.
    :raises AuthenticationError: this user may not read it.
    :source: ``POST /v1/clusters/{cluster_id}/storage/download-url``
    """
    path = route.replace("{cluster_id}", quote(cluster_id, safe=""))
    return Call("POST", path, checked(readers.read_download), json={"key": key})


def read_output(cluster_id: str, job_id: int, keep: int = OUTPUT_KEPT) -> Call[Output]:
    """A job's output so far, or its end where it is long.

    :param cluster_id: the cluster, e.g. ``"clusde74"``.
    :param job_id: Slurm's number for the job, > 0.
    :param keep: bytes; what comes before the last so many is counted and dropped.
    :raises NotFoundError: there is no output (yet).
    :source: ``GET /v1/clusters/{cluster_id}/jobs/{job_id}/output``, always the whole file.
    """
    path = f"{_cluster(cluster_id)}/jobs/{job_id}/output"
    return Call("GET", path, readers.read_output, keep=keep)


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
    return Call("GET", path, checked(readers.refuse_stream))


def _cluster(cluster_id: str) -> str:
    return f"/v1/clusters/{quote(cluster_id, safe='')}"
