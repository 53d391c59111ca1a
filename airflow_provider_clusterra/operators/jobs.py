"""Submitting jobs: a batch script, or a template of the catalogue."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import jinja2
from airflow.providers.common.compat.sdk import Context, context_to_airflow_vars

from airflow_provider_clusterra.api.arguments import AskedJob, read_arguments
from airflow_provider_clusterra.api.client import Client
from airflow_provider_clusterra.api.errors import ApiError
from airflow_provider_clusterra.api.specs import hidden_outputs
from airflow_provider_clusterra.hooks.clusterra import ClusterraHook
from airflow_provider_clusterra.operators.again import Again
from airflow_provider_clusterra.operators.arrays import ArraySuccess, check_array_success
from airflow_provider_clusterra.operators.dependencies import (
    DEPENDENCY_PROBLEM,
    without_forgotten,
)
from airflow_provider_clusterra.operators.failures import airflow_errors
from airflow_provider_clusterra.operators.inputs import (
    check_variables,
    download_route,
    find_inputs,
    upload_keys,
    upload_variables,
    with_params,
    with_variables,
)
from airflow_provider_clusterra.operators.scripts import render_script, tidy_script
from airflow_provider_clusterra.operators.sources import Source, SourceFile
from airflow_provider_clusterra.operators.submit import SubmitOperator
from airflow_provider_clusterra.operators.templates import (
    check_template,
    find_template,
    job_name_of,
)
from airflow_provider_clusterra.submit.growth import read_growth
from airflow_provider_clusterra.submit.request import Request

JOB_ARGUMENTS = (
    *("name", "partition", "account", "qos", "nodes", "tasks", "cpus_per_task", "memory"),
    *("memory_per_cpu", "time_limit", "gpus", "constraint", "exclusive", "licenses", "array"),
    *("dependency", "requeue", "signal", "working_directory"),
)
"""Arguments that are options of ``sbatch``."""


class ClusterraSubmitJobOperator(SubmitOperator):
    """Submit a batch script as a job, wait until it has ended, and return what became of it.

    ``#SBATCH`` lines of the script count, as they would for ``sbatch``; an argument wins over
    ``job``, and both win over a line.

    :param script: the batch script's text, beginning with a shebang; or the name of a file that ends
        in ``.sh``, ``.sbatch`` or ``.slurm``, beside the DAG or in its ``template_searchpath``.
    :param render_script: whether Jinja in the script is rendered. ``${#array[@]}`` is the shell's.
    :param name: the job's name; otherwise ``<dag_id>.<task_id>``.
    :param partition: Slurm's partition; otherwise the cluster's default.
    :param account: Slurm's account.
    :param qos: Slurm's quality of service.
    :param nodes: a count or a range, e.g. ``2`` or ``"2-4"``; otherwise one, or what ``tasks`` need.
    :param tasks: how many tasks (``sbatch --ntasks``).
    :param cpus_per_task: CPUs for each task.
    :param memory: memory per node: MB as a number, or e.g. ``"4G"``; 0 is all that a node has.
    :param memory_per_cpu: memory for each CPU instead, in the same forms.
    :param time_limit: a timedelta, minutes, or e.g. ``"1-12:00:00"``; 0 or ``"UNLIMITED"`` is none.
    :param gpus: how many for the job, perhaps of a type: ``2`` or ``"a10g:1"``.
    :param constraint: features that the nodes must have, e.g. ``"spot"``.
    :param exclusive: whether no other job may run on the nodes; or ``"user"``, ``"mcs"``, ``"topo"``.
    :param licenses: e.g. ``"matlab:2"``.
    :param array: indices, e.g. ``"0-99%10"``: at most ten of them at once.
    :param dependency: what must happen before, e.g. ``"afterok:12:13"``.
    :param requeue: whether Slurm may run the job again by itself after its node has failed.
    :param signal: a signal before the time limit, e.g. ``"B:USR1@120"``.
    :param environment: variables of the job; nothing of the worker's own environment goes there.
        Airflow shows them as rendered fields: give secrets by name.
    :param login_environment: whether HOME, USER and the user's own PATH are there.
    :param working_directory: a folder on the cluster; otherwise ``/mnt/efs``.
    :param job: any other field of slurmrestd v0.0.44, e.g. ``{"nice": 100}``.
    :param uploads: files of the worker by the names of variables: ``{"INPUT": "data/md.tpr"}``
        uploads the file, and gives the job its key as ``INPUT`` and an address as ``INPUT_URL``.
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

    IDENTITY = ("script", *JOB_ARGUMENTS, "environment", "login_environment", "job", "uploads")
    """What the author asks for: with another value it is another job."""
    template_fields: Sequence[str] = (*IDENTITY, *SubmitOperator.template_fields)
    template_fields_renderers = {  # noqa: RUF012 - Airflow's form
        "script": "bash",
        "environment": "json",
        "job": "json",
    }

    def __init__(  # noqa: PLR0913 - an operator's arguments are its form
        self,
        *,
        script: str,
        render_script: bool = True,
        name: str | None = None,
        partition: str | None = None,
        account: str | None = None,
        qos: str | None = None,
        nodes: int | str | None = None,
        tasks: int | str | None = None,
        cpus_per_task: int | str | None = None,
        memory: int | str | None = None,
        memory_per_cpu: int | str | None = None,
        time_limit: timedelta | float | str | None = None,
        gpus: int | str | None = None,
        constraint: str | None = None,
        exclusive: bool | str | None = None,
        licenses: str | None = None,
        array: str | None = None,
        dependency: str | None = None,
        requeue: bool | None = None,
        signal: str | None = None,
        environment: Mapping[str, Any] | None = None,
        login_environment: bool = False,
        working_directory: str | None = None,
        job: Mapping[str, Any] | None = None,
        uploads: Mapping[str, Source] | None = None,
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
        self.render_script = render_script
        self.name = name
        self.partition = partition
        self.account = account
        self.qos = qos
        self.nodes = nodes
        self.tasks = tasks
        self.cpus_per_task = cpus_per_task
        self.memory = memory
        self.memory_per_cpu = memory_per_cpu
        self.time_limit = time_limit
        self.gpus = gpus
        self.constraint = constraint
        self.exclusive = exclusive
        self.licenses = licenses
        self.array = array
        self.dependency = dependency
        self.requeue = requeue
        self.signal = signal
        self.environment = environment
        self.login_environment = login_environment
        self.working_directory = working_directory
        self.job = job
        self.uploads = uploads
        self._inputs: dict[str, SourceFile] = {}
        self._download_route = ""

    def _do_render_template_fields(
        self,
        parent: Any,
        template_fields: Iterable[str],
        context: Context,
        jinja_env: jinja2.Environment,
        seen_oids: set[int],
    ) -> None:
        """Render the fields as Airflow does, and the script as a shell's script.

        Airflow calls this of mapped tasks, too, and has it overridden for such ends. What another task
        returned stays as it is.
        """
        ours = parent is self and isinstance(self.script, str) and id(self.script) not in seen_oids
        fields = [name for name in template_fields if not (ours and name == "script")]
        super()._do_render_template_fields(parent, fields, context, jinja_env, seen_oids)
        if ours and "script" in template_fields:
            self.script = self._render_script(context)

    def _render_script(self, context: Context) -> str:
        dag = self.get_dag()
        env = dag.get_template_env(force_sandboxed=True) if dag else self.get_template_env()
        with airflow_errors(self.clusterra_conn_id):
            tidy = render_script(self.script, env, context, jinja=self.render_script)
        for words in tidy.warnings:
            self.log.warning(words)
        return tidy.text

    def build_request(self, context: Context, client: Client, cluster_id: str) -> Request:  # noqa: ARG002 - a script's is any cluster's
        """See :meth:`SubmitOperator.build_request`."""
        asked = self._asked()
        ti = context["ti"]
        variables = context_to_airflow_vars(context, in_env_var_format=True)
        if self.login_environment:
            variables["SLURM_GET_USER_ENV"] = "1"
        body = asked.body(f"{ti.dag_id}.{ti.task_id}", variables)
        jobs = body.get("jobs") or [body["job"]]
        for words in (*asked.conflicts, *(each for job in jobs for each in hidden_outputs(job))):
            self.log.warning(words)
        self._inputs = find_inputs(self.uploads, context)
        if self._inputs:
            check_variables([*self._inputs], self.environment or {})
            self._download_route = download_route(client)
        identity = {name: getattr(self, name) for name in self.IDENTITY}
        given = {name: value for name, value in identity.items() if value is not None}
        return Request(body, given, jobs[0]["name"], asked.array)

    def upload_inputs(self, client: Client, cluster_id: str, request: Request) -> Request:
        """See :meth:`SubmitOperator.upload_inputs`."""
        if not self._inputs:
            return request
        return with_variables(
            request, upload_variables(client, cluster_id, self._inputs, self._download_route)
        )

    def amend(self, client: Client, cluster_id: str, request: Request, error: ApiError) -> Request:
        """See :meth:`SubmitOperator.amend`: a dependency on a job that Slurm has forgotten."""
        forgotten = error.number == DEPENDENCY_PROBLEM
        amended = without_forgotten(client, cluster_id, request) if forgotten else None
        return amended or super().amend(client, cluster_id, request, error)

    def _asked(self) -> AskedJob:
        tidy = tidy_script(self.script)
        for words in tidy.warnings:
            self.log.warning(words)
        zone = ClusterraHook(self.clusterra_conn_id).settings().timezone
        return read_arguments(
            tidy.text,
            {name: getattr(self, name) for name in JOB_ARGUMENTS},
            job=self.job or {},
            environment=self.environment or {},
            now=datetime.now(zone),
        )


class ClusterraSubmitTemplateOperator(SubmitOperator):
    """Submit a template of the catalogue, wait until its job has ended, and return what became of it.

    The values are checked against the template's own schema before anything is submitted.

    :param template_id: e.g. ``"gromacs"``; a preset's, too.
    :param template_params: values of its inputs and parameters by name; those left out have the
        template's own. ``job_name``, where the template takes it, is otherwise
        ``<dag_id>.<task_id>``.
    :param uploads: files of the worker by the names of parameters: ``{"input_tpr": "data/md.tpr"}``
        uploads the file, and gives the parameter its key.

    All arguments of :class:`~airflow_provider_clusterra.operators.submit.SubmitOperator` as well.
    """

    IDENTITY = ("template_id", "template_params", "uploads")
    """What the author asks for: with another value it is another job."""
    template_fields: Sequence[str] = (*IDENTITY, *SubmitOperator.template_fields)
    template_fields_renderers = {"template_params": "json"}  # noqa: RUF012 - Airflow's form

    def __init__(
        self,
        *,
        template_id: str,
        template_params: Mapping[str, Any] | None = None,
        uploads: Mapping[str, Source] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.template_id = template_id
        self.template_params = template_params
        self.uploads = uploads
        self._inputs: dict[str, SourceFile] = {}

    def build_request(self, context: Context, client: Client, cluster_id: str) -> Request:  # noqa: ARG002 - templates are any cluster's
        """See :meth:`SubmitOperator.build_request`."""
        self._inputs = find_inputs(self.uploads, context)
        template, parent = find_template(client, self.template_id)
        values = self.template_params or {}
        checked = check_template(template, values, [*self._inputs], parent)
        ti = context["ti"]
        name = job_name_of(parent or template, checked, f"{ti.dag_id}.{ti.task_id}")
        identity = {each: getattr(self, each) for each in self.IDENTITY}
        return Request(checked.body(), identity, name)

    def upload_inputs(self, client: Client, cluster_id: str, request: Request) -> Request:
        """See :meth:`SubmitOperator.upload_inputs`."""
        return with_params(request, upload_keys(client, cluster_id, self._inputs))
