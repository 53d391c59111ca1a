"""A template of the catalogue, as a task names it: found, its values checked, its job named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from airflow_provider_clusterra.api.client import Client
from airflow_provider_clusterra.api.errors import InputError, NotFoundError
from airflow_provider_clusterra.api.spelling import nearest
from airflow_provider_clusterra.api.templates import CheckedParams, Template, check_params

JOB_NAME = "job_name"
"""The parameter that is the job's name, in templates that take one."""
TO_BE_UPLOADED = "uploads="
"""Stands for a key that is known after the upload only."""


def find_template(client: Client, template_id: str) -> tuple[Template, Template | None]:
    """A template, and where it is a preset its parent.

    :param client: signed in.
    :param template_id: e.g. ``"gromacs"``.
    :raises InputError: there is none; the words name the nearest.
    :source: ``GET /v1/templates/{template_id}``
    """
    if not template_id:
        raise InputError("template_id is empty. Give a template's id, e.g. 'gromacs'.")
    template = _find(client, template_id)
    return template, _find(client, template.parent_id) if template.parent_id else None


def check_template(
    template: Template,
    values: Mapping[str, Any],
    uploads: Sequence[str],
    parent: Template | None,
) -> CheckedParams:
    """What is submitted; the values of uploads are put in their place later.

    :param template: what the task names.
    :param values: by name.
    :param uploads: the names of values that are uploaded files.
    :param parent: a preset's parent.
    :raises InputError: it cannot be submitted so; the one error names all problems.
    """
    twice = [name for name in uploads if values.get(name) is not None]
    if twice:
        raise InputError(
            f"{', '.join(twice)} is in uploads and in template_params. Give it in one of them."
        )
    return check_params(template, {**values, **dict.fromkeys(uploads, TO_BE_UPLOADED)}, parent)


def job_name_of(template: Template, checked: CheckedParams, otherwise: str) -> str:
    """The name of a template's job, or ``""`` where the template takes none.

    :param template: the one that is submitted.
    :param checked: its values.
    :param otherwise: the name, where no value gives one.
    """
    takes = any(
        param.name == JOB_NAME and param.kind == "text" and not param.options
        for param in template.params
    )
    return str(checked.params.get(JOB_NAME) or otherwise) if takes else ""


def _find(client: Client, template_id: str) -> Template:
    try:
        return client.get_template(template_id)
    except NotFoundError as exc:
        known = [each.template_id for each in client.list_templates()]
        near = nearest(template_id, known)
        hint = f"Did you mean {near}?" if near else f"There is {', '.join(known) or 'none'}."
        raise InputError(f"There is no template {template_id!r}. {hint}") from exc
