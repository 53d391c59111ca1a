"""Amounts as people write them: memory in MB, time limits in minutes."""

from __future__ import annotations

import math
import re
from datetime import timedelta

from airflow_provider_clusterra.api.errors import InputError

MB_IN = {"": 1.0, "K": 1 / 1024, "M": 1.0, "G": 1024.0, "T": 1024.0 * 1024.0}
MEMORY = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?\s*", re.IGNORECASE)
CLOCK = re.compile(
    r"\s*(?:(?P<days>\d+)-(?P<hours>\d+)(?::(?P<minutes>\d+)(?::(?P<seconds>\d+))?)?"
    r"|(?:(?P<h>\d+):(?=\d+:))?(?P<m>\d+)(?::(?P<s>\d+))?)\s*"
)


def read_memory_mb(value: str | float) -> int:
    """An amount of memory in MB, rounded up.

    :param value: ``4096`` or ``"4096"`` (MB), ``"4G"``, ``"512M"``, ``"1.5T"``.
    :raises InputError: it is none of these, or not positive.
    :source: ``sbatch --mem``; slurmrestd's ``memory_per_node`` is in MB.
    """
    found = MEMORY.fullmatch(str(value))
    megabytes = math.ceil(float(found[1]) * MB_IN[found[2].upper()]) if found else 0
    if megabytes < 1:
        raise InputError(f"memory: {value!r} is no amount. Give MB as a number, or e.g. '4G'.")
    return megabytes


def read_time_limit_minutes(value: str | float | timedelta) -> int:
    """A time limit in minutes, rounded up.

    :param value: a timedelta, minutes, or one of sbatch's six forms: ``"90"``, ``"90:00"``,
        ``"1:30:00"``, ``"1-12"``, ``"1-12:00"``, ``"1-12:00:00"``.
    :raises InputError: it is none of these, or not positive.
    :source: ``sbatch --time``; slurmrestd's ``time_limit`` is in minutes.
    """
    minutes = math.ceil(_seconds(value) / 60)
    if minutes < 1:
        raise InputError(
            f"time_limit: {value!r} is no time. Give a timedelta, minutes, or e.g. '1-12:00:00'."
        )
    return minutes


def _seconds(value: str | float | timedelta) -> float:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, int | float):
        return value * 60
    found = CLOCK.fullmatch(value)
    if not found:
        return 0
    part = {name: int(text) for name, text in found.groupdict(default="0").items()}
    if found["days"] is not None:
        return ((part["days"] * 24 + part["hours"]) * 60 + part["minutes"]) * 60 + part["seconds"]
    return (part["h"] * 60 + part["m"]) * 60 + part["s"]
