"""Tests of airflow_provider_clusterra.submit.retries."""

from datetime import timedelta

import pytest

from airflow_provider_clusterra.api import InputError
from airflow_provider_clusterra.api.specs import no_val
from airflow_provider_clusterra.submit.protocol import Failure
from airflow_provider_clusterra.submit.retries import Growth, grow, read_growth, requested_of

BOTH = Growth(memory=2.0, time_limit=1.5)
OOM = Failure("OUT_OF_MEMORY")


def grown(asked, failure, growth=BOTH):
    return {step.field: step.value for step in grow(asked, failure, growth)}


@pytest.mark.parametrize(
    ("asked", "more", "words"),
    [
        (
            {"memory_per_node": no_val(1000)},
            {"memory_per_node": no_val(2000)},
            "2000 MB of memory a node instead of 1000 MB",
        ),
        (
            {"memory_per_cpu": no_val(1000)},
            {"memory_per_cpu": no_val(2000)},
            "2000 MB of memory a CPU",
        ),
        ({"memory_per_cpu": 1000}, {"memory_per_cpu": no_val(2000)}, "a CPU instead of 1000"),
        (
            {"memory_per_tres": "gres/gpu:1000"},
            {"memory_per_tres": "gres/gpu:2000"},
            "2000 MB of memory a GPU",
        ),
    ],
)
def test_memory_grows_in_the_form_in_which_it_was_asked_for(asked, more, words):
    (step,) = grow(asked, OOM, BOTH)

    assert {step.field: step.value} == more
    assert words in step.figures


@pytest.mark.parametrize(
    ("per_cpu", "field"), [(True, "memory_per_cpu"), (False, "memory_per_node")]
)
def test_memory_that_nobody_asked_for_grows_from_what_slurm_gave(per_cpu, field):
    failure = Failure("OUT_OF_MEMORY", memory_mb=100, memory_per_cpu=per_cpu)

    assert grown({}, failure) == {field: no_val(200)}


def test_the_time_limit_grows_to_whole_minutes():
    assert grown({"time_limit": no_val(5)}, Failure("TIMEOUT")) == {"time_limit": no_val(8)}
    assert grown({}, Failure("TIMEOUT", time_limit_minutes=60)) == {"time_limit": no_val(90)}


def test_an_array_whose_tasks_ended_in_both_ways_grows_in_both():
    asked = {"memory_per_node": no_val(10), "time_limit": no_val(10)}
    failure = Failure("FAILED", ("FAILED", "OUT_OF_MEMORY", "TIMEOUT"))

    assert grown(asked, failure) == {"memory_per_node": no_val(20), "time_limit": no_val(15)}


@pytest.mark.parametrize(
    ("asked", "failure", "growth"),
    [
        ({"memory_per_node": no_val(10)}, Failure("FAILED"), BOTH),
        ({"memory_per_node": no_val(10)}, Failure("TIMEOUT"), Growth(memory=2.0)),
        ({"time_limit": no_val(10)}, OOM, Growth(time_limit=2.0)),
        ({"time_limit": {"set": True, "infinite": True, "number": 0}}, Failure("TIMEOUT"), BOTH),
        # all that a node has
        ({"memory_per_node": no_val(0)}, OOM, BOTH),
        ({}, OOM, BOTH),
    ],
)
def test_nothing_grows_where_more_would_not_help_or_nobody_knows_of_what(asked, failure, growth):
    assert grow(asked, failure, growth) == []


def test_growth_ends_at_its_bound():
    asked = {"memory_per_node": no_val(1000), "time_limit": no_val(100)}
    bound = Growth(2.0, 2.0, max_memory_mb=1500, max_time_limit_minutes=120)

    assert grown(asked, Failure("FAILED", ("OUT_OF_MEMORY", "TIMEOUT")), bound) == {
        "memory_per_node": no_val(1500),
        "time_limit": no_val(120),
    }


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("OUT_OF_MEMORY", "with 1500 MB a node, and max_memory is 1500 MB: it is not submitted"),
        ("TIMEOUT", "limit of 120 min, and max_time_limit is 120 min: it is not submitted again"),
    ],
)
def test_what_is_at_its_bound_already_is_not_submitted_again(state, words):
    asked = {"memory_per_node": no_val(1500), "time_limit": no_val(120)}
    with pytest.raises(InputError, match=words):
        grow(asked, Failure(state), Growth(2.0, 2.0, 1500, 120))


def test_what_an_author_writes_is_read():
    assert read_growth({"memory": 2, "time_limit": 1.5}, "64G", timedelta(hours=2)) == Growth(
        2, 1.5, 65536, 120
    )
    assert read_growth(None) == Growth()


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ({"cpus": 2.0}, "it can hold 'memory' and 'time_limit'"),
        ({"memory": 1.0}, "memory is 1.0; it is a factor above 1"),
        ({"memory": "2"}, "a factor above 1"),
        ({"time_limit": True}, "a factor above 1"),
    ],
)
def test_what_is_no_growth_is_refused(written, words):
    with pytest.raises(InputError, match=words):
        read_growth(written)


def test_of_a_job_only_memory_and_time_are_remembered():
    job = {"name": "x", "time_limit": no_val(5), "memory_per_cpu": no_val(7), "nodes": "1"}

    assert requested_of(job) == {"time_limit": no_val(5), "memory_per_cpu": no_val(7)}
