"""Tests of airflow_provider_clusterra.task.result."""

import pytest

from airflow_provider_clusterra.api import Access, Client, InputError
from airflow_provider_clusterra.api.calls import Output
from airflow_provider_clusterra.api.errors import ONCE
from airflow_provider_clusterra.api.jobs import Job, JobState, one_job
from airflow_provider_clusterra.decorators.program import MARK, read_value
from airflow_provider_clusterra.task import result as outputs
from airflow_provider_clusterra.task.result import read_result, returned_output
from tests.support.wire import Wire, http


@pytest.mark.parametrize(
    ("what", "data", "expected"),
    [
        ("text", b"a\r b\n", "a\r b\n"),
        ("text", b"\xff", "\N{REPLACEMENT CHARACTER}"),
        ("last_line", b"a\nb\r\n\n", "b"),
        ("last_line", b"", ""),
        ("json", b'{"a": 1}\nbye\n', {"a": 1}),
        ("json", b"[1, 2]\n", [1, 2]),
        ("json", b"1\n" + b"[" * 5000, 1),
    ],
    ids=repr,
)
def test_of_the_output_what_was_asked_for_is_returned(what, data, expected):
    assert read_result(Output(data), what) == expected


@pytest.mark.parametrize("levels", [150, 5000])
def test_a_value_that_is_nested_too_deeply_is_not_passed_over(levels):
    data = b"1\n" + b"[" * levels + b"]" * levels + b"\n"
    with pytest.raises(InputError, match="nested more than 100 levels deep"):
        read_result(Output(data), "json")


def test_a_long_text_is_cut_and_says_so():
    data = "ä".encode() * 40_000
    text = read_result(Output(data), "text")

    assert text.startswith("[The first 14464 bytes are left out.]\nä")
    assert len(text.encode()) < outputs.LARGEST_VALUE + 100
    # one byte less, and a letter is cut in two
    assert read_result(Output(data[1:]), "text").endswith("ä" * 1000)


def test_what_the_api_left_out_counts_too():
    assert (
        read_result(Output(b"end", skipped=10), "text") == "[The first 10 bytes are left out.]\nend"
    )


@pytest.mark.parametrize(
    ("what", "data", "words"),
    [
        ("json", b"no json here\n", "no line"),
        (
            "json",
            b'"' + b"x" * 70_000 + b'"',
            "has 70002 bytes, of which XCom takes 65536. Let the",
        ),
        ("last_line", b"x" * 70_000, "return only the file's name"),
    ],
    ids=["no json", "large json", "large line"],
)
def test_an_output_that_cannot_be_returned_says_what_to_do(what, data, words):
    with pytest.raises(InputError, match=words):
        read_result(Output(data), what)


VALUE = f"{MARK}7\n".encode()


def returned(tasks, what, *answers):
    """What an array returns whose tasks have these ids and states."""
    jobs = [
        Job(job_id, JobState(base), array_job_id=9, array_task_id=index)
        for index, (job_id, base) in enumerate(tasks)
    ]
    with Wire(*answers) as wire, Client(Access(wire.url, "s"), retry=ONCE) as client:
        found = returned_output(client, "c1", one_job(jobs, 9), what)
        return found, sorted(request.split(b" ")[1].decode() for request in wire.requests)


def test_each_index_of_an_array_returns_its_own_file():
    found, paths = returned([(10, "COMPLETED"), (9, "COMPLETED")], "last_line", http(200, b"x\n"))

    assert found == {"0": "x", "1": "x"}
    assert paths == ["/v1/clusters/c1/jobs/10/output", "/v1/clusters/c1/jobs/9/output"]


def test_an_index_that_failed_or_whose_file_is_not_known_returns_nothing():
    found, paths = returned([(10, "FAILED"), (0, "COMPLETED")], "text", http(200, b"x\n"))

    assert found == {"0": None, "1": None}
    assert paths == []


def test_a_value_whose_output_cannot_be_found_is_no_none():
    with pytest.raises(InputError, match=r"^Index 1 succeeded, and .* cannot be read"):
        returned([(10, "COMPLETED"), (0, "COMPLETED")], read_value, http(200, VALUE))

    found, _ = returned([(10, "COMPLETED"), (0, "FAILED")], read_value, http(200, VALUE))
    assert found == {"0": 7, "1": None}


def test_an_index_without_a_result_is_named():
    with pytest.raises(InputError, match=r"^Index 0: .* no line"):
        returned([(10, "COMPLETED")], "json", http(200, b"x\n"))


def test_the_results_of_all_indices_together_are_bounded(monkeypatch):
    monkeypatch.setattr(outputs, "LARGEST_ARRAY", 2000)
    with pytest.raises(InputError, match="tasks are too large for XCom, which takes 2000 bytes"):
        returned([(10, "COMPLETED"), (9, "COMPLETED")], "last_line", http(200, b"x" * 1500))


def test_the_texts_of_many_indices_are_cut_the_shorter(monkeypatch):
    monkeypatch.setattr(outputs, "LARGEST_ARRAY", 8400)
    found, _ = returned([(10, "COMPLETED"), (9, "COMPLETED")], "text", http(200, b"x" * 3000))

    assert found["0"] == "[The first 900 bytes are left out.]\n" + "x" * 2100
