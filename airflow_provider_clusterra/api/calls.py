"""Each endpoint as a value: what is sent, and how its answer is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar
from urllib.parse import quote

import msgspec

from airflow_provider_clusterra.api import readers
from airflow_provider_clusterra.api.answers import Answer
from airflow_provider_clusterra.api.jobs import Job
from airflow_provider_clusterra.api.readers import Cluster, Output, Submitted, User
from airflow_provider_clusterra.api.uploads import UploadGrant

T = TypeVar("T")
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

    @property
    def request(self) -> str:
        """The request in words."""
        return f"{self.method} {self.path}"


def get_user() -> Call[User]:
    """Who is signed in.

    :raises AuthenticationError: the session is not accepted.
    :source: ``GET /v1/users/me``
    """
    return Call("GET", "/v1/users/me", readers.checked(readers.read_user))


def list_clusters() -> Call[list[Cluster]]:
    """The clusters that the user may use.

    :source: ``GET /v1/clusters``
    """
    return Call("GET", "/v1/clusters", readers.checked(readers.read_clusters))


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
    return Call("GET", path, readers.checked(lambda answer: readers.read_job(answer, job_id)))


def list_jobs(cluster_id: str) -> Call[list[Job]]:
    """All jobs that the cluster still knows, one a record: arrays are not put together.

    :param cluster_id: the cluster, e.g. ``"clusde74"``.
    :source: ``GET /v1/clusters/{cluster_id}/jobs``
    """
    return Call("GET", f"{_cluster(cluster_id)}/jobs", readers.checked(readers.read_jobs))


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
    return Call("POST", path, readers.checked(readers.read_grant), json=json)


def read_output(cluster_id: str, job_id: int, keep: int = OUTPUT_KEPT) -> Call[Output]:
    """A job's output so far, or its end where it is long.

    :param cluster_id: the cluster, e.g. ``"clusde74"``.
    :param job_id: Slurm's number for the job, > 0.
    :param keep: bytes; what comes before the last so many is counted and dropped.
    :raises NotFoundError: there is no output (yet).
    :source: ``GET /v1/clusters/{cluster_id}/jobs/{job_id}/output``, always the whole file.
    """
    path = f"{_cluster(cluster_id)}/jobs/{job_id}/output"
    return Call("GET", path, readers.checked(readers.read_output), keep=keep)


def _cluster(cluster_id: str) -> str:
    return f"/v1/clusters/{quote(cluster_id, safe='')}"
