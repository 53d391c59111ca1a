"""Tests of airflow_provider_clusterra.watch.verdict: series of looks, and what they mean."""

import re
from datetime import UTC, datetime

import pytest
from msgspec.structs import replace

from airflow_provider_clusterra.api import NotFoundError
from airflow_provider_clusterra.api.calls import read_job
from airflow_provider_clusterra.api.jobs import Job, one_job, read_state
from airflow_provider_clusterra.watch.verdict import (
    PATIENT,
    Outcome,
    Progress,
    WaitSpec,
    judge,
    judge_accounting,
)
from tests.support.recorded import sample

WATCH = WaitSpec(9, job_name="mine", since=1000.0)
PAIR = WaitSpec(9, job_name="mine", since=1000.0, array="0-1")
TRIPLE = WaitSpec(9, job_name="mine", since=1000.0, array="0-2")


def looked(*looks, watch=WATCH):
    """The verdict after looks of the form (seconds since the wait began, state or None)."""
    progress, verdict = Progress(), None
    for after, words in looks:
        job = None if words is None else Job(9, read_state(words), name="mine")
        progress, verdict = judge(watch, progress, watch.since + after, job)
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
    assert looked((5, ending), (5 + PATIENT.completing - 1, ending)).outcome is Outcome.WAIT
    assert looked((5, ending), (5 + PATIENT.completing, ending)).outcome is Outcome.ENDED
    assert looked((5, ending), (6, "COMPLETED")).outcome is Outcome.ENDED


def test_the_time_to_clean_up_begins_anew_after_a_requeue():
    ending = ["COMPLETED", "COMPLETING"]
    late = 5 + PATIENT.completing

    assert looked((5, ending), (20, "RUNNING"), (late, ending)).outcome is Outcome.WAIT


def test_a_job_that_is_not_shown_yet_is_only_late():
    assert looked(*((after, None) for after in range(20))).outcome is Outcome.WAIT
    assert looked((0, None), (20, "RUNNING")).outcome is Outcome.WAIT


def test_a_job_that_was_never_shown_is_missing_after_the_grace():
    assert looked((0, None), (10, None), (PATIENT.grace - 1, None)).outcome is Outcome.WAIT
    assert looked((0, None), (10, None), (PATIENT.grace, None)).outcome is Outcome.MISSING


def test_a_job_that_was_seen_is_missing_only_after_several_misses_in_a_row():
    seen = (300, "RUNNING")

    assert looked(seen, (301, None), (302, None)).outcome is Outcome.WAIT
    assert looked(seen, (301, None), (302, None), seen, (303, None)).outcome is Outcome.WAIT
    missing = looked(seen, (301, None), (302, None), (303, None))
    assert missing.outcome is Outcome.MISSING
    assert missing.job.state.base == "RUNNING"


def test_a_job_that_vanished_while_it_was_cleaning_up_has_ended_as_it_was_seen():
    verdict = looked((300, ["COMPLETED", "COMPLETING"]), (301, None))

    assert verdict.outcome is Outcome.ENDED
    assert verdict.job.state.succeeded


def test_the_same_number_with_another_name_is_another_job():
    stranger = Job(9, read_state("COMPLETED"), name="theirs")
    _, verdict = judge(WATCH, Progress(), 1001.0, stranger)

    assert verdict.outcome is Outcome.LOST
    assert "'theirs' instead of 'mine'" in verdict.message


@pytest.mark.parametrize(
    ("name", "hour", "outcome"),
    [
        ("mine", 9, Outcome.ENDED),
        ("other", 9, Outcome.LOST),
        ("renamed", 8, Outcome.ENDED),
        ("", 9, Outcome.ENDED),
    ],
)
def test_a_job_that_was_submitted_later_under_another_name_than_was_seen_is_another(
    name, hour, outcome
):
    def seen(words, name, hour):
        when = datetime(2026, 11, 24, hour, tzinfo=UTC)
        return Job(9, read_state(words), name=name, submitted_at=when)

    sensed = WaitSpec(9, since=1000.0)
    progress, _ = judge(sensed, Progress(), 1001.0, seen("RUNNING", "mine", 8))
    assert judge(sensed, progress, 1002.0, seen("COMPLETED", name, hour))[1].outcome is outcome

    told = [seen("FAILED", "mine", 7), seen("COMPLETED", name, hour)]
    verdict = judge_accounting(sensed, progress, 2000.0, told)[1]
    assert (verdict.outcome is Outcome.ENDED) == (outcome is Outcome.ENDED)


def test_a_job_that_is_renamed_and_requeued_is_the_same():
    first, second = (datetime(2026, 11, 24, hour, tzinfo=UTC) for hour in (8, 9))
    seen = Job(9, read_state("RUNNING"), name="one", submitted_at=first)
    again = Job(9, read_state("RUNNING"), name="two", submitted_at=second, restarts=1)
    progress, _ = judge(WaitSpec(9), Progress(), 1.0, seen)

    assert judge(WaitSpec(9), progress, 2.0, again)[1].outcome is Outcome.WAIT


def test_a_submit_that_is_later_than_the_last_seen_is_another_job_if_no_name_was_seen():
    components = replace(submitted(8), name="")
    progress, _ = judge(WaitSpec(9), Progress(), 1.0, components)

    assert judge(WaitSpec(9), progress, 2.0, submitted(8))[1].outcome is Outcome.WAIT
    assert judge(WaitSpec(9), progress, 2.0, submitted(9, restarts=1))[1].outcome is Outcome.WAIT
    assert judge(WaitSpec(9), progress, 2.0, submitted(9))[1].outcome is Outcome.LOST


def test_an_answer_that_has_the_state_alone_does_not_make_the_jobs_name_and_submit_forgotten():
    progress, _ = judge(WaitSpec(9), Progress(), 1.0, submitted(8))
    progress, verdict = judge(WaitSpec(9), progress, 2.0, Job(9, read_state("RUNNING")))
    assert verdict.outcome is Outcome.WAIT

    assert judge(WaitSpec(9), progress, 3.0, submitted(9))[1].outcome is Outcome.WAIT
    stranger = replace(submitted(9), name="theirs")
    assert judge(WaitSpec(9), progress, 3.0, stranger)[1].outcome is Outcome.LOST


def test_a_name_that_is_not_known_is_no_reason_for_doubt():
    stranger = Job(9, read_state("COMPLETED"), name="theirs")

    assert judge(WaitSpec(9), Progress(), 1.0, stranger)[1].outcome is Outcome.ENDED
    unnamed = Job(9, read_state("COMPLETED"))
    assert judge(WATCH, Progress(), 1001.0, unnamed)[1].outcome is Outcome.ENDED


def submitted(hour, words="RUNNING", **fields):
    when = datetime(2026, 11, 24, hour, tzinfo=UTC)
    return Job(9, read_state(words), name="mine", submitted_at=when, **fields)


def judged(*jobs, watch=WATCH):
    """The verdict after these sightings, a second apart."""
    progress, verdict = Progress(), None
    for second, job in enumerate(jobs):
        progress, verdict = judge(watch, progress, watch.since + second, job)
    return verdict


def test_a_later_submit_time_is_a_requeue():
    requeued = submitted(9, "PENDING", restarts=1)

    assert judged(submitted(8), requeued).outcome is Outcome.WAIT
    assert judged(submitted(8), requeued, submitted(9, "COMPLETED")).outcome is Outcome.ENDED


def test_an_earlier_submit_time_is_a_stale_answer_or_another_job():
    stale = submitted(7, "COMPLETED")

    assert judged(submitted(8), stale).outcome is Outcome.WAIT
    assert judged(submitted(8), stale, submitted(8)).outcome is Outcome.WAIT
    assert judged(submitted(8), stale, stale, stale).outcome is Outcome.MISSING


def test_a_job_may_be_pending_for_as_long_as_the_user_allows():
    watch = WaitSpec(9, job_name="mine", since=1000.0, pending_timeout=30.0)
    still = looked((0, "PENDING"), (29, "PENDING"), watch=watch)
    over = looked((0, "PENDING"), (30, "PENDING"), watch=watch)

    assert (still.outcome, still.until) == (Outcome.WAIT, 1030.0)
    assert over.outcome is Outcome.OVERDUE
    assert "pending for 30 s, and pending_timeout is 30 s" in over.message
    assert looked((0, "PENDING"), (9, "RUNNING"), (31, "RUNNING"), watch=watch).until is None


def test_what_was_waited_before_a_requeue_counts_no_more():
    watch = WaitSpec(9, job_name="mine", since=1000.0, pending_timeout=30.0)
    looks = [(0, "PENDING"), (20, "RUNNING"), (100, "PENDING")]
    progress, verdict = Progress(), None
    for after, words in looks:
        job = Job(9, read_state(words), name="mine", restarts=int(after == 100))
        progress, verdict = judge(watch, progress, 1000.0 + after, job)

    assert (verdict.outcome, verdict.until) == (Outcome.WAIT, 1130.0)


def test_an_arrays_rest_may_be_pending_for_as_long_after_those_that_ran_before_it():
    watch = WaitSpec(9, job_name="mine", since=1000.0, pending_timeout=30.0, array="0-3%1")
    begun = [array(pending="0-3%1"), array((0, "RUNNING"), pending="1-3%1")]
    rest = array((0, "COMPLETED"), pending="1-3%1")
    progress = Progress()
    for at, job in ((1001, begun[0]), (1010, begun[1]), (4600, begun[1])):
        progress, _ = judge(watch, progress, float(at), job)
    progress, first = judge(watch, progress, 4605.0, rest)

    assert (first.outcome, first.until) == (Outcome.WAIT, 4635.0)
    assert judge(watch, progress, 4635.0, rest)[1].outcome is Outcome.OVERDUE


def ago(seconds, words, **fields):
    """A part that was submitted at 1000, or once more as long ago as this at 5000, as it had ended."""
    when = datetime.fromtimestamp(5000 - seconds, UTC)
    submitted = when if fields.get("restarts") else datetime.fromtimestamp(1000, UTC)
    return Job(
        **{"job_id": 9, "state": read_state(words), "name": "mine", "submitted_at": submitted}
        | {"ended_at": when if words in ("COMPLETED", "FAILED") else None, **fields}
    )


def member(index, seconds, words, **fields):
    return ago(seconds, words, job_id=100 + index, array_job_id=9, array_task_id=index, **fields)


REST = ago(4000, "PENDING", array_job_id=9, array_task_string="2-3", array_task_id=None)


@pytest.mark.parametrize(
    ("parts", "waited"),
    [
        ([ago(4000, "PENDING")], 4000),
        ([ago(20, "PENDING", restarts=1)], 20),
        ([ago(-500, "PENDING", restarts=1)], 0),
        ([ago(20, "PENDING", restarts=1, submitted_at=None)], 0),
        ([member(0, 90, "COMPLETED"), member(1, 20, "FAILED"), REST], 20),
        ([member(0, 90, "COMPLETED"), member(1, 20, "PENDING", restarts=2), REST], 20),
        ([member(0, 4000, "PENDING"), member(1, 4000, "PENDING"), REST], 4000),
        ([REST], 0),
        ([replace(REST, array_task_string="0,2,...")], 4000),
        ([replace(REST, array_task_string="0,2,...%1")], 4000),
        ([member(0, 20, "COMPLETED"), replace(REST, array_task_string="2,...")], 20),
    ],
    ids=[
        *("never started", "requeued", "another clock", "requeued, nobody knows when"),
        *("after others", "a task requeued", "an array that never started", "others are forgotten"),
        *("a list that Slurm cut", "with a limit", "after others, cut"),
    ],
)
def test_a_wait_that_begins_anew_knows_since_when_a_job_is_pending(parts, waited):
    array = "0-3" if parts[0].array_job_id else ""
    watch = WaitSpec(9, job_name="mine", since=1000.0, pending_timeout=4001.0, array=array)
    verdict = judge(watch, Progress(), 5000.0, one_job(parts, 9))[1]

    assert (verdict.outcome, verdict.until) == (Outcome.WAIT, 5000.0 - waited + 4001.0)


def test_a_job_that_waits_again_and_does_not_say_so_has_waited_since_then():
    watch = WaitSpec(9, job_name="mine", since=1000.0, pending_timeout=30.0)
    verdict = looked((0, "PENDING"), (20, "RUNNING"), (100, "PENDING"), watch=watch)

    assert (verdict.outcome, verdict.until) == (Outcome.WAIT, 1130.0)


def test_a_job_may_be_started_again_as_often_as_the_user_allows():
    watch = WaitSpec(9, since=1000.0, max_restarts=1)

    assert judged(submitted(8, restarts=1), watch=watch).outcome is Outcome.WAIT
    over = judged(submitted(8, restarts=2), watch=watch)
    assert over.outcome is Outcome.OVERDUE
    assert "again 2 times, and max_restarts is 1" in over.message


HELD = Job(9, read_state("PENDING"), name="mine", reason="JobHeldUser")


@pytest.mark.parametrize("sampled", ["job_held", "job_dep_never_satisfied"])
def test_a_job_that_will_never_start_is_stuck_once_that_has_been_so_for_a_while(sampled):
    recorded = sample(sampled)
    job = read_job(recorded, int(re.search(r"/job/(\d+)", recorded.request)[1]))
    watch = WaitSpec(job.job_id, since=1000.0)
    progress, first = judge(watch, Progress(), 1000.0, job)
    _, later = judge(watch, progress, first.until, job)

    assert (first.outcome, first.until) == (Outcome.WAIT, 1000.0 + PATIENT.stuck)
    assert later.outcome is Outcome.STUCK
    assert job.reason in later.message


def test_a_job_that_is_released_in_time_is_not_stuck():
    progress, _ = judge(WATCH, Progress(), 1000.0, HELD)
    progress, _ = judge(WATCH, progress, 1030.0, submitted(8, "PENDING"))
    _, verdict = judge(WATCH, progress, 1000.0 + PATIENT.stuck, HELD)

    assert verdict.outcome is Outcome.WAIT


def test_only_a_pending_job_is_stuck():
    running = replace(HELD, state=read_state("RUNNING"))
    progress, _ = judge(WATCH, Progress(), 1000.0, running)
    _, verdict = judge(WATCH, progress, 1000.0 + PATIENT.stuck, running)

    assert verdict.outcome is Outcome.WAIT


def test_a_stuck_job_is_only_told_where_the_user_wants_that():
    watch = WaitSpec(9, since=1000.0, on_stuck="warn", pending_timeout=500.0)
    progress, _ = judge(watch, Progress(), 1000.0, HELD)
    progress, told = judge(watch, progress, 1000.0 + PATIENT.stuck, HELD)
    _, over = judge(watch, progress, 1500.0, HELD)

    assert (told.outcome, told.until) == (Outcome.WAIT, 1500.0)
    assert "it is held" in told.message
    assert over.outcome is Outcome.OVERDUE


def array(*tasks, pending=""):
    """An array 9 as its records show it: index and state; the rest is pending."""
    records = [
        Job(100 + index, read_state(words), array_job_id=9, array_task_id=index, name="mine")
        for index, words in tasks
    ]
    if pending:
        rest = Job(9, read_state("PENDING"), array_job_id=9, array_task_string=pending, name="mine")
        records.append(rest)
    return one_job(records, 9)


def test_an_array_ends_with_its_last_task():
    assert judged(array((0, "COMPLETED"), pending="1-2%1")).outcome is Outcome.WAIT
    assert judged(array((0, "COMPLETED"), (1, "RUNNING"))).outcome is Outcome.WAIT
    verdict = judged(array((0, "COMPLETED"), (1, "COMPLETED")), watch=PAIR)

    assert verdict.outcome is Outcome.ENDED
    assert verdict.job.state.succeeded


def test_a_task_that_is_forgotten_before_the_others_end_has_ended_as_it_was_seen():
    verdict = judged(
        array((0, "FAILED"), (1, "RUNNING"), pending="2"),
        array((1, "RUNNING"), (2, "RUNNING")),
        array((2, "COMPLETED"), (1, "COMPLETED")),
        watch=TRIPLE,
    )

    assert verdict.outcome is Outcome.ENDED
    assert verdict.job.state.base == "FAILED"
    assert [task.array_task_id for task in verdict.job.tasks] == [0, 1, 2]


def test_a_task_that_is_forgotten_before_its_end_was_seen_is_missing_and_never_a_success():
    looks = [array((0, "RUNNING"), (1, "RUNNING"))] + [array((1, "COMPLETED"))] * 3

    assert judged(*looks[:3]).outcome is Outcome.WAIT
    assert judged(*looks).outcome is Outcome.MISSING


def test_indices_that_were_asked_for_and_never_shown_are_missing():
    watch = WaitSpec(9, since=1000.0, array="0-3")
    looks = [array((3, "COMPLETED"))] * 3

    assert judged(*looks, watch=watch).outcome is Outcome.MISSING


def test_an_array_that_is_forgotten_as_a_whole_has_ended_if_every_end_was_seen():
    seen = array((0, "COMPLETED"), (1, ["COMPLETED", "COMPLETING"]))

    assert judged(seen, None, watch=PAIR).outcome is Outcome.ENDED


def test_a_task_that_runs_again_has_not_ended():
    verdict = judged(
        array((0, "NODE_FAIL"), (1, "RUNNING")),
        array((0, "RUNNING"), (1, "COMPLETED")),
        array((1, "COMPLETED")),
    )

    assert verdict.outcome is Outcome.WAIT


def part(index, words, hour, **fields):
    """A task of array 9, or a component of het job 9, as it was (re)submitted at an hour."""
    when = datetime(2026, 11, 24, hour, tzinfo=UTC)
    kind = {"array_job_id": 9, "array_task_id": index} | fields
    return Job(100 + index, read_state(words), name="mine", submitted_at=when, **kind)


@pytest.mark.parametrize("requeued", [0, 1, 2])
@pytest.mark.parametrize("het", [False, True])
def test_a_part_that_is_requeued_does_not_make_the_others_look_older(requeued, het):
    def parts(*words):
        kind = {"array_job_id": None, "array_task_id": None, "het_job_id": 9} if het else {}
        return one_job(
            [
                part(index, word, 9 if index == requeued else 8, **kind)
                for index, word in enumerate(words)
            ],
            9,
        )

    first = parts("RUNNING", "RUNNING", "RUNNING")
    ended = ["RUNNING"] * 3
    ended[requeued] = "COMPLETED"
    progress = Progress()
    for second, job in enumerate([first, *[parts(*ended)] * 5]):
        progress, verdict = judge(TRIPLE, progress, 1000.0 + second, job)
        assert verdict.outcome is Outcome.WAIT
        assert progress.misses == 0
    _, verdict = judge(TRIPLE, progress, 1010.0, parts(*["COMPLETED"] * 3))

    assert verdict.outcome is Outcome.ENDED
    assert verdict.job.state.succeeded


def test_an_array_whose_indices_nobody_knows_asks_accounting_before_it_succeeds():
    verdict = judged(array((1, "COMPLETED"), (2, "COMPLETED")))

    assert verdict.outcome is Outcome.MISSING
    assert judged(array((1, "COMPLETED"), (2, "RUNNING"))).outcome is Outcome.WAIT


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

    spec = WaitSpec(job.job_id, array=",".join(str(task.array_task_id) for task in job.tasks))
    assert judge(spec, Progress(), 0.0, job)[1].outcome is outcome


@pytest.mark.parametrize(
    ("seen", "shown", "outcome", "state"),
    [
        (("RUNNING", "FAILED"), {0: "COMPLETED"}, Outcome.ENDED, "FAILED"),
        (("FAILED", "RUNNING"), {1: "COMPLETED"}, Outcome.ENDED, "FAILED"),
        (("RUNNING", "COMPLETED"), {0: "COMPLETED"}, Outcome.ENDED, "COMPLETED"),
        (("RUNNING", "RUNNING"), {0: "COMPLETED"}, Outcome.WAIT, None),
        (("RUNNING", "FAILED"), {0: "RUNNING"}, Outcome.WAIT, None),
    ],
)
def test_a_component_that_is_no_longer_shown_counts_as_it_was_seen(seen, shown, outcome, state):
    looks = [(1001.0, het(enumerate(seen))), (1002.0, het(shown.items()))]
    progress, verdict = Progress(), None
    for look in looks:
        progress, verdict = judge(WATCH, progress, *look)

    assert verdict.outcome is outcome
    assert state is None or verdict.job.state.base == state


def het(states, names=("mine",) * 3, ids=""):
    own = {"het_job_id": 9, "het_job_ids": ids}
    parts = [
        Job(9 + offset, read_state(words), name=names[offset], het_job_offset=offset, **own)
        for offset, words in states
    ]
    return one_job(parts, 9)


@pytest.mark.parametrize("seen", [{0: "RUNNING", 1: "RUNNING"}, None])
@pytest.mark.parametrize(
    ("shown", "outcome"),
    [
        ({0: "COMPLETED", 1: "RUNNING"}, Outcome.WAIT),
        ({0: "COMPLETED", 1: "FAILED"}, Outcome.ENDED),
        ({1: "RUNNING"}, Outcome.WAIT),
    ],
)
def test_a_component_may_have_a_name_of_its_own(seen, shown, outcome):
    names = ("mine", "own")
    before = judge(WATCH, Progress(), 1001.0, het(seen.items(), names))[0] if seen else Progress()

    verdict = judge(WATCH, before, 1002.0, het(shown.items(), names))[1]
    assert verdict.outcome is outcome
    assert outcome is Outcome.WAIT or verdict.job.state.base == "FAILED"


@pytest.mark.parametrize(
    ("shown", "ids", "outcome"),
    [
        ((0, 1), "", Outcome.ENDED),
        ((0, 1), "9-10", Outcome.ENDED),
        ((0, 1), "9-11", Outcome.MISSING),
        ((0, 2), "9,10,11", Outcome.MISSING),
        ((1, 2), "9-11", Outcome.MISSING),
        ((0,), "", Outcome.MISSING),
        ((1,), "", Outcome.MISSING),
    ],
)
def test_a_component_that_was_forgotten_before_the_first_look_is_asked_for(shown, ids, outcome):
    seen = het([(offset, "COMPLETED") for offset in shown], ids=ids)
    progress, verdict = judge(WATCH, Progress(), 1002.0, seen)

    assert verdict.outcome is outcome
    # who cannot ask does not know
    unknown = NotFoundError("404 GET /accounting: not offered.", status=404)
    alone = judge_accounting(WATCH, progress, 1002.0, unknown)[1]
    assert (alone.outcome is Outcome.LOST) == (outcome is Outcome.MISSING)


def test_a_component_that_is_waited_for_by_its_own_id_is_whole():
    own = Job(10, read_state("COMPLETED"), het_job_id=9, het_job_offset=1, het_job_ids="9-10")

    assert judge(WaitSpec(10), Progress(), 1002.0, own)[1].outcome is Outcome.ENDED


def test_a_het_job_whose_leader_has_another_name_is_another_job():
    strange = het({0: "RUNNING", 1: "RUNNING"}.items(), ("strange", "mine"))

    assert judge(WATCH, Progress(), 1001.0, strange)[1].outcome is Outcome.LOST
