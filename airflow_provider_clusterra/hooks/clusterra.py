"""An Airflow connection as a client of the API."""

from __future__ import annotations

# ruff: noqa: PLC0415 - whoever reads a DAG needs no HTTP client
import asyncio
import importlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, tzinfo
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit
from zoneinfo import ZoneInfo

import httpx
import msgspec
from airflow.configuration import AIRFLOW_HOME
from airflow.providers.common.compat.connection import get_async_connection
from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook, conf
from airflow.sdk.log import mask_secret

from airflow_provider_clusterra import CONNECTION_FORM
from airflow_provider_clusterra.api.errors import ClusterraError, InputError, NotFoundError, Retry
from airflow_provider_clusterra.api.jobs import read_flag
from airflow_provider_clusterra.compat import FORMS_ARE_METADATA

if TYPE_CHECKING:
    from airflow_provider_clusterra.api.client import Access, AsyncClient, Client

FIELDS = {"boolean": "BooleanField", "number": "IntegerField", "string": "StringField"}


def form_widgets() -> dict[str, Any]:
    """The form's own fields, by name, as WTForms has them.

    :raises ImportError: there is no WTForms, and Airflow puts nothing in its place.
    """
    wtforms = importlib.import_module("wtforms")
    choice = importlib.import_module("wtforms.validators").any_of
    widgets = {}
    for name, field in CONNECTION_FORM["conn-fields"].items():
        schema = field["schema"]
        widgets[name] = getattr(wtforms, FIELDS[schema["type"][0]])(
            label=field["label"],
            description=field["description"],
            default=schema.get("default"),
            validators=[choice(schema["enum"])] if "enum" in schema else [],
        )
    return widgets


def field_behaviour() -> dict[str, Any]:
    """What becomes of the fields that every connection has."""
    behaviour = CONNECTION_FORM["ui-field-behaviour"]
    return {name.replace("-", "_"): value for name, value in behaviour.items()}


CONSOLE = "https://console.clusterra.cloud"
JOB_PAGE = "/manage/{cluster_id}/jobs/{job_id}"


class ConnectionSettings(msgspec.Struct, frozen=True):
    """What a connection of type ``clusterra`` says."""

    access: Access
    cluster_id: str | None
    console_url: str | None
    """Where jobs are shown, as :meth:`job_url` reads it."""
    instance: str | None
    """A name for this Airflow, if others submit as the same user."""
    timezone: tzinfo
    """The cluster's, for times in words."""
    container_runtime: str
    """What starts a job's container."""

    @property
    def deployment(self) -> str:
        """What distinguishes this Airflow from others on the same cluster: that name, or where it runs."""
        return self.instance or _place_of_airflow()

    def job_url(self, cluster_id: str, job_id: int) -> str:
        """The page that shows a job to a person."""
        base = self.console_url or _console_of(self.access.origin)
        page = base if "{job_id}" in base else f"{base.rstrip('/')}{JOB_PAGE}"
        return page.replace("{cluster_id}", cluster_id).replace("{job_id}", str(job_id))


def read_connection(
    *, host: str | None, schema: str | None, port: int | None, password: str | None, extra: Any
) -> ConnectionSettings:
    """A connection's fields, checked.

    :raises InputError: a field cannot be right; the words name it.
    """
    from airflow_provider_clusterra.api.client import Access, read_origin

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
    address = _address(host or "", schema or "", port)
    allow_http = _flag("allow_http", extra.get("allow_http"), default=False)
    return ConnectionSettings(
        cluster_id=_text("cluster_id", extra),
        console_url=_page(_text("console_url", extra)),
        instance=_text("instance", extra),
        timezone=_timezone(_text("timezone", extra)),
        container_runtime=_runtime(_text("container_runtime", extra)),
        access=Access(
            secret=_secret((password or "").strip()),
            auth="bearer" if auth == "bearer" else "cookie",
            verify=_verify(extra.get("verify")),
            timeout=_timeout(extra.get("timeout")),
            origin=read_origin(address, allow_http=allow_http),
        ),
    )


@cache
def _place_of_airflow() -> str:
    """Airflow's own address; if that is this machine's, its home as well."""
    url = str(conf.get("api", "base_url", fallback=""))
    is_local = urlsplit(url).hostname in (None, "localhost", "127.0.0.1", "0.0.0.0", "::1")  # noqa: S104
    return f"{url} {AIRFLOW_HOME}" if is_local else url


def _address(host: str, schema: str, port: int | None) -> str:
    from airflow_provider_clusterra.api.client import DEFAULT_HOST

    text = host.strip() or DEFAULT_HOST
    if "://" not in text:
        is_ipv6 = text.count(":") > 1 and not text.startswith("[")
        text = f"{schema or 'https'}://{f'[{text}]' if is_ipv6 else text}"
    if not port:
        return text
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL:
        return text
    if url.port not in (None, port):
        raise InputError(
            f"The host {host!r} and the port {port} say two ports. Set Port to {url.port}, or leave "
            "it empty."
        )
    return str(url.copy_with(port=port))


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
    return CONSOLE if (urlsplit(origin).hostname or "").endswith(".clusterra.cloud") else origin


def _timezone(text: str | None) -> tzinfo:
    if text is None:
        return UTC
    try:
        return ZoneInfo(text)
    except (OSError, ValueError, KeyError) as exc:
        raise InputError(
            f"The extra timezone is {text!r}; it is a name such as 'Europe/Berlin' or 'UTC'."
        ) from exc


def _runtime(text: str | None) -> str:
    if text is None:
        return "apptainer"
    # the language of sbatch is loaded by whoever submits
    from airflow_provider_clusterra.sbatch.job import RUNTIMES, is_runtime

    if not is_runtime(text):
        raise InputError(
            f"The extra container_runtime is {text!r}; it can be {', '.join(RUNTIMES)}, "
            "or the whole path of apptainer or singularity on the cluster."
        )
    return text


def _flag(name: str, value: Any, *, default: bool) -> bool:
    if value is None or value == "":
        return default
    found = read_flag(value)
    if found is None:
        raise InputError(f"The extra {name} is {value!r}; it can be true or false.")
    return found


def _verify(value: Any) -> bool | str:
    if isinstance(value, str) and value.strip() and read_flag(value) is None:
        return value
    return _flag("verify", value, default=True)


def _timeout(value: Any) -> float:
    from airflow_provider_clusterra.api.client import DEFAULT_TIMEOUT

    try:
        seconds = float(value) if value not in (None, "") else DEFAULT_TIMEOUT
    except (TypeError, ValueError):
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise InputError(f"The extra timeout is {value!r}; it is a number of seconds above 0.")
    return seconds


class Connected(msgspec.Struct, frozen=True):
    """A connection that was read once: what it says, a client for it, and the cluster to work with."""

    settings: ConnectionSettings
    client: Client
    cluster_id: str

    def find_output_folder(self) -> str:
        """The folder below which the API shows outputs; ``""`` if it does not say."""
        clusters = self.client.list_clusters()
        folders = {each.cluster_id: each.output_folder for each in clusters}
        return folders.get(self.cluster_id, "")


class ClusterraHook(BaseHook):
    """Reads a connection of type ``clusterra`` when it is asked to, and not before.

    :param clusterra_conn_id: the connection's id.
    :param cluster_id: the cluster; otherwise the connection's, otherwise the account's only one.

    Whatever reads the connection raises InputError if a field of it cannot be right, and names the field.
    """

    conn_name_attr = "clusterra_conn_id"
    default_conn_name = "clusterra_default"
    conn_type = "clusterra"
    hook_name = "Clusterra"

    if not FORMS_ARE_METADATA:
        get_connection_form_widgets = staticmethod(form_widgets)
        get_ui_field_behaviour = staticmethod(field_behaviour)

    def __init__(
        self, clusterra_conn_id: str = default_conn_name, cluster_id: str | None = None
    ) -> None:
        super().__init__()
        self.clusterra_conn_id = clusterra_conn_id
        self.cluster_id = cluster_id
        self._session = ""
        """As it was read last."""

    @property
    def is_in_the_environment(self) -> bool:
        """Whether the connection is an environment variable's, and so cannot change meanwhile.

        A secrets backend, which Airflow asks first, may have another one of the same name.
        """
        text = os.environ.get(f"AIRFLOW_CONN_{self.clusterra_conn_id.upper()}", "")
        return bool(text) and any(self._session in form for form in (text, unquote(text)))

    def settings(self) -> ConnectionSettings:
        """All that the connection says."""
        return self._settings(self.get_connection(self.clusterra_conn_id))

    def access(self) -> Access:
        """The API's address and the session."""
        return self.settings().access

    async def async_access(self) -> Access:
        """As :meth:`access`, in an event loop."""
        try:
            connection = await get_async_connection(self.clusterra_conn_id)
        except AirflowNotFoundException:
            from asgiref.sync import sync_to_async

            # `airflow dags test` and its like reach Airflow's database by the sync way only
            connection = await sync_to_async(self.get_connection)(self.clusterra_conn_id)
        return self._settings(connection).access

    def client(self) -> Client:
        """A client; the caller closes it."""
        from airflow_provider_clusterra.api.client import Client

        return Client(self.access())

    async def async_client(self, retry: Retry | None = None) -> AsyncClient:
        """A client for the running event loop, built in a thread; the caller closes it.

        :param retry: how patient it is; otherwise as a client is.
        """
        from airflow_provider_clusterra.api.client import AsyncClient

        access = await self.async_access()
        return await asyncio.to_thread(AsyncClient, access, retry=retry)

    @contextmanager
    def connect(self) -> Iterator[Connected]:
        """The connection, read once, with a client, and the cluster to work with.

        :raises InputError: the connection cannot be right, or names no cluster of the account.
        :source: the Airflow connection ``clusterra_conn_id``.
        """
        from airflow_provider_clusterra.api.client import Client

        settings = self.settings()
        with Client(settings.access) as client:
            cluster_id = self.cluster_id or settings.cluster_id or self._only_cluster(client)
            try:
                yield Connected(settings, client, cluster_id)
            except NotFoundError as error:
                raise self.explain(client, cluster_id, error) from error

    def get_conn(self) -> Client:
        """As :meth:`client`, under the name that Airflow's hooks share."""
        return self.client()

    def find_cluster(self, client: Client) -> str:
        """The cluster to work with.

        :param client: of this hook's connection.
        :returns: this hook's cluster id, the connection's, or the id of the only one there is.
        :raises InputError: there are several to choose from, or none.
        :source: ``GET /v1/clusters``, if neither says it.
        """
        return self.cluster_id or self.settings().cluster_id or self._only_cluster(client)

    def _only_cluster(self, client: Client) -> str:
        clusters = client.list_clusters()
        if len(clusters) == 1:
            return clusters[0].cluster_id
        if not clusters:
            raise InputError(f"{self._label}: the session's user has no cluster.")
        names = ", ".join(cluster.cluster_id for cluster in clusters)
        raise InputError(
            f"{self._label}: there are several clusters ({names}). Say which one with cluster_id, "
            "on the task or in the connection's extra."
        )

    def explain(self, client: Client, cluster_id: str, error: NotFoundError) -> ClusterraError:
        """A 404 in better words if the API does not know the cluster.

        :param client: of this hook's connection.
        :param cluster_id: the cluster that was asked.
        :param error: the 404.
        :returns: an :class:`InputError` that names the user's clusters, or the error itself.
        :source: ``GET /v1/clusters``.
        """
        try:
            names = [cluster.cluster_id for cluster in client.list_clusters()]
        except ClusterraError:
            return error
        if cluster_id in names:
            return error
        return InputError(
            f"{self._label}: there is no cluster {cluster_id!r}. The session's clusters: "
            f"{', '.join(names) or 'none'}."
        )

    def test_connection(self) -> tuple[bool, str]:
        """Who is signed in, which clusters they can use, and when the session ends.

        :returns: whether it works, and the answer in words: what Airflow's Test button shows.
        :source: ``GET /v1/users/me``, ``GET /v1/clusters``, the session's ``exp``.
        """
        from airflow_provider_clusterra.api.client import Client

        try:
            connection = self.get_connection(self.clusterra_conn_id)
            # the reader sees which connection it is; Airflow's button gives it a made-up id
            settings = _read(connection)
            with Client(settings.access) as client:
                user = client.get_user()
                clusters = client.list_clusters()
                end = client.access.session_end()
        except ClusterraError as exc:
            return False, str(exc)
        names = [cluster.cluster_id for cluster in clusters]
        listed = ", ".join(names) or "none"
        if settings.cluster_id and settings.cluster_id not in names:
            return False, (
                f"Signed in as {user.email}, but there is no cluster {settings.cluster_id!r}. "
                f"Clusters: {listed}."
            )
        until = (
            f"The session ends {end:%Y-%m-%d %H:%M} UTC."
            if end
            else "The session's end is not known."
        )
        return True, f"Signed in as {user.email}. Clusters: {listed}. {until}"

    @property
    def _label(self) -> str:
        return f"Connection {self.clusterra_conn_id}"

    def _settings(self, connection: Any) -> ConnectionSettings:
        try:
            settings = _read(connection)
        except InputError as exc:
            raise InputError(f"{self._label}: {exc}") from exc
        self._session = settings.access.secret
        return settings


def _read(connection: Any) -> ConnectionSettings:
    settings = read_connection(
        host=connection.host,
        schema=connection.schema,
        port=connection.port,
        password=connection.password,
        extra=connection.extra_dejson,
    )
    mask_secret(settings.access.secret)
    return settings
