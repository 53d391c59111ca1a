"""Reads and checks an author's arguments, in all their forms, before anything is submitted.

A plain argument is read when the DAG is; a template, an XComArg or a mapped argument when the task
runs. Airflow's rendering makes text of most values, so each reader takes its value's text, too.

What stands for an option of ``sbatch``, e.g. ``memory`` or ``gpus``, is checked as that option is, by
``sbatch/options.py``; a template's values are, by ``api/templates.py``.
"""

from __future__ import annotations

import ast
import math
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import cache, partial
from inspect import signature
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import msgspec
from airflow.providers.common.compat.sdk import AirflowFailException, Asset, AssetAlias, conf

from airflow_provider_clusterra.api.errors import InputError, ProtocolError
from airflow_provider_clusterra.api.jobs import read_flag, read_job_id

Reader = Callable[[str, Any], Any]
"""Takes an argument's name and what was given, and returns its value or raises InputError."""
NOTHING = (None, "", "None")
"""No value, and the texts that a template makes of an XCom that nobody has pushed."""
LAZY = re.compile(r"Lazy\w*Sequence\(.*\)")
"""The text that a template makes of the XComs of several tasks."""
TIMEDELTA = re.compile(r"(?:(\d+) days?, )?(\d+):(\d\d):(\d\d(?:\.\d+)?)")
"""The text that a template makes of a timedelta."""
MOUNT = re.compile(r"/[^:,\s]*(:/[^:,\s]*(:[a-z+]+)?)?")


class ArgumentError(InputError, AirflowFailException):
    """A wrong argument; of a mapped task it is found in the worker, and is not retried."""


CHOICES: dict[str, tuple[Any, ...]] = {
    "on_stuck": ("fail", "warn"),
    "return_output": ("last_line", "json", "text", None),
    "on_unknown": ("fail", "submit"),
    "on_full_queue": ("wait", "fail"),
}
"""The values of arguments that are not templated."""


def check_choices(task: Any) -> None:
    """Refuse a value that is none of an argument's choices."""
    for name, choices in CHOICES.items():
        value = getattr(task, name, choices[0])
        if value not in choices:
            *others, last = map(repr, choices)
            raise ArgumentError(f"{name} is {value!r}; it can be {', '.join(others)} or {last}.")


def check_array_success(array_success: Any) -> None:
    """Refuse all but ``"all"``, ``"any"``, a number of tasks and a fraction of them."""
    number = not isinstance(array_success, bool) and isinstance(array_success, int | float)
    most = 1 if isinstance(array_success, float) else math.inf
    if array_success not in ("all", "any") and not (number and 0 < array_success <= most):
        raise ArgumentError(
            f"array_success is {array_success!r}; it can be 'all', 'any', a number of tasks, e.g. "
            "95, or a fraction of them, e.g. 0.95."
        )


PACKAGE = f"{__name__.partition('.')[0]}."


class GivenFields:
    """An operator's template fields: all of them for the class, those that are given for a task.

    Airflow walks, renders and stores each field of each task whenever it reads a DAG, and an author
    gives few of them.
    """

    def __init__(self, *names: str) -> None:
        self._names = names

    def __get__(self, task: Any, kind: type) -> Sequence[str]:
        return self._names if task is None else _given(task, self._names)


def _given(task: Any, names: Iterable[str]) -> list[str]:
    kind: Any = type(task)
    values, defaults = vars(task), _defaults(kind)
    return [name for name in names if values.get(name) is not defaults.get(name)]


@cache
def _defaults(kind: Any) -> dict[str, Any]:
    """The defaults of an operator's arguments in our own classes.

    A default in an author's subclass may be a template, or a script's file.
    """
    found: dict[str, Any] = {}
    for each in reversed(kind.__mro__):
        if each.__module__.startswith(PACKAGE):
            parameters = signature(each.__init__).parameters
            found |= {name: parameter.default for name, parameter in parameters.items()}
    return found


def is_deferrable(given: Any) -> bool:
    """The argument, or Airflow's default."""
    return _default_deferrable() if given is None else bool(given)


@cache
def _default_deferrable() -> bool:
    # reading Airflow's configuration takes as long as all other arguments of a task
    return bool(conf.getboolean("operators", "default_deferrable", fallback=False))


def check_plain(task: Any, readers: Mapping[str, Reader]) -> None:
    """Check the arguments that are known when the DAG is read."""
    with argument_errors():
        for name in _given(task, readers):
            _read(name, partial(_if_plain, readers[name]), getattr(task, name))


@contextmanager
def argument_errors() -> Iterator[None]:
    """Raise what is wrong with an argument as :class:`ArgumentError`."""
    try:
        yield
    except InputError as error:
        raise ArgumentError(str(error)) from None


def _if_plain(read: Reader, name: str, given: Any) -> Any:
    return read(name, given) if is_plain(given) else None


def read_all(task: Any, readers: Mapping[str, Reader]) -> None:
    """Replace the arguments by their values, once everything is rendered; defaults stay."""
    for name in _given(task, readers):
        setattr(task, name, _read(name, readers[name], getattr(task, name)))


def _read(name: str, read: Reader, given: Any) -> Any:
    try:
        value = read(name, given)
        _check_text(name, value)
    except RecursionError:
        raise InputError(f"{name} is nested too deeply to be sent.") from None
    return value


def is_plain(given: Any) -> bool:
    """Whether a value is known already: it holds no template, XComArg or mapped argument."""
    if isinstance(given, str):
        return not any(mark in given for mark in ("{{", "{%"))
    if isinstance(given, Mapping):
        return all(map(is_plain, given.values()))
    if isinstance(given, list | tuple | set):
        return all(map(is_plain, given))
    return not hasattr(given, "iter_references")


def seconds(name: str, given: Any) -> float:
    """A time: seconds, or a timedelta."""
    with suppress(TypeError, ValueError, OverflowError):
        found = _seconds_of(given)
        if math.isfinite(found) and found > 0 and not isinstance(given, bool):
            return found
    raise InputError(
        f"{name} is {given!r:.200}; it takes seconds above 0, e.g. 3600, or a timedelta."
    )


def deadline_of(**limits: float | timedelta | None) -> tuple[float | None, str]:
    """When the earliest limit ends, in seconds since 1970, and which one it is, in words."""
    given = {name: _seconds_of(limit) for name, limit in limits.items() if limit is not None}
    if not given:
        return None, ""
    name = min(given, key=lambda each: given[each])
    return time.time() + given[name], f"{name}={given[name]:g} s"


def _seconds_of(given: Any) -> float:
    if isinstance(given, timedelta):
        return given.total_seconds()
    if isinstance(given, str) and (match := TIMEDELTA.fullmatch(given.strip())):
        days, hours, minutes, rest = (float(part or 0) for part in match.groups())
        return days * 86400 + hours * 3600 + minutes * 60 + rest
    return float(given)


def count(name: str, given: Any) -> int:
    """A whole number, 0 or more."""
    with suppress(TypeError, ValueError, OverflowError):
        found = float(_plain_number(given))
        if found.is_integer() and found >= 0 and not isinstance(given, bool):
            return int(found)
    raise InputError(f"{name} is {given!r:.200}; it takes a whole number, 0 or more.")


def _plain_number(given: Any) -> Any:
    # float() alone would read "12_3" as 123, and "1e3" as 1000
    if isinstance(given, str) and not re.fullmatch(r"\s*[0-9]+(\.0*)?\s*", given):
        raise ValueError(given)
    return given


def flag(name: str, given: Any) -> bool:
    """True or False, also as a template's text."""
    found = False if str(given).strip().lower() in ("", "none") else read_flag(given)
    if found is None:
        raise InputError(f"{name} is {given!r:.200}; it takes True or False.")
    return found


def exit_codes(name: str, given: Any) -> frozenset[int]:
    """Exit codes: one, several, or None."""
    value = from_text(given)
    if value in NOTHING:
        return frozenset()
    with suppress(InputError):
        found = frozenset(count(name, code) for code in _each_of(value))
        if all(0 < code < 256 for code in found):
            return found
    raise InputError(
        f"{name} is {given!r}; it takes exit codes from 1 to 255, e.g. 99 or [99, 100]."
    )


def optional(read: Reader) -> Reader:
    """A reader of an argument that may be None."""

    def read_it(name: str, given: Any) -> Any:
        return None if given in NOTHING else read(name, given)

    return read_it


def job_id(name: str, given: Any) -> int:
    """Slurm's number for a job, also from the whole result of a submit."""
    value = from_text(given)
    if isinstance(value, Mapping):
        value = value.get("job_id")
    with suppress(InputError, ProtocolError):
        return read_job_id(count(name, value)).number
    if isinstance(value, Sequence) and not isinstance(value, str):
        raise InputError(
            f"{name} holds the jobs of several tasks, mapped ones or a loop's iterations, and takes "
            "one. Map this task over them with .expand(), or put it into the loop."
        )
    if isinstance(value, str) and LAZY.fullmatch(value):
        raise InputError(
            f"{name} is {given!r:.200}, which is what a template makes of the jobs of several tasks, mapped "
            "ones or a loop's iterations. Give .output of their task instead, or end the template "
            "in '| list'."
        )
    raise InputError(
        f"{name} is {given!r:.200}; it is Slurm's number for a job, e.g. 12, and for an array the "
        "array's. Does the task that it is taken from push one?"
    )


def job_ids(name: str, given: Any) -> list[int]:
    """Job ids: one, several, those of a mapped task, or none."""
    value = from_text(given)
    values = value.split(",") if isinstance(value, str) else _each_of(value)
    return [job_id(name, each) for each in values if each not in NOTHING]


def _each_of(value: Any) -> Iterable[Any]:
    """The elements of a list or another lot of values; a text, a dict or a number is one by itself."""
    is_one = isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable)
    return [value] if is_one else value


def mapping(name: str, given: Any) -> dict[str, Any]:
    """A dict of any values."""
    value = from_text(given)
    if isinstance(value, Mapping):
        return {str(key): each for key, each in value.items()}
    raise InputError(f"{name} is {given!r:.200}; it takes a dict.")


def texts(name: str, given: Any) -> list[str]:
    """Words of a command, which may be numbers and paths."""
    value = from_text(given)
    plain = (str, int, float, os.PathLike)
    if isinstance(value, list | tuple) and all(isinstance(each, plain) for each in value):
        return [str(each) for each in value]
    raise InputError(f"{name} is {given!r:.200}; it takes a list of texts, e.g. ['3', 'cfg.yaml'].")


def image(name: str, given: Any) -> str:
    """A container's image, or the path of one."""
    if isinstance(given, str | os.PathLike):
        return os.fspath(given)
    raise InputError(f"{name} is {given!r:.200}; it is an image, e.g. 'docker://python:3.12'.")


def mounts(name: str, given: Any) -> list[str]:
    """Folders to mount in a container, also as a template's text."""
    found = texts(name, given)
    for mount in found:
        if not MOUNT.fullmatch(mount):
            raise InputError(
                f"{name} holds {mount!r}; each is SOURCE[:TARGET[:OPTIONS]] with whole paths, e.g. "
                "'/data:/data:ro'."
            )
    return found


def folder(name: str, given: Any) -> str:
    """A whole path inside of a container."""
    if isinstance(given, str | os.PathLike) and os.fspath(given).startswith("/"):
        return os.fspath(given)
    raise InputError(f"{name} is {given!r:.200}; it is a whole path in the container.")


def job_fields(name: str, given: Any) -> dict[str, Any]:
    """Fields of slurmrestd, whose variables have the same forms as ``environment=``."""
    fields = mapping(name, given)
    if fields.get("environment") is not None:
        fields["environment"] = environment(f"{name}: environment", fields["environment"])
    return fields


def environment(name: str, given: Any) -> dict[str, str]:
    """Variables: a dict, or a list of ``NAME=value`` as Slurm's own API takes it."""
    value = from_text(given)
    if isinstance(value, Sequence) and not isinstance(value, str):
        value = _pairs(value)
    if not isinstance(value, Mapping):
        raise InputError(
            f"{name} is {given!r:.200}; it takes a dict, e.g. {{'STEPS': '1000'}}, or a list of "
            "'NAME=value'."
        )
    for variable, each in value.items():
        if each is None:
            raise InputError(f"{name}: {variable} is None. Leave it out, or give it an empty text.")
    return {str(variable): str(each) for variable, each in value.items()}


def _pairs(texts: Sequence[Any]) -> dict[str, str] | None:
    pairs = [str(each).partition("=") for each in texts]
    if not all(equals for _, equals, _ in pairs):
        return None
    return {variable: value for variable, _, value in pairs}


def whole(name: str, given: Any) -> Any:
    """A whole number that may be a float; Slurm's other forms, e.g. ``"2-4"``, stay."""
    if isinstance(given, float | bool) or (
        isinstance(given, str) and re.fullmatch(r"\d+\.\d+", given.strip())
    ):
        return count(name, given)
    return given


def text(name: str, given: Any) -> Any:  # noqa: ARG001 - a reader
    """Text, or a file's path as text; anything else stays."""
    return os.fspath(given) if isinstance(given, os.PathLike) else given


def from_text(given: Any) -> Any:
    """The dict or list that a template has turned into text, JSON or Python's; anything else stays."""
    if not isinstance(given, str) or given.strip()[:1] not in ("{", "["):
        return given
    with suppress(msgspec.DecodeError, RecursionError):
        return msgspec.json.decode(given)
    with suppress(ValueError, SyntaxError, RecursionError, MemoryError):
        return ast.literal_eval(given.strip())
    return given


def _check_text(name: str, value: Any) -> None:
    """Refuse text that cannot be sent, or that Slurm would cut, wherever it is in a value."""
    if isinstance(value, str):
        _check_characters(name, value)
    elif isinstance(value, Mapping):
        _check_text(name, [*value, *value.values()])
    elif isinstance(value, list | tuple):
        for each in value:
            _check_text(name, each)


def _check_characters(name: str, text: str) -> None:
    if "\0" in text and name != "script":
        raise InputError(f"{name} holds a NUL byte, at which Slurm would cut it. Remove it.")
    try:
        text.encode()
    except UnicodeEncodeError as exc:
        raise InputError(
            f"{name} holds {text[exc.start]!r} at character {exc.start}, which is half of a "
            "character and cannot be sent: it comes from bytes that are not UTF-8."
        ) from exc


class OutputFile(NamedTuple):
    """A file that a job writes, and where it goes once the job has succeeded.

    :param path: in the job's working directory: a path, a glob such as ``"out/**/*.pt"``, or a folder
        with a ``/`` at its end; ``%j`` is the job's id. Of a template's declared artifact it may be
        left out, and of an ``Asset`` whose last part it is.
    :param target: where it is copied to: an ``ObjectStoragePath``, its URI, or a path of the worker; a
        folder for many, or with a ``/`` at its end. Without one it stays where it is.
    :param asset: an ``Asset``, which has one event then, or an ``AssetAlias``, which has one for each
        file. An asset's URI is the target unless there is another.
    """

    path: str | None = None
    target: Any = None
    asset: Any = None

    @property
    def place(self) -> Any:
        """Where it is copied to, or None."""
        if self.target or not isinstance(self.asset, Asset):
            return self.target
        return self.asset.uri if "://" in self.asset.uri else None

    @property
    def asset_file(self) -> str:
        """The file that an asset without a path stands for: the last part of its URI."""
        return self.asset.uri.rpartition("/")[2] if isinstance(self.asset, Asset) else ""

    def means(self, name: str, asset: Any) -> bool:
        """Whether an asset of the outlets is this output: its own asset, its name or its place."""
        if asset == self.asset or asset.name == name:
            return True
        return self.place is not None and uri_of(asset.uri) == uri_of(self.place)


def uri_of(place: Any) -> str:
    """A place as an asset's URI: without a connection's id and without a slash at its end."""
    scheme, is_uri, rest = str(place).rstrip("/").partition("://")
    if not is_uri:
        return f"file://{scheme}"
    bucket, slash, key = rest.partition("/")
    return f"{scheme}://{bucket.rpartition('@')[2]}{slash}{key}"


def read_outputs(name: str, value: Any) -> dict[str, OutputFile]:
    """The argument ``outputs=``."""
    outputs = mapping(name, value)
    return {key: _read_output(f"{name}: {key}", each) for key, each in outputs.items()}


def as_output(value: Any) -> OutputFile:
    """An output in any of its forms; what has none becomes a path, which is checked later."""
    if isinstance(value, Asset | AssetAlias):
        return OutputFile(asset=value)
    is_file = isinstance(value, list | tuple) and 0 < len(value) <= len(OutputFile._fields)
    return OutputFile(*value) if is_file else OutputFile(value)


def _read_output(words: str, value: Any) -> OutputFile:
    file = as_output(value)
    if file == OutputFile() or not isinstance(file.path, str | None):
        raise InputError(f"{words} is {value!r:.200}; it takes a path, an OutputFile or an Asset.")
    path = "x" if file.path is None else file.path
    if not path.strip("./") or ".." in PurePosixPath(path).parts:
        raise InputError(f"{words} is {file.path!r}, which is no file in the job's folder.")
    if not isinstance(file.asset, Asset | AssetAlias | None):
        raise InputError(f"{words} has the asset {file.asset!r:.200}; give an Asset.")
    return file


def with_assets(outlets: Sequence[Any], outputs: Any) -> list[Any]:
    """A task's outlets, and the assets of its outputs, so that Airflow makes their events."""
    listed = [*outlets]
    values = outputs.values() if isinstance(outputs, Mapping) else ()
    for asset in (as_output(value).asset for value in values):
        if isinstance(asset, Asset | AssetAlias) and asset not in listed:
            listed.append(asset)
    return listed
