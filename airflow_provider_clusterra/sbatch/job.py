"""A job as its author asks for it: ``#SBATCH`` lines, ``job=`` and arguments become one value.

The API itself ignores the lines: only ``sbatch`` reads them, and we do in its place. The values of lines and
arguments are checked in ``options.py``, the fields of ``job=`` here; the environment is put together in
``api/specs.py``. A job in a container is its script inside of one that starts it: the image needs nothing but
the script's interpreter.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
import textwrap
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from itertools import chain
from shlex import quote
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace

from airflow_provider_clusterra.api.errors import InputError
from airflow_provider_clusterra.api.jobs import read_flag, read_number
from airflow_provider_clusterra.api.specs import (
    SHARED,
    check_script,
    hidden_outputs,
    job_body,
    no_val,
)
from airflow_provider_clusterra.api.templates import nearest, shown
from airflow_provider_clusterra.sbatch.options import (
    ABOVE_HINT,
    CARRIED,
    LONG,
    MEMORY_FIELDS,
    OPTIONS,
    SHORT,
    TIMES,
    Fields,
    check_resources,
    claims_of,
    drop_memory,
    put_cpus_per_task,
    put_nothing,
    put_tasks_of_nodes,
    put_variables,
    read_any_dependency,
    read_array,
    read_nodes,
    read_when,
    rivals,
    same,
    settled,
)

LINE = re.compile(r"#SBATCH(.*)")
FOREIGN = re.compile(r"^#(?:PBS|BSUB)[ \t]*[^\s#].*", re.MULTILINE)
"""A line of PBS or LSF, which ``sbatch`` obeys anywhere in the script."""
HARMLESS = re.compile(
    r"#PBS(?:[ \t]*(?:-[ScCkv][ \t]*\S+|-j[ \t]*(?:oe|eo|n)\b|-[VIz]\b))+[ \t]*(?:#.*)?"
)
"""One that changes nothing: a shell, the variables of the submitting shell, joined outputs."""


PART = re.compile(r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|(?:\\.|[^\s'"#\\])+""", re.ASCII)
"""A part of a word; a backslash escapes the next character even between single quotes."""
TOKEN = re.compile(rf"(?P<word>(?:{PART.pattern})+)|(?P<open>['\"])|(?P<end>#|\\$)|\s+", re.ASCII)
"""A backslash at the end continues no line: ``sbatch`` reads the next one by itself."""


class Directive(NamedTuple):
    """One option of a script."""

    name: str
    """The long name, e.g. ``"job-name"``."""
    value: str
    """``""`` if the option takes none, or none was given."""
    line: int
    """Where it stands, from 1."""


class Component(NamedTuple):
    """One component of a heterogeneous job; a plain job has one."""

    options: tuple[Directive, ...]
    """First those inherited from the component before, then its own."""
    apart: frozenset[str] | None
    """The options that it does not inherit from the first component; None: it is the first."""

    @property
    def names(self) -> set[str]:
        """The names of its options."""
        return {each.name for each in self.options}

    def plus(self, option: Directive) -> Component:
        """The component with one more option of its own."""
        options = (*self.options, option)
        _check_rivals(options)
        return Component(options, None if self.apart is None else self.apart | {option.name})

    def successor(self) -> Component:
        """The component behind it, which has only what it inherits."""
        kept = tuple(option for option in self.options if option.name in CARRIED)
        return Component(kept, self.apart or frozenset())

    def follows(self, name: str) -> bool:
        """Whether it takes over an option that is given to the first component."""
        return self.apart is None or (name in CARRIED and self.apart.isdisjoint(same(name)))

    def fields(self, now: datetime, given: Collection[str] = ()) -> Fields:
        """The job's fields that its options set; ``environment`` is a dict.

        An option that cannot be honoured is skipped if its field is ``given`` in another way.
        """
        ignored = {"hint"} if self.names & ABOVE_HINT else set()
        found: Fields = {}
        for each in self.options:
            if each.name not in ignored and OPTIONS[each.name].field not in given:
                _put_directive(found, each, now)
        if "extra-node-info" in self.names and "nodes" not in found:
            put_tasks_of_nodes(found)
        return found


def tidy_script(text: str) -> tuple[str, list[str]]:
    """A script without BOM, CRLF, indentation and leading blank lines; and warnings."""
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
    return text, warnings


def read_components(script: str) -> list[Component]:
    """The components that a script's options make, as ``sbatch`` 26.05 has them."""
    found = [Component((), None)]
    for each in _read_script(script):
        if each is None:
            found.append(found[-1].successor())
        else:
            found[-1] = found[-1].plus(each)
    if "ignore-pbs" not in found[0].names:
        _check_foreign(script)
    return found


SHELLS = re.compile(r"#!.*\b(?:(?P<sh>(?:ba|da|k|z|a)?sh)|(?P<csh>t?csh))\b")
POLYGLOT = re.compile(r"\s*(?:['\"]|:\s*['\"]|eval\s+'exec\b)")
"""The first command of a shell script that is a script of another language as well."""


def with_job_name(script: str, name: str) -> str:
    """A shell script that sets SLURM_JOB_NAME to ``name``; slurmd sets it to the name with the tag.

    It is set on the line of the first command, so that the lines keep their numbers.
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
    """Warnings of lines that look like options, and that ``sbatch`` does not read."""
    lines = script.split("\n")
    first = _first(lines, _is_command)
    # from another shebang on, it is a script that this one writes
    own = lines[: 1 + _first(lines[1:], lambda line: line.lstrip().startswith("#!"))]
    found = []
    for number, line in enumerate(own):
        if number > first and re.match(r"\s*#SBATCH", line):
            why = "it stands behind the first command"
        elif re.match(r"\s+#SBATCH", line):
            why = "it is indented"
        else:
            continue
        shown = line.strip()[:60]
        found.append(
            f"Line {number + 1} of the script, {shown!r}, is not read, as by sbatch: {why}."
        )
    return found


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


def _put_directive(fields: Fields, directive: Directive, now: datetime) -> None:
    name, value, line = directive
    shown = f"--{name}={value}" if value else f"--{name}"
    takes, apply, _, why, _ = OPTIONS[name]
    if apply is None:
        raise _bad(line, f"{shown} cannot be honoured: {why}")
    if takes == "value" and not value and name != "export":
        # sbatch ignores an option with an empty value
        return
    try:
        if name in TIMES:
            field, form = TIMES[name]
            fields[field] = form(read_when(value, now))
        apply(fields, value)
    except ValueError as exc:
        raise _bad(line, f"{shown}: {str(exc).rstrip('.')}") from exc


def _read_script(script: str) -> Iterator[Directive | None]:
    """The options in a script; None begins the next component of a heterogeneous job.

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
    return _directive(_long_name(given, number), value if equals else None, rest, number)


def _long_name(given: str, number: int) -> str:
    """The option of a name, or of the beginning of only one."""
    matches = [given] if given in LONG else [name for name in LONG if name.startswith(given)]
    if len(matches) == 1:
        return LONG[matches[0]]
    near = f" (it may be {', '.join('--' + name for name in matches)})" if matches else ""
    raise _bad(number, f"--{given} is not known to sbatch{near}")


def _short(letters: str, rest: list[str], number: int) -> Iterator[Directive]:
    while letters:
        letter, letters = letters[0], letters[1:]
        name = SHORT.get(letter)
        if name is None:
            raise _bad(number, f"-{letter} is not known to sbatch")
        if OPTIONS[name].takes != "nothing":
            yield _directive(name, letters or None, rest, number)
            return
        yield _directive(name, None, rest, number)


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


OURS = {
    "script": "give it as the script",
    "user_id": "the API sets it",
    "group_id": "the API sets it",
}
"""Fields that a user cannot give, and why not."""
RESOURCES = (
    *("tres_per_job", "tres_per_node", "tres_per_socket", "tres_per_task"),
    *("cpus_per_tres", "memory_per_tres"),
)
TEXTS: dict[str, Callable[[str], str]] = {
    "array": read_array,
    "dependency": read_any_dependency,
    "nodes": read_nodes,
    **dict.fromkeys(RESOURCES, check_resources),
}
"""Fields whose text is checked like an option's: Slurm's errors for it are unclear, or missing."""


@functools.cache
def job_fields() -> dict[str, str | list[str]]:
    """Each field's form: its JSON type, ``"no_val"``, ``"array"``, or the words that its list may hold.

    :source: ``job_desc_msg`` of slurmrestd v0.0.44's OpenAPI document.
    """
    text = files(__package__).joinpath("job_fields.json").read_bytes()
    return msgspec.json.decode(text, type=dict[str, str | list[str]])


def check_fields(job: Mapping[str, Any]) -> dict[str, Any]:
    """A user's own fields, in the forms that the API takes."""
    found = {name: _checked(name, value) for name, value in job.items()}
    for name, value in found.items():
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError) as exc:
            raise InputError(f"job: {name} is {value!r:.200}, and that is no JSON: {exc}.") from exc
    return found


def _checked(name: str, value: Any) -> Any:
    if name in OURS:
        raise InputError(f"job: {name} cannot be given here: {OURS[name]}.")
    form = job_fields().get(name)
    if form is None:
        near = nearest(name, job_fields())
        hint = f" Did you mean {near}?" if near else ""
        raise InputError(f"job: slurmrestd v0.0.44 has no field {name!r}.{hint}")
    if isinstance(form, list):
        return _known_words(name, value, form)
    return FORMS[form](name, value)


def _known_words(name: str, value: Any, known: list[str]) -> list[str]:
    words = [value] if isinstance(value, str) else value
    if not isinstance(words, list | tuple) or any(each not in known for each in words):
        # of an unknown word, slurmrestd returns an error, and starts the job nevertheless
        raise InputError(f"job: {name} is {value!r}; it holds {', '.join(known)}.")
    return list(words)


def _list(name: str, value: Any) -> list[str]:
    if isinstance(value, str) or not isinstance(value, list | tuple):
        raise InputError(f"job: {name} is {value!r}; it is a list of texts.")
    return [str(each) for each in value]


def _optional_number(name: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        if value.get("set") is not True:
            raise InputError(f'job: {name} is ignored by Slurm without "set": true.')
        return dict(value)
    number = _from_digits(value)
    if not _is_whole(number) or number < 0:
        raise InputError(f"job: {name} is {number!r}; it is a whole number.")
    return no_val(number)


def _integer(name: str, value: Any) -> int:
    number = _from_digits(value)
    if not _is_whole(number):
        raise _not_of(name, value, "integer")
    return int(number)


def _from_digits(value: Any) -> Any:
    """A number, also as the text that Jinja makes of it."""
    is_number = isinstance(value, str) and re.fullmatch(r"\s*-?[0-9]+\s*", value)
    return int(value) if is_number else value


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _boolean(name: str, value: Any) -> bool:
    """A flag, also as the text that Jinja makes of it."""
    if isinstance(value, bool):
        return value
    if str(value).strip().lower() not in ("true", "false"):
        raise _not_of(name, value, "boolean")
    return bool(read_flag(value))


def _string(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise _not_of(name, value, "string")
    if name not in TEXTS:
        return value
    # Slurm skips the spaces before a number
    text = re.sub(r"\s*([,-])\s*", r"\1", value.strip())
    try:
        return TEXTS[name](text) if text else ""
    except ValueError as exc:
        raise InputError(f"job: {name} is {value!r}: {exc}.") from exc


def _object(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _not_of(name, value, "object")
    return value


def _not_of(name: str, value: Any, form: str) -> InputError:
    return InputError(f"job: {name} is {value!r}; it is of type {form}.")


FORMS: dict[str, Callable[[str, Any], Any]] = {
    "array": _list,
    "boolean": _boolean,
    "integer": _integer,
    "no_val": _optional_number,
    "object": _object,
    "string": _string,
}
"""How a value of each form is checked and read."""


LINES = "the script's #SBATCH lines"


class Merged:
    """The fields of a job's component, beginning with those of the script's lines."""

    def __init__(self, component: Component, fields: Fields) -> None:
        self.component = component
        self.fields = fields
        self.conflicts: list[str] = []
        """A warning for each source that overrules another."""
        self._sources = dict.fromkeys(fields, LINES)

    @contextmanager
    def overruled(self, said: str, source: str) -> Iterator[Fields]:
        """The fields, for a source to change; a value that it replaces is a conflict."""
        before = dict(self.fields)
        yield self.fields
        lost = [name for name, value in before.items() if not _stays(value, self.fields.get(name))]
        if lost:
            name = lost[0]
            what = "" if name == "environment" else f"{name} {_in_words(before[name])} of "
            self.conflicts.append(f"{said} wins over {what}{self._sources[name]}.")
        for name, value in self.fields.items():
            if value != before.get(name):
                self._sources[name] = source


def _in_words(value: Any) -> str:
    if isinstance(value, dict) and "number" in value:
        return "without a limit" if value.get("infinite") else str(value["number"])
    return shown(value)


def _stays(old: Any, new: Any) -> bool:
    """Whether the new value still holds the old one."""
    if type(old) is not type(new):
        return False
    if isinstance(old, str):
        return set(old.split(",")) <= set(new.split(","))
    if isinstance(old, list):
        return all(each in new for each in old)
    if isinstance(old, dict):
        return bool(old.items() <= new.items())
    return bool(old == new)


ARGUMENTS = {
    "name": "job-name",
    **{name: name for name in ("partition", "account", "qos", "nodes")},
    "tasks": "ntasks",
    "cpus_per_task": "cpus-per-task",
    "memory": "mem",
    "memory_per_cpu": "mem-per-cpu",
    "time_limit": "time",
    **{name: name for name in ("gpus", "constraint", "exclusive", "licenses", "array")},
    **{name: name for name in ("dependency", "requeue", "signal")},
    "working_directory": "chdir",
}
"""The option of ``sbatch`` that each argument stands for."""
FLAGS: dict[str, dict[bool, tuple[str, str] | None]] = {
    "exclusive": {True: ("exclusive", ""), False: None},
    "requeue": {True: ("requeue", ""), False: ("no-requeue", "")},
}
"""The option and its value for an argument that is True or False."""
OF_ALL = ("name", "account", "working_directory")
"""Arguments of every component of a heterogeneous job. Any other is for the first one, and for those
that inherit its option as in ``sbatch``."""


class JobRequest(msgspec.Struct, frozen=True):
    """A job as it is asked for: a value until its POST renders it."""

    script: str
    components: tuple[Fields, ...]
    """One, or several of a heterogeneous job: fields of slurmrestd v0.0.44, ``environment`` a dict."""
    name: str
    """What Slurm's tools show."""
    author_name: str = ""
    """What the script finds as its job's name after :meth:`renamed`; otherwise ``""``."""
    defaults: Mapping[str, str] = {}
    """Variables that any other source of variables wins over."""
    conflicts: tuple[str, ...] = ()
    """A warning for each thing that is asked for in two ways, is not read, or is not shown."""

    @property
    def array(self) -> str:
        """Its indices, or ``""`` if it is no array."""
        return str(self.components[0].get("array", ""))

    @property
    def dependency(self) -> str:
        """What must happen before, or ``""``."""
        return str(self.components[0].get("dependency", ""))

    def check_tagged(self) -> None:
        """Refuse ``singleton``, which goes by the job's name: a tag makes it a new one at each try."""
        texts = [str(each.get("dependency") or "") for each in self.components]
        if any("singleton" in text.lower() for text in texts):
            raise InputError(
                "dependency: singleton waits for jobs of the same name, and the tag in a job's name "
                "makes each of them another. Give durable=False, or let Airflow run one at a "
                "time with max_active_tis_per_dag=1."
            )

    def renamed(self, name: str) -> JobRequest:
        """The job under another name in Slurm's tools; its script finds the author's."""
        return replace(self, name=name, author_name=self.author_name or self.name)

    def with_environment(self, variables: Mapping[str, str]) -> JobRequest:
        """The job with more variables in each component."""
        return self._changed(lambda fields: put_variables(fields, variables))

    def with_fields(self, fields: Mapping[str, Any]) -> JobRequest:
        """The job with other fields in its first component."""
        first, *others = self.components
        changed = dict(first)
        for name, value in fields.items():
            put_field(changed, name, value)
        return replace(self, components=(changed, *others))

    def with_array(self, indices: str) -> JobRequest:
        """The array with other indices."""
        return self.with_fields({"array": indices})

    def with_comment(self, text: str) -> JobRequest:
        """The job with a comment, if its author has given none."""
        return self._changed(lambda fields: fields.setdefault("comment", text))

    def without_nodes(self, nodes: Sequence[str]) -> JobRequest:
        """The job on other nodes, besides those that its author has excluded."""

        def change(fields: Fields) -> None:
            fields["excluded_nodes"] = [*dict.fromkeys((*fields.get("excluded_nodes", ()), *nodes))]

        return self._changed(change) if nodes else self

    def with_dependency(self, text: str) -> JobRequest:
        """The job with another dependency in each component that has the first one's, or none."""
        first = self.dependency

        def change(fields: Fields) -> None:
            if fields.get("dependency") == first:
                fields.pop("dependency", None)
                if text:
                    fields["dependency"] = text

        return self._changed(change)

    def warnings(self, session_end: datetime | None) -> list[str]:
        """Warnings for its author before the submit."""
        if session_end is None:
            return [*self.conflicts]
        limit = read_number(self.components[0].get("time_limit"))
        if session_end - datetime.now(UTC) >= timedelta(minutes=limit or 0):
            return [*self.conflicts]
        ends = (
            f"The session ends {session_end:%Y-%m-%d %H:%M} UTC, and the job may run for "
            f"{limit or 'more'} min. Renew the connection before then: the wait for the job needs it."
        )
        return [*self.conflicts, ends]

    def body(self) -> dict[str, Any]:
        """The submit's JSON body."""
        script = with_job_name(self.script, self.author_name) if self.author_name else self.script
        return job_body(script, [self._rendered(fields) for fields in self.components])

    def _rendered(self, fields: Fields) -> Fields:
        """A component with its name, and its variables from the weakest source to the strongest."""
        variables = {**self.defaults, **fields.get("environment", {})}
        if not self.author_name:
            return {"name": self.name, **fields, "environment": variables}
        paths = {
            field: _named(fields[field], self.author_name) for field in OUTPUTS if field in fields
        }
        named = {"SLURM_JOB_NAME": self.author_name, **variables}
        return {**fields, **paths, "name": self.name, "environment": named}

    def _changed(self, change: Callable[[Fields], object]) -> JobRequest:
        components = tuple(dict(each) for each in self.components)
        for each in components:
            change(each)
        return replace(self, components=components)


OUTPUTS = ("standard_output", "standard_error", "standard_input")


def _named(path: str, name: str) -> str:
    """A file's path with the job's name for ``%x``; in a path with a backslash, ``%x`` stays."""
    if "\\" in path:
        return path
    plain = name.replace("%", "%%")
    return re.sub("%%|%[0-9]*x", lambda found: "%%" if found[0] == "%%" else plain, path)


def read_arguments(
    script: str,
    arguments: Mapping[str, Any],
    *,
    job: Mapping[str, Any],
    environment: Mapping[str, Any],
    now: datetime,
    name: str,
    defaults: Mapping[str, str] | None = None,
    script_arguments: Sequence[Any] = (),
) -> JobRequest:
    """The job that script, ``job=`` and arguments ask for; ``name`` is its name if none of them gives one."""
    script, warnings = tidy_script(script)
    check_script(script)
    given = {*job, *(["environment"] if environment else [])}
    merged = [Merged(each, each.fields(now, given)) for each in read_components(script)]
    _merge(merged, _read_job(job), arguments, environment)
    _check_no_array(merged)
    first = merged[0].fields
    if script_arguments:
        # argv[0] is the script's own name, which the job does not see
        first["argv"] = ["script", *map(str, script_arguments)]
    conflicts = [*warnings, *chain.from_iterable(each.conflicts for each in merged)]
    conflicts += overlooked(script)
    if "clusters" in first:
        conflicts.append(
            f"--clusters={first['clusters']} chooses nothing: the job runs on the task's cluster_id."
        )
    components = [settled(each.fields) for each in merged]
    conflicts += chain.from_iterable(map(hidden_outputs, components))
    return JobRequest(
        script,
        tuple(components),
        str(first.get("name", name)),
        defaults=defaults or {},
        conflicts=tuple(dict.fromkeys(conflicts)),
    )


def _check_no_array(merged: Sequence[Merged]) -> None:
    if len(merged) > 1 and any(each.fields.get("array") for each in merged):
        raise InputError("array: a heterogeneous job (#SBATCH hetjob) cannot be an array.")


def _merge(
    merged: Sequence[Merged],
    job: Mapping[str, Any],
    arguments: Mapping[str, Any],
    environment: Mapping[str, Any],
) -> None:
    """Each source wins over those before it."""
    for name, value in job.items():
        # a variable may hold a secret
        said = "…" if name == "environment" else _in_words(value)
        with merged[0].overruled(f"job={{{name!r}: {said}}}", "job=") as fields:
            put_field(fields, name, value)
    for name, (option, text) in _given(arguments).items():
        said = f"{name}={arguments[name]!r}"
        for each in merged:
            if name in OF_ALL or each.component.follows(option):
                with each.overruled(said, said) as fields:
                    _put_argument(fields, name, arguments[name], option, text)
    for variable, value in environment.items():
        said = f"environment's {variable}"
        for each in merged:
            with each.overruled(said, said) as fields:
                put_variables(fields, {variable: str(value)})


def _given(arguments: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Each argument that is given, as an option of ``sbatch`` with its value."""
    asked = {name: _as_option(name, value) for name, value in arguments.items()}
    found = {name: option for name, option in asked.items() if option is not None}
    excluded = rivals([option for option, _ in found.values()])
    if excluded:
        names = [name for name, (option, _) in found.items() if option in excluded]
        raise InputError(f"{' and '.join(names)} exclude each other: give one of them.")
    return found


def _as_option(name: str, value: Any) -> tuple[str, str] | None:
    """The option and its value that an argument stands for; None if it asks for nothing."""
    text = _text(name, value)
    if not text:
        return None
    flag = read_flag(text) if name in FLAGS else None
    if flag is not None:
        return FLAGS[name][flag]
    if name == "requeue":
        raise InputError(f"requeue is {value!r}; it takes True or False.")
    return ARGUMENTS[name], text


def _put_argument(fields: Fields, name: str, value: Any, option: str, text: str) -> None:
    put = OPTIONS[option].apply or put_nothing
    try:
        put(fields, text)
    except InputError:
        raise
    except ValueError as exc:
        raise InputError(f"{name} is {value!r}: {str(exc).rstrip('.')}.") from exc
    if name == "working_directory":
        put_variables(fields, {"SLURM_SUBMIT_DIR": str(SHARED / text)})


def put_field(fields: Fields, name: str, value: Any) -> None:
    """One field of ``job=``, in the place of others with the same meaning."""
    if name == "environment":
        put_variables(fields, value)
        return
    if name == "cpus_per_task":
        _put_cpus_per_task(fields, value)
        return
    if name == "tres_per_node" and "environment" in fields:
        variables = dict(fields["environment"])
        variables.pop("SLURM_GPUS_PER_NODE", None)
        fields["environment"] = variables
    if name in MEMORY_FIELDS:
        drop_memory(fields)
    fields[name] = value


def _put_cpus_per_task(fields: Fields, value: Any) -> None:
    try:
        put_cpus_per_task(fields, str(value))
    except ValueError as exc:
        raise InputError(f"job: cpus_per_task is {value!r}: {exc}.") from exc


def _read_job(job: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of ``job=``, checked; ``environment`` is a dict here."""
    fields = dict(job)
    variables = fields.pop("environment", None)
    found = check_fields(fields)
    memory = [name for name in MEMORY_FIELDS if name in found]
    if len(memory) > 1:
        raise InputError(f"job: {' and '.join(memory)} exclude each other: give one of them.")
    return found if variables is None else found | {"environment": variables}


def _text(name: str, value: Any) -> str:
    if value is None:
        return ""
    if name == "time_limit" and type(value) is float:
        try:
            value = timedelta(minutes=value)
        except (ValueError, OverflowError) as exc:
            raise InputError(f"time_limit is {value!r}, which is no time: {exc}.") from exc
    if isinstance(value, timedelta):
        seconds = round(value.total_seconds())
        return f"{seconds // 60}:{seconds % 60:02}"
    return str(value).strip()


REGISTRY = re.compile(r"(?P<host>[^/#]*[.:][^/#]*|localhost)/")
WRAPPER = """\
#!/bin/bash
# Written by airflow-provider-clusterra: runs the script between the two marks in a container.
script=$(mktemp "${{TMPDIR:-/tmp}}/clusterra-script.XXXXXX") || exit
trap 'rm -f "$script"' EXIT
cat >"$script" <<'{mark}' || exit
{script}
{mark}
{command} {interpreter} "$script" "$@" <&0 &
child=$!
# what Slurm sends to the batch script is meant for the script in the container
for name in HUP INT QUIT USR1 USR2 TERM CONT; do trap "kill -s $name $child" "$name"; done
while kill -0 "$child" 2>/dev/null; do wait "$child"; done
# bash remembers the status, also of a child that ended between two commands
wait "$child"
"""


class Container(msgspec.Struct, frozen=True):
    """What a job's script runs in."""

    image: str
    """As an author names it, e.g. ``"docker://python:3.12"``."""
    mounts: tuple[str, ...] = ()
    """Each ``SOURCE[:TARGET[:OPTIONS]]``."""
    working_directory: str = ""
    """Inside; ``""`` is the job's own."""

    @property
    def folder(self) -> str:
        """Its working directory, quoted for the shell."""
        return quote(self.working_directory) if self.working_directory else '"$PWD"'


def _apptainer(container: Container, program: str) -> str:
    binds = ['"$script"', '"$PWD"', *map(quote, container.mounts)]
    options = " ".join(f"--bind {each}" for each in binds)
    # SLURM_JOB_GPUS is set if the job has GPUs
    gpus = "${SLURM_JOB_GPUS:+--nv}"
    return (
        f"{quote(program)} exec {gpus} {options} --pwd {container.folder} {quote(container.image)}"
    )


def _pyxis(container: Container, _: str) -> str:
    image = container.image.removeprefix("docker://")
    if image.endswith(".sif"):
        raise InputError(
            f"container is {image!r}; pyxis runs images of a registry, and .sqsh files."
        )
    if not image.startswith(("/", ".")):
        # enroot's form of a registry
        image = REGISTRY.sub(r"\g<host>#", image, count=1)
    mounts = ['"$script:$script"', '"$PWD:$PWD"']
    mounts += [quote(each if ":" in each else f"{each}:{each}") for each in container.mounts]
    return (
        f"srun --nodes=1 --ntasks=1 --cpu-bind=none --container-image={quote(image)} "
        f"--container-mounts={','.join(mounts)} --container-workdir={container.folder}"
    )


RUNTIMES: dict[str, Callable[[Container, str], str] | None] = {
    "apptainer": _apptainer,
    "singularity": _apptainer,
    "pyxis": _pyxis,
    "oci": None,
}
"""How each starts a container; None: Slurm does it by itself."""


def is_runtime(name: str) -> bool:
    """Whether it is a runtime, or the path of its program."""
    is_path = name.startswith("/") and name.endswith(("/apptainer", "/singularity"))
    return is_path or name in RUNTIMES


def in_container(job: JobRequest, container: Container, runtime: str) -> JobRequest:
    """The job with its script in a container, if the runtime can run it so."""
    command = RUNTIMES[runtime.rpartition("/")[2]]
    if command is not None:
        return replace(job, script=_wrapped(job.script, command(container, runtime)))
    if container.mounts or container.working_directory:
        raise InputError(
            "container_mounts and container_workdir need container_runtime apptainer, singularity or "
            "pyxis in the connection: with oci, the bundle's own config.json says both."
        )
    return job.with_fields({"container": container.image})


def read_container(
    image: str | None, mounts: Sequence[str] | None, working_directory: str | None
) -> Container | None:
    """The container of a job; None if it has none."""
    if image:
        return Container(image, (*(mounts or ()),), working_directory or "")
    if mounts or working_directory:
        raise InputError("container_mounts and container_workdir are for a container: give it.")
    return None


def _wrapped(script: str, command: str) -> str:
    interpreter = script.partition("\n")[0].removeprefix("#!").strip().split(None, 1)
    mark = f"CLUSTERRA_{hashlib.sha256(script.encode()).hexdigest()[:16]}"
    return WRAPPER.format(
        mark=mark,
        script=script.removesuffix("\n"),
        command=command,
        # as the kernel reads a shebang: one program, and the rest is one argument
        interpreter=" ".join(map(quote, interpreter)),
    )
