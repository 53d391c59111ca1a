"""Submitting jobs, and waiting for them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    BaseOperator,
    Context,
    conf,
)

from airflow_provider_clusterra.api.client import Client
from airflow_provider_clusterra.api.errors import (
    NotFoundError,
)
from airflow_provider_clusterra.api.readers import Submitted
from airflow_provider_clusterra.api.specs import DEFAULT_DIRECTORY, JobSpec, hidden_outputs
from airflow_provider_clusterra.api.units import (
    read_count,
    read_memory_mb,
    read_time_limit_minutes,
)
from airflow_provider_clusterra.compat import TaskDeferralError, TaskDeferralTimeout
from airflow_provider_clusterra.hooks.clusterra import ClusterraHook
from airflow_provider_clusterra.operators.failures import airflow_errors, lost_answers
from airflow_provider_clusterra.operators.kill import KillSwitch
from airflow_provider_clusterra.operators.results import check_return_output, finish
from airflow_provider_clusterra.operators.waiting import (
    abandon,
    check_on_stuck,
    deadline_of,
    deferral_of,
    first_look,
    seconds,
)
from airflow_provider_clusterra.triggers.events import read_event
from airflow_provider_clusterra.triggers.jobs import ClusterraJobTrigger


class ClusterraSubmitJobOperator(BaseOperator):
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
    :param wait_for_completion: whether to wait; otherwise the task ends once the job is submitted.
    :param deferrable: whether to wait in the triggerer; otherwise Airflow's default.
    :param poll_interval: seconds between two looks at an old job; young ones are looked at sooner.
    :param timeout: seconds or a timedelta after which the job is cancelled and the task fails.
    :param pending_timeout: seconds or a timedelta for which the job may be pending at a time; then it
        is cancelled and the task fails.
    :param max_restarts: how often Slurm may start the job again; then it is cancelled and the task
        fails.
    :param on_stuck: what it means that the job will never start (held, a dependency that cannot be
        satisfied, more than its partition allows): ``"fail"`` cancels it and fails the task,
        ``"warn"`` says so in the log and waits on.
    :param follow_output: whether the job's output goes into the task's log as it is written.
    :param return_output: what of the job's output goes into the result: ``"last_line"``,
        ``"json"`` (the last line that is a JSON value), ``"text"``, or None.
    :param cancel_on_kill: whether the job is cancelled when the task is marked, cleared or killed.
    :param clusterra_conn_id: the connection's id.
    :param cluster_id: the cluster; otherwise the connection's.
    """

    template_fields: Sequence[str] = (
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
        "clusterra_conn_id",
        "cluster_id",
    )
    template_fields_renderers = {"script": "bash", "environment": "json"}  # noqa: RUF012 - Airflow's form
    ui_color = "#dbe9f6"

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
        wait_for_completion: bool = True,
        deferrable: bool | None = None,
        poll_interval: float = 30.0,
        timeout: float | timedelta | None = None,
        pending_timeout: float | timedelta | None = None,
        max_restarts: int | None = None,
        on_stuck: str = "fail",
        follow_output: bool = True,
        return_output: str | None = None,
        cancel_on_kill: bool = True,
        clusterra_conn_id: str = ClusterraHook.default_conn_name,
        cluster_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_return_output(return_output)
        check_on_stuck(on_stuck)
        if deferrable is None:
            deferrable = conf.getboolean("operators", "default_deferrable", fallback=False)
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
        self.wait_for_completion = wait_for_completion
        self.deferrable = deferrable
        self.poll_interval = poll_interval
        self.timeout = timeout
        self.pending_timeout = pending_timeout
        self.max_restarts = max_restarts
        self.on_stuck = on_stuck
        self.follow_output = follow_output
        self.return_output = return_output
        self.cancel_on_kill = cancel_on_kill
        self.clusterra_conn_id = clusterra_conn_id
        self.cluster_id = cluster_id
        self._kill = KillSwitch()

    def execute(self, context: Context) -> Any:
        """Submit the job, push its id, and wait.

        :returns: the result of :func:`~airflow_provider_clusterra.operators.results.job_result`;
            without waiting ``{"job_id", "name"}``.
        :raises AirflowFailException: what no retry can heal.
        :raises JobError: the job ended badly.
        """
        deadline = deadline_of(time.time(), self.timeout, self.execution_timeout)
        with airflow_errors(self.clusterra_conn_id):
            spec = self._spec(context)
            hook = ClusterraHook(self.clusterra_conn_id, self.cluster_id)
            with hook.client() as client:
                cluster_id = hook.find_cluster(client)
                self._kill.arm(client.access, cluster_id)
                try:
                    submitted = self._submit(client, cluster_id, spec)
                except NotFoundError as error:
                    raise hook.explain(client, cluster_id, error) from error
                context["ti"].xcom_push(key="job_id", value=submitted.job_id)
                self._refuse_problems(client, cluster_id, submitted)
                if not self.wait_for_completion:
                    return {"job_id": submitted.job_id, "name": spec.name}
                trigger = self._trigger(cluster_id, submitted.job_id, spec.name, deadline)
                return self._wait(client, trigger)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:  # noqa: ARG002 - Airflow's form
        """Go on after the deferral.

        :param event: as :meth:`~airflow_provider_clusterra.triggers.events.JobEvent.to_payload`
            made it.
        :returns: as :meth:`execute`.
        :raises JobError: the job ended badly.
        """
        with airflow_errors(self.clusterra_conn_id):
            told = read_event(event)
            with ClusterraHook(self.clusterra_conn_id, told.cluster_id).client() as client:
                return finish(told, client, self.return_output)

    def resume_execution(
        self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context
    ) -> Any:
        """Go on after the deferral, also where Airflow itself has ended it: the last line.

        :param next_method: ``"execute_complete"``, or Airflow's word for a deferral that failed.
        :param next_kwargs: for it.
        :returns: as :meth:`execute`.
        :raises TaskDeferralError: the trigger failed; the job is cancelled.
        :raises TaskDeferralTimeout: the trigger did not tell in time; the job is cancelled.
        """
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except (TaskDeferralError, TaskDeferralTimeout) as error:
            self.log.error("The wait in the triggerer failed (%s).", error)  # noqa: TRY400 - it is raised
            ti = context["ti"]
            job_id = ti.xcom_pull(task_ids=ti.task_id, key="job_id", map_indexes=ti.map_index)
            with airflow_errors(self.clusterra_conn_id):
                abandon(ClusterraHook(self.clusterra_conn_id, self.cluster_id), job_id)
            raise

    def on_kill(self) -> None:
        """Cancel the job: Airflow calls this when the running task is to end."""
        if self.cancel_on_kill:
            self._kill.pull()
        else:
            self._kill.pulled = True

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

    def _submit(self, client: Client, cluster_id: str, spec: JobSpec) -> Submitted:
        body = spec.body()
        for words in hidden_outputs(body["job"]):
            self.log.warning(words)
        self._kill.check()
        with lost_answers(spec.name, cluster_id):
            submitted = client.submit_job(cluster_id, body)
        self._kill.arm(client.access, cluster_id, submitted.job_id)
        self.log.info("Submitted as job %s on cluster %s", submitted.job_id, cluster_id)
        for warning in submitted.warnings:
            self.log.warning("Slurm says of job %s: %s", submitted.job_id, warning)
        return submitted

    def _refuse_problems(self, client: Client, cluster_id: str, submitted: Submitted) -> None:
        """A job that was not taken as it was asked must not run; nor one whose task is killed."""
        if self._kill.pulled and self.cancel_on_kill:
            self._kill.pull()
        self._kill.check()
        if submitted.problems:
            client.cancel_job(cluster_id, submitted.job_id)
            words = "; ".join(str(problem) for problem in submitted.problems)
            raise AirflowFailException(
                f"Slurm took job {submitted.job_id} but not as it was asked, so it was cancelled: {words}"
            )

    def _trigger(
        self, cluster_id: str, job_id: int, name: str, deadline: float | None
    ) -> ClusterraJobTrigger:
        return ClusterraJobTrigger(
            job_id=job_id,
            cluster_id=cluster_id,
            clusterra_conn_id=self.clusterra_conn_id,
            job_name=name,
            since=time.time(),
            poll_interval=self.poll_interval,
            deadline=deadline,
            pending_timeout=seconds(self.pending_timeout),
            max_restarts=self.max_restarts,
            on_stuck=self.on_stuck,
            follow_output=self.follow_output,
            owns_job=True,
            cancel_on_kill=self.cancel_on_kill,
        )

    def _wait(self, client: Client, trigger: ClusterraJobTrigger) -> Any:
        event = first_look(client.access, trigger.cluster_id, trigger.job_id)
        if event is None and self.deferrable:
            self._kill.check()
            self.defer(
                trigger=trigger,
                method_name="execute_complete",
                timeout=deferral_of(trigger.deadline),
            )
        if event is None:
            event = self._kill.run(trigger.wait())
        self._kill.check()
        return finish(event, client, self.return_output)
