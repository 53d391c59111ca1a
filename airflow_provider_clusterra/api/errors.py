"""What can go wrong, sorted by whose fault it is and whether trying again can help.

ClusterraError
├── TransportError            no answer: DNS, connect, TLS, timeout, reset
├── ApiError                  the API said no
│   ├── RequestError          4xx: we asked wrongly
│   │   ├── AuthenticationError   401, 403
│   │   ├── NotFoundError         404, or Slurm's 2017
│   │   ├── ConflictError         409
│   │   └── RateLimitedError      429
│   └── ServerError           5xx: they failed
├── ProtocolError             an answer we cannot read
│   └── TooLargeError         longer than what is kept of it
├── InputError                what the author gave cannot work
├── JobFailedError            the job ended badly
└── WaitTimeoutError          the job is still going; our patience ended
"""

from __future__ import annotations

import random
from typing import Any

import msgspec


class ClusterraError(Exception):
    """The root of every error that this package raises on purpose."""


class TransportError(ClusterraError):
    """No answer: DNS, connect, TLS, timeout, or a connection that broke.

    ``may_have_arrived`` is False only if the request surely never left: then, and only then,
    a submit may be sent again without looking for its job first.
    """

    def __init__(self, message: str, *, may_have_arrived: bool = True) -> None:
        super().__init__(message)
        self.may_have_arrived = may_have_arrived


class ApiError(ClusterraError):
    """The API answered, and the answer is no.

    ``status`` is the HTTP status, ``detail`` the API's own words, ``number`` Slurm's error number
    or None, ``request_id`` the API's name for the request or None, ``retry_after`` the seconds
    that the API asks to wait or None, ``in_own_words`` whether Slurm's or the API's own JSON says it,
    and not a gateway.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int,
        detail: str = "",
        number: int | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
        in_own_words: bool = False,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.detail = detail
        self.number = number
        self.request_id = request_id
        self.retry_after = retry_after
        self.in_own_words = in_own_words


class RequestError(ApiError):
    """We asked wrongly (4xx): the same request will be refused again."""


class AuthenticationError(RequestError):
    """The session is not accepted (401), or may not do this (403)."""


class NotFoundError(RequestError):
    """The API does not know it (404), or Slurm does not (2017)."""


class ConflictError(RequestError):
    """Not now, in this state (409)."""


class RateLimitedError(RequestError):
    """Too many requests (429)."""


class ServerError(ApiError):
    """They failed (5xx): trying again later may help."""


class ProtocolError(ClusterraError):
    """An answer that cannot be read: not JSON, a missing field, a wrong type."""


class TooLargeError(ProtocolError):
    """An answer is longer than what is kept of it."""


class InputError(ClusterraError, ValueError):
    """What the author gave cannot work; nothing was sent."""


class JobFailedError(ClusterraError):
    """The job ended badly. ``job`` is the :class:`~airflow_provider_clusterra.api.jobs.Job`."""

    def __init__(self, message: str, job: Any) -> None:
        super().__init__(message)
        self.job = job


class WaitTimeoutError(ClusterraError):
    """The job is still going and our patience ended. ``waited`` is in seconds."""

    def __init__(self, message: str, job: Any, *, waited: float) -> None:
        super().__init__(message)
        self.job = job
        self.waited = waited


HICCUPS = (TransportError, ServerError, RateLimitedError, ProtocolError)
"""What waiting can heal: they never fail a wait."""

LONGEST_RETRY_AFTER = 600.0
"""Seconds. A longer ``Retry-After`` is cut to this."""


class Retry(msgspec.Struct, frozen=True):
    """How often and how long: ``tries`` in all, the pauses doubling from ``first`` to ``cap``."""

    tries: int = 5
    first: float = 0.5
    """Seconds before the second try, before jitter."""
    cap: float = 30.0
    """Seconds that a pause is never longer than, but for a ``Retry-After``."""

    def delay(self, error: ClusterraError, attempt: int, *, repeatable: bool) -> float:
        """Seconds to wait before the next try.

        :param error: what the try ended with.
        :param attempt: which try that was, from 1.
        :param repeatable: whether the request is idempotent.
        :raises ClusterraError: the error itself, if there is to be no next try.
        """
        if attempt >= self.tries or not may_repeat(error, repeatable=repeatable):
            raise error
        asked = asked_pause(error)
        return self.pause(attempt) if asked is None else asked

    def upload_delay(self, error: ClusterraError, attempt: int) -> float:
        """As :meth:`delay`, for a PUT or GET of the storage, whose address may have expired meanwhile.

        :param error: what the try ended with; a :class:`ConflictError` asks for a fresh address.
        :param attempt: which try that was, from 1.
        """
        if isinstance(error, ConflictError) and attempt < self.tries:
            return 0.0 if attempt == 1 else self.pause(attempt)
        return self.delay(error, attempt, repeatable=True)

    def pause(self, attempt: int) -> float:
        """Seconds after a try: half fixed, half by chance.

        :param attempt: which try that was, from 1.
        """
        longest: float = min(self.cap, self.first * 2 ** min(attempt - 1, 30))
        return longest * random.uniform(0.5, 1.0)


ONCE = Retry(tries=1)
"""One try: for a caller that has patience of its own."""
BACKOFF = Retry(first=1.0, cap=30.0)
"""The pauses of such a caller."""
SUBMIT_PAUSES = Retry(first=15.0, cap=300.0)
"""Between two submits to a full queue, for all that wait for one cluster."""


def is_signed_out(error: BaseException) -> bool:
    """Whether the session is not accepted."""
    return isinstance(error, AuthenticationError) and error.status == 401


def asked_pause(error: ClusterraError) -> float | None:
    """Seconds that the API asks to wait, or None."""
    asked = error.retry_after if isinstance(error, ApiError) else None
    return None if asked is None else min(asked, LONGEST_RETRY_AFTER)


def may_repeat(error: ClusterraError, *, repeatable: bool) -> bool:
    """Whether the same request may be sent again after this error.

    429 was not done. What surely never left may be sent again; what may have arrived (5xx, a broken
    connection, half an answer) only if it is idempotent: never a submit, which has no idempotency key.
    Any other answer will be the same again.
    """
    if isinstance(error, RateLimitedError):
        return True
    if isinstance(error, TransportError):
        return repeatable or not error.may_have_arrived
    return repeatable and isinstance(error, ServerError | ProtocolError)
