"""How a task fails: a job's bad end as a class of its own, and the api's errors as Airflow's.

AirflowException
└── JobError                   the job ended badly
    ├── JobExitedError         its script ended with an exit code other than 0
    ├── JobKilledError         a signal ended it
    ├── JobNotStartedError     Slurm could not start it                                  (for good)
    ├── JobOutOfMemoryError    it needed more memory than it had asked for
    ├── JobTimedOutError       it ran into its time limit
    │   └── JobOverdueError    our patience ended: timeout, pending_timeout, max_restarts
    ├── JobCancelledError      somebody cancelled it
    ├── JobNodeFailedError     its node failed
    │   └── JobPreemptedError  another job took its place
    ├── JobStuckError          it would never have started                               (for good)
    ├── JobLostError           the cluster no longer knows it
    └── JobResultError         it succeeded, and its output cannot be returned           (for good)

For good: also an AirflowFailException, because no retry heals it. Of all others Airflow's retries and
its retry policies decide.
"""

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
from airflow_provider_clusterra.api.jobs import Job
from airflow_provider_clusterra.operators.report import advise_refusal, failing_part, never_began


class JobError(AirflowException):
    """A job ended badly. Its subclasses say how, so that a retry policy can tell them apart.

    :param message: the whole report.
    :param job: as last seen; None where it never was.
    """

    def __init__(self, message: str = "", job: Job | None = None) -> None:
        super().__init__(message)
        self.job = job


class JobExitedError(JobError):
    """The job's script ended with an exit code other than 0."""


class JobKilledError(JobError):
    """A signal ended the job: a crash, or somebody from outside."""


class JobNotStartedError(JobError, AirflowFailException):
    """Slurm could not start the job's script: its folder or its interpreter is not there."""


class JobOutOfMemoryError(JobError):
    """The job needed more memory than it had asked for."""


class JobTimedOutError(JobError):
    """The job ran into its time limit, its deadline, or our patience."""


class JobOverdueError(JobTimedOutError):
    """Our patience with the job ended: ``timeout``, ``pending_timeout`` or ``max_restarts``."""


class JobCancelledError(JobError):
    """Somebody cancelled the job."""


class JobNodeFailedError(JobError):
    """The job's node failed, or the job was preempted: not the job's fault."""


class JobPreemptedError(JobNodeFailedError):
    """A job with more rights took this one's place."""


class JobStuckError(JobError, AirflowFailException):
    """The job would never have started: the same job will not start at a retry either."""


class JobLostError(JobError):
    """The cluster no longer knows the job, so its end cannot be told."""


class JobResultError(JobError, AirflowFailException):
    """The job succeeded, and its output cannot be returned as it was asked for."""


class SubmitLostError(AirflowException):
    """A submit whose answer was lost, and whose job is not to be found: the next try looks again."""


BY_STATE: dict[str, type[JobError]] = {
    "OUT_OF_MEMORY": JobOutOfMemoryError,
    "TIMEOUT": JobTimedOutError,
    "DEADLINE": JobTimedOutError,
    "CANCELLED": JobCancelledError,
    "NODE_FAIL": JobNodeFailedError,
    "BOOT_FAIL": JobNodeFailedError,
    "PREEMPTED": JobPreemptedError,
}


def kind_of(job: Job, output: str = "") -> type[JobError]:
    """The error that a job's bad end is.

    :param job: that ended badly; of an array its first task that did speaks for all.
    :param output: the end of what it wrote.
    """
    part = failing_part(job)
    if part.state.base != "FAILED":
        return BY_STATE.get(part.state.base, JobError)
    if never_began(part, output):
        return JobNotStartedError
    if part.exit.signal is not None:
        return JobKilledError
    return JobExitedError if part.exit.code else JobError


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
        if isinstance(error, InputError):
            raise AirflowFailException(str(error)) from error
        words = f"{error}{advise_refusal(error)} (connection {clusterra_conn_id})"
        if isinstance(error, RequestError) and not isinstance(error, RateLimitedError):
            raise AirflowFailException(words) from error
        raise AirflowException(words) from error
