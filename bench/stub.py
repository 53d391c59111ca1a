"""APIs with as many jobs as asked for, in a process of its own: ``python -m bench.stub JOBS``.

Clusterra's, and those that the peers' triggers ask, each in its own form. Each answer takes
:data:`DELAY` seconds; a record of Clusterra's has the size that slurmrestd's has. It prints its
address. ``POST /end?count=N`` lets jobs end, the lowest first; ``GET /count`` tells the requests and
the bytes of their answers so far, the seconds that they took, and how many jobs were shown at least once.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bench.process import end_with_the_parent

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
        self._bytes = 0
        self._seconds = 0.0
        self._shown: set[int] = set()
        self._latest = (0.0, 0.0)
        """When the latest request for many jobs, or for a peer's, came; and the seconds of all before."""

    def app(self) -> Starlette:
        """The ASGI application."""
        return Starlette(
            routes=[
                Route(f"{CLUSTER}/jobs/state", self.states),
                Route(f"{CLUSTER}/jobs", self.jobs),
                Route(f"{CLUSTER}/jobs/{{job_id}}", self.job),
                Route("/api/2.2/jobs/runs/get", self.databricks_run),
                Route("/api/v2/accounts/{account_id}/runs/{run_id}/", self.dbt_run),
                Route("/airbyte/jobs/{job_id}", self.airbyte_job),
                Route("/end", self.end, methods=["POST"]),
                Route("/count", self.asked),
            ]
        )

    async def states(self, request: Request) -> Response:
        """Ids and states of the jobs asked for, or of all."""
        begin = time.monotonic()
        named = [int(each) for each in request.query_params.getlist("job_id")]
        ids = named or range(FIRST, FIRST + self._count)
        rows = ",".join(f'{{"job_id":"{each}","state":["{self._state(each)}"]}}' for each in ids)
        return await self._answer("states", ids, f'{{"jobs":[{rows}],"errors":[]}}', begin)

    async def jobs(self, _: Request) -> Response:
        """All jobs, whole."""
        begin = time.monotonic()
        ids = range(FIRST, FIRST + self._count)
        rows = ",".join(map(self._record, ids))
        return await self._answer("list", ids, '{"jobs": [' + rows + '], "errors": []}', begin)

    async def job(self, request: Request) -> Response:
        """One job, whole."""
        job_id = int(request.path_params["job_id"])
        body = '{"jobs": [' + self._record(job_id) + '], "errors": []}'
        return await self._answer("single", [job_id], body)

    async def databricks_run(self, request: Request) -> Response:
        """A run of Databricks' Jobs API 2.2, as ``runs/get`` answers."""
        named = request.query_params.get("run_id") or (await request.json())["run_id"]
        run_id = int(named)
        over = self._is_over(run_id)
        state = {"life_cycle_state": "TERMINATED" if over else "RUNNING", "state_message": ""}
        if over:
            state["result_state"] = "SUCCESS"
        task = {"run_id": run_id + 1, "task_key": "main", "state": state, "attempt_number": 0}
        timing = {"start_time": 1765000000000, "setup_duration": 0, "execution_duration": 0}
        body = {
            "job_id": 11,
            "run_id": run_id,
            "number_in_job": run_id,
            "original_attempt_run_id": run_id,
            "state": state,
            "tasks": [task | timing],
            "cluster_spec": {"existing_cluster_id": "0923-164208-meows279"},
            "creator_user_name": "user@example.com",
            "run_name": "bench",
            "run_page_url": f"https://example.com/?o=1#job/11/run/{run_id}",
            "run_type": "SUBMIT_RUN",
            "format": "MULTI_TASK",
            "status": {"state": "TERMINATED" if over else "RUNNING"},
            **timing,
        }
        return await self._answer("databricks", [run_id], json.dumps(body))

    async def dbt_run(self, request: Request) -> Response:
        """A run of dbt Cloud's API v2."""
        run_id = int(request.path_params["run_id"])
        over = self._is_over(run_id)
        data = {
            "id": run_id,
            "account_id": 1,
            "project_id": 2,
            "job_definition_id": 3,
            "environment_id": 4,
            "status": 10 if over else 3,
            "status_humanized": "Success" if over else "Running",
            "is_complete": over,
            "is_success": over,
            "href": f"https://cloud.getdbt.com/deploy/1/projects/2/runs/{run_id}/",
            "created_at": "2026-01-01 00:00:00.000000+00:00",
            "started_at": "2026-01-01 00:00:10.000000+00:00",
            "git_branch": "main",
            "git_sha": "0" * 40,
        }
        body = {"status": {"code": 200, "is_success": True}, "data": data}
        return await self._answer("dbt", [run_id], json.dumps(body))

    async def airbyte_job(self, request: Request) -> Response:
        """A job of Airbyte's public API."""
        job_id = int(request.path_params["job_id"])
        body = {
            "jobId": job_id,
            "status": "succeeded" if self._is_over(job_id) else "running",
            "jobType": "sync",
            "startTime": "2026-01-01T00:00:00Z",
            "connectionId": "00000000-0000-0000-0000-000000000000",
            "lastUpdatedAt": "2026-01-01T00:00:00Z",
            "bytesSynced": 1,
            "rowsSynced": 1,
        }
        return await self._answer("airbyte", [job_id], json.dumps(body))

    async def end(self, request: Request) -> Response:
        """Let so many more jobs end."""
        self._ended += int(request.query_params["count"])
        return JSONResponse({})

    async def asked(self, _: Request) -> Response:
        """What was asked so far."""
        counts = {"asked": self._asked, "bytes": self._bytes, "shown": len(self._shown)}
        began, before = self._latest
        return JSONResponse({**counts, "began": began, "seconds_before": before})

    async def _answer(
        self, kind: str, ids: Iterable[int], body: str, begin: float | None = None
    ) -> Response:
        begin = time.monotonic() if begin is None else begin
        self._asked[kind] += 1
        if kind != "single":
            self._latest = (begin, self._seconds)
        self._bytes += len(body)
        await asyncio.sleep(DELAY)
        self._seconds += (time.monotonic() - begin) if kind != "single" else 0.0
        self._shown.update(ids)
        return Response(body, media_type="application/json")

    def _is_over(self, job_id: int) -> bool:
        return job_id < FIRST + self._ended

    def _state(self, job_id: int) -> str:
        return "COMPLETED" if self._is_over(job_id) else "RUNNING"

    def _record(self, job_id: int) -> str:
        made = self._running.replace(self._id, f'"job_id": {job_id}', 1)
        return made.replace("RUNNING", "COMPLETED") if self._is_over(job_id) else made


def main() -> None:
    """Serve until the process is ended, or its parent has."""
    end_with_the_parent()
    # with the protocol named, asyncio sends what is written at once
    with socket.socket(proto=socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(socket.SOMAXCONN)
        print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
        config = uvicorn.Config(
            Stub(int(sys.argv[1])).app(),
            log_level="error",
            access_log=False,
            lifespan="off",
            backlog=8192,
            timeout_keep_alive=120,
        )
        uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
