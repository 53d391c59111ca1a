"""Tests of airflow_provider_clusterra.sbatch.job: a job of several components, and of other lines.

What is expected here is what ``sbatch`` 26.05 did.
"""

from datetime import UTC, datetime

import pytest

from airflow_provider_clusterra.api import InputError
from airflow_provider_clusterra.api.specs import no_val as number
from airflow_provider_clusterra.sbatch.job import read_components

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
HET = "#SBATCH hetjob"


def components(*lines):
    found = read_components("\n".join(["#!/bin/bash", *lines, "true", ""]))
    return [each.fields(NOW) for each in found]


def test_a_heterogeneous_job_has_its_components():
    assert components("#SBATCH -n 1 -p cpu", HET, "#SBATCH -n 8 -p gpu") == [
        {"tasks": 1, "partition": "cpu"},
        {"tasks": 8, "partition": "gpu"},
    ]


def test_a_component_has_what_sbatch_carries_over_to_it():
    first = "#SBATCH -t 5 --mem=1G -c 2 -p cpu -o o.txt --hint=nomultithread --export=NONE -H"

    assert components(first, HET, "#SBATCH -n 2", HET, "#SBATCH -t 7 -p gpu")[1:] == [
        {
            "tasks": 2,
            "time_limit": number(5),
            "memory_per_node": number(1024),
            "standard_output": "o.txt",
            "threads_per_core": 1,
            "environment": {"SLURM_HINT": "nomultithread"},
            "hold": True,
        },
        {
            "partition": "gpu",
            "time_limit": number(7),
            "memory_per_node": number(1024),
            "standard_output": "o.txt",
            "threads_per_core": 1,
            "environment": {"SLURM_HINT": "nomultithread"},
            "hold": True,
        },
    ]


def test_what_is_carried_over_excludes_its_rivals():
    words = "Line 4 of the script, #SBATCH: --mem and --mem-per-cpu exclude each other."
    with pytest.raises(InputError, match=words):
        components("#SBATCH --mem=1G", HET, "#SBATCH --mem-per-cpu=1G")

    assert components("#SBATCH -s", HET, "#SBATCH --exclusive") == [
        {"shared": ["oversubscribe"]},
        {"shared": ["none"]},
    ]


@pytest.mark.parametrize(
    "lines",
    [
        ["#PBS -N foo"],
        ["#BSUB -J foo"],
        ["#PBS-N foo"],
        ["#SBATCH -J a", "true", "#PBS -l nodes=2"],
        ["#PBS -N foo", HET, "#SBATCH --ignore-pbs"],
    ],
    ids=repr,
)
def test_a_line_of_another_system_that_sbatch_would_obey_is_refused(lines):
    (number,) = (n for n, line in enumerate(lines, 2) if line.startswith(("#PBS", "#BSUB")))
    words = f"Line {number} of the script is one that sbatch would obey"
    with pytest.raises(InputError, match=words) as caught:
        components(*lines)

    assert str(caught.value).endswith("Write it as #SBATCH, or say #SBATCH --ignore-pbs.")


@pytest.mark.parametrize(
    "lines",
    [
        ["#PBS"],
        ["#PBS # -N foo"],
        [" #PBS -N foo"],
        ["##PBS -N foo"],
        ["#pbs -N foo"],
        ["#PBS -N foo", "#SBATCH --ignore-pbs"],
        ["#SBATCH --ignore-pbs", "#BSUB -J foo"],
    ],
    ids=repr,
)
def test_a_line_of_another_system_that_sbatch_ignores_is_ignored(lines):
    assert components(*lines) == [{}]


@pytest.mark.parametrize(
    "line",
    ["-S /bin/bash", "-V", "-j oe", "-S /bin/sh -V -j n", "-k oe", "-joe"],
)
def test_a_line_of_another_system_that_changes_nothing_is_ignored(line):
    assert components(f"#PBS {line}") == [{}]
    with pytest.raises(InputError, match="sbatch would obey"):
        components(f"#PBS {line} -N name")


@pytest.mark.parametrize("word", ["hetjob", "HETJOB", "packjob", "HetJob"])
def test_components_are_separated_in_any_case(word):
    assert len(components(f"#SBATCH {word}")) == 2
