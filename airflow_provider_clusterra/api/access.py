"""Where the API is and who asks: the address, the session, and what may be sent there."""

from __future__ import annotations

import base64
import binascii
import functools
import ipaddress
import ssl
from datetime import UTC, datetime
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, Literal

import httpx
import msgspec

from airflow_provider_clusterra.api.errors import InputError
from airflow_provider_clusterra.api.slurm import read_time

DEFAULT_HOST = "https://api-use1.clusterra.cloud"
DEFAULT_TIMEOUT = 60.0
"""Seconds. A busy slurmrestd was seen to answer after 33."""

Auth = Literal["cookie", "bearer"]


class Access(msgspec.Struct, frozen=True):
    """An address and a session. Two are equal when they reach the same API as the same user."""

    origin: str
    """Scheme, host and port, without a trailing slash, e.g. ``"https://api.example.org"``."""
    secret: str
    """The ``clusterra_session`` cookie's value, or a bearer token."""
    auth: Auth = "cookie"
    verify: bool | str = True
    """Whether TLS certificates are checked; a path names the CA file to check them with."""
    timeout: float = DEFAULT_TIMEOUT
    """Seconds without a byte after which an answer is given up."""

    def __repr__(self) -> str:
        return f"Access(origin={self.origin!r}, auth={self.auth!r})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """What a traceback shows: not the secret, either."""
        return [("origin", self.origin), ("auth", self.auth)]

    def headers(self) -> dict[str, str]:
        """What every request to :attr:`origin`, and to no other, carries."""
        if self.auth == "bearer":
            return {"Authorization": f"Bearer {self.secret}"}
        return {"Cookie": f"clusterra_session={self.secret}"}

    def session_end(self) -> datetime | None:
        """When the session ends, by its own word, or None where it does not say.

        :source: the ``exp`` claim of a JWT (RFC 7519, 4.1.4), read without verifying.
        """
        try:
            part = self.secret.split(".")[1]
            padded = part + "=" * (-len(part) % 4)
            claims = msgspec.json.decode(base64.urlsafe_b64decode(padded))
            return read_time(claims.get("exp"))
        except (IndexError, ValueError, AttributeError, binascii.Error, msgspec.MsgspecError):
            return None

    def session_has_ended(self) -> bool:
        """Whether the session says of itself that it is over."""
        end = self.session_end()
        return end is not None and end <= datetime.now(UTC)


def read_origin(host: str, *, allow_http: bool = False) -> str:
    """The API's origin, from what a person writes into a connection.

    :param host: ``"https://api.example.org"``, with or without the scheme, a port, a trailing
        slash, or ``/v1``; ``""`` is :data:`DEFAULT_HOST`.
    :param allow_http: whether plain http may be spoken to another machine.
    :returns: ``scheme://host[:port]``.
    :raises InputError: it is no address, or plain http to another machine.
    """
    text = host.strip() or DEFAULT_HOST
    try:
        url = httpx.URL(text if "://" in text else f"https://{text}")
        port = f":{url.port}" if url.port else ""
    except (httpx.InvalidURL, ValueError) as exc:
        raise InputError(f"The host {text!r} is not an address: {exc}.") from exc
    if url.scheme not in ("http", "https") or not url.host or (url.port or 0) > 65535:
        raise InputError(f"The host {text!r} is not an http address, e.g. {DEFAULT_HOST}.")
    if url.userinfo:
        raise InputError(
            "The host holds a user or a password. Put the session into the password field."
        )
    if url.path.strip("/") not in ("", "v1"):
        raise InputError(
            f"The host {text!r} has a path. Give only the address, e.g. {DEFAULT_HOST}."
        )
    if url.scheme == "http" and not (allow_http or is_loopback(url.host)):
        raise InputError(
            f"The host {text!r} is plain http, which would show the session to the network. "
            "Use https, or set the connection's extra allow_http to true."
        )
    name = f"[{url.host}]" if ":" in url.host else url.host
    return f"{url.scheme}://{name}{port}"


def is_loopback(host: str) -> bool:
    """Whether a host is this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


@functools.lru_cache(maxsize=8)
def tls_context(verify: bool | str) -> ssl.SSLContext:  # noqa: FBT001 - httpx's own word
    """The TLS settings, built once: reading the certificates takes up to 50 ms.

    :raises InputError: the CA file cannot be read.
    """
    if isinstance(verify, str):
        try:
            return ssl.create_default_context(cafile=verify)
        except OSError as exc:
            raise InputError(
                f"The connection's extra verify names a CA file that cannot be read: {verify} ({exc})."
            ) from exc
    return httpx.create_ssl_context(verify=verify)


CONNECT_TIMEOUT = 10.0


def api_settings(access: Access) -> dict[str, Any]:
    """For the API's own origin. Redirects are not followed: a session stays with its origin."""
    return {
        **bare_settings(access),
        "base_url": access.origin,
        # another machine's proxy would be given the session as plain text, and cannot reach us
        "trust_env": not is_loopback(httpx.URL(access.origin).host),
        # whoever asks for much at once says how much; nobody waits for a connection
        "limits": httpx.Limits(max_connections=None, max_keepalive_connections=20),
    }


def bare_settings(access: Access) -> dict[str, Any]:
    """For another origin, such as the storage's: nothing of the session."""
    return {
        "verify": tls_context(access.verify),
        "timeout": httpx.Timeout(access.timeout, connect=min(CONNECT_TIMEOUT, access.timeout)),
        "follow_redirects": False,
        # no answer's cookie goes out again
        "cookies": CookieJar(DefaultCookiePolicy(allowed_domains=[])),
    }


def patient(access: Access) -> httpx.Timeout:
    """For a stream, which may be silent for as long as a job is."""
    return httpx.Timeout(access.timeout, connect=min(CONNECT_TIMEOUT, access.timeout), read=None)
