"""Tests of what the benches make of what they measure."""

import gc
import struct
import time

import pytest
from msgspec.structs import replace

from bench.figures import OURS, Figure, at_least, at_most, in_words, medians_of, ratio
from bench.lag import EVERY, percentile, read_lag, read_longest, written_collections
from bench.plots import line_chart
from bench.results import Part, known_shortfalls, missed, write_results


@pytest.mark.parametrize(
    ("target", "value", "met"),
    [(at_most(6), 6.0, True), (at_most(6), 6.1, False), (at_least(4), 4.0, True)],
)
def test_a_target_is_met_on_its_own_side(target, value, met):
    assert Figure(name="x", value=value, target=target).met is met


def test_what_was_not_measured_meets_nothing_and_misses_nothing():
    assert Figure(name="x", value=None, target=at_most(1)).met is None


def test_a_ratio_says_whose_it_is():
    assert str(ratio("speed", 1, 4, "ours / curl")) == "speed, ours / curl: 0.25 times"


def test_runs_take_turns():
    order = []

    def run(name, value):
        order.append(name)
        return value

    assert medians_of([lambda: run("a", 1), lambda: run("b", 2)], runs=3) == [1, 2]
    assert order == ["a", "b", "b", "a", "a", "b"]


@pytest.mark.parametrize(
    ("value", "words"), [(0, "0"), (0.1234, "0.123"), (12.34, "12.3"), (12345.6, "12,346")]
)
def test_a_number_shows_three_figures(value, words):
    assert in_words(value) == words


def written(path, *samples):
    path.write_bytes(b"".join(struct.pack("dd", *sample) for sample in samples))
    return path


def test_a_loop_that_stands_still_keeps_each_call_of_that_time_waiting(tmp_path):
    late = read_lag(written(tmp_path / "lag", (10.0, 0.0), (11.0, 0.5)), 9.0, 12.0)

    assert len(late) == pytest.approx(2 + 0.5 / EVERY, abs=1)
    assert percentile(late, 1.0) == pytest.approx(500)
    assert percentile(late, 0.5) == pytest.approx(250, abs=10)


def test_a_loop_that_never_tells_again_has_stood_still(tmp_path):
    late = read_lag(written(tmp_path / "lag", (10.0, 0.0)), 9.0, 40.0)

    assert max(late) == pytest.approx(30_000)


def test_only_what_lies_in_the_time_counts(tmp_path):
    late = read_lag(
        written(tmp_path / "lag", (10.0, 0.001), (20.0, 9.0), (21.0, 0.002)), 19.0, 22.0
    )

    assert max(late) == pytest.approx(1000)


def test_the_longest_of_a_time_is_found(tmp_path):
    file = written(tmp_path / "lag", (10.0, 9.0), (20.0, 0.5), (21.0, 0.25))

    assert read_longest(file, 15.0, 25.0) == 500
    assert read_longest(file, 30.0, 40.0) == 0


def test_a_run_of_the_garbage_collector_is_seen(tmp_path):
    begin = time.time()
    things = [[] for _ in range(200_000)]
    with written_collections(tmp_path / "collections"):
        gc.collect()

    assert len(things) == 200_000
    assert 0 < read_longest(tmp_path / "collections", begin, time.time()) < 60_000


def test_a_chart_has_a_line_for_each_name():
    svg = line_chart("T", ("jobs", "requests"), {"a<b": [(100, 3), (1000, 3)], "c": [(100, 200)]})

    assert svg.count("<polyline") == 2
    assert "a&lt;b 3" in svg


def test_a_target_that_is_not_met_fails_the_bench_unless_its_reason_is_known():
    known = Figure(name="trigger", value=1.8, of="airbyte / ours", at="import", target=at_least(2))
    other = replace(known, at="elsewhere")
    worse = replace(known, value=0.9)
    parts = [Part("imports", [known, other, worse, replace(known, value=2.0)], 1.0)]

    assert missed(parts) == [other, worse]
    assert known_shortfalls(parts) == [known]


def test_latency_is_drawn_against_requests(tmp_path):
    figures = [
        Figure(name=name, value=value, of=of, at=f"{count} jobs")
        for of, count, asked, seen in [
            (OURS, 100, 13, 2.5),
            (OURS, 1000, 13.5, 2.6),
            ("peer", 100, 200, 15),
        ]
        for name, value in (("requests a minute", asked), ("a job's end told after, median", seen))
    ]
    write_results(tmp_path, [Part("waiting", figures, 3.0)])

    svg = (tmp_path / "latency.svg").read_text()
    assert svg.count("<circle") == 3
    assert ">100, 1000</text>" in svg


def test_the_report_shows_a_peer_that_does_better_and_a_part_that_failed(tmp_path):
    figures = [
        ratio("speed", 1, 4, "ours / curl", target=at_least(0.9)),
        Figure(name="speed", value=100, unit="MB/s", of=OURS, at="a file"),
        Figure(name="speed", value=400, unit="MB/s", of="curl", at="a file"),
    ]
    write_results(
        tmp_path, [Part("upload", figures, 3.0), Part("waiting", [], 5.0, "it took too long")]
    )

    text = (tmp_path / "RESULTS.md").read_text()
    assert "| speed (ours / curl) | 0.25 times | at least 0.9 | **not met** |" in text
    assert "| a file | speed | 100 MB/s | 400 MB/s |" in text
    assert "**waiting failed**: it took too long." in text
