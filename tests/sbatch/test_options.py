"""Tests of airflow_provider_clusterra.sbatch.options."""

from datetime import UTC, datetime

from airflow_provider_clusterra.sbatch.job import check_fields
from airflow_provider_clusterra.sbatch.options import CARRIED, OPTIONS, SHORT
from airflow_provider_clusterra.sbatch.script import script_fields


def read(options):
    return script_fields(f"#!/bin/bash\n#SBATCH {options}\n", datetime(2026, 3, 1, tzinfo=UTC))


def test_every_option_makes_fields_that_the_api_has():
    values = {
        "array": "0-3",
        "dependency": "afterok:1",
        "exclusive": "user",
        "export": "A=1",
        "hint": "nomultithread",
        "kill-on-invalid-dep": "yes",
        "mail-type": "END",
        "open-mode": "append",
        "signal": "USR1",
        "begin": "tomorrow",
        "deadline": "tomorrow",
    }
    for name, option in OPTIONS.items():
        if option.apply is None:
            continue
        value = "" if option.takes == "nothing" else f"={values.get(name, '1')}"
        (fields,) = read(f"--{name}{value}")
        fields.pop("environment", None)
        if name not in ("ignore-pbs", "parsable", "quiet", "verbose", "export", "get-user-env"):
            assert fields, name
        assert check_fields(fields) == fields, name


def test_every_letter_belongs_to_one_option():
    assert len(SHORT) == len([option for option in OPTIONS.values() if option.letter])


def test_what_is_carried_over_is_known_to_sbatch():
    assert set(OPTIONS) >= CARRIED
