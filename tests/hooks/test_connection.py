"""Tests of airflow_provider_clusterra.hooks.clusterra."""

from datetime import UTC

import pytest

from airflow_provider_clusterra.api.errors import InputError
from airflow_provider_clusterra.hooks.clusterra import read_connection

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
        ({"host": "http://127.0.0.1", "port": 8765}, "http://127.0.0.1:8765"),
        ({"host": "http://127.0.0.1:8765/", "port": 8765}, "http://127.0.0.1:8765"),
        ({"host": "", "port": 443}, "https://api-use1.clusterra.cloud"),
        ({"host": "https://api.example.org", "port": 0}, "https://api.example.org"),
        ({"host": "api.example.org"}, "https://api.example.org"),
        ({"host": "api.example.org:8443"}, "https://api.example.org:8443"),
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


def test_what_is_not_said_has_its_default():
    settings = read(extra={"cluster_id": None, "console_url": "", "instance": " ", "timezone": ""})

    assert settings == read()
    assert (settings.console_url, settings.instance, settings.timezone) == (None, None, UTC)


def test_this_airflow_and_the_clusters_time_may_be_named():
    settings = read(extra={"instance": "prod-eu", "timezone": "Europe/Berlin"})

    assert settings.instance == "prod-eu"
    assert str(settings.timezone) == "Europe/Berlin"


@pytest.mark.parametrize(
    ("fields", "url"),
    [
        ({}, "https://console.clusterra.cloud/manage/c1/jobs/7"),
        ({"host": "http://127.0.0.1:8765"}, "http://127.0.0.1:8765/manage/c1/jobs/7"),
        ({"host": "slurm.example.org"}, "https://slurm.example.org/manage/c1/jobs/7"),
        (
            {"extra": {"console_url": "https://c.example.org/"}},
            "https://c.example.org/manage/c1/jobs/7",
        ),
        (
            {"extra": {"console_url": "https://c.example.org/ours/{cluster_id}?job={job_id}"}},
            "https://c.example.org/ours/c1?job=7",
        ),
    ],
    ids=["clusterra", "local", "own", "console", "page"],
)
def test_a_job_is_shown_in_the_console_or_by_the_server_itself(fields, url):
    assert read(**fields).job_url("c1", 7) == url


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
        ({"host": "http://127.0.0.1:1", "port": 2}, "say two ports. Set Port to 1,"),
        ({"extra": {"auth": "basic"}}, "auth is 'basic'.*'cookie' or 'bearer'"),
        ({"extra": {"timeout": "soon"}}, "timeout is 'soon'"),
        ({"extra": {"timeout": 0}}, "timeout is 0"),
        ({"extra": {"allow_http": "maybe"}}, "allow_http is 'maybe'"),
        ({"extra": {"cluster_id": ["c1"]}}, r"cluster_id is \['c1'\]; it is a text"),
        ({"extra": {"instance": True}}, "instance is True; it is a text"),
        ({"extra": {"console_url": "console"}}, "console_url is 'console'; it is an address"),
        ({"extra": {"console_url": "http://[::"}}, "console_url is 'http://.*; it is an address"),
        ({"extra": {"timezone": "Mars/Base"}}, "timezone is 'Mars/Base'; it is a name such as"),
        ({"extra": {"timezone": "../etc"}}, "timezone is '../etc'"),
        (
            {"extra": {"container_runtime": "docker"}},
            "container_runtime is 'docker'; it can be apptainer, singularity, pyxis, oci, or",
        ),
        ({"extra": []}, "extra is not an object"),
    ],
)
def test_a_field_that_cannot_be_right_is_named(fields, words):
    with pytest.raises(InputError, match=words) as caught:
        read(**fields)

    assert "s3cret" not in str(caught.value)
    assert "\n" not in str(caught.value)
