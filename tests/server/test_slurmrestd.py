"""Tests of clusterra_server.slurmrestd, against a server that says what it is told."""

from contextlib import asynccontextmanager

import httpx
import pytest

from clusterra_server import slurmrestd
from clusterra_server.backend import TokenError
from clusterra_server.slurmrestd import (
    Slurmrestd,
    SlurmrestdUser,
    SlurmToken,
    UnavailableError,
    choose_version,
    read_users,
    user_of,
    words_of,
)
from tests.support.wire import Wire, headers_of, http

OFFERS = http(200, {"paths": {"/slurm/v0.0.41/jobs/": {}, "/slurm/v0.0.44/jobs/": {}}})
FAILED = http(500, {"errors": [{"error": "Unspecified error", "error_number": -1}]})
UP = http(200, {"pings": [{"pinged": "UP"}]})
JOBS = "/slurm/{version}/jobs/"


@pytest.fixture
def token(tmp_path):
    """Alice's."""
    path = tmp_path / "token"
    path.write_text("t0ken")
    return SlurmToken(path, "alice")


@asynccontextmanager
async def asking(url, version=""):
    made = Slurmrestd(url, version)
    try:
        yield made
    finally:
        await made.close()


def lines(wire):
    return [request.partition(b" HTTP")[0].decode() for request in wire.requests]


@pytest.mark.parametrize("text", ['"/slurm/v0.0.%s/x"', '"\\/slurm\\/v0.0.%s\\/x"'])
def test_the_newest_version_is_taken(text):
    offers = ", ".join(text % number for number in (9, 45, 40, 44))

    assert choose_version(offers.encode()) == "v0.0.45"


@pytest.mark.parametrize("offers", [b"", b'"/slurm/v0.0.39/x"', b'"/slurmdb/v0.0.44/x"'])
def test_a_slurm_that_is_too_old_says_so(offers):
    with pytest.raises(UnavailableError, match=r"from 23\.11 on"):
        choose_version(offers)


async def test_an_answer_is_passed_on_as_it_is(token):
    body = b'{ "jobs" : [] ,\n "unknown": 1 }'
    with Wire(OFFERS, http(200, body, {"Content-Type": "application/json"})) as wire:
        async with asking(wire.url) as server:
            answer = await server.ask(token, "GET", JOBS)
    headers = headers_of(wire.requests[-1])

    assert (answer.body, answer.status, answer.media_type) == (body, 200, "application/json")
    assert lines(wire) == ["GET /openapi/v3", "GET /slurm/v0.0.44/jobs/"]
    assert (headers["x-slurm-user-token"], headers["x-slurm-user-name"]) == ("t0ken", "alice")


async def test_no_proxy_is_handed_a_slurm_token(token, monkeypatch):
    for name in ("HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.delenv("NO_PROXY", raising=False)
        with Wire(http(200, {})) as wire, Wire(http(200, {})) as proxy:
            monkeypatch.setenv(name, proxy.url)
            async with asking(wire.url, "v0.0.44") as server:
                await server.ask(token, "GET", JOBS)

            assert (len(wire.requests), proxy.requests) == (1, [])


async def test_a_version_that_is_given_is_taken(token):
    with Wire(http(200, {})) as wire:
        async with asking(wire.url, "v0.0.42") as server:
            await server.ask(token, "GET", JOBS)

    assert lines(wire) == ["GET /slurm/v0.0.42/jobs/"]


async def test_a_slurm_that_is_upgraded_is_asked_for_its_new_version(token, mocker):
    mocker.patch.object(slurmrestd, "LOOKED_AGAIN", -1.0)
    newer = http(200, {"paths": {"/slurm/v0.0.46/jobs/": {}}})
    with Wire(OFFERS, http(404, b"no such route"), newer, http(200, {})) as wire:
        async with asking(wire.url) as server:
            answer = await server.ask(token, "GET", JOBS)

    assert (answer.status, lines(wire)[-1]) == (200, "GET /slurm/v0.0.46/jobs/")


@pytest.mark.parametrize("pings", [[{"pinged": "DOWN"}], [{"responding": False}]], ids=repr)
@pytest.mark.parametrize(
    ("method", "answer"), [("GET", FAILED), ("DELETE", http(403, {"errors": []}))]
)
async def test_a_controller_that_is_down_is_said_in_words(token, method, answer, pings):
    with Wire(answer, http(200, {"pings": pings})) as wire:
        async with asking(wire.url, "v0.0.44") as server:
            said = await server.ask(token, method, JOBS)

    assert said.status == 503
    assert said.document()["errors"][0]["error"] == "slurmctld does not answer"


async def test_what_slurm_says_itself_while_it_is_up_stays(token):
    with Wire(FAILED, UP) as wire:
        async with asking(wire.url, "v0.0.44") as server:
            said = await server.ask(token, "GET", JOBS)

    assert said.status == 500
    assert said.document()["errors"][0]["error"] == "Unspecified error"


async def test_a_submits_answer_is_never_made_better(token):
    with Wire(FAILED) as wire:
        async with asking(wire.url, "v0.0.44") as server:
            said = await server.ask(token, "POST", "/slurm/{version}/job/submit", body={})

    assert (said.status, len(wire.requests)) == (500, 1)


async def test_a_server_that_is_not_there_surely_got_nothing(token):
    async with asking("http://127.0.0.1:9") as server:
        said = await server.ask(token, "GET", JOBS)

    assert said.status == 503
    assert "cannot be reached" in said.document()["errors"][0]["error"]


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_server_that_breaks_off_may_have_got_it(token, method):
    with Wire(None) as wire:
        async with asking(wire.url, "v0.0.44") as server:
            said = await server.ask(token, method, JOBS)

    assert (said.status, len(wire.requests)) == (502, 1)


async def test_a_server_that_says_nothing_is_given_up_in_the_end(token, mocker):
    mocker.patch.object(slurmrestd, "TIMEOUT", httpx.Timeout(0.05))
    with Wire(UP) as wire:
        wire.silent.set()
        async with asking(wire.url, "v0.0.44") as server:
            said = await server.ask(token, "GET", JOBS)

    assert said.status == 504


async def test_a_token_that_cannot_be_read_is_said_without_asking(token):
    token.path.unlink()
    with Wire(UP) as wire:
        async with asking(wire.url, "v0.0.44") as server:
            said = await server.ask(token, "GET", JOBS)

    assert (said.status, wire.requests) == (503, [])


@pytest.mark.parametrize(("status", "privileged"), [(200, True), (511, False)])
async def test_whoever_may_speak_for_root_is_privileged(token, status, privileged):
    with Wire(UP, http(status, {})) as wire:
        async with asking(wire.url, "v0.0.44") as server:
            found = await server.is_privileged(token)

    assert found is privileged
    assert headers_of(wire.requests[-1])["x-slurm-user-name"] == "root"


async def test_whether_it_is_cannot_be_told_with_a_token_that_is_not_taken(token):
    with Wire(http(511, {"errors": [{"error": "Protocol authentication error"}]})) as wire:
        async with asking(wire.url, "v0.0.44") as server:
            with pytest.raises(UnavailableError, match="511 Protocol authentication error"):
                await server.is_privileged(token)


ALICES = "e30.eyJzdW4iOiAiYWxpY2UifQ.c2VjcmV0"


@pytest.fixture
def users(tmp_path):
    """Writes a users' file."""

    def write(text):
        path = tmp_path / "users"
        path.write_text(text)
        return path

    return write


def test_a_token_is_read_as_scontrol_prints_it(tmp_path):
    path = tmp_path / "token"
    path.write_text(f"SLURM_JWT={ALICES}\n")

    assert SlurmToken(path).read() == ALICES
    assert SlurmToken(path).user == "alice"


def test_a_renewed_token_is_taken_at_once(tmp_path):
    path = tmp_path / "token"
    token = SlurmToken(path)
    path.write_text("old")

    assert token.read() == "old"
    path.write_text("new")
    assert token.read() == "new"


def test_a_token_may_come_from_slurms_own_variable(monkeypatch):
    monkeypatch.setenv("SLURM_JWT", ALICES)

    assert SlurmToken().user == "alice"


@pytest.mark.parametrize("text", ["", " \n", "two\nlines", "t\u00f6ken"], ids=repr)
def test_what_is_no_token_is_refused(tmp_path, text):
    path = tmp_path / "token"
    path.write_text(text)
    with pytest.raises(TokenError) as caught:
        SlurmToken(path).read()

    assert str(path) in str(caught.value)
    assert not text.strip() or text not in str(caught.value)


def test_a_token_that_is_nowhere_says_where_it_may_be(monkeypatch):
    monkeypatch.delenv("SLURM_JWT", raising=False)
    with pytest.raises(TokenError, match="--token-file or --users"):
        SlurmToken().read()


@pytest.mark.parametrize(
    "token", ["", "opaque", "a.b.c", "a.W10.c", "a.eyJzdW4iOiAxfQ.c"], ids=repr
)
def test_a_token_that_names_nobody_names_nobody(token):
    assert user_of(token) == ""


def test_the_users_are_read_line_by_line(users, tmp_path):
    alice, bob = read_users(
        users(
            "# who may ask\n\ns3cret-of-alice-01 alice alice.jwt\n0ther-of-bob-01234 bob /run/bob.jwt admin\n"
        )
    )

    assert (alice.token, alice.slurm) == (
        "s3cret-of-alice-01",
        SlurmToken(tmp_path / "alice.jwt", "alice"),
    )
    assert str(bob.slurm.path) == "/run/bob.jwt"
    assert (alice.is_admin, bob.is_admin) == (False, True)
    assert "s3cret" not in repr(alice)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "names no users"),
        ("s3cret alice\n", "line 1: it has 2 words"),
        ("s3cret-0123456789 a a.jwt boss\n", "line 1: it has 4 words"),
        ("s3cret-0123456789 a a.jwt\ns3cret-0123456789 b b.jwt\n", "two users have the same token"),
    ],
)
def test_a_wrong_line_is_named_without_its_token(users, text, words):
    with pytest.raises(TokenError, match=words) as caught:
        read_users(users(text))

    assert "s3cret" not in str(caught.value)


async def test_one_users_unread_lists_leave_the_others_their_share(token):
    with Wire(http(200, b"x" * 1_000_000)) as wire:
        async with asking(wire.url, "v0.0.44") as server:
            greedy, other = (SlurmrestdUser(server, token, share=2, waits=0.05) for _ in range(2))
            held = [await greedy.ask("GET", JOBS, stream=True) for _ in range(2)]
            refused = await greedy.ask("GET", JOBS, stream=True)
            served = await other.ask("GET", JOBS, stream=True)
            # one that was begun, and one that was not
            assert await anext(held[0].body)
            for each in held:
                await each.body.aclose()
            again = [await greedy.ask("GET", JOBS) for _ in range(3)]
            await served.body.aclose()

    assert (refused.status, served.status) == (503, 200)
    assert words_of(refused) == "2 requests of this user are under way, and no more can be"
    assert [len(each.body) for each in again] == [1_000_000] * 3


async def test_an_answer_that_is_read_to_its_end_gives_its_place_back(token):
    with Wire(http(200, b"x" * 1000)) as wire:
        async with asking(wire.url, "v0.0.44") as server:
            user = SlurmrestdUser(server, token, share=1, waits=0.05)
            for _ in range(3):
                answer = await user.ask("GET", JOBS, stream=True)
                assert (await answer.whole()).body == b"x" * 1000


async def test_a_slurmrestd_that_cannot_be_reached_is_not_said_to_refuse_a_token(token):
    async with asking("http://127.0.0.1:9", "v0.0.44") as server:
        with pytest.raises(UnavailableError, match="cannot be reached") as caught:
            await SlurmrestdUser(server, token).is_privileged()

    assert "token" not in str(caught.value)
