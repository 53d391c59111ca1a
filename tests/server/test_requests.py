"""Tests of clusterra_server.requests: a submit is taken or refused as by Slurm."""

import json

import pytest

from clusterra_server.requests import (
    RefusedError,
    read_array,
    read_request,
    read_warnings,
    write_array,
)
from tests.support.recorded import FOLDER, NEWEST


def recorded(name):
    """A recorded exchange; its cluster's one partition was called otherwise."""
    found = json.loads((FOLDER / NEWEST / f"{name}.json").read_text())
    job = found["request"]["body"].get("job", {})
    if job.get("partition") == "main":
        job["partition"] = "cpu"
    return found


JOB = {"environment": ["A=1"], "current_working_directory": "/mnt/efs"}


def read(script="#!/bin/sh\n", **fields):
    return read_request({"script": script, "job": {**JOB, **fields}}, memory_mb=1000)


@pytest.mark.parametrize(
    "name",
    [
        "err_bad_partition",
        "err_bad_type",
        "err_empty_env",
        "err_empty_script",
        "err_no_cwd",
        "err_no_env",
        "err_too_much_mem",
    ],
)
def test_a_real_servers_no_is_ours_with_its_status_number_and_words(name):
    exchange = recorded(name)
    with pytest.raises(RefusedError) as caught:
        read_request(exchange["request"]["body"], memory_mb=24_000)
    theirs = exchange["body"]["errors"][0]

    assert caught.value.status == exchange["status"]
    assert caught.value.error["error_number"] == theirs["error_number"]
    assert caught.value.error["error"] == theirs["error"]


@pytest.mark.parametrize("name", ["err_no_shebang", "err_crlf", "err_too_many_cpus", "submit_ok"])
def test_what_a_real_server_takes_is_taken(name):
    assert read_request(recorded(name)["request"]["body"], memory_mb=24_000).script


@pytest.mark.parametrize(
    ("value", "read_as"),
    [
        (5, 5),
        ("5", 5),
        ({"set": True, "infinite": False, "number": 5}, 5),
        ({"number": 5}, None),
        ({"set": True, "infinite": True, "number": 5}, None),
        (None, None),
    ],
    ids=repr,
)
def test_a_number_is_read_as_slurmrestd_reads_it(value, read_as):
    assert read(time_limit=value).time_limit_minutes == read_as


def test_a_script_ends_at_a_nul_as_in_slurm():
    assert read("#!/bin/sh\n\0rest").script == "#!/bin/sh\n"


def test_what_is_not_honoured_is_said():
    (warning,) = read_warnings({**JOB, "tres_per_job": "gpu:1"})

    assert 'Ignoring field "tres_per_job"' in warning["description"]


@pytest.mark.parametrize(
    ("fields", "warned"),
    [
        ({"tres_per_task": "cpu=2", "cpus_per_task": 2}, 0),
        ({"tres_per_task": "cpu:1", "cpus_per_task": 1}, 0),
        ({"tres_per_task": "cpu=2,gres/gpu:1", "cpus_per_task": 2}, 1),
        ({"tres_per_task": "cpu=4", "cpus_per_task": 2}, 1),
        ({"minimum_nodes": 1}, 0),
        ({"minimum_nodes": 2, "nodes": "2"}, 0),
        ({"minimum_nodes": 2}, 1),
    ],
)
def test_a_field_that_says_what_a_known_one_says_is_no_news(fields, warned):
    assert len(read_warnings({**JOB, **fields})) == warned


@pytest.mark.parametrize(
    ("text", "indices", "at_once"),
    [
        ("3", (3,), 0),
        ("0-3", (0, 1, 2, 3), 0),
        ("0-10:5", (0, 5, 10), 0),
        ("1,3,7-9%2", (1, 3, 7, 8, 9), 2),
        ("2-4,3", (2, 3, 4), 0),
    ],
)
def test_an_array_is_read_as_sbatch_reads_it(text, indices, at_once):
    assert read_array(text) == (indices, at_once)


@pytest.mark.parametrize("text", ["", "a", "3-1", "-1", "1,,2", "0-3:0", "0-999999999", "1%"])
def test_what_is_no_array_is_refused(text):
    with pytest.raises(ValueError, match=r".*"):
        read_array(text)


def test_indices_are_written_shortly():
    assert write_array([7, 2, 3, 4]) == "2-4,7"
    assert write_array([1], 2) == "1%2"
