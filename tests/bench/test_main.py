"""Tests of ``python -m bench``: what becomes of a part that fails."""

import sys

import pytest

from bench import __main__ as bench


@pytest.fixture
def run(monkeypatch, capfd):
    """Runs parts, and gives the exit code and what was told."""

    def run_parts(limits, *names):
        monkeypatch.setattr(bench, "LIMITS", limits)
        monkeypatch.setattr(sys, "argv", ["bench", *names])
        code = bench.main()
        return code, capfd.readouterr().err

    return run_parts


def test_a_part_that_fails_is_told_and_fails_the_whole(run):
    code, told = run({"nothing": 30}, "nothing")

    assert code == 1
    assert "FAILED nothing: it failed: ModuleNotFoundError: No module named 'bench.nothing'" in told


def test_a_part_that_takes_too_long_is_ended_and_fails_the_whole(run):
    code, told = run({"sbatch": 0.01}, "sbatch")

    assert code == 1
    assert "FAILED sbatch: it took more than 0 s" in told


def test_the_others_go_on(run):
    code, told = run({"nothing": 30, "sbatch": 60}, "nothing", "sbatch")

    assert code == 1
    assert "sbatch …\n  done" in told


def test_a_name_that_is_none_is_refused(run):
    code, told = run({"sbatch": 30}, "sbach")

    assert code == 1
    assert told == "There is no sbach. There are sbatch.\n"
