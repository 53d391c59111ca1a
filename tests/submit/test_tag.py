"""Tests of airflow_provider_clusterra.submit.protocol."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_clusterra.submit.protocol import (
    LONGEST_NAME,
    Owner,
    Tag,
    hash_body,
    hash_run,
    hash_task,
    read_owner,
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


def test_a_tagged_name_can_be_asked_for_in_accounting():
    assert tagged_name("a, 'b' \"c\" \\", TAG) == "a_ _b_ _c_ _" + str(TAG)


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


def test_a_list_that_is_read_when_it_is_needed_counts_with_its_values():
    assert hash_body(Lazy([1, 2])) == hash_body([1, 2])
    assert hash_body(Lazy([1, 2])) != hash_body(Lazy([1, 3]))


class Lazy(Sequence):
    """A mapped task's output as Airflow gives it: its text changes once it was counted."""

    def __init__(self, values):
        self._values = values

    def __repr__(self):
        return "LazyXComSequence([2 items])"

    def __len__(self):
        return len(self._values)

    def __getitem__(self, place):
        return self._values[place]


@pytest.mark.parametrize("waits", [True, False])
@pytest.mark.parametrize("map_index", [-1, 0, 12])
def test_a_comment_says_whose_a_job_is(waits, map_index):
    owner = Owner("my.dag", "group.task", map_index, "manual/2026-01-01T00:00:00+00:00", waits)

    assert read_owner(owner.comment(3)) == owner


def test_a_comment_is_readable():
    assert Owner("dag", "task", 3, "run", waits=False).comment(2) == (
        "dag/task[3]/run/2 (not waited for)"
    )


@pytest.mark.parametrize(
    "comment",
    [
        "",
        "mine",
        "a/b/c",
        "a/b/c/d",
        "a/b[x]/c/1",
        "clusterra:run_id=1;user_email=a",
        "a/b/c/1 more",
    ],
)
def test_an_authors_own_comment_is_no_owner(comment):
    assert read_owner(comment) is None
