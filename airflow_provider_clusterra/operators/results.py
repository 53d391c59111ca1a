"""How a wait ends for the task: a value for XCom, or an error that says why."""

from __future__ import annotations

from typing import Any

import msgspec
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_clusterra.api.client import Client
from airflow_provider_clusterra.api.errors import ClusterraError, InputError, JobFailedError
from airflow_provider_clusterra.api.jobs import Job
from airflow_provider_clusterra.api.readers import Output
from airflow_provider_clusterra.operators.failures import (
    BY_STATE,
    JobError,
    JobLostError,
    JobTimedOutError,
)
from airflow_provider_clusterra.triggers.events import JobEvent

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
    :raises JobTimedOutError: it took too long.
    :raises JobLostError: the cluster no longer knows it.
    :raises AirflowFailException: no retry can help.
    """
    if event.outcome == "refused":
        raise AirflowFailException(event.words)
    if event.outcome == "timed_out":
        raise JobTimedOutError(event.words)
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
    try:
        output = client.read_output(event.cluster_id, event.job_id, keep=16 * 1024)
    except ClusterraError as error:
        return f"\nIts output cannot be read: {error}"
    lines = output.data.decode("utf-8", "replace").rstrip("\n").split("\n")[-TAIL_LINES:]
    text = "\n".join(lines)
    return f"\nThe end of its output:\n{text}" if text.strip() else "\nIt wrote no output."


def _iso(time: Any) -> str | None:
    return time.isoformat() if time else None


def _seconds(begin: Any, end: Any) -> float | None:
    return max(0.0, (end - begin).total_seconds()) if begin and end else None
