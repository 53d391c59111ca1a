"""Tests of clusterra_server.slurm: what does not take a real Slurm."""

import os
import pwd
import stat
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path

import pytest

from clusterra_server.backend import OutputError, OutputPlace, TokenError
from clusterra_server.outputs import open_output, whole
from clusterra_server.slurm import Slurm, own_submit, prepare_folders, usual_names
from clusterra_server.slurmrestd import Slurmrestd, SlurmrestdUser, SlurmToken
from tests.support.wire import Wire, http

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="gives files away")


@pytest.fixture
def token_file(tmp_path):
    """Alice's Slurm token."""
    path = tmp_path / "token"
    path.write_text("e30.eyJzdW4iOiAiYWxpY2UifQ.c2VjcmV0")
    return path


@asynccontextmanager
async def asking(wire, token_file, outputs, *, own_folder=True, user="alice"):
    slurmrestd = Slurmrestd(wire.url, "v0.0.44")
    try:
        caller = SlurmrestdUser(slurmrestd, SlurmToken(token_file, user))
        yield Slurm(caller, outputs, own_folder=own_folder)
    finally:
        await slurmrestd.close()


@pytest.mark.parametrize(
    "place", ["job_7.out", "slurm-7.out", "alice/job_7.out", "alice/slurm-7.out"]
)
async def test_an_output_is_found_where_the_vendor_looks(tmp_path, place):
    (tmp_path / "alice/deep").mkdir(parents=True)
    (tmp_path / "alice/deep/job_7.out").touch()
    (tmp_path / place).write_text("found")

    assert await read(OutputPlace(tmp_path, usual_names(tmp_path, "7"))) == b"found"


async def test_an_output_that_is_not_there_yet_is_nothing(tmp_path):
    assert await open_output(OutputPlace(tmp_path, usual_names(tmp_path, "7"))) is None


def test_an_output_is_found_among_many_without_a_look_at_each(tmp_path, mocker):
    for number in range(200):
        (tmp_path / f"job_{number}.out").touch()
    looks = mocker.spy(Path, "is_file")

    assert usual_names(tmp_path, "7") == ["job_7.out", "slurm-7.out"]
    assert usual_names(tmp_path, "777") == ["job_777.out", "slurm-777.out"]
    assert looks.call_count < 10


def test_a_folder_that_cannot_be_read_says_what_to_do(tmp_path):
    with pytest.raises(OutputError, match=r"No such file or directory.*--output-dir") as caught:
        usual_names(tmp_path / "nowhere", "7")

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
        await open_output(OutputPlace(tmp_path, ["job_7.out"]))
    assert await open_output(OutputPlace(outputs, usual_names(outputs, "8"))) is None
    # nor is one that comes in the way later
    assert await open_output(OutputPlace(outputs, ["link/job_8.out"])) is None


async def test_a_pipe_in_an_outputs_place_holds_nobody_up(tmp_path):
    os.mkfifo(tmp_path / "job_7.out")
    with pytest.raises(OutputError, match="no file"):
        await open_output(OutputPlace(tmp_path, ["job_7.out"]))


async def test_an_output_is_given_whole(tmp_path):
    (tmp_path / "job_7.out").write_bytes(b"x" * 600_000)

    assert await read(OutputPlace(tmp_path, ["job_7.out"])) == b"x" * 600_000


async def read(place):
    output = await open_output(place)
    try:
        return b"".join([piece async for piece in whole(output)])
    finally:
        output.close()


@AS_ROOT
async def test_a_file_of_another_users_is_passed_over(tmp_path):
    for name, uid in (("planted", 4242), ("job_7.out", os.getuid())):
        (tmp_path / name).write_text(name)
        os.chown(tmp_path / name, uid, -1)
    names = ["planted", "job_7.out"]

    assert await read(OutputPlace(tmp_path, names, os.getuid())) == b"job_7.out"
    assert await read(OutputPlace(tmp_path, names)) == b"planted"
    with pytest.raises(OutputError, match="belongs to another user") as caught:
        await open_output(OutputPlace(tmp_path, names[:1], os.getuid()))
    assert caught.value.status == 404


ALICES = {"job_id": 7, "user_name": "alice", "user_id": os.getuid()}
BOBS = {**ALICES, "user_name": "bob"}
KEPT = {"job_id": 7, "user": "alice"}


@pytest.mark.parametrize("own_folder", [True, False], ids=["several users", "one user"])
@pytest.mark.parametrize(
    ("answers", "given"),
    [
        ([http(200, {"jobs": [ALICES]})], True),
        ([http(200, {"jobs": [BOBS]})], False),
        ([http(200, {"jobs": [ALICES, BOBS]})], False),
        ([http(404, {"jobs": []}), http(200, {"jobs": [{**KEPT, **ALICES}]})], True),
        ([http(404, {"jobs": []}), http(200, {"jobs": [{**KEPT, "user": "bob"}]})], False),
        ([http(404, {"jobs": []}), http(404, b"no such route")], False),
    ],
    ids=["own", "another's", "a part another's", "own, kept", "another's, kept", "nobody's"],
)
async def test_a_user_is_given_their_own_outputs(tmp_path, token_file, answers, given, own_folder):
    (tmp_path / "job_7.out").touch()
    tmp_path.chmod(0o1777)
    with Wire(*answers, http(404, b"")) as wire:
        async with asking(wire, token_file, tmp_path, own_folder=own_folder) as backend:
            if given:
                place = await backend.find_output("7")
                assert (place.folder, place.owner) == (tmp_path, os.getuid())
                assert "job_7.out" in place.names
            else:
                with pytest.raises(OutputError, match="log not found"):
                    await backend.find_output("7")


@pytest.mark.parametrize(("user", "given"), [("alice", True), ("", False)])
async def test_a_token_that_names_nobody_gives_nobodys_files(tmp_path, token_file, user, given):
    job = {**ALICES, "current_working_directory": f"{tmp_path}/run"}
    token_file.write_text(token_file.read_text() if user else "opaque")
    with Wire(http(200, {"jobs": [job]})) as wire:
        async with asking(wire, token_file, tmp_path, own_folder=False, user=user) as backend:
            with nullcontext() if given else pytest.raises(OutputError, match="whose job 7 is"):
                assert (await backend.find_folder("7")).owner == os.getuid()


@pytest.mark.parametrize("mode", [0o1777, 0o755])
async def test_a_forgotten_job_of_a_token_that_names_nobody_is_no_error(tmp_path, token_file, mode):
    token_file.write_text("opaque")
    tmp_path.chmod(mode)
    with Wire(http(404, {"jobs": []}), http(404, b"")) as wire:
        async with asking(wire, token_file, tmp_path, own_folder=False, user="") as backend:
            is_open = mode == 0o1777
            with pytest.raises(OutputError, match="log not found") if is_open else nullcontext():
                assert "job_7.out" in (await backend.find_output("7")).names


async def test_nobody_is_asked_about_a_folder_that_is_closed_to_others(tmp_path, token_file):
    (tmp_path / "job_7.out").touch()
    with Wire() as wire:
        async with asking(wire, token_file, tmp_path, own_folder=False) as backend:
            assert (await backend.find_output("7")).names[0] == "job_7.out"

    assert wire.requests == []


@pytest.mark.parametrize(
    ("told", "name"),
    [
        ({"stdout_expanded": "{folder}/deep/er/x.txt"}, "deep/er/x.txt"),
        ({"standard_output": "{folder}/x.txt"}, "x.txt"),
        ({"standard_output": "x.txt", "current_working_directory": "{folder}/run"}, "run/x.txt"),
        ({"stdout_expanded": "x.txt", "working_directory": "{folder}/run"}, "run/x.txt"),
        ({"standard_output": "{folder}/%j.txt", "stdout_expanded": "{folder}/7.txt"}, "7.txt"),
        ({"stdout_expanded": "/elsewhere/x.txt"}, None),
        ({"stdout_expanded": "{folder}/../x.txt"}, None),
        ({"standard_output": "{folder}/%j.txt"}, "7.txt"),
        ({"standard_output": "{folder}/%4A-%j.txt"}, "0007-7.txt"),
        ({"standard_output": "{folder}/%900000000j.txt"}, "0000000007.txt"),
        ({"standard_output": "{folder}/%00000000000000000002j.txt"}, "07.txt"),
        ({"standard_output": "{folder}/%" + "9" * 5000 + "j.txt"}, "0000000007.txt"),
        ({"standard_output": "{folder}/%u.txt"}, None),
        ({"stdout_expanded": "{folder}x/x.txt"}, None),
        ({"stdout_expanded": None}, None),
        ({"stdout_expanded": "", "current_working_directory": "{folder}/run"}, None),
        ({"working_directory": "{folder}/run"}, None),
    ],
)
async def test_the_file_that_a_jobs_record_names_comes_first(tmp_path, token_file, told, name):
    told = {key: value and value.format(folder=tmp_path) for key, value in told.items()}
    with Wire(http(200, {"jobs": [{**ALICES, **told}]})) as wire:
        async with asking(wire, token_file, tmp_path) as backend:
            names = (await backend.find_output("7")).names
            if name:
                assert names == (await backend.find_output("7")).names
    usual = ["alice/job_7.out", "alice/slurm-7.out", "job_7.out", "slurm-7.out"]

    assert names == ([name] if name else []) + usual
    assert len(wire.requests) == 1


@pytest.mark.parametrize("job_id", ["12_3", "13"])
async def test_a_task_of_an_array_has_its_own_file(tmp_path, token_file, job_id):
    jobs = [
        {**ALICES, "job_id": 10 + n, "array_job_id": number(12), "array_task_id": number(n)}
        | {"stdout_expanded": f"{tmp_path}/{n}.txt"}
        for n in (2, 3)
    ]
    with Wire(http(200, {"jobs": jobs})) as wire:
        async with asking(wire, token_file, tmp_path) as backend:
            assert (await backend.find_output(job_id)).names[0] == "3.txt"


async def test_a_part_of_a_het_job_has_its_own_file(tmp_path, token_file):
    jobs = [
        {**ALICES, "job_id": 12 + n, "het_job_id": number(12), "het_job_offset": number(n)}
        | {"stdout_expanded": f"{tmp_path}/{n}.txt"}
        for n in (0, 1)
    ]
    with Wire(http(200, {"jobs": jobs})) as wire:
        async with asking(wire, token_file, tmp_path) as backend:
            assert (await backend.find_output("12+1")).names[0] == "1.txt"


def number(value):
    return {"set": True, "infinite": False, "number": value}


@AS_ROOT
def test_the_users_folders_are_made(tmp_path):
    prepare_folders(tmp_path, ["nobody", "whoever"])

    assert (tmp_path / "nobody").stat().st_uid == pwd.getpwnam("nobody").pw_uid
    assert stat.S_IMODE((tmp_path / "nobody").stat().st_mode) == 0o700
    # whose it is to be is not known here: everybody may write, and nobody take away
    assert stat.S_IMODE((tmp_path / "whoever").stat().st_mode) == 0o1777
    prepare_folders(tmp_path, ["nobody", "whoever"])


def planted(path):
    path.mkdir()
    os.chown(path, 4242, -1)


@AS_ROOT
@pytest.mark.parametrize(
    "plant",
    [planted, Path.touch, lambda path: path.symlink_to("/")],
    ids=["dir", "file", "link"],
)
def test_a_users_folder_that_is_another_users_is_refused(tmp_path, plant):
    plant(tmp_path / "nobody")

    with pytest.raises(TokenError, match=r"is not nobody's folder.*install --directory"):
        prepare_folders(tmp_path, ["nobody"])


@pytest.mark.parametrize(
    ("mode", "taken"), [(0o755, True), (0o1777, True), (0o777, False), (0o775, False)]
)
def test_a_folder_in_which_anybody_may_take_away_anything_is_refused(tmp_path, mode, taken):
    tmp_path.chmod(mode)
    with nullcontext() if taken else pytest.raises(TokenError, match=r"chmod \+t"):
        prepare_folders(tmp_path, [])


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
        async with asking(wire, token_file, tmp_path, own_folder=False) as backend:
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


def test_the_output_of_one_of_several_users_goes_to_their_own_folder():
    body = {"script": "#!/bin/sh", "job": {"current_working_directory": "/mnt/efs"}}
    job = own_submit(body, OUTPUTS, {}, own=OUTPUTS / "alice")["job"]

    assert job["standard_output"] == "/srv/shared/alice/job_%j.out"
    assert job["current_working_directory"] == "/srv/shared"


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
