"""Records as slurmdbd writes them, made of few words."""

from __future__ import annotations

from typing import Any

MB = 2**20
BEGIN = 1_795_421_379


def no_val(number: float | None) -> dict[str, Any]:
    return {"set": number is not None, "infinite": False, "number": int(number or 0)}


def tres(**counts: int) -> list[dict[str, Any]]:
    """E.g. ``tres(cpu=2, mem=400, gres__gpu=1)``."""
    rows = []
    for kind, count in counts.items():
        name, _, more = kind.partition("__")
        rows.append({"type": name, "name": more, "id": 1, "count": count})
    return rows


def seconds(total: float) -> dict[str, int]:
    return {"seconds": int(total), "microseconds": int(total % 1 * 1e6)}


def step(begin: float, end: float, *, cpu: float = 0.0, **used: int) -> dict[str, Any]:
    """One step, with times after the job's begin; what it used in Slurm's units."""
    return {
        "step": {"id": "9.0", "name": "x"},
        "time": {
            "start": no_val(BEGIN + begin),
            "end": no_val(BEGIN + end),
            "total": seconds(cpu),
        },
        "tres": {
            "requested": {"max": tres(**used), "total": tres(**used)},
            "consumed": {"max": tres(energy=0), "total": tres(energy=0)},
        },
    }


def record(
    *steps: dict[str, Any],
    job_id: int = 9,
    array: tuple[int, int | None] = (0, None),
    het: tuple[int, int | None] = (0, None),
    state: str = "COMPLETED",
    start: float = 0.0,
    elapsed: float = 100.0,
    planned: float = 12.0,
    comment: str = "",
    **allocated: int,
) -> dict[str, Any]:
    """One run's record; 2 CPUs and 1000 MB on one node unless it says other."""
    counts = {"cpu": 2, "mem": 1000, "node": 1} | allocated
    begun = BEGIN + int(start)
    return {
        "job_id": job_id,
        "name": "cap",
        "state": {"current": [state], "reason": "None"},
        "array": {"job_id": array[0], "task_id": no_val(array[1]), "task": ""},
        "het": {"job_id": het[0], "job_offset": no_val(het[1])},
        "comment": {"administrator": comment, "job": "", "system": ""},
        "time": {
            "submission": begun - 12,
            "eligible": begun - 12,
            "start": begun,
            "end": 0 if state == "RUNNING" else begun + int(elapsed),
            "elapsed": int(elapsed),
            "planned": no_val(planned),
        },
        "tres": {"allocated": tres(**counts), "requested": tres(**counts)},
        "steps": list(steps),
    }
