"""Tests of clusterra-server as a process, over its real socket."""

import json
import os
import signal
import socket
import time
from contextlib import ExitStack, closing

import httpx
import pytest

from clusterra_server import spawner
from clusterra_server.__main__ import _listen, main
from clusterra_server.sign_in import FILES
from clusterra_server.spawner import descendants, places
from tests.server.escapes import ESCAPES, processes_running
from tests.support.recorded import FOLDER, NEWEST
from tests.support.servers import ClusterraServer, processes_with

ACTIVE = {"PENDING", "RUNNING", "COMPLETING"}


class Rest:
    """The server's routes, asked plainly: not with the client that is tested against it."""

    def __init__(self, server):
        self.server = server
        self.http = httpx.Client(
            base_url=server.url, headers={"Authorization": f"Bearer {server.token}"}
        )
        self.cluster = f"/v1/clusters/{server.cluster_id}"

    def submit(self, script, **fields):
        job = {"environment": ["A=1"], "current_working_directory": "/mnt/efs", **fields}
        body = {"script": f"#!/bin/bash\n{script}\n", "job": job}
        return self.http.post(f"{self.cluster}/jobs/submit", json=body).json()["job_id"]

    def jobs(self, job_id):
        return self.http.get(f"{self.cluster}/jobs/{job_id}").json()["jobs"]

    def cancel(self, job_id):
        return self.http.delete(f"{self.cluster}/jobs/{job_id}").json()["status"]

    def output(self, job_id):
        return self.http.get(f"{self.cluster}/jobs/{job_id}/output").content

    def until(self, job_id, done):
        end = time.monotonic() + 30
        while time.monotonic() < end:
            found = self.jobs(job_id)
            if all(done(job) for job in found):
                return found
            time.sleep(0.02)
        raise AssertionError(f"job {job_id} is {found[0]['job_state']}")

    def ended(self, job_id):
        return self.until(job_id, lambda job: not ACTIVE & set(job["job_state"]))

    def running(self, job_id):
        return self.until(job_id, lambda job: job["job_state"] == ["RUNNING"])


@pytest.fixture
def rest(local):
    made = Rest(local)
    yield made
    made.http.close()


@pytest.fixture(scope="module")
def anonymous():
    """Without a session."""
    with httpx.Client() as made:
        yield made


@pytest.fixture
def server(tmp_path):
    """Starts a server of the test's own."""
    started = []

    def start(**options):
        made = ClusterraServer(dir=tmp_path, **options)
        try:
            rest = Rest(made.start())
        finally:
            started.append(made)
        stack.callback(rest.http.close)
        return rest

    with ExitStack() as stack:
        yield start
    for each in started:
        each.stop()


def test_a_script_runs_and_its_output_is_there(rest):
    job_id = rest.submit("echo out; echo err >&2; echo $SLURM_JOB_ID $A")
    (job,) = rest.ended(job_id)

    assert job["job_state"] == ["COMPLETED"]
    assert rest.output(job_id) == f"out\nerr\n{job_id} 1\n".encode()


def test_a_jobs_environment_holds_nothing_of_the_servers(rest):
    job_id = rest.submit("env")
    rest.ended(job_id)

    names = {line.partition(b"=")[0] for line in rest.output(job_id).splitlines()}
    assert not names & {b"VIRTUAL_ENV", b"PYTEST_CURRENT_TEST", b"AIRFLOW_HOME", b"USER"}


@pytest.mark.parametrize(
    ("script", "state", "reason", "code", "number"),
    [
        ("exit 3", "FAILED", "NonZeroExitCode", 3, 0),
        ("kill -9 $$", "FAILED", "RaisedSignal", 0, 9),
        ("exit 0", "COMPLETED", "None", 0, 0),
    ],
)
def test_a_script_ends_as_in_slurm(rest, script, state, reason, code, number):
    (job,) = rest.ended(rest.submit(script))

    assert (job["job_state"], job["state_reason"]) == ([state], reason)
    assert job["exit_code"]["return_code"]["number"] == code
    assert job["exit_code"]["signal"]["id"]["number"] == number


def test_a_script_that_cannot_be_started_fails_as_in_slurm(rest):
    body = {"environment": ["A=1"], "current_working_directory": "/mnt/efs"}
    submit = f"{rest.cluster}/jobs/submit"
    said = rest.http.post(submit, json={"script": "echo no shebang\n", "job": body}).json()
    (job,) = rest.ended(said["job_id"])

    assert job["job_state"] == ["FAILED"]
    assert b"slurmstepd: error: execve(): Exec format error" in rest.output(said["job_id"])


def test_a_folder_that_is_not_there_fails_the_job(rest):
    (job,) = rest.ended(rest.submit("exit 0", current_working_directory="/nowhere"))

    assert job["job_state"] == ["FAILED"]


def test_a_job_that_is_cancelled_has_a_chance_to_clean_up(rest):
    job_id = rest.submit("trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.05; done")
    rest.running(job_id)
    while b"up" not in rest.output(job_id):
        time.sleep(0.01)

    assert rest.cancel(job_id) == []
    (job,) = rest.ended(job_id)
    assert job["job_state"] == ["CANCELLED"]
    assert rest.output(job_id).endswith(b"bye\n")
    assert rest.cancel(job_id)[0]["error"]["code"] == 2021


def test_what_a_script_leaves_behind_ends_with_it(rest):
    job_id = rest.submit("LEFT=behind setsid sleep 600 & disown; exit 0")
    rest.ended(job_id)

    assert processes_with("LEFT=behind") == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_jobs_are_remembered_over_a_restart(server, number):
    rest = server()
    done, lost = rest.submit("echo done"), rest.submit("sleep 60")
    waits = rest.submit("echo late", dependency=f"afterany:{lost}")
    rest.ended(done)
    rest.running(lost)
    rest.server.stop(number)
    rest = server()

    assert rest.jobs(done)[0]["job_state"] == ["COMPLETED"]
    assert rest.jobs(lost)[0]["job_state"] == ["NODE_FAIL"]
    assert rest.output(done) == b"done\n"
    assert rest.ended(waits)[0]["job_state"] == ["COMPLETED"]
    assert rest.output(waits) == b"late\n"
    assert rest.submit("exit 0") > waits


def test_a_folder_serves_one_server(server, capsys):
    rest = server()

    assert main(["--port=0", f"--dir={rest.server.folder}"]) == 2
    assert "is it in use by another clusterra-server?" in capsys.readouterr().err
    assert rest.ended(rest.submit("exit 0"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_whatever_ends_the_server_ends_all_its_processes(tmp_path, word, number):
    rest = Rest(ClusterraServer(dir=tmp_path, cpus=len(ESCAPES)).start())
    with closing(rest.http):
        for escape in ESCAPES.values():
            rest.submit(escape.format(sleep=f"sleep {word}"))
    while len(processes_running(word)) < len(ESCAPES):
        time.sleep(0.01)
    everything = descendants(places(), [rest.server.pid])
    returned = rest.server.stop(number)
    end = time.monotonic() + 10
    while alive(everything) and time.monotonic() < end:
        time.sleep(0.02)

    assert alive(everything) == set()
    assert processes_running(word) == []
    assert returned == (0 if number != signal.SIGKILL else -signal.SIGKILL)


def test_the_storage_ends_even_if_the_process_above_it_is_killed_with_the_server(server):
    rest = server()
    below = descendants(places(), [rest.server.pid])
    above = below & set(processes_running(spawner.__file__))
    (rclone,) = below & set(processes_running("serve"))
    os.kill(rest.server.pid, signal.SIGSTOP)
    for pid in (*above, rest.server.pid):
        os.kill(pid, signal.SIGKILL)
    end = time.monotonic() + 10
    while alive({rclone}) and time.monotonic() < end:
        time.sleep(0.02)

    assert alive({rclone}) == set()


def alive(pids):
    table = places()
    return {pid for pid in pids if pid in table and not table[pid].is_zombie}


def test_a_port_that_is_taken_is_said_in_one_line(capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        assert main([f"--port={port}"]) == 2
    assert capsys.readouterr().err == (
        f"clusterra-server: port {port} cannot be used (Address already in use). "
        "Choose another with --port.\n"
    )


def test_no_answer_is_held_back_until_the_one_before_is_acknowledged():
    # asyncio looks at the protocol's number before it turns Nagle's algorithm off
    with _listen("127.0.0.1", 0) as listener:
        assert listener.proto == socket.IPPROTO_TCP


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--port=99999"], "port 99999 cannot be used (it is not between 0 and 65535)"),
        (["--cpus=0"], "argument --cpus: '0' is not a whole number above 0"),
        (["--cpus=many"], "argument --cpus: 'many' is not a whole number above 0"),
    ],
    ids=repr,
)
def test_a_wrong_option_is_said_in_words(capsys, arguments, words):
    try:
        status = main(arguments)
    except SystemExit as end:
        status = end.code

    assert status == 2
    assert words in capsys.readouterr().err


def test_a_token_that_no_cookie_can_hold_is_refused(monkeypatch, capsys):
    monkeypatch.setenv("CLUSTERRA_SERVER_TOKEN", "a b")

    assert main(["--port=0"]) == 2
    assert "CLUSTERRA_SERVER_TOKEN holds what no cookie can" in capsys.readouterr().err


def test_without_the_session_nothing_is_told(local, anonymous):
    for headers in ({}, {"Cookie": "clusterra_session=x"}, {"Authorization": "Bearer x"}):
        for path in ("/v1/users/me", "/v1/clusters", "/v1/clusters/clusloc1/jobs", "/anything"):
            assert anonymous.get(local.url + path, headers=headers).status_code == 401


def test_the_session_is_found_among_other_cookies(local, anonymous):
    cookie = f"a=1; strange[]=2; clusterra_session={local.token}; b"

    found = anonymous.get(f"{local.url}/v1/users/me", headers={"Cookie": cookie})
    assert found.status_code == 200


def test_a_record_has_the_fields_of_a_real_one(rest):
    theirs = json.loads((FOLDER / NEWEST / "job_completed.json").read_text())["body"]["jobs"][0]
    (ours,) = rest.ended(rest.submit("exit 0"))

    theirs.pop("job_resources")  # which CPUs of which node: nothing that ours could tell
    assert sorted(ours) == sorted(theirs)
    for field, value in theirs.items():
        assert type(ours[field]) is type(value), field


def test_a_file_goes_to_the_storage_and_back_by_signed_addresses_only(rest, anonymous):
    said = rest.http.post(
        f"{rest.cluster}/storage/presigned-url", json={"filename": "a/b c.txt", "location": "data"}
    ).json()

    assert said["key"] == "data/you/a/b c.txt"
    assert anonymous.put(said["upload_url"], content=b"hello").status_code == 200
    unsigned = said["upload_url"].partition("?")[0]
    assert anonymous.put(unsigned, content=b"evil").status_code >= 400
    back = rest.http.post(f"{rest.cluster}/storage/download-url", json={"key": said["key"]}).json()
    assert anonymous.get(back["download_url"]).content == b"hello"
    job_id = rest.submit('cat "$CLUSTERRA_FILES/data/you/a/b c.txt"')
    rest.ended(job_id)
    assert rest.output(job_id) == b"hello"


@pytest.mark.parametrize("key", ["", "elsewhere/x", "data/../../x", "data//x", "data"])
def test_no_address_is_signed_for_what_is_no_upload(rest, key):
    asked = rest.http.post(f"{rest.cluster}/storage/download-url", json={"key": key})

    assert asked.status_code == 400


def test_an_output_is_streamed_as_it_is_written(rest):
    job_id = rest.submit("echo one; sleep 0.2; printf 'two\\r'; sleep 60")
    rest.running(job_id)
    while not rest.output(job_id):
        time.sleep(0.01)
    got = b""
    with rest.http.stream("GET", f"{rest.cluster}/jobs/{job_id}/output/stream") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        for piece in stream.iter_raw():
            got += piece
            if b"two" in got:
                break
    rest.cancel(job_id)

    assert got.replace(b"\n\ndata: ", b"\ndata: ").startswith(b"data: one\ndata: ")


def test_an_output_that_is_not_there_yet_is_said(rest):
    assert rest.http.get(f"{rest.cluster}/jobs/999999/output").status_code == 404
    with rest.http.stream("GET", f"{rest.cluster}/jobs/999999/output/stream") as stream:
        assert next(stream.iter_raw()).startswith(b"event: error\ndata: No such file")


def test_the_server_says_what_it_can(rest):
    routes = rest.http.get("/v1/api-routes").json()["routes"]

    assert {"submit_job", "get_job", "cancel_job", "presign_upload"} <= {
        route["name"] for route in routes
    }
    for route in routes:
        named = "{job_id}" in route["path"] or route["path"] == FILES
        if route["method"] == "GET" and not named:
            path = route["path"].format(cluster_id=rest.server.cluster_id, template_id="notebook")
            assert rest.http.get(path).status_code == 200, path


@pytest.mark.parametrize("path", ["/jobs/abc", "/jobs/1_x", "/jobs/0x10", "/jobs/%2e%2e"])
def test_an_id_that_is_none_is_refused(rest, path):
    assert rest.http.get(rest.cluster + path).status_code in (404, 422)


@pytest.mark.parametrize("job_id", ["1%00", "%00", "9" * 300, "1_%001", "x" * 5000])
@pytest.mark.parametrize("route", ["", "/output", "/output/stream"])
def test_an_id_with_a_nul_or_of_any_length_is_refused(rest, job_id, route):
    assert rest.http.get(f"{rest.cluster}/jobs/{job_id}{route}").status_code == 400
    assert rest.http.delete(f"{rest.cluster}/jobs/{job_id}").status_code == 400


@pytest.mark.parametrize("query", ["jobs/state?job_id=1%00", "accounting/jobs?job_name=a%00"])
def test_a_query_with_a_nul_is_refused(rest, query):
    assert rest.http.get(f"{rest.cluster}/{query}").status_code == 400


def test_the_storage_comes_back_when_it_dies_and_addresses_stay_good(server, anonymous):
    rest = server()
    said = rest.http.post(
        f"{rest.cluster}/storage/presigned-url", json={"filename": "a", "location": "data"}
    ).json()
    (rclone,) = descendants(places(), [rest.server.pid]) & set(processes_running("serve"))
    os.kill(rclone, signal.SIGKILL)
    end = time.monotonic() + 30
    while time.monotonic() < end:
        try:
            status = anonymous.put(said["upload_url"], content=b"hello").status_code
            break
        except httpx.TransportError:
            time.sleep(0.05)

    assert status == 200
    rest.server.stop()
    assert "rclone has ended; it is started again" in rest.server.errors
