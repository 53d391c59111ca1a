"""Whose triggers wait: ours, and the peers' as their releases have them."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version

import msgspec
from airflow.triggers.base import BaseTrigger

from bench.figures import OURS

INTERVAL = 30.0
"""Seconds between two of the peers' looks. Defaults: Databricks 30, the others 60."""
OLD = 3600.0
FOR_DAYS = 7 * 86400.0
Maker = Callable[[int], BaseTrigger]


class System(msgspec.Struct, frozen=True):
    """One provider's way of waiting."""

    package: str
    prepare: Callable[[str], Maker]
    """Given the API's address, what makes the trigger of one job."""

    @property
    def is_installed(self) -> bool:
        """Whether this environment has it."""
        try:
            version(self.package)
        except PackageNotFoundError:
            return False
        return True


def _connect(name: str, **fields: object) -> None:
    os.environ[f"AIRFLOW_CONN_{name.upper()}"] = json.dumps(fields)


def _ours(url: str) -> Maker:
    from airflow_provider_clusterra.triggers.jobs import ClusterraJobTrigger

    _connect("clusterra_default", conn_type="clusterra", host=url, password="a-session")  # noqa: S106
    since = time.time() - OLD
    return lambda job_id: ClusterraJobTrigger(
        job_id=job_id,
        cluster_id="c1",
        clusterra_conn_id="clusterra_default",
        since=since,
    )


def _databricks(url: str) -> Maker:
    from airflow.providers.databricks.triggers.databricks import DatabricksExecutionTrigger

    host, _, port = url.removeprefix("http://").partition(":")
    _connect(
        "databricks_default",
        conn_type="databricks",
        host=host,
        port=int(port),
        schema="http",
        password="a-token",  # noqa: S106
    )
    return lambda job_id: DatabricksExecutionTrigger(
        job_id, "databricks_default", polling_period_seconds=int(INTERVAL)
    )


def _airbyte(url: str) -> Maker:
    from airflow.providers.airbyte.triggers.airbyte import AirbyteSyncTrigger

    _connect("airbyte_default", conn_type="airbyte", host=f"{url}/airbyte")
    end = time.time() + FOR_DAYS
    return lambda job_id: AirbyteSyncTrigger(job_id, "airbyte_default", end, INTERVAL)


def _dbt_cloud(url: str) -> Maker:
    from airflow.providers.dbt.cloud.hooks.dbt import DbtCloudHook
    from airflow.providers.dbt.cloud.triggers.dbt import DbtCloudRunJobTrigger

    def over_http(tenant: str, endpoint: str, *_: object) -> tuple[str, dict[str, object]]:
        return f"http://{tenant}/api/v2/accounts/{endpoint}", {}

    # it knows https only; without, each of its polls is spared a handshake
    DbtCloudHook.get_request_url_params = staticmethod(over_http)
    host = url.removeprefix("http://")
    _connect("dbt_cloud_default", conn_type="dbt_cloud", host=host, login="1", password="a-token")  # noqa: S106
    end = time.time() + FOR_DAYS
    return lambda job_id: DbtCloudRunJobTrigger("dbt_cloud_default", job_id, end, INTERVAL, 1)


SYSTEMS = {
    OURS: System("airflow-provider-clusterra", _ours),
    "databricks": System("apache-airflow-providers-databricks", _databricks),
    "dbt-cloud": System("apache-airflow-providers-dbt-cloud", _dbt_cloud),
    "airbyte": System("apache-airflow-providers-airbyte", _airbyte),
}
