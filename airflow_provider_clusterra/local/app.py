"""The HTTP API: routes, sign-in, and answers in slurmrestd v0.0.44's shape."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
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
from airflow_provider_clusterra.local.backend import Answer, Backend
from airflow_provider_clusterra.local.catalog import Catalog, TemplateError
from airflow_provider_clusterra.local.page import job_page
from airflow_provider_clusterra.local.session import Session
from airflow_provider_clusterra.local.storage import (
    EXPIRES_IN,
    Storage,
    StorageError,
    check_key,
    key_of,
)

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
        self, cluster_id: str, session: Session, backend: Backend, storage: Storage
    ) -> None:
        self._cluster_id = cluster_id
        self._session = session
        self._backend = backend
        self._storage = storage
        self._catalog = Catalog()

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
            ("GET", f"{CLUSTER}/stats", self.get_stats),
            ("GET", f"{CLUSTER}/metrics/jobs", self.read_metrics),
            ("POST", f"{CLUSTER}/storage/presigned-url", self.presign_upload),
            ("POST", f"{CLUSTER}/storage/download-url", self.presign_download),
            ("GET", "/v1/templates", self.list_templates),
            ("GET", "/v1/templates/{template_id}", self.get_template),
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
        """``POST …/jobs/submit`` with a raw script, a template, or a run of one step."""
        try:
            body = await request.json()
            rendered = (
                self._catalog.render(body, self._session.email) if isinstance(body, dict) else None
            )
        except (json.JSONDecodeError, UnicodeDecodeError):
            return PlainTextResponse("Failure during parsing", 400)
        except TemplateError as exc:
            return _error(exc.status, str(exc))
        if rendered is None:
            return _response(await self._backend.submit_job(body if isinstance(body, dict) else {}))
        answer = await self._backend.submit_job(rendered.body)
        if isinstance(answer.body, str):
            return _response(answer)
        return JSONResponse(rendered.answer(answer.body), answer.status)

    async def list_jobs(self, _: HttpRequest) -> Response:
        """``GET …/jobs``."""
        return _response(await self._backend.list_jobs())

    async def list_states(self, request: HttpRequest) -> Response:
        """``GET …/jobs/state``: ids and states only; ``job_id`` may be repeated."""
        job_ids = request.query_params.getlist("job_id")
        return _response(await self._backend.list_states(job_ids))

    async def get_job(self, request: HttpRequest) -> Response:
        """``GET …/jobs/{job_id}``."""
        return _response(await self._backend.get_job(request.path_params["job_id"]))

    async def cancel_job(self, request: HttpRequest) -> Response:
        """``DELETE …/jobs/{job_id}``."""
        return _response(await self._backend.cancel_job(request.path_params["job_id"]))

    async def read_output(self, request: HttpRequest) -> Response:
        """``GET …/jobs/{job_id}/output``: the whole file as it is now."""
        path = self._output(request)
        if not path.is_file():
            return PlainTextResponse("log not found\n", 404)
        return StreamingResponse(outputs.whole(path), media_type="text/plain")

    async def stream_output(self, request: HttpRequest) -> Response:
        """``GET …/jobs/{job_id}/output/stream``: server-sent events, without an end."""
        pieces = outputs.stream(self._output(request))
        return StreamingResponse(pieces, media_type="text/event-stream")

    async def list_accounting(self, request: HttpRequest) -> Response:
        """``GET …/accounting/jobs``, by ``job_name`` or by ids in ``step``."""
        return _response(await self._backend.list_accounting(request.query_params))

    async def list_nodes(self, _: HttpRequest) -> Response:
        """``GET …/nodes``."""
        return _response(await self._backend.list_nodes())

    async def get_stats(self, _: HttpRequest) -> Response:
        """``GET …/stats``."""
        return _response(await self._backend.get_stats())

    async def read_metrics(self, _: HttpRequest) -> Response:
        """``GET …/metrics/jobs``: OpenMetrics text."""
        return _response(await self._backend.read_metrics())

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
            check_key(key)
            url = self._storage.presign("GET", key)
        except ValueError as exc:
            return _error(400, str(exc))
        except StorageError as exc:
            return _error(503, str(exc))
        return JSONResponse({"download_url": url, "expires_in": EXPIRES_IN})

    async def list_templates(self, _: HttpRequest) -> Response:
        """``GET /v1/templates``."""
        return JSONResponse({"templates": list(self._catalog.schemas.values())})

    async def get_template(self, request: HttpRequest) -> Response:
        """``GET /v1/templates/{template_id}``."""
        template_id = request.path_params["template_id"]
        schema = self._catalog.schemas.get(template_id)
        return (
            JSONResponse(schema) if schema else _error(404, f'template "{template_id}" not found')
        )

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
        job_id = request.path_params["job_id"]
        answer = await self._backend.get_job(job_id)
        records = answer.body.get("jobs", []) if isinstance(answer.body, dict) else []
        return HTMLResponse(job_page(job_id, records), 200 if records else 404)

    def _output(self, request: HttpRequest) -> Path:
        # what a path's segment holds has no slash, so it cannot leave the folder
        return self._backend.outputs / f"job_{request.path_params['job_id']}.out"

    def _cluster(self) -> dict[str, str]:
        words = {"state": "running", "connection_state": "connected"}
        return {"id": self._cluster_id, "name": "This machine", **words}


def _response(answer: Answer) -> Response:
    if isinstance(answer.body, str):
        return PlainTextResponse(answer.body, answer.status)
    return JSONResponse(answer.body, answer.status)


def _error(status: int, words: str) -> Response:
    return JSONResponse({"error": words}, status)


async def _object(request: HttpRequest) -> dict[str, Any]:
    try:
        body = await request.json()
    except (json.JSONDecodeError, UnicodeDecodeError):
        return {}
    return body if isinstance(body, dict) else {}
