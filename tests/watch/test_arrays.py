"""Tests of airflow_provider_clusterra.watch.arrays."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_clusterra.api import ProtocolError
from airflow_provider_clusterra.api.calls import read_job
from airflow_provider_clusterra.api.jobs import Job, one_job, read_state
from airflow_provider_clusterra.watch.arrays import (
    collect_ends,
    counts_of,
    is_array,
    read_indices,
    write_indices,
)
from tests.support.recorded import sample


@pytest.mark.parametrize(
    ("text", "indices"),
    [
        ("0-3", {0, 1, 2, 3}),
        ("0-9:3%4", {0, 3, 6, 9}),
        ("1,3,7-9%2", {1, 3, 7, 8, 9}),
        ("[2-3%2]", {2, 3}),
        ("5", {5}),
        ("", set()),
        ("1,3,5,...", {1, 3, 5}),
        ("0-4:0", {0, 1, 2, 3, 4}),
        ("nonsense", set()),
    ],
)
def test_indices_are_read_as_slurm_writes_them(text, indices):
    assert read_indices(text) == indices


@given(st.frozensets(st.integers(0, 500)))
def test_indices_that_were_written_are_read_the_same(indices):
    assert read_indices(write_indices(indices)) == indices


def test_runs_of_indices_are_written_short():
    assert write_indices([9, 0, 1, 2, 7]) == "0-2,7,9"


def test_pending_tasks_that_were_cancelled_have_ended_each():
    rest = Job(9, read_state("CANCELLED"), array_job_id=9, array_task_string="2-3%2")
    ends = collect_ends({}, [rest])

    assert sorted(ends) == [2, 3]
    assert ends[3].array_task_id == 3


def test_a_real_arrays_tasks_are_counted_by_state():
    running = read_job(sample("array_running_get_master"), 23)

    assert counts_of(running) == {"COMPLETED": 2, "RUNNING": 2}
    pending = read_job(sample("array_pending_get_master"), 23)
    assert sum(counts_of(pending).values()) == 4
    assert is_array(running)
    assert not is_array(Job(9, read_state("RUNNING")))


def test_a_het_job_is_no_array():
    parts = [
        Job(9 + offset, read_state("COMPLETED"), het_job_id=9, het_job_offset=offset)
        for offset in (0, 1)
    ]

    assert not is_array(one_job(parts, 9))


@pytest.mark.parametrize(
    ("text", "indices"),
    [
        ("0x3C", {2, 3, 4, 5}),
        ("0X1", {0}),
        ("0x3c%2", {2, 3, 4, 5}),
        ("0x0", set()),
        ("0x", set()),
        ("0xZZ", set()),
    ],
)
def test_a_mask_is_read(text, indices):
    assert read_indices(text) == indices


@pytest.mark.parametrize(
    "text",
    ["0-3999999", "0x" + "F" * 50_000, ",".join(f"{n}-{n + 9}" for n in range(0, 900_000, 10))],
    ids=["range", "mask", "list"],
)
def test_millions_of_indices_are_refused_in_words(text):
    with pytest.raises(ProtocolError, match="as many as can be waited for"):
        read_indices(text)
