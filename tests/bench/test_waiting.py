"""Tests of bench.waiting: what becomes of the loads that it measures."""

from bench import waiting
from bench.figures import OURS
from bench.systems import System
from bench.waiting import QUEUE, VAST, Load

NAMES = {
    "requests a minute": 10.0,
    "share of the server's time": 1.0,
    "answers' bytes a minute": 0.5,
    "CPU a minute": 1.0,
    "event-loop lag p99": 5.0,
    "memory for the jobs": 20.0,
    "a job's end told after, median": 2.0,
    "a job's end told after, p95": 5.0,
}


def test_each_load_is_measured_once_and_all_that_has_a_target_is_said(monkeypatch):
    asked = []

    def measured(system, count, queue=0, ready=None):
        ready.wait(30)
        asked.append((system, count, queue))
        return Load(system, count, {name: (value, "") for name, value in NAMES.items()}, "")

    monkeypatch.setattr(waiting, "measure_load", measured)
    monkeypatch.setattr(System, "is_installed", True)
    figures = waiting.measure()

    assert len(asked) == len(set(asked))
    assert {(OURS, count, 0) for count in (1, 10, 100, 1000, 5000)} < set(asked)
    assert (OURS, VAST, QUEUE) in asked
    aimed_at = {(each.name, each.of, each.at) for each in figures if each.target}
    assert {
        ("requests a minute", OURS, "5000 jobs"),
        ("share of the server's time", OURS, "20000 of 100000 jobs"),
        ("a job's end told after, p95", OURS, "1000 jobs"),
        ("memory for the jobs", "dbt-cloud / ours", "5000 jobs"),
        ("memory for the jobs", "dbt-cloud / ours", "1000 jobs"),
        ("a job's end told after, median", "databricks / ours", "1000 jobs"),
        ("memory a job", "ours with 1000 / ours", "20000 of 100000 jobs"),
        ("event-loop lag p99", "databricks with 1000 / ours", "20000 of 100000 jobs"),
    } < aimed_at


def test_a_run_without_peers_measures_ours(monkeypatch):
    monkeypatch.setattr(
        waiting,
        "measure_load",
        lambda system, count, queue=0, ready=None: Load(
            system, count, {name: (value, "") for name, value in NAMES.items()}, ""
        ),
    )
    monkeypatch.setattr(waiting, "SYSTEMS", {OURS: waiting.SYSTEMS[OURS]})

    assert {each.of for each in waiting.measure()} == {OURS, "ours with 1000 / ours"}
