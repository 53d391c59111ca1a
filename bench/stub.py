"""An API with as many jobs as asked for, in a process of its own: ``python -m bench.stub JOBS``.

Each answer takes :data:`DELAY` seconds; a record has the size that slurmrestd's has. It prints its
address. ``POST /end?count=N`` lets jobs end; ``GET /count`` tells the requests so far, by kind.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections import Counter
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

DELAY = 0.05
SAMPLE = Path(__file__).parent.parent / "tests/samples/26.05-v0.0.44/job_running.json"
FIRST = 10_000
CLUSTER = "/v1/clusters/{cluster_id}"


class Stub:
    """Jobs that run until they are told to end."""

    def __init__(self, count: int) -> None:
        record = json.loads(SAMPLE.read_text())["body"]["jobs"][0]
        self._running = json.dumps(record, indent=2)
        self._id = f'"job_id": {record["job_id"]}'
        self._count = count
        self._ended = 0
        self._asked: Counter[str] = Counter()

    def app(self) -> Starlette:
        """The ASGI application."""
        return Starlette(
            routes=[
                Route(f"{CLUSTER}/jobs/state", self.states),
                Route(f"{CLUSTER}/jobs", self.jobs),
                Route(f"{CLUSTER}/jobs/{{job_id}}", self.job),
                Route("/end", self.end, methods=["POST"]),
                Route("/count", self.asked),
            ]
        )

    async def states(self, request: Request) -> Response:
        """Ids and states of the jobs asked for, or of all."""
        self._note("states")
        await asyncio.sleep(DELAY)
        ids = request.query_params.getlist("job_id") or range(FIRST, FIRST + self._count)
        rows = [{"job_id": str(each), "state": [self._state(int(each))]} for each in ids]
        return _raw(json.dumps({"jobs": rows, "errors": []}))

    async def jobs(self, _: Request) -> Response:
        """All jobs, whole."""
        self._note("list")
        await asyncio.sleep(DELAY)
        rows = [self._record(FIRST + number) for number in range(self._count)]
        return _raw('{"jobs": [' + ",".join(rows) + '], "errors": []}')

    async def job(self, request: Request) -> Response:
        """One job, whole."""
        self._note("single")
        await asyncio.sleep(DELAY)
        record = self._record(int(request.path_params["job_id"]))
        return _raw('{"jobs": [' + record + '], "errors": []}')

    async def end(self, request: Request) -> Response:
        """Let so many more jobs end."""
        self._ended += int(request.query_params["count"])
        return JSONResponse({})

    async def asked(self, _: Request) -> Response:
        """How often each kind was asked for."""
        return JSONResponse(self._asked)

    def _note(self, kind: str) -> None:
        self._asked[kind] += 1

    def _state(self, job_id: int) -> str:
        return "COMPLETED" if job_id < FIRST + self._ended else "RUNNING"

    def _record(self, job_id: int) -> str:
        made = self._running.replace(self._id, f'"job_id": {job_id}', 1)
        return made if self._state(job_id) == "RUNNING" else made.replace("RUNNING", "COMPLETED")


def _raw(text: str) -> Response:
    return Response(text, media_type="application/json")


def main() -> None:
    """Serve until the process is ended."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
        app = Stub(int(sys.argv[1])).app()
        config = uvicorn.Config(app, log_level="error", access_log=False, lifespan="off")
        uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
