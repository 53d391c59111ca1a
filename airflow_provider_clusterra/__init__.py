"""The Apache Airflow provider for Clusterra, managed Slurm behind an HTTP API."""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"
__all__ = ["CONNECTION_FORM", "__version__", "get_provider_info"]

TEXT = ["string", "null"]
CONNECTION_FORM: dict[str, Any] = {
    "ui-field-behaviour": {
        "hidden-fields": ["login", "schema", "extra"],
        "relabeling": {"host": "API address", "password": "Session"},
        "placeholders": {
            "host": "https://api-use1.clusterra.cloud",
            # apache/airflow#73298, fixed after 3.3.2
            "port": "the address's own, e.g. 443; Airflow 3.3's Test button fails without one",
            "password": "the clusterra_session cookie's value, or a bearer token",
        },
    },
    "conn-fields": {
        "cluster_id": {
            "label": "Cluster",
            "description": "The cluster's id, e.g. clusde74, for tasks that name none. May be left "
            "out if the account has exactly one cluster.",
            "schema": {"type": TEXT},
        },
        "auth": {
            "label": "Kind of session",
            "description": "cookie: the value of the browser's clusterra_session cookie. "
            "bearer: a token.",
            "schema": {"type": TEXT, "enum": ["cookie", "bearer"], "default": "cookie"},
        },
        "verify": {
            "label": "Check TLS certificates",
            "description": "true, false, or the path of a CA file, on every machine of this Airflow.",
            "schema": {"type": TEXT, "default": "true"},
        },
        "timeout": {
            "label": "Timeout",
            "description": "Seconds without a byte after which a request fails. "
            "A busy Slurm may take half a minute.",
            "schema": {"type": ["number", "null"], "minimum": 1, "default": 60},
        },
        "allow_http": {
            "label": "Allow plain http",
            "description": "Lets the session go unencrypted to another machine. "
            "This machine itself is always allowed.",
            "schema": {"type": ["boolean", "null"], "default": False},
        },
        "console_url": {
            "label": "Console",
            "description": "The address that a task's link to its job leads to. Empty: Clusterra's console, or the "
            "server's own page. {cluster_id} and {job_id} may stand in it.",
            "schema": {"type": TEXT},
        },
        "instance": {
            "label": "Name of this Airflow",
            "description": "Part of each job's name, so that two Airflows on one account do not take "
            "each other's jobs for their own. Empty: Airflow's [api] base_url.",
            "schema": {"type": TEXT},
        },
        "timezone": {
            "label": "The cluster's time zone",
            "description": "For times in words, such as a begin at 16:00. E.g. Europe/Berlin; "
            "empty: UTC.",
            "schema": {"type": TEXT},
        },
        "container_runtime": {
            "label": "Container runtime",
            "description": "What runs the jobs of tasks with a container: apptainer, singularity, "
            "pyxis, or Slurm's own oci; or the whole path of one of the first two. Empty: apptainer.",
            "schema": {"type": TEXT},
        },
    },
}
"""The connection's form: what is shown, and what it says. Airflow keeps these fields in ``extra``."""

CONFIG: dict[str, Any] = {
    "clusterra": {
        "description": "How tasks of Clusterra wait for their jobs.",
        "options": {
            "min_deferral": {
                "description": "For how many seconds after its deferral a task is not resumed. Before Airflow "
                "3.4, the scheduler can fail a task that is resumed sooner (apache/airflow#66374). "
                "Empty: 7, and 0 on Airflow 3.4 and newer.",
                "version_added": "0.1.0",
                "type": "float",
                "example": "7.5",
                "default": None,
            },
            "openlineage_inject_parent_job_info": {
                "description": "Whether jobs find OPENLINEAGE_PARENT_ID and OPENLINEAGE_ROOT_PARENT_ID, so "
                "that the lineage that they send themselves names their task. Needs "
                "apache-airflow-providers-openlineage.",
                "version_added": "0.1.0",
                "type": "boolean",
                "example": None,
                "default": "False",
            },
        },
    }
}
"""What is read from ``airflow.cfg``."""


def get_provider_info() -> dict[str, Any]:
    """What Airflow's provider manager shows and loads of this package.

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
                "how-to-guide": ["/docs/quickstart.md", "/docs/operators.md"],
                "logo": "/integration-logos/clusterra.svg",
                "tags": ["service"],
            }
        ],
        "config": CONFIG,
        "operators": [
            {
                "integration-name": integration,
                "python-modules": [
                    f"{package}.operators.jobs",
                    f"{package}.operators.cancel",
                    f"{package}.operators.storage",
                ],
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
        "task-decorators": [
            {"name": "clusterra", "class-name": f"{package}.decorators.jobs.clusterra_task"}
        ],
        "cli": [f"{package}.cli.get_clusterra_cli_commands"],
        "extra-links": [f"{package}.links.jobs.ClusterraJobLink"],
        "connection-types": [
            {
                "connection-type": "clusterra",
                "hook-class-name": f"{package}.hooks.clusterra.ClusterraHook",
                "hook-name": integration,
                **CONNECTION_FORM,
            }
        ],
    }
