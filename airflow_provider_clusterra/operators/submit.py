"""What both submit operators share: one job, submitted once, waited for, and told."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import Any

from airflow.providers.common.compat.sdk import BaseOperator, Context, conf

from airflow_provider_clusterra.api.client import Client
from airflow_provider_clusterra.api.errors import ApiError, NotFoundError
from airflow_provider_clusterra.compat import TaskDeferralError, TaskDeferralTimeout
from airflow_provider_clusterra.hooks.clusterra import ClusterraHook
from airflow_provider_clusterra.links.jobs import ClusterraJobLink, show_job
from airflow_provider_clusterra.operators.again import Again
from airflow_provider_clusterra.operators.arrays import ArraySuccess
from airflow_provider_clusterra.operators.ending import end_try
from airflow_provider_clusterra.operators.failures import airflow_errors
from airflow_provider_clusterra.operators.kill import KillSwitch
from airflow_provider_clusterra.operators.outputs import check_return_output
from airflow_provider_clusterra.operators.records import RecordStore
from airflow_provider_clusterra.operators.submission import Submission
from airflow_provider_clusterra.operators.terms import Terms, check_on_unknown, tag_of
from airflow_provider_clusterra.operators.waiting import (
    abandon,
    check_on_stuck,
    deadline_of,
    deferral_of,
    first_look,
    seconds,
    write_output,
)
from airflow_provider_clusterra.submit.held import Held
from airflow_provider_clusterra.submit.protocol import is_replaced
from airflow_provider_clusterra.submit.record import Failure, failure_of
from airflow_provider_clusterra.submit.request import Request
from airflow_provider_clusterra.submit.tag import Tag
from airflow_provider_clusterra.triggers.events import JobEvent, read_event
from airflow_provider_clusterra.triggers.jobs import ClusterraJobTrigger


class SubmitOperator(BaseOperator):
    """Submit a job exactly once, wait until it has ended, and return what became of it.

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
    :param on_unknown: what to do at a retry where nothing can tell what became of the job of an
        earlier try: ``"fail"``, or ``"submit"`` a new one.
    :param submit_timeout: seconds for which a submit that surely did not arrive is sent again.
    :param submit_confirmation_timeout: seconds for which the job is looked for where the submit's
        answer was lost.
    :param tag_job_name: whether the job's name ends in a tag that says whose it is. Without it no
        job of an earlier try is found again.
    :param clusterra_conn_id: the connection's id.
    :param cluster_id: the cluster; otherwise the connection's.
    """

    template_fields: Sequence[str] = ("clusterra_conn_id", "cluster_id")
    operator_extra_links = (ClusterraJobLink(),)
    ui_color = "#dbe9f6"
    array_success: ArraySuccess = "all"
    again = Again()
    """What a retry asks for instead of the same; an operator whose job it fits sets both."""

    def __init__(  # noqa: PLR0913 - an operator's arguments are its form
        self,
        *,
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
        on_unknown: str = "fail",
        submit_timeout: float = 600.0,
        submit_confirmation_timeout: float = 60.0,
        tag_job_name: bool = True,
        clusterra_conn_id: str = ClusterraHook.default_conn_name,
        cluster_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_return_output(return_output)
        check_on_stuck(on_stuck)
        check_on_unknown(on_unknown)
        if deferrable is None:
            deferrable = conf.getboolean("operators", "default_deferrable", fallback=False)
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
        self.on_unknown = on_unknown
        self.submit_timeout = submit_timeout
        self.submit_confirmation_timeout = submit_confirmation_timeout
        self.tag_job_name = tag_job_name
        self.clusterra_conn_id = clusterra_conn_id
        self.cluster_id = cluster_id
        self._kill = KillSwitch()

    @abstractmethod
    def build_request(self, context: Context, client: Client, cluster_id: str) -> Request:
        """What is submitted, checked as far as that can be done before.

        :param context: the task's.
        :param client: signed in.
        :param cluster_id: the cluster, e.g. ``"clusde74"``.
        :raises InputError: it cannot work.
        """

    def upload_inputs(self, client: Client, cluster_id: str, request: Request) -> Request:  # noqa: ARG002 - a child's
        """Make the request ready once it is sure that it is submitted.

        :param client: signed in.
        :param cluster_id: the cluster, e.g. ``"clusde74"``.
        :param request: of :meth:`build_request`.
        """
        return request

    def amend(self, client: Client, cluster_id: str, request: Request, error: ApiError) -> Request:  # noqa: ARG002 - a child's
        """See :meth:`~airflow_provider_clusterra.operators.submission.Submission.hold`, ``amend``."""
        raise error

    def execute(self, context: Context) -> Any:
        """Submit the job, or take over that of an earlier try; push its id; and wait.

        :returns: the result of :func:`~airflow_provider_clusterra.operators.results.job_result`;
            without waiting ``{"job_id", "name"}``.
        :raises AirflowFailException: what no retry can heal.
        :raises JobError: the job ended badly.
        """
        deadline = deadline_of(time.time(), self.timeout, self.execution_timeout)
        hook = ClusterraHook(self.clusterra_conn_id, self.cluster_id)
        store = RecordStore(context)
        with (
            airflow_errors(self.clusterra_conn_id),
            store.told_of_kills(wanted=not self.cancel_on_kill),
            hook.client() as client,
        ):
            settings = hook.settings()
            cluster_id = hook.find_cluster(client)
            self._kill.arm(client.access, cluster_id)
            try:
                request = self.build_request(context, client, cluster_id)
                tag = tag_of(context["ti"], settings.instance, cluster_id, request.identity)
                prepare = partial(self.upload_inputs, client, cluster_id)
                submission = self._submission(context, client, cluster_id, tag)
                held = submission.hold(request, prepare, partial(self.amend, client, cluster_id))
            except NotFoundError as error:
                raise hook.explain(client, cluster_id, error) from error
            show_job(context, settings, cluster_id, held.job_id)
            if not self.wait_for_completion:
                self._kill.check()
                store.drop()
                return {"job_id": held.job_id, "name": held.name or request.name}
            return self._wait(context, client, self._trigger(cluster_id, held, deadline), held)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """Go on after the deferral.

        :param event: as :meth:`~airflow_provider_clusterra.triggers.events.JobEvent.to_payload`
            made it.
        :returns: as :meth:`execute`.
        :raises JobError: the job ended badly.
        """
        with (
            airflow_errors(self.clusterra_conn_id),
            RecordStore(context).told_of_kills(wanted=not self.cancel_on_kill),
        ):
            told = read_event(event)
            with ClusterraHook(self.clusterra_conn_id, told.cluster_id).client() as client:
                return self._end(context, client, told)

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
            RecordStore(context).save_failure(Failure("CANCELLED"))
            raise

    def on_kill(self) -> None:
        """Cancel the job: Airflow calls this when the running task is to end."""
        self._kill.pull(cancel=self.cancel_on_kill)

    def _submission(
        self, context: Context, client: Client, cluster_id: str, tag: Tag
    ) -> Submission:
        return Submission(
            client,
            cluster_id,
            tag,
            terms=Terms(
                self.tag_job_name,
                self.on_unknown,
                self.submit_timeout,
                self.submit_confirmation_timeout,
                self.array_success,
            ),
            store=RecordStore(context),
            kill=self._kill,
            again=self.again,
            announce=lambda job_id: context["ti"].xcom_push(key="job_id", value=job_id),
        )

    def _trigger(self, cluster_id: str, held: Held, deadline: float | None) -> ClusterraJobTrigger:
        return ClusterraJobTrigger(
            job_id=held.job_id,
            cluster_id=cluster_id,
            clusterra_conn_id=self.clusterra_conn_id,
            job_name=held.name,
            since=time.time(),
            array=held.array,
            poll_interval=self.poll_interval,
            deadline=deadline,
            pending_timeout=seconds(self.pending_timeout),
            max_restarts=self.max_restarts,
            on_stuck=self.on_stuck,
            follow_output=self.follow_output,
            owns_job=True,
            cancel_on_kill=self.cancel_on_kill,
            adopted_at=held.adopted_at,
        )

    def _wait(
        self, context: Context, client: Client, trigger: ClusterraJobTrigger, held: Held
    ) -> Any:
        if held.ended is not None:
            event: JobEvent | None = JobEvent("ended", held.job_id, trigger.cluster_id, held.ended)
        else:
            event = first_look(client.access, trigger.cluster_id, trigger.job_id)
        if event is None and self.deferrable:
            self._kill.check()
            timeout = deferral_of(trigger.deadline)
            self.defer(trigger=trigger, method_name="execute_complete", timeout=timeout)
        if event is None:
            event = self._kill.run(trigger.wait())
        elif self.follow_output:
            # it had ended before anybody could follow it
            write_output(client.access, event, self.log)
        self._kill.check()
        return self._end(context, client, event)

    def _end(self, context: Context, client: Client, event: JobEvent) -> Any:
        if event.outcome == "ended" and is_replaced(event.job, event.adopted_at):
            return self._replace(context, client, event)
        return end_try(context, client, event, self.return_output, self.array_success)

    def _replace(self, context: Context, client: Client, event: JobEvent) -> Any:
        """The end of the try that submitted it had been to cancel it: that was not about this one."""
        RecordStore(context).save_failure(failure_of(event.job))
        self.log.warning(
            "Job %s, which this try had adopted, had been cancelled before; it is replaced.",
            event.job_id,
        )
        if self.follow_output and self.deferrable:
            # Airflow begins the trigger's log anew at a second deferral
            write_output(client.access, event, self.log)
        return self.execute(context)
