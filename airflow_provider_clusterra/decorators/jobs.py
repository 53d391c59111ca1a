"""``@task.clusterra``: a Python function whose body runs as a job."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, ClassVar

from airflow.providers.common.compat.sdk import (
    Context,
    DecoratedOperator,
    TaskDecorator,
    task_decorator_factory,
)

from airflow_provider_clusterra.api.client import Client
from airflow_provider_clusterra.decorators.program import (
    check_interpreter,
    plain_loop,
    read_source,
    read_value,
    returned_keys,
    write_program,
)
from airflow_provider_clusterra.hooks.clusterra import Connected
from airflow_provider_clusterra.links.jobs import KEY as LINK
from airflow_provider_clusterra.operators.jobs import ClusterraSubmitJobOperator
from airflow_provider_clusterra.submit.submission import Request
from airflow_provider_clusterra.task.arguments import ArgumentError

OUTPUT_READ = 1024 * 1024
"""Bytes at the end of the output in which the value is looked for."""
OUR_KEYS = frozenset({"job", "job_id", LINK})
"""XComs that the task pushes by itself."""


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
    IDENTITY: Sequence[str] = (
        *("source", "op_args", "op_kwargs", "python"),
        *(name for name in ClusterraSubmitJobOperator.IDENTITY if name != "script"),
    )
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
        self.source = read_source(python_callable)
        super().__init__(
            python_callable=python_callable,
            op_args=op_args,
            op_kwargs=op_kwargs,
            script="",
            **kwargs,
        )
        self.python = python
        # what default_args give is known only now
        check_no_array(self.array)
        if self.multiple_outputs:
            check_keys(python_callable.__name__, returned_keys(python_callable))

    def build_request(self, context: Context, connected: Connected) -> Request:
        """See :meth:`~airflow_provider_clusterra.operators.jobs.SubmitOperator.build_request`."""
        check_interpreter(self.python)
        taken = {
            name: context[name]  # type: ignore[literal-required]
            for name in self._parameters()
            if name in context and name not in self.op_kwargs
        }
        loop = plain_loop(taken.pop("loop")) if "loop" in taken else None
        self.script = write_program(
            self.python_callable, self.python, [*self.op_args], {**taken, **self.op_kwargs}, loop
        )
        request = super().build_request(context, connected)
        check_no_array(request.array)
        return request

    def read_result(
        self, context: Context, client: Client, cluster_id: str, result: dict[str, Any]
    ) -> Any:
        """See :meth:`~airflow_provider_clusterra.operators.jobs.SubmitOperator.read_result`."""
        value = read_value(client.read_output(cluster_id, result["job_id"], OUTPUT_READ))
        if self.multiple_outputs and isinstance(value, dict):
            check_keys(self.python_callable.__name__, value)
        context["ti"].xcom_push(key="job", value=result)
        return value

    def _parameters(self) -> Sequence[str]:
        """Those of the function that no positional argument fills."""
        code = self.python_callable.__code__
        names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        return names[len(self.op_args) :]


def check_no_array(array: Any) -> None:
    """Refuse an array, whichever way it is asked for."""
    if array:
        raise ArgumentError(
            "@task.clusterra: a function has one value, and an array would run it for each index. "
            "Leave array out, and map the task with .expand()."
        )


def check_keys(name: str, keys: Iterable[Any]) -> None:
    """Refuse outputs that would overwrite XComs of ours."""
    taken = sorted(OUR_KEYS.intersection(keys))
    if taken:
        raise ArgumentError(
            f"@task.clusterra: {name} returns the key {taken[0]!r}, and with multiple_outputs it would "
            f"overwrite the XCom {taken[0]} of the job itself. Rename it."
        )


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
