"""How fast and in how much memory a long list of jobs is read: ``python -m bench.jobs [JOBS]``.

5000 jobs unless told otherwise, made from the recorded ones; each way in a process of its own, the
best of five, beside what ``json.loads`` alone takes for the same bytes.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from airflow_provider_clusterra.api.answers import Answer
from airflow_provider_clusterra.api.readers import read_jobs

SAMPLES = Path(__file__).parent.parent / "tests" / "samples" / "26.05-v0.0.44"
JOBS = 5000
RUNS = 5


def write(path: Path, count: int) -> None:
    """Write an answer with so many jobs, in a real slurmrestd's layout."""
    recorded = [
        job
        for path in sorted(SAMPLES.glob("job_*.json"))
        for job in json.loads(path.read_text())["body"].get("jobs") or []
    ]
    jobs = [{**recorded[number % len(recorded)], "job_id": number} for number in range(count)]
    path.write_text(json.dumps({"jobs": jobs, "errors": [], "warnings": []}, indent=2))


def measure(way: str, path: str) -> None:
    """Print one way's best seconds, and the MB by which the process grew while it held the result."""
    raw = Path(path).read_bytes()
    answer = Answer("GET /v1/clusters/c1/jobs", 200, {}, raw)
    before = _peak()
    best = float("inf")
    for _ in range(RUNS):
        begin = time.perf_counter()
        found = json.loads(raw) if way == "json" else read_jobs(answer)
        best = min(best, time.perf_counter() - begin)
        del found
    print(best, (_peak() - before) / 1024)


def _peak() -> int:
    """KiB; getrusage would count what the process was before it was this program."""
    found = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    return int(found[1]) if found else 0


def main() -> None:
    """Print the figures."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else JOBS
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "jobs.json")
        write(path, count)
        size = path.stat().st_size / 1e6
        for way in ("json", "ours"):
            program = f"from bench.jobs import measure; measure({way!r}, {str(path)!r})"
            shown = subprocess.run(
                [sys.executable, "-c", program], capture_output=True, text=True, check=True
            ).stdout
            seconds, grown = found[way] = tuple(map(float, shown.split()))
            print(
                f"{way:<5} {count} jobs, {size:.0f} MB: {seconds * 1000:6.0f} ms, {grown:5.0f} MB more"
            )
    (theirs, their_memory), (ours, our_memory) = found["json"], found["ours"]
    print(f"{theirs / ours:.1f} times as fast, {our_memory / their_memory:.2f} of the memory")


if __name__ == "__main__":
    main()
