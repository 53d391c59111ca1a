"""Answers in slurmrestd v0.0.44's shape."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable
from importlib.resources import files
from signal import Signals
from typing import Any

from clusterra_server import __version__
from clusterra_server.arrays import write_array
from clusterra_server.backend import Answer
from clusterra_server.dependencies import StateOf, write_dependencies
from clusterra_server.environment import NODE
from clusterra_server.jobs import Job

TEMPLATE: dict[str, Any] = json.loads(files(__package__).joinpath("job_record.json").read_text())
"""A pending job's record as slurmrestd 26.05 gave it, with nothing in it: every field is there."""


def envelope(**fields: Any) -> dict[str, Any]:
    """An answer's frame: meta, errors and warnings around the fields."""
    return {
        **fields,
        "meta": {
            "plugin": {
                "type": "openapi/slurmctld",
                "name": "Slurm OpenAPI slurmctld",
                "data_parser": "data_parser/v0.0.44",
                "accounting_storage": "",
            },
            "client": {"source": "clusterra-server", "user": "", "group": ""},
            "command": [],
            "slurm": {
                "version": {"major": "25", "micro": "7", "minor": "11"},
                "release": f"clusterra-server {__version__}",
                "cluster": "local",
            },
        },
        "errors": fields.get("errors", []),
        "warnings": fields.get("warnings", []),
    }


def problem(number: int, error: str, description: str, source: str) -> dict[str, Any]:
    """An error object of slurmrestd."""
    return {
        "description": description,
        "error_number": number,
        "error": error,
        "source": source,
    }


def bad_job_id() -> Answer:
    """The answer to an id that is none."""
    words = "Rejecting request. Failure parsing parameters"
    error = problem(9000, "Query empty or not RFC7320 compliant", words, "op_handler_job")
    return Answer(envelope(errors=[error]), 422)


def bad_time(text: str) -> Answer:
    """The answer to a time that is none.

    :source: slurmrestd v0.0.45, for ``start_time`` of ``GET /slurmdb/v0.0.45/jobs/``.
    """
    words = f"Parsing of {text} for timestamp failed"
    error = problem(9202, "Unable to convert Data type", words, "#/start_time/")
    return Answer(envelope(errors=[error]), 422)


def job_records(jobs: Iterable[Job], state_of: StateOf) -> list[dict[str, Any]]:
    """The records of jobs: an array's pending tasks are one, as Slurm shows them.

    :param state_of: the states of jobs that these may wait for.
    """
    records = []
    waiting: dict[int, list[Job]] = {}
    for job in jobs:
        if job.array_job_id and job.pending:
            waiting.setdefault(job.array_job_id, []).append(job)
        else:
            records.append(job_record(job, state_of))
    for array_job_id, tasks in waiting.items():
        record = job_record(tasks[0], state_of)
        indices = [task.array_task_id for task in tasks]
        record["job_id"] = array_job_id
        record["array_task_id"] = _number(0, is_set=False)
        record["array_task_string"] = write_array(indices, tasks[0].request.at_once)
        records.insert(0, record)
    return records


def job_record(job: Job, state_of: StateOf) -> dict[str, Any]:
    """One job's whole record.

    :param state_of: the states of jobs that it may wait for.
    :source: ``jobs[]`` of ``GET /slurm/v0.0.44/job/{job_id}``.
    """
    request = job.request
    limit = request.time_limit_minutes
    running = job.state == "RUNNING"
    ends = job.started + 60 * (limit or 365 * 24 * 60) if running else job.ended
    output = f"job_{job.job_id}.out"
    record = copy.deepcopy(TEMPLATE)
    record |= {
        "job_id": job.job_id,
        "name": request.name,
        "partition": request.partition,
        "cluster": "local",
        "user_name": "local",
        "job_state": [job.state, "COMPLETING"] if job.completing else [job.state],
        "state_reason": job.reason,
        "exit_code": exit_record(job),
        "submit_time": _number(job.submitted),
        "eligible_time": _number(max(job.submitted, request.begin_time)),
        "start_time": _number(job.started),
        "end_time": _number(ends),
        "time_limit": _number(limit or 0, is_set=limit is not None, infinite=limit is None),
        "nodes": NODE if job.ran else "",
        "batch_host": NODE if job.ran else "",
        "hold": request.hold,
        "priority": _number(0 if request.hold else 1),
        "dependency": write_dependencies(request.dependency, state_of),
        "comment": request.comment,
        "cpus": _number(request.cpus),
        "tasks": _number(request.tasks),
        "memory_per_node": _number(request.memory_mb or 0, is_set=request.memory_mb is not None),
        "memory_per_cpu": _number(
            request.memory_per_cpu_mb or 0, is_set=request.memory_per_cpu_mb is not None
        ),
        "requeue": request.requeue,
        "current_working_directory": request.working_directory,
        "standard_output": "/mnt/efs/job_%j.out",
        "stdout_expanded": f"/mnt/efs/{output}",
        "tres_req_str": f"cpu={request.cpus},node=1",
        "tres_alloc_str": f"cpu={request.cpus},node=1" if job.ran else "",
        "array_job_id": _number(job.array_job_id),
        "array_task_id": _number(max(job.array_task_id, 0), is_set=job.array_task_id >= 0),
        "array_max_tasks": _number(request.at_once),
    }
    return record


def state_records(records: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Ids and states only, of jobs' whole records.

    :source: ``jobs[]`` of ``GET /slurm/v0.0.44/jobs/state/``.
    """
    rows = []
    for record in records:
        job_id, index = str(record["job_id"]), record["array_task_id"]
        if index["set"]:
            # under its own id, not the array's: as a real server was seen to answer
            job_id = f"{job_id}_{index['number']}"
        if record["array_task_string"]:
            job_id = f"{job_id}_[{record['array_task_string']}]"
        rows.append({"job_id": job_id, "state": record["job_state"]})
    return rows


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
    return {
        "job_id": job.job_id,
        "name": job.request.name,
        "partition": job.request.partition,
        "user": "local",
        "cluster": "local",
        "state": {"current": [job.state], "reason": job.reason},
        "time": {
            "submission": int(job.submitted),
            "eligible": int(job.submitted),
            "start": int(job.started),
            "end": 0 if job.active else int(job.ended),
            "elapsed": int(max(0.0, job.ended - job.started)) if job.ended else 0,
            "limit": _number(job.request.time_limit_minutes or 0),
        },
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


def _number(value: float, *, is_set: bool = True, infinite: bool = False) -> dict[str, Any]:
    return {"set": is_set, "infinite": infinite, "number": int(value)}
