"""Tests of airflow_provider_clusterra.sbatch.options."""

from datetime import UTC, datetime

import pytest

from airflow_provider_clusterra.api import InputError
from airflow_provider_clusterra.sbatch.job import check_fields, read_arguments, read_components
from airflow_provider_clusterra.sbatch.options import CARRIED, OPTIONS, SHORT


def read(options):
    (component,) = read_components(f"#!/bin/bash\n#SBATCH {options}\n")
    return [component.fields(datetime(2026, 3, 1, tzinfo=UTC))]


def test_every_option_makes_fields_that_the_api_has():
    values = {
        "array": "0-3",
        "cpu-freq": "high",
        "dependency": "afterok:1",
        "distribution": "block",
        "exclusive": "user",
        "export": "A=1",
        "extra-node-info": "2:*:1",
        "gres-flags": "disable-binding",
        "hint": "nomultithread",
        "kill-on-invalid-dep": "yes",
        "mail-type": "END",
        "mem-bind": "local",
        "no-kill": "off",
        "open-mode": "append",
        "profile": "task",
        "propagate": "STACK",
        "requeue": "expedite",
        "signal": "USR1",
        "tres-per-task": "cpu=1",
        "begin": "tomorrow",
        "deadline": "tomorrow",
    }
    nothing = {
        *("ignore-pbs", "parsable", "quiet", "verbose", "export", "get-user-env", "propagate"),
    }
    for name, option in OPTIONS.items():
        if option.apply is None:
            continue
        value = "" if option.takes == "nothing" else f"={values.get(name, '1')}"
        (fields,) = read(f"--{name}{value}")
        fields.pop("environment", None)
        assert bool(fields) is (name not in nothing), name
        assert check_fields(fields) == fields, name


@pytest.mark.parametrize(
    ("line", "job"),
    [
        ("--bbf=file", {"burst_buffer": "capacity=1"}),
        ("-F hosts", {"required_nodes": ["a"]}),
        ("--export-file=env", {"environment": {"A": "1"}}),
    ],
)
def test_a_field_of_job_silences_the_line_whose_message_names_it(line, job):
    text = f"#!/bin/bash\n#SBATCH {line}\n"
    now = datetime(2026, 3, 1, tzinfo=UTC)
    with pytest.raises(InputError, match="cannot be honoured"):
        read_arguments(text, {}, job={}, environment={}, now=now, name="x")

    assert read_arguments(text, {}, job=job, environment={}, now=now, name="x").components == (job,)


def test_every_letter_belongs_to_one_option():
    assert len(SHORT) == len([option for option in OPTIONS.values() if option.letter])


def test_what_is_carried_over_is_known_to_sbatch():
    assert set(OPTIONS) >= CARRIED
