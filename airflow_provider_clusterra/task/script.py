"""A script as its author gives it: a text or a file beside the DAG, Jinja rendered, tidied.

The rendering is a step of ours and not Airflow's. To Jinja, ``${#array[@]}`` begins a comment; and
an operator with ``template_ext`` takes any text that ends in ``sh run.sh`` for a file's name.
"""

from __future__ import annotations

import os
import re
import shlex
import traceback
from pathlib import Path

import jinja2
import msgspec
from airflow.providers.common.compat.sdk import Context
from airflow.sdk.definitions.context import render_template_to_string

from airflow_provider_clusterra.api.errors import InputError
from airflow_provider_clusterra.sbatch.job import tidy_script

FILES = (
    *(".sh", ".bash", ".csh", ".zsh", ".batch", ".sbatch"),
    *(".slurm", ".slrm", ".sl", ".job", ".run"),
)
"""Endings of a script's file."""
OF_SHELL = re.compile(r"(?<=\$)\{#|\{#(?=\})")
"""The shell's length of an array, and GNU parallel's job number. To Jinja, both begin a comment."""
HIDDEN = {"{#": "\0#", "\r": "\0r"}
"""Replaced while Jinja renders; it would also turn a lone CR into a line end."""
CURE = (
    "Put {% raw %} before what is not for Jinja and {% endraw %} behind it, "
    "or give render_script=False."
)


class TidyScript(msgspec.Struct, frozen=True):
    """A script in the form that Slurm takes, and warnings of what was changed."""

    text: str
    warnings: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    """Those after the name of the script's file."""


def render_script(
    script: str, env: jinja2.Environment, context: Context, *, jinja: bool = True
) -> TidyScript:
    """The text of a script: read if it is a file's name, rendered, tidied.

    ``BashOperator`` finds and renders its ``bash_command`` alike.
    """
    text, warnings = tidy_script(script)
    arguments: tuple[str, ...] = ()
    if is_one_line(text):
        found = _find(env, _render(env, text, context).strip())
        if found is not None:
            text, arguments = found
            text, warnings = tidy_script(text)
    if jinja:
        rendered, more = tidy_script(_render(env, text, context))
        warnings += made_of(env, text) + more
        text = rendered
    return TidyScript(text, tuple(warnings), arguments)


def is_one_line(text: str) -> bool:
    """Whether a script may be the name of its file: one line without a shebang."""
    line = text.strip()
    return bool(line) and "\n" not in line and not line.startswith("#!")


def made_of(env: jinja2.Environment, text: str) -> list[str]:
    """Warnings of what Jinja changes in a script that may not be meant for Jinja.

    That is a comment, and an expression without a name: ``{{0,0}}`` is the shell's, or awk's.
    """
    found = []
    lines = text.split("\n")
    inside: list[tuple[str, str]] | None = None
    for number, kind, value in env.lex(_hidden(text)):
        if kind == "comment":
            found.append(
                f"Line {number} of the script: Jinja removed the comment {value.strip()!r}."
            )
        elif kind == "variable_begin":
            inside = []
        elif kind == "variable_end":
            if inside is not None and not _has_a_name(inside):
                inner = "".join(each for _, each in inside)
                made = env.from_string(f"{{{{{inner}}}}}").render()
                found.append(
                    f"Line {number} of the script, {lines[number - 1].strip()[:80]!r}: Jinja made "
                    f"{str(made)!r} of {{{{{inner}}}}}."
                )
            inside = None
        elif inside is not None:
            inside.append((kind, value))
    return [f"{words} If it is not for Jinja: {CURE}" for words in found]


def _has_a_name(tokens: list[tuple[str, str]]) -> bool:
    """Whether an expression is meant for Jinja: it has a name, or is a string alone."""
    kinds = [kind for kind, _ in tokens if kind != "whitespace"]
    return "name" in kinds or kinds == ["string"]


def _find(env: jinja2.Environment, line: str) -> tuple[str, tuple[str, ...]] | None:
    """The text of the file that a line names, and the arguments after its name; None: it names none."""
    name = line
    arguments: tuple[str, ...] = ()
    text = _load(env, name)
    if text is None:
        name, arguments = _words(line)
        text = _load(env, name) if arguments else None
    if text is not None:
        return text, arguments
    if line.endswith(FILES) or name.endswith(FILES):
        raise _not_found(env, line if line.endswith(FILES) else name)
    return None


def _words(line: str) -> tuple[str, tuple[str, ...]]:
    try:
        name, *arguments = shlex.split(line)
    except ValueError as exc:
        raise InputError(f"script: {line[:80]!r} cannot be split into words: {exc}.") from exc
    return name, tuple(arguments)


def _load(env: jinja2.Environment, name: str) -> str | None:
    path = Path(name)
    try:
        if path.is_absolute() and path.is_file():
            return path.read_bytes().decode()
        if not path.is_absolute() and env.loader is not None:
            return env.loader.get_source(env, name)[0]
    except jinja2.TemplateNotFound:
        return None
    except OSError as exc:
        raise InputError(f"The script {name} cannot be read: {exc.strerror}.") from exc
    except UnicodeDecodeError as exc:
        raise InputError(f"The script {name} is not UTF-8 text. Save it as such.") from exc
    return None


def _not_found(env: jinja2.Environment, name: str) -> InputError:
    path = Path(name)
    folders = [os.fspath(each) for each in getattr(env.loader, "searchpath", [])]
    places = f" (looked in {', '.join(folders)})" if folders and not path.is_absolute() else ""
    return InputError(
        f"There is no script {name!r} on the worker{places}. Put it beside the DAG or into its "
        "template_searchpath. A command, or a file that is only on the cluster, is run by a "
        f"script's text, e.g. '#!/bin/bash\\nbash {path.name}'."
    )


def _render(env: jinja2.Environment, text: str, context: Context) -> str:
    try:
        template = env.overlay(keep_trailing_newline=True).from_string(_hidden(text))
    except jinja2.TemplateSyntaxError as exc:
        raise _bad_line(text, exc.lineno, exc) from exc
    try:
        rendered = render_template_to_string(template, context)
    except jinja2.TemplateError as exc:
        frames = traceback.extract_tb(exc.__traceback__)
        lines = [frame.lineno or 1 for frame in frames if frame.filename == "<template>"]
        number = template.get_corresponding_lineno(lines[-1]) if lines else 1
        raise _bad_line(text, number, exc) from exc
    for shown, hidden in HIDDEN.items():
        rendered = rendered.replace(hidden, shown)
    return rendered


def _hidden(text: str) -> str:
    return OF_SHELL.sub(HIDDEN["{#"], text).replace("\r", HIDDEN["\r"])


def _bad_line(text: str, number: int, error: jinja2.TemplateError) -> InputError:
    shown = text.split("\n")[number - 1].strip()[:80]
    words = (error.message or type(error).__name__).rstrip(".")
    return InputError(
        f"Line {number} of the script is {shown!r}, of which Jinja says: {words}. {CURE}"
    )
