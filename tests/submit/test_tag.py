"""Tests of airflow_provider_clusterra.submit.protocol."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_clusterra.submit.protocol import (
    LONGEST_NAME,
    Tag,
    hash_body,
    hash_run,
    hash_task,
    read_tag,
    tagged_name,
)

TAG = Tag("0123abcd", "89ef4567", "00ff", 3, 2)


def test_a_tag_reads_as_it_was_written():
    assert str(TAG) == ".af-0123abcd-89ef4567-00ff-3.2"
    assert read_tag(f"train{TAG}") == TAG


@pytest.mark.parametrize("name", ["", "train", "train.af-1-2-3-4.5", f"train{TAG}x", f"{TAG}\n"])
def test_a_name_without_a_tag_at_its_end_has_none(name):
    assert read_tag(name) is None


@given(st.text(), st.integers(0, 10**6), st.integers(1, 10**6))
def test_any_name_keeps_its_tag_within_slurms_bounds(name, max_tries, try_number):
    tag = Tag("0123abcd", "89ef4567", "00ff", max_tries, try_number)
    made = tagged_name(name, tag)

    assert read_tag(made) == tag
    assert len(made.encode()) <= LONGEST_NAME
    assert made.isprintable()


def test_a_long_name_is_cut_at_a_whole_letter():
    assert tagged_name("ä" * 200, TAG) == "ä" * 85 + str(TAG)


def test_two_airflows_with_the_same_dag_and_run_have_different_tags():
    runs = {
        hash_run(*place)
        for place in [
            ("one", "c1", "dag", "run"),
            ("two", "c1", "dag", "run"),
            ("one", "c2", "dag", "run"),
            ("one", "c1", "gad", "run"),
            ("one", "c1", "dag", "rerun"),
        ]
    }

    assert len(runs) == 5


def test_mapped_tasks_have_tags_of_their_own():
    assert len({hash_task("task", index) for index in (-1, 0, 1)}) == 3


def test_a_bodys_hash_is_of_its_values_and_not_of_their_order():
    assert hash_body({"a": 1, "b": [2]}) == hash_body({"b": [2], "a": 1})
    assert hash_body({"a": 1}) != hash_body({"a": 2})
