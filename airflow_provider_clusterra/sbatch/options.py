"""The options of ``sbatch``: what each takes, and which fields of a job of slurmrestd v0.0.44 it sets."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, time, timedelta
from typing import Any, Literal, NamedTuple

import msgspec

from airflow_provider_clusterra.api.errors import InputError
from airflow_provider_clusterra.api.slurm import no_val
from airflow_provider_clusterra.api.specs import put_tres_per_task

MB_IN = {"": 1.0, "K": 1 / 1024, "M": 1.0, "G": 1024.0, "T": 1024.0 * 1024.0}
MEMORY = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?\s*", re.IGNORECASE)
CLOCK = re.compile(
    r"\s*(?:(?P<days>\d+)-(?P<hours>\d+)(?::(?P<minutes>\d+)(?::(?P<seconds>\d+))?)?"
    r"|(?:(?P<h>\d+):(?=\d+:))?(?P<m>\d+)(?::(?P<s>\d+))?)\s*"
)


def read_memory_mb(value: str | float) -> int:
    """An amount of memory in MB, rounded up.

    :raises InputError: it is none of these, or not positive.
    :source: ``sbatch --mem``; slurmrestd's ``memory_per_node`` is in MB.
    """
    found = MEMORY.fullmatch(str(value))
    megabytes = math.ceil(float(found[1]) * MB_IN[found[2].upper()]) if found else 0
    if megabytes < 1:
        raise InputError(f"memory: {value!r} is no amount. Give MB as a number, or e.g. '4G'.")
    return megabytes


def read_time_limit_minutes(value: str | float | timedelta) -> int:
    """A time limit in minutes, rounded up.

    :raises InputError: it is none of these, or not positive.
    :source: ``sbatch --time``; slurmrestd's ``time_limit`` is in minutes.
    """
    minutes = math.ceil(_seconds(value) / 60)
    if minutes < 1:
        raise InputError(
            f"time_limit: {value!r} is no time. Give a timedelta, minutes, or e.g. '1-12:00:00'."
        )
    return minutes


def _seconds(value: str | float | timedelta) -> float:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, int | float):
        return value * 60
    found = CLOCK.fullmatch(value)
    if not found:
        return 0
    part = {name: int(text) for name, text in found.groupdict(default="0").items()}
    if found["days"] is not None:
        return ((part["days"] * 24 + part["hours"]) * 60 + part["minutes"]) * 60 + part["seconds"]
    return (part["h"] * 60 + part["m"]) * 60 + part["s"]


COUNT = re.compile(r"now(?:\s*\+\s*(\d+)\s*(second|minute|hour|day|week)?s?)?", re.IGNORECASE)
CLOCK_WHEN = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}))?\s*(am|pm)?", re.IGNORECASE)
DATES = ("%Y-%m-%d", "%m%d%y", "%m/%d/%y", "%m.%d.%y")
HOURS = {
    "midnight": time(0),
    "elevenses": time(11),
    "noon": time(12),
    "fika": time(15),
    "teatime": time(16),
}


def read_when(text: str, now: datetime) -> int:
    """A point in time as seconds since 1970.

    :raises ValueError: it is none of these; the words say what to give.
    :source: ``sbatch --begin``.
    """
    value = text.strip()
    counted = COUNT.fullmatch(value)
    if counted:
        unit = (counted[2] or "second").lower() + "s"
        return int((now + timedelta(**{unit: int(counted[1] or 0)})).timestamp())
    found = _read_clock(value, now) or _read_date(value, now)
    if found is None:
        raise ValueError("it takes e.g. now+1hour, 16:00, tomorrow or 2027-01-20T12:34:00")
    return int(found.timestamp())


def _read_clock(value: str, now: datetime) -> datetime | None:
    """The next time that the clock shows this."""
    clock = HOURS.get(value.lower()) or _clock(value)
    if clock is None:
        return None
    when = datetime.combine(now.date(), clock, now.tzinfo)
    return when if when > now else when + timedelta(days=1)


def _read_date(value: str, now: datetime) -> datetime | None:
    days = {"today": 0, "tomorrow": 1}.get(value.lower())
    if days is not None:
        # a day begins at midnight: today has begun
        return datetime.combine(now.date() + timedelta(days=days), time(0), now.tzinfo)
    date, separator, rest = value.partition("T")
    clock = _clock(rest) if separator else time(0)
    if clock is None:
        return None
    for form in DATES:
        try:
            day = datetime.strptime(date, form).date()  # noqa: DTZ007 - the zone is now's
        except ValueError:
            continue
        return datetime.combine(day, clock, now.tzinfo)
    return None


def _clock(value: str) -> time | None:
    found = CLOCK_WHEN.fullmatch(value)
    if not found:
        return None
    hour = int(found[1])
    if found[4]:
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + (12 if found[4].lower() == "pm" else 0)
    try:
        return time(hour, int(found[2]), int(found[3] or 0))
    except ValueError:
        return None


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
    """Memory, in the place of any other form of it: of two, Slurm drops one without a word."""

    def apply(fields: Fields, value: str) -> None:
        for each in MEMORY_FIELDS:
            fields.pop(each, None)
        # 0 is all that a node has
        megabytes = 0 if value == "0" else read_memory_mb(value)
        per_gpu = field == "memory_per_tres"
        fields[field] = f"gres/gpu:{megabytes}" if per_gpu else no_val(megabytes)

    return apply


def as_minutes(field: str) -> Apply:
    """A time in any of the six forms; 0 is no limit to ``sbatch``, and "at once" to slurmrestd."""

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
    """One word of several, as a list of one: so slurmrestd has its flags."""

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
    """One of the job's flags."""

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


def _one_of(words: dict[str, str], value: str) -> str:
    if value not in words:
        raise ValueError(f"it takes {', '.join(each or 'nothing' for each in words)}")
    return words[value]


def whole_number(value: str, least: int) -> int:
    """A whole number.

    :raises ValueError: it is none, or too small.
    """
    if not re.fullmatch(r"[0-9]+", value) or int(value) < least:
        raise ValueError(f"it takes a whole number of at least {least}")
    return int(value)


KINDS = "afterok|afterany|afternotok|aftercorr|afterburstbuffer|after"
CLAUSE = re.compile(rf"({KINDS})((?::\d+(?:_\d+|_\*)?(?:\+\d+)?)+)|singleton", re.IGNORECASE)
SUCCESS = {"afterok": True, "aftercorr": True, "afternotok": False}
"""Which end each kind asks for; any other is content with every end."""


class Clause(msgspec.Struct, frozen=True):
    """One condition, e.g. ``afterok:12:13``."""

    kind: str
    job_ids: tuple[str, ...]
    """As they were written, e.g. ``"12"``, ``"12_3"`` or ``"12+5"``; empty for ``singleton``."""

    def __str__(self) -> str:
        return ":".join((self.kind, *self.job_ids))


def put_dependency(fields: Fields, value: str) -> None:
    """``--dependency``: checked, because Slurm says the same of a typing error and a forgotten job."""
    read_dependency(value)
    fields["dependency"] = value


def read_dependency(text: str) -> tuple[list[Clause], str]:
    """A dependency's conditions, and what stands between them.

    :raises ValueError: it cannot be read; the words say what to give.
    :source: ``sbatch --dependency``.
    """
    between = "?" if "?" in text else ","
    found = []
    for part in text.split(between):
        match = CLAUSE.fullmatch(part.strip())
        if not match:
            raise ValueError("it takes e.g. afterok:12:13, afterany:14 or singleton")
        ids = (match[2] or "").split(":")[1:]
        found.append(Clause((match[1] or "singleton").lower(), tuple(ids)))
    return found, between


def job_id_of(written: str) -> int:
    """The number of a job that a dependency names."""
    return int(re.split(r"[_+]", written)[0])


class Settled(NamedTuple):
    """What is left of a clause once some of its jobs have ended; nothing and no ``broken``: it holds."""

    left: Clause | None
    broken: list[str]
    """The jobs that ended in another way than it asks for, in words."""


def settle_dependency(text: str, ends: Mapping[str, bool]) -> str:
    """What is left of a dependency once some of its jobs have ended.

    :raises InputError: it can never hold; the words name the job.
    """
    clauses, between = read_dependency(text)
    settled = [_settle(clause, ends) for clause in clauses]
    if between == "?" and any(each == (None, []) for each in settled):
        return ""
    left = [str(each.left) for each in settled if each.left]
    broken = [words for each in settled for words in each.broken]
    if broken and (between == "," or not left):
        raise InputError(f"dependency: {text} can never hold: {', '.join(broken)}.")
    return between.join(left)


def _settle(clause: Clause, ends: Mapping[str, bool]) -> Settled:
    ended = [each for each in clause.job_ids if each in ends]
    wanted = SUCCESS.get(clause.kind)
    bad = [each for each in ended if wanted is not None and ends[each] is not wanted]
    if bad:
        ways = {True: "succeeded", False: "failed"}
        return Settled(None, [f"job {each} {ways[ends[each]]}" for each in bad])
    rest = tuple(each for each in clause.job_ids if each not in ends)
    holds = ended and not rest
    return Settled(None if holds else Clause(clause.kind, rest), [])


PER_TASK = re.compile(r"gres/gpu((?::[^=:,]+)?)[=:]([0-9]+)")


def as_gpus(field: str) -> Apply:
    """GPUs: a count, perhaps with a type before it."""

    def apply(fields: Fields, value: str) -> None:
        _check_count(value)
        fields[field] = f"gres/gpu:{value}"

    return apply


def put_gpus_per_task(fields: Fields, value: str) -> None:
    """``--gpus-per-task``: as a resource, and bound to its task."""
    _check_count(value)
    kind, _, count = value.rpartition(":")
    put_tres_per_task(fields, "gres/gpu", f"gres/gpu{kind and f':{kind}'}={count}")
    fields["tres_bind"] = f"gres/gpu:per_task:{count}"


def put_cpus_per_gpu(fields: Fields, value: str) -> None:
    """``--cpus-per-gpu``."""
    fields["cpus_per_tres"] = f"gres/gpu:{whole_number(value, 1)}"


def settle_gpus(fields: Fields) -> None:
    """As many tasks as a job's GPUs are for, as ``sbatch`` counts them; slurmrestd would take one.

    :raises InputError: there is no number of tasks, or another than all GPUs make.
    :source: what ``sbatch`` 26.05 says of ``--gpus-per-task``.
    """
    wanted = PER_TASK.search(str(fields.get("tres_per_task", "")))
    if not wanted or not int(wanted[2]):
        return
    kind, each = wanted[1], int(wanted[2])
    given = _tasks(fields)
    total = re.search(rf"gres/gpu{kind}:([0-9]+)$", str(fields.get("tres_per_job", "")))
    if not total:
        if given is None:
            raise InputError(
                f"GPUs: {each} for each task{kind and f' ({kind[1:]})'}, and not how many tasks. "
                "Give --ntasks or --gpus beside --gpus-per-task, as sbatch wants it."
            )
        return
    tasks, rest = divmod(int(total[1]), each)
    if rest or given not in (None, tasks):
        raise InputError(
            f"GPUs: {each} for each task are not the {total[1]} of the job with "
            f"{given or 'any number of'} tasks. Leave out one of --gpus, --gpus-per-task and --ntasks."
        )
    fields["tasks"] = tasks


def _tasks(fields: Fields) -> int | None:
    """How many tasks there are without a look at the GPUs; a range of nodes does not tell."""
    nodes = str(fields.get("nodes", ""))
    if "tasks" in fields or not nodes.isdigit():
        return fields.get("tasks")
    return int(nodes) * int(fields.get("tasks_per_node", 1))


def _check_count(value: str) -> None:
    if not re.fullmatch(r"(?:[A-Za-z][\w.-]*:)?[0-9]+", value):
        raise ValueError("it takes a number, or a type and a number, e.g. a10g:1")


class Option(NamedTuple):
    """One option."""

    takes: Literal["value", "perhaps", "nothing"]
    """Whether it takes a value; ``"perhaps"`` takes one only behind ``=``."""
    apply: Apply | None = None
    """Puts it into a job's fields. None: it cannot be honoured here."""
    letter: str = ""
    why: str = ""
    """Why it cannot be honoured, or what to do instead."""


TIMES = {"begin": "begin_time", "deadline": "deadline"}
"""Options whose value is a time, which a clock and a zone are needed for."""
OPTIONS: dict[str, Option] = {
    "account": Option("value", as_text("account"), "A"),
    "array": Option("value", put_array, "a"),
    "begin": Option("value", put_nothing, "b"),
    "chdir": Option("value", as_text("current_working_directory"), "D"),
    "comment": Option("value", as_text("comment")),
    "constraint": Option("value", as_text("constraints"), "C"),
    "contiguous": Option("nothing", as_("contiguous", value=True)),
    "cpus-per-gpu": Option("value", put_cpus_per_gpu),
    "cpus-per-task": Option("value", put_cpus_per_task, "c"),
    "deadline": Option("value", put_nothing),
    "dependency": Option("value", put_dependency, "d"),
    "distribution": Option("value", as_text("distribution"), "m"),
    "error": Option("value", as_file("standard_error"), "e"),
    "exclude": Option("value", as_hosts("excluded_nodes"), "x"),
    "exclusive": Option("perhaps", as_word("shared", EXCLUSIVE)),
    "export": Option("value", put_export),
    "get-user-env": Option("perhaps", put_user_environment),
    "gpus": Option("value", as_gpus("tres_per_job"), "G"),
    "gpus-per-node": Option("value", as_gpus("tres_per_node")),
    "gpus-per-socket": Option("value", as_gpus("tres_per_socket")),
    "gpus-per-task": Option("value", put_gpus_per_task),
    "gres": Option("value", as_gres("tres_per_node")),
    "hint": Option("value", put_hint),
    "hold": Option("nothing", as_("hold", value=True), "H"),
    "ignore-pbs": Option("nothing", put_nothing),
    "input": Option("value", as_file("standard_input"), "i"),
    "job-name": Option("value", as_text("name"), "J"),
    "kill-on-invalid-dep": Option("value", put_invalid_dependency),
    "licenses": Option("value", as_text("licenses"), "L"),
    "mail-type": Option("value", put_mail_type),
    "mail-user": Option("value", as_text("mail_user")),
    "mem": Option("value", as_memory("memory_per_node")),
    "mem-per-cpu": Option("value", as_memory("memory_per_cpu")),
    "mem-per-gpu": Option("value", as_memory("memory_per_tres")),
    "mincpus": Option("value", as_count("minimum_cpus_per_node")),
    "nice": Option("perhaps", put_nice),
    "no-kill": Option("perhaps", as_("kill_on_node_fail", value=False), "k"),
    "no-requeue": Option("nothing", as_("requeue", value=False)),
    "nodelist": Option("value", as_hosts("required_nodes"), "w"),
    "nodes": Option("value", put_nodes, "N"),
    "ntasks": Option("value", as_count("tasks"), "n"),
    "ntasks-per-core": Option("value", as_count("tasks_per_core")),
    "ntasks-per-node": Option("value", as_count("tasks_per_node")),
    "ntasks-per-socket": Option("value", as_count("tasks_per_socket")),
    "open-mode": Option("value", as_word("open_mode", OPEN_MODES)),
    "output": Option("value", as_file("standard_output"), "o"),
    "overcommit": Option("nothing", as_("overcommit", value=True), "O"),
    "oversubscribe": Option("nothing", as_("shared", ["oversubscribe"]), "s"),
    "parsable": Option("nothing", put_nothing),
    "partition": Option("value", as_text("partition"), "p"),
    "prefer": Option("value", as_text("prefer")),
    "priority": Option("value", put_priority),
    "qos": Option("value", as_text("qos"), "q"),
    "quiet": Option("nothing", put_nothing, "Q"),
    "requeue": Option("nothing", as_("requeue", value=True)),
    "reservation": Option("value", as_text("reservation")),
    "signal": Option("value", put_signal),
    "sockets-per-node": Option("value", as_count("sockets_per_node")),
    "spread-job": Option("nothing", put_flag("SPREAD_JOB")),
    "test-only": Option("nothing", why="it submits nothing"),
    "threads-per-core": Option("value", as_count("threads_per_core")),
    "time": Option("value", as_minutes("time_limit"), "t"),
    "time-min": Option("value", as_minutes("time_minimum")),
    "tmp": Option("value", put_temporary_disk),
    "verbose": Option("nothing", put_nothing, "v"),
    "wait": Option("nothing", letter="W", why="use wait_for_completion=True"),
    "wckey": Option("value", as_text("wckey")),
    "wrap": Option("value", why="give the command as the script"),
}
OTHERS = """
    acctg-freq batch bb cluster-constraint clusters consolidate-segments container container-id
    core-spec cpu-freq delay-boot extra extra-node-info gpu-bind gpu-freq gres-flags mcs-label
    mem-bind network ntasks-per-gpu oom-kill-step power profile propagate reboot resv-ports segment
    spread-segments stepmgr switches thread-spec tres-bind tres-per-task use-min-nodes wait-all-nodes
"""
"""Options of ``sbatch`` that few scripts hold; the API's own field does what they do."""
UNKNOWN_TO_API = """
    bbf container-type cores-per-socket export-file ext-launcher gid help nodefile resources uid
    usage version
"""
"""Options of ``sbatch`` that the API has no field for."""
LETTERS = {
    "clusters": "M",
    "core-spec": "S",
    "extra-node-info": "B",
    "help": "h",
    "nodefile": "F",
    "version": "V",
}
OPTIONS |= {
    name: Option("perhaps", letter=LETTERS.get(name, ""), why=why)
    for names, why in (
        (OTHERS, "give the API's own field with job="),
        (UNKNOWN_TO_API, "the API has no field for it"),
    )
    for name in names.split()
}
SHORT = {option.letter: name for name, option in OPTIONS.items() if option.letter}
FOLLOWING = """
    account array begin chdir comment deadline dependency error exclude get-user-env hint hold
    ignore-pbs input job-name kill-on-invalid-dep mem nice no-kill no-requeue open-mode output
    prefer priority qos requeue reservation signal time time-min wckey
"""
"""What a component of a heterogeneous job has from the one before it, unless it says otherwise.

:source: ``sbatch -vv`` 26.05 with each option in the first of two components; its source marks the
    others ``reset_each_pass``.
"""
CARRIED = frozenset(FOLLOWING.split())
RIVALS = (
    frozenset({"mem", "mem-per-cpu", "mem-per-gpu"}),
    frozenset({"exclusive", "oversubscribe"}),
)
"""Options of which ``sbatch`` takes one: of two, slurmrestd would drop one without a word."""
SAME = (*RIVALS, frozenset({"requeue", "no-requeue"}))


def rivals(names: Iterable[str]) -> list[str]:
    """Those of some options that exclude each other; empty where all of them go together."""
    given = list(dict.fromkeys(names))
    found = [[name for name in given if name in group] for group in RIVALS]
    return next((each for each in found if len(each) > 1), [])


def same(name: str) -> frozenset[str]:
    """The options that say what this one says: itself, and those in whose place it stands."""
    return next((group for group in SAME if name in group), frozenset({name}))
