"""A script as its author gives it: a text or a file beside the DAG, Jinja rendered, tidied.

The rendering is a step of ours and not Airflow's. To Jinja, ``${#array[@]}`` begins a comment; and
an operator with ``template_ext`` takes any text that ends in ``sh run.sh`` for a file's name.
"""

from __future__ import annotations

import os
import textwrap
import traceback
from pathlib import Path

import jinja2
import msgspec
from airflow.providers.common.compat.sdk import Context
from airflow.sdk.definitions.context import render_template_to_string

from airflow_provider_clusterra.api.errors import InputError

FILES = (".sh", ".sbatch", ".slurm")
"""How the name of a script's file ends."""
LENGTH = "${#"
"""The shell's length of a variable or an array. To Jinja, ``{#`` begins a comment."""
HIDDEN_LENGTH = "$\0#"
CURE = (
    "Put {% raw %} before what is not for Jinja and {% endraw %} behind it, "
    "or give render_script=False."
)


class TidyScript(msgspec.Struct, frozen=True):
    """A script in the form that Slurm takes, and what was changed that its author should know."""

    text: str
    warnings: tuple[str, ...] = ()


def render_script(
    script: str, env: jinja2.Environment, context: Context, *, jinja: bool = True
) -> TidyScript:
    """The text of a script: read where it is a file's name, rendered, tidied.

    :raises InputError: no such file, or Jinja cannot read it; the words name the line and the cure.
    :source: ``BashOperator``'s ``bash_command``, which is found and rendered alike.
    """
    tidy = tidy_script(script)
    if names_a_file(tidy.text):
        name = _render(env, tidy.text, context).strip()
        tidy = tidy_script(_load(env, name))
    if not jinja:
        return tidy
    rendered = tidy_script(_render(env, tidy.text, context))
    return TidyScript(rendered.text, (*tidy.warnings, *rendered.warnings))


def names_a_file(text: str) -> bool:
    """Whether a script is the name of its file: one line, no shebang, and one of :data:`FILES`."""
    line = text.strip()
    return "\n" not in line and not line.startswith("#!") and line.endswith(FILES)


def tidy_script(text: str) -> TidyScript:
    """A script without what an editor or an indented text of Python has put around it."""
    warnings = []
    text = text.removeprefix("\ufeff")
    if "\r\n" in text:
        text = text.replace("\r\n", "\n")
        warnings.append(
            "The script's line ends were Windows' (CRLF), which Slurm refuses; they are LF now."
        )
    begin = next((line for line in text.split("\n") if line.strip()), "")
    if begin[:1].isspace():
        text = textwrap.dedent(text)
    while text[: text.find("\n") + 1].isspace():
        text = text.partition("\n")[2]
    return TidyScript(text, tuple(warnings))


def _load(env: jinja2.Environment, name: str) -> str:
    path = Path(name)
    try:
        if path.is_absolute() and path.is_file():
            return path.read_bytes().decode()
        if not path.is_absolute() and env.loader is not None:
            return env.loader.get_source(env, name)[0]
    except jinja2.TemplateNotFound:
        pass
    except OSError as exc:
        raise InputError(f"The script {name} cannot be read: {exc.strerror}.") from exc
    except UnicodeDecodeError as exc:
        raise InputError(f"The script {name} is not UTF-8 text. Save it as such.") from exc
    folders = [os.fspath(each) for each in getattr(env.loader, "searchpath", [])]
    places = f" (looked in {', '.join(folders)})" if folders and not path.is_absolute() else ""
    raise InputError(
        f"There is no script {name!r} on the worker{places}. Put it beside the DAG or into its "
        "template_searchpath. A command, or a file that is only on the cluster, is run by a "
        f"script's text, e.g. '#!/bin/bash\\nbash {path.name}'."
    )


def _render(env: jinja2.Environment, text: str, context: Context) -> str:
    try:
        template = env.from_string(text.replace(LENGTH, HIDDEN_LENGTH))
    except jinja2.TemplateSyntaxError as exc:
        raise _bad_line(text, exc.lineno, exc) from exc
    try:
        rendered = render_template_to_string(template, context)
    except jinja2.TemplateError as exc:
        frames = traceback.extract_tb(exc.__traceback__)
        lines = [frame.lineno or 1 for frame in frames if frame.filename == "<template>"]
        number = template.get_corresponding_lineno(lines[-1]) if lines else 1
        raise _bad_line(text, number, exc) from exc
    return rendered.replace(HIDDEN_LENGTH, LENGTH)


def _bad_line(text: str, number: int, error: jinja2.TemplateError) -> InputError:
    shown = text.split("\n")[number - 1].strip()[:80]
    words = (error.message or type(error).__name__).rstrip(".")
    return InputError(
        f"Line {number} of the script is {shown!r}, of which Jinja says: {words}. {CURE}"
    )
