"""Tests of airflow_provider_clusterra.watch.verdict: series of looks, and what they mean."""

import re

import pytest

from airflow_provider_clusterra.api.jobs import Job
from airflow_provider_clusterra.api.readers import read_job
from airflow_provider_clusterra.api.states import read_state
from airflow_provider_clusterra.watch.verdict import (
    COMPLETING_PATIENCE,
    GRACE,
    Outcome,
    Progress,
    Sighting,
    Watch,
    judge,
)
from tests.recorded import sample

WATCH = Watch(9, name="mine", since=1000.0)


def looked(*looks, watch=WATCH):
    """The verdict after looks of the form (seconds since the wait began, state or None)."""
    progress, verdict = Progress(), None
    for after, words in looks:
        job = None if words is None else Job(9, read_state(words), name="mine")
        progress, verdict = judge(watch, progress, Sighting(watch.since + after, job))
    return verdict


@pytest.mark.parametrize("words", ["PENDING", "RUNNING", "SUSPENDED", "UNKNOWN", "DREAMING"])
def test_a_job_that_goes_on_is_waited_for(words):
    assert looked((0, words), (9e6, words)).outcome is Outcome.WAIT


@pytest.mark.parametrize("words", ["COMPLETED", "FAILED", "NODE_FAIL", "CANCELLED", "PREEMPTED"])
def test_a_job_that_ended_has_ended(words):
    verdict = looked((0, "PENDING"), (1, "RUNNING"), (2, words))

    assert verdict.outcome is Outcome.ENDED
    assert verdict.job.state.base == words


def test_a_killed_node_is_not_the_end_of_a_job_that_runs_again():
    looks = [(0, "RUNNING"), (48, ["PENDING", "COMPLETING"]), (60, "PENDING"), (180, "RUNNING")]

    assert looked(*looks).outcome is Outcome.WAIT
    assert looked(*looks, (200, "COMPLETED")).outcome is Outcome.ENDED
    assert looked((0, "RUNNING"), (9, ["NODE_FAIL", "REQUEUED"])).outcome is Outcome.WAIT


def test_a_job_that_is_cleaning_up_gets_its_time_and_no_more():
    ending = ["COMPLETED", "COMPLETING"]

    assert looked((0, "RUNNING"), (5, ending)).outcome is Outcome.WAIT
    assert looked((5, ending), (5 + COMPLETING_PATIENCE - 1, ending)).outcome is Outcome.WAIT
    assert looked((5, ending), (5 + COMPLETING_PATIENCE, ending)).outcome is Outcome.ENDED
    assert looked((5, ending), (6, "COMPLETED")).outcome is Outcome.ENDED


def test_the_time_to_clean_up_begins_anew_after_a_requeue():
    ending = ["COMPLETED", "COMPLETING"]
    late = 5 + COMPLETING_PATIENCE

    assert looked((5, ending), (20, "RUNNING"), (late, ending)).outcome is Outcome.WAIT


def test_a_job_that_is_not_shown_yet_is_only_late():
    assert looked(*((after, None) for after in range(20))).outcome is Outcome.WAIT
    assert looked((0, None), (20, "RUNNING")).outcome is Outcome.WAIT


def test_a_job_that_was_never_shown_is_lost_after_the_grace():
    verdict = looked((0, None), (10, None), (GRACE, None))

    assert verdict.outcome is Outcome.LOST
    assert "no longer knows job 9" in verdict.words
    assert "It was never seen." in verdict.words


def test_a_job_that_was_seen_is_lost_only_after_several_misses_in_a_row():
    seen = (300, "RUNNING")

    assert looked(seen, (301, None), (302, None)).outcome is Outcome.WAIT
    assert looked(seen, (301, None), (302, None), seen, (303, None)).outcome is Outcome.WAIT
    lost = looked(seen, (301, None), (302, None), (303, None))
    assert lost.outcome is Outcome.LOST
    assert lost.job.state.base == "RUNNING"
    assert "last seen RUNNING" in lost.words


def test_a_job_that_vanished_while_it_was_cleaning_up_has_ended_as_it_was_seen():
    verdict = looked((300, ["COMPLETED", "COMPLETING"]), (301, None))

    assert verdict.outcome is Outcome.ENDED
    assert verdict.job.state.succeeded


def test_the_same_number_with_another_name_is_another_job():
    stranger = Job(9, read_state("COMPLETED"), name="theirs")
    _, verdict = judge(WATCH, Progress(), Sighting(1001.0, stranger))

    assert verdict.outcome is Outcome.LOST
    assert "'theirs' instead of 'mine'" in verdict.words


def test_a_name_that_is_not_known_is_no_reason_for_doubt():
    stranger = Job(9, read_state("COMPLETED"), name="theirs")

    assert judge(Watch(9), Progress(), Sighting(1.0, stranger))[1].outcome is Outcome.ENDED
    unnamed = Job(9, read_state("COMPLETED"))
    assert judge(WATCH, Progress(), Sighting(1001.0, unnamed))[1].outcome is Outcome.ENDED


@pytest.mark.parametrize(
    ("name", "outcome"),
    [
        ("job_just_submitted", Outcome.WAIT),
        ("job_running", Outcome.WAIT),
        ("job_held", Outcome.WAIT),
        ("job_suspended", Outcome.WAIT),
        ("job_requeue_hold", Outcome.WAIT),
        ("job_requeued_completing", Outcome.WAIT),
        ("job_requeued_pending", Outcome.WAIT),
        ("job_requeued_running_again", Outcome.WAIT),
        ("array_pending_get_master", Outcome.WAIT),
        ("array_running_get_master", Outcome.WAIT),
        ("array_done_get_master", Outcome.ENDED),
        ("array_cancelled_get_master", Outcome.ENDED),
        ("job_completed", Outcome.ENDED),
        ("job_oom", Outcome.ENDED),
        ("job_timeout", Outcome.ENDED),
        ("job_node_fail", Outcome.ENDED),
        ("job_cancelled_while_held", Outcome.ENDED),
    ],
)
def test_what_a_real_slurm_shows_is_judged_right(name, outcome):
    recorded = sample(name)
    job = read_job(recorded, int(re.search(r"/job/(\d+)", recorded.request)[1]))

    assert judge(Watch(job.job_id), Progress(), Sighting(0.0, job))[1].outcome is outcome
