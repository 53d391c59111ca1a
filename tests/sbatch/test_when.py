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
    ],
)
def test_a_point_in_time_is_read_in_its_zone(text, when):
    assert read_when(text, NOW) == datetime(*when, tzinfo=ZONE).timestamp()


@pytest.mark.parametrize(
    "text", ["", "soon", "25:00", "13:00pm", "2027-13-01", "now-1hour", "T10:00"]
)
def test_what_is_no_time_says_what_to_give(text):
    with pytest.raises(ValueError, match=r"it takes e\.g\. now"):
        read_when(text, NOW)
