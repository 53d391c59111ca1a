"""Tests of airflow_provider_clusterra.api.client."""

import base64
import json
from datetime import UTC, datetime

import pytest

from airflow_provider_clusterra.api.client import Access, read_origin, tls_context
from airflow_provider_clusterra.api.errors import InputError


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("", "https://api-use1.clusterra.cloud"),
        ("api.example.org", "https://api.example.org"),
        ("https://api.example.org/", "https://api.example.org"),
        ("https://api.example.org/v1", "https://api.example.org"),
        ("https://api.example.org/v1/", "https://api.example.org"),
        ("https://api.example.org:8443", "https://api.example.org:8443"),
        ("http://127.0.0.1:8765", "http://127.0.0.1:8765"),
        ("http://localhost:8765/v1", "http://localhost:8765"),
        ("http://[::1]:8765", "http://[::1]:8765"),
    ],
)
def test_an_address_is_read_as_people_write_it(host, origin):
    assert read_origin(host) == origin


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ("http://api.example.org", "plain http.*allow_http"),
        ("http://127.0.0.1.example.org", "plain http"),
        ("ftp://api.example.org", "not an http address"),
        ("https://", "not an"),
        ("https://api.example.org/manage/x", "has a path"),
        ("https://me:secret@api.example.org", "a user or a password"),
        ("https://api.example.org:99999999", "not an http address"),
    ],
)
def test_an_address_that_cannot_be_right_is_refused_in_words(host, words):
    with pytest.raises(InputError, match=words):
        read_origin(host)


def test_plain_http_to_another_machine_needs_a_word():
    assert read_origin("http://10.0.0.7", allow_http=True) == "http://10.0.0.7"


def test_the_session_goes_as_a_cookie_or_as_a_bearer_token():
    assert Access("https://a", "s3cret").headers() == {"Cookie": "clusterra_session=s3cret"}
    assert Access("https://a", "s3cret", auth="bearer").headers() == {
        "Authorization": "Bearer s3cret"
    }


def test_the_session_is_not_shown():
    access = Access("https://a", "s3cret")

    assert "s3cret" not in repr(access)
    assert "s3cret" not in repr(access.__rich_repr__())


def jwt(claims):
    part = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    return f"eyJhbGciOiJIUzI1NiJ9.{part}.c2lnbmF0dXJl"


def test_a_session_says_itself_when_it_ends():
    access = Access("https://a", jwt({"exp": 1779901559, "email": "me@example.org"}))

    assert access.session_end() == datetime(2026, 5, 27, 17, 5, 59, tzinfo=UTC)


@pytest.mark.parametrize(
    "secret", ["opaque", "a.b.c", "", "..", jwt({}), jwt([1]), jwt({"exp": "x"})]
)
def test_a_session_that_does_not_say_when_it_ends_is_fine(secret):
    assert Access("https://a", secret).session_end() is None


def test_a_ca_file_that_is_not_there_is_named():
    with pytest.raises(InputError, match="CA file that cannot be read: /no/such/file"):
        tls_context("/no/such/file")
