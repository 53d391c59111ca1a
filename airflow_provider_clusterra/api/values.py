"""One parameter of a template, and one value for it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

import msgspec

KINDS = {
    "number": "number",
    "float": "number",
    "double": "number",
    "int": "integer",
    "integer": "integer",
    "bool": "bool",
    "boolean": "bool",
    "checkbox": "bool",
    "env_map": "map",
    "json_textarea": "json",
    "nextflow_schema": "json",
    "object": "json",
}
"""A widget or type as the schema says it, and what kind of value it takes; any other takes text."""
WORDS = {"true": True, "1": True, "yes": True, "on": True}
WORDS |= {"false": False, "0": False, "no": False, "off": False}

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

    :param row: ``{key, widget, …}`` or ``{name, type, …}``.
    :param place: where its value goes in a submit.
    :source: ``parameters`` and ``inputs`` of ``GET /v1/templates/{template_id}``.
    """
    word = str(row.get("widget") or row.get("type") or row.get("role") or "").lower()
    options = row.get("options")
    return Param(
        name=str(row.get("key") or row.get("name") or ""),
        kind=KINDS.get(word, "text"),
        place=place,
        required=row.get("required") is True,
        default=row.get("default"),
        has_default=row.get("default") is not None,
        options=tuple(_option(each) for each in options) if isinstance(options, list) else (),
        least=_bound(row.get("min")),
        most=_bound(row.get("max")),
    )


def read_value(param: Param, value: Any) -> Any:
    """A value as the parameter takes it: what Jinja has turned into text is read back.

    :param param: the parameter.
    :param value: anything but None.
    :raises ValueProblem: it cannot be a value of this parameter.
    """
    if param.has_default and value == param.default and type(value) is type(param.default):
        return value
    if param.options:
        return _read_option(param, value)
    read = _READERS.get(param.kind) or _read_text
    found = read(param, value)
    if isinstance(found, int | float) and not isinstance(found, bool):
        _check_range(param, found)
    return found


def _read_option(param: Param, value: Any) -> Any:
    for option in param.options:
        if option == value and isinstance(option, bool) == isinstance(value, bool):
            return option
    text = str(value).strip()
    for option in param.options:
        if str(option) == text or (isinstance(option, bool) and WORDS.get(text.lower()) is option):
            return option
    shown = ", ".join(map(repr, param.options))
    raise ValueProblem(f"{param.name} is {value!r}, and may be {shown}")


def _read_number(param: Param, value: Any) -> float:
    try:
        number = None if isinstance(value, bool) else float(str(value).strip())
    except ValueError:
        number = None
    if number is None or not math.isfinite(number):
        raise ValueProblem(f"{param.name} is {value!r}, and takes a number")
    return int(number) if number.is_integer() and not isinstance(value, float) else number


def _read_integer(param: Param, value: Any) -> float:
    number = _read_number(param, value)
    if number != int(number):
        raise ValueProblem(f"{param.name} is {value!r}, and takes a whole number")
    return int(number)


def _read_bool(param: Param, value: Any) -> bool:
    found = value if isinstance(value, bool) else WORDS.get(str(value).strip().lower())
    if found is None:
        raise ValueProblem(f"{param.name} is {value!r}, and takes true or false")
    return found


def _read_text(param: Param, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueProblem(f"{param.name} is {_shown(value)}, and takes one text")
    if param.required and not str(value).strip():
        raise ValueProblem(f"{param.name} is empty")
    return str(value)


def _read_map(param: Param, value: Any) -> dict[str, str]:
    found = _decoded(value)
    if not isinstance(found, Mapping):
        raise ValueProblem(f"{param.name} is {_shown(value)}, and takes names with values")
    return {str(name): str(each) for name, each in found.items()}


def _read_json(param: Param, value: Any) -> Any:
    if isinstance(value, str) and not value.strip():
        return value
    if isinstance(value, str) and _decoded(value) is None:
        raise ValueProblem(f"{param.name} is {_shown(value)}, and takes JSON")
    if not isinstance(value, str | Mapping | list):
        raise ValueProblem(f"{param.name} is {_shown(value)}, and takes JSON")
    return value


_READERS: dict[str, Callable[[Param, Any], Any]] = {
    "number": _read_number,
    "integer": _read_integer,
    "bool": _read_bool,
    "map": _read_map,
    "json": _read_json,
}


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


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
