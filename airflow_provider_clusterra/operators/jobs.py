"""Submitting jobs, and cancelling them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from airflow.providers.common.compat.sdk import Context

from airflow_provider_clusterra.api.client import Client
from airflow_provider_clusterra.api.specs import DEFAULT_DIRECTORY, JobSpec, hidden_outputs
from airflow_provider_clusterra.api.units import (
    read_count,
    read_memory_mb,
    read_time_limit_minutes,
)
from airflow_provider_clusterra.operators.again import Again
from airflow_provider_clusterra.operators.arrays import ArraySuccess, check_array_success
from airflow_provider_clusterra.operators.submit import SubmitOperator
from airflow_provider_clusterra.submit.growth import read_growth
from airflow_provider_clusterra.submit.request import Request


class ClusterraSubmitJobOperator(SubmitOperator):
    """Submit a batch script as a job, wait until it has ended, and return what became of it.

    :param script: the batch script's text, beginning with a shebang.
    :param name: the job's name; otherwise ``<dag_id>.<task_id>``.
    :param partition: Slurm's partition; otherwise the cluster's default.
    :param account: Slurm's account.
    :param qos: Slurm's quality of service.
    :param nodes: a count or a range, e.g. ``2`` or ``"2-4"``; otherwise one, or what ``tasks`` need.
    :param tasks: how many tasks (``sbatch --ntasks``).
    :param cpus_per_task: CPUs for each task.
    :param memory: memory per node: MB as a number, or e.g. ``"4G"``.
    :param time_limit: a timedelta, minutes, or e.g. ``"1-12:00:00"``.
    :param environment: variables of the job; nothing of the worker's own environment goes there.
    :param working_directory: a folder on the cluster.
    :param array_success: when an array has succeeded: with ``"all"`` of its tasks, with ``"any"``,
        with so many (an int), or with such a part of them (a float up to 1.0).
    :param retry_failed_indices: whether a retry runs only those of an array's indices again that have
        not succeeded; the result is that of all tries together. Needs Airflow 3.3.
    :param grow_on_retry: by what a retry multiplies what the job asked for, e.g.
        ``{"memory": 2.0, "time_limit": 1.5}``: memory after OUT_OF_MEMORY, in whatever form it was
        asked for, and time after TIMEOUT. Needs Airflow 3.3.
    :param max_memory: as far as memory grows, in the form of ``memory``: per node, CPU or GPU, as the
        job asks for it. A job that had as much is not submitted again.
    :param max_time_limit: as far as the time limit grows, in the form of ``time_limit``.

    All arguments of :class:`~airflow_provider_clusterra.operators.submit.SubmitOperator` as well.
    """

    IDENTITY = (
        "script",
        "name",
        "partition",
        "account",
        "qos",
        "nodes",
        "tasks",
        "cpus_per_task",
        "memory",
        "time_limit",
        "environment",
        "working_directory",
    )
    """What the author asks for: with another value it is another job."""
    template_fields: Sequence[str] = (*IDENTITY, *SubmitOperator.template_fields)
    template_fields_renderers = {"script": "bash", "environment": "json"}  # noqa: RUF012 - Airflow's form

    def __init__(  # noqa: PLR0913 - an operator's arguments are its form
        self,
        *,
        script: str,
        name: str | None = None,
        partition: str | None = None,
        account: str | None = None,
        qos: str | None = None,
        nodes: int | str | None = None,
        tasks: int | str | None = None,
        cpus_per_task: int | str | None = None,
        memory: int | str | None = None,
        time_limit: timedelta | float | str | None = None,
        environment: Mapping[str, str] | None = None,
        working_directory: str = DEFAULT_DIRECTORY,
        array_success: ArraySuccess = "all",
        retry_failed_indices: bool = False,
        grow_on_retry: Mapping[str, float] | None = None,
        max_memory: int | str | None = None,
        max_time_limit: timedelta | float | str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_array_success(array_success)
        self.array_success = array_success
        self.again = Again(
            retry_failed_indices, read_growth(grow_on_retry, max_memory, max_time_limit)
        )
        self.script = script
        self.name = name
        self.partition = partition
        self.account = account
        self.qos = qos
        self.nodes = nodes
        self.tasks = tasks
        self.cpus_per_task = cpus_per_task
        self.memory = memory
        self.time_limit = time_limit
        self.environment = environment
        self.working_directory = working_directory

    def build_request(self, context: Context, client: Client, cluster_id: str) -> Request:  # noqa: ARG002 - a raw script needs neither
        """See :meth:`SubmitOperator.build_request`."""
        spec = self._spec(context)
        body = spec.body()
        for words in hidden_outputs(body["job"]):
            self.log.warning(words)
        return Request(body, {name: getattr(self, name) for name in self.IDENTITY}, spec.name)

    def _spec(self, context: Context) -> JobSpec:
        ti = context["ti"]
        return JobSpec(
            script=self.script,
            name=self.name or f"{ti.dag_id}.{ti.task_id}",
            nodes=None if self.nodes is None else str(self.nodes),
            partition=self.partition,
            account=self.account,
            qos=self.qos,
            tasks=read_count("tasks", self.tasks),
            cpus_per_task=read_count("cpus_per_task", self.cpus_per_task),
            memory_mb=None if self.memory is None else read_memory_mb(self.memory),
            time_limit_minutes=(
                None if self.time_limit is None else read_time_limit_minutes(self.time_limit)
            ),
            environment={name: str(value) for name, value in (self.environment or {}).items()},
            working_directory=self.working_directory,
        )
