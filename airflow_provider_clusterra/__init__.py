"""The Apache Airflow provider for Clusterra, managed Slurm behind an HTTP API."""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"
__all__ = ["__version__", "get_provider_info"]


def get_provider_info() -> dict[str, Any]:
    """What Airflow's provider manager shows and loads of this package.

    :returns: a dict in the form of Airflow's ``provider_info.schema.json`` and, for the
        connection's form, ``provider.yaml.schema.json``.
    :source: entry point ``apache_airflow_provider``.
    """
    package = "airflow_provider_clusterra"
    integration = "Clusterra"
    return {
        "package-name": "airflow-provider-clusterra",
        "name": integration,
        "description": "Clusterra: managed Slurm behind an HTTP API.",
        "versions": [__version__],
        "integrations": [
            {
                "integration-name": integration,
                "external-doc-url": "https://clusterra.cloud/docs/cli-reference.html",
                "tags": ["service"],
            }
        ],
        "operators": [
            {
                "integration-name": integration,
                "python-modules": [f"{package}.operators.jobs", f"{package}.operators.storage"],
            }
        ],
        "sensors": [
            {"integration-name": integration, "python-modules": [f"{package}.sensors.jobs"]}
        ],
        "hooks": [
            {"integration-name": integration, "python-modules": [f"{package}.hooks.clusterra"]}
        ],
        "triggers": [
            {"integration-name": integration, "python-modules": [f"{package}.triggers.jobs"]}
        ],
        "connection-types": [
            {
                "connection-type": "clusterra",
                "hook-class-name": f"{package}.hooks.clusterra.ClusterraHook",
                "hook-name": integration,
            }
        ],
    }
