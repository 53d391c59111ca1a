"""The api's errors as Airflow's: what a retry can help, and what it cannot."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from airflow_provider_clusterra.api.errors import (
    ClusterraError,
    InputError,
    RateLimitedError,
    RequestError,
)


class JobError(AirflowException):
    """A job ended badly. Its subclasses say how, so that a retry policy can tell them apart."""


class JobOutOfMemoryError(JobError):
    """The job needed more memory than it had asked for."""


class JobTimedOutError(JobError):
    """The job ran into its time limit, its deadline, or our patience."""


class JobCancelledError(JobError):
    """Somebody cancelled the job."""


class JobNodeFailedError(JobError):
    """The job's node failed, or the job was preempted: not the job's fault."""


class JobStuckError(JobError, AirflowFailException):
    """The job would never have started: the same job will not start at a retry either."""


class JobLostError(JobError):
    """The cluster no longer knows the job, so its end cannot be told."""


class SubmitLostError(AirflowException):
    """A submit whose answer was lost, and whose job is not to be found: the next try looks again."""


BY_STATE: dict[str, type[JobError]] = {
    "OUT_OF_MEMORY": JobOutOfMemoryError,
    "TIMEOUT": JobTimedOutError,
    "DEADLINE": JobTimedOutError,
    "CANCELLED": JobCancelledError,
    "NODE_FAIL": JobNodeFailedError,
    "BOOT_FAIL": JobNodeFailedError,
    "PREEMPTED": JobNodeFailedError,
}


@contextmanager
def airflow_errors(clusterra_conn_id: str) -> Iterator[None]:
    """Turn the api's errors into Airflow's: those that no retry can heal fail the task at once.

    :param clusterra_conn_id: named in the words, so that the reader knows what to renew.
    :raises AirflowFailException: bad input, a session that is not accepted, a request refused.
    :raises AirflowException: anything else; Airflow's retries apply.
    """
    try:
        yield
    except ClusterraError as error:
        words = f"{error} (connection {clusterra_conn_id})"
        if isinstance(error, InputError):
            raise AirflowFailException(str(error)) from error
        if isinstance(error, RequestError) and not isinstance(error, RateLimitedError):
            raise AirflowFailException(words) from error
        raise AirflowException(words) from error
