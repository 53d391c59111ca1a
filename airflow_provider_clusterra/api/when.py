"""Points in time as ``sbatch`` takes them."""

from __future__ import annotations

import re
from datetime import datetime, time, timedelta

COUNT = re.compile(r"now(?:\s*\+\s*(\d+)\s*(second|minute|hour|day|week)?s?)?", re.IGNORECASE)
CLOCK = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}))?\s*(am|pm)?", re.IGNORECASE)
DATES = ("%Y-%m-%d", "%m%d%y", "%m/%d/%y", "%m.%d.%y")
HOURS = {
    "midnight": time(0),
    "elevenses": time(11),
    "noon": time(12),
    "fika": time(15),
    "teatime": time(16),
}


def read_when(text: str, now: datetime) -> int:
    """A point in time as seconds since 1970.

    :param text: ``now``, ``now+1hour``, ``16:00``, ``noon``, ``tomorrow``, ``2027-01-20``,
        ``2027-01-20T12:34:00``, ``010227`` …
    :param now: an aware datetime in the zone that words and clocks mean.
    :raises ValueError: it is none of these; the words say what to give.
    :source: ``sbatch --begin``.
    """
    value = text.strip()
    counted = COUNT.fullmatch(value)
    if counted:
        unit = (counted[2] or "second").lower() + "s"
        return int((now + timedelta(**{unit: int(counted[1] or 0)})).timestamp())
    found = _read_clock(value, now) or _read_date(value, now)
    if found is None:
        raise ValueError("it takes e.g. now+1hour, 16:00, tomorrow or 2027-01-20T12:34:00")
    return int(found.timestamp())


def _read_clock(value: str, now: datetime) -> datetime | None:
    """The next time that the clock shows this."""
    clock = HOURS.get(value.lower()) or _clock(value)
    if clock is None:
        return None
    when = datetime.combine(now.date(), clock, now.tzinfo)
    return when if when > now else when + timedelta(days=1)


def _read_date(value: str, now: datetime) -> datetime | None:
    days = {"today": 0, "tomorrow": 1}.get(value.lower())
    if days is not None:
        # a day begins at midnight: today has begun
        return datetime.combine(now.date() + timedelta(days=days), time(0), now.tzinfo)
    date, separator, rest = value.partition("T")
    clock = _clock(rest) if separator else time(0)
    if clock is None:
        return None
    for form in DATES:
        try:
            day = datetime.strptime(date, form).date()  # noqa: DTZ007 - the zone is now's
        except ValueError:
            continue
        return datetime.combine(day, clock, now.tzinfo)
    return None


def _clock(value: str) -> time | None:
    found = CLOCK.fullmatch(value)
    if not found:
        return None
    hour = int(found[1])
    if found[4]:
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + (12 if found[4].lower() == "pm" else 0)
    try:
        return time(hour, int(found[2]), int(found[3] or 0))
    except ValueError:
        return None
