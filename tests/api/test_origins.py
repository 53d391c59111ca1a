"""Tests of where requests go, and how: TLS, proxies. Over real sockets."""

import io
import ssl
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from airflow_provider_clusterra.api import Access, Client, TransportError
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
