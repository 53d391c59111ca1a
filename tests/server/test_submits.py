"""Tests of clusterra_server.submits."""

from pathlib import Path

import pytest

from clusterra_server.submits import own_submit

OUTPUTS = Path("/srv/shared")


def own(login=None, **job):
    return own_submit({"script": "#!/bin/sh", "job": job}, OUTPUTS, login or {})["job"]


def test_the_output_goes_where_it_is_looked_for():
    assert own()["standard_output"] == "/srv/shared/job_%j.out"
    assert own(standard_output="mine.txt")["standard_output"] == "mine.txt"


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("/mnt/efs", "/srv/shared"),
        ("/mnt/efs/me/run", "/srv/shared/me/run"),
        ("/mnt/efsx", "/mnt/efsx"),
        ("/home/me", "/home/me"),
        ("relative", "relative"),
    ],
)
def test_clusterras_shared_folder_is_the_shared_folder(given, meant):
    job = own(
        current_working_directory=given,
        standard_error=given,
        environment=["A=/mnt/efs", f"SLURM_SUBMIT_DIR={given}"],
    )

    assert (job["current_working_directory"], job["standard_error"]) == (meant, meant)
    assert job["environment"] == ["A=/mnt/efs", f"SLURM_SUBMIT_DIR={meant}"]


def test_a_client_does_not_say_whose_job_it_is():
    assert not {"user_id", "group_id"} & own(user_id="0", group_id="0", name="a").keys()


def test_a_job_finds_its_home_unless_it_brings_one():
    login = {"HOME": "/home/alice", "USER": "alice"}

    assert own(login, environment=["HOME=/mine"])["environment"] == ["HOME=/mine", "USER=alice"]
    # Slurm's own words about an empty one are better than a job that has nothing but a home
    assert own(login, environment=[])["environment"] == []


def test_each_component_of_a_heterogeneous_job_is_seen_to():
    body = own_submit({"script": "#!/bin/sh", "jobs": [{"name": "a"}, {"name": "b"}]}, OUTPUTS, {})

    assert [each["standard_output"] for each in body["jobs"]] == ["/srv/shared/job_%j.out"] * 2


@pytest.mark.parametrize("body", [{}, {"job": 1}, {"jobs": 1}, {"jobs": [1]}], ids=repr)
def test_what_makes_no_sense_is_slurms_to_judge(body):
    assert own_submit(body, OUTPUTS, {}) == body
