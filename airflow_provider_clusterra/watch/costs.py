"""Which way of asking is the cheapest: decided by what each took when it was last used."""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum

URL_ROOM = 6000
"""Bytes of a query that every proxy lets through."""
REMEASURE = 900.0
"""Seconds after which a figure is too old, and a way that was refused may be tried again."""
UNMEASURED = 0.05
"""Seconds that a request is thought to take before one was made."""
WORTH_A_LIST = 1.0
"""Seconds of single requests that make a list worth a try."""
FAILURES = 3
"""How often in a row a way may fail alone before it is given a rest."""
NEWEST_SHARE = 0.3


class Way(StrEnum):
    """How jobs are asked for."""

    SINGLE = "one by one"
    STATES = "by jobs/state"
    LIST = "by the list"


class Costs:
    """What each way takes, in seconds a request."""

    def __init__(self) -> None:
        self._took: dict[Way, tuple[float, float]] = {}
        self._rests_until: dict[Way, float] = {}
        self._failures: dict[Way, int] = {}

    def note(self, way: Way, seconds: float, now: float) -> None:
        """A request that was answered.

        :param way: how was asked.
        :param seconds: that it took.
        :param now: seconds since 1970.
        """
        old = self.of(way, now)
        mixed = seconds if old is None else old + NEWEST_SHARE * (seconds - old)
        self._took[way] = (mixed, now)
        self._failures.pop(way, None)

    def note_failure(self, way: Way, now: float) -> None:
        """A request that was not answered well while a single one was.

        :param way: how was asked.
        :param now: seconds since 1970.
        """
        self._failures[way] = self._failures.get(way, 0) + 1
        if self._failures[way] >= FAILURES:
            self.rest(way, now)

    def rest(self, way: Way, now: float) -> None:
        """The API does not offer this way, or not now.

        :param way: how was asked.
        :param now: seconds since 1970.
        """
        self._rests_until[way] = now + REMEASURE
        self._failures.pop(way, None)

    def of(self, way: Way, now: float) -> float | None:
        """Seconds that a request takes, or None where that is not known (any more).

        :param way: how was asked.
        :param now: seconds since 1970.
        """
        seconds, at = self._took.get(way, (0.0, float("-inf")))
        return seconds if now - at < REMEASURE else None

    def way_to_look(self, count: int, now: float) -> Way:
        """How to look at so many jobs of which only a change matters.

        :param count: plain jobs that were seen before.
        :param now: seconds since 1970.
        """
        whole = self.way_to_see(count, now)
        if count < 2 or self._rests(Way.STATES, now):
            return whole
        seconds = self._seconds(whole, count, now)
        return Way.STATES if (self.of(Way.STATES, now) or 0.0) <= seconds else whole

    def way_to_see(self, count: int, now: float) -> Way:
        """How to see so many jobs whole.

        :param count: plain jobs.
        :param now: seconds since 1970.
        """
        singly = self._seconds(Way.SINGLE, count, now)
        if count < 2 or self._rests(Way.LIST, now):
            return Way.SINGLE
        listed = self.of(Way.LIST, now)
        if listed is None:
            return Way.LIST if singly > WORTH_A_LIST else Way.SINGLE
        return Way.LIST if listed < singly else Way.SINGLE

    def _seconds(self, way: Way, count: int, now: float) -> float:
        one = self.of(way, now)
        seconds = UNMEASURED if one is None else one
        return seconds * count if way is Way.SINGLE else seconds

    def _rests(self, way: Way, now: float) -> bool:
        return now < self._rests_until.get(way, float("-inf"))


def fits_a_url(job_ids: Collection[int]) -> bool:
    """Whether a query can name all these jobs.

    :param job_ids: Slurm's numbers.
    """
    if len(job_ids) > URL_ROOM // len("job_id=1&"):
        return False
    return sum(len(f"job_id={job_id}&") for job_id in job_ids) <= URL_ROOM
