"""The HTTP API: routes, sign-in, and answers in slurmrestd v0.0.44's shape."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import anyio.to_thread
import msgspec
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import (
    JSONResponse,
    PlainTextResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from clusterra_server import outputs
from clusterra_server.backend import LOG, Answer, Backend, BrokenOffError, OutputError, ReplyError
from clusterra_server.catalog import Catalog
from clusterra_server.connections import Connections
from clusterra_server.files import Place, Signer, find_files, pieces, read_range, version_of
from clusterra_server.pages import Pages
from clusterra_server.sign_in import FILES, PAGES, Account, SignIn, account_of
from clusterra_server.storage import EXPIRES_IN, SHARED, Storage, StorageError, key_of, may_read

LIMIT = 32 * 1024 * 1024
"""Bytes: a script may have 4 MiB, and six times as many in JSON if it is all escapes."""
COMES_WITHIN = 60.0
"""Seconds for a body."""
LONGEST = 200
"""Characters of an id in a path."""
CLUSTER = "/v1/clusters/{cluster_id}"
Handler = Callable[[Request], Awaitable[Response]]


class BodyError(ReplyError):
    """A body that is not taken."""


async def read_object(request: Request) -> dict[str, Any]:
    """The JSON object that a request brings; empty if it is JSON, but no object.

    :raises BodyError: it is no JSON, does not say so, or is too much.
    :raises RecursionError: it is nested too deeply; whoever writes it again may find so, too.
    """
    text = await _read(request)
    try:
        # strict, unlike the standard library's: what it takes, anybody can be sent
        found = msgspec.json.decode(text)
    except msgspec.DecodeError as exc:
        raise BodyError(400, f"the body cannot be read as JSON: {exc}") from exc
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        # what a page of another site can make a browser send says something else
        raise BodyError(415, 'a body is JSON, and says so: "Content-Type: application/json"')
    return found if isinstance(found, dict) else {}


async def _read(request: Request) -> bytes:
    too_large = BodyError(413, f"a body has {LIMIT // 2**20} MiB at most")
    if int(request.headers.get("content-length", 0)) > LIMIT:
        raise too_large
    text = bytearray()
    try:
        async with asyncio.timeout(COMES_WITHIN):
            async for piece in request.stream():
                text += piece
                if len(text) > LIMIT:
                    raise too_large
    except ClientDisconnect as exc:
        raise BodyError(400, "the body broke off") from exc
    except TimeoutError as exc:
        raise BodyError(408, f"the body did not come within {COMES_WITHIN:.0f} s") from exc
    return bytes(text)


class PassedOn(StreamingResponse):
    """What another server says, as it comes: if that breaks off, so does this."""

    def __init__(self, pieces: AsyncGenerator[bytes, None], status: int, media_type: str) -> None:
        super().__init__(pieces, status, media_type=media_type)
        self._pieces = pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it, and give it up however that ends."""
        async with aclosing(self._pieces):
            await super().__call__(scope, receive, send)

    async def stream_response(self, send: Send) -> None:
        """Send it; without an end if there was none, so that nobody takes a part for it all."""
        try:
            await super().stream_response(send)
        except BrokenOffError as exc:
            LOG.warning("%s", exc)


def respond(answer: Answer) -> Response:
    """An answer as it goes out."""
    if isinstance(answer.body, AsyncGenerator):
        return PassedOn(answer.body, answer.status, answer.media_type)
    if isinstance(answer.body, bytes):
        return Response(answer.body, answer.status, media_type=answer.media_type)
    if isinstance(answer.body, str):
        return PlainTextResponse(answer.body, answer.status)
    return JSONResponse(answer.body, answer.status)


def refuse(status: int, words: str) -> Response:
    """A no of the server's own."""
    # what is left of a body that is too large is not waited for
    headers = {"Connection": "close"} if status in (408, 413) else None
    return JSONResponse({"error": words}, status, headers)


async def refuse_depth(_: Request, __: Exception) -> Response:
    """A no to a body that is nested too deeply to be read, or to be passed on."""
    return refuse(400, "the body cannot be read as JSON: it is nested too deeply")


class Api:
    """The handlers, each named as the action it serves.

    :param accounts: who may ask, at least one.
    """

    def __init__(
        self,
        cluster_id: str,
        accounts: Sequence[Account],
        storage: Storage,
        connections: Connections,
        names: Collection[str] = (),
    ) -> None:
        self._cluster_id = cluster_id
        self._connections = connections
        self._names = names
        self._accounts = accounts
        self._storage = storage
        self._catalog = Catalog()
        self._pages = Pages(cluster_id)
        self._followers = outputs.Followers()
        self._signer = Signer(secrets.token_bytes(32))

    def app(self) -> Starlette:
        """The ASGI application."""
        routes = [
            Route(path, self._of_this_cluster(handler), methods=[method])
            for method, path, handler in self._table()
        ]
        sign_in = Middleware(
            SignIn,
            accounts=self._accounts,
            connections=self._connections,
            names=self._names,
            door=self._pages,
        )
        return Starlette(
            routes=routes,
            middleware=[sign_in],
            exception_handlers={ReplyError: self._refuse, RecursionError: refuse_depth},
        )

    async def _refuse(self, request: Request, error: Exception) -> Response:
        """A no with an error's status and words, for a program or for a person."""
        status = error.status if isinstance(error, ReplyError) else 500
        no = self._pages.refuse if request.url.path.startswith(PAGES) else refuse
        return no(status, str(error))

    def stop(self) -> None:
        """Let the streams end, which would go on for as long as they are read."""
        self._followers.stop()

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
            ("GET", f"{job}/files", self.list_files),
            ("POST", f"{job}/files/download-url", self.presign_file),
            ("GET", FILES, self.read_file),
            ("GET", f"{CLUSTER}/accounting/jobs", self.list_accounting),
            ("GET", f"{CLUSTER}/nodes", self.list_nodes),
            ("GET", f"{CLUSTER}/stats", self.get_stats),
            ("GET", f"{CLUSTER}/metrics/jobs", self.read_metrics),
            ("POST", f"{CLUSTER}/storage/presigned-url", self.presign_upload),
            ("POST", f"{CLUSTER}/storage/download-url", self.presign_download),
            ("GET", "/v1/templates", self.list_templates),
            ("GET", "/v1/templates/{template_id}", self.get_template),
            ("GET", "/v1/api-routes", self.list_routes),
            *self._pages.table(),
        ]

    def _of_this_cluster(self, handler: Handler) -> Handler:
        async def checked(request: Request) -> Response:
            words = [*request.path_params.values(), *request.query_params.values()]
            if any("\0" in each for each in words):
                raise ReplyError(400, "an id holds no NUL")
            if any(len(each) > LONGEST for each in request.path_params.values()):
                raise ReplyError(400, f"an id has at most {LONGEST} characters")
            asked = request.path_params.get("cluster_id", self._cluster_id)
            if asked != self._cluster_id:
                raise ReplyError(404, f"cluster {asked!r} not found")
            response = await handler(request)
            if request.method == "HEAD" and isinstance(response, StreamingResponse):
                # nobody reads it: a file would be read whole, and a stream has no end
                response.body_iterator = _nothing()
            return response

        return checked

    async def get_user(self, request: Request) -> Response:
        """``GET /v1/users/me``."""
        account = account_of(request)
        session, slurms = account.session, account.backend.user
        return JSONResponse({"id": session.user, "email": session.email, "user_name": slurms})

    async def list_clusters(self, request: Request) -> Response:
        """``GET /v1/clusters``."""
        return JSONResponse({"clusters": [self._cluster(request)], "total": 1})

    async def get_cluster(self, request: Request) -> Response:
        """``GET /v1/clusters/{cluster_id}``."""
        return JSONResponse(self._cluster(request))

    async def submit_job(self, request: Request) -> Response:
        """``POST …/jobs/submit`` with a raw script, a template, or a run of one step."""
        body = await read_object(request)
        rendered = self._catalog.render(body, account_of(request).session.email)
        answer = await _backend(request).submit_job(rendered.body if rendered else body)
        _log_submit(account_of(request), answer)
        if rendered is None or not (document := answer.document()):
            return respond(answer)
        return JSONResponse(rendered.answer(document), answer.status)

    async def list_jobs(self, request: Request) -> Response:
        """``GET …/jobs``."""
        return respond(await _backend(request).list_jobs())

    async def list_states(self, request: Request) -> Response:
        """``GET …/jobs/state``: ids and states only; ``job_id`` may be repeated."""
        job_ids = request.query_params.getlist("job_id")
        return respond(await _backend(request).list_states(job_ids))

    async def get_job(self, request: Request) -> Response:
        """``GET …/jobs/{job_id}``."""
        return respond(await _backend(request).get_job(request.path_params["job_id"]))

    async def cancel_job(self, request: Request) -> Response:
        """``DELETE …/jobs/{job_id}``."""
        return respond(await _backend(request).cancel_job(request.path_params["job_id"]))

    async def read_output(self, request: Request) -> Response:
        """``GET …/jobs/{job_id}/output``: the whole file as it is now."""
        file = await _open_output(request)
        if file is None:
            return PlainTextResponse("log not found\n", 404)
        return outputs.Opened(outputs.whole(file), "text/plain", file.close)

    async def stream_output(self, request: Request) -> Response:
        """``GET …/jobs/{job_id}/output/stream``: server-sent events, without an end."""
        leave = self._connections.follow()
        try:
            file = await _open_output(request)
        except BaseException:
            leave()
            raise
        close = [leave, file.close] if file else [leave]
        return outputs.Opened(self._followers.stream(file), "text/event-stream", *close)

    async def list_files(self, request: Request) -> Response:
        """``GET …/jobs/{job_id}/files``: those that match ``pattern``, or all."""
        folder = await _backend(request).find_folder(request.path_params["job_id"])
        pattern = request.query_params.get("pattern", "")
        found = await anyio.to_thread.run_sync(find_files, folder, pattern)
        shown = {"folder": str(folder), "files": found.files, "truncated": found.truncated}
        return JSONResponse(shown)

    async def presign_file(self, request: Request) -> Response:
        """``POST …/jobs/{job_id}/files/download-url``: an address to read one file from."""
        path = str((await read_object(request)).get("path") or "")
        folder = await _backend(request).find_folder(request.path_params["job_id"])
        place = Place.of(folder, path)
        file = await anyio.to_thread.run_sync(place.open, folder.shared)
        size = file.size
        file.close()
        shown = {"path": str(folder.shared / place.name), "size": size, "expires_in": EXPIRES_IN}
        return JSONResponse({"download_url": self._signer.sign(place), **shown})

    async def read_file(self, request: Request) -> Response:
        """``GET /v1/files``: a file at a signed address, or a range of it; no session is needed."""
        place = self._signer.read(dict(request.query_params))
        if place is None:
            return refuse(403, "AccessDenied: this address was not given here, or has expired")
        self._connections.admit(request.scope["client"])
        shared = Path(self._accounts[0].backend.output_folder)
        file = await anyio.to_thread.run_sync(place.open, shared)
        try:
            return _part_of(file, request)
        except BaseException:
            file.close()
            raise

    async def list_accounting(self, request: Request) -> Response:
        """``GET …/accounting/jobs``, by ``job_name`` or by ids in ``step``."""
        query = request.query_params.multi_items()
        return respond(await _backend(request).list_accounting(query))

    async def list_nodes(self, request: Request) -> Response:
        """``GET …/nodes``."""
        return respond(await _backend(request).list_nodes())

    async def get_stats(self, request: Request) -> Response:
        """``GET …/stats``."""
        return respond(await _backend(request).get_stats())

    async def read_metrics(self, request: Request) -> Response:
        """``GET …/metrics/jobs``: OpenMetrics text."""
        return respond(await _backend(request).read_metrics())

    async def presign_upload(self, request: Request) -> Response:
        """``POST …/storage/presigned-url``."""
        body = await read_object(request)
        location = str(body.get("location", "data"))
        account = account_of(request)
        if location == SHARED and not account.is_admin:
            return refuse(403, "only an administrator may upload to shared")
        try:
            key = key_of(str(body.get("filename") or ""), location, account.session.user)
            url = self._storage.presign("PUT", key)
        except ValueError as exc:
            return refuse(400, str(exc))
        except StorageError as exc:
            return refuse(503, str(exc))
        return JSONResponse({"upload_url": url, "key": key, "expires_in": EXPIRES_IN})

    async def presign_download(self, request: Request) -> Response:
        """``POST …/storage/download-url``: ours; the vendor's own is not documented."""
        key = str((await read_object(request)).get("key") or "")
        try:
            if not may_read(key, account_of(request).session.user):
                return refuse(403, f"{key} belongs to another user")
            url = self._storage.presign("GET", key)
        except ValueError as exc:
            return refuse(400, str(exc))
        except StorageError as exc:
            return refuse(503, str(exc))
        return JSONResponse({"download_url": url, "expires_in": EXPIRES_IN})

    async def list_templates(self, _: Request) -> Response:
        """``GET /v1/templates``."""
        return JSONResponse({"templates": list(self._catalog.schemas.values())})

    async def get_template(self, request: Request) -> Response:
        """``GET /v1/templates/{template_id}``."""
        template_id = request.path_params["template_id"]
        schema = self._catalog.schemas.get(template_id)
        return (
            JSONResponse(schema) if schema else refuse(404, f'template "{template_id}" not found')
        )

    async def list_routes(self, _: Request) -> Response:
        """``GET /v1/api-routes``: what there is."""
        rows = [
            {"name": handler.__name__, "method": method, "path": path}
            for method, path, handler in self._table()
            if path.startswith("/v1/")
        ]
        return JSONResponse({"routes": rows})

    def _cluster(self, request: Request) -> dict[str, str]:
        words = {"state": "running", "connection_state": "connected"}
        words["output_folder"] = _backend(request).output_folder
        return {"id": self._cluster_id, "name": "This machine", **words}


async def _nothing() -> AsyncIterator[bytes]:
    for piece in list[bytes]():
        yield piece


def _backend(request: Request) -> Backend:
    return account_of(request).backend


async def _open_output(request: Request) -> outputs.Output | None:
    place = await _backend(request).find_output(request.path_params["job_id"])
    return await outputs.open_output(place)


def _part_of(file: outputs.Output, request: Request) -> Response:
    size, version = file.size, version_of(file)
    asked = request.headers.get("range", "")
    if request.method == "HEAD" or request.headers.get("if-range", version) != version:
        asked = ""
    try:
        part = read_range(asked, size)
    except OutputError as error:
        file.close()
        refusal = refuse(error.status, str(error))
        refusal.headers["Content-Range"] = f"bytes */{size}"
        return refusal
    first, end = part or (0, size)
    headers = {
        "Accept-Ranges": "bytes",
        "Content-Length": str(end - first),
        "ETag": version,
        # a browser that is led here shows nothing of it as the server's own page
        "Content-Disposition": "attachment",
        "X-Content-Type-Options": "nosniff",
    }
    if part:
        headers["Content-Range"] = f"bytes {first}-{end - 1}/{size}"
    return outputs.Opened(
        pieces(file, first, end),
        "application/octet-stream",
        file.close,
        status=206 if part else 200,
        headers=headers,
    )


def _log_submit(account: Account, answer: Answer) -> None:
    said = answer.document()
    user = account.session.user
    if job_id := said.get("job_id"):
        LOG.info("job %s was submitted by %s", job_id, user)
    else:
        words = ", ".join(str(each.get("error")) for each in said.get("errors") or [])
        LOG.info("a submit by %s was refused: %s %s", user, answer.status, words)
