"""The HTTP API: routes, sign-in, and answers in slurmrestd v0.0.44's shape."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

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

from clusterra_server import outputs
from clusterra_server.backend import Backend, ReplyError
from clusterra_server.bodies import read_object
from clusterra_server.catalog import Catalog
from clusterra_server.page import job_page
from clusterra_server.replies import refuse, refuse_depth, refuse_error, respond
from clusterra_server.sign_in import Account, SignIn, account_of
from clusterra_server.storage import (
    EXPIRES_IN,
    Storage,
    StorageError,
    check_key,
    key_of,
)

CLUSTER = "/v1/clusters/{cluster_id}"

Handler = Callable[[HttpRequest], Awaitable[Response]]


class Api:
    """The handlers, each named as the action it serves.

    :param accounts: who may ask, at least one.
    :param open_pages: whether a job's page is shown without a session, too.
    """

    def __init__(
        self, cluster_id: str, accounts: Sequence[Account], storage: Storage, *, open_pages: bool
    ) -> None:
        self._cluster_id = cluster_id
        self._accounts = accounts
        self._storage = storage
        self._catalog = Catalog()
        self._open_pages = open_pages
        self._ending = asyncio.Event()

    def app(self) -> Starlette:
        """The ASGI application."""
        routes = [
            Route(path, self._of_this_cluster(handler), methods=[method])
            for method, path, handler in self._table()
        ]
        sign_in = Middleware(SignIn, accounts=self._accounts, open_pages=self._open_pages)
        return Starlette(
            routes=routes,
            middleware=[sign_in],
            exception_handlers={ReplyError: refuse_error, RecursionError: refuse_depth},
        )

    def stop(self) -> None:
        """Let the streams end, which would go on for as long as they are read."""
        self._ending.set()

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
                return refuse(404, f"cluster {asked!r} not found")
            return await handler(request)

        return checked

    async def get_user(self, request: HttpRequest) -> Response:
        """``GET /v1/users/me``."""
        session = account_of(request).session
        return JSONResponse({"id": session.user, "email": session.email})

    async def list_clusters(self, _: HttpRequest) -> Response:
        """``GET /v1/clusters``."""
        return JSONResponse({"clusters": [self._cluster()], "total": 1})

    async def get_cluster(self, _: HttpRequest) -> Response:
        """``GET /v1/clusters/{cluster_id}``."""
        return JSONResponse(self._cluster())

    async def submit_job(self, request: HttpRequest) -> Response:
        """``POST …/jobs/submit`` with a raw script, a template, or a run of one step."""
        body = await read_object(request)
        rendered = self._catalog.render(body, account_of(request).session.email)
        answer = await _backend(request).submit_job(rendered.body if rendered else body)
        if rendered is None or not (document := answer.document()):
            return respond(answer)
        return JSONResponse(rendered.answer(document), answer.status)

    async def list_jobs(self, request: HttpRequest) -> Response:
        """``GET …/jobs``."""
        return respond(await _backend(request).list_jobs())

    async def list_states(self, request: HttpRequest) -> Response:
        """``GET …/jobs/state``: ids and states only; ``job_id`` may be repeated."""
        job_ids = request.query_params.getlist("job_id")
        return respond(await _backend(request).list_states(job_ids))

    async def get_job(self, request: HttpRequest) -> Response:
        """``GET …/jobs/{job_id}``."""
        return respond(await _backend(request).get_job(request.path_params["job_id"]))

    async def cancel_job(self, request: HttpRequest) -> Response:
        """``DELETE …/jobs/{job_id}``."""
        return respond(await _backend(request).cancel_job(request.path_params["job_id"]))

    async def read_output(self, request: HttpRequest) -> Response:
        """``GET …/jobs/{job_id}/output``: the whole file as it is now."""
        file = await _open_output(request)
        if file is None:
            return PlainTextResponse("log not found\n", 404)
        return StreamingResponse(outputs.whole(file), media_type="text/plain")

    async def stream_output(self, request: HttpRequest) -> Response:
        """``GET …/jobs/{job_id}/output/stream``: server-sent events, without an end."""
        file = await _open_output(request)
        return StreamingResponse(outputs.stream(file, self._ending), media_type="text/event-stream")

    async def list_accounting(self, request: HttpRequest) -> Response:
        """``GET …/accounting/jobs``, by ``job_name`` or by ids in ``step``."""
        query = request.query_params.multi_items()
        return respond(await _backend(request).list_accounting(query))

    async def list_nodes(self, request: HttpRequest) -> Response:
        """``GET …/nodes``."""
        return respond(await _backend(request).list_nodes())

    async def get_stats(self, request: HttpRequest) -> Response:
        """``GET …/stats``."""
        return respond(await _backend(request).get_stats())

    async def read_metrics(self, request: HttpRequest) -> Response:
        """``GET …/metrics/jobs``: OpenMetrics text."""
        return respond(await _backend(request).read_metrics())

    async def presign_upload(self, request: HttpRequest) -> Response:
        """``POST …/storage/presigned-url``."""
        body = await read_object(request)
        location = body.get("location", "data")
        if location == "shared":
            return refuse(403, "only an administrator may upload to shared")
        try:
            key = key_of(
                str(body.get("filename") or ""), str(location), account_of(request).session.user
            )
            url = self._storage.presign("PUT", key)
        except ValueError as exc:
            return refuse(400, str(exc))
        except StorageError as exc:
            return refuse(503, str(exc))
        return JSONResponse({"upload_url": url, "key": key, "expires_in": EXPIRES_IN})

    async def presign_download(self, request: HttpRequest) -> Response:
        """``POST …/storage/download-url``: ours; the vendor's own is not documented."""
        key = str((await read_object(request)).get("key") or "")
        try:
            check_key(key)
            url = self._storage.presign("GET", key)
        except ValueError as exc:
            return refuse(400, str(exc))
        except StorageError as exc:
            return refuse(503, str(exc))
        return JSONResponse({"download_url": url, "expires_in": EXPIRES_IN})

    async def list_templates(self, _: HttpRequest) -> Response:
        """``GET /v1/templates``."""
        return JSONResponse({"templates": list(self._catalog.schemas.values())})

    async def get_template(self, request: HttpRequest) -> Response:
        """``GET /v1/templates/{template_id}``."""
        template_id = request.path_params["template_id"]
        schema = self._catalog.schemas.get(template_id)
        return (
            JSONResponse(schema) if schema else refuse(404, f'template "{template_id}" not found')
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
        answer = await (await _backend(request).get_job(job_id)).whole()
        records = answer.document().get("jobs") or []
        return HTMLResponse(job_page(job_id, records), 200 if records else 404)

    def _cluster(self) -> dict[str, str]:
        words = {"state": "running", "connection_state": "connected"}
        return {"id": self._cluster_id, "name": "This machine", **words}


def _backend(request: HttpRequest) -> Backend:
    return account_of(request).backend


async def _open_output(request: HttpRequest) -> outputs.Output | None:
    path = await _backend(request).find_output(request.path_params["job_id"])
    return await outputs.open_output(path)
