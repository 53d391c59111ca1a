"""Tests of airflow_provider_clusterra.watch.pace."""

import pytest

from airflow_provider_clusterra.watch.pace import next_look


@pytest.mark.parametrize(
    ("age", "pause"), [(0, 1.0), (8, 1.0), (40, 5.0), (160, 20.0), (240, 30.0), (1e6, 30.0)]
)
def test_young_jobs_are_looked_at_sooner(age, pause):
    assert 0.9 * pause <= next_look(age, 30.0) <= 1.1 * pause


def test_a_short_interval_is_kept_from_the_start():
    assert next_look(0, 0.2) <= 0.22


def test_no_two_pauses_are_the_same_for_long():
    assert len({next_look(1000, 30.0) for _ in range(10)}) > 1
