"""Tests of airflow_provider_clusterra.api.jobs."""

import pytest

from airflow_provider_clusterra.api.jobs import JobState, read_state


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (["RUNNING"], "RUNNING"),
        (["RUNNING", "CONFIGURING"], "RUNNING+CONFIGURING"),
        (["COMPLETING", "COMPLETED"], "COMPLETED+COMPLETING"),
        ("FAILED", "FAILED"),
        ("cancelled by 1000", "CANCELLED"),
        ("COMPLETED+", "COMPLETED"),
        ("PD", "PENDING"),
        ("OOM", "OUT_OF_MEMORY"),
        ({"current": ["TIMEOUT"], "reason": "TimeLimit"}, "TIMEOUT"),
        (["HIBERNATED"], "HIBERNATED"),
        ([], "UNKNOWN"),
        (None, "UNKNOWN"),
        (7, "UNKNOWN"),
        (["RUNNING", 3, None], "RUNNING"),
        (["COMPLETED", "RUNNING"], "RUNNING+COMPLETED"),
        (["COMPLETED", "FAILED"], "FAILED+COMPLETED"),
        (["HIBERNATED", "COMPLETED"], "COMPLETED+HIBERNATED"),
    ],
)
def test_a_state_is_read_in_every_form(value, expected):
    assert str(read_state(value)) == expected


@pytest.mark.parametrize(
    "words",
    [
        "COMPLETED",
        "CANCELLED",
        "FAILED",
        "TIMEOUT",
        "NODE_FAIL",
        "PREEMPTED",
        "BOOT_FAIL",
        "DEADLINE",
        "OUT_OF_MEMORY",
    ],
)
def test_every_terminal_base_state_is_an_end(words):
    assert read_state(words).ended


@pytest.mark.parametrize(
    "words", ["PENDING", "RUNNING", "SUSPENDED", "UNKNOWN", "HIBERNATED", "COMPLETING"]
)
def test_no_other_base_state_is_an_end(words):
    assert not read_state(words).ended


@pytest.mark.parametrize(
    "flag", ["REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "EXPEDITING"]
)
def test_a_job_that_slurm_will_run_again_has_not_ended(flag):
    assert not read_state(["NODE_FAIL", flag]).ended


def test_a_completing_job_has_ended_and_its_result_is_known():
    state = read_state(["COMPLETED", "COMPLETING"])

    assert state.ended
    assert state.succeeded
    assert state.completing


def test_only_completed_is_a_success():
    assert read_state("COMPLETED").succeeded
    assert not read_state("FAILED").succeeded
    assert not read_state(["COMPLETED", "REQUEUED"]).succeeded


def test_an_unknown_word_is_kept_and_says_that_it_is_unknown():
    assert read_state(["RUNNING", "DREAMING"]) == JobState("RUNNING", frozenset({"DREAMING"}))
    assert not read_state(["RUNNING", "DREAMING"]).known
    assert read_state(["RUNNING", "CONFIGURING"]).known


@pytest.mark.parametrize(
    ("words", "finished"),
    [
        ("COMPLETED", True),
        ("COMPLETED COMPLETING", False),
        ("FAILED STAGE_OUT", False),
        ("RUNNING", False),
        ("NODE_FAIL REQUEUED", False),
    ],
)
def test_a_job_has_finished_once_nothing_of_it_is_left(words, finished):
    assert read_state(words).finished is finished
