"""Uploading files to a cluster's storage, and downloading them and those of jobs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from airflow.providers.common.compat.sdk import AssetAlias, BaseOperator, Context

from airflow_provider_clusterra.api.client import Client
from airflow_provider_clusterra.api.errors import InputError
from airflow_provider_clusterra.hooks.clusterra import ClusterraHook
from airflow_provider_clusterra.task import arguments as given
from airflow_provider_clusterra.task.fetching import (
    LARGEST_SHOWN,
    Copies,
    Found,
    add_events,
    check_events,
    download_found,
    find_files_of,
    is_pattern,
    stored,
    warn_of_overwriting,
)
from airflow_provider_clusterra.task.inputs import Source, find_files, is_many, upload_all
from airflow_provider_clusterra.task.lineage import ReportsLineage, place_on_cluster
from airflow_provider_clusterra.task.report import airflow_errors
from airflow_provider_clusterra.task.transfers import check_target, is_folder, read_target


class ClusterraUploadFileOperator(ReportsLineage, BaseOperator):
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
        moved = zip(keys, files, strict=True)
        self._known_of_job = {
            "cluster_id": connected.cluster_id,
            "inputs": [file.shown for file in files],
            "outputs": {key: {"path": key, "size": file.size} for key, file in moved},
        }
        return keys if is_many(self.source) else keys[0]


class ClusterraDownloadFileOperator(ReportsLineage, BaseOperator):
    """Download files that a job has written, or that are in the cluster's storage.

    Each arrives at its target whole, or not at all; after a break the rest is asked for.

    :param target: where to: an ``ObjectStoragePath``, its URI, or a path of the worker; for several files
        a folder.
    :param key: a file's key in the storage, e.g. of an upload, or a list of keys.
    :param job_id: Slurm's number for the job whose files they are, or its task's result; instead of a
        key.
    :param path: the file in the job's working directory, a glob such as ``"out/**/*.pt"``, or a folder
        with a ``/`` at its end.
    :param clusterra_conn_id: the connection's id.
    :param cluster_id: the cluster; otherwise the connection's.
    """

    READERS: ClassVar[dict[str, given.Reader]] = {"job_id": given.optional(given.job_id)}
    template_fields: Sequence[str] = (
        *("target", "key", "path", "clusterra_conn_id", "cluster_id"),
        *READERS,
    )
    ui_color = "#dbe9f6"

    def __init__(
        self,
        *,
        target: Any,
        key: str | Sequence[str] | None = None,
        job_id: int | str | Mapping[str, Any] | None = None,
        path: str | None = None,
        clusterra_conn_id: str = ClusterraHook.default_conn_name,
        cluster_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if (key is None) is (job_id is None) or (job_id is None) is not (path is None):
            raise given.ArgumentError("Give key, or job_id and path.")
        self.target = target
        self.key = key
        self.job_id: Any = job_id
        self.path = path
        self.clusterra_conn_id = clusterra_conn_id
        self.cluster_id = cluster_id
        given.check_plain(self, self.READERS)

    def execute(self, context: Context) -> dict[str, Any]:
        """Download, some files at a time, in constant memory.

        :returns: ``{"path", "size", "checksum", "target"}``; for a list or a pattern ``{"count",
            "size", "files"}``, whose ``files`` are the first 100 of these in at most 16 KiB.
        :raises AirflowFailException: what no retry can heal, e.g. a missing file.
        :raises JobResultError: the same, of a job's file; the words name what is there.
        """
        with airflow_errors(self.clusterra_conn_id):
            given.read_all(self, self.READERS)
            check_target(self.target, is_many=self._is_many)
            if not (self._is_many or is_folder(self.target)):
                warn_of_overwriting(self, {str(self.target)})
            hook = ClusterraHook(self.clusterra_conn_id, self.cluster_id)
            with hook.connect() as connected:
                found = self._find(connected.client, connected.cluster_id)
                check_events("path" if self.path else "key", self.outlets, found)
                copies = download_found(connected.client, [(found, self.target)])
            rows = found.rows(copies)
        whose = {"cluster_id": connected.cluster_id, "job_id": self.job_id}
        self._known_of_job = {
            "inputs": [place_on_cluster(whose, row["path"]) for row in rows],
            "outputs": {row["target"]: row for row in rows},
        }
        facts = {"job_id": self.job_id} if self.job_id else {}
        for asset, meant in self._meant_by_outlets(found, copies):
            add_events(context, connected.cluster_id, asset, meant, copies, facts)
        return found.described(copies, LARGEST_SHOWN)

    def _meant_by_outlets(self, found: Found, copies: Copies) -> Iterator[tuple[Any, Found]]:
        """The outlets that are reported: each alias, and the assets of the target or of a file in it."""
        places = {copies[each].target: Found([each], is_many=False) for each in found.sources}
        places[str(read_target(self.target))] = found
        by_uri = {given.uri_of(place): meant for place, meant in places.items()}
        for asset in self.outlets:
            if isinstance(asset, AssetAlias):
                yield asset, found
            elif meant := by_uri.get(given.uri_of(getattr(asset, "uri", ""))):
                yield asset, meant

    @property
    def _is_many(self) -> bool:
        if self.path is not None:
            return is_pattern(self.path)
        return not isinstance(given.from_text(self.key), str)

    def _find(self, client: Client, cluster_id: str) -> Found:
        if self.path is not None:
            return find_files_of(client, cluster_id, self.job_id, self.path, "path")
        keys = given.from_text(self.key)
        if not keys:
            raise InputError("There is nothing to download: key is empty.")
        many = keys if self._is_many else [keys]
        return Found([stored(client, cluster_id, key) for key in many], self._is_many)
