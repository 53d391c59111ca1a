"""Tests of clusterra_server.sign_in: who is let in, by which name, and after how many guesses."""

import json
import stat
import time

import httpx
import pytest

from clusterra_server.__main__ import make_private
from clusterra_server.sign_in import Guesses, is_ours, keep_session, new_session
from tests.support.servers import ClusterraServer


@pytest.mark.parametrize(
    ("host", "ours"),
    [
        ("127.0.0.1:8765", True),
        ("127.0.0.1", True),
        ("[::1]:8765", True),
        ("localhost:8765", True),
        ("clusterra:8765", True),
        ("Slurm.Example.org:443", True),
        ("slurm.example.org.", True),
        ("", True),
        ("evil.example", False),
        ("evil.example:8765", False),
        ("127.0.0.1.evil.example", False),
        ("xslurm.example.org", False),
        ("127.0.0.1@evil.example", False),
    ],
)
def test_a_server_answers_to_its_addresses_and_names_only(host, ours):
    assert is_ours(host, {"slurm.example.org"}) is ours


@pytest.mark.parametrize("path", ["/v1/users/me", "/manage/clusloc1/jobs/1"])
def test_a_name_that_is_another_sites_is_refused(local, path):
    headers = {"Authorization": f"Bearer {local.token}", "Host": "evil.example"}
    answer = httpx.get(local.url + path, headers=headers)

    assert answer.status_code == 421
    assert "--name" in answer.json()["error"]


def test_guesses_wait_ever_longer_and_not_for_ever():
    guesses = Guesses()
    delays = [guesses.delay(float(n)) for n in range(30)]

    assert delays[:5] == [0.0] * 5
    assert delays == sorted(delays)
    assert (delays[5], delays[-1]) == (0.2, 3.0)
    assert guesses.delay(1000.0) == 0.0


def test_a_browsers_password_is_taken_nowhere(local):
    for path in ("/v1/users/me", "/manage/clusloc1/jobs/99999"):
        assert httpx.get(local.url + path, auth=("me", local.token)).status_code == 401


def test_a_session_is_kept_in_the_folder(tmp_path):
    with ClusterraServer(dir=tmp_path) as server:
        before = server.connection_uri.partition("@")[0]
    with ClusterraServer(dir=tmp_path) as server:
        after = server.connection_uri.partition("@")[0]
        assert server.errors == ""

    assert before == after
    assert stat.S_IMODE((tmp_path / "session").stat().st_mode) == 0o600


@pytest.mark.parametrize("text", ["", "x", "a.b.c", "é", "\0", "a.e30.c"])
def test_what_is_no_session_is_made_anew(tmp_path, text):
    (tmp_path / "session").write_text(text)
    made = keep_session(tmp_path / "session", "you")

    assert made.user == "you"
    assert keep_session(tmp_path / "session", "you") == made
    assert keep_session(tmp_path / "session", "alice") != made


def test_a_session_that_has_ended_is_made_anew(tmp_path, mocker):
    before = keep_session(tmp_path / "session", "you")
    mocker.patch.object(time, "time", return_value=time.time() + 400 * 24 * 3600)

    assert keep_session(tmp_path / "session", "you") != before


def test_a_token_is_shown_in_no_repr():
    session = new_session()

    assert session.token not in repr(session)


@pytest.mark.parametrize("name", [None, "efs", "jobs.sqlite"])
def test_the_servers_folder_is_for_its_owner_alone(tmp_path, name):
    folder = tmp_path / "made"
    folder.mkdir()
    folder.chmod(0o755)
    if name:
        (folder / name).mkdir() if name == "efs" else (folder / name).touch()
    with ClusterraServer(dir=folder):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        made = [each for each in folder.rglob("*") if each.name != name]
        assert {stat.S_IMODE(each.stat().st_mode) & 0o077 for each in made} == {0}


def test_a_new_folder_is_for_its_owner_alone(tmp_path):
    make_private(tmp_path / "a/b")

    assert stat.S_IMODE((tmp_path / "a/b").stat().st_mode) == 0o700


def test_a_folder_with_other_things_is_left_as_it_is(tmp_path):
    tmp_path.chmod(0o755)
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(OSError, match=r"thesis\.tex.*a folder of its own"):
        make_private(tmp_path)

    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


def test_the_server_logs_a_submit_an_end_and_a_refused_sign_in(tmp_path):
    with ClusterraServer(dir=tmp_path) as server:
        headers = {"Authorization": f"Bearer {server.token}"}
        base = f"{server.url}/v1/clusters/{server.cluster_id}/jobs"
        job = {"environment": ["A=1"], "current_working_directory": "/mnt/efs", "name": "run"}
        with httpx.Client(headers=headers) as client:
            for fields in ({}, {"partition": "big"}):
                body = {"script": "#!/bin/sh\n", "job": {**job, **fields}}
                said = client.post(f"{base}/submit", json=body)
            while client.get(f"{base}/1").json()["jobs"][0]["job_state"] != ["COMPLETED"]:
                time.sleep(0.01)
        httpx.get(f"{server.url}/v1/users/me", headers={"Authorization": "Bearer guess"})

    assert "there is no partition 'big'; there are cpu and gpu" in json.dumps(said.json())
    assert "partitions   cpu, gpu" in server.banner
    assert server.errors.splitlines() == [
        "clusterra-server: job 1 was submitted by you",
        "clusterra-server: a submit by you was refused: 422 Invalid partition name specified",
        "clusterra-server: job 1 (run) ended: COMPLETED",
        "clusterra-server: refused a sign-in from 127.0.0.1: GET '/v1/users/me'",
    ] or sorted(server.errors.splitlines()[:3]) == sorted(
        [
            "clusterra-server: job 1 was submitted by you",
            "clusterra-server: a submit by you was refused: 422 Invalid partition name specified",
            "clusterra-server: job 1 (run) ended: COMPLETED",
        ]
    )


def test_a_jobs_page_is_there_as_long_as_the_ledger_is(tmp_path):
    with ClusterraServer(dir=tmp_path, min_job_age=0) as server:
        headers = {"Authorization": f"Bearer {server.token}"}
        base = f"{server.url}/v1/clusters/{server.cluster_id}/jobs"
        job = {"environment": ["A=1"], "current_working_directory": "/mnt/efs", "name": "run"}
        body = {"script": "#!/bin/sh\n", "job": job}
        with httpx.Client(headers=headers) as client:
            client.post(f"{base}/submit", json=body)
            while client.get(f"{base}/1").status_code != 404:
                time.sleep(0.01)
            page = client.get(f"{server.url}/manage/{server.cluster_id}/jobs/1")

    assert page.status_code == 200
    assert "COMPLETED" in page.text
