"""An Airflow connection as a client of the API."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from airflow.providers.common.compat.connection import get_async_connection
from airflow.providers.common.compat.sdk import BaseHook
from airflow.sdk.log import mask_secret

from airflow_provider_clusterra.api.access import Access
from airflow_provider_clusterra.api.async_client import AsyncClient
from airflow_provider_clusterra.api.client import Client
from airflow_provider_clusterra.api.errors import ClusterraError, InputError, NotFoundError
from airflow_provider_clusterra.api.retry import Retry
from airflow_provider_clusterra.compat import FORMS_ARE_METADATA
from airflow_provider_clusterra.hooks.connection import ConnectionSettings, read_connection
from airflow_provider_clusterra.hooks.form import field_behaviour, form_widgets


class ClusterraHook(BaseHook):
    """Reads a connection of type ``clusterra`` when it is asked to, and not before.

    :param clusterra_conn_id: the connection's id.
    :param cluster_id: the cluster; otherwise the connection's, otherwise the account's only one.
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

    @property
    def is_in_the_environment(self) -> bool:
        """Whether the connection is an environment variable's, and so cannot change meanwhile."""
        return f"AIRFLOW_CONN_{self.clusterra_conn_id.upper()}" in os.environ

    def settings(self) -> ConnectionSettings:
        """All that the connection says.

        :raises InputError: the connection cannot be right; the words name the field.
        :source: the Airflow connection ``clusterra_conn_id``.
        """
        return self._settings(self.get_connection(self.clusterra_conn_id))

    def access(self) -> Access:
        """The API's address and the session.

        :raises InputError: the connection cannot be right; the words name the field.
        :source: the Airflow connection ``clusterra_conn_id``.
        """
        return self.settings().access

    async def async_access(self) -> Access:
        """As :meth:`access`, in an event loop.

        :raises InputError: the connection cannot be right; the words name the field.
        :source: the Airflow connection ``clusterra_conn_id``.
        """
        return self._settings(await get_async_connection(self.clusterra_conn_id)).access

    def client(self) -> Client:
        """A client; the caller closes it.

        :raises InputError: the connection cannot be right; the words name the field.
        :source: the Airflow connection ``clusterra_conn_id``.
        """
        return Client(self.access())

    async def async_client(self, retry: Retry | None = None) -> AsyncClient:
        """A client for the running event loop, built in a thread; the caller closes it.

        :param retry: how patient it is; otherwise as a client is.
        :raises InputError: the connection cannot be right; the words name the field.
        :source: the Airflow connection ``clusterra_conn_id``.
        """
        access = await self.async_access()
        return await asyncio.to_thread(AsyncClient, access, retry=retry)

    def get_conn(self) -> Client:
        """As :meth:`client`: the name that Airflow's hooks share.

        :raises InputError: the connection cannot be right; the words name the field.
        :source: the Airflow connection ``clusterra_conn_id``.
        """
        return self.client()

    def find_cluster(self, client: Client) -> str:
        """The cluster to work with.

        :param client: of this hook's connection.
        :returns: this hook's cluster id, the connection's, or the id of the only one there is.
        :raises InputError: there are several to choose from, or none.
        :source: ``GET /v1/clusters``, where neither says it.
        """
        named = self.cluster_id or self.settings().cluster_id
        if named:
            return named
        clusters = client.list_clusters()
        if len(clusters) == 1:
            return clusters[0].cluster_id
        if not clusters:
            raise InputError(f"{self._place}: the session's user has no cluster.")
        names = ", ".join(cluster.cluster_id for cluster in clusters)
        raise InputError(
            f"{self._place}: there are several clusters ({names}). Say which one with cluster_id, "
            "on the task or in the connection's extra."
        )

    def explain(self, client: Client, cluster_id: str, error: NotFoundError) -> ClusterraError:
        """A 404 in better words, where it is the cluster that the API does not know.

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
            f"{self._place}: there is no cluster {cluster_id!r}. The session's clusters: "
            f"{', '.join(names) or 'none'}."
        )

    def test_connection(self) -> tuple[bool, str]:
        """Who is signed in, which clusters they can use, and when the session ends.

        :returns: whether it works, and the answer in words: what Airflow's Test button shows.
        :source: ``GET /v1/users/me``, ``GET /v1/clusters``, the session's ``exp``.
        """
        try:
            connection = self.get_connection(self.clusterra_conn_id)
            # the reader sees which connection it is; Airflow's button gives it a made-up id
            with Client(_read(connection).access) as client:
                user = client.get_user()
                clusters = client.list_clusters()
                end = client.access.session_end()
        except ClusterraError as exc:
            return False, str(exc)
        names = ", ".join(cluster.cluster_id for cluster in clusters) or "none"
        until = (
            f"The session ends {end:%Y-%m-%d %H:%M} UTC."
            if end
            else "The session's end is not known."
        )
        return True, f"Signed in as {user.email}. Clusters: {names}. {until}"

    @property
    def _place(self) -> str:
        return f"Connection {self.clusterra_conn_id}"

    def _settings(self, connection: Any) -> ConnectionSettings:
        try:
            return _read(connection)
        except InputError as exc:
            raise InputError(f"{self._place}: {exc}") from exc


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
