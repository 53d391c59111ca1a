"""Waiting for a job that something else submitted."""

from __future__ import annotations

# ruff: noqa: PLC0415 - whoever reads a DAG needs nothing of what only a running task does
import asyncio
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
    BaseSensorOperator,
    Context,
    PokeReturnValue,
)

from airflow_provider_clusterra.api.errors import NotFoundError
from airflow_provider_clusterra.hooks.clusterra import ClusterraHook
from airflow_provider_clusterra.links.jobs import KEY, ClusterraJobLink
from airflow_provider_clusterra.task import arguments as given
from airflow_provider_clusterra.task.arguments import read_outputs, with_assets
from airflow_provider_clusterra.task.lineage import ReportsLineage

if TYPE_CHECKING:
    from airflow_provider_clusterra.api.client import Client
    from airflow_provider_clusterra.triggers.jobs import ClusterraJobTrigger, JobEvent

LOOKS = "clusterra_looks"
"""In the task state store: what the next look's process has to know of this try's looks."""
SINCE = ("accounting_since", "completing_since", "missing_since", "pending_since", "stuck_since")
"""What of the progress is in it, beside since when the session is refused; in seconds since 1970."""


class ClusterraJobSensor(ReportsLineage, BaseSensorOperator):
    """Wait until a job has ended, and return what became of it. It never cancels the job.

    :param job_id: Slurm's number for the job, or the result of the task that submitted it, e.g.
        ``"{{ ti.xcom_pull('submit', key='job_id') }}"``.
    :param deferrable: whether to wait in the triggerer; otherwise Airflow's default.
    :param pending_timeout: seconds or a timedelta for which the job may be pending at a time.
    :param max_restarts: how often Slurm may start the job again.
    :param on_stuck: what it means that the job will never start: ``"fail"`` or ``"warn"``.
    :param follow_output: whether the job's output goes into the task's log: as it is written where
        the sensor is deferrable, otherwise once, at the end.
    :param return_output: what of the job's output goes into the result: ``"last_line"``,
        ``"json"`` (the last line that is a JSON value), ``"text"``, or None.
    :param skip_on_exit_code: an exit code, or several, with which a failed job skips the task instead of
        failing it; an array, if each of its tasks that failed has one.
    :param outputs: files that the job has written, by names of yours, as on the operators that submit.
    :param outputs_on_failure: whether they are fetched, as far as they are there, if it failed, too.
    :param clusterra_conn_id: the connection's id.
    :param cluster_id: the cluster; otherwise the connection's.

    ``mode``, ``poke_interval``, ``timeout`` and ``soft_fail`` are those of all sensors, and mean the
    same when deferrable: a failed job and a timeout skip the task with ``soft_fail``, and a
    ``poke_interval`` that you give is the longest pause between two looks.
    """

    READERS: ClassVar[dict[str, given.Reader]] = {
        "job_id": given.job_id,
        "pending_timeout": given.optional(given.seconds),
        "max_restarts": given.optional(given.count),
        "skip_on_exit_code": given.exit_codes,
        "outputs": given.optional(read_outputs),
    }
    """How each argument that may be templated is read."""
    template_fields = given.GivenFields(*READERS, "clusterra_conn_id", "cluster_id")
    operator_extra_links = (ClusterraJobLink(),)
    ui_color = "#e6f1f2"

    def __init__(  # noqa: PLR0913 - an operator's arguments are its form
        self,
        *,
        job_id: int | str | Mapping[str, Any],
        deferrable: bool | None = None,
        pending_timeout: float | timedelta | None = None,
        max_restarts: int | None = None,
        on_stuck: str = "fail",
        follow_output: bool = True,
        return_output: str | None = None,
        skip_on_exit_code: int | Collection[int] | None = None,
        outputs: Mapping[str, Any] | None = None,
        outputs_on_failure: bool = False,
        clusterra_conn_id: str = ClusterraHook.default_conn_name,
        cluster_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        self._is_paced = "poke_interval" in {**(kwargs.get("default_args") or {}), **kwargs}
        super().__init__(**kwargs)
        self.outlets = with_assets(self.outlets, outputs)
        self.job_id: Any = job_id
        self.deferrable = given.is_deferrable(deferrable)
        self.pending_timeout = pending_timeout
        self.max_restarts = max_restarts
        self.on_stuck = on_stuck
        self.follow_output = follow_output
        self.return_output = return_output
        self.skip_on_exit_code: Any = skip_on_exit_code
        self.outputs: Any = outputs
        self.outputs_on_failure = outputs_on_failure
        self.clusterra_conn_id = clusterra_conn_id
        self.cluster_id = cluster_id
        self._trigger: ClusterraJobTrigger | None = None
        given.check_choices(self)
        given.check_plain(self, self.READERS)

    def execute(self, context: Context) -> Any:
        """Wait, as ``mode`` or ``deferrable`` say.

        :returns: the result of :func:`~airflow_provider_clusterra.task.result.job_result`.
        :raises JobError: the job ended badly.
        :raises AirflowSensorTimeout: it had not ended in time.
        """
        from airflow_provider_clusterra.task.report import airflow_errors
        from airflow_provider_clusterra.triggers.jobs import deferral_timeout

        with airflow_errors(self.clusterra_conn_id):
            given.read_all(self, self.READERS)
        if not self.deferrable:
            return super().execute(context)
        done = self.poke(context)
        if isinstance(done, PokeReturnValue):
            return done.xcom_value
        trigger = self._trigger_of(context)
        self.defer(
            trigger=trigger,
            method_name="execute_complete",
            timeout=deferral_timeout(trigger.spec.deadline),
        )
        return None

    def poke(self, context: Context) -> bool | PokeReturnValue:
        """One look.

        :returns: the result once the job has ended, otherwise False.
        :raises JobError: the job ended badly.
        """
        with self._ending():
            trigger = self._trigger_of(context)
            event = asyncio.run(trigger.look(catch_up=self.mode == "poke" and not self.deferrable))
            self._remember(context, trigger)
            if event is None and trigger.the_wait.progress.misses == 0:
                return False
            cluster_id = trigger.spec.cluster_id
            hook = ClusterraHook(self.clusterra_conn_id, cluster_id)
            with hook.client() as client:
                if event is not None:
                    return PokeReturnValue(
                        is_done=True, xcom_value=self._finish(context, event, client)
                    )
                missing = NotFoundError(f"There is no job {self.job_id}.", status=404)
                if (why := hook.explain(client, cluster_id, missing)) is not missing:
                    raise why
                return False

    def _trigger_of(self, context: Context) -> ClusterraJobTrigger:
        """The wait, made at the first look: patience counts from then on."""
        from airflow_provider_clusterra.triggers.jobs import SAME_ARGUMENTS, ClusterraJobTrigger

        if self._trigger is not None:
            return self._trigger
        first: datetime | None = None
        if self._is_rescheduled:
            first = context["ti"].get_first_reschedule_date(context)
        with ClusterraHook(self.clusterra_conn_id, self.cluster_id).connect() as connected:
            cluster_id = connected.cluster_id
            if self.outputs and first is None:
                from airflow_provider_clusterra.task.fetching import check_outputs

                check_outputs(connected.client, self.outputs, self)
            url = connected.settings.job_url(cluster_id, self.job_id)
        context["ti"].xcom_push(key=KEY, value=url)
        since = first.timestamp() if first else time.time()
        deadline, limit = given.deadline_of(
            timeout=self.timeout, execution_timeout=self.execution_timeout
        )
        self._trigger = ClusterraJobTrigger(
            **{name: getattr(self, name) for name in SAME_ARGUMENTS},
            job_id=self.job_id,
            cluster_id=cluster_id,
            since=since,
            # Airflow's default is not the author's choice
            poll_interval=self.poke_interval if self._is_paced else None,
            deadline=deadline,
            limit=limit,
        )
        if self._is_rescheduled:
            self._recall(context, self._trigger)
        return self._trigger

    def _recall(self, context: Context, trigger: ClusterraJobTrigger) -> None:
        """Go on from the looks before: each is another process's, with a store from Airflow 3.3 on."""
        from airflow_provider_clusterra.watch.verdict import Progress

        wait, store = trigger.the_wait, context.get("task_state_store")
        since = trigger.spec.since
        known: Any = {"completing_since": since, "stuck_since": since}
        if store is not None:
            kept: Any = store.get(LOOKS) or {}
            known = kept if kept.get("try_number") == context["ti"].try_number else {}
        kept_since: Any = {name: known.get(name) for name in SINCE}
        # a single answer without the job may be a stale one
        is_missed = store is None or known.get("missing_since")
        misses = trigger.patience.misses if is_missed else 0
        wait.progress = Progress(misses=misses, **kept_since)
        wait.renewal.refused_since = known.get("refused_since")

    def _remember(self, context: Context, trigger: ClusterraJobTrigger) -> None:
        store: Any = context.get("task_state_store")
        if store is None or not self._is_rescheduled:
            return
        wait = trigger.the_wait
        looks: dict[str, Any] = {name: getattr(wait.progress, name) for name in SINCE}
        looks["refused_since"] = wait.renewal.refused_since
        store.set(LOOKS, {**looks, "try_number": context["ti"].try_number})

    @property
    def _is_rescheduled(self) -> bool:
        return self.mode == "reschedule" and not self.deferrable

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """Go on after the deferral.

        :param event: as :meth:`~airflow_provider_clusterra.triggers.jobs.JobEvent.to_payload`
            made it.
        :returns: as :meth:`execute`.
        :raises JobError: the job ended badly.
        :raises AirflowSensorTimeout: it had not ended in time.
        :raises AirflowTaskTimeout: the same, where ``execution_timeout`` was the shorter.
        """
        from airflow_provider_clusterra.triggers.jobs import read_event

        with self._ending():
            end = read_event(event)
            if end.outcome == "timed_out":
                # as in the other modes, the shorter limit decides whether a retry follows
                limit = self.execution_timeout
                is_shorter = limit is not None and limit.total_seconds() < self.timeout
                raise (AirflowTaskTimeout if is_shorter else AirflowSensorTimeout)(end.message)
            with ClusterraHook(self.clusterra_conn_id, end.cluster_id).client() as client:
                return self._finish(context, end, client)

    def _finish(self, context: Context, event: JobEvent, client: Client) -> dict[str, Any]:
        # a job's end is no business of whoever only reads the DAG: half of the import's time
        from airflow_provider_clusterra.task.fetching import outputs_of
        from airflow_provider_clusterra.task.result import failed_jobs_pushed, finish

        codes = given.exit_codes("skip_on_exit_code", self.skip_on_exit_code)
        outputs = outputs_of(self, context, client, event.cluster_id)
        with (
            self.lineage_of(event.cluster_id, event.job_id) as known,
            failed_jobs_pushed(context, outputs),
        ):
            result = finish(event, client, self.return_output, skip_on=codes)
            result |= outputs.bring(result, event.job)
            known.update(result)
        return result

    @contextmanager
    def _ending(self) -> Iterator[None]:
        """Airflow's errors; ``soft_fail`` and ``never_fail`` skip alike in all modes."""
        from airflow_provider_clusterra.task.report import airflow_errors

        try:
            with airflow_errors(self.clusterra_conn_id):
                yield
        except AirflowSkipException:
            raise
        except AirflowException as exc:
            if self.soft_fail or self.never_fail:
                raise AirflowSkipException(f"Skipped instead of failed: {exc}") from exc
            raise
