"""Tests of airflow_provider_clusterra.operators.failures: what a retry can help."""

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from airflow_provider_clusterra.api import errors
from airflow_provider_clusterra.operators.failures import airflow_errors


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
