"""The API over HTTP, waiting in an event loop. Every decision is in calls and retry."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, Self, TypeVar

import httpx

from airflow_provider_clusterra.api import calls
from airflow_provider_clusterra.api.access import Access, api_settings, patient
from airflow_provider_clusterra.api.answers import Answer, Body, transport_error
from airflow_provider_clusterra.api.calls import DOWNLOAD_ROUTE, OUTPUT_KEPT, Call
from airflow_provider_clusterra.api.errors import ClusterraError
from airflow_provider_clusterra.api.jobs import Job
from airflow_provider_clusterra.api.readers import (
    ApiRoute,
    Cluster,
    LightState,
    Node,
    Output,
    Submitted,
    User,
    is_plain_output,
    is_stream,
    read_piece,
)
from airflow_provider_clusterra.api.retry import Retry
from airflow_provider_clusterra.api.sse import Decoder
from airflow_provider_clusterra.api.templates import Template
from airflow_provider_clusterra.api.uploads import DownloadGrant, UploadGrant

T = TypeVar("T")


class AsyncClient:
    """The API for an event loop. Use it as a context manager, or :meth:`aclose` it.

    Building one takes milliseconds that an event loop may not have: build it in a thread.
    """

    def __init__(self, access: Access, *, retry: Retry | None = None) -> None:
        self.access = access
        self._retry = retry or Retry()
        self._http = httpx.AsyncClient(**api_settings(access))

    async def get_user(self) -> User:
        """See :func:`airflow_provider_clusterra.api.calls.get_user`."""
        return await self._send(calls.get_user())

    async def list_clusters(self) -> list[Cluster]:
        """See :func:`airflow_provider_clusterra.api.calls.list_clusters`."""
        return await self._send(calls.list_clusters())

    async def submit_job(self, cluster_id: str, body: Mapping[str, Any]) -> Submitted:
        """See :func:`airflow_provider_clusterra.api.calls.submit_job`."""
        return await self._send(calls.submit_job(cluster_id, body))

    async def get_job(self, cluster_id: str, job_id: int) -> Job:
        """See :func:`airflow_provider_clusterra.api.calls.get_job`."""
        return await self._send(calls.get_job(cluster_id, job_id))

    async def list_jobs(self, cluster_id: str) -> list[Job]:
        """See :func:`airflow_provider_clusterra.api.calls.list_jobs`."""
        return await self._send(calls.list_jobs(cluster_id))

    async def cancel_job(self, cluster_id: str, job_id: int) -> bool:
        """See :func:`airflow_provider_clusterra.api.calls.cancel_job`."""
        return await self._send(calls.cancel_job(cluster_id, job_id))

    async def read_output(self, cluster_id: str, job_id: int, keep: int = OUTPUT_KEPT) -> Output:
        """See :func:`airflow_provider_clusterra.api.calls.read_output`."""
        return await self._send(calls.read_output(cluster_id, job_id, keep))

    async def presign_upload(self, cluster_id: str, filename: str, location: str) -> UploadGrant:
        """See :func:`airflow_provider_clusterra.api.calls.presign_upload`."""
        return await self._send(calls.presign_upload(cluster_id, filename, location))

    async def presign_download(
        self, cluster_id: str, key: str, route: str = DOWNLOAD_ROUTE
    ) -> DownloadGrant:
        """See :func:`airflow_provider_clusterra.api.calls.presign_download`."""
        return await self._send(calls.presign_download(cluster_id, key, route))

    async def list_states(self, cluster_id: str, job_ids: Sequence[int] = ()) -> list[LightState]:
        """See :func:`airflow_provider_clusterra.api.calls.list_states`."""
        return await self._send(calls.list_states(cluster_id, job_ids))

    async def list_accounting(
        self,
        cluster_id: str,
        *,
        job_name: str | None = None,
        since: float = 0.0,
        job_ids: Sequence[int] = (),
    ) -> list[Job]:
        """See :func:`airflow_provider_clusterra.api.calls.list_accounting`."""
        return await self._send(
            calls.list_accounting(cluster_id, job_name=job_name, since=since, job_ids=job_ids)
        )

    async def list_nodes(self, cluster_id: str) -> list[Node]:
        """See :func:`airflow_provider_clusterra.api.calls.list_nodes`."""
        return await self._send(calls.list_nodes(cluster_id))

    async def get_stats(self, cluster_id: str) -> dict[str, Any]:
        """See :func:`airflow_provider_clusterra.api.calls.get_stats`."""
        return await self._send(calls.get_stats(cluster_id))

    async def read_metrics(self, cluster_id: str) -> str:
        """See :func:`airflow_provider_clusterra.api.calls.read_metrics`."""
        return await self._send(calls.read_metrics(cluster_id))

    async def list_templates(self) -> list[Template]:
        """See :func:`airflow_provider_clusterra.api.calls.list_templates`."""
        return await self._send(calls.list_templates())

    async def get_template(self, template_id: str) -> Template:
        """See :func:`airflow_provider_clusterra.api.calls.get_template`."""
        return await self._send(calls.get_template(template_id))

    async def list_routes(self) -> list[ApiRoute]:
        """See :func:`airflow_provider_clusterra.api.calls.list_routes`."""
        return await self._send(calls.list_routes())

    async def stream_output(self, cluster_id: str, job_id: int) -> AsyncGenerator[bytes, None]:
        """See :func:`airflow_provider_clusterra.api.calls.stream_output`.

        Asked once: whoever reads it decides what a break means.
        """
        call = calls.stream_output(cluster_id, job_id)
        try:
            async with self._http.stream(
                call.method, call.path, headers=self.access.headers(), timeout=patient(self.access)
            ) as response:
                if not is_stream(response.status_code, response.headers):
                    call.read(await _whole(call, response))
                decoder = Decoder()
                async for piece in response.aiter_bytes():
                    for event in decoder.feed(piece):
                        yield read_piece(call.request, event)
                for event in decoder.close():
                    yield read_piece(call.request, event)
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            raise transport_error(call.request, exc) from exc

    async def read_output_pieces(self, cluster_id: str, job_id: int) -> AsyncGenerator[bytes, None]:
        """The whole output as it is now, piece by piece: for what is too long to be held.

        :param cluster_id: the cluster, e.g. ``"clusde74"``.
        :param job_id: Slurm's number for the job, > 0.
        :raises NotFoundError: there is no output (yet).
        :source: as :func:`airflow_provider_clusterra.api.calls.read_output`. Asked once.
        """
        call = calls.read_output(cluster_id, job_id)
        try:
            async with self._http.stream(
                call.method, call.path, headers=self.access.headers()
            ) as response:
                if not is_plain_output(response.status_code, response.headers):
                    yield call.read(await _whole(call, response)).data
                    return
                async for piece in response.aiter_bytes():
                    yield piece
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            raise transport_error(call.request, exc) from exc

    async def exchange(self, call: Call[Any]) -> Answer:
        """One call's answer, whatever it says: sent once, and not read.

        :param call: whose ``read`` tells what the answer means.
        :raises TransportError: there was none.
        """
        try:
            async with self._http.stream(
                call.method, call.path, json=call.json, headers=self.access.headers()
            ) as response:
                return await _whole(call, response)
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            raise transport_error(call.request, exc) from exc

    async def aclose(self) -> None:
        """Close the connections: all of them, even where this is cancelled in the middle."""
        closing = asyncio.get_running_loop().create_task(self._http.aclose())
        try:
            await asyncio.shield(closing)
        except asyncio.CancelledError:
            await asyncio.wait({closing})
            raise

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _send(self, call: Call[T]) -> T:
        attempt = 0
        while True:
            attempt += 1
            try:
                return call.read(await self.exchange(call))
            except ClusterraError as error:
                delay = self._retry.delay(error, attempt, repeatable=call.repeatable)
                if delay is None:
                    raise
            await asyncio.sleep(delay)


async def _whole(call: Call[Any], response: httpx.Response) -> Answer:
    body = Body(call.keep)
    async for piece in response.aiter_bytes():
        body.add(piece)
    if body.is_long:
        return await asyncio.to_thread(
            body.answer, call.request, response.status_code, response.headers
        )
    return body.answer(call.request, response.status_code, response.headers)
