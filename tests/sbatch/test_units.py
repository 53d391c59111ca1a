"""Tests of airflow_provider_clusterra.sbatch.options."""

from datetime import timedelta

import pytest

from airflow_provider_clusterra.api.errors import InputError
from airflow_provider_clusterra.sbatch.options import read_memory_mb, read_time_limit_minutes


@pytest.mark.parametrize(
    ("value", "megabytes"),
    [
        (4096, 4096),
        ("4096", 4096),
        ("4G", 4096),
        ("4GB", 4096),
        ("4GiB", 4096),
        ("512m", 512),
        ("1.5T", 1572864),
        ("1K", 1),
        (" 2 G ", 2048),
    ],
    ids=repr,
)
def test_memory_is_read_as_megabytes(value, megabytes):
    assert read_memory_mb(value) == megabytes


@pytest.mark.parametrize("value", ["", "lots", "-4G", 0, "0", "4P", "4 G B"], ids=repr)
def test_what_is_no_amount_of_memory_says_what_to_give(value):
    with pytest.raises(InputError, match="Give MB as a number"):
        read_memory_mb(value)


@pytest.mark.parametrize(
    ("value", "minutes"),
    [
        (90, 90),
        (0.5, 1),
        ("90", 90),
        ("90:00", 90),
        ("0:90", 2),
        ("1:30:00", 90),
        ("1-12", 36 * 60),
        ("1-12:30", 36 * 60 + 30),
        ("1-12:00:01", 36 * 60 + 1),
        (timedelta(hours=2), 120),
        (timedelta(seconds=61), 2),
    ],
    ids=repr,
)
def test_all_forms_of_a_time_limit_are_read_as_minutes(value, minutes):
    assert read_time_limit_minutes(value) == minutes


@pytest.mark.parametrize("value", ["", "soon", 0, "0", -5, "1:2:3:4", timedelta(0)], ids=repr)
def test_what_is_no_time_says_what_to_give(value):
    with pytest.raises(InputError, match="Give a timedelta, minutes"):
        read_time_limit_minutes(value)
