"""``@task.clusterra``: a Python function whose body runs as a job."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from inspect import signature
from typing import Any, ClassVar

from airflow.providers.common.compat.sdk import (
    Context,
    DecoratedOperator,
    TaskDecorator,
    task_decorator_factory,
)
from msgspec.structs import replace

from airflow_provider_clusterra.api.calls import Output
from airflow_provider_clusterra.api.errors import InputError
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
from airflow_provider_clusterra.sbatch.job import JobRequest
from airflow_provider_clusterra.submit.submission import RecordStore, Request
from airflow_provider_clusterra.task.arguments import ArgumentError, GivenFields
from airflow_provider_clusterra.task.report import JobResultError
from airflow_provider_clusterra.task.result import Reading, read_result
from airflow_provider_clusterra.watch.arrays import write_indices

OUR_KEYS = frozenset({"job", "job_id", LINK})
"""XComs that the task pushes by itself."""


class ClusterraDecoratedOperator(DecoratedOperator, ClusterraSubmitJobOperator):
    """Run a function of the DAG file as a job, and return its value.

    :param python_callable: the function. Only its own source travels: it imports inside of itself.
    :param python: the interpreter on the cluster, 3.7 or newer: a path, or a name to be found there.
    :param map_over: the name of a parameter that is given a list: one array runs the function for each
        value, and the task returns the list of what they return, in order. A retry runs only those
        that have failed.
    :param max_running: at most so many of them run at once; otherwise as many as Slurm lets.
    :param op_args: positional arguments, as JSON.
    :param op_kwargs: other arguments, as JSON; those that are named as in Airflow's context and not
        given, e.g. ``ds``, are taken from there.

    All else is :class:`~airflow_provider_clusterra.operators.jobs.ClusterraSubmitJobOperator`'s.
    Its result is pushed to XCom as ``job``; what is returned is the function's value.
    """

    template_fields = GivenFields(
        *DecoratedOperator.template_fields,
        *(name for name in ClusterraSubmitJobOperator.template_fields if name != "script"),
        "python",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {
        **DecoratedOperator.template_fields_renderers,
        **ClusterraSubmitJobOperator.template_fields_renderers,
    }
    IDENTITY: Sequence[str] = (
        *("source", "op_args", "op_kwargs", "python", "map_over"),
        *(name for name in ClusterraSubmitJobOperator.IDENTITY if name != "script"),
    )
    custom_operator_name = "@task.clusterra"

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],
        python: str = "python3",
        map_over: str | None = None,
        max_running: int | None = None,
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
        self.map_over = map_over
        self.max_running = max_running
        if map_over is None and max_running is not None:
            raise ArgumentError(
                "@task.clusterra: max_running bounds a list; give map_over, or leave max_running out."
            )
        if map_over is not None:
            check_mapped(python_callable, map_over, max_running, outputs=self.multiple_outputs)
            if self.return_output:
                raise ArgumentError(
                    "@task.clusterra: map_over returns the list of values; leave return_output out."
                )
            self.retry_options = replace(
                self.retry_options, failed_indices=True, indexed_by=("op_args", "op_kwargs")
            )
        # default_args have been applied by now
        check_no_array(self.array)
        if self.multiple_outputs:
            check_keys(python_callable.__name__, returned_keys(python_callable))

    def _submit_and_wait(
        self, context: Context, connected: Connected, store: RecordStore, queue: dict[str, Any]
    ) -> Any:
        if self.map_over is None or self._values():
            return super()._submit_and_wait(context, connected, store, queue)
        self.log.info("%s is empty: there is nothing to run.", self.map_over)
        self._submission(context, connected, store).cancel_earlier()
        store.drop()
        return []

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
            self.python_callable,
            self.python,
            [*self.op_args],
            {**taken, **self.op_kwargs},
            loop,
            self._mapped_argument(),
        )
        request = super().build_request(context, connected)
        check_no_array(request.array)
        if self.map_over is None or not isinstance(request, JobRequest):
            return request
        limit = f"%{self.max_running}" if self.max_running else ""
        return request.with_array(f"0-{len(self._values()) - 1}{limit}")

    @property
    def _reading(self) -> Reading:
        """See :meth:`~airflow_provider_clusterra.operators.jobs.SubmitOperator._reading`."""
        return self._read

    def _read(self, output: Output) -> tuple[Any, Any]:
        """The function's value, and the output if ``return_output`` asks for it."""
        value = read_value(output)
        if self.multiple_outputs and isinstance(value, dict):
            check_keys(self.python_callable.__name__, value)
        return value, read_result(output, self.return_output) if self.return_output else None

    def read_result(self, context: Context, result: dict[str, Any]) -> Any:
        """See :meth:`~airflow_provider_clusterra.operators.jobs.SubmitOperator.read_result`."""
        if self.map_over is None:
            value, output = result["output"]
            context["ti"].xcom_push(key="job", value=result | {"output": output})
            return value
        context["ti"].xcom_push(key="job", value=result | {"output": None})
        return self._read_list(result)

    def _read_list(self, result: dict[str, Any]) -> list[Any]:
        """The values of the list's elements, in order; None of those that have not succeeded."""
        values = result["output"] if result["tasks"] else {}
        asked = [str(index) for index in range(len(self._values()))]
        if unknown := [index for index in asked if index not in values]:
            raise JobResultError(
                f"Job {result['job_id']} ended well, but Slurm has forgotten its index "
                f"{write_indices(map(int, unknown))}, whose value cannot be read. Clear the task to "
                "run all again."
            )
        found = [values[index] for index in asked]
        return [None if pair is None else pair[0] for pair in found]

    def _mapped_argument(self) -> int | str | None:
        """The position or name of the argument whose values the array's tasks take."""
        if self.map_over is None or self.map_over in self.op_kwargs:
            return self.map_over
        position = [*signature(self.python_callable).parameters].index(self.map_over)
        if position < len(self.op_args):
            return position
        raise InputError(f"@task.clusterra: map_over is {self.map_over!r}, which is given no list.")

    def _values(self) -> Sequence[Any]:
        place = self._mapped_argument()
        arguments: Any = self.op_kwargs if isinstance(place, str) else [*self.op_args]
        values = arguments[place]
        if isinstance(values, str | bytes) or not isinstance(values, Sequence):
            raise InputError(
                f"@task.clusterra: {self.map_over} is {values!r:.200}; with map_over it takes a list."
            )
        return values

    def _parameters(self) -> Sequence[str]:
        """The function's parameters that no positional argument fills."""
        code = self.python_callable.__code__
        names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        return names[len(self.op_args) :]


def check_mapped(
    function: Callable[..., Any], name: str, max_running: Any, *, outputs: bool
) -> None:
    """Refuse a list that cannot become an array."""
    if name not in signature(function).parameters:
        raise ArgumentError(
            f"@task.clusterra: map_over is {name!r}, and {function.__name__} has no such parameter."
        )
    is_count = isinstance(max_running, int) and not isinstance(max_running, bool)
    if max_running is not None and not (is_count and max_running > 0):
        raise ArgumentError(f"max_running is {max_running!r}; it takes a whole number above 0.")
    if outputs:
        raise ArgumentError("@task.clusterra: map_over returns a list; leave multiple_outputs out.")


def check_no_array(array: Any) -> None:
    """Refuse an array from an argument, ``job=`` or the script's lines."""
    if array:
        raise ArgumentError(
            "@task.clusterra: a function has one value, and an array would run it for each index. "
            "Leave array out, and map the task with .expand(), or give map_over the name of a "
            "parameter that takes a list."
        )


def check_keys(name: str, keys: Iterable[Any]) -> None:
    """Refuse keys that would overwrite the task's own XComs."""
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
    if kwargs.get("map_over") is not None and multiple_outputs is None:
        # Airflow would infer it from the annotation of one element
        multiple_outputs = False
    return task_decorator_factory(
        python_callable=python_callable,
        multiple_outputs=multiple_outputs,
        decorated_operator_class=ClusterraDecoratedOperator,
        **kwargs,
    )
