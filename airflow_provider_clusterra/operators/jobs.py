"""Submitting jobs: a batch script, or a template of the catalogue."""

from __future__ import annotations

# ruff: noqa: PLC0415 - whoever reads a DAG needs nothing of what only a running task does
import asyncio
import math
import os
import time
from abc import abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar
from uuid import UUID

import jinja2
from airflow.providers.common.compat.sdk import BaseOperator, Context, context_to_airflow_vars
from msgspec.structs import replace

from airflow_provider_clusterra.api.errors import (
    SUBMIT_PAUSES,
    ClusterraError,
    InputError,
    NotFoundError,
)
from airflow_provider_clusterra.api.specs import check_files_are_shared, check_output_is_shown
from airflow_provider_clusterra.compat import (
    CLEARS_FORGET,
    TaskDeferralError,
    TaskDeferralTimeout,
)
from airflow_provider_clusterra.hooks.clusterra import ClusterraHook
from airflow_provider_clusterra.links.jobs import KEY, ClusterraJobLink
from airflow_provider_clusterra.submit.protocol import (
    Failure,
    QueueFullError,
    failure_of,
    identity_of,
    is_replaced,
    iteration_of,
    map_index_of,
    owner_of,
    read_tag,
)
from airflow_provider_clusterra.submit.retries import RetryOptions, read_growth
from airflow_provider_clusterra.task import arguments as given
from airflow_provider_clusterra.task.arguments import OutputFile, read_outputs, with_assets
from airflow_provider_clusterra.task.lineage import ReportsLineage, parent_variables
from airflow_provider_clusterra.watch.arrays import ArraySuccess, check_indices
from airflow_provider_clusterra.watch.cancel import (
    KillSwitch,
    TaskKilledError,
    cancel_now,
    state_of,
)

if TYPE_CHECKING:
    from airflow_provider_clusterra.api.client import Client
    from airflow_provider_clusterra.api.templates import Template
    from airflow_provider_clusterra.hooks.clusterra import Connected, ConnectionSettings
    from airflow_provider_clusterra.sbatch.job import JobRequest
    from airflow_provider_clusterra.submit.submission import (
        RecordStore,
        Request,
        Submission,
        TaskJob,
    )
    from airflow_provider_clusterra.task.inputs import Source, SourceFile
    from airflow_provider_clusterra.task.result import Reading
    from airflow_provider_clusterra.task.script import TidyScript
    from airflow_provider_clusterra.triggers.jobs import JobEvent

__all__ = [
    "ClusterraSubmitJobOperator",
    "ClusterraSubmitTemplateOperator",
    "OutputFile",
    "SubmitOperator",
]


class SubmitOperator(ReportsLineage, BaseOperator):
    """Submit a job exactly once, wait until it has ended, and return what became of it.

    :param wait_for_completion: whether to wait; otherwise the task ends once the job is submitted.
    :param deferrable: whether to wait in the triggerer; otherwise Airflow's default.
    :param poll_interval: the longest pause between two looks, in seconds or as a timedelta. Without
        it, looks come every 5 s, and less often if the API answers slowly or many jobs wait.
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
    :param skip_on_exit_code: an exit code, or several, with which a failed job skips the task instead of
        failing it; an array, if each of its tasks that failed has one.
    :param outputs: files that the job writes, by names of yours: ``{"model": "out/model.pt"}`` finds a
        file, or the files of a pattern, in the job's working directory; an ``OutputFile`` or an ``Asset``
        says where it is copied to as well.
    :param outputs_on_failure: whether they are fetched, as far as they are there, if the job fails, too.
    :param cancel_on_kill: whether the job is cancelled when the task is marked, cleared or killed.
    :param on_unknown: what to do at a retry if nothing says what became of the job of an
        earlier try: ``"fail"``, or ``"submit"`` a new one.
    :param on_full_queue: what to do if Slurm takes no more jobs of the account, the QOS or the cluster
        for now: ``"wait"`` for a place, deferred if the task is deferrable, or ``"fail"``.
    :param submit_timeout: seconds or a timedelta for which a submit that surely did not arrive is sent
        again.
    :param submit_confirmation_timeout: seconds or a timedelta for which the job is looked for if the
        submit's answer was lost.
    :param durable: whether a retry takes over the job of a try that died (Airflow's durable execution):
        the job's name ends in a tag that says whose it is. With False no job of an earlier try is
        searched for.
    :param clusterra_conn_id: the connection's id.
    :param cluster_id: the cluster; otherwise the connection's.
    """

    READERS: ClassVar[dict[str, given.Reader]] = {
        "poll_interval": given.optional(given.seconds),
        "timeout": given.optional(given.seconds),
        "pending_timeout": given.optional(given.seconds),
        "max_restarts": given.optional(given.count),
        "submit_timeout": given.seconds,
        "submit_confirmation_timeout": given.seconds,
        "skip_on_exit_code": given.exit_codes,
        "outputs": given.optional(read_outputs),
    }
    """How each argument that may be templated is read."""
    template_fields = given.GivenFields("clusterra_conn_id", "cluster_id", *READERS)
    operator_extra_links = (ClusterraJobLink(),)
    ui_color = "#dbe9f6"
    array_success: ArraySuccess = "all"
    queue_pauses = SUBMIT_PAUSES
    """Between two submits to a full queue, if the task does not defer."""
    retry_options = RetryOptions()
    """What a retry asks for instead of the same."""
    IDENTITY: Sequence[str] = ()
    """The arguments that say what the author asks for: with another value it is another job."""
    _declared: Collection[str] = ()
    """The names of files that a template says that its job writes."""
    _inputs: Mapping[str, SourceFile] = {}
    _sources: Mapping[str, Any] = {}
    _jinja_env: jinja2.Environment | None = None

    def __init__(  # noqa: PLR0913 - an operator's arguments are its form
        self,
        *,
        wait_for_completion: bool = True,
        deferrable: bool | None = None,
        poll_interval: float | timedelta | None = None,
        timeout: float | timedelta | None = None,
        pending_timeout: float | timedelta | None = None,
        max_restarts: int | None = None,
        on_stuck: str = "fail",
        follow_output: bool = True,
        return_output: str | None = None,
        skip_on_exit_code: int | Collection[int] | None = None,
        outputs: Mapping[str, Any] | None = None,
        outputs_on_failure: bool = False,
        cancel_on_kill: bool = True,
        on_unknown: str = "fail",
        on_full_queue: str = "wait",
        submit_timeout: float | timedelta = 600.0,
        submit_confirmation_timeout: float | timedelta = 60.0,
        durable: bool = True,
        clusterra_conn_id: str = ClusterraHook.default_conn_name,
        cluster_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.outlets = with_assets(self.outlets, outputs)
        if outputs and not wait_for_completion:
            raise given.ArgumentError(
                "outputs are there once the job has ended: leave "
                "wait_for_completion as it is, or give them to the ClusterraJobSensor that waits."
            )
        self.wait_for_completion = wait_for_completion
        self.deferrable = given.is_deferrable(deferrable)
        self.poll_interval: Any = poll_interval
        self.timeout = timeout
        self.pending_timeout = pending_timeout
        self.max_restarts = max_restarts
        self.on_stuck = on_stuck
        self.follow_output = follow_output
        self.return_output = return_output
        self.skip_on_exit_code: Any = skip_on_exit_code
        self.outputs: Any = outputs
        self.outputs_on_failure = outputs_on_failure
        self.cancel_on_kill = cancel_on_kill
        self.on_unknown = on_unknown
        self.on_full_queue = on_full_queue
        self.submit_timeout: Any = submit_timeout
        self.submit_confirmation_timeout: Any = submit_confirmation_timeout
        self.durable = durable
        self.clusterra_conn_id = clusterra_conn_id
        self.cluster_id = cluster_id
        given.check_choices(self)
        self._kill = KillSwitch()
        self._keys: dict[str, str] = {}
        """The keys of inputs that are uploaded already, by their names."""

    @abstractmethod
    def build_request(self, context: Context, connected: Connected) -> Request:
        """What is submitted, checked as far as that can be done before.

        :param context: the task's.
        :param connected: signed in.
        :raises InputError: it cannot work.
        """

    def _upload_inputs(self, connected: Connected, request: Request) -> Request:  # noqa: ARG002 - a child's
        """Make a request that has inputs ready, once it is sure that it is submitted."""
        return request

    @property
    def _reading(self) -> Reading | None:
        """How the job's output is read."""
        return self.return_output

    def read_result(self, context: Context, result: dict[str, Any]) -> Any:  # noqa: ARG002 - a child's
        """What the task returns, once its job has succeeded.

        :param context: the task's.
        :param result: of :func:`~airflow_provider_clusterra.task.result.job_result`.
        """
        return result

    def _find_artifacts(self, client: Client, cluster_id: str, job_id: int) -> Mapping[str, str]:  # noqa: ARG002 - a child's
        """The paths of files that the job is known to write, by their names."""
        return {}

    def execute(self, context: Context) -> Any:
        """Submit the job, or take over that of an earlier try; push its id; and wait.

        :returns: the result of :func:`~airflow_provider_clusterra.task.result.job_result`;
            without waiting ``{"job_id", "name"}``.
        :raises AirflowFailException: what no retry can heal.
        :raises JobError: the job ended badly.
        """
        return self._execute(context)

    def submit_again(self, context: Context, event: dict[str, Any]) -> Any:
        """Go on after the wait for a place in a full queue.

        :param event: as :class:`~airflow_provider_clusterra.triggers.jobs.ClusterraQueueTrigger` made it.
        :returns: as :meth:`execute`.
        :raises JobError: the job ended badly.
        """
        return self._execute(context, event)

    def _execute(self, context: Context, queue: dict[str, Any] | None = None) -> Any:
        """``queue`` is what a wait for a place keeps: the deadline, the tries, the uploads' keys."""
        with self._trying(context) as store:
            given.read_all(self, self.READERS)
            if queue is None:
                end, limit = given.deadline_of(
                    timeout=self.timeout, execution_timeout=self.execution_timeout
                )
                queue = {"tries": 0, "deadline": end, "limit": limit, "keys": {}}
            self._keys.update(queue["keys"])
            hook = ClusterraHook(self.clusterra_conn_id, self.cluster_id)
            with hook.connect() as connected:
                self._kill.access = connected.settings.access
                self._kill.cluster_id = connected.cluster_id
                return self._submit_and_wait(context, connected, store, queue)

    @contextmanager
    def _trying(self, context: Context) -> Iterator[RecordStore]:
        """Raise Airflow's errors; the job of a try that is killed is unwanted unless it has succeeded."""
        from airflow_provider_clusterra.task.report import airflow_errors

        store = store_of(context)
        with airflow_errors(self.clusterra_conn_id):
            try:
                yield store
            except TaskKilledError:
                if self.cancel_on_kill:
                    store.mark_killed(may_have_succeeded=self._kill.may_have_succeeded)
                raise

    def _submit_and_wait(
        self, context: Context, connected: Connected, store: RecordStore, queue: dict[str, Any]
    ) -> Any:
        request = self.build_request(context, connected)
        if self.wait_for_completion and request.array:
            check_indices(request.array)
        job = self._obtain_job(context, connected, store, request, queue)
        if not self.wait_for_completion:
            # from here on the task succeeds, whatever signal comes as its worker ends
            self._kill.set_target(None)
            store.mark_done()
            with self.lineage_of(connected.cluster_id, job.job_id) as known:
                known["name"] = job.name or request.name
            return {"job_id": job.job_id, "name": known["name"]}
        return self._wait(context, connected, job, store, queue)

    def _obtain_job(
        self,
        context: Context,
        connected: Connected,
        store: RecordStore,
        request: Request,
        queue: dict[str, Any],
    ) -> TaskJob:
        submission = self._submission(context, connected, store)
        prepare = partial(self._prepare, connected, is_first=not queue["tries"])
        while True:
            try:
                return submission.obtain_job(request, prepare)
            except QueueFullError as error:
                full = error
            self._wait_for_a_place(full, connected.cluster_id, queue)

    def _wait_for_a_place(
        self, full: QueueFullError, cluster_id: str, queue: dict[str, Any]
    ) -> None:
        """Pause before the next submit to a full queue; a deferrable task is deferred instead."""
        from airflow_provider_clusterra.triggers import jobs as triggers

        self._kill.check()
        end = queue["deadline"]
        left = math.inf if end is None else end - time.time()
        if left <= 0:
            raise QueueFullError(
                f"There was no place in the queue ({full}) until {queue['limit']} had passed."
            ) from full
        if not queue["tries"]:
            self.log.warning("No place in the queue (%s); waiting.", full)
        queue |= {"tries": queue["tries"] + 1, "keys": self._keys}
        if self.deferrable:
            trigger = triggers.ClusterraQueueTrigger(
                clusterra_conn_id=self.clusterra_conn_id, cluster_id=cluster_id, **queue
            )
            timeout = triggers.deferral_timeout(end)
            self.defer(trigger=trigger, method_name="submit_again", timeout=timeout)
        self._kill.pause(min(left, self.queue_pauses.pause(queue["tries"])))

    def _prepare(self, connected: Connected, request: Request, *, is_first: bool) -> Request:
        """Check the outputs and upload the inputs of a job that is submitted, not of one adopted."""
        if is_first and self.outputs:
            from airflow_provider_clusterra.task.fetching import check_outputs

            check_outputs(connected.client, self.outputs, self, self._declared)
        return self._upload_inputs(connected, request) if self._inputs else request

    def execute_complete(
        self, context: Context, event: dict[str, Any], keys: Mapping[str, str] | None = None
    ) -> Any:
        """Go on after the deferral.

        :param event: as :meth:`~airflow_provider_clusterra.triggers.jobs.JobEvent.to_payload`
            made it.
        :param keys: of the files that were uploaded.
        :returns: as :meth:`execute`.
        :raises JobError: the job ended badly.
        """
        from airflow_provider_clusterra.triggers.jobs import read_event

        self._keys.update(keys or {})
        with self._trying(context) as store:
            end = read_event(event)
            with ClusterraHook(self.clusterra_conn_id, end.cluster_id).client() as client:
                return self._end(context, client, end, store)

    def resume_execution(
        self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context
    ) -> Any:
        """Go on after the deferral, also if Airflow itself has ended it: the last line.

        :param next_method: ``"execute_complete"``, or Airflow's word for a deferral that failed.
        :param next_kwargs: for it.
        :returns: as :meth:`execute`.
        :raises TaskDeferralError: the trigger failed; the job is cancelled.
        :raises TaskDeferralTimeout: the trigger did not end in time; the job is cancelled.
        """
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except (TaskDeferralError, TaskDeferralTimeout) as error:
            self.log.error("The wait in the triggerer failed (%s).", error)  # noqa: TRY400 - it is raised
            try:
                self._abandon(context)
            except Exception as failure:  # noqa: BLE001 - what ended the wait is the task's error
                self.log.error("Its job could not be cancelled: %s", failure)  # noqa: TRY400
            raise

    def on_kill(self) -> None:
        """Cancel the job: Airflow calls this when the running task is to end."""
        self._kill.kill(cancel=self.cancel_on_kill)

    def _submission(self, context: Context, connected: Connected, store: RecordStore) -> Submission:
        from airflow_provider_clusterra.submit.submission import Submission, SubmitOptions

        cluster_id, settings = connected.cluster_id, connected.settings
        values = self._identity()
        identity = identity_of(context, settings.deployment, cluster_id, values)

        def announce(job_id: int) -> None:
            context["ti"].xcom_push(key="job_id", value=job_id)
            context["ti"].xcom_push(key=KEY, value=settings.job_url(cluster_id, job_id))

        return Submission(
            client=connected.client,
            cluster_id=cluster_id,
            identity=replace(identity, body_at=partial(self._body_at, context)),
            options=SubmitOptions(
                tagged=self.durable,
                on_unknown=self.on_unknown,
                on_full_queue=self.on_full_queue,
                timeout=self.submit_timeout,
                confirmation_timeout=self.submit_confirmation_timeout,
                array_success=self.array_success,
                skip_on=self.skip_on_exit_code or frozenset(),
                retries=self.retry_options,
                clears_forget=CLEARS_FORGET,
            ),
            store=store,
            kill=self._kill,
            announce=announce,
        )

    def _identity(self) -> dict[str, Any]:
        """What the author asks for, whatever is uploaded, grown or chosen for one try."""
        values = {name: getattr(self, name) for name in self.IDENTITY}
        return {name: value for name, value in values.items() if value is not None}

    def _do_render_template_fields(
        self,
        parent: Any,
        template_fields: Iterable[str],
        context: Context,
        jinja_env: jinja2.Environment,
        seen_oids: set[int],
    ) -> None:
        """Render as Airflow does, and remember what was rendered: see :meth:`_body_at`."""
        if parent is self:
            self._sources = {name: getattr(self, name) for name in self.IDENTITY}
            self._jinja_env = jinja_env
        super()._do_render_template_fields(parent, template_fields, context, jinja_env, seen_oids)

    def _body_at(self, context: Context, try_number: int) -> str:
        """The hash of the body as it would have been at another try: the fields are rendered anew."""
        ti: Any = AtTry(context["ti"], try_number)
        earlier: Any = {**context, "ti": ti, "task_instance": ti}
        values = self._identity()
        for name in [name for name in values if name in self._sources]:
            value = self._render_anew(name, earlier)
            values[name] = self.READERS[name](name, value) if name in self.READERS else value
        return identity_of(context, "", "", values).tag.body

    def _render_anew(self, name: str, context: Context) -> Any:
        # a task's own template_fields are those that its values have now, after they were rendered
        if name not in type(self).template_fields:
            return self._sources[name]
        return self.render_template(self._sources[name], context, self._jinja_env, set())

    def _abandon(self, context: Context) -> None:
        """Cancel a job that nobody waits for any more, and see that it is gone."""
        ti = context["ti"]
        job_id = ti.xcom_pull(task_ids=ti.task_id, key="job_id", map_indexes=ti.map_index)
        if job_id is None:
            self.log.warning("There is no XCom job_id, so no job is cancelled.")
            return
        number = given.job_id("XCom job_id", job_id)
        with ClusterraHook(self.clusterra_conn_id, self.cluster_id).connect() as connected:
            access, cluster_id = connected.settings.access, connected.cluster_id
        job = asyncio.run(cancel_now(access, cluster_id, number))
        self.log.warning("Job %s was cancelled: it is %s.", number, state_of(job))
        store_of(context).save_failure(Failure("CANCELLED"))

    def _wait(
        self,
        context: Context,
        connected: Connected,
        job: TaskJob,
        store: RecordStore,
        queue: Mapping[str, Any],
    ) -> Any:
        """Wait in the triggerer; if the task does not defer, the same ``watch/wait.py`` runs here."""
        from airflow_provider_clusterra.triggers import jobs as triggers
        from airflow_provider_clusterra.watch.tail import write_output

        trigger = triggers.ClusterraJobTrigger(
            **{name: getattr(self, name) for name in triggers.SAME_ARGUMENTS},
            job_id=job.job_id,
            cluster_id=connected.cluster_id,
            job_name=job.name,
            since=time.time(),
            array=job.array,
            poll_interval=self.poll_interval,
            deadline=queue["deadline"],
            limit=queue["limit"],
            owns_job=True,
            cancel_on_kill=self.cancel_on_kill,
            # only a tag is found by the next try
            kept_on_clear=stays_on_clear(context) and read_tag(job.name) is not None,
            adopted_at=job.adopted_at,
        )
        event = trigger.first_look(connected.client, job.seen)
        if event is None:
            self._kill.check()
            if self.deferrable:
                self.defer(
                    trigger=trigger,
                    method_name="execute_complete",
                    kwargs={"keys": self._keys} if self._keys else None,
                    timeout=triggers.deferral_timeout(trigger.spec.deadline),
                )
            event = self._kill.run(trigger.wait())
        elif self.follow_output:
            # it had ended before anybody could follow it
            write_output(connected.client.access, event.cluster_id, event.job, self.log)
        self._kill.check()
        return self._end(context, connected.client, event, store)

    def _end(self, context: Context, client: Client, event: JobEvent, store: RecordStore) -> Any:
        from airflow_provider_clusterra.task.fetching import outputs_of
        from airflow_provider_clusterra.task.result import end_try, has_succeeded

        is_cancelled = event.outcome == "ended" and is_replaced(event.job, event.adopted_at)
        if is_cancelled and not has_succeeded(event.job, store, self.array_success):
            return self._replace(context, client, event, store)
        event = self._cancel_given_up(client, event)
        outputs = outputs_of(
            self,
            context,
            client,
            event.cluster_id,
            artifacts=partial(self._find_artifacts, client, event.cluster_id),
            check=self._kill.check,
        )
        codes = given.exit_codes("skip_on_exit_code", self.skip_on_exit_code)
        with self.lineage_of(event.cluster_id, event.job_id) as known:
            result = end_try(
                context, client, event, self._reading, self.array_success, store, codes, outputs
            )
            known.update(result)
        return self.read_result(context, result)

    def _cancel_given_up(self, client: Client, event: JobEvent) -> JobEvent:
        """The event; a job that the wait gave up and could not cancel, in an outage, is cancelled now."""
        is_gone = event.job is not None and event.job.state.finished
        if is_gone or event.outcome in ("ended", "lost"):
            return event
        try:
            job = self._kill.run(cancel_now(client.access, event.cluster_id, event.job_id))
        except ClusterraError as error:
            self.log.error("Job %s cannot be cancelled now either: %s", event.job_id, error)  # noqa: TRY400
            return event
        self.log.warning("Job %s was cancelled after all: it is %s.", event.job_id, state_of(job))
        return replace(event, job=job or event.job)

    def _replace(
        self, context: Context, client: Client, event: JobEvent, store: RecordStore
    ) -> Any:
        """Submit a new job: the cancel that ended this one was under way when this try adopted it."""
        from airflow_provider_clusterra.watch.tail import write_output

        store.save_failure(failure_of(event.job))
        self.log.warning(
            "Job %s, which this try had adopted, had been cancelled before; it is replaced.",
            event.job_id,
        )
        if self.follow_output and self.deferrable:
            # Airflow begins the trigger's log anew at a second deferral
            write_output(client.access, event.cluster_id, event.job, self.log)
        return self.execute(context)


def store_of(context: Context) -> RecordStore:
    """What Airflow remembers of the task; in a loop, of this iteration."""
    from airflow_provider_clusterra.submit.submission import RecordStore

    return RecordStore(context.get("task_state_store"), iteration_of(context))


def stays_on_clear(context: Context) -> bool:
    """Whether the try after a clear still counts as this task's next. Airflow 3.4 recreates the tasks of a
    loop, and those that an older Airflow mapped (they have no region)."""
    if not CLEARS_FORGET or iteration_of(context):
        return False
    ti: Any = context["ti"]
    return map_index_of(context) < 0 or UUID(str(ti.region_id)).int != 0


class AtTry:
    """A task instance as it was at another try, for templates."""

    def __init__(self, ti: Any, try_number: int) -> None:
        self._ti = ti
        self.try_number = try_number

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ti, name)


def find_template(client: Client, template_id: str) -> tuple[Template, Template | None]:
    """A template, and of a preset its parent."""
    if not template_id:
        raise InputError("template_id is empty. Give a template's id, e.g. 'gromacs'.")
    template = _find(client, template_id)
    return template, _find(client, template.parent_id) if template.parent_id else None


def _find(client: Client, template_id: str) -> Template:
    from airflow_provider_clusterra.api.templates import nearest

    try:
        return client.get_template(template_id)
    except NotFoundError as exc:
        known = [each.template_id for each in client.list_templates()]
        near = nearest(template_id, known)
        hint = f"Did you mean {near}?" if near else f"There is {', '.join(known) or 'none'}."
        raise InputError(f"There is no template {template_id!r}. {hint}") from exc


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

    :param script: the batch script's text, beginning with a shebang; or one line with the name or path
        of a file beside the DAG or in its ``template_searchpath``, perhaps with arguments behind it.
    :param script_arguments: what the script finds as ``$1``, ``$2`` …, behind those that stand behind
        its file's name: ``script="train.sh 3 cfg.yaml"``.
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
    :param environment: variables of the job, as a dict or a list of ``"NAME=value"``; nothing of the worker's own environment goes there.
        Airflow shows them as rendered fields: give secrets by name.
    :param login_environment: whether HOME, USER and the user's own PATH are there.
    :param working_directory: a folder on the cluster; otherwise ``/mnt/efs``.
    :param container: an image that the script runs in, e.g. ``"docker://python:3.12"`` or
        ``"/shared/images/md.sif"``; the connection's ``container_runtime`` starts it.
    :param container_mounts: folders of the node that are there as well, each
        ``"SOURCE[:TARGET[:OPTIONS]]"``; the job's own folder always is.
    :param container_workdir: the folder in which the script begins; otherwise the job's own.
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
    :param exclude_failed_nodes: whether a retry excludes the nodes that failed under earlier tries
        (NODE_FAIL, BOOT_FAIL), the last 16 at most. Needs Airflow 3.3.

    All arguments of :class:`~airflow_provider_clusterra.operators.jobs.SubmitOperator` as well.
    """

    IDENTITY: Sequence[str] = (
        "script",
        "script_arguments",
        *JOB_ARGUMENTS,
        "environment",
        "login_environment",
        "job",
        "uploads",
        *("container", "container_mounts", "container_workdir"),
    )
    READERS: ClassVar[dict[str, given.Reader]] = {
        **SubmitOperator.READERS,
        **dict.fromkeys(("script", *JOB_ARGUMENTS), given.text),
        **dict.fromkeys(("nodes", "tasks", "cpus_per_task", "gpus"), given.whole),
        **dict.fromkeys(("memory", "memory_per_cpu"), given.whole),
        "script_arguments": given.optional(given.texts),
        "environment": given.optional(given.environment),
        "login_environment": given.flag,
        "job": given.optional(given.job_fields),
        "uploads": given.optional(given.mapping),
        "container": given.optional(given.image),
        "container_mounts": given.optional(given.mounts),
        "container_workdir": given.optional(given.folder),
    }
    template_fields = given.GivenFields(*IDENTITY, *SubmitOperator.template_fields)
    _download_route = ""
    _unreadable: Exception | None = None
    template_fields_renderers = {  # noqa: RUF012 - Airflow's form
        "script": "bash",
        "environment": "json",
        "job": "json",
    }

    def __init__(  # noqa: PLR0913 - an operator's arguments are its form
        self,
        *,
        script: str | os.PathLike[str],
        script_arguments: Sequence[Any] | None = None,
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
        container: str | None = None,
        container_mounts: Sequence[str] | None = None,
        container_workdir: str | None = None,
        job: Mapping[str, Any] | None = None,
        uploads: Mapping[str, Source] | None = None,
        array_success: ArraySuccess = "all",
        retry_failed_indices: bool = False,
        grow_on_retry: Mapping[str, float] | None = None,
        max_memory: int | str | None = None,
        max_time_limit: timedelta | float | str | None = None,
        exclude_failed_nodes: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        given.check_array_success(array_success)
        self.array_success = array_success
        with given.argument_errors():
            growth = read_growth(grow_on_retry, max_memory, max_time_limit)
        self.retry_options = RetryOptions(retry_failed_indices, growth, exclude_failed_nodes)
        self.script = given.text("script", script)
        self.script_arguments = script_arguments
        self.render_script = render_script
        # past Airflow's __setattr__, which looks for a converter and a place in the DAG for each
        vars(self).update(
            name=name,
            partition=partition,
            account=account,
            qos=qos,
            nodes=nodes,
            tasks=tasks,
            cpus_per_task=cpus_per_task,
            memory=memory,
            memory_per_cpu=memory_per_cpu,
            time_limit=time_limit,
            gpus=gpus,
            constraint=constraint,
            exclusive=exclusive,
            licenses=licenses,
            dependency=dependency,
            requeue=requeue,
            signal=signal,
            working_directory=working_directory,
        )
        self.array = array
        self.environment = environment
        self.login_environment = login_environment
        self.container = container
        self.container_mounts: Any = container_mounts
        self.container_workdir = container_workdir
        self.job = job
        self.uploads = uploads
        given.check_plain(self, self.READERS)

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
            try:
                self._take_script(self._render_script(self.script, context))
            except Exception as error:  # noqa: BLE001 - raised once the script is needed
                # Airflow renders at a resume, too, when the job has its script already
                self._unreadable = error

    def _take_script(self, tidy: TidyScript) -> None:
        self.script = tidy.text
        if tidy.arguments:
            self.script_arguments = [*tidy.arguments, *(self.script_arguments or [])]
        for words in tidy.warnings:
            self.log.warning(words)

    def _render_script(self, script: str, context: Context) -> TidyScript:
        from airflow_provider_clusterra.task.report import airflow_errors
        from airflow_provider_clusterra.task.script import render_script

        dag = self.get_dag()
        env = dag.get_template_env(force_sandboxed=True) if dag else self.get_template_env()
        with airflow_errors(self.clusterra_conn_id):
            return render_script(script, env, context, jinja=self.render_script)

    def _render_anew(self, name: str, context: Context) -> Any:
        source = self._sources.get("script")
        if name not in ("script", "script_arguments") or not isinstance(source, str):
            return super()._render_anew(name, context)
        tidy = self._render_script(source, context)
        if name == "script":
            return tidy.text
        return [*tidy.arguments, *(super()._render_anew(name, context) or [])]

    def build_request(self, context: Context, connected: Connected) -> Request:
        """See :meth:`SubmitOperator.build_request`."""
        if self._unreadable is not None:
            raise self._unreadable
        request = self._read_job(context, connected.settings)
        if self.durable:
            request.check_tagged()
        if self.return_output:
            check_output_is_shown(request.components[0], connected.find_output_folder)
        if self.outputs:
            paths = [file.path or "" for file in self.outputs.values()]
            check_files_are_shared(request.components[0], paths, connected.find_output_folder)
        for words in request.warnings(connected.settings.access.session_end()):
            self.log.warning(words)
        if self.uploads:
            from airflow_provider_clusterra.task import inputs

            self._inputs = inputs.find_inputs(self.uploads, context)
            inputs.check_variables([*self._inputs], self.environment or {})
            self._download_route = inputs.download_route(connected.client)
        return request

    def _upload_inputs(self, connected: Connected, request: Any) -> Any:
        from airflow_provider_clusterra.task import inputs

        client, cluster_id = connected.client, connected.cluster_id
        inputs.upload_files(client, cluster_id, self._inputs, self._keys)
        found = inputs.download_variables(client, cluster_id, self._keys, self._download_route)
        return request.with_environment(found)

    def _read_job(self, context: Context, settings: ConnectionSettings) -> JobRequest:
        from airflow_provider_clusterra.sbatch import job as sbatch

        ti = context["ti"]
        arguments = {name: getattr(self, name) for name in JOB_ARGUMENTS}
        variables = context_to_airflow_vars(context, in_env_var_format=True)
        variables |= parent_variables(ti)
        if self.login_environment:
            variables["SLURM_GET_USER_ENV"] = "1"
        request = sbatch.read_arguments(
            self.script,
            arguments,
            job=self.job or {},
            environment=self.environment or {},
            now=datetime.now(settings.timezone),
            name=f"{ti.dag_id}.{ti.task_id}",
            defaults=variables,
            script_arguments=self.script_arguments or (),
        )
        owner = owner_of(context, waits=self.wait_for_completion)
        request = request.with_comment(owner.comment(ti.try_number))
        container = sbatch.read_container(
            self.container, self.container_mounts, self.container_workdir
        )
        if container is None:
            return request
        contained = sbatch.in_container(request, container, settings.container_runtime)
        self.log.debug("The script that runs the job in a container:\n%s", contained.script)
        return contained


class ClusterraSubmitTemplateOperator(SubmitOperator):
    """Submit a template of the catalogue, wait until its job has ended, and return what became of it.

    The values are checked against the template's own schema before anything is submitted.

    :param template_id: e.g. ``"gromacs"``; a preset's, too.
    :param template_params: values of its inputs and parameters by name; those left out have the
        template's own. ``job_name``, if the template has it, is otherwise
        ``<dag_id>.<task_id>``.
    :param uploads: files of the worker by the names of parameters: ``{"input_tpr": "data/md.tpr"}``
        uploads the file, and gives the parameter its key.

    All arguments of :class:`~airflow_provider_clusterra.operators.jobs.SubmitOperator` as well.
    """

    IDENTITY: Sequence[str] = ("template_id", "template_params", "uploads")
    READERS: ClassVar[dict[str, given.Reader]] = {
        **SubmitOperator.READERS,
        "template_id": given.text,
        **dict.fromkeys(("template_params", "uploads"), given.optional(given.mapping)),
    }
    template_fields = given.GivenFields(*IDENTITY, *SubmitOperator.template_fields)
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
        given.check_plain(self, self.READERS)

    def build_request(self, context: Context, connected: Connected) -> Request:
        """See :meth:`SubmitOperator.build_request`."""
        from airflow_provider_clusterra.api import templates
        from airflow_provider_clusterra.task.inputs import find_inputs

        self._inputs = find_inputs(self.uploads, context)
        template, parent = find_template(connected.client, self.template_id)
        self._declared = (parent or template).artifacts
        checked = templates.check_template(
            template, self.template_params or {}, [*self._inputs], parent
        )
        for words in checked.warnings:
            self.log.warning(words)
        ti = context["ti"]
        name = templates.job_name_of(parent or template, checked, f"{ti.dag_id}.{ti.task_id}")
        return templates.TemplateRequest(checked, name)

    def _upload_inputs(self, connected: Connected, request: Any) -> Any:
        from airflow_provider_clusterra.task.inputs import upload_files

        upload_files(connected.client, connected.cluster_id, self._inputs, self._keys)
        return request.with_params(self._keys)

    def _find_artifacts(self, client: Client, cluster_id: str, job_id: int) -> Mapping[str, str]:
        from airflow_provider_clusterra.api.templates import render_artifacts

        template, parent = find_template(client, self.template_id)
        chassis = parent or template
        if not chassis.artifacts:
            return {}
        try:
            notes = client.find_run(cluster_id, job_id)
        except NotFoundError:
            notes = client.find_run(cluster_id, job_id, forgotten=True)
        values = given.optional(given.mapping)("template_params", self.template_params) or {}
        return render_artifacts(chassis, template, {**values, **self._keys}, notes)
