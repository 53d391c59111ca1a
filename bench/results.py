"""bench/RESULTS.md and the plots, from the figures of one run."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from bench.figures import OURS, RATIO, Figure, in_words
from bench.machine import describe
from bench.plots import line_chart

WAITING = "waiting"
PLOTS = {
    "requests": ("Requests while jobs are waited for", "requests a minute"),
    "lag": ("How late the triggerer's event loop is", "event-loop lag p99"),
}
UNITS = {"event-loop lag p99": " in ms"}
HEADINGS = {
    "imports": (
        "Imports",
        (
            "On top of `airflow.sdk`, in a process that is forked for each: median of 7. Of each peer, "
            "the module of the same kind."
        ),
    ),
    "jobs": (
        "Reading a list of jobs",
        (
            "Median of 5, each way in a process of its own; pydantic reads into a model of the same "
            "fields. Memory is what the process grew by while it held the result."
        ),
    ),
    "sbatch": ("Reading `#SBATCH` lines", "Twelve options; median of 5 times 1000 scripts."),
    "sse": ("Server-sent events", "The decoder alone, 100 MB in pieces of 64 KiB; median of 5."),
    "output": (
        "A job's output",
        (
            "500 MB from a server that pours as fast as a socket takes; median of 5, in turns. "
            "By an event loop, as a triggerer reads; and by a thread, as a worker reads a job's "
            "result. `httpx alone` reads the same bytes without code of ours: it is the ceiling of any client "
            "on httpx in an event loop, where what asyncio has read (256 KiB) is cut into pieces of "
            "64 KiB, and the rest copied for each; httpx has no option for it. `curl -N` leaves the stream's framing in; `curl -N | sed` takes it away, as ours "
            "does. The vendor's server streams 8 KiB a second."
        ),
    ),
    "following": (
        "Outputs followed into logs",
        (
            "50 jobs that write 1 MB a second in all for half a minute, then one that writes 100 MB in 10 s; "
            "`clusterra-server`, whose streams bring 8 KiB a second, as the vendor's. Each record is "
            "compared with what was written. One event loop, as a triggerer's."
        ),
    ),
    "upload": (
        "Uploads",
        (
            "To the same `rclone serve s3`; in turns; median of 3 for the large file, of 5 for "
            "the small ones. For these both ask for each address first, and keep their connections: "
            "curl in two processes. The rest of the difference is what httpx takes for a request."
        ),
    ),
    "submit": (
        "Submits",
        "Rates: median of 5. One submit: median of 20, each with a client of its own.",
    ),
    "slurm": (
        "Submits to a real Slurm",
        (
            "One machine with slurmctld, slurmdbd and slurmrestd, as `make test-slurm` sets it up; "
            "held jobs; median of 5, in turns."
        ),
    ),
    "triggerer": (
        "A real triggerer",
        (
            "Airflow's own, on SQLite with all its other parts on this machine; the tasks begin in the "
            "triggerer. The API is the stub; 30 s."
        ),
    ),
    WAITING: (
        "Waiting",
        (
            "Each provider's own trigger, as released, one a job, all in one event loop; a stub of its "
            "API in a process of its own, which takes 50 ms for each answer, and 8 KB for each of our "
            "jobs. All look each 30 s (by default: ours and Databricks 30, the others 60). 60 s: "
            "in the first half the lag is measured, and in the second the CPU, as measuring the one "
            "costs more of the other than waiting does. Of 1000 jobs 20 end, one after the other. "
            "100 and 500: all at the same time; more: one after the other. The lag is what a call "
            "would have waited for, had one come each 5 ms; most of it in the beginning is one run of "
            "Python's garbage collector over all that Airflow has loaded, which new objects bring "
            "about. In the peers' favour: plain http (dbt Cloud's hook knows https only, so the bench "
            "changes that), connections from variables, and no logging."
        ),
    ),
}


class Part(msgspec.Struct, frozen=True):
    """What one part has found."""

    name: str
    figures: list[Figure]
    seconds: float
    failure: str = ""


def write_results(folder: Path, parts: list[Part]) -> None:
    """Write RESULTS.md and its plots.

    :param folder: for both.
    :param parts: of one run.
    """
    waiting = [figure for part in parts if part.name == WAITING for figure in part.figures]
    shown = []
    for name, (title, what) in PLOTS.items():
        lines = dict(_lines(waiting, what))
        if lines:
            words = ("jobs that are waited for", what + UNITS.get(what, ""))
            (folder / f"{name}.svg").write_text(line_chart(title, words, lines))
            shown.append(f"![{title}]({name}.svg)")
    (folder / "RESULTS.md").write_text("\n".join(_report(parts, shown)))


def _lines(figures: list[Figure], what: str) -> Iterator[tuple[str, list[tuple[float, float]]]]:
    chosen = [each for each in figures if each.name == what and each.unit != RATIO]
    for system in dict.fromkeys(each.of for each in chosen):
        yield (
            system,
            [
                (float(each.at.split()[0]), each.value)
                for each in chosen
                if each.of == system and each.value is not None
            ],
        )


def _report(parts: list[Part], plots: list[str]) -> Iterator[str]:
    minutes = sum(part.seconds for part in parts) / 60
    yield "# Results of `make bench`\n"
    yield f"One run, {time.strftime('%Y-%m-%d')}, {minutes:.1f} minutes. Run it again: `make bench`.\n"
    yield from (f"- {line}" for line in describe())
    yield ""
    for part in parts:
        if part.failure:
            yield f"**{part.name} failed**: {part.failure}.\n"
    figures = [figure for part in parts for figure in part.figures]
    yield "## Targets\n"
    yield from _targets(figure for figure in figures if figure.target is not None)
    yield "\n## Ratios\n"
    yield "Both values are of the same run. Above 1, what is named first is faster, or has more.\n"
    yield from _ratios(figure for figure in figures if figure.unit == RATIO)
    yield ""
    yield from plots
    for part in parts:
        if part.figures:
            title, words = HEADINGS[part.name]
            yield f"\n## {title}\n\n{words}\n"
            yield from _table([each for each in part.figures if each.unit != RATIO])
    yield ""


def _targets(figures: Iterable[Figure]) -> Iterator[str]:
    yield "| what | measured | target | |\n|---|--:|--:|---|"
    for each in figures:
        whose = "" if each.of == OURS else f" ({each.of})"
        place = f", {each.at}" if each.at else ""
        met = "met" if each.met else "**not met**"
        yield f"| {each.name}{place}{whose} | {_cell(each)} | {each.target} | {met} |"


def _ratios(figures: Iterable[Figure]) -> Iterator[str]:
    yield "| what | of | ratio |\n|---|---|--:|"
    for each in figures:
        place = f", {each.at}" if each.at else ""
        yield f"| {each.name}{place} | {each.of} | {_cell(each)} |"


def _table(figures: list[Figure]) -> Iterator[str]:
    """A row for each thing, a column for each whose it is."""
    columns = list(dict.fromkeys(each.of for each in figures))
    rows: dict[tuple[str, str], dict[str, Figure]] = {}
    for each in figures:
        rows.setdefault((each.at, each.name), {})[each.of] = each
    yield f"| | | {' | '.join(columns)} |\n|---|---|{'--:|' * len(columns)}"
    for (at, name), cells in rows.items():
        values = [_cell(cells[column]) if column in cells else "" for column in columns]
        yield f"| {at} | {name} | {' | '.join(values)} |"
    notes = [f"{each.at}, {each.of}: {each.note}." for each in figures if each.note]
    if notes:
        yield "\n" + "  \n".join(notes)


def _cell(figure: Figure) -> str:
    return "-" if figure.value is None else f"{in_words(figure.value)} {figure.unit}".strip()
