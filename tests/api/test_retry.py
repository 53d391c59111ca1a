"""Tests of airflow_provider_clusterra.api.errors: the table of its docstring."""

from datetime import UTC, datetime

import pytest

from airflow_provider_clusterra.api.answers import read_retry_after
from airflow_provider_clusterra.api.errors import (
    ONCE,
    AuthenticationError,
    ConflictError,
    NotFoundError,
    ProtocolError,
    RateLimitedError,
    RequestError,
    Retry,
    ServerError,
    TransportError,
    may_repeat,
)


def refused(kind, status, **facts):
    return kind("no", status=status, **facts)


NEVER_LEFT = TransportError("no", may_have_arrived=False)
LOST = TransportError("no")


@pytest.mark.parametrize(
    ("error", "repeatable", "submit"),
    [
        (refused(RateLimitedError, 429), True, True),
        (NEVER_LEFT, True, True),
        (LOST, True, False),
        (refused(ServerError, 500), True, False),
        (refused(ServerError, 502), True, False),
        (refused(ServerError, 503), True, False),
        (refused(ServerError, 504), True, False),
        (refused(ServerError, 511), True, False),
        (ProtocolError("half an answer"), True, False),
        (refused(RequestError, 400), False, False),
        (refused(RequestError, 422, number=2000), False, False),
        (refused(AuthenticationError, 401), False, False),
        (refused(NotFoundError, 404), False, False),
        (refused(ConflictError, 409), False, False),
    ],
)
def test_the_table(error, repeatable, submit):
    assert may_repeat(error, repeatable=True) is repeatable
    assert may_repeat(error, repeatable=False) is submit


def test_the_pauses_grow_to_the_cap_and_are_never_all_the_same():
    retry = Retry(tries=100, first=1.0, cap=8.0)
    for attempt, longest in [(1, 1), (2, 2), (3, 4), (4, 8), (5, 8), (50, 8)]:
        pauses = {retry.delay(LOST, attempt, repeatable=True) for _ in range(20)}
        assert all(longest / 2 <= pause <= longest for pause in pauses)
        assert len(pauses) > 1


def test_the_tries_end():
    retry = Retry(tries=3)

    assert retry.delay(LOST, 2, repeatable=True) is not None
    for patience, attempt in ((retry, 3), (ONCE, 1)):
        with pytest.raises(TransportError) as raised:
            patience.delay(LOST, attempt, repeatable=True)
        assert raised.value is LOST


def test_the_api_says_how_long_to_wait_within_reason():
    retry = Retry()

    assert retry.delay(refused(RateLimitedError, 429, retry_after=7.0), 1, repeatable=False) == 7
    assert retry.delay(refused(ServerError, 503, retry_after=7.0), 1, repeatable=True) == 7
    assert retry.delay(refused(ServerError, 503, retry_after=9e9), 1, repeatable=True) == 600


def test_an_upload_asks_for_a_fresh_address_at_once():
    assert Retry().upload_delay(refused(ConflictError, 403), 1) == 0
    assert Retry().upload_delay(LOST, 1) is not None
    with pytest.raises(RequestError):
        Retry().upload_delay(refused(RequestError, 400), 1)
    with pytest.raises(ConflictError):
        ONCE.upload_delay(refused(ConflictError, 403), 1)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120.0),
        ("0", 0.0),
        ("Wed, 21 Oct 2026 07:28:00 GMT", 60.0),
        ("Wed, 21 Oct 2026 07:20:00 GMT", 0.0),
        ("Wed, 21 Oct 2026 07:28:00 -0000", 60.0),
        ("soon", None),
        ("-1", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after_is_read_in_both_forms(value, seconds):
    now = datetime(2026, 10, 21, 7, 27, tzinfo=UTC)

    assert read_retry_after(value, now) == seconds
