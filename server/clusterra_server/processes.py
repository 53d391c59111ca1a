"""The backend that runs scripts as processes of this machine, and answers as slurmrestd would."""

from __future__ import annotations

import asyncio
import json
import os
import re
import time
from collections import Counter
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from importlib.resources import files
from signal import Signals
from typing import Any, NamedTuple

import anyio.to_thread
import msgspec

from clusterra_server.backend import (
    Answer,
    JobFolder,
    OutputError,
    OutputPlace,
    Query,
    bad_job_id,
    envelope,
    job_metrics,
    problem,
)
from clusterra_server.files import folder_of
from clusterra_server.job_view import JobView, RawJob, Search, read_owner
from clusterra_server.jobs import NODE, Job
from clusterra_server.requests import (
    PARTITIONS,
    RefusedError,
    Request,
    StateOf,
    read_dependencies,
    read_request,
    read_warnings,
    refused,
    write_array,
    write_dependencies,
)
from clusterra_server.scheduler import Scheduler

TEMPLATE: dict[str, Any] = json.loads(files(__package__).joinpath("job_record.json").read_text())
"""A pending job's record as slurmrestd 26.05 gave it, with nothing in it: every field is there."""
USER = "local"
"""Whose all jobs are."""

TURN = 0.005
"""Seconds for which a long answer may be made before something else has its turn."""
SETTLED = 50_000
"""Records that are kept at most."""
LISTED = 1_000
"""Submits that a list shows at most: the newest."""
WORDS = {2017: "Invalid job id specified", 2021: "Job/step already completing or completed"}


def bad_time(text: str) -> Answer:
    """The answer to a time that is none.

    :source: slurmrestd v0.0.45, for ``start_time`` of ``GET /slurmdb/v0.0.45/jobs/``.
    """
    words = f"Parsing of {text} for timestamp failed"
    error = problem(9202, "Unable to convert Data type", words, "#/start_time/")
    return Answer(envelope(errors=[error]), 422)


class Row(NamedTuple):
    """What one record shows: a job, or the waiting tasks of an array."""

    job: Job
    waiting: tuple[int, ...] = ()
    """The indices of these."""


def rows_of(jobs: Iterable[Job]) -> list[Row]:
    """The records of jobs: an array's pending tasks are one, as Slurm shows them."""
    rows = []
    waiting: dict[int, list[Job]] = {}
    for job in jobs:
        if job.array_job_id and job.pending:
            waiting.setdefault(job.array_job_id, []).append(job)
        else:
            rows.append(Row(job))
    arrays = [
        Row(tasks[0], tuple(each.array_task_id for each in tasks)) for tasks in waiting.values()
    ]
    return arrays[::-1] + rows


def record_part(row: Row, state_of: StateOf) -> bytes:
    """What a row's record holds besides :data:`SAME`.

    :param state_of: the states of jobs that it may wait for.
    :source: ``jobs[]`` of ``GET /slurm/v0.0.44/job/{job_id}``.
    """
    return msgspec.json.encode(_fields(row, state_of))[1:]


def _fields(row: Row, state_of: StateOf) -> dict[str, Any]:
    job, request = row.job, row.job.request
    index = -1 if row.waiting else job.array_task_id
    limit = request.time_limit_minutes
    running = job.state == "RUNNING"
    ends = job.started + 60 * (limit or 365 * 24 * 60) if running else job.ended
    output = f"job_{job.job_id}.out"
    node = NODE if job.ran else ""
    return {
        "job_id": job.array_job_id if row.waiting else job.job_id,
        "name": request.name,
        "partition": request.partition,
        "cluster": "local",
        "user_name": USER,
        "job_state": states_of(job),
        "state_reason": job.reason,
        "exit_code": exit_record(job),
        "submit_time": _number(job.submitted),
        "eligible_time": _number(max(job.submitted, request.begin_time)),
        "start_time": _number(job.started),
        "end_time": _number(ends),
        "time_limit": _number(limit or 0, is_set=limit is not None, infinite=limit is None),
        "nodes": node,
        "batch_host": node,
        "hold": request.hold,
        "priority": _number(0 if request.hold else 1),
        "dependency": write_dependencies(request.dependency, state_of),
        "comment": request.comment,
        "cpus": _number(request.cpus),
        "tasks": _number(request.tasks),
        "memory_per_node": _optional(request.memory_mb),
        "memory_per_cpu": _optional(request.memory_per_cpu_mb),
        "requeue": request.requeue,
        "current_working_directory": request.working_directory,
        "standard_output": "/mnt/efs/job_%j.out",
        "stdout_expanded": f"/mnt/efs/{output}",
        "tres_req_str": _tres_text(request),
        "tres_alloc_str": _tres_text(request) if job.ran else "",
        "array_job_id": _number(job.array_job_id),
        "array_task_id": _number(max(index, 0), is_set=index >= 0),
        "array_task_string": write_array(row.waiting, request.at_once),
        "array_max_tasks": _number(request.at_once),
        "state_description": job.details,
    }


def state_record(row: Row) -> bytes:
    """A row's id and state only.

    :source: ``jobs[]`` of ``GET /slurm/v0.0.44/jobs/state/``.
    """
    job, job_id = row.job, str(row.job.job_id)
    if row.waiting:
        job_id = f"{job.array_job_id}_[{write_array(row.waiting, job.request.at_once)}]"
    elif job.array_task_id >= 0:
        # under its own id, not the array's: as a real server was seen to answer
        job_id = f"{job_id}_{job.array_task_id}"
    return msgspec.json.encode({"job_id": job_id, "state": states_of(job)})


def states_of(job: Job) -> list[str]:
    """A job's state and flags."""
    return [job.state, "COMPLETING"] if job.completing else [job.state]


def exit_record(job: Job) -> dict[str, Any]:
    """How a job's script ended; success as long as it has not.

    :source: ``exit_code`` of a job's record.
    """
    unset = {"id": _number(0, is_set=False), "name": ""}
    if job.signal and not job.completing:
        try:
            name = Signals(job.signal).name.removeprefix("SIG")
        except ValueError:
            name = str(job.signal)
        return {
            "status": ["SIGNALED"],
            "return_code": _number(0, is_set=False),
            "signal": {"id": _number(job.signal), "name": name},
        }
    status = "ERROR" if job.exit_code else "SUCCESS"
    return {"status": [status], "return_code": _number(job.exit_code), "signal": unset}


def accounting_record(job: Job) -> dict[str, Any]:
    """One job as accounting remembers it.

    :source: ``jobs[]`` of ``GET /slurmdb/v0.0.44/jobs/``.
    """
    eligible = max(job.submitted, job.request.begin_time)
    return {
        "job_id": job.job_id,
        "name": job.request.name,
        "partition": job.request.partition,
        "user": "local",
        "cluster": "local",
        "state": {"current": [job.state], "reason": job.reason},
        "time": {
            "submission": int(job.submitted),
            "eligible": int(eligible),
            "start": int(job.started),
            "end": 0 if job.active else int(job.ended),
            "elapsed": _elapsed(job),
            "limit": _number(job.request.time_limit_minutes or 0),
            "planned": _number(max(0.0, job.started - eligible), is_set=job.ran),
            "suspended": 0,
            **_cpu_time(job),
        },
        "comment": {"administrator": "", "job": job.request.comment, "system": ""},
        "tres": {
            "requested": _tres(job.request),
            "allocated": _tres(job.request) if job.ran else [],
        },
        "steps": [_batch_step(job)] if job.ran else [],
        "array": {
            "job_id": job.array_job_id,
            "task_id": _number(max(job.array_task_id, 0), is_set=job.array_task_id >= 0),
            "task": "",
        },
        "exit_code": exit_record(job),
        "nodes": NODE if job.ran else "None assigned",
        "working_directory": job.request.working_directory,
        "restart_cnt": 0,
    }


def _batch_step(job: Job) -> dict[str, Any]:
    """The script as Slurm's accounting has it: the job's one step.

    :source: ``steps[]``; ``TRESUsageInMax`` and ``TRESUsageInTot`` are ``tres.requested``.
    """
    millis = int(1000 * (job.user_seconds + job.system_seconds))
    used = [_count("cpu", 1, millis), _count("mem", 2, job.peak_memory)] if job.peak_memory else []
    return {
        "step": {"id": f"{job.job_id}.batch", "name": "batch"},
        "state": [job.state],
        "exit_code": exit_record(job),
        "nodes": {"count": 1, "range": NODE, "list": [NODE]},
        "tasks": {"count": 1},
        "time": {
            "start": _number(job.started),
            "end": _number(0 if job.active else job.ended),
            "elapsed": _elapsed(job),
            "suspended": 0,
            **_cpu_time(job),
        },
        "tres": {
            "requested": {"max": used, "min": used, "average": used, "total": used},
            "consumed": {"max": [], "min": [], "average": [], "total": []},
            "allocated": _tres(job.request),
        },
    }


def _elapsed(job: Job) -> int:
    return int(max(0.0, job.ended - job.started)) if job.ended else 0


def _cpu_time(job: Job) -> dict[str, Any]:
    return {
        name: {"seconds": int(seconds), "microseconds": int(seconds % 1 * 1e6)}
        for name, seconds in (
            ("user", job.user_seconds),
            ("system", job.system_seconds),
            ("total", job.user_seconds + job.system_seconds),
        )
    }


def _tres(request: Request) -> list[dict[str, Any]]:
    memory = request.total_memory_mb
    asked = [_count("mem", 2, memory)] if memory else []
    return [_count("cpu", 1, request.cpus), *asked, _count("node", 4, 1)]


def _tres_text(request: Request) -> str:
    units = {"mem": "M"}
    counts = ((each["type"], each["count"]) for each in _tres(request))
    return ",".join(f"{kind}={count}{units.get(kind, '')}" for kind, count in counts)


def _count(kind: str, number: int, count: int) -> dict[str, Any]:
    return {"type": kind, "name": "", "id": number, "count": count}


async def listed(records: Iterable[bytes], turn: float = TURN) -> AsyncGenerator[bytes, None]:
    """An answer with many jobs, in pieces between which others have their turn."""
    pieces, end = [b'{"jobs":['], time.monotonic() + turn
    for number, record in enumerate(records):
        pieces += [b",", record] if number else [record]
        if time.monotonic() > end:
            yield b"".join(pieces)
            await asyncio.sleep(0)
            pieces, end = [], time.monotonic() + turn
    yield b"".join([*pieces, b"],", msgspec.json.encode(envelope())[1:]])


def _number(value: float, *, is_set: bool = True, infinite: bool = False) -> dict[str, Any]:
    return {"set": is_set, "infinite": infinite, "number": int(value)}


def view_of_row(row: Row, state_of: StateOf) -> JobView:
    """A row as the pages show it."""
    job, request = row.job, row.job.request
    asked = {"cpu": str(request.cpus), "node": str(request.nodes)}
    if request.total_memory_mb:
        asked["mem"] = f"{request.total_memory_mb}M"
    variables = dict(each.partition("=")[::2] for each in request.environment)
    return JobView(
        job_id=job.array_job_id if row.waiting else job.job_id,
        name=request.name,
        user=USER,
        partition=request.partition,
        nodes=NODE if job.ran else "",
        states=tuple(states_of(job)),
        reason=job.reason,
        details=job.details,
        exit_code=job.exit_code,
        signal=exit_record(job)["signal"]["name"],
        comment=request.comment,
        dependency=write_dependencies(request.dependency, state_of),
        submitted=job.submitted,
        eligible=max(job.submitted, request.begin_time),
        started=job.started if job.ran else 0,
        ended=job.ended,
        limit_minutes=request.time_limit_minutes or 0,
        array_id=job.array_job_id,
        task=-1 if row.waiting else job.array_task_id,
        waiting=row.waiting,
        asked=asked,
        folder=request.working_directory,
        owner=read_owner(request.comment, request.name, variables),
    )


def _optional(value: int | None) -> dict[str, Any]:
    return _number(value or 0, is_set=value is not None)


class JobId(NamedTuple):
    """A job's id as a path holds it."""

    number: int
    task: int | None
    """An array's index, in ``12_3``."""


def read_job_id(text: str) -> JobId | None:
    """A job's id, ``"12"`` or ``"12_3"``; None if it is neither."""
    found = re.fullmatch(r"([0-9]{1,10})(?:_([0-9]{1,10}))?", text)
    return JobId(int(found[1]), int(found[2]) if found[2] else None) if found else None


EMPTY = {"script": "#!/bin/sh", "job": {"environment": ["A=1"], "current_working_directory": "/"}}
CHANGING = _fields(Row(Job(0, read_request(EMPTY, 0), 0.0)), lambda _: None)
SAME = msgspec.json.encode({k: v for k, v in TEMPLATE.items() if k not in CHANGING})[:-1] + b","
"""The part of a record that all have in common."""


class Processes:
    """Answers in slurmrestd v0.0.44's shape for what a :class:`Scheduler` does."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._settled: dict[tuple[int, int], bytes] = {}
        """The records of jobs that have ended, which change no more."""
        self._memory_mb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20

    @property
    def user(self) -> str:
        """The jobs' ``user_name``."""
        return USER

    @property
    def output_folder(self) -> str:
        """Where what a process prints is kept."""
        return str(self._scheduler.outputs)

    async def find_output(self, job_id: str) -> OutputPlace:
        """Where a job's output is, which need not be there yet.

        :raises OutputError: the id is none.
        """
        if read_job_id(job_id) is None:
            raise OutputError(400, "invalid job id")
        return OutputPlace(self._scheduler.outputs, [f"job_{job_id}.out"])

    async def find_folder(self, job_id: str) -> JobFolder:
        """Where a job's files are, as long as the ledger knows it.

        :raises OutputError: there is no such job, or it runs elsewhere.
        """
        jobs = self._known(job_id)
        if not jobs:
            raise OutputError(404, f"there is no job {job_id}")
        folder = str(self._scheduler.place(jobs[0].request.working_directory))
        return folder_of(self._scheduler.outputs, folder)

    async def show_job(self, job_id: str) -> list[JobView]:
        """A job, or an array's tasks, as long as the ledger knows it."""
        return await anyio.to_thread.run_sync(self._views, [self._known(job_id)])

    async def show_past(self, job: JobView) -> RawJob | None:
        """What accounting has of a job, and its script."""
        found = [
            each for each in self._scheduler.find_jobs(job.job_id) if each.array_task_id == job.task
        ]
        if not found:
            return None
        script = found[0].request.script
        return msgspec.convert({**accounting_record(found[0]), "script": script}, RawJob)

    async def list_own(self, search: Search) -> list[JobView]:
        """All jobs that are looked for."""
        submits = self._scheduler.all_submits()
        return await anyio.to_thread.run_sync(self._search, submits, search)

    def _search(self, submits: list[list[Job]], search: Search) -> list[JobView]:
        found = [
            jobs
            for jobs in submits
            if search.finds({job.state for job in jobs}, jobs[0].request.name, jobs[0].submitted)
        ]
        return self._views(found[-LISTED:])

    def _views(self, submits: Iterable[list[Job]]) -> list[JobView]:
        """Each submit's jobs as the pages show them, made in a thread: there may be many."""
        state_of = self._scheduler.state_of
        return [view_of_row(row, state_of) for jobs in submits for row in rows_of(jobs)]

    async def submit_job(self, body: Mapping[str, Any]) -> Answer:
        """Take a raw submit, ``{"script": str, "job": {…}}``."""
        try:
            request = read_request(body, self._memory_mb)
            self._check_dependency(request.dependency)
        except RefusedError as exc:
            return Answer(envelope(errors=[exc.error]), exc.status)
        job = self._scheduler.submit_job(request)[0]
        warnings = read_warnings(body["job"])
        if request.larger_than(self._scheduler.cpus):
            text = "Requested partition configuration not available now"
            warnings.append({"description": text, "source": "slurm_submit_batch_job()"})
        fields = {"job_id": job.key[0], "step_id": "batch", "job_submit_user_msg": ""}
        return Answer(envelope(**fields, warnings=warnings))

    def _check_dependency(self, text: str) -> None:
        """Refuse to wait for a job that is forgotten: slurmctld does not ask accounting, either."""
        for each in read_dependencies(text):
            if not self._scheduler.get_job(int(each.job_id.partition("_")[0])):
                raise refused(2038, "Job dependency problem")

    async def list_jobs(self) -> Answer:
        """All jobs that are remembered."""
        return self._show(self._scheduler.list_jobs())

    async def list_states(self, job_ids: Sequence[str]) -> Answer:
        """Ids and states of these jobs, or of all."""
        if not job_ids:
            return Answer(listed(map(state_record, rows_of(self._scheduler.list_jobs()))))
        asked = filter(None, map(read_job_id, job_ids))
        found = {job.key: job for each in asked for job in self._find(each)}
        return Answer(listed(map(state_record, rows_of(found.values()))))

    async def get_job(self, job_id: str) -> Answer:
        """One job, or all tasks of an array: all of them for one task's id, too, as Slurm does."""
        asked = read_job_id(job_id)
        if asked is None:
            return bad_job_id()
        if self._find(asked):
            return self._show(self._scheduler.get_job(asked.number))
        words = f"Unable to query JobId={job_id}"
        error = problem(2017, WORDS[2017], words, "_handle_job_get")
        return Answer(envelope(jobs=[], errors=[error]), 404)

    async def cancel_job(self, job_id: str) -> Answer:
        """Cancel: 200 whatever happens; ``status[].error`` says whether it was cancelled."""
        asked = read_job_id(job_id)
        if asked is None:
            return bad_job_id()
        found = self._find(asked)
        if any(job.active for job in found):
            self._scheduler.cancel_jobs(found)
            return Answer(envelope(status=[]))
        code = 2021 if found else 2017
        words = WORDS[code]
        known = {"set": bool(found), "infinite": False, "number": asked.number if found else 0}
        entry = {
            "error": {"string": words, "code": code, "message": words},
            "step_id": job_id,
            "job_id": known,
            "federation": {"sibling": ""},
        }
        return Answer(envelope(status=[entry]))

    async def list_accounting(self, query: Query) -> Answer:
        """Jobs that there ever were, by ``job_name`` or ``step``: lists with commas.

        :param query: also with ``start_time`` and ``end_time``, in seconds since 1970.
        """
        asked = dict(query)
        names = set(filter(None, asked.get("job_name", "").split(",")))
        times = [asked.get("start_time") or "0", asked.get("end_time") or str(2**63)]
        for each in times:
            if not re.fullmatch("[0-9]{1,20}", each):
                return bad_time(each)
        start, end = map(int, times)
        return Answer(
            listed(
                msgspec.json.encode(accounting_record(job))
                for job in self._by_steps(query)
                if (not names or job.request.name in names)
                and job.submitted < end
                and job.remembered_since(start)
            )
        )

    def _by_steps(self, query: Query) -> Iterable[Job]:
        """The jobs of some ids, ``step=1&step=2``, each once; all if there is none."""
        steps = ",".join(value for name, value in query if name == "step")
        ids = set(filter(None, steps.split(",")))
        if not ids:
            return self._scheduler.all_jobs()
        found = {
            job.key: job
            for asked in filter(None, map(read_job_id, ids))
            for job in self._scheduler.find_jobs(asked.number)
            if asked.task in (None, job.array_task_id)
        }
        return found.values()

    async def list_nodes(self) -> Answer:
        """This machine."""
        cpus, busy = self._scheduler.cpus, self._scheduler.busy_cpus
        node = {
            "name": NODE,
            "state": ["MIXED" if 0 < busy < cpus else "ALLOCATED" if busy else "IDLE"],
            "cpus": cpus,
            "alloc_cpus": busy,
            "alloc_idle_cpus": cpus - busy,
            "real_memory": self._memory_mb,
            "partitions": list(PARTITIONS),
        }
        return Answer(envelope(nodes=[node]))

    async def get_stats(self) -> Answer:
        """How many jobs there are in which state."""
        counts = Counter(job.state for job in self._scheduler.list_jobs())
        return Answer(
            envelope(
                statistics={
                    "jobs_submitted": len(self._scheduler.all_jobs()),
                    "jobs_pending": counts["PENDING"],
                    "jobs_running": counts["RUNNING"],
                    "jobs_completed": counts["COMPLETED"],
                    "jobs_canceled": counts["CANCELLED"],
                    "jobs_failed": counts["FAILED"],
                }
            )
        )

    async def read_metrics(self) -> Answer:
        """OpenMetrics text."""
        return Answer(job_metrics(job.state for job in self._scheduler.list_jobs()))

    def _known(self, job_id: str) -> list[Job]:
        """A job, or all tasks of an array, as long as the ledger knows it; empty if there is none."""
        asked = read_job_id(job_id)
        return self._scheduler.find_jobs(asked.number) if asked else []

    def _find(self, asked: JobId) -> list[Job]:
        jobs = self._scheduler.get_job(asked.number)
        return [job for job in jobs if asked.task in (None, job.array_task_id)]

    def _show(self, jobs: list[Job]) -> Answer:
        return Answer(listed(map(self._record, rows_of(jobs))))

    def _record(self, row: Row) -> bytes:
        job, state_of = row.job, self._scheduler.state_of
        if job.active or job.completing:
            return SAME + record_part(row, state_of)
        if job.key not in self._settled:
            if len(self._settled) > SETTLED:
                self._settled.clear()
            self._settled[job.key] = record_part(row, state_of)
        return SAME + self._settled[job.key]
