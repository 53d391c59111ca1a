"""The HTTP API: routes, sign-in, and answers in slurmrestd v0.0.44's shape."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request as HttpRequest
from starlette.responses import (
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from airflow_provider_clusterra.local import outputs
from airflow_provider_clusterra.local.page import job_page
from airflow_provider_clusterra.local.processes import Processes
from airflow_provider_clusterra.local.records import (
    NODE,
    accounting_record,
    envelope,
    job_records,
    problem,
)
from airflow_provider_clusterra.local.requests import PARTITIONS, RefusedError, read_request
from airflow_provider_clusterra.local.session import Session
from airflow_provider_clusterra.local.storage import EXPIRES_IN, Storage, StorageError, key_of

CLUSTER = "/v1/clusters/{cluster_id}"
OPEN_PATHS = ("/manage/",)
"""Pages for a browser, which has no session of ours; they show no output."""

Handler = Callable[[HttpRequest], Awaitable[Response]]


class SignIn:
    """Refuses a request without the session."""

    def __init__(self, app: ASGIApp, session: Session) -> None:
        self._app = app
        self._session = session

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer 401."""
        if scope["type"] == "http" and not scope["path"].startswith(OPEN_PATHS):
            request = HttpRequest(scope)
            headers = request.headers
            if not self._session.accepts(headers.get("cookie"), headers.get("authorization")):
                refusal = _error(401, "the session is not known, or has ended")
                await refusal(scope, receive, send)
                return
        await self._app(scope, receive, send)


class Api:
    """The handlers, each named as the action it serves."""

    def __init__(
        self, cluster_id: str, session: Session, backend: Processes, storage: Storage
    ) -> None:
        self._cluster_id = cluster_id
        self._session = session
        self._backend = backend
        self._storage = storage

    def app(self) -> Starlette:
        """The ASGI application."""
        routes = [
            Route(path, self._of_this_cluster(handler), methods=[method])
            for method, path, handler in self._table()
        ]
        return Starlette(routes=routes, middleware=[Middleware(SignIn, session=self._session)])

    def _table(self) -> list[tuple[str, str, Handler]]:
        job = CLUSTER + "/jobs/{job_id}"
        return [
            ("GET", "/v1/users/me", self.get_user),
            ("GET", "/v1/clusters", self.list_clusters),
            ("GET", CLUSTER, self.get_cluster),
            ("POST", f"{CLUSTER}/jobs/submit", self.submit_job),
            ("GET", f"{CLUSTER}/jobs", self.list_jobs),
            ("GET", f"{CLUSTER}/jobs/state", self.list_states),
            ("GET", job, self.get_job),
            ("DELETE", job, self.cancel_job),
            ("GET", f"{job}/output", self.read_output),
            ("GET", f"{job}/output/stream", self.stream_output),
            ("GET", f"{CLUSTER}/accounting/jobs", self.list_accounting),
            ("GET", f"{CLUSTER}/nodes", self.list_nodes),
            ("GET", f"{CLUSTER}/metrics/jobs", self.read_metrics),
            ("POST", f"{CLUSTER}/storage/presigned-url", self.presign_upload),
            ("POST", f"{CLUSTER}/storage/download-url", self.presign_download),
            ("GET", "/v1/api-routes", self.list_routes),
            ("GET", "/manage/{cluster_id}/jobs/{job_id}", self.show_job),
        ]

    def _of_this_cluster(self, handler: Handler) -> Handler:
        async def checked(request: HttpRequest) -> Response:
            asked = request.path_params.get("cluster_id", self._cluster_id)
            if asked != self._cluster_id:
                return _error(404, f"cluster {asked!r} not found")
            return await handler(request)

        return checked

    async def get_user(self, _: HttpRequest) -> Response:
        """``GET /v1/users/me``."""
        return JSONResponse({"id": self._session.user, "email": self._session.email})

    async def list_clusters(self, _: HttpRequest) -> Response:
        """``GET /v1/clusters``."""
        return JSONResponse({"clusters": [self._cluster()], "total": 1})

    async def get_cluster(self, _: HttpRequest) -> Response:
        """``GET /v1/clusters/{cluster_id}``."""
        return JSONResponse(self._cluster())

    async def submit_job(self, request: HttpRequest) -> Response:
        """``POST …/jobs/submit`` with a raw script."""
        try:
            body = await request.json()
        except (json.JSONDecodeError, UnicodeDecodeError):
            return PlainTextResponse("Failure during parsing", 400)
        try:
            asked = read_request(body)
        except RefusedError as refused:
            return JSONResponse(envelope(errors=[refused.error]), refused.status)
        job_id = self._backend.submit_job(asked)
        warnings = [{"description": text, "source": "clusterra-local"} for text in asked.warnings]
        if asked.cpus > self._backend.cpus:
            text = "Requested partition configuration not available now"
            warnings.append({"description": text, "source": "slurm_submit_batch_job()"})
        fields = {"job_id": job_id, "step_id": "batch", "job_submit_user_msg": ""}
        return JSONResponse(envelope(**fields, warnings=warnings))

    async def list_jobs(self, _: HttpRequest) -> Response:
        """``GET …/jobs``."""
        return JSONResponse(envelope(jobs=job_records(self._backend.list_jobs())))

    async def list_states(self, request: HttpRequest) -> Response:
        """``GET …/jobs/state``: ids and states only; ``job_id`` may be repeated."""
        wanted = set(request.query_params.getlist("job_id"))
        rows = []
        for record in job_records(self._backend.list_jobs()):
            index = record["array_task_id"]
            job_id = str(record["job_id"])
            shown = f"{job_id}_{index['number']}" if index["set"] else job_id
            if record["array_task_string"]:
                shown = f"{job_id}_[{record['array_task_string']}]"
            if not wanted or wanted & {job_id, str(record["array_job_id"]["number"])}:
                rows.append({"job_id": shown, "state": record["job_state"]})
        return JSONResponse(envelope(jobs=rows))

    async def get_job(self, request: HttpRequest) -> Response:
        """``GET …/jobs/{job_id}``."""
        job_id = _job_id(request)
        if job_id is None:
            return _bad_job_id()
        found = self._backend.get_job(job_id)
        if found:
            return JSONResponse(envelope(jobs=job_records(found)))
        words = f"Unable to query JobId={job_id}"
        error = problem(2017, "Invalid job id specified", words, "_handle_job_get")
        return JSONResponse(envelope(jobs=[], errors=[error]), 404)

    async def cancel_job(self, request: HttpRequest) -> Response:
        """``DELETE …/jobs/{job_id}``: 200 whatever happens; ``status[].error`` tells."""
        job_id = _job_id(request)
        if job_id is None:
            return _bad_job_id()
        number = self._backend.cancel_job(job_id)
        words = {2017: "Invalid job id specified", 2021: "Job/step already completing or completed"}
        known = {
            "set": number != 2017,
            "infinite": False,
            "number": 0 if number == 2017 else job_id,
        }
        entry = {
            "error": {"string": words.get(number), "code": number, "message": words.get(number)},
            "step_id": str(job_id),
            "job_id": known,
            "federation": {"sibling": ""},
        }
        return JSONResponse(envelope(status=[entry] if number else []))

    async def read_output(self, request: HttpRequest) -> Response:
        """``GET …/jobs/{job_id}/output``: the whole file as it is now."""
        job_id = _job_id(request)
        path = self._backend.output(job_id or 0)
        if job_id is None or not path.exists():
            return PlainTextResponse("log not found\n", 404)
        return StreamingResponse(outputs.whole(path), media_type="text/plain")

    async def stream_output(self, request: HttpRequest) -> Response:
        """``GET …/jobs/{job_id}/output/stream``: server-sent events, without an end."""
        path = self._backend.output(_job_id(request) or 0)
        return StreamingResponse(outputs.stream(path), media_type="text/event-stream")

    async def list_accounting(self, request: HttpRequest) -> Response:
        """``GET …/accounting/jobs``, by ``job_name`` or by ids in ``step``; all ended jobs stay."""
        names = set(filter(None, request.query_params.get("job_name", "").split(",")))
        ids = set(filter(None, request.query_params.get("step", "").split(",")))
        found = [
            accounting_record(job)
            for job in self._backend.accounting()
            if (not names or job.request.name in names)
            and (not ids or {str(job.job_id), str(job.array_job_id)} & ids)
        ]
        return JSONResponse(envelope(jobs=found))

    async def list_nodes(self, _: HttpRequest) -> Response:
        """``GET …/nodes``: this machine."""
        busy = self._backend.busy_cpus
        node = {
            "name": NODE,
            "state": ["MIXED" if busy else "IDLE"],
            "cpus": self._backend.cpus,
            "alloc_cpus": busy,
            "alloc_idle_cpus": self._backend.cpus - busy,
            "partitions": list(PARTITIONS),
        }
        return JSONResponse(envelope(nodes=[node]))

    async def read_metrics(self, _: HttpRequest) -> Response:
        """``GET …/metrics/jobs``: OpenMetrics text."""
        jobs = self._backend.list_jobs()
        lines = ["# TYPE slurm_jobs gauge"]
        for state in sorted({job.state for job in jobs}):
            count = sum(job.state == state for job in jobs)
            lines.append(f'slurm_jobs{{state="{state}"}} {count}')
        return PlainTextResponse("\n".join([*lines, "# EOF", ""]))

    async def presign_upload(self, request: HttpRequest) -> Response:
        """``POST …/storage/presigned-url``."""
        body = await _object(request)
        location = body.get("location", "data")
        if location == "shared":
            return _error(403, "only an administrator may upload to shared")
        try:
            key = key_of(str(body.get("filename") or ""), str(location), self._session.user)
            url = self._storage.presign("PUT", key)
        except ValueError as exc:
            return _error(400, str(exc))
        except StorageError as exc:
            return _error(503, str(exc))
        return JSONResponse({"upload_url": url, "key": key, "expires_in": EXPIRES_IN})

    async def presign_download(self, request: HttpRequest) -> Response:
        """``POST …/storage/download-url``: ours; the vendor's own is not documented."""
        key = str((await _object(request)).get("key") or "")
        try:
            url = self._storage.presign("GET", key)
        except StorageError as exc:
            return _error(503, str(exc))
        return JSONResponse({"download_url": url, "expires_in": EXPIRES_IN})

    async def list_routes(self, _: HttpRequest) -> Response:
        """``GET /v1/api-routes``: what there is."""
        rows = [
            {"name": handler.__name__, "method": method, "path": path}
            for method, path, handler in self._table()
            if path.startswith("/v1/")
        ]
        return JSONResponse({"routes": rows})

    async def show_job(self, request: HttpRequest) -> Response:
        """``GET /manage/{cluster_id}/jobs/{job_id}``: a page for a person."""
        job_id = _job_id(request)
        found = self._backend.get_job(job_id) if job_id is not None else []
        page = job_page(request.path_params["job_id"], found)
        return HTMLResponse(page, 200 if found else 404)

    def _cluster(self) -> dict[str, str]:
        words = {"state": "running", "connection_state": "connected"}
        return {"id": self._cluster_id, "name": "This machine", **words}


def _job_id(request: HttpRequest) -> int | None:
    text = request.path_params["job_id"].partition("_")[0]
    return int(text) if text.isascii() and text.isdigit() else None


def _bad_job_id() -> Response:
    words = "Rejecting request. Failure parsing parameters"
    error = problem(9000, "Query empty or not RFC7320 compliant", words, "op_handler_job")
    return JSONResponse(envelope(errors=[error]), 422)


def _error(status: int, words: str) -> Response:
    return JSONResponse({"error": words}, status)


async def _object(request: HttpRequest) -> dict[str, Any]:
    try:
        body = await request.json()
    except (json.JSONDecodeError, UnicodeDecodeError):
        return {}
    return body if isinstance(body, dict) else {}
