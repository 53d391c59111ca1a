"""docs/results.md is what a result holds."""

import json
import re
from pathlib import Path

from airflow_provider_clusterra.api.jobs import ExitStatus, Job, read_state, read_time
from airflow_provider_clusterra.api.usage import USAGE, usage_of
from airflow_provider_clusterra.task.result import job_result
from airflow_provider_clusterra.watch.arrays import read_indices
from tests.api.test_usage import an_array, runs
from tests.support.accounting import BEGIN, record, step

PAGE = Path(__file__).parents[2] / "docs/results.md"
ROW = re.compile(r"\| `(\w+)` \| (\w+) \|([^|]*)\|([^|]*)\|")
TYPES = {"int": int, "float": (int, float), "str": str, "dict": dict}
OTHERS_ADD = {"outputs"}
"""What is there only where a task asks for it."""


def table(heading):
    part = PAGE.read_text().partition(heading)[2].partition("\n## ")[0]
    return {
        key: (kind, unit.strip(), absent.strip()) for key, kind, unit, absent in ROW.findall(part)
    }


def everything():
    """The usages that hold each key together."""
    used = {"mem": 5, "gres__gpuutil": 5, "gres__gpumem": 5}
    full = {"gres__gpu": 1, "energy": 5, "comment": "cost_usd=1"}
    one = record(step(0, 90, cpu=5, **used), job_id=20, array=(9, 0), **full)
    again = record(step(0, 90, cpu=5), job_id=20, array=(9, 0), start=500, **full)
    parts = [record(job_id=8 + n, het=(9, n)) for n in (0, 1)]
    job = an_array(0)
    return [
        usage_of(job, runs(one, again)),
        usage_of(job, runs(one)),
        usage_of(Job(9, job.state), runs(*parts)),
    ]


def test_the_results_table_has_each_key_and_its_type():
    rows = table("# What a task returns")
    result = job_result(
        Job(9, read_state("COMPLETED"), started_at=read_time(BEGIN), ended_at=read_time(BEGIN + 9))
    )

    assert rows.keys() - OTHERS_ADD == result.keys()
    for key, value in result.items():
        kind, _, absent = rows[key]
        assert value is None or kind == "any" or isinstance(value, TYPES[kind]), key
        assert value is not None or "None" in absent, key


def test_the_usages_table_has_each_key_and_its_type():
    rows = table("## The receipt")
    shown = {key: value for usage in everything() for key, value in usage.items()}

    assert rows.keys() == shown.keys() == {*USAGE, "tasks", "components", "all_runs"}
    for key, value in shown.items():
        kind, unit, absent = rows[key]
        assert isinstance(value, TYPES[kind]), key
        assert unit, key
        assert absent, key


def test_the_result_of_10_000_indices_fits_into_xcom():
    state = [read_state("COMPLETED"), read_state("FAILED")]
    tasks = tuple(
        Job(100 + n, state[n % 2], array_job_id=9, array_task_id=n) for n in range(10_000)
    )
    result = job_result(Job(9, state[1], tasks=tasks))

    assert len(json.dumps(result)) < 64 * 1024
    assert len(result["tasks"]) == 2
    (even, odd) = result["tasks"].items()
    assert even[0].startswith("0,2,4")
    assert (even[1]["state"], odd[1]["state"]) == ("COMPLETED", "FAILED")


def test_many_different_ends_of_10_000_indices_fit_into_xcom_with_the_most_frequent_codes():
    failed, late = read_state("FAILED"), read_state("TIMEOUT")
    tasks = tuple(
        Job(
            100 + n,
            late if n % 5 else failed,
            array_job_id=9,
            array_task_id=n,
            exit=ExitStatus(n * 7919 % 256 if n > 2000 else 3),
        )
        for n in range(10_000)
    )
    result = job_result(Job(9, failed, tasks=tasks))
    ends = list(result["tasks"].values())

    assert len(json.dumps(result)) < 64 * 1024
    assert {"state": "FAILED", "exit_code": 3} in ends
    assert {"state": "FAILED", "exit_code": None} in ends
    assert sum(len(read_indices(key)) for key in result["tasks"]) == 10_000


def test_a_usual_arrays_result_has_each_index_by_itself():
    tasks = tuple(
        Job(100 + n, read_state("COMPLETED"), array_job_id=9, array_task_id=n) for n in range(1001)
    )
    assert list(job_result(Job(9, tasks[0].state, tasks=tasks))["tasks"]) == [
        str(n) for n in range(1001)
    ]
