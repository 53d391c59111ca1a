"""Line charts as SVG: the axes logarithmic, one line a name."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from xml.sax.saxutils import escape

import msgspec

from bench.figures import in_words

WIDTH, HEIGHT = 720, 420
LEFT, RIGHT, TOP, BOTTOM = 80, 160, 60, 50
COLOURS = ("#0969da", "#bc4c00", "#8250df", "#57606a", "#1a7f37")
FONT = "font-family='system-ui, sans-serif'"
Points = Sequence[tuple[float, float]]
NEAR = 30
MOST_MARKS = 6
"""On the horizontal axis; of more values only the powers of ten are marked."""


class Axis(msgspec.Struct, frozen=True):
    """A logarithmic axis."""

    low: float
    high: float
    begin: float
    """Where :attr:`low` is drawn."""
    end: float

    def at(self, value: float) -> float:
        """Where a value is drawn.

        :param value: above 0.
        """
        share = math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        return self.begin + share * (self.end - self.begin)

    def decades(self) -> Iterator[float]:
        """The powers of ten on it."""
        power = math.floor(math.log10(self.low))
        while 10.0**power <= self.high:
            yield 10.0**power
            power += 1


def line_chart(
    title: str,
    words: tuple[str, str],
    lines: Mapping[str, Points],
    marks: Mapping[tuple[float, float], str] | None = None,
) -> str:
    """The chart's SVG.

    :param title: stands above it.
    :param words: of the horizontal axis and of the vertical one.
    :param lines: each name's points; none of them is empty.
    :param marks: words beside points.
    """
    xs = sorted({x for points in lines.values() for x, _ in points})
    ys = [y for points in lines.values() for _, y in points if y > 0] or [1.0]
    first = 10.0 ** math.floor(math.log10(xs[0]))
    across = Axis(first, max(xs[-1], first * 2), LEFT, WIDTH - RIGHT)
    low = 10.0 ** math.floor(math.log10(min(ys)))
    high = 10.0 ** math.ceil(math.log10(max(ys) * 1.01))
    up = Axis(low, high, HEIGHT - BOTTOM, TOP)
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {HEIGHT}' {FONT}>",
        f"<rect width='{WIDTH}' height='{HEIGHT}' fill='#ffffff'/>",
        _text(LEFT, 26, title, size=16, weight="600"),
        _text(LEFT, 46, f"{words[1]}, by {words[0]}; both axes logarithmic"),
        *_grid(across, up, xs if len(xs) <= MOST_MARKS else _inside(across)),
        *(
            _text(x + 6, y - 7, ", ".join(said), size=11)
            for (x, y), said in _beside(across, up, marks or {}).items()
        ),
    ]
    ends = _apart([up.at(points[-1][1]) for points in lines.values()])
    for colour, end, (name, points) in zip(COLOURS, ends, lines.items(), strict=False):
        parts += _line(across, up, points, colour)
        words_at_end = f"{name} {in_words(points[-1][1])}"
        parts.append(_text(WIDTH - RIGHT + 12, end + 4, words_at_end, fill=colour, weight="600"))
    return "\n".join([*parts, "</svg>", ""])


def _inside(axis: Axis) -> list[float]:
    return [each for each in axis.decades() if axis.low <= each <= axis.high]


def _grid(across: Axis, up: Axis, xs: Iterable[float]) -> Iterator[str]:
    for y in up.decades():
        at = up.at(y)
        yield f"<path d='M{LEFT} {at:.1f}H{WIDTH - RIGHT}' stroke='#d0d7de'/>"
        yield _text(LEFT - 8, at + 4, in_words(y), anchor="end")
    for x in xs:
        yield _text(across.at(x), HEIGHT - BOTTOM + 20, in_words(x), anchor="middle")


def _line(across: Axis, up: Axis, points: Points, colour: str) -> Iterator[str]:
    drawn = [(across.at(x), up.at(y)) for x, y in points]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in drawn)
    yield f"<polyline points='{path}' fill='none' stroke='{colour}' stroke-width='2.5'/>"
    for x, y in drawn:
        yield f"<circle cx='{x:.1f}' cy='{y:.1f}' r='3.5' fill='{colour}'/>"


def _beside(
    across: Axis, up: Axis, marks: Mapping[tuple[float, float], str]
) -> dict[tuple[float, float], list[str]]:
    """Where to write the marks: those that would be written over another stand beside it."""
    placed: dict[tuple[float, float], list[str]] = {}
    for (x, y), mark in marks.items():
        here = (across.at(x), up.at(y))
        near = (
            each
            for each in placed
            if abs(each[0] - here[0]) < NEAR and abs(each[1] - here[1]) < NEAR / 2
        )
        said = placed.setdefault(next(near, here), [])
        if mark not in said:
            said.append(mark)
    return placed


def _apart(places: list[float]) -> list[float]:
    """The places, moved so that no name is written over another."""
    moved = list(places)
    order = sorted(range(len(places)), key=lambda number: places[number])
    for before, after in itertools.pairwise(order):
        moved[after] = max(moved[after], moved[before] + 16)
    return moved


def _text(
    x: float,
    y: float,
    words: str,
    *,
    size: int = 12,
    anchor: str = "start",
    fill: str = "#24292f",
    weight: str = "400",
) -> str:
    return (
        f"<text x='{x:.1f}' y='{y:.1f}' font-size='{size}' text-anchor='{anchor}' "
        f"fill='{fill}' font-weight='{weight}'>{escape(words)}</text>"
    )
