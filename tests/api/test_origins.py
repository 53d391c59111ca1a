"""Tests of where requests go, and how: TLS, proxies. Over real sockets."""

import importlib.util
import io
import ssl
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from msgspec.structs import replace

from airflow_provider_clusterra.api import (
    Access,
    ApiRoute,
    Client,
    InputError,
    ProtocolError,
    TransportError,
    UploadGrant,
    calls,
)
from airflow_provider_clusterra.api.calls import find_download
from airflow_provider_clusterra.api.client import _find_proxy, tls_context
from tests.api.conftest import QUICK
from tests.support.wire import Wire, headers_of, http

USER = http(200, {"email": "me@example.org"})


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate of ``localhost`` that nobody else has signed: key and certificate in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "localhost.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


@pytest.fixture
def secured(certificate):
    """A server behind TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with Wire(USER, tls=context) as wire:
        yield wire.url.replace("http://127.0.0.1", "https://localhost")


def test_a_certificate_that_nobody_vouches_for_is_not_trusted(connect, secured):
    with pytest.raises(TransportError, match="CERTIFICATE_VERIFY_FAILED") as caught:
        connect(secured).get_user()

    assert not caught.value.may_have_arrived


def test_a_ca_file_vouches_for_it(connect, secured, certificate):
    assert connect(secured, verify=str(certificate)).get_user().email == "me@example.org"


def test_the_check_can_be_turned_off(connect, secured):
    assert connect(secured, verify=False).get_user().email == "me@example.org"


@pytest.fixture
def proxy(monkeypatch):
    """A proxy that the environment names; it answers itself."""
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    upload = {"upload_url": "http://s3.example.test/b/k?X-Amz-Signature=5ig", "key": "k"}
    with Wire(http(200, {"email": "me@example.org", **upload})) as wire:
        monkeypatch.setenv("HTTP_PROXY", wire.url)
        monkeypatch.setenv("http_proxy", wire.url)
        yield wire


def test_the_environments_proxy_leads_to_the_api(connect, proxy):
    assert connect("http://api.example.test").get_user().email == "me@example.org"
    assert proxy.requests[0].startswith(b"GET http://api.example.test/v1/users/me HTTP/1.1\r\n")


def test_the_environments_proxy_leads_to_the_storage_without_the_session(proxy):
    with Client(Access("http://api.example.test", "s3cret"), retry=QUICK) as client:
        client.upload_file("c1", "a", "data", 1, lambda: io.BytesIO(b"x"))
    granted, put = proxy.requests

    assert headers_of(granted)["cookie"] == "clusterra_session=s3cret"
    assert put.startswith(b"PUT http://s3.example.test/b/k?X-Amz-Signature=5ig HTTP/1.1\r\n")
    assert "cookie" not in headers_of(put)


@pytest.fixture
def environment(monkeypatch):
    """Sets the environment's proxy variables, and no others."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return lambda **variables: [monkeypatch.setenv(*each) for each in variables.items()]


@pytest.mark.parametrize(
    "no_proxy",
    [
        "localhost,[::1]",
        "::1,fd00::/8,api.example.test",
        "10.0.0.0/8, .example.test",
        "example.test",
        "*.example.test",
        "https://api.example.test:443",
        "api.example.test:443",
        "*",
    ],
)
def test_every_form_of_no_proxy_works(environment, no_proxy):
    environment(HTTPS_PROXY="http://127.0.0.1:9", NO_PROXY=no_proxy)
    direct = no_proxy != "localhost,[::1]"

    assert find_proxy("https://api.example.test") == (None if direct else "http://127.0.0.1:9")


@pytest.mark.parametrize(
    ("url", "no_proxy", "direct"),
    [
        ("https://10.1.2.3", "10.0.0.0/8", True),
        ("https://11.1.2.3", "10.0.0.0/8", False),
        ("https://[fd00::7]", "fd00::/8", True),
        ("https://[fd00::7]", "[fd00::7]", True),
        ("https://notexample.test", "example.test", False),
        ("https://127.0.0.1:8765", "", True),
        ("http://localhost", "", True),
    ],
)
def test_networks_and_loopback_are_reached_without_a_proxy(environment, url, no_proxy, direct):
    environment(ALL_PROXY="proxy.test:3128", NO_PROXY=no_proxy)

    assert find_proxy(url) == (None if direct else "http://proxy.test:3128")


def find_proxy(url):
    return _find_proxy(httpx.URL(url))[1]


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"HTTPS_PROXY": "ftp://proxy.test"}, "HTTPS_PROXY names a proxy"),
        ({"all_proxy": "http://proxy.test:port"}, "all_proxy names a proxy"),
        ({"ALL_PROXY": "socks4://proxy.test"}, "ALL_PROXY names a proxy"),
    ],
    ids=repr,
)
def test_a_proxy_that_cannot_be_used_is_named_by_its_variable(
    connect, environment, variables, words
):
    environment(**variables)
    with pytest.raises(InputError, match=words):
        connect("https://api.example.test")


def test_a_socks_proxy_works_or_says_what_it_needs(connect, environment):
    environment(ALL_PROXY="socks5://127.0.0.1:9")
    if importlib.util.find_spec("socksio"):
        connect("https://api.example.test")
    else:
        with pytest.raises(InputError, match=r"ALL_PROXY .*httpx\[socks\]"):
            connect("https://api.example.test")


def test_a_ca_file_of_the_environment_that_is_not_there_is_named(connect, monkeypatch):
    tls_context.cache_clear()
    monkeypatch.setenv("SSL_CERT_FILE", "/no/such/file.pem")
    with pytest.raises(InputError, match=r"SSL_CERT_FILE .*/no/such/file.pem"):
        connect("https://api.example.test")


def test_a_storage_on_loopback_is_reached_without_the_proxy(proxy):
    with Wire(http(200)) as storage:
        upload = {"upload_url": f"{storage.url}/b/k?X-Amz-Signature=5ig", "key": "k"}
        proxy.says(http(200, upload))
        with Client(Access("http://api.example.test", "s3cret"), retry=QUICK) as client:
            assert client.upload_file("c1", "a", "data", 1, lambda: io.BytesIO(b"x")) == "k"

        assert storage.requests[0].startswith(b"PUT /b/k?X-Amz-Signature=5ig HTTP/1.1\r\n")
    assert len(proxy.requests) == 1


@pytest.mark.parametrize(
    "url",
    ["", "no address", "ftp://s3.test/k", "http://me:pw@s3.test/k", "http://s3.test:x/k", "//s3/k"],
)
def test_an_upload_goes_to_no_odd_address(url):
    with (
        Wire(http(200, {"upload_url": url, "key": "k"})) as wire,
        Client(Access(wire.url, "s3cret"), retry=QUICK) as client,
        pytest.raises(ProtocolError, match="upload_url"),
    ):
        client.upload_file("c1", "a", "data", 1, lambda: io.BytesIO(b"x"))


def test_an_api_behind_tls_gets_no_file_sent_in_plain_text():
    grant = UploadGrant(upload_url="http://s3.example.test/k?X-Amz-Signature=5ig", key="k")

    grant.check("http://127.0.0.1:8765")
    with pytest.raises(ProtocolError, match="https://"):
        grant.check("https://api.example.test")


@pytest.mark.parametrize(
    "path",
    [
        "http://evil.test/v1/clusters/{cluster_id}/storage/download-url",
        "//evil.test/v1/{cluster_id}/storage/download",
    ],
)
def test_the_apis_routes_lead_to_no_other_origin(path):
    assert find_download([ApiRoute("POST", path)]) is None


def test_the_session_goes_to_the_apis_own_origin_only(connect):
    with Wire(USER) as ours, Wire(USER) as other:
        client = connect(ours.url)
        client.send(replace(calls.get_user(), request=f"GET {other.url}/v1/users/me"))

        assert "cookie" not in headers_of(other.requests[0])
        client.get_user()
        assert "cookie" in headers_of(ours.requests[0])


def test_a_certificate_error_names_the_extra_that_helps(connect, secured):
    with pytest.raises(TransportError, match=f"certificate of {secured}: .*extra verify"):
        connect(secured).get_user()


def test_a_refused_connection_names_the_address(connect):
    with pytest.raises(TransportError, match=r"can this machine reach http://127\.0\.0\.1:9\?"):
        connect("http://127.0.0.1:9").get_user()
