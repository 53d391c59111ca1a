"""The API's address, and the session that requests to it carry."""

from __future__ import annotations

import base64
import binascii
import ipaddress
from datetime import datetime
from typing import Any, Literal

import httpx
import msgspec

from airflow_provider_clusterra.api.errors import InputError
from airflow_provider_clusterra.api.jobs import read_time

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
    """Seconds without a byte after which an answer is given up; as a whole it may take five times as
    long (an output thirty times), but for headers that drip to a :class:`Client`: those end with the
    task's own timeout."""

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
        """When the session ends, by its own word, or None if it does not say.

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
