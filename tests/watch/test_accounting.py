"""Tests of airflow_provider_clusterra.watch.verdict: what is said of a job that is not shown."""

from datetime import UTC, datetime

import pytest
from msgspec.structs import replace

from airflow_provider_clusterra.api import (
    AuthenticationError,
    NotFoundError,
    RateLimitedError,
    RequestError,
    ServerError,
    TransportError,
)
from airflow_provider_clusterra.api.calls import read_jobs
from airflow_provider_clusterra.api.jobs import Job, one_job, read_state
from airflow_provider_clusterra.watch.verdict import (
    PATIENT,
    Outcome,
    Patience,
    Progress,
    WaitSpec,
    judge,
    judge_accounting,
)
from tests.support.recorded import sample

NO_ACCOUNTING = NotFoundError("404 GET /accounting: not offered.", status=404)
WATCH = WaitSpec(9, job_name="mine", since=1000.0)
SENSED = WaitSpec(9, since=1000.0)
"""A sensor's: neither the name nor the indices are known."""
GOES_ON = read_state("RUNNING")
MISSED = Progress(last=Job(9, read_state("RUNNING")), misses=3, missing_since=2000.0)


def record(words, job_id=9, *, hour=8, name="mine", **fields):
    when = datetime(2026, 11, 24, hour, tzinfo=UTC)
    return Job(job_id, read_state(words), name=name, submitted_at=when, **fields)


def task(index, words, **fields):
    return record(words, 100 + index, array_job_id=9, array_task_id=index, **fields)


AGED = Patience(min_job_age=0.0)
"""A job that was seen may be forgotten at once."""


def told(*records, watch=WATCH, progress=MISSED, at=2000.0, patience=AGED):
    return judge_accounting(watch, progress, at, list(records), patience)[1]


def test_the_real_accounting_tells_the_end_of_a_job_that_was_forgotten():
    (job,) = read_jobs(sample("slurmdb_job_after_purge", "24.11-v0.0.42"))
    verdict = told(job, watch=WaitSpec(job.job_id, job_name=job.name))

    assert verdict.outcome is Outcome.ENDED
    assert verdict.job.state.ended


def test_without_accounting_the_job_is_lost_and_its_last_state_is_told():
    verdict = judge_accounting(WATCH, MISSED, 2000.0, NO_ACCOUNTING, AGED)[1]

    assert verdict.outcome is Outcome.LOST
    assert "there is no accounting to ask" in verdict.message
    assert "last seen RUNNING" in verdict.message
    assert "job_9.out" in verdict.message


def test_a_job_that_accounting_never_heard_of_is_lost():
    assert told().outcome is Outcome.LOST
    assert "It was never seen." in told(progress=Progress(missing_since=2000.0)).message


def test_running_in_accounting_is_never_an_end_and_not_believed_for_ever():
    assert told(record("RUNNING")).outcome is Outcome.WAIT
    assert told(record("RUNNING")).until == 2015.0
    late = told(record("RUNNING"), at=2000.0 + PATIENT.accounting)
    assert late.outcome is Outcome.LOST
    assert "still says that it is RUNNING" in late.message


def test_accounting_that_does_not_answer_is_asked_again_and_not_for_ever():
    error = TransportError("no answer in time")

    assert judge_accounting(WATCH, MISSED, 2000.0, error)[1].outcome is Outcome.WAIT
    verdict = judge_accounting(WATCH, MISSED, 2000.0 + PATIENT.accounting, error)[1]
    assert verdict.outcome is Outcome.LOST
    assert "no answer in time" in verdict.message


def test_of_several_records_of_one_job_the_last_counts():
    verdict = told(record("COMPLETED", hour=9), record("NODE_FAIL", hour=8))

    assert verdict.job.state.base == "COMPLETED"


@pytest.mark.parametrize("words", ["NODE_FAIL", "COMPLETED"])
@pytest.mark.parametrize("watch", [WATCH, WaitSpec(9, since=1000.0)])
def test_an_earlier_run_than_was_seen_is_no_end(words, watch):
    again = Progress(last=record("RUNNING", hour=9), misses=3, missing_since=2000.0)
    verdict = told(record(words), watch=watch, progress=again)

    assert verdict.outcome is Outcome.WAIT
    late = told(record(words), watch=watch, progress=again, at=2000.0 + AGED.accounting)
    assert late.outcome is Outcome.LOST
    assert "accounting has only an earlier run of it" in late.message
    both = [record("FAILED", hour=9), record(words)]
    assert told(*both, watch=watch, progress=again).job.state.base == "FAILED"


@pytest.mark.parametrize("offset", [0, 1])
def test_an_earlier_run_of_a_het_jobs_component_is_no_end(offset):
    def component(words, place, hour):
        return record(words, 9 + place, hour=hour, het_job_id=9, het_job_offset=place)

    last = one_job([component("RUNNING", place, 9) for place in (0, 1)], 9)
    again = Progress(last=last, misses=3, missing_since=2000.0)
    new, old = component("COMPLETED", 1 - offset, 9), component("COMPLETED", offset, 8)

    assert told(new, old, progress=again).outcome is Outcome.WAIT
    ended = component("FAILED", offset, 9)
    assert told(new, old, ended, progress=again).job.state.base == "FAILED"


def looked(watch, *looks):
    """What is remembered of these looks, and of misses after them."""
    progress = Progress()
    for number, job in enumerate((*looks, None, None, None)):
        progress, _ = judge(watch, progress, 1990.0 + number, job)
    return progress


@pytest.mark.parametrize("watch", [WaitSpec(9, job_name="mine", array="0-1"), SENSED])
@pytest.mark.parametrize("words", ["COMPLETED", "NODE_FAIL"])
def test_an_earlier_run_of_an_index_than_was_seen_is_no_end(watch, words):
    running = [task(0, "RUNNING"), task(1, "RUNNING", hour=9)]
    for looks in ([running], [running, running[:1]]):
        progress = looked(watch, *(one_job(tasks, 9) for tasks in looks))
        behind = [task(0, "COMPLETED"), task(1, words)]

        assert told(*behind, watch=watch, progress=progress).outcome is Outcome.WAIT
        known = told(*behind, task(1, "FAILED", hour=9), watch=watch, progress=progress)
        assert known.job.state.base == "FAILED"


def test_an_index_that_was_joined_late_may_be_older_than_those_that_were_seen():
    progress = looked(SENSED, one_job([task(1, "RUNNING", hour=9)], 9))
    records = [task(0, "FAILED"), task(1, "NODE_FAIL"), task(1, "COMPLETED", hour=9)]

    verdict = told(*records, watch=SENSED, progress=progress)
    assert [each.state.base for each in verdict.job.tasks] == ["FAILED", "COMPLETED"]


def test_a_run_whose_state_alone_was_seen_last_is_still_known_by_its_submit():
    progress = looked(WATCH, record("RUNNING", hour=9), Job(9, read_state("RUNNING")))

    assert told(record("COMPLETED"), progress=progress).outcome is Outcome.WAIT


OLD = {
    "single": [record("COMPLETED", hour=7, name="old")],
    "array": [task(index, "COMPLETED", hour=7, name="old") for index in range(2)],
    "het": [
        record("COMPLETED", 9 + n, hour=7, name="old", het_job_id=9, het_job_offset=n)
        for n in range(2)
    ],
}
NEW = {
    "single": [record("FAILED", hour=9)],
    "array": [task(0, "FAILED", hour=9), task(1, "COMPLETED", hour=9)],
    "het": [
        record(words, 9 + n, hour=9, name=f"c{n}", het_job_id=9, het_job_offset=n)
        for n, words in enumerate(("COMPLETED", "FAILED"))
    ],
}


@pytest.mark.parametrize("old", OLD.values(), ids=OLD)
@pytest.mark.parametrize("new", NEW.values(), ids=NEW)
def test_without_a_name_the_newest_job_of_the_number_is_meant(old, new):
    for order in ([*new, *old], [*old, *new]):
        for last in (None, one_job([replace(each, state=GOES_ON) for each in new], 9)):
            progress = Progress(last=last, misses=3, missing_since=2000.0)
            verdict = told(*order, watch=SENSED, progress=progress)

            assert verdict.outcome is Outcome.ENDED
            assert verdict.job.state.base == "FAILED"
            assert len(verdict.job.tasks or [1]) == len(new)


@pytest.mark.parametrize("old", OLD.values(), ids=OLD)
@pytest.mark.parametrize("new", NEW.values(), ids=NEW)
def test_an_older_job_of_the_number_is_no_end_of_the_one_that_was_seen(old, new):
    last = one_job([replace(each, state=GOES_ON) for each in new], 9)
    progress = Progress(last=last, misses=3, missing_since=2000.0)

    assert told(*old, watch=SENSED, progress=progress).outcome is Outcome.WAIT


def test_a_task_of_an_array_that_was_renamed_is_of_it():
    renamed = task(1, "FAILED", name="theirs")
    for watch in (SENSED, WaitSpec(9, job_name="mine", array="0-1")):
        verdict = told(task(0, "COMPLETED"), renamed, watch=watch)

        assert verdict.job.state.base == "FAILED"


@pytest.mark.parametrize("seen", [True, False])
@pytest.mark.parametrize(
    "place", [{"array_job_id": 12, "array_task_id": 2}, {"het_job_id": 12, "het_job_offset": 2}]
)
def test_a_part_is_waited_for_by_its_own_number(seen, place):
    own = WaitSpec(14, since=1000.0)
    running = record("RUNNING", 14, **place)
    progress = looked(own, running) if seen else Progress(missing_since=2000.0)
    others = [record("FAILED", 13, **{key: value - (value < 9) for key, value in place.items()})]

    verdict = told(record("COMPLETED", 14, **place), *others, watch=own, progress=progress)
    assert verdict.outcome is Outcome.ENDED
    assert verdict.job.state.succeeded
    assert told(running, watch=own, progress=progress).outcome is Outcome.WAIT
    assert told(watch=own, progress=progress).outcome is Outcome.LOST


def test_another_jobs_record_under_the_same_number_is_not_ours():
    assert told(record("COMPLETED", name="theirs")).outcome is Outcome.LOST


def test_an_arrays_tasks_are_known_from_what_was_seen_and_from_accounting_together():
    seen = Progress(
        last=task(3, "COMPLETED"),
        missing_since=2000.0,
        indices=frozenset({2, 3}),
        ends={3: task(3, "COMPLETED")},
    )
    verdict = told(
        *(task(index, "COMPLETED") for index in (1, 2)), task(0, "FAILED"), progress=seen
    )

    assert verdict.outcome is Outcome.ENDED
    assert verdict.job.state.base == "FAILED"
    assert [each.array_task_id for each in verdict.job.tasks] == [0, 1, 2, 3]


def rest(mask, words, **fields):
    """The record in which slurmdbd writes the indices that never began as a mask."""
    return record(words, 9, array_job_id=9, array_task_string=mask, **fields)


@pytest.mark.parametrize("watch", [WaitSpec(9, job_name="mine", array="0-3%1"), SENSED])
@pytest.mark.parametrize("mask", ["0xE", "0xe", "1-3", "[1-3]", "0xE%1"])
@pytest.mark.parametrize("last", [Job(9, read_state("RUNNING")), None])
def test_indices_that_never_began_are_known_from_accountings_mask(watch, mask, last):
    progress = Progress(last=last, missing_since=2000.0)
    records = [rest(mask, "CANCELLED"), task(0, "COMPLETED")]
    for order in (records, records[::-1]):
        verdict = told(*order, watch=watch, progress=progress)

        assert verdict.outcome is Outcome.ENDED
        assert verdict.job.state.base == "CANCELLED"
        assert [each.state.base for each in verdict.job.tasks] == ["COMPLETED", *["CANCELLED"] * 3]


def test_an_index_with_a_record_of_its_own_overrides_the_mask():
    watch = WaitSpec(9, array="0-1")
    late = task(1, "FAILED", hour=7)
    for order in (
        [rest("0x3", "PENDING"), task(0, "COMPLETED"), late],
        [late, rest("0x2", "COMPLETED"), task(0, "COMPLETED")],
    ):
        assert told(*order, watch=watch).job.state.base == "FAILED"


@pytest.mark.parametrize("watch", [WaitSpec(9, array="0-5"), SENSED])
def test_a_rest_that_accounting_calls_pending_is_waited_for(watch):
    records = [rest("0x3C", "PENDING"), task(0, "COMPLETED"), task(1, "COMPLETED")]

    assert told(*records, watch=watch).outcome is Outcome.WAIT


def test_an_array_that_was_joined_late_is_not_a_success_by_what_was_never_seen():
    seen = {1: task(1, "COMPLETED")}
    joined = Progress(last=task(1, "COMPLETED"), indices=frozenset({1}), ends=seen)
    full = [task(0, "FAILED"), task(1, "COMPLETED")]

    assert told(*full, watch=SENSED, progress=joined).job.state.base == "FAILED"
    alone = judge_accounting(SENSED, joined, 2000.0, NO_ACCOUNTING)[1]
    assert (alone.outcome, alone.job.state.base) == (Outcome.ENDED, "COMPLETED")
    late = judge_accounting(SENSED, joined, 2000.0, TransportError("no answer"))[1]
    assert late.outcome is Outcome.WAIT


@pytest.mark.parametrize("leader", ["COMPLETED", "FAILED"])
def test_a_het_job_in_accounting_is_judged_by_all_its_components(leader):
    follower = "FAILED" if leader == "COMPLETED" else "COMPLETED"
    parts = [
        record(words, 9 + offset, het_job_id=9, het_job_offset=offset)
        for offset, words in enumerate((leader, follower))
    ]
    for order in (parts, parts[::-1]):
        verdict = told(*order)

        assert verdict.outcome is Outcome.ENDED
        assert verdict.job.state.base == "FAILED"
        assert len(verdict.job.tasks) == 2
    still = told(parts[0], record("RUNNING", 10, het_job_id=9, het_job_offset=1))
    assert still.outcome is Outcome.WAIT


def test_a_component_with_a_name_of_its_own_is_of_the_het_job():
    ours = record("COMPLETED", 9, het_job_id=9, het_job_offset=0)
    other = {"name": "own", "het_job_id": 9, "het_job_offset": 1}

    assert told(ours, record("FAILED", 10, **other)).job.state.base == "FAILED"
    assert told(ours, record("RUNNING", 10, **other)).outcome is Outcome.WAIT
    # after the cluster has begun to count anew, there are two het jobs of the number
    strangers = record("FAILED", 9, hour=9, name="strange", het_job_id=9, het_job_offset=0)
    assert told(ours, strangers, record("FAILED", 10, hour=9, **other)).job.state.succeeded


@pytest.mark.parametrize(
    ("error", "first", "late"),
    [
        (NO_ACCOUNTING, Outcome.LOST, Outcome.LOST),
        (RateLimitedError("429", status=429), Outcome.WAIT, Outcome.LOST),
        (AuthenticationError("401", status=401), Outcome.WAIT, Outcome.LOST),
        (AuthenticationError("403", status=403), Outcome.WAIT, Outcome.LOST),
        (RequestError("400", status=400), Outcome.WAIT, Outcome.LOST),
        (ServerError("503", status=503), Outcome.WAIT, Outcome.LOST),
        (TransportError("no answer"), Outcome.WAIT, Outcome.LOST),
        (ServerError("404 page not found", status=404), Outcome.WAIT, Outcome.LOST),
    ],
    ids=repr,
)
def test_only_the_apis_own_no_says_that_there_is_no_accounting(error, first, late):
    progress, verdict = judge_accounting(WATCH, MISSED, 2000.0, error, AGED)
    assert verdict.outcome is first
    after = 2000.0 + AGED.accounting
    assert judge_accounting(WATCH, progress, after, error, AGED)[1].outcome is late


def test_of_a_refusal_it_is_not_said_that_there_is_no_accounting():
    refusal = AuthenticationError("403", status=403)
    progress, _ = judge_accounting(WATCH, MISSED, 2000.0, refusal, AGED)
    late = judge_accounting(WATCH, progress, 2000.0 + AGED.accounting, refusal, AGED)[1]

    assert "accounting refuses to answer" in late.message


def test_an_array_is_what_was_seen_of_it_on_an_api_without_accounting():
    seen = Progress(
        last=task(1, "COMPLETED"), indices=frozenset({1}), ends={1: task(1, "COMPLETED")}
    )
    gateways = ServerError("404 page not found", status=404)
    progress, verdict = judge_accounting(SENSED, seen, 2000.0, gateways)
    assert verdict.outcome is Outcome.WAIT
    late = judge_accounting(SENSED, progress, 2000.0 + PATIENT.grace, gateways)[1]
    assert (late.outcome, late.job.state.base) == (Outcome.ENDED, "COMPLETED")


def test_a_job_that_was_alive_a_moment_ago_cannot_have_been_forgotten():
    for answer in ([], NO_ACCOUNTING):
        verdict = judge_accounting(WATCH, MISSED, 2010.0, answer)[1]
        late = judge_accounting(WATCH, MISSED, 2000.0 + PATIENT.min_job_age, answer)[1]

        assert (verdict.outcome, late.outcome) == (Outcome.WAIT, Outcome.LOST)


@pytest.mark.parametrize(("asked", "outcome"), [({0, 1}, Outcome.ENDED), ({0, 1, 2}, Outcome.LOST)])
def test_an_index_of_which_nobody_knows_is_never_a_success(asked, outcome):
    watch = WaitSpec(9, job_name="mine", array=",".join(map(str, asked)))
    verdict = told(task(0, "COMPLETED"), task(1, "COMPLETED"), watch=watch)

    assert verdict.outcome is outcome
    assert outcome is Outcome.ENDED or "indices 2 is not known" in verdict.message


def test_an_array_of_which_accounting_shows_running_tasks_is_waited_for():
    verdict = told(task(0, "COMPLETED"), task(1, "RUNNING"))

    assert verdict.outcome is Outcome.WAIT


def test_a_task_that_was_requeued_is_known_by_its_last_record():
    verdict = told(task(0, "COMPLETED", hour=9), task(0, "NODE_FAIL", hour=8))

    assert verdict.job.state.succeeded
