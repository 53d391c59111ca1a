"""``#SBATCH`` lines as ``sbatch`` reads them: each option with its value and its line.

The API itself ignores these lines: only ``sbatch`` reads them, and we do in its place.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import datetime
from shlex import quote
from typing import NamedTuple

from airflow_provider_clusterra.api.errors import InputError
from airflow_provider_clusterra.api.specs import no_val
from airflow_provider_clusterra.sbatch.options import (
    ABOVE_HINT,
    ALIASES,
    CARRIED,
    OPTIONS,
    SHORT,
    TIMES,
    Fields,
    claims_of,
    put_tasks_of_nodes,
    read_when,
    rivals,
    same,
)

LINE = re.compile(r"#SBATCH(.*)")
FOREIGN = re.compile(r"^#(?:PBS|BSUB)[ \t]*[^\s#].*", re.MULTILINE)
"""A line of another system's; ``sbatch`` obeys it, wherever in the script it stands."""
HARMLESS = re.compile(
    r"#PBS(?:[ \t]*(?:-[ScCkv][ \t]*\S+|-j[ \t]*(?:oe|eo|n)\b|-[VIz]\b))+[ \t]*(?:#.*)?"
)
"""One of which it does nothing: a shell, the variables of the submitting one, joined outputs."""


PART = re.compile(r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|(?:\\.|[^\s'"#\\])+""", re.ASCII)
"""A part of a word; a backslash hides the next character even between single quotes."""
TOKEN = re.compile(rf"(?P<word>(?:{PART.pattern})+)|(?P<open>['\"])|(?P<end>#|\\$)|\s+", re.ASCII)
"""A backslash at the end is nothing to ``sbatch``: the next line is a line of its own."""


class Directive(NamedTuple):
    """One option of a script."""

    name: str
    """The long name, e.g. ``"job-name"``."""
    value: str
    """``""`` where the option takes none, or none was given."""
    line: int
    """Where it stands, from 1."""


class Component(NamedTuple):
    """One component of a heterogeneous job; a plain job has one."""

    options: tuple[Directive, ...]
    """First those that it has from the component before it, then its own."""
    apart: frozenset[str] | None
    """The options in which it does not follow the first component; None: it is the first one."""

    def follows(self, name: str) -> bool:
        """Whether it has an option that the first component was given."""
        return self.apart is None or (name in CARRIED and self.apart.isdisjoint(same(name)))

    def fields(self, now: datetime, given: Collection[str] = ()) -> Fields:
        """What its options ask for; ``environment`` is a dict.

        An option that cannot be honoured is skipped if its field is ``given`` in another way.
        """
        found: Fields = {}
        forgets_hint = any(each.name in ABOVE_HINT for each in self.options)
        for each in self.options:
            if (each.name == "hint" and forgets_hint) or OPTIONS[each.name].field in given:
                continue
            _put(found, each, now)
        if any(each.name == "extra-node-info" for each in self.options) and "nodes" not in found:
            put_tasks_of_nodes(found)
        return found


def read_components(script: str) -> list[Component]:
    """The components that a script's options make.

    :source: ``sbatch`` 26.05.
    """
    found = [Component((), None)]
    for each in _read_script(script):
        options, apart = found[-1]
        if each is None:
            kept = tuple(option for option in options if option.name in CARRIED)
            found.append(Component(kept, apart or frozenset()))
        else:
            also = None if apart is None else apart | {each.name}
            found[-1] = Component((*options, each), also)
            _check_rivals(found[-1].options)
    if not any(option.name == "ignore-pbs" for option in found[0].options):
        _check_foreign(script)
    return found


SHELLS = re.compile(r"#!.*\b(?:(?P<sh>(?:ba|da|k|z|a)?sh)|(?P<csh>t?csh))\b")
POLYGLOT = re.compile(r"\s*(?:['\"]|:\s*['\"]|eval\s+'exec\b)")
"""How a shell's script begins that another language reads as well, which would not understand us."""


def with_job_name(script: str, name: str) -> str:
    """A shell's script that finds ``name`` as SLURM_JOB_NAME, which slurmd sets to what Slurm shows.

    It is said before the first command, on its line: the lines keep their numbers.
    """
    lines = script.split("\n")
    shell = SHELLS.match(lines[0])
    first = _first(lines, _is_command)
    if shell is None or first == len(lines) or POLYGLOT.match(lines[first]):
        return script
    form = "setenv SLURM_JOB_NAME {}\n{}" if shell["csh"] else "export SLURM_JOB_NAME={}; {}"
    lines[first] = form.format(quote(name), lines[first])
    return "\n".join(lines)


def overlooked(script: str) -> list[str]:
    """What an author may take for an option and ``sbatch`` does not read, in words."""
    lines = script.split("\n")
    first = _first(lines, _is_command)
    # what begins with another shebang is a script that this one writes
    own = lines[: 1 + _first(lines[1:], lambda line: line.lstrip().startswith("#!"))]
    behind = ["it is indented", "it stands behind the first command"]
    return [
        f"Line {n + 1} of the script, {line.strip()[:60]!r}, is not read, as by sbatch: {behind[n > first]}."
        for n, line in enumerate(own)
        if re.match(r"\s*#SBATCH" if n > first else r"\s+#SBATCH", line)
    ]


def _first(lines: Sequence[str], is_it: Callable[[str], bool]) -> int:
    return next((number for number, line in enumerate(lines) if is_it(line)), len(lines))


def _is_command(line: str) -> bool:
    return bool(line.strip()) and not line.lstrip().startswith("#")


def _check_rivals(options: tuple[Directive, ...]) -> None:
    names = rivals(claim for each in options for claim in claims_of(each.name, each.value))
    if names:
        shown = " and ".join(f"--{name}" for name in names)
        raise _bad(options[-1].line, f"{shown} exclude each other")


def _check_foreign(script: str) -> None:
    for line in FOREIGN.finditer(script):
        if HARMLESS.fullmatch(line[0]):
            continue
        number = script.count("\n", 0, line.start()) + 1
        raise InputError(
            f"Line {number} of the script is one that sbatch would obey: {line[0][:60]!r}. Write it as "
            "#SBATCH, or say #SBATCH --ignore-pbs."
        )


def _put(fields: Fields, directive: Directive, now: datetime) -> None:
    name, value, line = directive
    shown = f"--{name}={value}" if value else f"--{name}"
    takes, apply, _, why, _ = OPTIONS[name]
    if apply is None:
        raise _bad(line, f"{shown} cannot be honoured: {why}")
    if takes == "value" and not value and name != "export":
        # as if it were left out
        return
    try:
        if name in TIMES:
            seconds = read_when(value, now)
            fields[TIMES[name]] = seconds if name == "deadline" else no_val(seconds)
        apply(fields, value)
    except ValueError as exc:
        raise _bad(line, f"{shown}: {str(exc).rstrip('.')}") from exc


def _read_script(script: str) -> Iterator[Directive | None]:
    """The options that a script holds; None begins the next component of a heterogeneous job.

    Reading ends at the first line that is neither a comment nor blank, as it does in ``sbatch``.
    """
    for number, text in enumerate(script.split("\n"), 1):
        if _is_command(text):
            break
        if match := LINE.match(text):
            yield from _read_line(match[1], number)


def _read_line(text: str, number: int) -> Iterator[Directive | None]:
    words = _words(text, number)
    if [word.lower() for word in words] in (["hetjob"], ["packjob"]):
        yield None
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
    words = []
    for token in TOKEN.finditer(text):
        if token["end"]:
            break
        if token["open"]:
            raise _bad(number, "a quotation mark is missing")
        if token["word"]:
            words.append("".join(map(_unquoted, PART.findall(token["word"]))))
    return words


def _unquoted(part: str) -> str:
    inner = part[1:-1] if part[0] in "'\"" else part
    return re.sub(r"\\(.)", r"\1", inner)


def _long(word: str, rest: list[str], number: int) -> Directive:
    given, equals, value = word.partition("=")
    known = (*OPTIONS, *ALIASES)
    matches = [given] if given in known else [name for name in known if name.startswith(given)]
    if len(matches) != 1:
        near = f" (it may be {', '.join('--' + name for name in matches)})" if matches else ""
        raise _bad(number, f"--{given} is not known to sbatch{near}")
    name = ALIASES.get(matches[0], matches[0])
    return _directive(name, value if equals else None, rest, number)


def _short(letters: str, rest: list[str], number: int) -> Iterator[Directive]:
    while letters:
        name = SHORT.get(letters[0])
        if name is None:
            raise _bad(number, f"-{letters[0]} is not known to sbatch")
        alone = OPTIONS[name].takes == "nothing"
        attached, letters = (None, letters[1:]) if alone else (letters[1:] or None, "")
        yield _directive(name, attached, rest, number)


def _directive(name: str, attached: str | None, rest: list[str], number: int) -> Directive:
    takes = OPTIONS[name].takes
    if takes == "nothing" and attached is not None:
        raise _bad(number, f"--{name} takes no value")
    if takes == "value" and attached is None:
        if not rest:
            raise _bad(number, f"--{name} needs a value")
        attached = rest.pop(0)
    return Directive(name, attached or "", number)


def _bad(number: int, words: str) -> InputError:
    return InputError(f"Line {number} of the script, #SBATCH: {words}.")
