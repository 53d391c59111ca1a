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
SEEN, ASKED = "a job's end told after, median", "requests a minute"
HEADINGS = {
    "dags": (
        "Reading a DAG",
        (
            "500 tasks, built and serialized; seconds of CPU, median of 7, in turns. A submit has 37 "
            "templated fields and BashOperator 3, which Airflow serializes by name for each task."
        ),
    ),
    "imports": (
        "Imports",
        (
            "On top of `airflow.sdk`, in a process that is forked for each: median of 5. Of each peer, "
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
            "250 MB from a server that pours as fast as a socket takes; median of 5, in turns. "
            "By an event loop, as a triggerer reads; and by a thread, as a worker reads a job's "
            "result. `httpx alone` reads the same bytes without code of ours: it is the ceiling of any client "
            "on httpx in an event loop, where what asyncio has read (256 KiB) is cut into pieces of "
            "64 KiB, and the rest copied for each; httpx has no option for it. Freed memory stays with the process, which "
            "otherwise decides more than either. `curl -N` leaves the stream's framing in; `curl -N | sed` takes it away, as ours "
            "does. The vendor's server streams 8 KiB a second."
        ),
    ),
    "following": (
        "Outputs followed into logs",
        (
            "50 jobs that write 1 MB a second in all for 20 s, then one that writes 100 MB in 10 s; "
            "`clusterra-server`, whose streams bring 8 KiB a second, as the vendor's. Each record is "
            "compared with what was written. One event loop, as a triggerer's."
        ),
    ),
    "upload": (
        "Uploads",
        (
            "To the same `rclone serve s3`; in turns; median of 5, for the large file after one that is not counted. "
            "For the small ones both ask for each address first, and keep their connections: "
            "curl in two processes. The rest of the difference is what httpx takes for a request."
        ),
    ),
    "download": (
        "Downloads",
        (
            "A job's file from `clusterra-server` to a new file on the same disk, in turns, the second of each "
            "pair first in the next; median of 7 after one that is not counted, in which a virtual machine is "
            "given the memory that both write to. Ours has its checksum, too."
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
            "held jobs; median of 5, in turns. Both have their clients' TLS settings before."
        ),
    ),
    "triggerer": (
        "A real triggerer",
        (
            "Airflow's own, on SQLite with all its other parts on this machine; the tasks begin in the "
            "triggerer. The API is the stub; 30 s, in which 20 jobs end. A task is resumed by the scheduler, "
            "and its worker is a process that starts."
        ),
    ),
    WAITING: (
        "Waiting",
        (
            "Each provider's own trigger, as released, one a job, all in one event loop; a stub of its "
            "API in a process of its own, which takes 50 ms for each answer, and 8 KB for each of our "
            "jobs. The peers look each 30 s (by default: Databricks 30, the others 60), ours at its own pace. 60 s: "
            "in the first half the lag is measured, and in the second the CPU, as measuring the one "
            "costs more of the other than waiting does. 20 jobs end, one after the other (of fewer, half), and "
            "each is one request more of ours; the server's time is that of all others. 1, 10 and 100: "
            "all at the same time; more: a peer's with 1000 beside one of ours, which begin together and are measured "
            "once both have settled, and each of the others alone. The lag is what a call "
            "would have waited for, had one come each 5 ms; most of it in the beginning is one run of "
            "Python's garbage collector over all that Airflow has loaded, which new objects bring "
            "about; all systems run it once more before the measured time, since it is chance on which side of "
            "its beginning the last one falls. What made our looks few and our jobs small: states "
            "instead of the list for those that begin to wait or join, pauses by what each look took without what our own "
            "loop stood still for, no queue for each wait, values that the collector does not look at, states that are "
            "read 500 rows at a time, and a pause that no job ends that can wait for the next look. In the peers' favour: plain http (dbt Cloud's hook knows https only, so the bench "
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


STREAM = (
    "A stream of output: to take `data: ` from each line of 80 bytes is work that httpx alone does not do, and "
    "Python's bytes do it at 0.6 GB/s: finding where events end is a third of that, splitting at the lines' "
    "beginnings a half. What helped: two copies fewer (5 %). Tried and no faster: `replace`, `re.sub`, `removeprefix` mapped over split lines, one "
    "`split` and `join` of everything (0.7 GB/s, and loses where events end). A read takes all that asyncio has "
    "now, which makes what lies below it half as dear (the snapshot's 1.5 shows it), and what came together is "
    "one piece. `curl -N | sed` is no faster than ours. The vendor's stream brings 8 KiB a second; one that "
    "brings more is read by its snapshot as well."
)
SMALL_FILES = (
    "Many small files: a file is two requests, which take 1.5 ms of CPU here (httpx and httpcore 1.2, ours "
    "0.15, its log line 0.1), 0.5 in clusterra-server and 0.9 in rclone, so two cores need 1.45 ms for "
    "each although none is ever idle; curl takes 0.45. Tried: an event loop (2.1 ms of CPU with 4 in flight, "
    "3.5 with 16), 2 or 4 threads instead of 8, and a switch of threads each 0.5 ms instead of 5 (no faster). Sending "
    "to the storage by a transport alone saved 0.1 ms; reading an address takes 0.03 ms. The API gives "
    "one address at a time."
)
SUBMIT = (
    "One submit: the client alone takes 1.0 ms of CPU, the operator 1.9 ms, and both wait alike for the "
    "server: 1.55 to 1.7 on a quiet machine. Half of the difference is Airflow's: 0.33 ms to find the "
    "connection, 0.13 ms to format one log line. Ours is 0.1 ms to check the connection's fields, 0.2 ms to "
    "read arguments and script and to build the body, 0.1 ms for tag, record and XComs; the rest are many "
    "small calls. What helped (2.45 to 1.9 ms): to read only the arguments that are given, and to look up "
    "Airflow's settings once a process. Turning Python's garbage collector off and changing the record's JSON did not help."
)
LISTS = (
    "A list of jobs: msgspec takes 45 ms to walk over the 48 MB, 20 ms to compare the names of a job's 135 "
    "fields with the 39 that we use, and 10 ms to make their values; our readers, which take a field in any "
    "form, 40 ms, that is 8 µs a job. json.loads takes 440 to 540 ms, a third of that in Python's garbage "
    "collector: hence 3.7 to 4.2 from run to run. What helped (132 to 117 ms): fields in slurmrestd's order, "
    "and unset numbers that are not read as text. No help: stricter types for the decoder, the collector "
    "off. A record without the 7 fields of other shapes would save 5 ms, and be a second decoder."
)
DAGS = (
    "Reading a DAG: a task's template fields are those that its author gives, so that it is stored as fast as a "
    "BashOperator's. What is left is to build it: 55 attributes instead of 10, half of which go through "
    "`BaseOperator.__setattr__`, and one class more, whose arguments Airflow looks through."
)
THROUGH_SERVER = (
    "Through clusterra-server: it takes 2.0 ms of CPU for a submit in one process, while slurmrestd takes 0.5 and "
    "slurmctld 0.8 to 1.0. Two thirds of that is httpx's client of an event loop, which sends it again (1.2 "
    "to 1.5 ms by itself, and slower than eight threads on httpx); signing in, routes, JSON and the log "
    "line are the rest. Tried: kept connections to slurmrestd (8 instead of 160, no faster), which "
    "would leave unclear what became of a submit if slurmrestd closed one."
)
DOWNLOAD = (
    "A download: its CPU is curl's and the checksum's 0.15 to 0.25 s, on two cores that the server shares. Bytes are "
    "read, written and summed up in one thread: a second one took 0.12 s more for a GiB and was no faster."
)
IMPORTS = (
    "Imports: whoever reads a DAG or loads a trigger gets what that takes; HTTP, the language of sbatch, the "
    "protocol's shell and a job's end are loaded by the task that runs. What is left is 20 modules, mostly "
    "msgspec's structs, enums and regular expressions, and nothing of it stands out."
)


class Shortfall(msgspec.Struct, frozen=True):
    """A target that is not met."""

    held: float
    """What a run has to reach all the same: worse is a step back, and fails the bench."""
    why: str


KNOWN: dict[tuple[str, str, str], Shortfall] = {
    ("speed", "stream", "ours / httpx alone"): Shortfall(0.5, STREAM),
    ("speed", "1000 files of 16 KiB", "ours / curl -T"): Shortfall(0.4, SMALL_FILES),
    ("speed", "one file of 1 GiB", "ours / curl -o"): Shortfall(0.7, DOWNLOAD),
    ("one submit's time", "", "the operator / the client alone"): Shortfall(2.0, SUBMIT),
    ("list read, speed", "5000 jobs, 48 MB", "ours / json.loads"): Shortfall(3.3, LISTS),
    ("a DAG built and serialized, time", "500 tasks", "ours / BashOperator"): Shortfall(1.5, DAGS),
    ("jobs submitted, to a real Slurm", "8 workers", "clusterra-server / slurmrestd"): Shortfall(
        0.35, THROUGH_SERVER
    ),
    ("submit operators", "import", "airbyte / ours"): Shortfall(1.7, IMPORTS),
    ("sensor", "import", "airbyte / ours"): Shortfall(1.7, IMPORTS),
    ("trigger", "import", "airbyte / ours"): Shortfall(1.7, IMPORTS),
}
"""Targets that are not met, and what the profile says, by a figure's name, place and whose it is. All
others that are not met fail the bench."""


def known_shortfalls(parts: Iterable[Part]) -> list[Figure]:
    """The figures whose targets are not met, as is known."""
    return [each for each in _unmet(parts) if _holds(each)]


def missed(parts: Iterable[Part]) -> list[Figure]:
    """The figures whose targets are not met although nothing explains it, or that are worse than known."""
    return [each for each in _unmet(parts) if not _holds(each)]


def _unmet(parts: Iterable[Part]) -> Iterator[Figure]:
    return (figure for part in parts for figure in part.figures if figure.met is False)


def _shortfall(figure: Figure) -> Shortfall | None:
    return KNOWN.get((figure.name, figure.at, figure.of))


def _holds(figure: Figure) -> bool:
    known = _shortfall(figure)
    if known is None or figure.target is None or figure.value is None:
        return False
    return msgspec.structs.replace(figure.target, limit=known.held).met_by(figure.value)


def write_results(folder: Path, parts: list[Part]) -> None:
    """Write RESULTS.md and its plots.

    :param folder: for both.
    :param parts: of one run.
    """
    waiting = [figure for part in parts if part.name == WAITING for figure in part.figures]
    shown = []
    seen = _seen_for_asked(waiting)
    if seen:
        title = "How soon a job's end is told, and for how many requests"
        marks = {point: mark for points in seen.values() for point, mark in points.items()}
        words = ("requests a minute; the numbers are jobs", "seconds from a job's end to its event")
        lines = {name: list(points) for name, points in seen.items()}
        (folder / "latency.svg").write_text(line_chart(title, words, lines, marks))
        shown.append(f"![{title}](latency.svg)")
    (folder / "RESULTS.md").write_text("\n".join(_report(parts, shown)))


def _seen_for_asked(figures: list[Figure]) -> dict[str, dict[tuple[float, float], str]]:
    """Of each system, requests and seconds with the number of jobs."""
    values = {(each.of, each.at, each.name): each.value for each in figures if each.unit != RATIO}
    found: dict[str, dict[tuple[float, float], str]] = {}
    for (system, at, name), value in values.items():
        asked = values.get((system, at, ASKED))
        # how soon ends are told is not measured with few, and a long queue is another picture
        if name == SEEN and value and asked and at.endswith("0 jobs") and " of " not in at:
            found.setdefault(system, {})[(asked, value)] = at.split()[0]
    return found


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
    reasons = {known.why: None for each in _unmet(parts) if (known := _shortfall(each))}
    if reasons:
        yield "\nWhat is not met, and why:\n"
        yield from (f"- {reason}" for reason in reasons)
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
        met = "met" if each.met else f"**not met**{_known(each)}"
        yield f"| {each.name}{place}{whose} | {_cell(each)} | {each.target} | {met} |"


def _known(figure: Figure) -> str:
    known = _shortfall(figure)
    return f" (known: {in_words(known.held)})" if known else ""


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
