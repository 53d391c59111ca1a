"""The connection's form for Airflow 3.1, which asks the hook for it: the same fields and words."""

from __future__ import annotations

import importlib
from typing import Any

from airflow_provider_clusterra import CONNECTION_FORM

FIELDS = {"boolean": "BooleanField", "number": "IntegerField", "string": "StringField"}


def form_widgets() -> dict[str, Any]:
    """The form's own fields, by name, as WTForms has them.

    :raises ImportError: there is no WTForms, and Airflow puts nothing in its place.
    """
    wtforms = importlib.import_module("wtforms")
    choice = importlib.import_module("wtforms.validators").any_of
    widgets = {}
    for name, field in CONNECTION_FORM["conn-fields"].items():
        schema = field["schema"]
        widgets[name] = getattr(wtforms, FIELDS[schema["type"][0]])(
            label=field["label"],
            description=field["description"],
            default=schema.get("default"),
            validators=[choice(schema["enum"])] if "enum" in schema else [],
        )
    return widgets


def field_behaviour() -> dict[str, Any]:
    """What becomes of the fields that every connection has."""
    behaviour = CONNECTION_FORM["ui-field-behaviour"]
    return {name.replace("-", "_"): value for name, value in behaviour.items()}
