"""Tests of airflow_provider_clusterra.watch.looks: which way of asking is taken."""

import pytest

from airflow_provider_clusterra.watch.looks import (
    FAILURES,
    REMEASURE,
    Cost,
    Costs,
    Load,
    Way,
)

NOW = 1000.0


def measured(**seconds):
    costs = Costs()
    for name, took in seconds.items():
        costs.note(Way[name], took, NOW)
    return costs


def test_one_job_is_asked_for_by_itself():
    costs = measured(STATES=0.0, LIST=0.0, SINGLE=9.0)

    assert costs.way_to_look(1, NOW) is Way.SINGLE
    assert costs.way_to_see(1, NOW) is Way.SINGLE


def test_one_of_many_that_is_due_is_asked_for_with_all_if_that_costs_no_more():
    assert measured(STATES=0.01).way_to_look(1, NOW, among=2) is Way.STATES
    assert measured(STATES=0.4).way_to_look(1, NOW, among=2) is Way.SINGLE
    assert Costs().way_to_look(0, NOW, among=2) is Way.SINGLE


def test_the_light_states_are_tried_first():
    assert Costs().way_to_look(2, NOW) is Way.STATES


@pytest.mark.parametrize(("count", "way"), [(5, Way.SINGLE), (20, Way.STATES)])
def test_states_are_asked_for_if_they_cost_less(count, way):
    # as measured on a real slurmrestd: 4 ms a job, all states of a large cluster 400 ms
    assert measured(SINGLE=0.004, STATES=0.4).way_to_look(count, NOW) is way


@pytest.mark.parametrize(("count", "way"), [(40, Way.SINGLE), (1000, Way.LIST)])
def test_the_list_is_asked_for_if_it_costs_less(count, way):
    costs = measured(SINGLE=0.004)
    costs.note(Way.LIST, 0.65, NOW, 8_150_000)

    assert costs.way_to_see(count, NOW) is way


def test_a_fast_servers_list_is_not_cheap_for_the_few_that_end():
    costs = measured(SINGLE=0.05)
    costs.note(Way.LIST, 0.1, NOW, 8_150_000)

    assert costs.way_to_see(20, NOW) is Way.SINGLE


def test_a_list_that_was_never_measured_is_tried_if_single_requests_are_many():
    costs = measured(SINGLE=0.004)

    assert costs.way_to_see(20, NOW) is Way.SINGLE
    assert costs.way_to_see(300, NOW) is Way.LIST


def test_a_slow_servers_list_is_not_tried_for_a_few_that_end():
    costs = measured(SINGLE=0.6)

    assert costs.way_to_see(5, NOW) is Way.SINGLE
    assert costs.way_to_see(30, NOW) is Way.LIST


@pytest.mark.parametrize(("count", "many"), [(1, False), (20, False), (21, True), (1900, True)])
def test_in_a_long_queue_whose_list_is_dear_those_that_join_are_many_as_elsewhere(count, many):
    costs = measured(SINGLE=0.004)
    costs.note(Way.STATES, 0.3, NOW, 4_000_000)

    assert costs.way_to_see(count, NOW) is Way.SINGLE
    assert costs.are_many(count, NOW) is many


def test_a_long_queues_list_is_not_tried_if_its_states_are_long_already():
    costs = measured(SINGLE=0.004)
    costs.note(Way.STATES, 1.0, NOW, 8_000_000)

    assert costs.way_to_look(20_000, NOW) is Way.STATES
    assert costs.way_to_see(300, NOW) is Way.SINGLE


def test_without_states_many_jobs_are_looked_at_by_the_list():
    costs = measured(SINGLE=0.004, LIST=0.65)
    costs.note_failure(Way.STATES, NOW, refused=True)

    assert costs.way_to_look(1000, NOW) is Way.LIST
    assert costs.load(1000, 0, 0, NOW) == Load(Cost(0.65, 1))
    assert costs.way_to_look(10, NOW) is Way.SINGLE
    assert costs.load(10, 0, 0, NOW) == Load(Cost(0, 0), Cost(0.04, 10))


@pytest.mark.parametrize(("count", "way"), [(2, Way.SINGLE), (3, Way.LIST), (10, Way.LIST)])
def test_without_states_a_list_is_tried_once_and_then_taken_if_it_is_cheap(count, way):
    costs = measured(SINGLE=0.004)
    costs.note_failure(Way.STATES, NOW, refused=True)
    assert costs.way_to_look(count, NOW) is way

    costs.note(Way.LIST, 9.0, NOW)
    assert costs.way_to_look(count, NOW) is Way.SINGLE


def test_arrays_and_jobs_that_need_a_request_each_weigh_as_much_as_they_take():
    costs = measured(SINGLE=0.01, ARRAY=0.1, STATES=0.02)

    assert costs.load(1000, 2, 3, NOW) == Load(Cost(0.02, 1), Cost(pytest.approx(0.32), 5))
    assert costs.load(0, 0, 3, NOW) == Load(Cost(0, 0), Cost(pytest.approx(0.3), 3))


def test_a_figure_is_forgotten():
    costs = measured(LIST=9.0)

    assert costs.of(Way.LIST, NOW + REMEASURE - 1) == 9
    assert costs.of(Way.LIST, NOW + REMEASURE) is None


def rested(costs, now):
    """Seconds for which the states are not asked for after they are refused."""
    costs.note_failure(Way.STATES, now, refused=True)
    return next(rest for rest in range(1000) if costs.way_to_look(5, now + rest) is Way.STATES)


def test_a_way_that_is_refused_once_is_soon_tried_again_and_one_that_always_is_hardly_ever():
    costs = measured(STATES=0.01, SINGLE=0.004)
    rests = [rested(costs, NOW + 1000 * look) for look in range(9)]

    assert 10 <= rests[0] <= 20
    assert 20 <= rests[1] <= 40
    assert min(rests[7:]) >= REMEASURE / 2
    assert max(rests) <= REMEASURE

    costs.note(Way.STATES, 0.01, NOW + 10_000)
    assert rested(costs, NOW + 10_000) <= 20


def test_a_way_that_fails_again_after_its_rest_has_another_at_once():
    costs = measured(STATES=0.01, SINGLE=0.004)
    for _ in range(FAILURES):
        costs.note_failure(Way.STATES, NOW)
    assert costs.way_to_look(5, NOW + 20) is Way.STATES

    costs.note_failure(Way.STATES, NOW + 20)
    assert costs.way_to_look(5, NOW + 39) is Way.SINGLE


def test_a_way_that_fails_alone_is_given_a_rest_and_one_success_forgives():
    costs = Costs()
    for _ in range(FAILURES - 1):
        costs.note_failure(Way.STATES, NOW)
    costs.note(Way.STATES, 0.01, NOW)
    for _ in range(FAILURES - 1):
        costs.note_failure(Way.STATES, NOW)
    assert costs.way_to_look(2, NOW) is Way.STATES

    costs.note_failure(Way.STATES, NOW)
    assert costs.way_to_look(2, NOW) is Way.SINGLE


def test_a_figure_follows_what_is_measured_and_not_at_once():
    costs = measured(SINGLE=1.0)
    costs.note(Way.SINGLE, 2.0, NOW)

    assert 1.0 < costs.of(Way.SINGLE, NOW) < 2.0


def test_one_slow_answer_is_forgotten_with_the_next_good_one():
    costs = measured(STATES=5.0)
    costs.note(Way.STATES, 0.05, NOW)

    assert costs.of(Way.STATES, NOW) == 0.05
