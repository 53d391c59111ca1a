"""``#SBATCH`` lines as ``sbatch`` reads them: each option with its value and its line.

The API itself ignores these lines: only ``sbatch`` reads them, and we do in its place.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple

from airflow_provider_clusterra.api.errors import InputError
from airflow_provider_clusterra.api.fields import Fields
from airflow_provider_clusterra.api.numbers import no_val
from airflow_provider_clusterra.api.options import OPTIONS, SHORT, TIMES
from airflow_provider_clusterra.api.when import read_when

LINE = re.compile(r"#SBATCH(.*)")


class Directive(NamedTuple):
    """One option of a script."""

    name: str
    """The long name, e.g. ``"job-name"``."""
    value: str
    """``""`` where the option takes none, or none was given."""
    line: int
    """Where it stands, from 1."""


class Separator(NamedTuple):
    """Where the next component of a heterogeneous job begins."""

    line: int


def script_fields(script: str, now: datetime) -> list[Fields]:
    """What a script's options ask for, as fields of a job; one entry a component of a het job.

    ``environment`` is a dict of the variables that the options give.

    :param script: a batch script's whole text.
    :param now: an aware datetime, in the zone that ``--begin=16:00`` means.
    :raises InputError: an option cannot be read, is not known, or cannot be honoured; the words
        name it and its line.
    """
    components: list[Fields] = [{}]
    for each in read_script(script):
        if isinstance(each, Separator):
            components.append({})
        else:
            _put(components[-1], each, now)
    return components


def _put(fields: Fields, directive: Directive, now: datetime) -> None:
    name, value, line = directive
    option = OPTIONS[name]
    shown = f"--{name}={value}" if value else f"--{name}"
    if option.apply is None:
        raise _bad(line, f"{shown} cannot be honoured: {option.why}")
    try:
        if name in TIMES:
            seconds = read_when(value, now)
            fields[TIMES[name]] = seconds if name == "deadline" else no_val(seconds)
        option.apply(fields, value)
    except ValueError as exc:
        raise _bad(line, f"{shown}: {str(exc).rstrip('.')}") from exc


def read_script(script: str) -> list[Directive | Separator]:
    """The options that a script holds.

    Reading ends at the first line that is neither a comment nor blank, as it does in ``sbatch``.

    :param script: a batch script's whole text.
    :raises InputError: a line cannot be read, or an option is not known; the words name the line.
    :source: ``sbatch(1)``; tried with ``sbatch`` 26.05.
    """
    found: list[Directive | Separator] = []
    for number, text in enumerate(script.split("\n"), 1):
        if text.strip() and not text.lstrip().startswith("#"):
            break
        match = LINE.match(text)
        if match:
            found += _read_line(match[1], number)
    return found


def _read_line(text: str, number: int) -> Iterator[Directive | Separator]:
    words = _words(text, number)
    if words in (["hetjob"], ["packjob"]):
        yield Separator(number)
        return
    while words:
        word = words.pop(0)
        if word.startswith("--") and word != "--":
            yield _long(word[2:], words, number)
        elif word.startswith("-") and word not in ("-", "--"):
            yield from _short(word[1:], words, number)
        else:
            raise _bad(number, f"{word!r} is no option")


def _words(text: str, number: int) -> list[str]:
    if text.startswith(":"):
        raise _bad(number, "there is a ':' behind #SBATCH")
    # a \\ at the end is nothing to sbatch: the next line is a line of its own
    trailing = len(text) - len(text.rstrip("\\"))
    try:
        return shlex.split(text[:-1] if trailing % 2 else text, comments=True)
    except ValueError:
        raise _bad(number, "a quotation mark is missing") from None


def _long(word: str, rest: list[str], number: int) -> Directive:
    given, equals, value = word.partition("=")
    matches = [given] if given in OPTIONS else [name for name in OPTIONS if name.startswith(given)]
    if len(matches) != 1:
        near = f" (it may be {', '.join('--' + name for name in matches)})" if matches else ""
        raise _bad(number, f"--{given} is not known to sbatch{near}")
    (name,) = matches
    return Directive(name, _value(name, value if equals else None, rest, number), number)


def _short(letters: str, rest: list[str], number: int) -> Iterator[Directive]:
    while letters:
        letter, letters = letters[0], letters[1:]
        name = SHORT.get(letter)
        if name is None:
            raise _bad(number, f"-{letter} is not known to sbatch")
        if OPTIONS[name].takes == "nothing":
            yield Directive(name, "", number)
            continue
        yield Directive(name, _value(name, letters or None, rest, number), number)
        return


def _value(name: str, attached: str | None, rest: list[str], number: int) -> str:
    takes = OPTIONS[name].takes
    if takes == "nothing" and attached is not None:
        raise _bad(number, f"--{name} takes no value")
    if takes != "value" or attached is not None:
        return attached or ""
    if not rest:
        raise _bad(number, f"--{name} needs a value")
    return rest.pop(0)


def _bad(number: int, words: str) -> InputError:
    return InputError(f"Line {number} of the script, #SBATCH: {words}.")
