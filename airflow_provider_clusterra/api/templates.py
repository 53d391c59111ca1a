"""A template, its parameters, and a user's values for them: checked before anything is submitted."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from msgspec.structs import replace

from airflow_provider_clusterra.api.errors import InputError
from airflow_provider_clusterra.api.jobs import first_text, read_flag, read_object, read_objects

if TYPE_CHECKING:
    from airflow_provider_clusterra.api.answers import Answer


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name that is most like this one, or ``""`` if none is."""
    # loading it takes as long as three of our modules, and only an error needs it
    from difflib import get_close_matches  # noqa: PLC0415

    return next(iter(get_close_matches(name, known, 1)), "")


KINDS = {
    **dict.fromkeys(("number", "float", "double"), "number"),
    **dict.fromkeys(("int", "integer"), "integer"),
    **dict.fromkeys(("bool", "boolean", "checkbox"), "bool"),
    **dict.fromkeys(("json_textarea", "nextflow_schema", "object"), "json"),
    "env_map": "map",
}
"""A widget or type as the schema says it, and what kind of value it takes; any other takes text."""
WHOLE = re.compile(r"[+-]?[0-9]{1,400}")
NAMED = re.compile(r"\{\{\s*\.([\w.]+)\s*\}\}")
"""A value's place in a path, e.g. ``{{.ctx.run_id}}``."""

Place = Literal["inputs", "params"]


class Param(msgspec.Struct, frozen=True):
    """One input or parameter of a template."""

    name: str
    kind: str = "text"
    """``"text"``, ``"number"``, ``"integer"``, ``"bool"``, ``"map"`` or ``"json"``."""
    place: Place = "params"
    required: bool = False
    default: Any = None
    has_default: bool = False
    options: tuple[Any, ...] = ()
    """The values it may have; empty is any."""
    least: float | None = None
    most: float | None = None


class ValueProblem(Exception):  # noqa: N818 - it is collected, not raised to anybody
    """What is wrong with one value, in words that begin with its name."""


def read_param(row: Mapping[str, Any], place: Place) -> Param:
    """One parameter, from either generation of the schema.

    :source: ``parameters`` and ``inputs`` of ``GET /v1/templates/{template_id}``.
    """
    options = row.get("options")
    return Param(
        name=first_text(row, "key", "name"),
        kind=KINDS.get(first_text(row, "widget", "type", "role").lower(), "text"),
        place=place,
        required=row.get("required") is True,
        default=row.get("default"),
        has_default=row.get("default") is not None,
        options=tuple(_option(each) for each in options) if isinstance(options, list) else (),
        least=_bound(row.get("min")),
        most=_bound(row.get("max")),
    )


def read_value(param: Param, value: Any) -> Any:
    """A value as the parameter takes it: what Jinja has turned into text is read back."""
    value = _plain(value)
    if param.has_default and value == param.default and type(value) is type(param.default):
        return value
    if param.options:
        return _read_option(param, value)
    read, takes = READERS.get(param.kind, READERS["text"])
    try:
        found = read(param, value)
    except ValueError as exc:
        raise ValueProblem(f"{param.name} is {shown(value)}, and takes {takes}") from exc
    if isinstance(found, int | float) and not isinstance(found, bool):
        _check_range(param, found)
    return found


def _read_option(param: Param, value: Any) -> Any:
    """The option that a value is, or else the first of which it is the text."""
    for means in (_is_option, _names_option):
        for option in param.options:
            if means(value, option):
                return option
    allowed = ", ".join(map(repr, param.options))
    raise ValueProblem(f"{param.name} is {value!r}, and may be {allowed}")


def _is_option(value: Any, option: Any) -> bool:
    # 1 is no True
    return bool(option == value) and isinstance(option, bool) == isinstance(value, bool)


def _names_option(value: Any, option: Any) -> bool:
    text = str(value).strip()
    return read_flag(text) is option if isinstance(option, bool) else str(option) == text


def _read_number(_: Param, value: Any) -> float:
    text = str(value).strip()
    if isinstance(value, bool) or "_" in text:
        # float() alone would read "1_0" as 10
        raise ValueError(text)
    if WHOLE.fullmatch(text):
        # as it is: a float holds only 53 bits of it
        return int(text)
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return int(number) if number.is_integer() and not isinstance(value, float) else number


def _read_integer(param: Param, value: Any) -> int:
    number = _read_number(param, value)
    if number != int(number):
        raise ValueError(number)
    return int(number)


def _read_bool(_: Param, value: Any) -> bool:
    found = read_flag(value)
    if found is None:
        raise ValueError(value)
    return found


def _read_text(param: Param, value: Any) -> str:
    is_one = isinstance(value, str | int | float) and not isinstance(value, bool)
    if not is_one:
        raise ValueError(value)
    if param.required and not str(value).strip():
        raise ValueProblem(f"{param.name} is empty")
    return str(value)


def _read_map(param: Param, value: Any) -> dict[str, str]:
    found = _decoded(value)
    is_map = isinstance(found, Mapping)
    if not is_map:
        raise ValueError(value)
    for name, each in found.items():
        if isinstance(each, dict | list | None):
            raise ValueProblem(f"{param.name}: {name} is {shown(each)}, and takes one text")
    return {str(_plain(name)): str(_plain(each)) for name, each in found.items()}


def _read_json(param: Param, value: Any) -> Any:
    if isinstance(value, Mapping | list):
        return _as_json(param.name, value)
    if not isinstance(value, str) or (value.strip() and _decoded(value) is None):
        raise ValueError(value)
    return value


def _as_json(name: str, value: Any) -> Any:
    """A value of JSON's own types, or one that an enum stands for."""
    value = _plain(value)
    if isinstance(value, Mapping):
        return {_key(name, key): _as_json(f"{name}.{key}", each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(f"{name}[{index}]", each) for index, each in enumerate(value)]
    if isinstance(value, str | int | None):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    raise ValueProblem(f"{name} is {shown(value)}, which JSON cannot hold: give a text or a number")


def _key(name: str, key: Any) -> str:
    if not isinstance(key, str):
        raise ValueProblem(f"{name} has the key {key!r}, and takes texts as keys")
    return str(_plain(key))


def _plain(value: Any) -> Any:
    """An enum's value, if it is a text or a number: ``str()`` of the enum may give its name."""
    is_enum = isinstance(value, Enum) and isinstance(value, str | int | float)
    return value.value if is_enum else value


READERS: dict[str, tuple[Callable[[Param, Any], Any], str]] = {
    "number": (_read_number, "a number"),
    "integer": (_read_integer, "a whole number"),
    "bool": (_read_bool, "true or false"),
    "map": (_read_map, "names with values"),
    "json": (_read_json, "JSON"),
    "text": (_read_text, "one text"),
}
"""How a value of each kind is read, and what to give."""


def _check_range(param: Param, number: float) -> None:
    if param.least is not None and number < param.least:
        raise ValueProblem(f"{param.name} is {number}, and must be {param.least:g} or more")
    if param.most is not None and number > param.most:
        raise ValueProblem(f"{param.name} is {number}, and must be {param.most:g} or less")


def _bound(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number else None


def _option(value: Any) -> Any:
    return value.get("value", value.get("label")) if isinstance(value, dict) else value


def _decoded(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return msgspec.json.decode(value)
    except (msgspec.DecodeError, RecursionError):
        return None


def shown(value: Any) -> str:
    """A value in an error's words, cut to 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


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
    outputs_dir: str = ""
    """Where its job writes, with ``{{.ctx.run_id}}`` and the like in it."""
    artifacts: Mapping[str, str] = {}
    """The files that its job writes, by their keys: paths, with ``{{.outputs.dir}}`` and the like."""


JOB_NAME = "job_name"
"""The parameter that is the job's name, in templates that take one."""


class CheckedParams(msgspec.Struct, frozen=True):
    """What is submitted: nothing in it is a default of the template's own."""

    template_id: str
    inputs: Mapping[str, Any]
    params: Mapping[str, Any]
    warnings: tuple[str, ...] = ()
    """What an author may not have meant, in words."""

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


class TemplateRequest(msgspec.Struct, frozen=True):
    """A template's values: a value until its POST renders it."""

    checked: CheckedParams
    name: str = ""
    """The job's name, if the template takes one; otherwise ``""``."""
    array: str = ""

    def renamed(self, name: str) -> TemplateRequest:
        """The job under another name."""
        return replace(self.with_params({JOB_NAME: name}), name=name)

    def with_params(self, params: Mapping[str, Any]) -> TemplateRequest:
        """The template with other values."""
        checked = replace(self.checked, params={**self.checked.params, **params})
        return replace(self, checked=checked)

    def body(self) -> dict[str, Any]:
        """The submit's JSON body."""
        return self.checked.body()


def read_templates(answer: Answer) -> list[Template]:
    """Templates; rows without an id are skipped."""
    return [_read(row) for row in answer.rows("templates") if row.get("id")]


def read_template(answer: Answer) -> Template:
    """One template, from the answer or its ``template``."""
    row = answer.object("template")
    if not row.get("id"):
        raise answer.unreadable("it holds no template")
    return _read(row)


NO_BATCH = {
    "interactive": "interactive: such a job never ends by itself",
    "workflow": "a workflow, which the server does not run as one job: submit a task for each of its "
    "steps",
}
"""Kinds of templates that are no batch job, and why."""


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
    given = {name: value for name, value in values.items() if value is not None}
    problems = [*_cannot_run(template, parent), *_not_taken(template, given, chassis)]
    taken = {**template.preset_values, **given, **template.static_values}
    placed: dict[str, dict[str, Any]] = {"inputs": {}, "params": {}}
    for param in chassis.params:
        try:
            placed[param.place] |= _given(param, taken.get(param.name))
        except ValueProblem as problem:
            problems.append(str(problem))
    if problems:
        raise InputError(f"Template {template.template_id}: {'; '.join(problems)}.")
    warnings = _suspicious(template, chassis, {**placed["inputs"], **placed["params"]})
    return CheckedParams(chassis.template_id, placed["inputs"], placed["params"], (*warnings,))


def _given(param: Param, value: Any) -> dict[str, Any]:
    """A parameter by its name with its value; nothing if the template's own default applies."""
    if value is not None:
        return {param.name: read_value(param, value)}
    if param.required and not param.has_default:
        raise ValueProblem(f"{param.name} is missing")
    return {}


TO_BE_UPLOADED = "uploads="
"""Stands for a key that is known after the upload only."""


def check_template(
    template: Template,
    values: Mapping[str, Any],
    uploads: Sequence[str],
    parent: Template | None,
) -> CheckedParams:
    """What is submitted; the values of uploads are put in their place later."""
    twice = [name for name in uploads if values.get(name) is not None]
    if twice:
        raise InputError(
            f"{', '.join(twice)} is in uploads and in template_params. Give it in one of them."
        )
    return check_params(template, {**values, **dict.fromkeys(uploads, TO_BE_UPLOADED)}, parent)


def job_name_of(template: Template, checked: CheckedParams, otherwise: str) -> str:
    """The name of a template's job, or ``""`` if the template takes none."""
    takes = any(
        param.name == JOB_NAME and param.kind == "text" and not param.options
        for param in template.params
    )
    return str(checked.params.get(JOB_NAME) or otherwise) if takes else ""


def _suspicious(template: Template, chassis: Template, values: Mapping[str, Any]) -> Iterator[str]:
    """Fractions for what is a whole number by default."""
    for param in chassis.params:
        value = values.get(param.name)
        if type(param.default) is int and isinstance(value, float) and value % 1:
            yield (
                f"Template {template.template_id}: {param.name} is {value}, and its default "
                f"{param.default} is a whole number."
            )


def _not_taken(template: Template, given: Mapping[str, Any], chassis: Template) -> Iterator[str]:
    """What is wrong with the names: not known, or fixed by the preset at another value."""
    known = {param.name: param for param in chassis.params}
    for name, value in given.items():
        if name not in known:
            yield _unknown(name, known)
        if name in template.static_values and value != template.static_values[name]:
            yield f"{name} is fixed by the preset at {template.static_values[name]!r}"


def _cannot_run(template: Template, parent: Template | None) -> Iterator[str]:
    """Why the template itself cannot be submitted as one batch job."""
    for each in filter(None, (template, parent)):
        if not each.ready:
            yield f"{each.template_id} is not ready: it is a preview"
        if each.kind in NO_BATCH:
            yield f"{each.template_id} is {NO_BATCH[each.kind]}"
    if template.kind == "preset" and not template.parent_id:
        yield (
            "it is a preset, and the catalogue does not say of which template (parent_id): submit "
            "that template with the preset's values"
        )
    elif template.kind == "preset" and parent is None:
        yield f"it is a preset, and its parent {template.parent_id!r} is not known"


def _unknown(name: str, known: Mapping[str, Param]) -> str:
    near = nearest(name, known)
    others = f"there is {', '.join(known) or 'no parameter'}"
    return f"{name} is not known ({f'did you mean {near}?' if near else others})"


def _read(row: Mapping[str, Any]) -> Template:
    outputs = read_object(row.get("outputs"))
    inputs = [read_param(each, "inputs") for each in read_objects(row.get("inputs"))]
    parameters = read_objects(row.get("parameters", row.get("params")))
    params = [*inputs, *(read_param(each, "params") for each in parameters)]
    return Template(
        template_id=str(row["id"]),
        name=first_text(row, "name"),
        description=first_text(row, "description"),
        kind=first_text(row, "kind") or "batch",
        ready=row.get("ready") is not False,
        params=tuple(param for param in params if param.name),
        parent_id=first_text(row, "parent_id"),
        static_values=read_object(row.get("static_values")),
        preset_values=read_object(row.get("schema_values")),
        outputs_dir=str(outputs.get("dir", "")),
        artifacts=_artifacts(outputs),
    )


def _artifacts(outputs: Mapping[str, Any]) -> dict[str, str]:
    rows = [(each.get("key"), each.get("path")) for each in read_objects(outputs.get("artifacts"))]
    return {str(key): str(path) for key, path in rows if key and path}


def render_artifacts(
    chassis: Template, template: Template, values: Mapping[str, Any], notes: Mapping[str, str]
) -> dict[str, str]:
    """The paths of the artifacts of a template's job; ``""`` if a part of one is unknown.

    ``chassis`` is a preset's parent, or the template itself; ``notes`` are what Clusterra notes of the
    job, e.g. its ``run_id``.

    :source: ``outputs`` of the template's schema, in Go's template form.
    """
    own = {param.name: param.default for param in chassis.params if param.has_default}
    taken = {**own, **template.preset_values, **values, **template.static_values}
    known = {
        f"{param.place}.{param.name}": str(taken.get(param.name) or "") for param in chassis.params
    }
    known |= {f"ctx.{name}": value for name, value in notes.items()}
    known["outputs.dir"] = _render(chassis.outputs_dir, known)
    return {key: _render(path, known) for key, path in chassis.artifacts.items()}


def _render(text: str, values: Mapping[str, str]) -> str:
    """A text with its values; empty if one of them is not known."""
    if not all(values.get(name) for name in NAMED.findall(text)):
        return ""
    return NAMED.sub(lambda match: values[match[1]], text)
