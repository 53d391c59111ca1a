"""Asking for more memory or time after a failure that more can help."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import Any

import msgspec

from airflow_provider_clusterra.api.errors import InputError
from airflow_provider_clusterra.api.fields import MEMORY_FIELDS
from airflow_provider_clusterra.api.numbers import no_val, read_number
from airflow_provider_clusterra.api.units import read_memory_mb, read_time_limit_minutes

PLACES = dict(zip(MEMORY_FIELDS, ("node", "CPU", "GPU"), strict=True))
PER_TRES = re.compile(r"(.*[:=])(\d+)")
"""The form of ``memory_per_tres``, e.g. ``"gres/gpu:4096"``."""


class Growth(msgspec.Struct, frozen=True):
    """How much more a retry asks for, and up to where."""

    memory: float | None = None
    """The factor after OUT_OF_MEMORY; None: no more."""
    time_limit: float | None = None
    """The factor after TIMEOUT; None: no more."""
    max_memory_mb: int | None = None
    """Per node, CPU or GPU, as the job asks for it."""
    max_time_limit_minutes: int | None = None


class Seen(msgspec.Struct, frozen=True):
    """What a failed job had, as Slurm says it: for what nobody asked for, and Slurm gave."""

    states: Collection[str] = ()
    """How it ended; an array's tasks in several ways."""
    memory_mb: int | None = None
    memory_per_cpu: bool = False
    time_limit_minutes: int | None = None


class Step(msgspec.Struct, frozen=True):
    """One thing of which a retry asks for more."""

    field: str
    value: Any
    words: str
    """Both figures."""


def read_growth(
    grow_on_retry: Mapping[str, float] | None,
    max_memory: int | str | None = None,
    max_time_limit: timedelta | float | str | None = None,
) -> Growth:
    """What an author wrote about growth.

    :param grow_on_retry: factors above 1 for ``"memory"`` and ``"time_limit"``.
    :param max_memory: MB as a number, or e.g. ``"64G"``.
    :param max_time_limit: a timedelta, minutes, or e.g. ``"1-12:00:00"``.
    :raises InputError: it is something else.
    """
    factors = dict(grow_on_retry or {})
    for name, factor in factors.items():
        if name not in ("memory", "time_limit"):
            raise InputError(
                f"grow_on_retry holds {name!r}; it can hold 'memory' and 'time_limit'."
            )
        if isinstance(factor, bool) or not isinstance(factor, int | float) or not factor > 1:
            raise InputError(f"grow_on_retry: {name} is {factor!r}; it is a factor above 1.")
    return Growth(
        memory=factors.get("memory"),
        time_limit=factors.get("time_limit"),
        max_memory_mb=None if max_memory is None else read_memory_mb(max_memory),
        max_time_limit_minutes=(
            None if max_time_limit is None else read_time_limit_minutes(max_time_limit)
        ),
    )


def asked_of(job: Mapping[str, Any]) -> dict[str, Any]:
    """The memory and time that a job asks for, as it does.

    :param job: fields of slurmrestd v0.0.44.
    """
    return {name: job[name] for name in (*MEMORY_FIELDS, "time_limit") if name in job}


def grow(asked: Mapping[str, Any], seen: Seen, growth: Growth) -> list[Step]:
    """Of what the next try asks for more; empty where nothing of it helps.

    :param asked: by the last try: :func:`asked_of`.
    :param seen: how that ended.
    :param growth: the author's.
    :raises InputError: it would have to be more than the author allows.
    """
    steps = []
    if growth.memory is not None and "OUT_OF_MEMORY" in seen.states:
        steps.append(_more_memory(asked, seen, growth.memory, growth.max_memory_mb))
    if growth.time_limit is not None and "TIMEOUT" in seen.states:
        steps.append(_more_time(asked, seen, growth.time_limit, growth.max_time_limit_minutes))
    return [step for step in steps if step is not None]


def _more_memory(
    asked: Mapping[str, Any], seen: Seen, factor: float, most: int | None
) -> Step | None:
    by_slurm = "memory_per_cpu" if seen.memory_per_cpu else "memory_per_node"
    field = next((name for name in MEMORY_FIELDS if name in asked), by_slurm)
    value = asked.get(field)
    per_tres = PER_TRES.fullmatch(value) if isinstance(value, str) else None
    before = int(per_tres[2]) if per_tres else read_number(value) or seen.memory_mb
    if not before:
        return None
    more = _larger(before, factor, most)
    place = PLACES[field]
    if more is None:
        raise InputError(
            f"The job ran out of memory with {before} MB a {place}, and max_memory is {most} MB: "
            "it is not submitted again."
        )
    return Step(
        field,
        f"{per_tres[1]}{more}" if per_tres else no_val(more),
        f"{more} MB of memory a {place} instead of {before} MB",
    )


def _more_time(
    asked: Mapping[str, Any], seen: Seen, factor: float, most: int | None
) -> Step | None:
    before = read_number(asked.get("time_limit")) or seen.time_limit_minutes
    if not before:
        return None
    more = _larger(before, factor, most)
    if more is None:
        raise InputError(
            f"The job ran into its time limit of {before} min, and max_time_limit is {most} min: "
            "it is not submitted again."
        )
    return Step("time_limit", no_val(more), f"a time limit of {more} min instead of {before} min")


def _larger(before: int, factor: float, most: int | None) -> int | None:
    """The amount times the factor, at most so much; None where that is not more."""
    more = math.ceil(round(before * factor, 6))
    more = more if most is None else min(more, most)
    return more if more > before else None
