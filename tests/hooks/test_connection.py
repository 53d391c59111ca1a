"""Tests of airflow_provider_clusterra.hooks.connection."""

import pytest

from airflow_provider_clusterra.api.errors import InputError
from airflow_provider_clusterra.hooks.connection import read_connection

FIELDS = {"host": None, "schema": None, "port": None, "password": "s3cret", "extra": {}}


def read(**fields):
    return read_connection(**{**FIELDS, **fields})


def test_a_password_is_all_it_takes():
    settings = read()

    assert settings.access.origin == "https://api-use1.clusterra.cloud"
    assert settings.access.headers() == {"Cookie": "clusterra_session=s3cret"}
    assert settings.cluster_id is None


@pytest.mark.parametrize(
    ("fields", "origin"),
    [
        ({"host": "http://127.0.0.1:8765"}, "http://127.0.0.1:8765"),
        ({"host": "127.0.0.1", "port": 8765, "schema": "http"}, "http://127.0.0.1:8765"),
        ({"host": "api.example.org"}, "https://api.example.org"),
        ({"host": "api.example.org", "port": 8443}, "https://api.example.org:8443"),
        ({"host": "::1", "port": 8765, "schema": "http"}, "http://[::1]:8765"),
    ],
)
def test_the_address_may_be_in_one_field_or_in_a_uris_parts(fields, origin):
    assert read(**fields).access.origin == origin


def test_the_extras_are_read():
    settings = read(
        extra={"cluster_id": " clusde74 ", "auth": "bearer", "verify": "false", "timeout": "5"}
    )

    assert settings.cluster_id == "clusde74"
    assert settings.access.auth == "bearer"
    assert settings.access.verify is False
    assert settings.access.timeout == 5.0


def test_a_ca_file_may_be_named():
    assert read(extra={"verify": "/etc/ssl/ours.pem"}).access.verify == "/etc/ssl/ours.pem"


def test_a_cookie_pasted_with_its_name_is_forgiven():
    assert read(password=" clusterra_session=s3cret; ").access.secret == "s3cret"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"password": None}, "password is empty.*clusterra_session"),
        ({"password": "  "}, "password is empty"),
        ({"password": "a b"}, "characters that no session has"),
        ({"password": "a\nb"}, "characters that no session has"),
        ({"host": "http://10.0.0.7"}, "allow_http"),
        ({"extra": {"auth": "basic"}}, "auth is 'basic'.*'cookie' or 'bearer'"),
        ({"extra": {"timeout": "soon"}}, "timeout is 'soon'"),
        ({"extra": {"timeout": 0}}, "timeout is 0"),
        ({"extra": {"allow_http": "maybe"}}, "allow_http is 'maybe'"),
        ({"extra": []}, "extra is not an object"),
    ],
)
def test_a_field_that_cannot_be_right_is_named(fields, words):
    with pytest.raises(InputError, match=words) as caught:
        read(**fields)

    assert "s3cret" not in str(caught.value)
