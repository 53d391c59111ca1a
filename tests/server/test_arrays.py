"""Tests of clusterra_server.arrays."""

import pytest

from clusterra_server.arrays import read_array, write_array


@pytest.mark.parametrize(
    ("text", "indices", "at_once"),
    [
        ("3", (3,), 0),
        ("0-3", (0, 1, 2, 3), 0),
        ("0-10:5", (0, 5, 10), 0),
        ("1,3,7-9%2", (1, 3, 7, 8, 9), 2),
        ("2-4,3", (2, 3, 4), 0),
    ],
)
def test_an_array_is_read_as_sbatch_reads_it(text, indices, at_once):
    assert read_array(text) == (indices, at_once)


@pytest.mark.parametrize("text", ["", "a", "3-1", "-1", "1,,2", "0-3:0", "0-999999999", "1%"])
def test_what_is_no_array_is_refused(text):
    with pytest.raises(ValueError, match=r".*"):
        read_array(text)


def test_indices_are_written_shortly():
    assert write_array([7, 2, 3, 4]) == "2-4,7"
    assert write_array([1], 2) == "1%2"
