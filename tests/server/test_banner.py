"""Tests of clusterra_server.banner: what a journal may hold."""

from pathlib import Path

import pytest

from clusterra_server.banner import tell
from clusterra_server.options import read_options
from clusterra_server.session import Session
from clusterra_server.sign_in import Account

GIVEN = Session("s3cret", "alice", "CLUSTERRA_SERVER_TOKEN")


@pytest.fixture
def said(capsys, monkeypatch):
    """What the server of a session says."""
    monkeypatch.setenv("CLUSTERRA_SERVER_TOKEN", "s3cret")

    def say(session, *arguments):
        tell(read_options(arguments), 8765, Path("/files"), [Account(session, None)])
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
