"""Tests of airflow_provider_clusterra.task.result."""

import pytest

from airflow_provider_clusterra.api.jobs import Job, read_state
from airflow_provider_clusterra.task.result import receipt

GB, MB = 2**30, 2**20
USAGE = {
    "queue_seconds": 720,
    "run_seconds": 2460,
    "nodes_allocated": 1,
    "cpus_allocated": 8,
    "cpu_core_seconds_used": 4330,
    "cpu_efficiency": 0.22,
    "memory_bytes_requested": 16 * GB,
    "memory_bytes_peak": int(3.1 * GB),
}


def line(state="COMPLETED", *, per_cpu=False, left_out=(), **other):
    usage = {key: value for key, value in (USAGE | other).items() if key not in left_out}
    return receipt(Job(12, read_state(state), usage=usage, memory_per_cpu=per_cpu))


def test_the_line_says_what_was_used_of_what_and_what_would_do():
    assert line() == (
        "Job 12 used 3.1 of 16 GB, 22 % of 8 CPUs for 41 min, queued 12 min; memory='4G' would do."
    )


@pytest.mark.parametrize(
    ("peak", "advice"),
    [
        (1, "memory='64M'"),
        (100 * MB, "memory='128M'"),
        (400 * MB, "memory='512M'"),
        (9 * GB, "memory='12G'"),
    ],
)
def test_advice_leaves_room(peak, advice):
    assert f"; {advice} would do" in line(memory_bytes_peak=peak)


@pytest.mark.parametrize(
    "other",
    [
        {"run_seconds": 59},
        {"memory_bytes_peak": 10 * GB},
        {"memory_bytes_peak": 0},
        {"memory_bytes_requested": 4 * GB},
        {"nodes_allocated": 2},
        {"state": "FAILED"},
        {"state": "OUT_OF_MEMORY"},
        {"left_out": ["memory_bytes_peak"]},
        {"left_out": ["memory_bytes_requested"]},
        {"left_out": ["run_seconds"]},
    ],
    ids=str,
)
def test_there_is_no_advice_without_a_margin_or_a_minute(other):
    assert "would do" not in line(**other)


def test_memory_per_cpu_is_advised_where_it_was_asked_for_so():
    assert "; memory_per_cpu='512M' would do" in line(per_cpu=True)


def test_what_is_not_known_is_not_in_the_line():
    assert line(left_out=["cpu_efficiency", "cpu_core_seconds_used", "memory_bytes_peak"]) == (
        "Job 12 had 16 GB of memory, 8 CPUs for 41 min, queued 12 min."
    )
    assert receipt(Job(12, read_state("COMPLETED"))) == ""
    assert receipt(Job(12, read_state("CANCELLED"), usage={"queue_seconds": 3})) == ""


def test_zero_is_said():
    assert line(memory_bytes_peak=0, cpu_efficiency=0.0).startswith(
        "Job 12 used 0 MB of 16 GB, 0 % of 8 CPUs"
    )


def test_gpus_and_the_cost_are_said_where_they_are_known():
    told = line(gpus_allocated=2, gpu_utilization_percent=61.4, cost_usd=0.1234567)
    assert ", 61 % of 2 GPUs, queued 12 min, cost 0.1235 USD;" in told
    assert ", 1 GPU, queued" in line(gpus_allocated=1)


def test_an_arrays_line_says_what_any_task_used_at_most():
    told = line(tasks={"count": 100, "median": {}, "largest": {"cpu_efficiency": 0.9}})
    assert told.startswith(
        "Job 12: each of its 100 tasks used at most 3.1 of 16 GB, 90 % of 8 CPUs"
    )
