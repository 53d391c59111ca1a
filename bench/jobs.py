"""How fast and in how much memory a long list of jobs is read: ``python -m bench.jobs [JOBS]``.

5000 jobs unless told otherwise, made from the recorded ones; each way in a process of its own, beside
what ``json.loads`` alone takes for the same bytes, and what pydantic takes to read the same fields.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from airflow_provider_clusterra.api.answers import Answer
from airflow_provider_clusterra.api.calls import read_jobs
from bench.figures import RUNS, Figure, at_least, ratio, show
from bench.process import memory_mib

SAMPLES = Path(__file__).parent.parent / "tests" / "samples" / "26.05-v0.0.44"
JOBS = 5000
WAYS = ("ours", "json.loads", "pydantic")


class Reading(msgspec.Struct):
    """What one way took."""

    milliseconds: float
    memory: float
    """MiB by which the process grew while it held the result."""


def write(path: Path, count: int) -> None:
    """Write an answer with so many jobs, in a real slurmrestd's layout.

    :param path: the file.
    :param count: jobs.
    """
    recorded = [
        job
        for path in sorted(SAMPLES.glob("job_*.json"))
        for job in json.loads(path.read_text())["body"].get("jobs") or []
    ]
    jobs = [{**recorded[number % len(recorded)], "job_id": number} for number in range(count)]
    path.write_text(json.dumps({"jobs": jobs, "errors": [], "warnings": []}, indent=2))


def reader_of(way: str) -> Callable[[bytes], object]:
    """One of the ways to read an answer's body.

    :param way: one of :data:`WAYS`.
    """
    if way == "ours":
        return lambda raw: read_jobs(Answer("GET /v1/clusters/c1/jobs", 200, {}, raw))
    return json.loads if way == "json.loads" else _pydantic()


def _pydantic() -> Callable[[bytes], object]:
    """A model with the fields that a :class:`Job` has, as they come."""
    from pydantic import BaseModel, TypeAdapter

    class Number(BaseModel):
        set: bool = False
        infinite: bool = False
        number: int = 0

    class Exit(BaseModel):
        return_code: Number = Number()
        signal: dict[str, Any] = {}

    class Record(BaseModel):
        job_id: int
        name: str = ""
        job_state: list[str] | str = ""
        state_reason: str = ""
        exit_code: Exit = Exit()
        nodes: str = ""
        partition: str = ""
        account: str = ""
        user_name: str = ""
        submit_time: Number = Number()
        start_time: Number = Number()
        end_time: Number = Number()
        time_limit: Number = Number()
        restart_cnt: int = 0
        standard_output: str = ""
        current_working_directory: str = ""
        array_job_id: Number = Number()
        array_task_id: Number = Number()
        array_task_string: str = ""
        het_job_id: Number = Number()

    class Jobs(BaseModel):
        jobs: list[Record]

    return TypeAdapter(Jobs).validate_json


def read_once(way: str, path: str) -> None:
    """Print what one way takes in this process.

    :param way: one of :data:`WAYS`.
    :param path: what :func:`write` wrote.
    """
    raw = Path(path).read_bytes()
    read = reader_of(way)
    before = memory_mib(most=True)
    took = []
    for _ in range(RUNS):
        begin = time.perf_counter()
        found = read(raw)
        took.append((time.perf_counter() - begin) * 1000)
        del found
    reading = Reading(statistics.median(took), memory_mib(most=True) - before)
    print(msgspec.json.encode(reading).decode())


def measure(count: int = JOBS) -> list[Figure]:
    """All ways with the same list.

    :param count: jobs in it.
    """
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "jobs.json")
        write(path, count)
        at = f"{count} jobs, {path.stat().st_size / 1e6:.0f} MB"
        for way in WAYS:
            program = f"from bench.jobs import read_once; read_once({way!r}, {str(path)!r})"
            shown = subprocess.run(
                [sys.executable, "-c", program], capture_output=True, text=True, check=True
            ).stdout
            found[way] = msgspec.json.decode(shown, type=Reading)
    ours, json_alone, pydantic = (found[way] for way in WAYS)
    speed = "list read, speed"
    figures = [
        ratio(
            speed,
            json_alone.milliseconds,
            ours.milliseconds,
            "ours / json.loads",
            at=at,
            target=at_least(4),
        ),
        ratio(speed, pydantic.milliseconds, ours.milliseconds, "ours / pydantic", at=at),
        ratio("list read, memory", ours.memory, json_alone.memory, "ours / json.loads", at=at),
    ]
    for way, reading in found.items():
        figures.append(
            Figure(name="list read", value=reading.milliseconds, unit="ms", of=way, at=at)
        )
        figures.append(Figure(name="memory", value=reading.memory, unit="MiB", of=way, at=at))
    return figures


if __name__ == "__main__":
    show(measure(int(sys.argv[1]) if len(sys.argv) > 1 else JOBS))
