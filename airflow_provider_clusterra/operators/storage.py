"""Uploading files to a cluster's storage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow.providers.common.compat.sdk import BaseOperator, Context

from airflow_provider_clusterra.hooks.clusterra import ClusterraHook
from airflow_provider_clusterra.task.inputs import Source, find_files, is_many, upload_all
from airflow_provider_clusterra.task.report import airflow_errors


class ClusterraUploadFileOperator(BaseOperator):
    """Upload files of the worker, or of an object storage, for jobs to read.

    :param source: a path, a glob, an ``ObjectStoragePath`` or its URI, or a list of these.
    :param location: ``"data"``, ``"scripts"``, ``"outputs"``, or ``"shared"`` (administrators).
    :param filename: another name for a single file; otherwise its own.
    :param clusterra_conn_id: the connection's id.
    :param cluster_id: the cluster; otherwise the connection's.
    """

    template_fields: Sequence[str] = (
        "source",
        "location",
        "filename",
        "clusterra_conn_id",
        "cluster_id",
    )
    ui_color = "#dbe9f6"

    def __init__(
        self,
        *,
        source: Source | Sequence[Source],
        location: str = "data",
        filename: str | None = None,
        clusterra_conn_id: str = ClusterraHook.default_conn_name,
        cluster_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.source = source
        self.location = location
        self.filename = filename
        self.clusterra_conn_id = clusterra_conn_id
        self.cluster_id = cluster_id

    def execute(self, context: Context) -> str | list[str]:  # noqa: ARG002 - Airflow's form
        """Upload, some files at a time, in constant memory.

        :returns: the key, or for a list or a glob the list of keys, ready for job parameters.
        :raises AirflowFailException: what no retry can heal, e.g. a missing file; nothing was
            uploaded then.
        """
        with airflow_errors(self.clusterra_conn_id):
            files = find_files(self.source, self.filename)
            hook = ClusterraHook(self.clusterra_conn_id, self.cluster_id)
            with hook.connect() as connected:
                keys = upload_all(connected.client, connected.cluster_id, files, self.location)
        return keys if is_many(self.source) else keys[0]
