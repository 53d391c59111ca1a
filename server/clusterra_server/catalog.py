"""Templates: their list, their schema, and a submit of one as a raw one.

A template is a pair of files in ``templates/``: its schema as the API shows it, and its script. The
values reach the script as variables, each under its own name in capitals, so nothing that a user
gives is ever read as a part of the script.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from clusterra_server.backend import ReplyError

DIRECTORY = "/mnt/efs"
SCRIPT = "script_body"
"""The parameter that is a template's script, if it has no file of its own."""
NUMBERS = ("number", "int", "integer", "float")


class TemplateError(ReplyError):
    """A submit of a template that is not taken."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """A submit of a template as a raw one."""

    body: dict[str, Any]
    """``{"script": str, "job": {…}}``."""
    run_id: str
    in_steps: bool
    """Whether it was asked as a run of steps, whose answer has other names."""

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        """The answer to the raw submit as the answer to this one.

        :param body: with ``job_id`` if the job was accepted.
        """
        named = dict(body)
        if self.in_steps and "job_id" in named:
            named["slurm_job_id"] = named.pop("job_id")
        return {**named, "run_id": self.run_id}


class Catalog:
    """The templates that come with the package."""

    def __init__(self) -> None:
        folder = files(__package__).joinpath("templates")
        found = {each.name: each.read_text("utf-8") for each in folder.iterdir() if each.is_file()}
        schemas = [json.loads(text) for name, text in found.items() if name.endswith(".json")]
        self.schemas: dict[str, dict[str, Any]] = {
            schema["id"]: schema for schema in sorted(schemas, key=lambda each: str(each["id"]))
        }
        """Each template as the API shows it, by its id."""
        self._scripts = {
            name.removesuffix(".sh"): text for name, text in found.items() if name.endswith(".sh")
        }

    def render(self, body: Mapping[str, Any], email: str) -> Rendered | None:
        """A submit as a raw one, or None if it is one already.

        :param body: ``{"template_id", "params"}``, or ``{"run_name", "steps": [{"template_id",
            "inputs", "params"}]}``.
        :param email: the user's.
        :raises TemplateError: it cannot be submitted; the words say why.
        """
        steps = body.get("steps")
        if steps is None and "template_id" not in body:
            return None
        step = body if steps is None else _only(steps)
        schema = self._find(str(step.get("template_id")))
        values = read_values(schema, step)
        run_id = str(uuid.uuid4())
        job = {
            "name": values.get("job_name") or body.get("run_name") or schema["id"],
            "nodes": "1",
            "current_working_directory": values.get("working_directory") or DIRECTORY,
            "comment": f"clusterra:run_id={run_id};user_email={email}",
            "environment": [
                "PATH=/usr/local/bin:/usr/bin:/bin",
                f"RUN_ID={run_id}",
                *_variables(values),
            ],
        }
        script = self._scripts.get(schema["id"], values.get(SCRIPT))
        return Rendered({"script": script, "job": job}, run_id, steps is not None)

    def _find(self, template_id: str) -> dict[str, Any]:
        schema = self.schemas.get(template_id)
        if schema is None:
            raise TemplateError(404, f'template "{template_id}" not found')
        if schema["kind"] == "preset":
            raise TemplateError(400, f"{template_id} is a preset: submit {schema['parent_id']}")
        if not schema["ready"] or schema["kind"] != "batch":
            raise TemplateError(400, f"{template_id} cannot be submitted: it is no ready batch job")
        return schema


def _only(steps: Any) -> Mapping[str, Any]:
    """A run's one step.

    :raises TemplateError: it is none, or not the only one.
    """
    if not isinstance(steps, list) or len(steps) != 1:
        raise TemplateError(400, "a run has exactly one step here")
    if not isinstance(steps[0], Mapping):
        raise TemplateError(400, "a step is an object")
    return steps[0]


def _variables(values: Mapping[str, Any]) -> list[str]:
    given = {name: value for name, value in values.items() if name != SCRIPT}
    return [f"{name.upper()}={_as_text(value)}" for name, value in given.items()]


def read_values(schema: Mapping[str, Any], step: Mapping[str, Any]) -> dict[str, Any]:
    """A value for each input and parameter: the given one, or the template's own.

    :param schema: of either generation.
    :param step: holds ``params`` and perhaps ``inputs``.
    :raises TemplateError: a value is missing, not known, or wrong; the words name it.
    """
    given: dict[str, Any] = {}
    for place in ("inputs", "params"):
        part = step.get(place) or {}
        if not isinstance(part, Mapping):
            raise TemplateError(400, f"{place} is not an object")
        given |= part
    values = {}
    for name, row in _rows(schema):
        value = given.pop(name, row.get("default"))
        if value is None and row.get("required"):
            raise TemplateError(400, f"{name} is missing")
        values[name] = _check(name, row, value)
    if given:
        raise TemplateError(400, f"{', '.join(given)} is not known")
    return values


def _rows(schema: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for row in [*schema.get("inputs", []), *schema.get("parameters", [])]:
        yield row.get("key") or row["name"], row


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


FITS: dict[Any, tuple[Callable[[Any], bool], str]] = {
    **dict.fromkeys(NUMBERS, (_is_number, "a number")),
    "bool": (lambda value: isinstance(value, bool), "true or false"),
}
"""What a value of a kind must be; one of any other kind is a text, or is left out."""
TEXT: tuple[Callable[[Any], bool], str] = (lambda value: isinstance(value, str | None), "a text")


def _check(name: str, row: Mapping[str, Any], value: Any) -> Any:
    kind = row.get("widget") or row.get("type")
    fits, words = FITS.get(kind, TEXT)
    if not fits(value):
        raise TemplateError(400, f"{name} is not {words}")
    if kind in NUMBERS and not row.get("min", value) <= value <= row.get("max", value):
        raise TemplateError(400, f"{name} is out of range")
    if row.get("options") and value not in row["options"]:
        raise TemplateError(400, f"{name} is none of {row['options']}")
    return value


def _as_text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)
