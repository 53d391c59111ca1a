"""The fields of a job as slurmrestd v0.0.44 has them: a user's own are checked by name and form."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import msgspec

from airflow_provider_clusterra.api.errors import InputError
from airflow_provider_clusterra.api.numbers import no_val
from airflow_provider_clusterra.api.spelling import nearest

OURS = {
    "script": "give it as the script",
    "user_id": "the API sets it",
    "group_id": "the API sets it",
}
"""Fields that a user cannot give, and why."""
TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "boolean": (bool,),
    "object": (dict,),
}
FLAGS = {"true": True, "false": False}


@functools.cache
def job_fields() -> dict[str, str | list[str]]:
    """Each field's form: its JSON type, ``"no_val"``, ``"array"``, or the words of a list.

    :source: ``job_desc_msg`` of slurmrestd v0.0.44's OpenAPI document.
    """
    text = files(__package__).joinpath("job_fields.json").read_bytes()
    return msgspec.json.decode(text, type=dict[str, str | list[str]])


def check_fields(job: Mapping[str, Any]) -> dict[str, Any]:
    """A user's own fields, in the forms that the API takes.

    :param job: by slurmrestd's names; a plain number where it has ``{"set", "infinite", "number"}``
        and a plain word where it has a list of words are fine.
    :raises InputError: a field is not known, or cannot have its value; the words name it.
    """
    return {name: _checked(name, value) for name, value in job.items()}


def _checked(name: str, value: Any) -> Any:
    if name in OURS:
        raise InputError(f"job: {name} cannot be given here: {OURS[name]}.")
    form = job_fields().get(name)
    if form is None:
        near = nearest(name, job_fields())
        hint = f" Did you mean {near}?" if near else ""
        raise InputError(f"job: slurmrestd v0.0.44 has no field {name!r}.{hint}")
    if isinstance(form, list):
        return _words(name, value, form)
    if form == "no_val":
        return _number(name, value)
    if form == "array":
        return _list(name, value)
    value = _from_text(form, value)
    if not isinstance(value, TYPES[form]) or (form == "integer" and isinstance(value, bool)):
        raise InputError(f"job: {name} is {value!r}; it is of type {form}.")
    return value


def _from_text(form: str, value: Any) -> Any:
    """A number or a flag that Jinja has turned into text, read back."""
    if not isinstance(value, str):
        return value
    if form in ("integer", "no_val") and re.fullmatch(r"\s*-?[0-9]+\s*", value):
        return int(value)
    return FLAGS.get(value.strip().lower(), value) if form == "boolean" else value


def _words(name: str, value: Any, known: list[str]) -> list[str]:
    words = [value] if isinstance(value, str) else value
    if not isinstance(words, list | tuple) or any(each not in known for each in words):
        # an unknown word makes slurmrestd answer with an error and start the job all the same
        raise InputError(f"job: {name} is {value!r}; it holds {', '.join(known)}.")
    return list(words)


def _number(name: str, value: Any) -> Any:
    value = _from_text("no_val", value)
    if isinstance(value, Mapping):
        if value.get("set") is not True:
            raise InputError(f'job: {name} is ignored by Slurm without "set": true.')
        return dict(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InputError(f"job: {name} is {value!r}; it is a whole number.")
    return no_val(value)


def _list(name: str, value: Any) -> list[str]:
    if isinstance(value, str) or not isinstance(value, list | tuple):
        raise InputError(f"job: {name} is {value!r}; it is a list of texts.")
    return [str(each) for each in value]
