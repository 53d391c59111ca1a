"""Tests of airflow_provider_clusterra.watch.poller."""

from itertools import chain, cycle, islice, pairwise, repeat
from statistics import median

import pytest

from airflow_provider_clusterra.watch.looks import SAVED, Cost, Costs, Way
from airflow_provider_clusterra.watch.poller import FREE, pause_before_look


@pytest.mark.parametrize(
    ("age", "expected"), [(0, 1), (8, 1), (16, 2), (32, 4), (64, 5), (240, 5), (9e9, 5)]
)
def test_young_jobs_are_looked_at_often_and_old_ones_every_5_s(age, expected):
    assert 0.9 * expected <= pause_before_look(age, 30.0) <= 1.1 * expected


def test_an_interval_shorter_than_the_shortest_pause_is_kept():
    assert max(pause_before_look(500, 0.5) for _ in range(20)) <= 0.5


def test_looks_do_not_all_come_at_once():
    assert len({pause_before_look(600, 30.0) for _ in range(20)}) > 1


def test_a_job_that_is_not_shown_or_is_completing_is_looked_for_sooner():
    assert pause_before_look(9e9, 30.0, cost=Cost(60.0), eager=True) <= 1.1


def test_many_young_jobs_share_20_looks_a_minute():
    assert 3 < pause_before_look(0, 30.0, recent=FREE) < 4
    assert 3 < pause_before_look(9e9, 30.0, eager=True, recent=FREE) < 4
    assert pause_before_look(0, 30.0, recent=FREE - 1) <= 1.1


def test_a_look_that_took_long_is_followed_by_a_longer_pause_but_never_than_the_interval():
    assert 10 <= pause_before_look(0, 30.0, cost=Cost(0.2)) <= 12.3
    assert pause_before_look(0, 30.0, cost=Cost(60.0)) <= 30


def test_jobs_that_are_looked_at_one_by_one_share_20_requests_a_minute():
    assert 27 <= pause_before_look(9e9, 60.0, cost=Cost(0.05, 10)) <= 36
    assert pause_before_look(9e9, 120.0, cost=Cost(0.05, 100)) <= 33


def test_the_end_of_a_job_that_lives_for_less_than_a_minute_is_seen_within_2_s_on_median():
    late = []
    for tenths in range(10, 600, 7):
        end, look = tenths / 10, 0.0
        while look < end:
            look += pause_before_look(look, 30.0)
        late.append(look - end)

    assert median(late) < 2


def looked_at(costs, hours=2.0):
    """Old jobs' looks one after the other: seconds of answering so far, and when each began."""
    measured, now, spent = Costs(), 0.0, 0.0
    for cost in costs:
        if now > hours * 3600:
            return
        yield spent, now
        spent, now = spent + cost, now + cost
        measured.note(Way.STATES, cost, now)
        now += pause_before_look(9e9, 120.0, cost=measured.of_look(1000, now))


@pytest.mark.parametrize(
    "costs",
    [
        repeat(0.05),
        repeat(2.0),
        cycle([0.05, 1.5]),
        cycle([0.4, 0.9, 0.5, 0.7]),
        cycle([0.1] * 9 + [4.0]),
        chain(islice(repeat(0.1), 200), repeat(1.0)),
        chain(islice(repeat(1.0), 50), cycle([0.1, 0.1, 1.2])),
    ],
    ids=["cheap", "dear", "by turns", "noise", "each tenth", "a queue that grows", "that shrinks"],
)
def test_looks_take_a_fiftieth_of_the_servers_time_whatever_each_costs(costs):
    looks = list(looked_at(costs))

    assert len(looks) > 50
    assert all(spent <= 0.02 * now + SAVED + 4.0 for spent, now in looks)


def test_one_slow_answer_among_cheap_ones_delays_no_look():
    times = [now for _, now in looked_at(chain([0.05] * 5, [1.8], repeat(0.05)), hours=0.1)]

    assert max(later - now for now, later in pairwise(times)) < 9
