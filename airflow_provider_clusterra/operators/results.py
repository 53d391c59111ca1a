"""How a wait ends for the task: a value for XCom, or an error that says why."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any

import msgspec
from airflow.providers.common.compat.sdk import AirflowFailException
from msgspec.structs import replace

from airflow_provider_clusterra.api.client import Client
from airflow_provider_clusterra.api.errors import (
    ClusterraError,
    InputError,
    JobFailedError,
    NotFoundError,
    RequestError,
)
from airflow_provider_clusterra.api.jobs import Job
from airflow_provider_clusterra.api.readers import Output
from airflow_provider_clusterra.operators.failures import (
    BY_STATE,
    JobError,
    JobLostError,
    JobStuckError,
    JobTimedOutError,
)
from airflow_provider_clusterra.triggers.events import JobEvent
from airflow_provider_clusterra.watch.arrays import collect_ends, with_ends

log = logging.getLogger(__name__)

RETURN_OUTPUT = (None, "last_line", "json", "text")
LARGEST_TEXT = 64 * 1024
"""Bytes of output that fit into XCom; more is refused with advice."""
TAIL_LINES = 20


def check_return_output(return_output: str | None) -> None:
    """Refuse what is no way of returning output.

    :param return_output: as an author wrote it.
    :raises InputError: it is not one of :data:`RETURN_OUTPUT`.
    """
    if return_output not in RETURN_OUTPUT:
        raise InputError(
            f"return_output is {return_output!r}; it can be 'last_line', 'json', 'text' or None."
        )


def job_result(job: Job, output: Any = None) -> dict[str, Any]:
    """A job's end as XCom holds it: plain JSON values, times in ISO 8601.

    :param job: a job that has ended.
    :param output: what of its output is returned.
    """
    return {
        "job_id": job.job_id,
        "name": job.name,
        "state": job.state.base,
        "exit_code": job.exit.code,
        "signal": job.exit.signal,
        "reason": job.reason,
        "nodes": job.nodes,
        "submitted_at": _iso(job.submitted_at),
        "started_at": _iso(job.started_at),
        "ended_at": _iso(job.ended_at),
        "queued_seconds": _seconds(job.submitted_at, job.started_at),
        "ran_seconds": _seconds(job.started_at, job.ended_at),
        "restarts": job.restarts,
        "output": output,
        "tasks": {
            str(task.array_task_id): {"state": task.state.base, "exit_code": task.exit.code}
            for task in job.tasks
            if task.array_task_id is not None
        },
    }


def finish(event: JobEvent, client: Client, return_output: str | None) -> dict[str, Any]:
    """The value that the task returns, or the error that it fails with.

    :param event: the end of the wait.
    :param client: reads the job's output.
    :param return_output: one of :data:`RETURN_OUTPUT`.
    :raises JobError: the job ended badly; the subclass says how.
    :raises JobTimedOutError: it took too long, or waited for too long, or began too often.
    :raises JobStuckError: it would never have started.
    :raises JobLostError: the cluster no longer knows it.
    :raises AirflowFailException: no retry can help.
    """
    if event.outcome == "refused":
        raise AirflowFailException(event.words)
    if event.outcome in ("timed_out", "overdue"):
        raise JobTimedOutError(event.words)
    if event.outcome == "stuck":
        raise JobStuckError(event.words)
    event = with_tasks(event, client)
    job = event.job
    if event.outcome == "lost" or job is None:
        raise JobLostError(event.words or f"Job {event.job_id} is lost.")
    try:
        job.raise_for_state()
    except JobFailedError as error:
        kind = BY_STATE.get(job.state.base, JobError)
        raise kind(f"{error}{_tail(event, client)}") from error
    if return_output is None:
        return job_result(job)
    output = client.read_output(event.cluster_id, event.job_id)
    return job_result(job, read_result(output, return_output))


def with_tasks(event: JobEvent, client: Client) -> JobEvent:
    """The event with an array's tasks, where there were too many to be told.

    :param event: the end of the wait.
    :param client: asks for them again, and accounting for those that Slurm has forgotten.
    :raises ClusterraError: no answer.
    """
    job = event.job
    if job is None or not job.array_job_id or job.tasks or event.outcome != "ended":
        return event
    shown: list[Job] = []
    try:
        shown += client.list_accounting(event.cluster_id, job_ids=[event.job_id])
    except RequestError as error:
        log.debug("Accounting does not tell of job %s: %s", event.job_id, error)
    with suppress(NotFoundError):
        shown += client.get_job(event.cluster_id, event.job_id).tasks
    ends = collect_ends({}, [task for task in shown if task.array_job_id == event.job_id])
    return replace(event, job=with_ends(job, ends)) if ends else event


def read_result(output: Output, return_output: str) -> Any:
    """What of an output is returned.

    :param output: the end of the job's output.
    :param return_output: ``"last_line"`` (without its line end), ``"json"`` (the last line that is
        a JSON value), or ``"text"``.
    :raises InputError: there is none, or it is too large for XCom.
    """
    text = output.data.decode("utf-8", "replace")
    if return_output == "text":
        if output.skipped or len(output.data) > LARGEST_TEXT:
            size = output.skipped + len(output.data)
            raise InputError(
                f"The job's output has {size} bytes and XCom takes {LARGEST_TEXT}. Let the job "
                "write its result to a file, and return only the file's name."
            )
        return text
    lines = [line for line in text.split("\n") if line.strip()]
    if return_output == "last_line":
        return lines[-1].rstrip("\r") if lines else ""
    for line in reversed(lines):
        try:
            return msgspec.json.decode(line)
        except (msgspec.DecodeError, RecursionError):
            continue
    raise InputError("return_output is 'json', and no line of the job's output is a JSON value.")


def _tail(event: JobEvent, client: Client) -> str:
    tasks = event.job.tasks if event.job else ()
    failed = next((task for task in tasks if not task.state.succeeded), None)
    # an array's own file is its last index's
    job_id = event.job_id if failed is None else failed.job_id
    try:
        output = client.read_output(event.cluster_id, job_id, keep=16 * 1024)
    except ClusterraError as error:
        return f"\nIts output cannot be read: {error}"
    lines = output.data.decode("utf-8", "replace").rstrip("\n").split("\n")[-TAIL_LINES:]
    text = "\n".join(lines)
    return f"\nThe end of its output:\n{text}" if text.strip() else "\nIt wrote no output."


def _iso(time: Any) -> str | None:
    return time.isoformat() if time else None


def _seconds(begin: Any, end: Any) -> float | None:
    return max(0.0, (end - begin).total_seconds()) if begin and end else None
