"""Again or not, and after how long.

The rules, in their order:

1. An answer that is not an error is never asked for again.
2. 429 was not done: again, after ``Retry-After`` where it is given.
3. A request that surely never left (DNS, connect, TLS) may be sent again.
4. What else may have arrived (5xx, a broken connection, half an answer) is sent again only where
   doing it twice is doing it once: never a submit, which has no idempotency key.
5. Any other answer will be the same again.
"""

from __future__ import annotations

import random
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import msgspec

from airflow_provider_clusterra.api.errors import (
    ApiError,
    ClusterraError,
    ConflictError,
    ProtocolError,
    RateLimitedError,
    ServerError,
    TransportError,
)

LONGEST_RETRY_AFTER = 600.0
"""Seconds. A server that asks for more is believed so far and no further."""


class Retry(msgspec.Struct, frozen=True):
    """How often and how long: ``tries`` in all, the pauses doubling from ``first`` to ``cap``."""

    tries: int = 5
    first: float = 0.5
    """Seconds before the second try, before jitter."""
    cap: float = 30.0
    """Seconds that a pause is never longer than, but for a ``Retry-After``."""

    def delay(self, error: ClusterraError, attempt: int, *, repeatable: bool) -> float | None:
        """Seconds to wait before the next try, or None where there is to be none.

        :param error: what the try ended with.
        :param attempt: which try that was, from 1.
        :param repeatable: whether doing it twice is doing it once.
        """
        if attempt >= self.tries or not may_repeat(error, repeatable=repeatable):
            return None
        if isinstance(error, ApiError) and error.retry_after is not None:
            return min(error.retry_after, LONGEST_RETRY_AFTER)
        return self.pause(attempt)

    def upload_delay(self, error: ClusterraError, attempt: int) -> float | None:
        """As :meth:`delay`, for a PUT to the storage, whose address may have expired meanwhile.

        :param error: what the PUT ended with; a :class:`ConflictError` asks for a fresh address.
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


def may_repeat(error: ClusterraError, *, repeatable: bool) -> bool:
    """Whether the same request may be sent again after this error: the table above."""
    if isinstance(error, RateLimitedError):
        return True
    if isinstance(error, TransportError):
        return repeatable or not error.may_have_arrived
    return repeatable and isinstance(error, ServerError | ProtocolError)


def read_retry_after(value: str | None, now: datetime | None = None) -> float | None:
    """Seconds to wait, from either form of the header, or None where it says nothing.

    :source: RFC 9110, 10.2.3.
    """
    if not value:
        return None
    if re.fullmatch(r"\s*[0-9]+\s*", value):
        return float(value)
    try:
        when = parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max(0.0, (when - (now or datetime.now(UTC))).total_seconds())
