"""Tests of clusterra_server.__main__: how a server in front of a Slurm starts."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from clusterra_server import __main__ as start
from clusterra_server.__main__ import announce, main
from clusterra_server.options import read_options
from clusterra_server.sign_in import Account, Session
from clusterra_server.slurmrestd import UnavailableError
from tests.support.servers import ClusterraServer
from tests.support.wire import Wire, headers_of, http

OFFERS = http(200, {"paths": {"/slurm/v0.0.41/jobs/": {}, "/slurm/v0.0.44/jobs/": {}}})
ALICES = "e30.eyJzdW4iOiAiYWxpY2UifQ.c2VjcmV0"
NOWHERE = "http://127.0.0.1:9"
DOWN = http(500, {"errors": []})
NO_PING = http(200, {"pings": [{"pinged": "DOWN"}]})


@pytest.fixture
def arguments(tmp_path, monkeypatch):
    """The command's, for a server that other machines reach, with Alice's token."""
    monkeypatch.setenv("CLUSTERRA_SERVER_TOKEN", "a-token-of-mine-0123")
    (tmp_path / "token").write_text(ALICES)

    def make(url, *more, token="token"):
        ours = [] if "--users" in "".join(more) else [f"--token-file={tmp_path / token}"]
        return [
            *("--backend=slurm", "--host=0.0.0.0", "--port=0", f"--slurmrestd={url}"),
            *(f"--output-dir={tmp_path}", *ours, *more),
        ]

    return make


@pytest.fixture
def users_file(tmp_path):
    """Writes a users' file, whose token files are there."""

    def write(*lines):
        path = tmp_path / "users"
        path.write_text("\n".join(lines))
        return f"--users={path}"

    return write


def speaks_for(*privileged):
    """Answers as a slurmrestd does some of whose users may speak for root."""

    def answer(request):
        headers = headers_of(request)
        if request.startswith(b"GET /openapi"):
            return OFFERS
        may = headers["x-slurm-user-name"] != "root" or headers["x-slurm-user-token"] in privileged
        return http(200 if may else 511, {"jobs": []})

    return answer


def test_other_machines_are_not_given_a_token_that_may_do_anything(arguments, capsys):
    with Wire(speaks_for(ALICES)) as wire:
        status = main(arguments(wire.url))

    assert status == 2
    assert (
        "the Slurm token of alice may do anything on the cluster; with --host 0.0.0.0"
        in capsys.readouterr().err
    )


def test_nor_are_they_given_roots_while_slurm_is_down(arguments, tmp_path, capsys):
    (tmp_path / "roots").write_text("e30.eyJzdW4iOiAicm9vdCJ9.c2VjcmV0")

    assert main(arguments(NOWHERE, token="roots")) == 2
    assert "the Slurm token of root may do anything" in capsys.readouterr().err


async def test_a_token_that_could_not_be_looked_at_is_not_used_until_it_is(arguments, caplog):
    up = [http(200, {}), http(511, {}), http(200, {"jobs": []})]
    with Wire(OFFERS, DOWN, NO_PING, DOWN, NO_PING, *up) as wire:
        async with start.slurm(read_options(arguments(wire.url))) as [account]:
            assert "it is not known yet whose Slurm token it is" in caplog.text
            refused = await account.backend.list_jobs()
            assert refused.status == 503
            assert len(wire.requests) == 5
            # and then slurmctld is back
            assert (await account.backend.list_jobs()).status == 200
            assert len(wire.requests) == 8
            assert (await account.backend.list_jobs()).status == 200
            assert len(wire.requests) == 9


async def test_what_turns_out_to_be_privileged_is_refused(arguments, tmp_path):
    with Wire(http(503, {})) as wire:
        async with start.slurm(read_options(arguments(wire.url))) as [account]:
            wire.says(speaks_for(ALICES))
            assert (await account.backend.submit_job({"job": {}})).status == 403
            with pytest.raises(UnavailableError, match="may do anything"):
                await account.backend.find_output("7")
            # until there is another
            (tmp_path / "token").write_text("other")
            assert (await account.backend.submit_job({"job": {}})).status == 200

    assert sum(request.startswith(b"POST") for request in wire.requests) == 1


async def test_all_users_are_looked_at_together_and_not_for_long(
    arguments, users_file, mocker, caplog
):
    mocker.patch.object(start, "LOOKS_FOR", 0.3)
    users = users_file(*(f"token-number-{number}-xyz user{number} token" for number in range(8)))

    def answer(request):
        """The version, and then nothing."""
        wire.silent.set()
        return OFFERS

    with Wire(answer) as wire:
        async with start.slurm(read_options(arguments(wire.url, users))) as accounts:
            assert len(accounts) == 8
            diag = [request for request in wire.requests if b"/diag/" in request]

    assert len(diag) == 8
    assert caplog.text.count("it is not known yet whose Slurm token it is") == 1


async def test_on_loopback_nothing_waits_for_that_look(arguments):
    with Wire(http(503, {})) as wire:
        options = read_options([*arguments(wire.url), "--host=127.0.0.1"])
        async with start.slurm(options) as [account]:
            wire.says(OFFERS, http(200, {"jobs": []}))
            answer = await account.backend.list_jobs()

    assert answer.status == 200
    assert not any(b"/diag/" in request for request in wire.requests)


def test_a_version_that_is_not_offered_is_said_with_those_that_are(arguments, capsys):
    with Wire(speaks_for()) as wire:
        status = main(arguments(wire.url, "--api-version=v0.0.99"))

    assert status == 2
    assert (
        capsys.readouterr().err
        == "clusterra-server: slurmrestd offers v0.0.41, v0.0.44, and not v0.0.99\n"
    )


async def test_a_version_that_turns_out_not_to_be_offered_is_said_then(arguments):
    with Wire(http(503, {})) as wire:
        options = read_options([*arguments(wire.url, "--api-version=v0.0.99"), "--host=127.0.0.1"])
        async with start.slurm(options) as [account]:
            wire.says(speaks_for())
            answer = await account.backend.list_jobs()

    assert answer.status == 502
    assert answer.document()["errors"][0]["error"].endswith("and not v0.0.99")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("s3cret-0123456789 alice nowhere", "the Slurm token in {folder}/nowhere cannot be read"),
        ("s3cret;s3cret alice token", "line 1: the client's token holds what no cookie can"),
        ("s3crét alice token", "line 1: the client's token holds what no cookie can"),
    ],
)
def test_a_wrong_user_is_said_at_the_start(arguments, users_file, tmp_path, capsys, line, words):
    status = main(arguments(NOWHERE, users_file(line)))
    said = capsys.readouterr().err

    assert status == 2
    assert words.format(folder=tmp_path) in said
    assert "s3cr" not in said


@pytest.mark.parametrize(
    "token", ["mine", "0123456789abcde", "aaaaaaaaaaaaaaaaaaaaaaaa", "1212121212121212"]
)
def test_a_token_that_can_be_guessed_is_refused(arguments, users_file, monkeypatch, capsys, token):
    assert main(arguments(NOWHERE, users_file(f"{token} alice token"))) == 2
    monkeypatch.setenv("CLUSTERRA_SERVER_TOKEN", token)
    assert main(["--port=0"]) == 2
    said = capsys.readouterr().err
    assert said.count("can be guessed") == 2
    assert "line 1: the client's token" in said
    assert token not in said


@pytest.mark.parametrize("name", ["token", "users"])
async def test_a_file_of_tokens_that_everybody_can_read_is_warned_of(
    arguments, users_file, tmp_path, caplog, name
):
    users = users_file("a-token-of-alice-0123 alice token")
    for each in ("token", "users"):
        (tmp_path / each).chmod(0o644 if each == name else 0o640)
    async with start.slurm(read_options(arguments(NOWHERE, users))):
        pass

    assert [
        record.getMessage() for record in caplog.records if "can read" in record.getMessage()
    ] == [f"every user of this machine can read {tmp_path / name}: chmod o= {tmp_path / name}"]


def test_a_slurm_that_is_down_is_waited_for(arguments, tmp_path):
    options = {
        "backend": "slurm",
        "slurmrestd": NOWHERE,
        "token_file": tmp_path / "token",
        "output_dir": tmp_path,
    }
    with ClusterraServer(**options) as server:
        assert "as alice" in server.banner
        assert ALICES not in server.banner


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_start_can_be_given_up_without_a_word(arguments, tmp_path, number):
    (tmp_path / "token").chmod(0o600)
    with Wire(OFFERS) as wire:
        wire.silent.set()
        process = subprocess.Popen(
            [sys.executable, "-m", "clusterra_server", *arguments(wire.url)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        while not wire.requests:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(number)
        said, _ = process.communicate()

    assert (process.returncode, said) == (0, b"")


GIVEN = Session("s3cret", "alice", "CLUSTERRA_SERVER_TOKEN")


@pytest.fixture
def said(capsys, monkeypatch):
    """What the server of a session says."""
    monkeypatch.setenv("CLUSTERRA_SERVER_TOKEN", "s3cret")

    def say(session, *arguments):
        announce(read_options(arguments), 8765, Path("/files"), [Account(session, None)])
        return capsys.readouterr().out

    return say


def test_a_token_of_the_servers_own_is_shown(said):
    assert "clusterra://:m%2Fade@127.0.0.1:8765/http?" in said(Session("m/ade"))


def test_a_token_that_was_given_is_not_shown_but_where_it_is(said):
    words = said(GIVEN)

    assert "s3cret" not in words
    assert "with the one in CLUSTERRA_SERVER_TOKEN for TOKEN" in words
    assert "clusterra://:TOKEN@127.0.0.1:8765/http?cluster_id=clusloc1" in words


def test_off_loopback_only_where_the_token_is_is_said(said):
    words = said(GIVEN, "--host=0.0.0.0")

    assert "s3cret" not in words
    assert "sign-in      with the token in CLUSTERRA_SERVER_TOKEN" in words
    assert "export" not in words
