"""Tests of airflow_provider_clusterra.api.jobs."""

from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_clusterra.api.errors import ProtocolError
from airflow_provider_clusterra.api.jobs import (
    ExitCode,
    ExitStatus,
    JobId,
    Plain,
    read_exit,
    read_job_id,
    read_number,
    read_time,
)


def no_val(number, *, is_set=True, infinite=False):
    return {"set": is_set, "infinite": infinite, "number": number}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (5, 5),
        (5.9, 5),
        ("5", 5),
        (" 5 ", 5),
        ("5.9", 5),
        ("x", None),
        ("12_3", None),
        ("1e3", None),
        ("0x1F", None),
        ("\u0663", None),
        (None, None),
        (True, None),
        (no_val(5), 5),
        (no_val(0), 0),
        (no_val(5, is_set=False), None),
        (no_val(5, infinite=True), None),
        ({"number": 5}, 5),
        ({}, None),
        ([], None),
        (float("inf"), None),
        (float("nan"), None),
    ],
    ids=repr,
)
def test_a_number_is_read_in_every_form(value, expected):
    assert read_number(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (12, JobId(12)),
        (12.0, JobId(12)),
        ("12", JobId(12)),
        (" 12\n", JobId(12)),
        (no_val(12), JobId(12)),
        ("12_3", JobId(12, array_task=3)),
        ("12_0", JobId(12, array_task=0)),
        ("12+1", JobId(12, het_offset=1)),
    ],
    ids=repr,
)
def test_a_job_id_is_read_as_slurm_writes_it(value, expected):
    assert read_job_id(value) == expected


@pytest.mark.parametrize(
    "value",
    [
        *(0, -3, None, True, [], {}, float("nan"), 2**32 - 2, 10**30),
        *("", "-3", "+3", "1e3", "0x10", "12_", "_3", "12_[3-9]", "12+1+1", "1_2_3", "12.5"),
        *("12.batch", "\u0663", "None", "0", "9" * 30),
    ],
    ids=repr,
)
def test_what_is_no_job_id_is_never_read_as_one(value):
    with pytest.raises(ProtocolError):
        read_job_id(value)


def test_a_time_is_aware_and_in_utc():
    assert read_time(no_val(1779901559)) == datetime(2026, 5, 27, 17, 5, 59, tzinfo=UTC)


@pytest.mark.parametrize(
    "value", [0, no_val(0), None, -1, 10**18, 2**32 - 2, 2**32 - 1, "yesterday"]
)
def test_a_time_that_is_unset_or_none_is_none(value):
    assert read_time(value) is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (768, ExitStatus(code=3)),
        (9, ExitStatus(signal=9)),
        (137, ExitStatus(signal=9)),
        (0, ExitStatus(code=0)),
        (None, ExitStatus()),
        (-1, ExitStatus()),
        ({"return_code": no_val(3), "signal": {"id": no_val(0, is_set=False)}}, ExitStatus(code=3)),
        (
            {"return_code": no_val(0, is_set=False), "signal": {"id": no_val(9), "name": "KILL"}},
            ExitStatus(signal=9),
        ),
        ({"return_code": 3, "signal": None}, ExitStatus(code=3)),
        ({}, ExitStatus()),
    ],
)
def test_an_exit_is_read_in_every_form(value, expected):
    assert read_exit(decoded(value)) == expected


def decoded(value):
    """An exit as the decoder gives it, with its objects as structs."""
    return msgspec.convert(value, ExitCode | Plain)


def test_an_exit_says_itself_in_words():
    assert str(ExitStatus(code=3)) == "exit code 3"
    assert str(ExitStatus(signal=9)) == "signal 9 (SIGKILL)"
    assert str(ExitStatus(signal=125)) == "signal 125"
    assert str(ExitStatus()) == "no exit code"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(json_values)
def test_no_value_whatever_breaks_a_reader(value):
    read_number(value)
    read_time(value)
    read_exit(decoded(value))
    read_exit(decoded({"return_code": value, "signal": value}))
    read_exit(decoded({"signal": {"id": value}}))
