"""Tests of airflow_provider_clusterra.sbatch.options."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from airflow_provider_clusterra.sbatch.options import read_when

ZONE = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 11, 24, 12, 0, tzinfo=ZONE)


@pytest.mark.parametrize(
    ("text", "when"),
    [
        ("now", (2026, 11, 24, 12, 0)),
        ("now+90", (2026, 11, 24, 12, 1, 30)),
        ("now + 2hours", (2026, 11, 24, 14, 0)),
        ("now+3days", (2026, 11, 27, 12, 0)),
        ("now+1week", (2026, 12, 1, 12, 0)),
        ("16:00", (2026, 11, 24, 16, 0)),
        ("11:00", (2026, 11, 25, 11, 0)),
        ("4:30pm", (2026, 11, 24, 16, 30)),
        ("12:00am", (2026, 11, 25, 0, 0)),
        ("midnight", (2026, 11, 25, 0, 0)),
        ("teatime", (2026, 11, 24, 16, 0)),
        ("today", (2026, 11, 24, 0, 0)),
        ("tomorrow", (2026, 11, 25, 0, 0)),
        ("elevenses", (2026, 11, 25, 11, 0)),
        ("fika", (2026, 11, 24, 15, 0)),
        ("2027-07-20", (2027, 7, 20, 0, 0)),
        ("2027-07-20T12:34:56", (2027, 7, 20, 12, 34, 56)),
        ("2027-07-20T12:34", (2027, 7, 20, 12, 34)),
        ("072027", (2027, 7, 20, 0, 0)),
        ("07/20/27", (2027, 7, 20, 0, 0)),
        ("1225", (2026, 12, 25, 0, 0)),
        ("12/25", (2026, 12, 25, 0, 0)),
        ("12.25", (2026, 12, 25, 0, 0)),
        ("1/5", (2027, 1, 5, 0, 0)),
        ("1124", (2027, 11, 24, 0, 0)),
        ("12/25 16:00", (2026, 12, 25, 16, 0)),
        ("1225-4:00pm", (2026, 12, 25, 16, 0)),
        ("16:00 12/25/26", (2026, 12, 25, 16, 0)),
        ("2026-12-25 16:00", (2026, 12, 25, 16, 0)),
        ("2027-02-30", (2027, 3, 2, 0, 0)),
        ("noon tomorrow", (2026, 11, 25, 12, 0)),
        ("tomorrow noon", (2026, 11, 25, 12, 0)),
        ("tomorrowT16:00", (2026, 11, 25, 16, 0)),
        ("10:00 PM tomorrow", (2026, 11, 25, 22, 0)),
        ("NOW+1HOUR", (2026, 11, 24, 13, 0)),
        ("now-1hour", (2026, 11, 24, 11, 0)),
        ("now + 5 minutes", (2026, 11, 24, 12, 5)),
    ],
)
def test_a_point_in_time_is_read_in_its_zone(text, when):
    assert read_when(text, NOW) == datetime(*when, tzinfo=ZONE).timestamp()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "soon",
        "25:00",
        "13:00pm",
        "2027-13-01",
        "now+",
        "25",
        "24:00",
        "uts18",
        "10",
        "2026-12-25T16",
        "13/1",
        "1/32",
    ],
)
def test_what_is_no_time_says_what_to_give(text):
    with pytest.raises(ValueError, match=r"it takes e\.g\. now"):
        read_when(text, NOW)


def test_now_and_hours_are_an_instant_across_a_change_of_the_clocks():
    before = datetime(2026, 10, 24, 12, 0, tzinfo=ZONE)

    assert read_when("now+24hours", before) - before.timestamp() == 86400
    assert read_when("now+1week", before) - before.timestamp() == 7 * 86400


def test_seconds_since_1970_are_taken_as_they_are():
    assert read_when("uts1800000000", NOW) == read_when("UTS1800000000", NOW) == 1800000000
