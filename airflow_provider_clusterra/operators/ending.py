"""How a try ends: its value or its error, and what the next try must know of it."""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import Context

from airflow_provider_clusterra.api.client import Client
from airflow_provider_clusterra.operators.again import earlier_tasks, kept_after
from airflow_provider_clusterra.operators.arrays import ArraySuccess
from airflow_provider_clusterra.operators.failures import JobError, JobLostError
from airflow_provider_clusterra.operators.records import RecordStore
from airflow_provider_clusterra.operators.results import failed_jobs_pushed, finish
from airflow_provider_clusterra.submit.record import Kept, failure_of
from airflow_provider_clusterra.triggers.events import JobEvent


def end_try(
    context: Context,
    client: Client,
    event: JobEvent,
    return_output: str | None,
    array_success: ArraySuccess,
) -> dict[str, Any]:
    """The value of a try that submitted its job.

    :param context: the task's.
    :param client: reads the job's output.
    :param event: the end of the wait.
    :param return_output: what of the output is returned.
    :param array_success: when an array has succeeded.
    :raises JobError: the job ended badly; the next try knows how, but for a job that is lost.
    """
    store = RecordStore(context)
    record = store.load()
    kept = record.kept if record else Kept()
    try:
        with failed_jobs_pushed(context):
            result = finish(
                event,
                client,
                return_output,
                array_success=array_success,
                earlier=earlier_tasks(kept),
                more=kept.more,
            )
    except JobError as error:
        if not isinstance(error, JobLostError):
            store.save_failure(failure_of(error.job), kept_after(kept, error.job))
        raise
    store.drop()
    return result
