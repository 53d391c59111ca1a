"""The fields of an Airflow connection, as an address, a session and what else it may say."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import msgspec

from airflow_provider_clusterra.api.access import DEFAULT_HOST, DEFAULT_TIMEOUT, Access, read_origin
from airflow_provider_clusterra.api.errors import InputError

CONSOLE = "https://console.clusterra.cloud"
JOB_PAGE = "/manage/{cluster_id}/jobs/{job_id}"


class ConnectionSettings(msgspec.Struct, frozen=True):
    """What a connection of type ``clusterra`` says."""

    access: Access
    cluster_id: str | None = None
    console_url: str | None = None
    """Where jobs are shown, as :meth:`job_url` reads it."""
    instance: str | None = None
    """A name for this Airflow, where others submit as the same user."""
    timezone: tzinfo = UTC
    """The cluster's, for times in words."""

    def job_url(self, cluster_id: str, job_id: int) -> str:
        """The page that shows a job to a person.

        :param cluster_id: the cluster, e.g. ``"clusde74"``.
        :param job_id: Slurm's number for the job, > 0.
        :returns: under :attr:`console_url`; otherwise in Clusterra's console, or for an API of
            somebody else's, such as ``clusterra-server``, its own page.
        """
        base = self.console_url or _console_of(self.access.origin)
        page = base if "{job_id}" in base else f"{base.rstrip('/')}{JOB_PAGE}"
        return page.replace("{cluster_id}", cluster_id).replace("{job_id}", str(job_id))


def read_connection(
    *, host: str | None, schema: str | None, port: int | None, password: str | None, extra: Any
) -> ConnectionSettings:
    """A connection's fields, checked.

    :param host: the API's address, or a bare name.
    :param schema: ``"http"`` or ``"https"``, where ``host`` is a bare name, as in a URI.
    :param port: where ``host`` has none; 0 is none.
    :param password: the ``clusterra_session`` cookie, or a bearer token.
    :param extra: a mapping with any of ``cluster_id``, ``auth``, ``verify``, ``timeout``,
        ``allow_http``, ``console_url``, ``instance``, ``timezone``.
    :raises InputError: a field cannot be right; the words name it.
    """
    if not isinstance(extra, Mapping):
        raise InputError(
            'The extra is not an object. Write it as JSON, e.g. {"cluster_id": "clusde74"}.'
        )
    if not (password or "").strip():
        raise InputError(
            "The password is empty. Sign in with the browser and put the clusterra_session "
            "cookie's value there."
        )
    auth = _text("auth", extra) or "cookie"
    if auth not in ("cookie", "bearer"):
        raise InputError(f"The extra auth is {auth!r}; it can be 'cookie' or 'bearer'.")
    access = Access(
        origin=read_origin(
            _address(host or "", schema or "", port),
            allow_http=_flag("allow_http", extra.get("allow_http"), default=False),
        ),
        secret=_secret((password or "").strip()),
        auth="bearer" if auth == "bearer" else "cookie",
        verify=_verify(extra.get("verify")),
        timeout=_seconds(extra.get("timeout")),
    )
    return ConnectionSettings(
        access,
        cluster_id=_text("cluster_id", extra),
        console_url=_page(_text("console_url", extra)),
        instance=_text("instance", extra),
        timezone=_timezone(_text("timezone", extra)),
    )


def _address(host: str, schema: str, port: int | None) -> str:
    text = host.strip() or DEFAULT_HOST
    if "://" not in text:
        is_ipv6 = text.count(":") > 1 and not text.startswith("[")
        text = f"{schema or 'https'}://{f'[{text}]' if is_ipv6 else text}"
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL:
        return text
    if port and url.port not in (None, port):
        raise InputError(f"The host {host!r} and the port {port} say two ports. Leave one out.")
    return str(url.copy_with(port=port)) if port else text


def _secret(password: str) -> str:
    secret = password.removeprefix("clusterra_session=").rstrip(";")
    if not secret.isascii() or not secret.isprintable() or " " in secret or ";" in secret:
        raise InputError(
            "The password holds characters that no session has. Copy only the value of the "
            "clusterra_session cookie."
        )
    return secret


def _text(name: str, extra: Mapping[str, Any]) -> str | None:
    value = extra.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise InputError(f"The extra {name} is {value!r}; it is a text.")
    return str(value).strip() or None


def _page(text: str | None) -> str | None:
    if text is None:
        return None
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL:
        url = httpx.URL()
    if url.scheme not in ("http", "https") or not url.host:
        raise InputError(f"The extra console_url is {text!r}; it is an address, e.g. {CONSOLE}.")
    return text


def _console_of(origin: str) -> str:
    return CONSOLE if httpx.URL(origin).host.endswith(".clusterra.cloud") else origin


def _timezone(text: str | None) -> tzinfo:
    if text is None:
        return UTC
    try:
        return ZoneInfo(text)
    except (OSError, ValueError, KeyError) as exc:
        raise InputError(
            f"The extra timezone is {text!r}; it is a name such as 'Europe/Berlin' or 'UTC'."
        ) from exc


def _flag(name: str, value: Any, *, default: bool) -> bool:
    if value is None or value == "":
        return default
    words = {"true": True, "1": True, "false": False, "0": False}
    found = words.get(str(value).lower())
    if found is None:
        raise InputError(f"The extra {name} is {value!r}; it can be true or false.")
    return found


def _verify(value: Any) -> bool | str:
    if isinstance(value, str) and value.lower() not in ("", "true", "false", "0", "1"):
        return value
    return _flag("verify", value, default=True)


def _seconds(value: Any) -> float:
    try:
        seconds = float(value) if value not in (None, "") else DEFAULT_TIMEOUT
    except (TypeError, ValueError):
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise InputError(f"The extra timeout is {value!r}; it is a number of seconds above 0.")
    return seconds
