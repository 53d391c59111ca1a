"""Tests of clusterra_server.slurm: what does not take a real Slurm."""

import os
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from clusterra_server.backend import OutputError
from clusterra_server.outputs import open_output, whole
from clusterra_server.slurm import Slurm, find_output, own_submit
from clusterra_server.slurmrestd import Slurmrestd, SlurmrestdUser, SlurmToken
from tests.support.wire import Wire, http


@pytest.fixture
def token_file(tmp_path):
    """Alice's Slurm token."""
    path = tmp_path / "token"
    path.write_text("e30.eyJzdW4iOiAiYWxpY2UifQ.c2VjcmV0")
    return path


@asynccontextmanager
async def asking(wire, token_file, outputs, *, own_only=True):
    slurmrestd = Slurmrestd(wire.url, "v0.0.44")
    try:
        caller = SlurmrestdUser(slurmrestd, SlurmToken(token_file, "alice"))
        yield Slurm(caller, outputs, own_only=own_only)
    finally:
        await slurmrestd.close()


@pytest.mark.parametrize(
    "place", ["job_7.out", "slurm-7.out", "alice/job_7.out", "alice/slurm-7.out"]
)
def test_an_output_is_found_where_the_vendor_looks(tmp_path, place):
    (tmp_path / "alice/deep").mkdir(parents=True)
    (tmp_path / "alice/deep/job_7.out").touch()
    (tmp_path / place).touch()

    assert find_output(tmp_path, "7") == tmp_path / place


def test_an_output_that_is_not_there_yet_has_its_place(tmp_path):
    assert find_output(tmp_path, "7") == tmp_path / "job_7.out"


def test_an_output_is_found_among_many_without_a_look_at_each(tmp_path, mocker):
    for number in range(200):
        (tmp_path / f"job_{number}.out").touch()
    looks = mocker.spy(Path, "lstat")

    assert find_output(tmp_path, "7") == tmp_path / "job_7.out"
    assert find_output(tmp_path, "777") == tmp_path / "job_777.out"
    assert looks.call_count < 10


def test_a_folder_that_cannot_be_read_says_what_to_do(tmp_path):
    with pytest.raises(OutputError, match=r"No such file or directory.*--output-dir") as caught:
        find_output(tmp_path / "nowhere", "7")

    assert caught.value.status == 500


async def test_an_output_leads_nowhere_else(tmp_path):
    (tmp_path / "shadow").write_text("secret")
    (tmp_path / "job_7.out").symlink_to(tmp_path / "shadow")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/job_8.out").write_text("secret")
    outputs = tmp_path / "outputs"
    outputs.mkdir()
    (outputs / "link").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(OutputError, match="symbolic link"):
        await open_output(find_output(tmp_path, "7"))
    assert await open_output(find_output(outputs, "8")) is None


async def test_a_pipe_in_an_outputs_place_holds_nobody_up(tmp_path):
    os.mkfifo(tmp_path / "job_7.out")
    with pytest.raises(OutputError, match="no file"):
        await open_output(tmp_path / "job_7.out")


async def test_an_output_is_given_whole(tmp_path):
    (tmp_path / "job_7.out").write_bytes(b"x" * 600_000)
    pieces = [piece async for piece in whole(await open_output(tmp_path / "job_7.out"))]

    assert b"".join(pieces) == b"x" * 600_000


@pytest.mark.parametrize(
    ("answers", "given"),
    [
        ([http(200, {"jobs": [{"job_id": 7, "user_name": "alice"}]})], True),
        ([http(200, {"jobs": [{"job_id": 7, "user_name": "bob"}]})], False),
        ([http(404, {"jobs": []}), http(200, {"jobs": [{"user": "alice"}]})], True),
        ([http(404, {"jobs": []}), http(404, b"no such route")], False),
    ],
    ids=["own", "another's", "own, and forgotten", "nobody's"],
)
async def test_one_of_several_users_is_given_their_own_outputs(
    tmp_path, token_file, answers, given
):
    (tmp_path / "job_7.out").touch()
    with Wire(*answers, http(404, b"")) as wire:
        async with asking(wire, token_file, tmp_path) as backend:
            if given:
                assert await backend.find_output("7") == await backend.find_output("7")
            else:
                with pytest.raises(OutputError, match="log not found"):
                    await backend.find_output("7")
    assert len(wire.requests) <= 2


@pytest.mark.parametrize(
    "answers",
    [
        [http(511, {"errors": [{"error": "Protocol authentication error"}]})],
        [http(500, {}), http(200, {"pings": [{"pinged": "DOWN"}]})],
        [http(404, {"jobs": []}), None],
    ],
    ids=["the token is not taken", "slurmctld is down", "accounting breaks off"],
)
async def test_an_outage_is_not_taken_for_somebody_elses_output(tmp_path, token_file, answers):
    with Wire(*answers) as wire:
        async with asking(wire, token_file, tmp_path) as backend:
            with pytest.raises(OutputError) as caught:
                await backend.find_output("7")

    assert caught.value.status in (502, 503, 511)
    assert str(caught.value) != "log not found"


@pytest.mark.parametrize(
    ("query", "asked"),
    [
        ([("job_name", "a")], "job_name=a&start_time=1"),
        ([("job_name", "a"), ("start_time", "5")], "job_name=a&start_time=5"),
        ([("step", "7"), ("end_time", "9"), ("users", "bob")], "step=7&end_time=9&users=bob"),
    ],
)
async def test_accounting_is_asked_as_the_client_asks_and_past_midnight(
    tmp_path, token_file, query, asked
):
    with Wire(http(200, {})) as wire:
        async with asking(wire, token_file, tmp_path) as backend:
            await backend.list_accounting(query)

    assert f"/slurmdb/v0.0.44/jobs/?{asked} HTTP".encode() in wire.requests[0]


@pytest.mark.parametrize("job_id", ["..", "7/..", "abc", "7_x", "", "1" * 11], ids=repr)
async def test_an_id_that_is_none_goes_no_further(tmp_path, token_file, job_id):
    with Wire(http(200, {})) as wire:
        async with asking(wire, token_file, tmp_path, own_only=False) as backend:
            found = [
                await backend.get_job(job_id),
                await backend.cancel_job(job_id),
                await backend.list_states([job_id]),
            ]
            with pytest.raises(OutputError, match="invalid job id"):
                await backend.find_output(job_id)

    assert [answer.status for answer in found] == [422] * 3
    assert wire.requests == []


async def test_jobs_are_counted_by_their_states(tmp_path, token_file):
    jobs = [{"job_id": "1", "state": ["RUNNING"]}, {"job_id": "2", "state": ["RUNNING"]}]
    with Wire(http(200, {"jobs": jobs})) as wire:
        async with asking(wire, token_file, tmp_path) as backend:
            answer = await backend.read_metrics()

    assert 'slurm_jobs{state="RUNNING"} 2\n' in answer.body


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
