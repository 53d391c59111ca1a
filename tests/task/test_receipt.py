"""Tests of airflow_provider_clusterra.task.result."""

import logging
from types import SimpleNamespace

import pytest
from msgspec.structs import replace

from airflow_provider_clusterra.api.jobs import Job, read_state
from airflow_provider_clusterra.submit.protocol import Record, RetryState
from airflow_provider_clusterra.submit.submission import RecordStore
from airflow_provider_clusterra.task.result import end_try, receipt
from airflow_provider_clusterra.triggers.jobs import JobEvent
from tests.support.airflow_side import TaskStateStore

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


def line(state="COMPLETED", *, per_cpu=False, restarts=0, tasks_of=(), left_out=(), **other):
    usage = {key: value for key, value in (USAGE | other).items() if key not in left_out}
    tasks = tuple(Job(n, read_state(state), array_task_id=n) for n in tasks_of)
    job = Job(12, read_state(state), usage=usage, memory_per_cpu=per_cpu)
    return receipt(replace(job, restarts=restarts, tasks=tasks))


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


@pytest.mark.parametrize(
    ("peak", "cpus", "advice"),
    [
        (3.1 * GB, 1, "; memory_per_cpu='4G' would do"),
        (300 * MB, 8, "; memory_per_cpu='384M' would do"),
        # 8 CPUs may be one that was asked for, and MaxMemPerCPU: 512M for that one would not do
        (3.1 * GB, 8, ""),
    ],
)
def test_memory_per_cpu_is_advised_if_one_cpus_share_is_enough(peak, cpus, advice):
    told = line(per_cpu=True, memory_bytes_peak=peak, cpus_allocated=cpus)
    assert told.endswith(f"queued 12 min{advice}.")


@pytest.mark.parametrize(
    ("other", "advice"),
    [
        ({}, ""),
        ({"all_runs": {"count": 2}}, ""),
        ({"all_runs": {"count": 2, "memory_bytes_peak": 15 * GB}}, ""),
        (
            {"all_runs": {"count": 2, "memory_bytes_peak": 8 * GB}},
            "; memory='10G' would do",
        ),
        ({"all_runs": {"count": 2, "memory_bytes_peak": 1}}, "; memory='4G' would do"),
    ],
    ids=str,
)
def test_a_requeued_job_is_advised_what_its_largest_run_needed(other, advice):
    assert line(restarts=1, **other).endswith(f"queued 12 min{advice}.")


@pytest.mark.parametrize(
    ("measured", "count", "known", "is_advised"),
    [(3, 3, 3, True), (3, 3, 0, True), (2, 3, 3, False), (0, 3, 3, False), (3, 3, 4, False)],
)
def test_an_array_is_advised_if_each_of_its_tasks_was_measured(measured, count, known, is_advised):
    tasks = {"count": count, "measured": measured, "median": {}, "largest": {}}
    told = line(tasks=tasks, tasks_of=range(known))

    assert ("would do" in told) is is_advised
    assert (f" 3 tasks ({measured} measured) used" in told) is (measured == 2)


@pytest.mark.parametrize("written", [None, {"memory_per_node": 4096}])
def test_a_retry_that_got_more_memory_is_not_advised_what_killed_the_last_try(written, caplog):
    caplog.set_level(logging.INFO)
    store = RecordStore(TaskStateStore())
    store.save(Record("tag", 1, retry_state=RetryState(written=written)))
    outputs = SimpleNamespace(on_failure=False, bring=lambda *_: {})
    job = Job(12, read_state("COMPLETED"), usage=USAGE)
    end_try({}, None, JobEvent("ended", 12, "c1", job), None, "all", store, (), outputs)

    assert "used 3.1 of 16 GB" in caplog.text
    assert ("memory='4G' would do" in caplog.text) is (written is None)


@pytest.mark.parametrize(
    ("peak", "asked", "words"),
    [
        (402 * MB, 1000 * MB, "402 of 1000 MB"),
        (999.6 * MB, 1023.7 * MB, "1000 of 1024 MB"),
        (1200 * GB, 2048 * GB, "1.17 of 2 TB"),
        (1000 * GB, 1500 * GB, "1000 GB of 1.46 TB"),
        (0.723 * MB, 100 * MB, "740 KB of 100 MB"),
        (5, 100 * MB, "5 B of 100 MB"),
    ],
)
def test_sizes_are_written_without_an_exponent(peak, asked, words):
    assert f" used {words}, " in line(memory_bytes_peak=peak, memory_bytes_requested=asked)


def test_what_is_not_known_is_not_in_the_line():
    assert line(left_out=["cpu_efficiency", "cpu_core_seconds_used", "memory_bytes_peak"]) == (
        "Job 12 had 16 GB of memory, 8 CPUs for 41 min, queued 12 min."
    )
    assert receipt(Job(12, read_state("COMPLETED"))) == ""
    assert receipt(Job(12, read_state("CANCELLED"), usage={"queue_seconds": 3})) == ""
    assert receipt(Job(12, read_state("CANCELLED"), usage={"memory_bytes_requested": GB})) == ""


def test_memory_of_which_nobody_knows_the_use_is_not_said_to_be_used():
    told = line(left_out=["memory_bytes_peak"])
    assert told.startswith("Job 12 used an unknown share of 16 GB, 22 % of 8 CPUs for 41 min")


def test_zero_is_said():
    assert line(memory_bytes_peak=0, cpu_efficiency=0.0).startswith(
        "Job 12 used 0 MB of 16 GB, 0 % of 8 CPUs"
    )


def test_gpus_and_the_cost_are_said_where_they_are_known():
    told = line(gpus_allocated=2, gpu_utilization_percent=61.4, cost_usd=0.1234567)
    assert ", 61 % of 2 GPUs, queued 12 min, cost 0.1235 USD;" in told
    assert ", 1 GPU, queued" in line(gpus_allocated=1)
    assert ", cost 0.0012 USD;" in line(cost_usd=0.00123)
    assert ", cost 12346 USD;" in line(cost_usd=12345.678)


def test_an_arrays_line_says_what_any_task_used_at_most():
    told = line(tasks={"count": 100, "median": {}, "largest": {"cpu_efficiency": 0.9}})
    assert told.startswith(
        "Job 12: each of its 100 tasks used at most 3.1 of 16 GB, 90 % of 8 CPUs"
    )
