"""The API over HTTP, waiting in a thread. Every decision is in calls and retry.

Its twin in ``async_client`` has the same names and signatures, but for the upload, which only workers
do, and the output's stream, which only event loops follow.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, BinaryIO, Self, TypeVar

import httpx

from airflow_provider_clusterra.api import calls
from airflow_provider_clusterra.api.access import Access, api_settings, bare_settings
from airflow_provider_clusterra.api.answers import Answer, Body, transport_error
from airflow_provider_clusterra.api.calls import DOWNLOAD_ROUTE, OUTPUT_KEPT, Call
from airflow_provider_clusterra.api.errors import ApiError, ClusterraError, TransportError
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
from airflow_provider_clusterra.api.retry import Retry
from airflow_provider_clusterra.api.templates import Template
from airflow_provider_clusterra.api.uploads import DownloadGrant, UploadGrant, pieces, put_refusal

T = TypeVar("T")


class Client:
    """The API for a thread. Use it as a context manager, or :meth:`close` it."""

    def __init__(self, access: Access, *, retry: Retry | None = None) -> None:
        self.access = access
        self._retry = retry or Retry()
        self._http = httpx.Client(**api_settings(access))
        self._storage: httpx.Client | None = None
        """For uploads, which share its connection; the first one builds it."""

    def get_user(self) -> User:
        """See :func:`airflow_provider_clusterra.api.calls.get_user`."""
        return self._send(calls.get_user())

    def list_clusters(self) -> list[Cluster]:
        """See :func:`airflow_provider_clusterra.api.calls.list_clusters`."""
        return self._send(calls.list_clusters())

    def submit_job(self, cluster_id: str, body: Mapping[str, Any]) -> Submitted:
        """See :func:`airflow_provider_clusterra.api.calls.submit_job`."""
        return self._send(calls.submit_job(cluster_id, body))

    def get_job(self, cluster_id: str, job_id: int) -> Job:
        """See :func:`airflow_provider_clusterra.api.calls.get_job`."""
        return self._send(calls.get_job(cluster_id, job_id))

    def list_jobs(self, cluster_id: str) -> list[Job]:
        """See :func:`airflow_provider_clusterra.api.calls.list_jobs`."""
        return self._send(calls.list_jobs(cluster_id))

    def cancel_job(self, cluster_id: str, job_id: int) -> bool:
        """See :func:`airflow_provider_clusterra.api.calls.cancel_job`."""
        return self._send(calls.cancel_job(cluster_id, job_id))

    def read_output(self, cluster_id: str, job_id: int, keep: int = OUTPUT_KEPT) -> Output:
        """See :func:`airflow_provider_clusterra.api.calls.read_output`."""
        return self._send(calls.read_output(cluster_id, job_id, keep))

    def presign_upload(self, cluster_id: str, filename: str, location: str) -> UploadGrant:
        """See :func:`airflow_provider_clusterra.api.calls.presign_upload`."""
        return self._send(calls.presign_upload(cluster_id, filename, location))

    def presign_download(
        self, cluster_id: str, key: str, route: str = DOWNLOAD_ROUTE
    ) -> DownloadGrant:
        """See :func:`airflow_provider_clusterra.api.calls.presign_download`."""
        return self._send(calls.presign_download(cluster_id, key, route))

    def list_states(self, cluster_id: str, job_ids: Sequence[int] = ()) -> list[LightState]:
        """See :func:`airflow_provider_clusterra.api.calls.list_states`."""
        return self._send(calls.list_states(cluster_id, job_ids))

    def list_accounting(
        self,
        cluster_id: str,
        *,
        job_name: str | None = None,
        since: float = 0.0,
        job_ids: Sequence[int] = (),
    ) -> list[Job]:
        """See :func:`airflow_provider_clusterra.api.calls.list_accounting`."""
        return self._send(
            calls.list_accounting(cluster_id, job_name=job_name, since=since, job_ids=job_ids)
        )

    def list_nodes(self, cluster_id: str) -> list[Node]:
        """See :func:`airflow_provider_clusterra.api.calls.list_nodes`."""
        return self._send(calls.list_nodes(cluster_id))

    def get_stats(self, cluster_id: str) -> dict[str, Any]:
        """See :func:`airflow_provider_clusterra.api.calls.get_stats`."""
        return self._send(calls.get_stats(cluster_id))

    def read_metrics(self, cluster_id: str) -> str:
        """See :func:`airflow_provider_clusterra.api.calls.read_metrics`."""
        return self._send(calls.read_metrics(cluster_id))

    def list_templates(self) -> list[Template]:
        """See :func:`airflow_provider_clusterra.api.calls.list_templates`."""
        return self._send(calls.list_templates())

    def get_template(self, template_id: str) -> Template:
        """See :func:`airflow_provider_clusterra.api.calls.get_template`."""
        return self._send(calls.get_template(template_id))

    def list_routes(self) -> list[ApiRoute]:
        """See :func:`airflow_provider_clusterra.api.calls.list_routes`."""
        return self._send(calls.list_routes())

    def upload_file(
        self,
        cluster_id: str,
        filename: str,
        location: str,
        size: int,
        content: Callable[[], BinaryIO],
    ) -> str:
        """Put one file into the cluster's storage, in constant memory.

        :param cluster_id: the cluster, e.g. ``"clusde74"``.
        :param filename: the name there, e.g. ``"input.pdb"``.
        :param location: ``"data"``, ``"scripts"``, ``"outputs"`` or ``"shared"``.
        :param size: bytes; S3 wants to know before.
        :param content: opens the file; called anew for each try.
        :returns: the key, ready for a template's parameter.
        :raises ApiError: the API or the storage refused.
        :raises TransportError: no answer, in all tries.
        :raises InputError: the file changed meanwhile.
        :source: ``POST …/storage/presigned-url``, then ``PUT`` to the address it gives, which is
            another host's: no session, no header of ours.
        """
        attempt = 0
        while True:
            attempt += 1
            grant = self.presign_upload(cluster_id, filename, location)
            try:
                self._put(grant, size, content)
            except (ApiError, TransportError) as error:
                delay = self._retry.upload_delay(error, attempt)
                if delay is None:
                    raise
            else:
                return grant.key
            time.sleep(delay)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()
        if self._storage is not None:
            self._storage.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send(self, call: Call[T]) -> T:
        attempt = 0
        while True:
            attempt += 1
            try:
                return call.read(self._exchange(call))
            except ClusterraError as error:
                delay = self._retry.delay(error, attempt, repeatable=call.repeatable)
                if delay is None:
                    raise
            time.sleep(delay)

    def _exchange(self, call: Call[Any]) -> Answer:
        try:
            with self._http.stream(
                call.method, call.path, json=call.json, headers=self.access.headers()
            ) as response:
                body = Body(call.keep)
                for piece in response.iter_bytes():
                    body.add(piece)
                return body.answer(call.request, response.status_code, response.headers)
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            raise transport_error(call.request, exc) from exc

    def _put(self, grant: UploadGrant, size: int, content: Callable[[], BinaryIO]) -> None:
        self._storage = self._storage or httpx.Client(**bare_settings(self.access))
        try:
            with content() as file:
                response = self._storage.put(
                    grant.upload_url,
                    content=pieces(file, size),
                    headers={"Content-Length": str(size)},
                )
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            raise transport_error(f"PUT {grant.shown_url}", exc) from exc
        error = put_refusal(grant, response.status_code, response.content)
        if error is not None:
            raise error
