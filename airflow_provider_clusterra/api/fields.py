"""How the value of an ``sbatch`` option becomes fields of a job of slurmrestd v0.0.44.

Each function puts a value into a job's fields, or makes one that does. They raise ValueError with
what is wrong, in words that follow the option's name.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from airflow_provider_clusterra.api.numbers import no_val
from airflow_provider_clusterra.api.units import read_memory_mb, read_time_limit_minutes

Fields = dict[str, Any]
Apply = Callable[[Fields, str], None]

MAIL_TYPES = {
    "BEGIN": "BEGIN",
    "END": "END",
    "FAIL": "FAIL",
    "REQUEUE": "REQUEUE",
    "STAGE_OUT": "STAGE_OUT",
    "ARRAY_TASKS": "ARRAY_TASKS",
    "INVALID_DEPEND": "INVALID_DEPENDENCY",
}
ALL_MAIL = ("BEGIN", "END", "FAIL", "INVALID_DEPENDENCY", "REQUEUE", "STAGE_OUT")
EXCLUSIVE = {"": "none", "user": "user", "mcs": "mcs", "topo": "topo"}
"""What ``--exclusive`` takes; the API's word for whole nodes is ``none``."""
OPEN_MODES = {"append": "APPEND", "a": "APPEND", "truncate": "TRUNCATE", "t": "TRUNCATE"}
MEMORY_FIELDS = ("memory_per_node", "memory_per_cpu", "memory_per_tres")
UNLIMITED = {"set": True, "infinite": True, "number": 0}


def as_text(field: str) -> Apply:
    """The value as it is."""

    def apply(fields: Fields, value: str) -> None:
        if not value:
            raise ValueError("it is empty")
        fields[field] = value

    return apply


def as_file(field: str) -> Apply:
    """A file's path; ``none`` is no file."""

    def apply(fields: Fields, value: str) -> None:
        if not value:
            raise ValueError("it is empty")
        fields[field] = "/dev/null" if value.lower() == "none" else value

    return apply


def as_count(field: str) -> Apply:
    """A whole number above 0."""

    def apply(fields: Fields, value: str) -> None:
        fields[field] = whole_number(value, 1)

    return apply


def as_(field: str, value: Any) -> Apply:
    """Always the same."""

    def apply(fields: Fields, _: str) -> None:
        fields[field] = value

    return apply


def as_memory(field: str) -> Apply:
    """Memory, in the place of any other form of it: of two, Slurm drops one without a word.

    :param field: the job's.
    """

    def apply(fields: Fields, value: str) -> None:
        for each in MEMORY_FIELDS:
            fields.pop(each, None)
        # 0 is all that a node has
        megabytes = 0 if value == "0" else read_memory_mb(value)
        per_gpu = field == "memory_per_tres"
        fields[field] = f"gres/gpu:{megabytes}" if per_gpu else no_val(megabytes)

    return apply


def as_minutes(field: str) -> Apply:
    """A time in any of the six forms; 0 is no limit to ``sbatch``, and "at once" to slurmrestd.

    :param field: the job's.
    """

    def apply(fields: Fields, value: str) -> None:
        unlimited = value.upper() in ("0", "UNLIMITED", "INFINITE")
        fields[field] = UNLIMITED if unlimited else no_val(read_time_limit_minutes(value))

    return apply


def as_gres(field: str) -> Apply:
    """Generic resources: ``gpu:1`` to ``sbatch`` is ``gres/gpu:1`` to slurmrestd."""

    def apply(fields: Fields, value: str) -> None:
        if value.lower() == "none":
            fields.pop(field, None)
            return
        names = [each.removeprefix("gres/") for each in value.split(",")]
        fields[field] = ",".join(f"gres/{name}" for name in names)

    return apply


def as_word(field: str, words: dict[str, str]) -> Apply:
    """One word of several, as a list of one: so slurmrestd has its flags.

    :param field: the job's.
    :param words: what ``sbatch`` takes, and what slurmrestd calls it.
    """

    def apply(fields: Fields, value: str) -> None:
        fields[field] = [_one_of(words, value.lower())]

    return apply


def as_hosts(field: str) -> Apply:
    """Names of nodes; a comma inside brackets belongs to one of them."""

    def apply(fields: Fields, value: str) -> None:
        fields[field] = re.split(r",(?![^\[]*\])", value)

    return apply


def put_nodes(fields: Fields, value: str) -> None:
    """``--nodes``: a count or a range."""
    if not re.fullmatch(r"[0-9]+(-[0-9]+)?(:[0-9]+)?(,[0-9:-]+)*", value):
        raise ValueError("it takes a count or a range, e.g. 2 or 2-4")
    fields["nodes"] = value


def put_cpus_per_task(fields: Fields, value: str) -> None:
    """``--cpus-per-task``: two fields, as ``sbatch`` sends them."""
    fields["cpus_per_task"] = whole_number(value, 1)
    put_tres_per_task(fields, "cpu", f"cpu={int(value)}")


def put_temporary_disk(fields: Fields, value: str) -> None:
    """``--tmp``: MB."""
    fields["temporary_disk_per_node"] = read_memory_mb(value)


def put_array(fields: Fields, value: str) -> None:
    """``--array``: indices, perhaps with a limit of how many run at once."""
    if not re.fullmatch(r"[0-9]+([-:,][0-9]+)*(%[0-9]+)?", value):
        raise ValueError("it takes indices, e.g. 0-9, 1,3,5 or 0-99%4")
    fields["array"] = value


def put_nice(fields: Fields, value: str) -> None:
    """``--nice``: 100 where it says no number."""
    if not re.fullmatch(r"(-?[0-9]+)?", value):
        raise ValueError("it takes a whole number")
    fields["nice"] = int(value or 100)


def put_priority(fields: Fields, value: str) -> None:
    """``--priority``."""
    fields["priority"] = no_val(whole_number(value, 0))


def put_signal(fields: Fields, value: str) -> None:
    """``--signal``: which, to whom, and how many seconds before the end."""
    found = re.fullmatch(r"(?:([RBrb]+):)?(\w+)(?:@([0-9]+))?", value)
    if not found:
        raise ValueError("it takes a signal and seconds, e.g. B:USR1@120")
    names = {"B": "BATCH_JOB", "R": "RESERVATION_JOB"}
    fields["kill_warning_signal"] = found[2].upper().removeprefix("SIG")
    fields["kill_warning_delay"] = no_val(int(found[3] or 60))
    flags = [names[each] for each in dict.fromkeys((found[1] or "").upper())]
    fields |= {"kill_warning_flags": flags} if flags else {}


def put_mail_type(fields: Fields, value: str) -> None:
    """``--mail-type``: ALL is written out, because the API drops it without a word."""
    found: list[str] = []
    for word in value.upper().split(","):
        if word.startswith("TIME_LIMIT"):
            raise ValueError("the API answers it with an error, and starts the job all the same")
        if word not in (*MAIL_TYPES, "ALL", "NONE"):
            raise ValueError(f"it takes {', '.join(MAIL_TYPES)}, ALL or NONE")
        found += ALL_MAIL if word == "ALL" else [MAIL_TYPES[word]] if word in MAIL_TYPES else []
    fields["mail_type"] = list(dict.fromkeys(found))


def put_hint(fields: Fields, value: str) -> None:
    """``--hint``: the one that is a field."""
    if value != "nomultithread":
        raise ValueError("only nomultithread can be honoured")
    fields["threads_per_core"] = 1
    _put_variables(fields, {"SLURM_HINT": value})


def put_user_environment(fields: Fields, _: str) -> None:
    """``--get-user-env``."""
    _put_variables(fields, {"SLURM_GET_USER_ENV": "1"})


def put_flag(name: str) -> Apply:
    """One of the job's flags.

    :param name: as slurmrestd calls it.
    """

    def apply(fields: Fields, _: str) -> None:
        fields["flags"] = [*(each for each in fields.get("flags", []) if each != name), name]

    return apply


def put_invalid_dependency(fields: Fields, value: str) -> None:
    """``--kill-on-invalid-dep``: two flags of which one is."""
    flags = {"yes": "KILL_INVALID_DEPENDENCY", "no": "NO_KILL_INVALID_DEPENDENCY"}
    flag = _one_of(flags, value.lower())
    others = [each for each in fields.get("flags", []) if each not in flags.values()]
    fields["flags"] = [*others, flag]


def put_export(fields: Fields, value: str) -> None:
    """``--export``: only what it gives a value to, because there is no shell to take more from."""
    found: dict[str, str] = {}
    for part in re.findall(r"(?:[^,'\"]|'[^']*'|\"[^\"]*\")+", value):
        name, equals, content = part.partition("=")
        if equals:
            found[name] = re.sub(r"'([^']*)'|\"([^\"]*)\"", r"\1\2", content)
        elif name not in ("ALL", "NIL", "NONE"):
            raise ValueError(f"there is no shell here to take {name} from: give it a value")
    if value != "ALL":
        found["SLURM_EXPORT_ENV"] = value
    if value not in ("ALL", "NIL"):
        # what else the job finds is what its user finds after signing in
        found["SLURM_GET_USER_ENV"] = "1"
    _put_variables(fields, found)


def put_nothing(_: Fields, __: str) -> None:
    """It says how ``sbatch`` itself behaves, which is not here."""


def _put_variables(fields: Fields, variables: dict[str, str]) -> None:
    fields["environment"] = {**fields.get("environment", {}), **variables}


def put_tres_per_task(fields: Fields, name: str, entry: str) -> None:
    """What each task needs of one resource, in the place of what it needed of it.

    :param fields: the job's.
    :param name: the resource's, e.g. ``"gres/gpu"``.
    :param entry: e.g. ``"gres/gpu:t4=1"``.
    """
    others = [each for each in str(fields.get("tres_per_task", "")).split(",") if each]
    kept = [each for each in others if not each.startswith(name)]
    fields["tres_per_task"] = ",".join(sorted([*kept, entry]))


def _one_of(words: dict[str, str], value: str) -> str:
    if value not in words:
        raise ValueError(f"it takes {', '.join(each or 'nothing' for each in words)}")
    return words[value]


def whole_number(value: str, least: int) -> int:
    """A whole number.

    :param value: its digits.
    :param least: what it must not be below.
    :raises ValueError: it is none, or too small.
    """
    if not re.fullmatch(r"[0-9]+", value) or int(value) < least:
        raise ValueError(f"it takes a whole number of at least {least}")
    return int(value)
