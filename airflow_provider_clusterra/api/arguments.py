"""An author's arguments, ``job=`` and a script's ``#SBATCH`` lines as one job's fields.

Arguments win over ``job=``, and both over the lines. Each argument is an option of ``sbatch`` by a
name that a Python author expects, so it becomes fields in the very way in which its line would.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

import msgspec

from airflow_provider_clusterra.api.errors import InputError
from airflow_provider_clusterra.api.fields import (
    MEMORY_FIELDS,
    Fields,
    put_cpus_per_task,
    put_nothing,
)
from airflow_provider_clusterra.api.gpus import settle_gpus
from airflow_provider_clusterra.api.job_fields import check_fields
from airflow_provider_clusterra.api.merged import Merged, shown
from airflow_provider_clusterra.api.options import OPTIONS, rivals
from airflow_provider_clusterra.api.sbatch import read_components
from airflow_provider_clusterra.api.specs import JobSpec, check_script, het_body
from airflow_provider_clusterra.api.values import WORDS

ARGUMENTS = {
    "name": "job-name",
    "partition": "partition",
    "account": "account",
    "qos": "qos",
    "nodes": "nodes",
    "tasks": "ntasks",
    "cpus_per_task": "cpus-per-task",
    "memory": "mem",
    "memory_per_cpu": "mem-per-cpu",
    "time_limit": "time",
    "gpus": "gpus",
    "constraint": "constraint",
    "exclusive": "exclusive",
    "licenses": "licenses",
    "array": "array",
    "dependency": "dependency",
    "requeue": "requeue",
    "signal": "signal",
    "working_directory": "chdir",
}
"""Each argument, and the option of ``sbatch`` that it is."""
OF_ALL = ("name", "account", "working_directory")
"""What every component of a heterogeneous job has; any other argument is the first one's, and of
those that follow it as they would follow an option of ``sbatch``."""


class AskedJob(msgspec.Struct, frozen=True):
    """What is asked for: a component each, of which a plain job has one, and what was overruled."""

    script: str
    components: tuple[Fields, ...]
    """Fields of slurmrestd v0.0.44; ``environment`` is a dict."""
    conflicts: tuple[str, ...] = ()
    """One line of words for each thing that was asked for in two ways."""

    @property
    def name(self) -> str:
        """The job's name, or ``""`` where nobody gave one."""
        return str(self.components[0].get("name", ""))

    @property
    def array(self) -> str:
        """Its indices, or ``""`` where it is no array."""
        return str(self.components[0].get("array", ""))

    def body(self, name: str, environment: Mapping[str, str]) -> dict[str, Any]:
        """The submit's JSON body.

        :param name: of a component that has none.
        :param environment: more variables; those that were asked for win.
        """
        specs = [
            JobSpec(
                script=self.script,
                name=str(fields.get("name") or self.name or name),
                environment={**environment, **fields.get("environment", {})},
                fields=fields,
            )
            for fields in self.components
        ]
        return specs[0].body() if len(specs) == 1 else het_body(specs)


def read_arguments(
    script: str,
    arguments: Mapping[str, Any],
    *,
    job: Mapping[str, Any],
    environment: Mapping[str, Any],
    now: datetime,
) -> AskedJob:
    """What an author asks for, in all the ways that there are.

    :param script: the whole text.
    :param arguments: by the names of :data:`ARGUMENTS`; None and ``""`` are as good as left out.
    :param job: other fields by slurmrestd's names.
    :param environment: variables; they win over those of ``job`` and of the lines.
    :param now: an aware datetime, in the zone that ``--begin=16:00`` means.
    :raises InputError: it cannot be asked so; the words name the argument, the field or the line.
    """
    check_script(script)
    components = read_components(script)
    merged = [Merged(component.fields(now)) for component in components]
    for name, value in _read_job(job).items():
        # a variable may hold what is not for the log
        said = "…" if name == "environment" else shown(value)
        merged[0].overrule(f"job={{{name!r}: {said}}}", "job=", as_field(name, value))
    for name, (option, text) in _given(arguments).items():
        value = arguments[name]
        said = f"{name}={value!r}"
        for component, each in zip(components, merged, strict=True):
            if name in OF_ALL or component.follows(option):
                each.overrule(said, said, as_argument(name, value, option, text))
    for name, value in environment.items():
        for each in merged:
            said = f"environment's {name}"
            each.overrule(said, said, as_field("environment", {name: str(value)}))
    if len(merged) > 1 and merged[0].fields.get("array"):
        raise InputError("array: a heterogeneous job (#SBATCH hetjob) cannot be an array.")
    for each in merged:
        settle_gpus(each.fields)
    conflicts = [words for each in merged for words in each.conflicts]
    fields = tuple(each.fields for each in merged)
    return AskedJob(script, fields, tuple(dict.fromkeys(conflicts)))


def _given(arguments: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Each argument that is given, as an option of ``sbatch`` with its value."""
    found = {
        name: option
        for name, value in arguments.items()
        if (option := as_option(name, value)) is not None
    }
    excluded = rivals(option for option, _ in found.values())
    if excluded:
        names = [name for name, (option, _) in found.items() if option in excluded]
        raise InputError(f"{' and '.join(names)} exclude each other: give one of them.")
    return found


def as_option(name: str, value: Any) -> tuple[str, str] | None:
    """An argument as an option of ``sbatch`` with its value, or None where nothing is given.

    :param name: one of :data:`ARGUMENTS`.
    :param value: as an author, or Jinja, gives it.
    :raises InputError: ``requeue`` is neither True nor False.
    """
    exact = timedelta(minutes=value) if name == "time_limit" and type(value) is float else value
    text = _text(exact)
    flag = WORDS.get(text.lower())
    if not text or (name == "exclusive" and flag is False):
        return None
    if name == "exclusive" and flag:
        return "exclusive", ""
    if name == "requeue":
        if flag is None:
            raise InputError(f"requeue is {value!r}; it takes True or False.")
        return ("requeue" if flag else "no-requeue"), ""
    return ARGUMENTS[name], text


def as_argument(name: str, value: Any, option: str, text: str) -> Callable[[Fields], None]:
    """What an argument does to a job's fields.

    :param name: for the error.
    :param value: as it was given, for the error.
    :param option: of ``sbatch``.
    :param text: the option's value.
    :raises InputError: when it is applied: the option cannot have this value.
    """
    put = OPTIONS[option].apply or put_nothing

    def change(fields: Fields) -> None:
        try:
            put(fields, text)
        except InputError:
            raise
        except ValueError as exc:
            raise InputError(f"{name} is {value!r}: {str(exc).rstrip('.')}.") from exc

    return change


def as_field(name: str, value: Any) -> Callable[[Fields], None]:
    """What one field of ``job=`` does to a job's fields, and to others that say the same.

    :param name: slurmrestd's.
    :param value: in slurmrestd's form; ``environment`` as a dict.
    """

    def change(fields: Fields) -> None:
        if name == "environment":
            fields[name] = {**fields.get(name, {}), **value}
        elif name == "cpus_per_task":
            put_cpus_per_task(fields, str(value))
        else:
            for each in MEMORY_FIELDS if name in MEMORY_FIELDS else ():
                fields.pop(each, None)
            fields[name] = value

    return change


def _read_job(job: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of ``job=``, checked; ``environment`` may be a dict, too, and is one."""
    given = dict(job)
    variables = given.pop("environment", None)
    found = check_fields(given)
    memory = [name for name in MEMORY_FIELDS if name in found]
    if len(memory) > 1:
        raise InputError(f"job: {' and '.join(memory)} exclude each other: give one of them.")
    if isinstance(variables, Mapping):
        found["environment"] = {str(name): str(value) for name, value in variables.items()}
    elif variables is not None:
        listed = check_fields({"environment": variables})["environment"]
        found["environment"] = dict(_pair(each) for each in listed)
    return found


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise InputError(f"job: environment holds {text!r}; each is NAME=value.")
    return name, value


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, timedelta):
        seconds = round(value.total_seconds())
        return f"{seconds // 60}:{seconds % 60:02}"
    return str(value).strip()
