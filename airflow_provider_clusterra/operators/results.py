"""How a wait ends for the task: a value for XCom, or an error that says why."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from airflow.providers.common.compat.sdk import AirflowFailException, Context
from msgspec.structs import replace

from airflow_provider_clusterra.api.client import Client
from airflow_provider_clusterra.api.errors import (
    ClusterraError,
    InputError,
    NotFoundError,
    RequestError,
)
from airflow_provider_clusterra.api.jobs import Job
from airflow_provider_clusterra.operators.arrays import (
    ArraySuccess,
    array_succeeded,
    array_tasks,
    with_earlier,
)
from airflow_provider_clusterra.operators.failures import (
    JobError,
    JobLostError,
    JobOverdueError,
    JobResultError,
    JobStuckError,
    kind_of,
)
from airflow_provider_clusterra.operators.outputs import returned_output
from airflow_provider_clusterra.operators.report import (
    advise,
    asked,
    describe,
    report,
    show_output,
)
from airflow_provider_clusterra.triggers.events import JobEvent
from airflow_provider_clusterra.watch.arrays import collect_ends, with_ends

log = logging.getLogger(__name__)

TAIL_BYTES = 16 * 1024


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
            for task in array_tasks(job)
        },
    }


@contextmanager
def failed_jobs_pushed(context: Context) -> Iterator[None]:
    """Push what became of a job that fails its task as XCom ``job``: the task returns nothing.

    :param context: the task's.
    :raises JobError: the same again.
    """
    try:
        yield
    except JobError as error:
        if error.job is not None:
            context["ti"].xcom_push(key="job", value=job_result(error.job))
        raise


def finish(
    event: JobEvent,
    client: Client,
    return_output: str | None,
    *,
    array_success: ArraySuccess = "all",
    earlier: Iterable[Job] = (),
    more: str = "",
) -> dict[str, Any]:
    """The value that the task returns, or the error that it fails with.

    :param event: the end of the wait.
    :param client: reads the job's output.
    :param return_output: one of :data:`~airflow_provider_clusterra.operators.outputs.RETURN_OUTPUT`.
    :param array_success: when an array has succeeded.
    :param earlier: an array's tasks that succeeded in earlier tries, which did not run again.
    :param more: both figures of what a retry has asked more of, in words.
    :raises JobError: the job ended badly; the subclass says how.
    :raises JobOverdueError: it took too long, or waited for too long, or began too often.
    :raises JobStuckError: it would never have started.
    :raises JobLostError: the cluster no longer knows it.
    :raises JobResultError: it succeeded, and its output cannot be returned.
    :raises AirflowFailException: no retry can help.
    """
    if event.outcome == "refused":
        raise AirflowFailException(event.words)
    if event.outcome in ("timed_out", "overdue"):
        raise JobOverdueError(_overdue(event, client), event.job)
    if event.outcome == "stuck":
        grown = f" This retry asked for more than the last try: {more}." if more else ""
        advice = advise(event.job) if event.job else ""
        raise JobStuckError(f"{event.words}{grown} {advice}".rstrip(), event.job)
    event = with_tasks(event, client, ids=return_output is not None)
    if event.outcome == "lost" or event.job is None:
        job = with_earlier(event.job, earlier) if event.job else None
        raise JobLostError(event.words or f"Job {event.job_id} is lost.", job)
    job = with_earlier(event.job, earlier)
    if not array_succeeded(job, array_success):
        output, unread = _tail(event, client)
        raise kind_of(job, output)(report(job, output, unread), job)
    if not job.state.succeeded:
        log.warning("%s\narray_success=%r makes this a success.", describe(job), array_success)
    return job_result(job, _returned(event.cluster_id, job, client, return_output))


def with_tasks(event: JobEvent, client: Client, *, ids: bool = False) -> JobEvent:
    """The event with an array's tasks, where there were too many to be told.

    :param event: the end of the wait.
    :param client: asks for them again, and accounting for those that Slurm has forgotten.
    :param ids: whether their own job ids are wanted, too.
    :raises ClusterraError: no answer.
    """
    job = event.job
    if job is None or not job.array_job_id or event.outcome != "ended":
        return event
    if job.tasks and not (ids and any(not task.job_id for task in job.tasks)):
        return event
    shown: list[Job] = []
    try:
        shown += client.list_accounting(event.cluster_id, job_ids=[event.job_id])
    except RequestError as error:
        log.debug("Accounting does not tell of job %s: %s", event.job_id, error)
    with suppress(NotFoundError):
        shown += client.get_job(event.cluster_id, event.job_id).tasks
    ends = collect_ends({}, [task for task in shown if task.array_job_id == event.job_id])
    if not ends:
        return event
    if not job.tasks:
        return replace(event, job=with_ends(job, ends))
    tasks = [ends.get(task.array_task_id or 0, task) for task in job.tasks]
    return replace(event, job=replace(job, tasks=tuple(tasks)))


def _returned(cluster_id: str, job: Job, client: Client, return_output: str | None) -> Any:
    if return_output is None:
        return None
    unknown = [task for task in array_tasks(job) if task.state.succeeded and not task.job_id]
    if unknown:
        log.warning("The output of %s tasks is not known to the cluster any more.", len(unknown))
    try:
        return returned_output(client, cluster_id, job, return_output)
    except InputError as error:
        raise JobResultError(f"Job {job.job_id} ended well, but: {error}", job) from error


def _overdue(event: JobEvent, client: Client) -> str:
    job = event.job
    if job is None:
        return event.words
    if job.started_at is None or job.state.base == "PENDING":
        return f"{event.words} {advise(job) if event.outcome == 'overdue' else ''}".rstrip()
    parts = (event.words, asked(job), show_output(*_tail(event, client)))
    return "\n".join(part for part in parts if part)


def _tail(event: JobEvent, client: Client) -> tuple[str, str]:
    """The end of the output, and why it cannot be read where that is so."""
    tasks = event.job.tasks if event.job else ()
    failed = next((task for task in tasks if not task.state.succeeded), None)
    # an array's own file is its last index's
    job_id = (failed.job_id if failed else 0) or event.job_id
    try:
        output = client.read_output(event.cluster_id, job_id, keep=TAIL_BYTES)
    except ClusterraError as error:
        return "", str(error)
    return output.data.decode("utf-8", "replace"), ""


def _iso(time: Any) -> str | None:
    return time.isoformat() if time else None


def _seconds(begin: Any, end: Any) -> float | None:
    return max(0.0, (end - begin).total_seconds()) if begin and end else None
