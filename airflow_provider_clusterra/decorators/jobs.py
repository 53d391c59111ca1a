"""``@task.clusterra``: a Python function whose body runs as a job."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, ClassVar

from airflow.providers.common.compat.sdk import (
    Context,
    DecoratedOperator,
    TaskDecorator,
    task_decorator_factory,
)

from airflow_provider_clusterra.api.errors import InputError
from airflow_provider_clusterra.decorators.program import (
    check_interpreter,
    read_source,
    read_value,
    write_program,
)
from airflow_provider_clusterra.hooks.clusterra import ClusterraHook
from airflow_provider_clusterra.operators.jobs import ClusterraSubmitJobOperator
from airflow_provider_clusterra.task.report import airflow_errors

OUTPUT_READ = 1024 * 1024
"""Bytes at the end of the output in which the value is looked for."""


class ClusterraDecoratedOperator(DecoratedOperator, ClusterraSubmitJobOperator):
    """Run a function of the DAG file as a job, and return its value.

    :param python_callable: the function. Only its own source travels: it imports inside of itself.
    :param python: the interpreter on the cluster, 3.7 or newer: a path, or a name to be found there.
    :param op_args: positional arguments, as JSON.
    :param op_kwargs: other arguments, as JSON; those that are named as in Airflow's context and not
        given, e.g. ``ds``, are taken from there.

    All else is :class:`~airflow_provider_clusterra.operators.jobs.ClusterraSubmitJobOperator`'s.
    Its result is pushed to XCom as ``job``; what is returned is the function's value.
    """

    template_fields: Sequence[str] = (
        *DecoratedOperator.template_fields,
        *(name for name in ClusterraSubmitJobOperator.template_fields if name != "script"),
        "python",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {
        **DecoratedOperator.template_fields_renderers,
        **ClusterraSubmitJobOperator.template_fields_renderers,
    }
    custom_operator_name = "@task.clusterra"

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],
        python: str = "python3",
        op_args: Collection[Any] | None = None,
        op_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        read_source(python_callable)
        if kwargs.get("array"):
            raise InputError(
                "@task.clusterra: a function has one value, and an array would run it for each index. "
                "Leave array out, and map the task with .expand()."
            )
        super().__init__(
            python_callable=python_callable,
            op_args=op_args,
            op_kwargs=op_kwargs,
            script="",
            **kwargs,
        )
        self.python = python

    def execute(self, context: Context) -> Any:
        """Submit the function as a job, and wait.

        :returns: the function's value; without waiting ``{"job_id", "name"}``.
        :raises AirflowFailException: what no retry can heal.
        :raises JobError: the job ended badly, e.g. by an exception; its traceback is in the words.
        """
        with airflow_errors(self.clusterra_conn_id):
            check_interpreter(self.python)
            taken = {
                name: context[name]  # type: ignore[literal-required]
                for name in self._parameters()
                if name in context and name not in self.op_kwargs
            }
            self.script = write_program(
                self.python_callable, self.python, [*self.op_args], {**taken, **self.op_kwargs}
            )
        return self._value(context, super().execute(context))

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """Go on after the deferral.

        :param event: as :meth:`~airflow_provider_clusterra.triggers.events.JobEvent.to_payload`
            made it.
        :returns: as :meth:`execute`.
        :raises JobError: the job ended badly.
        """
        return self._value(context, super().execute_complete(context, event))

    def _value(self, context: Context, job: dict[str, Any]) -> Any:
        if not self.wait_for_completion:
            return job
        context["ti"].xcom_push(key="job", value=job)
        with airflow_errors(self.clusterra_conn_id):
            hook = ClusterraHook(self.clusterra_conn_id, self.cluster_id)
            with hook.client() as client:
                cluster_id = hook.find_cluster(client)
                return read_value(client.read_output(cluster_id, job["job_id"], OUTPUT_READ))

    def _parameters(self) -> Sequence[str]:
        """Those of the function that no positional argument fills."""
        code = self.python_callable.__code__
        names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        return names[len(self.op_args) :]


def clusterra_task(
    python_callable: Callable[..., Any] | None = None,
    multiple_outputs: bool | None = None,  # noqa: FBT001 - Airflow's form
    **kwargs: Any,
) -> TaskDecorator:
    """Make a function a task that runs it as a job: what ``@task.clusterra`` is.

    :param python_callable: the function.
    :param multiple_outputs: whether each key of a returned dict is an XCom of its own.
    """
    return task_decorator_factory(
        python_callable=python_callable,
        multiple_outputs=multiple_outputs,
        decorated_operator_class=ClusterraDecoratedOperator,
        **kwargs,
    )
