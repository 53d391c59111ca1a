"""Tests of clusterra_server.tokens."""

import pytest

from clusterra_server.session import new_session
from clusterra_server.tokens import SlurmToken, TokenError, read_users, user_of

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
        users("# who may ask\n\ns3cret alice alice.jwt\n0ther bob /run/bob.jwt\n")
    )

    assert (alice.token, alice.slurm) == ("s3cret", SlurmToken(tmp_path / "alice.jwt", "alice"))
    assert str(bob.slurm.path) == "/run/bob.jwt"
    assert "s3cret" not in repr(alice)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "names no users"),
        ("s3cret alice\n", "line 1: it has 2 words"),
        ("s3cret a a.jwt\ns3cret b b.jwt\n", "two users have the same token"),
    ],
)
def test_a_wrong_line_is_named_without_its_token(users, text, words):
    with pytest.raises(TokenError, match=words) as caught:
        read_users(users(text))

    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("header", "accepted"),
    [("Basic YWxpY2U6czNjcmV0", True), ("Basic YWxpY2U6b3RoZXI=", False), ("Basic %", False)],
)
def test_a_browser_signs_in_with_the_token_as_its_password(header, accepted):
    session = type(new_session())("s3cret", "alice")

    assert session.accepts(None, header) is accepted
