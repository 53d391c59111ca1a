"""Pages for a person: a job, an array, one's jobs; they show, and change nothing."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from typing import Any
from urllib.parse import urlencode

import anyio.to_thread
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from clusterra_server import __version__, job_view, outputs
from clusterra_server.backend import Backend, OutputError, ReplyError
from clusterra_server.job_view import JobView, RawJob, Search, output_text
from clusterra_server.sign_in import ASSETS, PAGES, account_of

TAIL = 64 * 1024
"""Bytes of an output's end that a page shows."""
REFRESH, REFRESH_LIST = 3, 10
"""Seconds after which a page asks again, as long as something may change."""
SETTLES = 60
"""Seconds for which accounting may lag behind a job's end."""
CELLS, LINES = 500, 100
"""Tasks of an array, and jobs, on one page."""
HOURS = {
    "1": "the last hour",
    "24": "the last day",
    "168": "the last 7 days",
    "720": "the last 30 days",
    "0": "ever",
}
"""What a list goes back to."""
STATES = ("PENDING", "RUNNING", *job_view.ENDED)
FOLDER = files(__package__).joinpath("html")
KINDS = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Tail:
    """The end of a job's output, or why it is not shown."""

    text: str = ""
    size: int = 0
    shown: int = 0
    why_not: str = ""


class Pages:
    """The handlers of the pages, and what a browser sees that is not signed in."""

    def __init__(self, cluster_id: str) -> None:
        self._home = f"{PAGES}{cluster_id}/jobs"
        self._html = Environment(
            loader=PackageLoader(__package__, "html"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            # of text alone: what a macro has made is escaped and clean
            finalize=lambda value: job_view.visible(value) if type(value) is str else value,
        )
        self._html.globals |= {
            "assets": ASSETS,
            "cluster_id": cluster_id,
            "home": self._home,
            "version": __version__,
        }
        self._html.filters |= {
            "bytes": job_view.bytes_text,
            "clock": job_view.clock,
            "duration": job_view.duration,
            "kind": job_view.kind_of,
            "moment": job_view.moment,
        }

    def table(self) -> list[tuple[str, str, Handler]]:
        """Methods, paths and handlers."""
        jobs = PAGES + "{cluster_id}/jobs"
        return [
            ("GET", PAGES, self.go_home),
            ("GET", ASSETS + "{name}", self.read_asset),
            ("GET", jobs, self.list_jobs),
            ("GET", jobs + "/{job_id}", self.show_job),
            ("GET", jobs + "/{job_id}/output", self.read_output),
        ]

    async def go_home(self, _: Request) -> Response:
        """``GET /manage/``."""
        return RedirectResponse(self._home)

    async def read_asset(self, request: Request) -> Response:
        """``GET /manage/static/{name}``: the stylesheet, the script, the icon."""
        name = request.path_params["name"]
        kind = KINDS.get(name.rpartition(".")[2])
        if kind is None or name not in {each.name for each in FOLDER.iterdir()}:
            raise ReplyError(404, "There is no such file.")
        headers = {"Cache-Control": "public, max-age=3600"}
        return Response(FOLDER.joinpath(name).read_bytes(), media_type=kind, headers=headers)

    async def list_jobs(self, request: Request) -> Response:
        """``GET /manage/{cluster_id}/jobs``: one's own, with ``state``, ``name``, ``hours``, ``from``."""
        asked = request.query_params
        hours = asked.get("hours", "")
        hours = hours if hours in HOURS else "168"
        state = asked.get("state", "").upper()
        since = time.time() - 3600 * int(hours) if hours != "0" else 0.0
        search = Search(state if state in STATES else "", asked.get("name", "")[:200], since)
        found = await account_of(request).backend.list_own(search)
        rows = await anyio.to_thread.run_sync(job_view.list_rows, found, search)
        first = _number(asked.get("from", ""))
        fields = {"state": search.state, "name": search.name, "hours": hours}
        return await self._draw(
            "jobs.html",
            now=time.time(),
            rows=rows[first : first + LINES],
            found=len(rows),
            search=search,
            hours=hours,
            choices=HOURS,
            states=STATES,
            refresh=REFRESH_LIST,
            **_turns(first, LINES, len(rows), fields),
        )

    async def show_job(self, request: Request) -> Response:
        """``GET /manage/{cluster_id}/jobs/{job_id}``: a job, a task of an array, or an array."""
        job_id = request.path_params["job_id"]
        backend = account_of(request).backend
        found = job_view.select(await backend.show_job(job_id), job_id)
        if not found:
            raise ReplyError(404, "You have no such job, or it has been forgotten.")
        if len(found) > 1 or found[0].waiting:
            return await self._show_array(request, found)
        return await self._show_one(backend, found[0], is_poll="live" in request.query_params)

    async def _show_one(self, backend: Backend, job: JobView, *, is_poll: bool) -> Response:
        past = None
        # accounting is not asked again and again for what it does not know yet
        if job.is_over or not is_poll:
            past = await _past(backend, job)
        now = time.time()
        may_change = not job.is_over or now - job.ended < SETTLES
        return await self._draw(
            "job.html",
            now=now,
            job=job,
            says=job_view.sentence(job),
            spans=job_view.timeline(job, now),
            receipt=job_view.receipt(job, past, now),
            script=past.script if past and isinstance(past.script, str) else "",
            tail=await _tail(backend, job),
            refresh=REFRESH if may_change else 0,
        )

    async def _show_array(self, request: Request, found: Sequence[JobView]) -> Response:
        tasks = await anyio.to_thread.run_sync(job_view.spread, found)
        counts = job_view.count_states(tasks)
        state = request.query_params.get("state", "")
        shown = [each for each in tasks if state in ("", each.state)]
        first = _number(request.query_params.get("from", ""))
        return await self._draw(
            "array.html",
            now=time.time(),
            job=found[0],
            total=len(tasks),
            counts=counts,
            state=state if state in counts else "",
            tasks=shown[first : first + CELLS],
            found=len(shown),
            refresh=0 if all(each.is_over for each in tasks) else REFRESH_LIST,
            **_turns(first, CELLS, len(shown), {"state": state}),
        )

    async def read_output(self, request: Request) -> Response:
        """``GET /manage/{cluster_id}/jobs/{job_id}/output``: all of it, as text."""
        job_id = request.path_params["job_id"]
        backend = account_of(request).backend
        found = job_view.select(await backend.show_job(job_id), job_id)
        place = await backend.find_output(str(found[0].job_id)) if found else None
        file = await outputs.open_output(place) if place else None
        if file is None:
            raise ReplyError(404, "There is no output, or not yet.")
        headers = {"Content-Disposition": f'inline; filename="job_{found[0].job_id}.txt"'}
        return outputs.Opened(outputs.whole(file), "text/plain", file.close, headers=headers)

    def ask_for_token(self, *, wrong: bool = False) -> Response:
        """A page to sign in with."""
        # whoever is no user does not stay; a form says where it comes from only to its own site
        headers = {"Connection": "close", "Referrer-Policy": "same-origin"}
        return self._show("sign_in.html", 401, headers, wrong=wrong)

    def come_again(self, path: str) -> Response:
        """A page that leads to itself, this time not from another site."""
        return self._show("again.html", path=path)

    def refuse(self, status: int, words: str) -> Response:
        """A page that says why there is none."""
        return self._show("refused.html", status, words=words)

    async def _draw(self, page: str, **values: Any) -> Response:
        """As :meth:`_show`, in a thread: there may be much to show."""
        return await anyio.to_thread.run_sync(partial(self._show, page, **values))

    def _show(
        self, page: str, status: int = 200, headers: dict[str, str] | None = None, **values: Any
    ) -> Response:
        text = self._html.get_template(page).render(**values)
        return HTMLResponse(text.encode("utf-8", "replace"), status, headers)


async def _past(backend: Backend, job: JobView) -> RawJob | None:
    """What accounting says; a page shows a job without it, too."""
    with suppress(ReplyError):
        return await backend.show_past(job)
    return None


async def _tail(backend: Backend, job: JobView) -> Tail:
    if not job.started:
        return Tail(why_not="There is none before the job starts.")
    try:
        file = await outputs.open_output(await backend.find_output(str(job.job_id)))
    except OutputError as exc:
        return Tail(why_not=str(exc))
    if file is None:
        return Tail(why_not="There is none, or not yet.")
    try:
        size = file.size
        piece = await file.read(TAIL, max(0, size - TAIL))
    finally:
        file.close()
    text = await anyio.to_thread.run_sync(lambda: output_text(piece, from_begin=size <= TAIL))
    return Tail(
        text,
        size,
        len(piece),
        "" if size else "It is empty so far." if not job.is_over else "It is empty.",
    )


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 8 else 0


def _turns(first: int, most: int, found: int, fields: dict[str, str]) -> dict[str, Any]:
    """The addresses of the pages before and after one."""

    def address(begin: int) -> str:
        return "?" + urlencode(
            {name: value for name, value in {**fields, "from": begin}.items() if value}
        )

    return {
        "first": first,
        "before": address(max(0, first - most)) if first else "",
        "after": address(first + most) if first + most < found else "",
    }
