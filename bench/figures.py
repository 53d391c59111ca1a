"""What a bench has found, as values: one figure each."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence

import msgspec

OURS = "ours"
RATIO = "times"
"""The unit of a ratio."""
RUNS = 5


class Target(msgspec.Struct, frozen=True):
    """What a figure has to be at most, or at least."""

    limit: float
    at_most: bool = False

    def met_by(self, value: float) -> bool:
        """Whether a value is on the right side.

        :param value: in the figure's unit.
        """
        return value <= self.limit if self.at_most else value >= self.limit

    def __str__(self) -> str:
        return f"{'at most' if self.at_most else 'at least'} {in_words(self.limit)}"


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was measured."""

    name: str
    value: float | None
    """None where there is nothing to measure; the note says why."""
    unit: str = ""
    of: str = OURS
    """Whose figure: ours, or a peer's."""
    at: str = ""
    """Where of many, e.g. ``"1000 jobs"``."""
    target: Target | None = None
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None where there is none."""
        if self.target is None or self.value is None:
            return None
        return self.target.met_by(self.value)

    def __str__(self) -> str:
        place = f" ({self.at})" if self.at else ""
        value = "-" if self.value is None else f"{in_words(self.value)} {self.unit}".strip()
        goal = ""
        if self.target is not None:
            goal = f"   target {self.target}: {'met' if self.met else 'NOT MET'}"
        note = f"   {self.note}" if self.note else ""
        return f"{self.name}{place}, {self.of}: {value}{goal}{note}"


def at_most(limit: float) -> Target:
    """A target that less is better for.

    :param limit: in the figure's unit.
    """
    return Target(limit, at_most=True)


def at_least(limit: float) -> Target:
    """A target that more is better for.

    :param limit: in the figure's unit.
    """
    return Target(limit)


def ratio(name: str, ours: float, theirs: float, of: str, **more: object) -> Figure:
    """Our value by a peer's, both of the same run.

    :param name: what was measured.
    :param ours: our value.
    :param theirs: the peer's.
    :param of: both, e.g. ``"ours / curl -T"``.
    :param more: other fields of the figure.
    """
    return Figure(name=name, value=ours / theirs, unit=RATIO, of=of, **more)  # type: ignore[arg-type]


def median_of(measure: Callable[[], float], runs: int = RUNS) -> float:
    """The median of some runs.

    :param measure: one run's value.
    :param runs: how many.
    """
    return statistics.median(measure() for _ in range(runs))


def medians_of(measures: Sequence[Callable[[], float]], runs: int = RUNS) -> list[float]:
    """The median of each, run in turns, each second time backwards, so that a machine's moods, and what
    one leaves to the next, touch all alike.

    :param measures: one run's value each.
    :param runs: how many of each.
    """
    found: list[list[float]] = [[] for _ in measures]
    for number in range(runs):
        for measure, values in list(zip(measures, found, strict=True))[:: -1 if number % 2 else 1]:
            values.append(measure())
    return [statistics.median(values) for values in found]


def in_words(value: float) -> str:
    """A number with three figures that matter.

    :param value: any.
    """
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 10 else f"{value:.1f}"


def show(figures: Iterable[Figure]) -> None:
    """Print them, ratios first.

    :param figures: in the order in which they were measured.
    """
    for figure in sorted(figures, key=lambda each: each.unit != RATIO):
        print(figure, flush=True)
