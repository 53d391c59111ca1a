"""Tests of airflow_provider_clusterra.task.report: what a retry can help."""

import pickle
import re
from datetime import timedelta

import pytest
from airflow import sdk
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from airflow_provider_clusterra.api import errors
from airflow_provider_clusterra.api.jobs import Job, JobState
from airflow_provider_clusterra.task import report as failures
from airflow_provider_clusterra.task.report import airflow_errors


@pytest.mark.parametrize(
    ("error", "for_good"),
    [
        (errors.InputError("why"), True),
        (errors.AuthenticationError("why", status=401), True),
        (errors.NotFoundError("why", status=404), True),
        (errors.RequestError("why", status=422), True),
        (errors.RateLimitedError("why", status=429), False),
        (errors.ServerError("why", status=503), False),
        (errors.TransportError("why"), False),
        (errors.ProtocolError("why"), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_only_what_a_retry_can_help_is_retried(error, for_good):
    with pytest.raises(AirflowException, match="why") as caught, airflow_errors("conn"):
        raise error

    assert isinstance(caught.value, AirflowFailException) is for_good
    assert caught.value.__cause__ is error


FOR_GOOD = {failures.JobNotStartedError, failures.JobStuckError, failures.JobResultError}
KINDS = [
    value
    for value in vars(failures).values()
    if isinstance(value, type) and issubclass(value, failures.JobError)
]


@pytest.mark.parametrize("kind", KINDS)
def test_a_bad_end_that_no_retry_heals_is_never_retried(kind):
    assert issubclass(kind, AirflowFailException) is (kind in FOR_GOOD)


def test_every_bad_end_is_in_the_drawing():
    drawn = re.findall(r"\bJob\w*Error\b", failures.__doc__)

    assert sorted(drawn) == sorted(kind.__name__ for kind in KINDS)


def test_an_error_and_its_job_come_back_from_another_process():
    error = pickle.loads(  # noqa: S301 - our own
        pickle.dumps(failures.JobTimedOutError("why", Job(7, JobState("TIMEOUT"))))
    )

    assert (str(error), error.job.job_id) == ("why", 7)


@pytest.mark.skipif(not hasattr(sdk, "ExceptionRetryPolicy"), reason="Airflow 3.3 has it")
@pytest.mark.parametrize(
    ("error", "action"),
    [
        (failures.JobOutOfMemoryError("x"), "retry"),
        (failures.JobPreemptedError("x"), "retry"),
        (failures.JobNodeFailedError("x"), "retry"),
        (failures.JobCancelledError("x"), "fail"),
        (failures.JobExitedError("x"), "fail"),
        (failures.JobKilledError("x"), "default"),
        (failures.JobOverdueError("x"), "fail"),
        (failures.JobTimedOutError("x"), "retry"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_airflows_retry_policies_tell_bad_ends_apart(error, action):
    module = failures.__name__
    fail, retry = sdk.RetryAction.FAIL, sdk.RetryAction.RETRY
    policy = sdk.ExceptionRetryPolicy(
        rules=[
            sdk.RetryRule(f"{module}.JobOutOfMemoryError", retry, timedelta(minutes=1)),
            sdk.RetryRule(failures.JobNodeFailedError, retry),
            sdk.RetryRule([failures.JobCancelledError, f"{module}.JobExitedError"], fail),
            sdk.RetryRule(failures.JobOverdueError, fail),
            sdk.RetryRule(failures.JobTimedOutError, retry),
        ]
    )
    read = type(policy).deserialize(policy.serialize())

    assert read.evaluate(error, 1, 3).action.value == action
