"""All benches one after the other: ``make bench``, or ``python -m bench [PART …]``.

Each part is a process with a time limit of its own; one that fails is said at the end, and the
others go on. The figures are printed, ratios first, and written into bench/RESULTS.md.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

import msgspec

from bench.figures import Figure, show
from bench.results import Part, known_shortfalls, missed, write_results
from tests.support.servers import processes_with

FOLDER = Path(__file__).parent
MARKER = "CLUSTERRA_BENCH"
ENDS_WITHIN = 30.0
LIMITS = {
    "imports": 120,
    "dags": 90,
    "jobs": 90,
    "sbatch": 60,
    "sse": 60,
    "output": 150,
    "following": 150,
    "upload": 180,
    "download": 150,
    "submit": 120,
    "slurm": 300,
    "triggerer": 300,
    "waiting": 720,
}
"""The parts, and the seconds that each may take at most."""
ENVIRONMENTS = {
    "output": {"MALLOC_MMAP_THRESHOLD_": str(2**25), "MALLOC_TRIM_THRESHOLD_": str(2**28)},
}
"""asyncio reads 256 KiB at a time. Whether glibc gives so much back to the system after each read, which takes as
long as the read itself, depends on what else lies in memory: so glibc keeps it here, for all readers alike."""


def run_part(name: str) -> Part:
    """One part's figures, or why there are none.

    :param name: one of :data:`LIMITS`.
    """
    print(f"{name} …", file=sys.stderr, flush=True)
    mark = uuid.uuid4().hex
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        file, log = Path(folder, "figures"), Path(folder, "log")
        with log.open("wb") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "bench.part", name, str(file)],
                env={**os.environ, MARKER: mark, "AIRFLOW_HOME": f"{folder}/airflow"}
                | ENVIRONMENTS.get(name, {}),
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
            )
            failure = _wait(process, LIMITS[name])
        _end_the_rest(mark)
        if not failure and process.returncode:
            last = log.read_text(errors="replace").strip().splitlines()[-1:]
            failure = f"it failed: {''.join(last)}"
            print(log.read_text(errors="replace"), file=sys.stderr)
        figures = [] if failure else msgspec.json.decode(file.read_bytes(), type=list[Figure])
    seconds = time.monotonic() - begin
    print(f"  {failure or 'done'}, {seconds:.0f} s", file=sys.stderr, flush=True)
    return Part(name, figures, seconds, failure)


def _wait(process: subprocess.Popen[bytes], limit: float) -> str:
    try:
        process.wait(limit)
    except subprocess.TimeoutExpired:
        process.terminate()
        try:
            process.wait(ENDS_WITHIN)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        return f"it took more than {limit:.0f} s"
    except BaseException:
        process.terminate()
        process.wait(ENDS_WITHIN)
        raise
    return ""


def _end_the_rest(mark: str) -> None:
    """End what a part has left behind."""
    for pid in processes_with(f"{MARKER}={mark}"):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def main() -> int:
    """Run what is asked for, or all; only all of it is written down.

    :returns: 1 where a part failed, a name is none, or a target is not met, unless ``results.KNOWN``
        says why and the figure is no worse than said there; otherwise 0.
    """
    names = sys.argv[1:] or list(LIMITS)
    wrong = [name for name in names if name not in LIMITS]
    if wrong:
        print(f"There is no {', '.join(wrong)}. There are {', '.join(LIMITS)}.", file=sys.stderr)
        return 1
    parts = [run_part(name) for name in names]
    show(figure for part in parts for figure in part.figures)
    if not sys.argv[1:]:
        write_results(FOLDER, parts)
    print(f"{sum(part.seconds for part in parts):.0f} s in all")
    failed = [part for part in parts if part.failure]
    for part in failed:
        print(f"FAILED {part.name}: {part.failure}", file=sys.stderr)
    for figure in known_shortfalls(parts):
        print(f"KNOWN {figure}", file=sys.stderr)
    unexplained = missed(parts)
    for figure in unexplained:
        print(f"NOT MET {figure}", file=sys.stderr)
    return 1 if failed or unexplained else 0


if __name__ == "__main__":
    sys.exit(main())
