"""The rounds of the crash test can be played again, and miss no kind of fault."""

from tests.crash.rounds import FORGETS, MIN_JOB_AGE, OF_SUBMITS, SLOW_RETRY, Kind, Shape, plan


def test_the_same_seed_gives_the_same_rounds_and_another_one_others():
    assert plan(30, seed=1) == plan(30, seed=1)
    assert plan(30, seed=1) != plan(30, seed=2)


def test_every_kind_of_fault_meets_every_kind_of_task_that_has_it():
    met = {(game.kind, game.shape, game.deferrable) for game in plan(5000, seed=1)}
    suited = {(kind, shape) for kind, shape, _ in met}

    assert len(met) == 2 * len(suited)
    assert {kind for kind, shape in suited if shape is Shape.SCRIPT} == set(Kind)
    assert OF_SUBMITS.isdisjoint(kind for kind, shape in suited if shape is Shape.SENSOR)
    assert {game.mapped for game in plan(100, seed=1) if game.shape is Shape.ARRAY} == {True, False}


def test_as_few_rounds_as_there_are_kinds_have_one_of_each():
    assert {game.kind for game in plan(len(Kind), seed=1)} == set(Kind)


def test_what_is_to_be_forgotten_is_forgotten_before_the_retry():
    games = [game for game in plan(200, seed=1) if game.kind in FORGETS]

    assert games
    assert all(game.lasts + MIN_JOB_AGE < SLOW_RETRY for game in games)
