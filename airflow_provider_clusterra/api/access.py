"""Where the API is and who asks: the address, the session, and what may be sent there."""

from __future__ import annotations

import base64
import binascii
import functools
import ipaddress
import os
import ssl
from collections.abc import Callable, Generator
from datetime import datetime
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, Literal, TypeVar

import httpx
import msgspec

from airflow_provider_clusterra.api.errors import InputError
from airflow_provider_clusterra.api.jobs import read_time

DEFAULT_HOST = "https://api-use1.clusterra.cloud"
DEFAULT_TIMEOUT = 60.0
"""Seconds. A busy slurmrestd was seen to answer after 33."""

Auth = Literal["cookie", "bearer"]
C = TypeVar("C")


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

    def hide_session(self, words: bytes) -> bytes:
        """An answer's words without the session: an API may repeat what it was sent.

        :param words: as they arrived.
        """
        secret = self.secret.encode()
        return words.replace(secret, b"***") if len(secret) >= SHORTEST_SECRET else words

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


def read_origin(host: str, *, allow_http: bool = False) -> str:
    """The API's origin, from what a person writes into a connection.

    :param host: ``"https://api.example.org"``, with or without the scheme, a port, a trailing
        slash, or ``/v1``; ``""`` is :data:`DEFAULT_HOST`.
    :param allow_http: whether plain http may be spoken to another machine.
    :returns: ``scheme://host[:port]``.
    :raises InputError: it is no address, or plain http to another machine.
    """
    text = host.strip() or DEFAULT_HOST
    url = _parse(text)
    redo = "Use https, or set the connection's extra allow_http to true."
    is_http = url.scheme in ("http", "https") and bool(url.host) and (url.port or 0) <= 65535
    plain = url.scheme == "http" and not (allow_http or is_loopback(url.host))
    for wrong, words in (
        (not is_http, f"The host {text!r} is not an http address, e.g. {DEFAULT_HOST}."),
        (
            bool(url.userinfo),
            "The host holds a user or a password. Put the session into the password field.",
        ),
        (
            url.path.strip("/") not in ("", "v1"),
            f"The host {text!r} has a path. Give only the address, e.g. {DEFAULT_HOST}.",
        ),
        (
            plain,
            f"The host {text!r} is plain http, which would show the session to the network. {redo}",
        ),
    ):
        if wrong:
            raise InputError(words)
    return origin_of(url)


def _parse(text: str) -> httpx.URL:
    try:
        return httpx.URL(text if "://" in text else f"https://{text}")
    except (httpx.InvalidURL, ValueError) as exc:
        raise InputError(f"The host {text!r} is not an address: {exc}.") from exc


def origin_of(url: httpx.URL) -> str:
    """``scheme://host[:port]``."""
    name = f"[{url.host}]" if ":" in url.host else url.host
    return f"{url.scheme}://{name}" + (f":{url.port}" if url.port else "")


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
    named = "The connection's extra verify names"
    try:
        if isinstance(verify, str):
            return ssl.create_default_context(cafile=verify)
        named = "The environment variable SSL_CERT_FILE or SSL_CERT_DIR names"
        return httpx.create_ssl_context(verify=verify)
    except OSError as exc:
        where = verify if isinstance(verify, str) else os.environ.get("SSL_CERT_FILE", "")
        raise InputError(f"{named} a CA file that cannot be read: {where} ({exc}).") from exc


CONNECT_TIMEOUT = 10.0
SHORTEST_SECRET = 6
"""Letters; a shorter one would be found in words that have nothing to do with it."""
WHOLE = 5
"""Times the timeout: what an answer may take in all, however steadily it drips."""
WHOLE_OUTPUT = 30
"""The same for a job's output, which is a file of any size."""


class SessionAuth(httpx.Auth):
    """The session on requests to the API's own origin, and to no other. It shows itself nowhere."""

    def __init__(self, access: Access) -> None:
        self.access = access
        """Another one of the same API may take its place: a session is renewed."""
        self._origin = origin_of(httpx.URL(access.origin))

    def __repr__(self) -> str:
        return "SessionAuth(***)"

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """httpx's hook: called once a request."""
        if origin_of(request.url) == self._origin:
            request.headers.update(self.access.headers())
        yield request


def build(kind: Callable[..., C], access: Access, url: str, **settings: Any) -> C:
    """An httpx client for one origin, with the environment's proxy if one leads there.

    Redirects are not followed: a session stays with its origin.

    :raises InputError: a CA file or a proxy of the environment cannot be used.
    """
    variable, proxy = _find_proxy(httpx.URL(url))
    try:
        return kind(
            verify=tls_context(access.verify),
            timeout=httpx.Timeout(access.timeout, connect=min(CONNECT_TIMEOUT, access.timeout)),
            # no answer's cookie goes out again
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            trust_env=False,
            proxy=proxy,
            **settings,
        )
    except (ImportError, ValueError, httpx.InvalidURL) as exc:
        hint = ": pip install 'httpx[socks]'" if isinstance(exc, ImportError) else f" ({exc})"
        raise InputError(
            f"The environment variable {variable} names a proxy that cannot be used{hint}."
        ) from exc


def build_for_api(kind: Callable[..., C], session: SessionAuth) -> C:
    """An httpx client for the API's own origin."""
    access = session.access
    return build(
        kind,
        access,
        access.origin,
        base_url=access.origin,
        auth=session,
        # whoever asks for much at once says how much; nobody waits for a connection
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=20),
    )


def _find_proxy(url: httpx.URL) -> tuple[str, str | None]:
    """The environment's proxy for an address, and the variable that names it.

    A proxy of another machine would be given loopback's session, and cannot reach us.

    :source: the variables as curl and urllib read them; httpx itself refuses some forms of NO_PROXY.
    """
    for name in (f"{url.scheme}_proxy", "all_proxy"):
        for variable in (name, name.upper()):
            proxy = os.environ.get(variable, "").strip()
            if proxy and not is_loopback(url.host) and not _is_direct(url.host):
                return variable, proxy if "://" in proxy else f"http://{proxy}"
    return "", None


def _is_direct(host: str) -> bool:
    """Whether ``NO_PROXY`` names a host: itself, a domain of it, its network, or ``*``."""
    listed = os.environ.get("no_proxy") or os.environ.get("NO_PROXY", "")
    entries = [entry.strip().lower() for entry in listed.split(",")]
    return any(entry and _names(entry, host) for entry in entries)


def _names(entry: str, host: str) -> bool:
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(entry.strip("[]"), strict=False)
    except ValueError:
        domain = entry.partition("://")[2] or entry
        domain = domain.rpartition(":")[0] if domain.rpartition(":")[2].isdecimal() else domain
        domain = domain.strip("[]").lstrip("*").lstrip(".")
        return entry == "*" or (domain != "" and f".{host}".endswith(f".{domain}"))


def patient(access: Access) -> httpx.Timeout:
    """For a stream, which may be silent for as long as a job is."""
    return httpx.Timeout(access.timeout, connect=min(CONNECT_TIMEOUT, access.timeout), read=None)
