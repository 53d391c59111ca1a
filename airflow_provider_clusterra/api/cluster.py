"""What there is besides jobs: the user, their clusters, a cluster's nodes, the API's own routes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from airflow_provider_clusterra.api.answers import Answer
from airflow_provider_clusterra.api.numbers import read_number


class User(msgspec.Struct, frozen=True):
    """Who is signed in."""

    email: str
    name: str = ""


class Cluster(msgspec.Struct, frozen=True):
    """One cluster that the user may use."""

    cluster_id: str
    name: str = ""
    state: str = ""
    connection_state: str = ""


class Node(msgspec.Struct, frozen=True):
    """One machine of a cluster."""

    name: str
    state: tuple[str, ...] = ()
    """A base state and flags, e.g. ``("IDLE", "DRAIN")``."""
    cpus: int = 0
    allocated_cpus: int = 0
    memory_mb: int = 0
    partitions: tuple[str, ...] = ()
    gres: str = ""
    """Its other resources, e.g. ``"gpu:a10g:1"``."""
    reason: str = ""
    """Why it is down or drained."""


class ApiRoute(msgspec.Struct, frozen=True):
    """One route that the API says it has."""

    method: str
    path: str
    """With places such as ``{cluster_id}`` and ``{job_id}``."""
    name: str = ""


def read_user(answer: Answer) -> User:
    """Who is signed in, from the answer or its ``user``.

    :param answer: a yes.
    """
    body = answer.object()
    inner = body.get("user")
    user = inner if isinstance(inner, dict) else body
    email = user.get("email") or user.get("user_email") or user.get("id") or "unknown user"
    return User(email=str(email), name=str(user.get("name") or ""))


def read_clusters(answer: Answer) -> list[Cluster]:
    """Clusters; a row without an id is none.

    :param answer: a yes, with ``clusters`` or a bare list.
    """
    found = []
    for row in answer.rows("clusters"):
        cluster_id = row.get("id") or row.get("cluster_id")
        if cluster_id:
            words = {key: str(row.get(key) or "") for key in ("name", "state", "connection_state")}
            found.append(Cluster(cluster_id=str(cluster_id), **words))
    return found


def read_nodes(answer: Answer) -> list[Node]:
    """Nodes; a row without a name is none.

    :param answer: a yes, with ``nodes`` or a bare list.
    """
    return [
        Node(
            name=str(row["name"]),
            state=tuple(word.upper() for word in _words(row.get("state"))),
            cpus=read_number(row.get("cpus")) or 0,
            allocated_cpus=read_number(row.get("alloc_cpus")) or 0,
            memory_mb=read_number(row.get("real_memory")) or 0,
            partitions=_words(row.get("partitions")),
            gres=str(row.get("gres") or ""),
            reason=str(row.get("reason") or ""),
        )
        for row in answer.rows("nodes")
        if row.get("name")
    ]


def read_stats(answer: Answer) -> dict[str, Any]:
    """The scheduler's diagnostics, as slurmrestd has them.

    :param answer: a yes, with ``statistics`` or the numbers themselves.
    """
    body = answer.object()
    inner = body.get("statistics")
    return inner if isinstance(inner, dict) else body


def read_text(answer: Answer) -> str:
    """Plain text.

    :param answer: a yes.
    """
    return answer.body.decode("utf-8", "replace")


def read_routes(answer: Answer) -> list[ApiRoute]:
    """The API's own routes; a row without a path is none.

    :param answer: a yes, with ``routes`` or a bare list.
    """
    return [
        ApiRoute(
            method=str(row.get("method") or "GET").upper(),
            path=str(row["path"]),
            name=str(row.get("name") or ""),
        )
        for row in answer.rows("routes")
        if row.get("path")
    ]


def find_download(routes: Sequence[ApiRoute]) -> str | None:
    """The route that gives addresses to read files from, or None where there is none.

    :param routes: the API's own.
    """
    for route in routes:
        place = route.path.partition("/storage/")[2]
        if route.method == "POST" and "download" in place and "{cluster_id}" in route.path:
            return route.path
    return None


def _words(value: Any) -> tuple[str, ...]:
    words = value.replace("+", ",").split(",") if isinstance(value, str) else value
    return tuple(str(word) for word in words) if isinstance(words, list) else ()
