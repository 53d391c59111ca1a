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
├── InputError                what the author gave cannot work
├── JobFailedError            the job ended badly
└── WaitTimeoutError          the job is still going; our patience ended
"""

from __future__ import annotations

from typing import Any


class ClusterraError(Exception):
    """The root of every error that this package raises on purpose."""


class TransportError(ClusterraError):
    """No answer: DNS, connect, TLS, timeout, or a connection that broke.

    ``may_have_arrived`` is False only where the request surely never left: then, and only then,
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
