"""A template, its parameters, and a user's values for them: checked before anything is submitted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from airflow_provider_clusterra.api.answers import Answer
from airflow_provider_clusterra.api.errors import InputError
from airflow_provider_clusterra.api.spelling import nearest
from airflow_provider_clusterra.api.values import Param, ValueProblem, read_param, read_value


class Template(msgspec.Struct, frozen=True):
    """One template of the catalogue."""

    template_id: str
    name: str = ""
    description: str = ""
    kind: str = "batch"
    """``"batch"``, ``"interactive"``, ``"preset"``, ``"workflow"``, or what the API says."""
    ready: bool = True
    """False: a preview that cannot be submitted."""
    params: tuple[Param, ...] = ()
    parent_id: str = ""
    """A preset's parent, under whose id it is submitted."""
    static_values: Mapping[str, Any] = {}
    """What a preset fixes."""
    preset_values: Mapping[str, Any] = {}
    """What a preset gives, and a user may change."""


class CheckedParams(msgspec.Struct, frozen=True):
    """What is submitted: nothing in it is a default of the template's own."""

    template_id: str
    inputs: Mapping[str, Any]
    params: Mapping[str, Any]

    def body(self) -> dict[str, Any]:
        """The submit's JSON body in its documented form, inputs and parameters together.

        :source: ``POST /v1/clusters/{cluster_id}/jobs/submit``, "Submit from a template".
        """
        return {"template_id": self.template_id, "params": {**self.inputs, **self.params}}

    def run_body(self, run_name: str) -> dict[str, Any]:
        """The submit's JSON body in its newer form: a run of one step.

        :param run_name: what the console shows.
        :source: the same route; seen in use, not documented.
        """
        step = {
            "step_id": "main",
            "template_id": self.template_id,
            "inputs": dict(self.inputs),
            "params": dict(self.params),
        }
        return {"run_name": run_name, "steps": [step]}


def read_templates(answer: Answer) -> list[Template]:
    """Templates; a row without an id is none.

    :param answer: a yes, with ``templates`` or a bare list.
    """
    return [_read(row) for row in answer.rows("templates") if row.get("id")]


def read_template(answer: Answer) -> Template:
    """One template, from the answer or its ``template``.

    :param answer: a yes.
    :raises ProtocolError: it holds no template.
    """
    body = answer.object()
    inner = body.get("template")
    row = inner if isinstance(inner, dict) else body
    if not row.get("id"):
        raise answer.unreadable("it holds no template")
    return _read(row)


def check_params(
    template: Template, values: Mapping[str, Any], parent: Template | None = None
) -> CheckedParams:
    """A user's values as the template takes them, sorted into inputs and parameters.

    :param template: what the user names.
    :param values: by name; None is as good as left out.
    :param parent: a preset's parent.
    :raises InputError: it cannot be submitted so; the one error names all problems.
    :source: ``GET /v1/templates/{template_id}``, both generations of its schema.
    """
    chassis = parent or template
    known = {param.name: param for param in chassis.params}
    given = {name: value for name, value in values.items() if value is not None}
    problems = _cannot_run(template, parent)
    problems += [_unknown(name, known) for name in given if name not in known]
    problems += [
        f"{name} is fixed by the preset at {template.static_values[name]!r}"
        for name, value in given.items()
        if name in template.static_values and value != template.static_values[name]
    ]
    taken = {**template.preset_values, **given, **template.static_values}
    placed: dict[str, dict[str, Any]] = {"inputs": {}, "params": {}}
    for param in chassis.params:
        if param.name not in taken or taken[param.name] is None:
            if param.required and not param.has_default:
                problems.append(f"{param.name} is missing")
            continue
        try:
            placed[param.place][param.name] = read_value(param, taken[param.name])
        except ValueProblem as problem:
            problems.append(str(problem))
    if problems:
        raise InputError(f"Template {template.template_id}: {'; '.join(problems)}.")
    return CheckedParams(chassis.template_id, placed["inputs"], placed["params"])


def _cannot_run(template: Template, parent: Template | None) -> list[str]:
    """Why the template itself cannot be submitted as one batch job."""
    problems = []
    for each in filter(None, (template, parent)):
        if not each.ready:
            problems.append(f"{each.template_id} is not ready: it is a preview")
        if each.kind == "interactive":
            problems.append(f"{each.template_id} is interactive: such a job never ends by itself")
        if each.kind == "workflow":
            problems.append(
                f"{each.template_id} is a workflow, which the server does not run as one job: "
                "submit a task for each of its steps"
            )
    if template.kind == "preset" and parent is None:
        problems.append(f"it is a preset, and its parent {template.parent_id or ''!r} is not known")
    return problems


def _unknown(name: str, known: Mapping[str, Param]) -> str:
    near = nearest(name, known)
    if near:
        return f"{name} is not known (did you mean {near}?)"
    return f"{name} is not known (there is {', '.join(known) or 'no parameter'})"


def _read(row: Mapping[str, Any]) -> Template:
    inputs = [read_param(each, "inputs") for each in _objects(row.get("inputs"))]
    params = [
        read_param(each, "params") for each in _objects(row.get("parameters", row.get("params")))
    ]
    return Template(
        template_id=str(row["id"]),
        name=str(row.get("name") or ""),
        description=str(row.get("description") or ""),
        kind=str(row.get("kind") or "batch"),
        ready=row.get("ready") is not False,
        params=tuple(param for param in [*inputs, *params] if param.name),
        parent_id=str(row.get("parent_id") or ""),
        static_values=_object(row.get("static_values")),
        preset_values=_object(row.get("schema_values")),
    )


def _objects(value: Any) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _object(value: Any) -> dict[str, Any]:
    return {str(name): each for name, each in value.items()} if isinstance(value, dict) else {}
