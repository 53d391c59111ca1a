"""What OpenLineage gets to know of a task's job. Only its provider asks, so nothing of it is imported before."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from airflow.providers.common.compat.sdk import conf

# ruff: noqa: PLC0415 - see above
log = logging.getLogger(__name__)


class ReportsLineage:
    """The methods that OpenLineage's provider calls, in the process that ran the task."""

    _known_of_job: Mapping[str, Any] = {}
    """What is known of the job, in the words of its result; with ``cluster_id`` and ``error``. A task that
    only moves files has ``inputs`` and ``outputs``."""

    def get_openlineage_facets_on_start(self) -> Any:
        """What is read: the script, and the files that are uploaded."""
        return _lineage(self, self._known_of_job)

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:  # noqa: ARG002 - Airflow's form
        """The same, with the job, what it used, and the files that it made, or with the error."""
        return _lineage(self, self._known_of_job)

    get_openlineage_facets_on_failure = get_openlineage_facets_on_complete

    @contextmanager
    def lineage_of(self, cluster_id: str, job_id: int) -> Iterator[dict[str, Any]]:
        """Remember what became of a job: what is put into the dict, or its error."""
        self._known_of_job = known_of_job = {"cluster_id": cluster_id, "job_id": job_id}
        try:
            yield known_of_job
        except Exception as error:
            from airflow_provider_clusterra.task.result import job_result

            job = getattr(error, "job", None)
            known_of_job |= {**(job_result(job) if job else {}), "error": str(error)}
            raise


@cache
def is_parent_wanted() -> bool:
    """Whether the site wants lineage of the jobs themselves to name their tasks; Airflow's own
    providers look once as well."""
    return bool(conf.getboolean("clusterra", "openlineage_inject_parent_job_info", fallback=False))


def parent_variables(task_instance: Any) -> dict[str, str]:
    """The variables by which lineage of the job itself names this task, if the site wants them."""
    if not is_parent_wanted():
        return {}
    try:
        from airflow.providers.openlineage.plugins import macros

        return {
            "OPENLINEAGE_PARENT_ID": macros.lineage_parent_id(task_instance),
            "OPENLINEAGE_ROOT_PARENT_ID": macros.lineage_root_parent_id(task_instance),
        }
    except Exception as error:  # noqa: BLE001 - lineage is never the reason to fail
        log.warning("The job does not get its OpenLineage parent: %r", error)
        return {}


def _lineage(task: Any, known_of_job: Mapping[str, Any]) -> Any:
    from airflow.providers.openlineage.extractors import OperatorLineage

    uploads = getattr(task, "uploads", None)
    sources = uploads.values() if isinstance(uploads, Mapping) else ()
    return OperatorLineage(
        inputs=[_dataset(source) for source in known_of_job.get("inputs", sources)],
        outputs=list(_outputs(known_of_job)),
        run_facets=_run_facets(known_of_job),
        job_facets=_source_code(task),
    )


def _source_code(task: Any) -> dict[str, Any]:
    from airflow.providers.openlineage.conf import is_source_enabled
    from openlineage.client.generated.source_code_job import SourceCodeJobFacet

    # of a function its own text, not what carries it
    code = getattr(task, "source" if hasattr(task, "python_callable") else "script", None)
    if not (isinstance(code, str) and code and is_source_enabled()):
        return {}
    shebang = code.partition("\n")[0] if code.startswith("#!") else "#!python"
    words = shebang.removeprefix("#!").split()
    language = Path(next((word for word in words[::-1] if word[0] != "-"), "sh")).name
    return {"sourceCode": SourceCodeJobFacet(language.rstrip("0123456789."), code)}


def _run_facets(known_of_job: Mapping[str, Any]) -> dict[str, Any]:
    from openlineage.client.generated.error_message_run import ErrorMessageRunFacet

    if "job_id" not in known_of_job:
        return {}
    known = {name: known_of_job.get(key) for name, key in FIELDS.items()}
    facets = {"clusterra_job": facet_class()(**known)}
    if "error" in known_of_job:
        facets["errorMessage"] = ErrorMessageRunFacet(known_of_job["error"], "python")
    return facets


FIELDS = {
    "clusterId": "cluster_id",
    "jobId": "job_id",
    "name": "name",
    "state": "state",
    "exitCode": "exit_code",
    "signal": "signal",
    "reason": "reason",
    "nodes": "nodes",
    "usage": "usage",
}
"""The facet's fields, by what the result calls them."""


@cache
def facet_class() -> Any:
    """The run facet ``clusterra_job``."""
    import attrs
    from openlineage.client.generated.base import RunFacet

    fields = {name: attrs.field(default=None) for name in FIELDS}
    return attrs.make_class("ClusterraJobRunFacet", fields, bases=(RunFacet,))


def _outputs(known_of_job: Mapping[str, Any]) -> Iterator[Any]:
    """The files that the job made: where they were copied to, or in the job's own folder."""
    from openlineage.client.generated.base import OutputDataset
    from openlineage.client.generated.output_statistics_output_dataset import (
        OutputStatisticsOutputDatasetFacet as Statistics,
    )

    for output in known_of_job.get("outputs", {}).values():
        for row in output.get("files", [output]):
            facets: Any = (
                {"outputStatistics": Statistics(size=row["size"])} if "size" in row else {}
            )
            place = _dataset(row.get("target") or place_on_cluster(known_of_job, row["path"]))
            yield OutputDataset(place.namespace, place.name, outputFacets=facets)


def _dataset(place: Any) -> Any:
    """A file by OpenLineage's rules for names.

    :source: https://openlineage.io/docs/spec/naming
    """
    from openlineage.client.generated.base import InputDataset

    # names may hold "?" and "#", which a parser of URLs would cut off
    scheme, is_uri, rest = str(place).partition("://")
    if not is_uri or scheme == "file":
        path = rest if is_uri else scheme
        return InputDataset("file", os.path.abspath(path))  # noqa: PTH100 - it need not be there
    bucket, _, key = rest.partition("/")
    # an ObjectStoragePath has the connection's id before the bucket
    return InputDataset(f"{scheme}://{bucket.rpartition('@')[2]}", key.lstrip("/"))


def place_on_cluster(known: Mapping[str, Any], path: str) -> str:
    """A key of the cluster's storage, or a file of a job, whose path is absolute."""
    job_id = known["job_id"] if path.startswith("/") else ""
    return f"clusterra://{known.get('cluster_id')}/{job_id}{path}"
