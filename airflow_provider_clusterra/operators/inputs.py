"""``uploads=``: files that are found before a submit, uploaded right before its POST, and put where
the job finds them: as variables of a script, or as values of a template."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from airflow.providers.common.compat.sdk import Context

from airflow_provider_clusterra.api.client import Client
from airflow_provider_clusterra.api.cluster import find_download
from airflow_provider_clusterra.api.errors import InputError, NotFoundError
from airflow_provider_clusterra.operators.sources import Source, SourceFile, find_files
from airflow_provider_clusterra.submit.request import Request
from airflow_provider_clusterra.submit.tag import hash_task

log = logging.getLogger(__name__)
LOCATION = "data"


def upload_file(client: Client, cluster_id: str, file: SourceFile, location: str) -> str:
    """Put one file into the storage, and say so in the log.

    :param client: signed in.
    :param cluster_id: the cluster, e.g. ``"clusde74"``.
    :param file: as it was found.
    :param location: ``"data"``, ``"scripts"``, ``"outputs"`` or ``"shared"``.
    :returns: its key.
    """
    begin = time.monotonic()
    key = client.upload_file(cluster_id, file.name, location, file.size, file.open)
    took = max(time.monotonic() - begin, 1e-3)
    log.info(
        "Uploaded %s as %s: %s bytes in %.1f s (%.0f MiB/s)",
        file.shown,
        key,
        file.size,
        took,
        file.size / took / 1024**2,
    )
    return key


def find_inputs(uploads: Mapping[str, Source] | None, context: Context) -> dict[str, SourceFile]:
    """The file of each upload, under a name that no other task's upload has.

    Mapped tasks and runs upload files of one name, and must not read each other's; a retry puts its
    files in the place of its own earlier ones.

    :param uploads: a source each, by name.
    :param context: the task's.
    :raises InputError: one cannot be read, is over 5 GiB, or means several files.
    """
    found = {}
    for name, source in (uploads or {}).items():
        if not source:
            raise InputError(f"uploads: {name} is empty. Give a file's path.")
        try:
            files = find_files(source, None)
        except InputError as exc:
            raise InputError(f"uploads: {name}: {exc}") from exc
        if len(files) > 1:
            raise InputError(
                f"uploads: {name} means {len(files)} files. Give one, or use "
                "ClusterraUploadFileOperator, which uploads many."
            )
        (file,) = files
        found[name] = msgspec.structs.replace(file, name=f"{_scope(context, name)}-{file.name}")
    return found


def check_variables(uploads: Sequence[str], environment: Mapping[str, Any]) -> None:
    """Refuse names that cannot be variables, or that are used already.

    :param uploads: the names; each gives a variable NAME and a variable NAME_URL.
    :param environment: the job's other variables.
    :raises InputError: the words name it.
    """
    taken = set(environment)
    for name in uploads:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise InputError(f"uploads: {name!r} is not a variable's name, e.g. INPUT.")
        for variable in (name, f"{name}_URL"):
            if variable in taken:
                raise InputError(
                    f"uploads: the variable {variable} has a value already. Rename it."
                )
            taken.add(variable)


def download_route(client: Client) -> str:
    """The API's route for addresses to read files from.

    :param client: signed in.
    :raises InputError: it has none, so a script cannot read what is uploaded.
    :source: ``GET /v1/api-routes``
    """
    try:
        route = find_download(client.list_routes())
    except NotFoundError:
        route = None
    if route is None:
        raise InputError(
            "uploads: this API offers no addresses to read files from, so a script cannot get at "
            "what is uploaded. Use a template, which takes a file's key, or copy the file to the "
            "cluster's own file system."
        )
    return route


def upload_variables(
    client: Client, cluster_id: str, files: Mapping[str, SourceFile], route: str
) -> dict[str, str]:
    """Upload files for a script.

    :param client: signed in.
    :param cluster_id: the cluster, e.g. ``"clusde74"``.
    :param files: of :func:`find_inputs`.
    :param route: of :func:`download_route`.
    :returns: for each name the file's key, and as NAME_URL an address to read it from.
    """
    variables: dict[str, str] = {}
    for name, key in upload_keys(client, cluster_id, files).items():
        grant = client.presign_download(cluster_id, key, route)
        variables |= {name: key, f"{name}_URL": grant.download_url}
        if grant.expires_in:
            log.info(
                "$%s_URL is good for %.0f minutes; a job that starts later cannot read from it.",
                name,
                grant.expires_in / 60,
            )
    return variables


def upload_keys(client: Client, cluster_id: str, files: Mapping[str, SourceFile]) -> dict[str, str]:
    """Upload files.

    :param client: signed in.
    :param cluster_id: the cluster, e.g. ``"clusde74"``.
    :param files: of :func:`find_inputs`.
    :returns: each file's key, by its name.
    """
    return {name: upload_file(client, cluster_id, file, LOCATION) for name, file in files.items()}


def with_variables(request: Request, variables: Mapping[str, str]) -> Request:
    """A raw submit whose job, or each component of it, has more variables.

    :param request: with ``job`` or ``jobs`` in its body.
    :param variables: they win over those that are there.
    """
    body = dict(request.body)
    if "jobs" in body:
        body["jobs"] = [_add(job, variables) for job in body["jobs"]]
    else:
        body["job"] = _add(body["job"], variables)
    return msgspec.structs.replace(request, body=body)


def with_params(request: Request, params: Mapping[str, Any]) -> Request:
    """A submit of a template with other values.

    :param request: with ``params`` in its body.
    :param params: they win over those that are there.
    """
    body = {**request.body, "params": {**request.body["params"], **params}}
    return msgspec.structs.replace(request, body=body)


def _add(job: Mapping[str, Any], variables: Mapping[str, str]) -> dict[str, Any]:
    given = dict(each.split("=", 1) for each in job["environment"])
    merged = {**given, **variables}
    return {**job, "environment": [f"{name}={value}" for name, value in merged.items()]}


def _scope(context: Context, name: str) -> str:
    ti = context["ti"]
    index = -1 if ti.map_index is None else ti.map_index
    return hash_task(f"{ti.dag_id}\0{ti.run_id}\0{ti.task_id}\0{name}", index)
