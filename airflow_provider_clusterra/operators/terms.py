"""How a user wants a submit to go, and whose it is."""

from __future__ import annotations

from typing import Any

import msgspec
from airflow.providers.common.compat.sdk import conf

from airflow_provider_clusterra.api.errors import InputError
from airflow_provider_clusterra.operators.arrays import ArraySuccess
from airflow_provider_clusterra.submit.tag import Tag, hash_body, hash_run, hash_task

ON_UNKNOWN = ("fail", "submit")


class Terms(msgspec.Struct, frozen=True):
    """How a user wants a submit to go. Times are in seconds."""

    tagged: bool = True
    """Whether the job's name says whose it is; without it nothing is adopted."""
    on_unknown: str = "fail"
    timeout: float = 600.0
    """For which a submit that did not arrive is sent again."""
    confirmation_timeout: float = 60.0
    """For which the job of a lost answer is looked for."""
    array_success: ArraySuccess = "all"
    """When an array of an earlier try has succeeded."""


def check_on_unknown(on_unknown: str) -> None:
    """Refuse what is no way of going on where nothing can tell.

    :param on_unknown: as an author wrote it.
    :raises InputError: it is not one of :data:`ON_UNKNOWN`.
    """
    if on_unknown not in ON_UNKNOWN:
        raise InputError(f"on_unknown is {on_unknown!r}; it can be 'fail' or 'submit'.")


def tag_of(ti: Any, instance: str | None, cluster_id: str, identity: Any) -> Tag:
    """The tag of one try of a task.

    :param ti: Airflow's task instance.
    :param instance: the connection's name for this Airflow; otherwise its own address tells it.
    :param cluster_id: the cluster, e.g. ``"clusde74"``.
    :param identity: what the author asks for.
    """
    return Tag(
        hash_run(deployment_of(instance), cluster_id, ti.dag_id, ti.run_id),
        hash_task(ti.task_id, -1 if ti.map_index is None else ti.map_index),
        hash_body(identity),
        ti.max_tries,
        ti.try_number,
    )


def deployment_of(instance: str | None) -> str:
    """What tells this Airflow from others on the same cluster.

    :param instance: the connection's name for it; otherwise its own address tells it.
    """
    return instance or str(conf.get("api", "base_url", fallback=""))
