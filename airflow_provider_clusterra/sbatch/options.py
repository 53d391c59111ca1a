"""The options of ``sbatch``: what each takes, and which fields of a job of slurmrestd v0.0.44 it sets."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, time, timedelta
from itertools import chain
from typing import Any, ClassVar, Literal, NamedTuple

import msgspec

from airflow_provider_clusterra.api.errors import InputError
from airflow_provider_clusterra.api.specs import check_names, no_val, put_tres_per_task

MB_IN = {"": 1.0, "K": 1 / 1024, "M": 1.0, "G": 1024.0, "T": 1024.0 * 1024.0}
MEMORY = re.compile(r"\s*(\d{1,18}(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?\s*", re.IGNORECASE)
CLOCK = re.compile(
    r"\s*(?:(?P<days>\d+)-(?:(?P<hours>\d+)(?::(?P<minutes>\d+)(?::(?P<seconds>\d+))?)?)?"
    r"|(?:(?P<h>\d+):(?=\d+:))?(?P<m>\d+)(?::(?P<s>\d+))?)\s*"
)


def read_memory_mb(value: str | float) -> int:
    """An amount of memory in MB, as slurmrestd takes it, rounded up."""
    found = MEMORY.fullmatch(str(value))
    megabytes = math.ceil(float(found[1]) * MB_IN[found[2].upper()]) if found else 0
    if megabytes < 1:
        raise InputError(f"memory: {value!r} is no amount. Give MB as a number, or e.g. '4G'.")
    return megabytes


def read_time_limit_minutes(value: str | float | timedelta) -> int:
    """A time limit in minutes, as slurmrestd takes it, rounded up."""
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


UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 7 * 86400}
HOURS = {"midnight": 0, "elevenses": 11, "noon": 12, "fika": 15, "teatime": 16}
EPOCH = re.compile(r"uts(\d{7,})", re.IGNORECASE)


def read_when(text: str, now: datetime) -> int:
    """A point in time as seconds since 1970; ``now+1day`` is 86,400 s later, also if the clock changes.

    :source: ``sbatch --begin`` of 26.05.
    """
    epoch = EPOCH.fullmatch(text.strip())
    try:
        return int(epoch[1]) if epoch else int(_Moment(text.strip(), now).when().timestamp())
    except (ValueError, OverflowError) as exc:
        raise ValueError("it takes e.g. now+1hour, 16:00, tomorrow or 2027-01-20T12:34:00") from exc


class _Moment:
    """A point in time, put together from the parts of a text."""

    def __init__(self, text: str, now: datetime) -> None:
        self._now = now
        self._date: date | None = None
        self._clock: time | None = None
        while text:
            text = self._take(text)

    def when(self) -> datetime:
        """The instant: a date alone is its midnight, a time of day alone is the next one."""
        if self._date is None and self._clock is None:
            raise ValueError("nothing is said")
        clock = self._clock or time(0)
        if self._date is not None:
            return datetime.combine(self._date, clock, self._now.tzinfo)
        is_ahead = (clock.hour, clock.minute) > (self._now.hour, self._now.minute)
        day = self._now if is_ahead else _later(self._now, UNITS["day"])
        return datetime.combine(day.date(), clock, self._now.tzinfo)

    def _take(self, text: str) -> str:
        """Take the first part of a text, and return the rest."""
        for form, take in self.PARTS.items():
            # compiled when first used
            if part := re.match(form, text, re.IGNORECASE):
                take(self, part)
                return text[part.end() :]
        raise ValueError(text)

    def _take_interval(self, part: re.Match[str]) -> None:
        count = int(f"{part['sign'] or '+'}{part['count'] or 0}")
        moment = _later(self._now, count * UNITS[(part["unit"] or "second").lower()])
        self._date, self._clock = moment.date(), moment.timetz().replace(tzinfo=None)

    def _take_today(self, _: re.Match[str]) -> None:
        self._date = self._now.date()

    def _take_tomorrow(self, _: re.Match[str]) -> None:
        self._date = _later(self._now, UNITS["day"]).date()

    def _take_word(self, part: re.Match[str]) -> None:
        self._clock = time(HOURS[part[0].lower()])

    def _take_clock(self, part: re.Match[str]) -> None:
        self._clock = _clock(part)

    def _take_date(self, part: re.Match[str]) -> None:
        self._date = _day(int(part["year"]), part["month"], part["day"])

    def _take_american_date(self, part: re.Match[str]) -> None:
        if part["year"]:
            self._date = _day(2000 + int(part["year"][-2:]), part["month"], part["day"])
            return
        day = _day(self._now.year, part["month"], part["day"])
        is_ahead = day > self._now.date()
        self._date = day if is_ahead else _day(self._now.year + 1, part["month"], part["day"])

    def _take_separator(self, _: re.Match[str]) -> None:
        """It says nothing."""

    PARTS: ClassVar[dict[str, Callable[[_Moment, re.Match[str]], None]]] = {
        r"now\s*(?:(?P<sign>[+-])\s*(?P<count>\d+)\s*"
        r"(?:(?P<unit>second|minute|hour|day|week)s?)?|$)": _take_interval,
        "today": _take_today,
        "tomorrow": _take_tomorrow,
        "|".join(HOURS): _take_word,
        r"(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2}))?"
        r"(?:\s*(?P<half>am|pm))?": _take_clock,
        r"(?P<year>\d{4})-(?P<month>\d{1,2})-(?P<day>\d{1,2})": _take_date,
        r"(?P<month>\d\d|\d(?=[./]))[./]?(?P<day>\d{1,2})"
        r"(?:[./]?(?P<year>\d{4}|\d{2}))?": _take_american_date,
        r"[ \tT-]": _take_separator,
    }
    """The forms of a part, in the order in which ``sbatch`` tries them."""


def _later(now: datetime, seconds: int) -> datetime:
    return datetime.fromtimestamp(now.timestamp() + seconds, now.tzinfo)


def _day(year: int, month: str, day: str) -> date:
    """As mktime() has it: 30 February is 2 March."""
    if not 1 <= int(day) <= 31:
        raise ValueError(day)
    return date(year, int(month), 1) + timedelta(days=int(day) - 1)


def _clock(said: re.Match[str]) -> time:
    hour = int(said["hour"])
    half = (said["half"] or "").lower()
    if half:
        if hour > 12:
            raise ValueError(said["hour"])
        hour = hour % 12 + (12 if half == "pm" else 0)
    return time(hour, int(said["minute"]), int(said["second"] or 0))


Fields = dict[str, Any]
Apply = Callable[[Fields, str], None]

SAME_MAIL = ("BEGIN", "END", "FAIL", "REQUEUE", "STAGE_OUT", "ARRAY_TASKS")
MAIL_TYPES = {word: [word] for word in SAME_MAIL}
MAIL_TYPES |= {"INVALID_DEPEND": ["INVALID_DEPENDENCY"], "TIME_LIMIT": ["TIME=100%"]}
MAIL_TYPES |= {f"TIME_LIMIT_{share}": [f"TIME={share}%"] for share in (90, 80, 50)}
MAIL_TYPES |= {"ALL": ["BEGIN", "END", "FAIL", "INVALID_DEPENDENCY", "REQUEUE", "STAGE_OUT"]}
MAIL_TYPES |= {"NONE": []}
"""The API's words for each of ``--mail-type``; it ignores ALL silently."""
EXCLUSIVE = {"": ["none"], "exclusive": ["none"], "allocation": ["none"]}
EXCLUSIVE |= {word: [word] for word in ("user", "mcs", "topo")}
"""What ``--exclusive`` takes; the API's word for whole nodes is ``none``."""
OPEN_MODES = {"append": ["APPEND"], "a": ["APPEND"], "truncate": ["TRUNCATE"], "t": ["TRUNCATE"]}
SIGNALS = (
    *("HUP", "INT", "QUIT", "ABRT", "KILL", "ALRM", "TERM", "CHLD", "USR1", "USR2", "CONT", "STOP"),
    *("TSTP", "TTIN", "TTOU", "PIPE", "URG", "XCPU"),
)
"""Names that ``--signal`` takes."""
SIGNAL = rf"(?:(?P<to>[RB]+):)?(?:SIG)?(?P<name>{'|'.join(SIGNALS)}|0*[1-9][0-9]*)(?:@(?P<delay>[0-9]*))?"
HINTS: dict[str, tuple[Fields, str]] = {
    "compute_bound": ({"threads_per_core": 1}, ""),
    "memory_bound": ({"threads_per_core": 1}, ""),
    "multithread": ({}, "65535"),
    "nomultithread": ({"threads_per_core": 1}, ""),
}
"""The fields of each hint, and the value that ``sbatch`` gives to ``SLURM_NTASKS_PER_CORE``."""
GRES_FLAGS = {
    "disable-binding": "GRES_BINDING_DISABLED",
    "enforce-binding": "GRES_BINDING_ENFORCED",
}
INVALID_DEPENDENCY = {"yes": "KILL_INVALID_DEPENDENCY", "no": "NO_KILL_INVALID_DEPENDENCY"}
PROFILES = ("energy", "lustre", "network", "task", "none")
FREQUENCIES = (
    *("Low", "Medium", "HighM1", "High", "Conservative", "OnDemand", "Performance", "PowerSave"),
    *("SchedUtil", "UserSpace"),
)
"""Words of ``--cpu-freq`` as ``sbatch`` writes them."""
MEMORY_BINDINGS = {"none": "NONE", "no": "NONE", "rank": "RANK", "local": "LOCAL"}
MEMORY_BINDINGS |= {"map_mem": "MAP", "mask_mem": "MASK", "prefer": "PREFER", "p": "PREFER"}
MEMORY_BINDINGS |= {"verbose": "VERBOSE", "v": "VERBOSE"}
MEMORY_FIELDS = ("memory_per_node", "memory_per_cpu", "memory_per_tres")
UNLIMITED = {"set": True, "infinite": True, "number": 0}
INFINITE = 2**32 - 1
"""Slurm's own number for no limit, in fields that are plain integers."""
TOP = 4294967293
"""Slurm's number for ``--priority=TOP``."""


def as_(field: str, read: Callable[[str], Any] = str, variable: str = "") -> Apply:
    """Sets a field to the value that is read, and a variable, if any, to the option's text."""

    def apply(fields: Fields, value: str) -> None:
        fields[field] = read(value)
        put_variables(fields, {variable: value} if variable else {})

    return apply


def as_word(field: str, words: Mapping[str, Any]) -> Apply:
    """Sets a field to the meaning of one of several words."""
    return as_(field, lambda value: one_of(words, value))


def as_flag(words: Mapping[str, str]) -> Apply:
    """Sets one of the job's flags, and removes the others of the same option."""

    def apply(fields: Fields, value: str) -> None:
        flag = one_of(words, value)
        others = [each for each in fields.get("flags", []) if each not in words.values()]
        fields["flags"] = [*others, flag]

    return apply


def drop_memory(fields: Fields) -> None:
    """Remove memory in every form: of two, Slurm would silently ignore one."""
    for name in MEMORY_FIELDS:
        fields.pop(name, None)


def as_memory(field: str) -> Apply:
    """Sets memory in one form, and removes any other."""

    def apply(fields: Fields, value: str) -> None:
        drop_memory(fields)
        # 0 is all memory of a node
        megabytes = 0 if re.fullmatch("0+[KMGT]?B?", value.upper()) else read_memory_mb(value)
        per_gpu = field == "memory_per_tres"
        fields[field] = f"gres/gpu:{megabytes}" if per_gpu else no_val(megabytes)

    return apply


def one_of(words: Mapping[str, Any], value: str) -> Any:
    """The meaning of a word, in upper or lower case."""
    if value.lower() not in words:
        raise ValueError(f"it takes {', '.join(each or 'nothing' for each in words)}")
    return words[value.lower()]


def whole_number(value: str, least: int = 1) -> int:
    """A whole number."""
    if not re.fullmatch(r"[0-9]+", value) or int(value) < least:
        raise ValueError(f"it takes a whole number of at least {least}")
    return int(value)


COUNT = "[0-9]+[kmgtp]?"
"""A count of nodes or resources; Slurm's ``2k`` is 2048."""
COUNT_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40, "p": 2**50}


def read_count(text: str) -> int:
    """A count of nodes or resources, which has the form of :data:`COUNT`."""
    digits = text.lower().rstrip("kmgtp")
    return int(digits) * COUNT_UNITS[text.lower().removeprefix(digits)]


def read_number(value: str) -> Any:
    """A whole number in slurmrestd's form for optional numbers."""
    return no_val(whole_number(value, 0))


def read_minutes(value: str) -> Any:
    """A time in any of the six forms; 0 is no limit for ``sbatch``, but "at once" for slurmrestd."""
    is_zero = not value.strip("0:-") and _seconds(value) == 0
    if is_zero or value.upper() in ("-1", "UNLIMITED", "INFINITE"):
        return UNLIMITED
    return no_val(read_time_limit_minutes(value))


def read_seconds(value: str) -> int:
    """A time in any of the six forms, in seconds."""
    if value.upper() in ("-1", "UNLIMITED", "INFINITE"):
        return INFINITE
    if not CLOCK.fullmatch(value):
        raise ValueError("it takes a time, e.g. 5 or 5:30")
    return int(_seconds(value))


def read_disk(value: str) -> int:
    """``--tmp``: MB."""
    return 0 if value == "0" else read_memory_mb(value)


def read_ports(value: str) -> int:
    """``--resv-ports``: a number of ports, or 1 for as many as there are tasks."""
    return whole_number(value or "1")


def read_path(value: str) -> str:
    """A file's path; ``none`` is no file."""
    return "/dev/null" if value.lower() == "none" else value


def read_hosts(value: str) -> list[str]:
    """Names of nodes; a comma inside brackets separates none."""
    return re.split(r",(?![^\[]*\])", value)


def read_nodes(value: str) -> str:
    """``--nodes``: a count or a range; k is 1024."""
    if not re.fullmatch(r"\d+[km]?(-\d+[km]?)?(:\d+)?(,[\dkm:-]+)*", value, re.IGNORECASE):
        raise ValueError("it takes a count or a range, e.g. 2 or 2-4")
    return re.sub("[0-9]+[km]", lambda each: str(read_count(each[0])), value.lower())


def read_array(value: str) -> str:
    """``--array``: indices, and how many may run at once, as Slurm writes them."""
    limit = re.search("%([0-9]*)", value)
    indices = re.sub("%[0-9]*", "", value).replace("[", "").replace("]", "")
    indices = ",".join(each for each in indices.split(",") if each)
    if not re.fullmatch("[0-9]+(-[0-9]+(:[0-9]+)?)?(,[0-9]+(-[0-9]+(:[0-9]+)?)?)*", indices):
        raise ValueError("it takes indices, e.g. 0-9, 1,3,5 or 0-99%4")
    return f"{indices}%{limit[1]}" if limit and limit[1].strip("0") else indices


def read_nice(value: str) -> int:
    """``--nice``: 100 if it has no number."""
    if not re.fullmatch(r"(-?[0-9]+)?", value):
        raise ValueError("it takes a whole number")
    return int(value or 100)


def read_priority(value: str) -> Any:
    """``--priority``."""
    return no_val(TOP) if value.upper() == "TOP" else read_number(value)


def read_profile(value: str) -> list[str]:
    """``--profile``: kinds of data, all or none."""
    words = value.lower().split(",")
    if "all" in words:
        return [word.upper() for word in PROFILES if word != "none"]
    if "none" in words:
        return ["NONE"]
    return [one_of({each: each.upper() for each in PROFILES}, word) for word in words]


def read_distribution(value: str) -> str:
    """``--distribution``; ``plane`` needs a size."""
    kind, _, size = value.lower().partition("=")
    if kind == "plane":
        whole_number(size)
    return value.lower()


def read_cpu_frequency(value: str) -> str:
    """``--cpu-freq``: numbers and words, in the spelling of ``sbatch``."""
    known = {each.lower(): each for each in FREQUENCIES}
    words = re.split("([-:])", value.lower())
    if any(each not in known and not each.isdigit() for each in words[::2]):
        raise ValueError(f"it takes numbers of kHz and {', '.join(FREQUENCIES)}")
    return "".join(known.get(each, each) for each in words)


def read_gpus(value: str) -> str:
    """GPUs: a count, a type or both; several are separated by commas."""
    return ",".join(f"gres/gpu:{each}" for each in _listed_gpus(value))


def put_cpus_per_task(fields: Fields, value: str) -> None:
    """``--cpus-per-task``: two fields, as ``sbatch`` sends them."""
    fields.pop("cpus_per_tres", None)
    fields["cpus_per_task"] = whole_number(value)
    put_tres_per_task(fields, "cpu", [f"cpu={int(value)}"])


def put_requeue(fields: Fields, value: str) -> None:
    """``--requeue``, or ``--requeue=expedite``."""
    fields["requeue"] = True
    if one_of({"": False, "expedite": True}, value):
        as_flag({"": "EXPEDITED_REQUEUE"})(fields, "")


def put_signal(fields: Fields, value: str) -> None:
    """``--signal``: a signal, its receivers, and the seconds before the end."""
    found = re.fullmatch(SIGNAL, value, re.IGNORECASE)
    if not found:
        raise ValueError("it takes a signal and seconds, e.g. B:USR1@120")
    delay = int(found["delay"] or 60)
    if delay > 65535:
        raise ValueError("it takes at most 65535 seconds")
    names = {"B": "BATCH_JOB", "R": "RESERVATION_JOB"}
    fields["kill_warning_signal"] = found["name"].upper()
    fields["kill_warning_delay"] = no_val(delay)
    if found["to"]:
        fields["kill_warning_flags"] = [names[each] for each in dict.fromkeys(found["to"].upper())]


def put_mail_type(fields: Fields, value: str) -> None:
    """``--mail-type``."""
    found: list[str] = []
    for word in filter(None, value.upper().split(",")):
        if word not in MAIL_TYPES:
            raise ValueError(f"it takes {', '.join(MAIL_TYPES)}")
        found += MAIL_TYPES[word]
    fields["mail_type"] = list(dict.fromkeys(found))


def put_hint(fields: Fields, value: str) -> None:
    """``--hint``."""
    asked, tasks = one_of(HINTS, value)
    fields |= asked
    put_variables(fields, {"SLURM_HINT": value})
    put_variables(fields, {"SLURM_NTASKS_PER_CORE": tasks} if tasks else {})


def put_user_environment(fields: Fields, _: str) -> None:
    """``--get-user-env``."""
    put_variables(fields, {"SLURM_GET_USER_ENV": "1"})


def put_export(fields: Fields, value: str) -> None:
    """``--export``: variables with values only, because there is no submitting shell to take others from."""
    found: dict[str, str] = {}
    for part in re.findall(r"(?:[^,'\"]|'[^']*'|\"[^\"]*\")+", value):
        name, equals, content = part.partition("=")
        if equals:
            found[name] = content
        elif name.upper() not in ("ALL", "NIL", "NONE"):
            raise ValueError(f"there is no shell here to take {name} from: give it a value")
    if value.upper() != "ALL":
        found["SLURM_EXPORT_ENV"] = value
    if value.upper() not in ("ALL", "NIL"):
        # all else is what the user has after a login
        found["SLURM_GET_USER_ENV"] = "1"
    put_variables(fields, found)


def put_node_info(fields: Fields, value: str) -> None:
    """``--extra-node-info``: sockets, cores and threads; ``*`` is any number."""
    sockets, cores, threads, *more = [*value.split(":"), "*", "*"]
    if more[:1] not in ([], ["*"]) or cores != "*":
        raise ValueError("the API has no field for the cores of a socket: write * for it")
    for field, count in (("sockets_per_node", sockets), ("threads_per_core", threads)):
        if count != "*":
            fields[field] = whole_number(count)


def put_switches(fields: Fields, value: str) -> None:
    """``--switches``: the most, and how long to wait for them."""
    count, _, patience = value.partition("@")
    fields["required_switches"] = no_val(whole_number(count))
    if patience:
        # sbatch does not check this time
        fields["wait_for_switch"] = int(_seconds(patience))


def put_memory_binding(fields: Fields, value: str) -> None:
    """``--mem-bind``: its types, and a map or mask if it has one."""
    found = {}
    for word in filter(None, re.split(r",(?=[a-z])", value.lower())):
        kind, _, places = word.partition(":")
        if kind not in ("q", "quiet"):
            found[one_of(MEMORY_BINDINGS, kind)] = places
    fields["memory_binding_type"] = [*found]
    for places in filter(None, found.values()):
        fields["memory_binding"] = places
    verbose = "verbose" if "VERBOSE" in found else "quiet"
    put_variables(fields, {"SLURM_MEM_BIND": value, "SLURM_MEM_BIND_VERBOSE": verbose})


def put_limits(_: Fields, value: str) -> None:
    """``--propagate`` sets nothing: there is no submitting shell whose limits could be taken."""
    if not re.fullmatch("[A-Za-z_,]*", value):
        raise ValueError("it takes names of limits, e.g. STACK,NOFILE")


def put_nothing(_: Fields, __: str) -> None:
    """An option that sets no field by itself, e.g. one of how ``sbatch`` behaves."""


def put_variables(fields: Fields, variables: Mapping[str, str]) -> None:
    """Add to the job's environment."""
    if variables:
        check_names(variables)
        fields["environment"] = {**fields.get("environment", {}), **variables}


KINDS = "afterok|afterany|afternotok|aftercorr|afterburstbuffer|after"
CLAUSE = re.compile(rf"({KINDS})((?::\d+(?:_\d+|_\*)?(?:\+\d+)?)+)|singleton", re.IGNORECASE)
SUCCESS = {"afterok": True, "aftercorr": True, "afternotok": False}
"""Whether the other job must succeed or fail; any other kind takes either."""


class Clause(msgspec.Struct, frozen=True):
    """One condition, e.g. ``afterok:12:13``."""

    kind: str
    job_ids: tuple[str, ...]
    """As they were written, e.g. ``"12"``, ``"12_3"`` or ``"12+5"``; empty for ``singleton``."""

    def __str__(self) -> str:
        return ":".join((self.kind, *self.job_ids))


def read_dependency(text: str) -> tuple[list[Clause], str]:
    """A dependency's conditions, and the separator: ``,`` for all of them, ``?`` for any."""
    between = "?" if "?" in text else ","
    found = []
    for part in text.split(between):
        match = CLAUSE.fullmatch(part.strip())
        if not match:
            raise ValueError("it takes e.g. afterok:12:13, afterany:14 or singleton")
        ids = (match[2] or "").split(":")[1:]
        found.append(Clause((match[1] or "singleton").lower(), tuple(ids)))
    return found, between


def check_dependency(text: str) -> str:
    """A dependency, checked here: Slurm reports a typing error and a forgotten job alike."""
    read_dependency(text)
    return text


OF_AN_ARRAY = re.compile(r"(\d+)_\[(\d+(?:-\d+)?(?:,\d+(?:-\d+)?)*)\]")
"""Some tasks of an array, e.g. ``12_[1-3,5]``."""
MOST_TASKS = 100_000
"""The most tasks of one array that a dependency may name: each is sent to the API separately."""


def read_any_dependency(text: str) -> str:
    """A dependency in any form that slurmctld takes: ``12`` is ``afterany:12``, and ``0`` is none.

    :source: ``update_job_dependency()`` of slurmctld.
    """
    if text == "0":
        return ""
    named = OF_AN_ARRAY.sub(_each_task, text)
    return check_dependency(re.sub(r"(^|,)(?=\d)", r"\1afterany:", named))


def _each_task(found: re.Match[str]) -> str:
    ranges = [each.partition("-") for each in found[2].split(",")]
    indices = [range(int(first), int(last or first) + 1) for first, _, last in ranges]
    # not len(): it raises OverflowError beyond sys.maxsize
    if sum(max(0, each.stop - each.start) for each in indices) > MOST_TASKS:
        raise ValueError(
            f"{found[0]} names more than {MOST_TASKS:,} tasks; {found[1]} alone names the whole array"
        )
    return ":".join(f"{found[1]}_{index}" for index in chain.from_iterable(indices))


def job_id_of(written: str) -> int:
    """The number of a job that a dependency names."""
    return int(re.split(r"[_+]", written)[0])


def settle_dependency(text: str, ends: Mapping[str, bool]) -> str:
    """What is left of a dependency once some of its jobs have ended, well or badly."""
    clauses, between = read_dependency(text)
    broken = [_broken_by(clause, ends) for clause in clauses]
    left = [_left_of(clause, ends) for clause, bad in zip(clauses, broken, strict=True) if not bad]
    needed = 1 if between == "?" else len(clauses)
    if len(left) < needed:
        words = ", ".join(chain.from_iterable(broken))
        raise InputError(f"dependency: {text} can never hold: {words}.")
    if between == "?" and "" in left:
        return ""
    return between.join(filter(None, left))


def _broken_by(clause: Clause, ends: Mapping[str, bool]) -> list[str]:
    """The jobs that did not end as a clause asks for, in words."""
    wanted = SUCCESS.get(clause.kind)
    if wanted is None:
        return []
    ways = {True: "failed", False: "succeeded"}
    bad = [each for each in clause.job_ids if ends.get(each, wanted) is not wanted]
    return [f"job {each} {ways[wanted]}" for each in bad]


def _left_of(clause: Clause, ends: Mapping[str, bool]) -> str:
    """A clause without the jobs that have ended; ``""`` if it holds."""
    rest = tuple(each for each in clause.job_ids if each not in ends)
    return "" if clause.job_ids and not rest else str(Clause(clause.kind, rest))


GPUS = re.compile(rf"(?:[\w.-]+:)?{COUNT}|(?=.*[a-z])\w[\w.-]*", re.IGNORECASE)
"""What an option says of GPUs: a count, a type, or both."""
GPUS_PER_TASK = re.compile(r"(?:([\w.-]+):)?([0-9]+)|[a-z_][\w.-]*", re.IGNORECASE)
TRES = re.compile(
    r"(cpu|mem|node|billing|energy|(?:gres|license|bb|fs|ic)[/:][^=:]+)(?::[^=:]+)??"
    rf"(?:[=:]({COUNT}))?",
    re.IGNORECASE,
)
"""One resource and its count, e.g. ``cpu=2``, ``gres/gpu:a10g:1`` or, in an older Slurm, ``gres:gpu:1``."""
GPUS_OF_FIELD = re.compile(
    rf"(?:^|,)gres/gpu(?::([^=:,]+))??(?:[=:]({COUNT}))?(?=,|$)", re.IGNORECASE
)


def put_gres(fields: Fields, value: str) -> None:
    """``--gres``: ``gpu:1`` to ``sbatch`` is ``gres/gpu:1`` to slurmrestd."""
    fields.pop("tres_per_node", None)
    if value.lower() != "none":
        names = [each.removeprefix("gres/") for each in value.split(",") if each]
        fields["tres_per_node"] = ",".join(f"gres/{name}" for name in names)


def put_gpus_per_task(fields: Fields, value: str) -> None:
    """``--gpus-per-task``: like ``sbatch``, without types that have no count, and in reverse order."""
    entries = []
    for each in _listed_gpus(value):
        found = GPUS_PER_TASK.fullmatch(each)
        if not found:
            raise ValueError(
                "it takes whole numbers, e.g. 2048 or 2080ti:2; of 2k, or of 2080ti without a number, "
                "sbatch would read the digits only"
            )
        kind, count = found.groups()
        if int(count or 0):
            entries.append(f"gres/gpu:{kind}={count}" if kind else f"gres/gpu={count}")
    put_tres_per_task(fields, "gres/gpu", entries[::-1])


def read_resources(text: str) -> list[re.Match[str]]:
    """Each resource of a list. Slurm accepts a list that names none, e.g. ``1``, and gives nothing."""
    found = [TRES.fullmatch(each) for each in text.split(",") if each]
    if not all(found):
        raise ValueError("it takes resources with whole numbers, e.g. gres/gpu:a10g=1 or cpu=2")
    return [each for each in found if each]


def check_resources(text: str) -> str:
    """A list of resources, checked."""
    read_resources(text)
    return text


def put_per_task(fields: Fields, value: str) -> None:
    """``--tres-per-task``: CPUs and generic resources of each task."""
    entries = read_resources(re.sub("(^|,)gres:", r"\1gres/", value))
    for each in entries:
        resource, count = each.groups()
        put_tres_per_task(fields, resource, [])
        if resource == "cpu":
            fields["cpus_per_task"] = whole_number(str(read_count(count or "0")))
    listed = [fields.get("tres_per_task"), *(each[0] for each in entries)]
    fields["tres_per_task"] = ",".join(filter(None, listed))


def put_cpus_per_gpu(fields: Fields, value: str) -> None:
    """``--cpus-per-gpu``, which replaces CPUs per task."""
    fields.pop("cpus_per_task", None)
    fields["cpus_per_tres"] = f"gres/gpu:{whole_number(value)}"


def _listed_gpus(value: str) -> list[str]:
    listed = [each for each in value.split(",") if each]
    if not all(map(GPUS.fullmatch, listed)):
        raise ValueError("it takes a number, a type, or a type and a number, e.g. a10g:1")
    return listed


def settled(fields: Fields) -> Fields:
    """The fields of all sources, with those that ``sbatch`` derives from them."""
    if str(fields.get("nodes", "")).isdigit() and "tasks_per_node" not in fields:
        put_tasks_of_nodes(fields)
    _settle_gpus(fields)
    _settle_tasks(fields)
    return fields


def put_tasks_of_nodes(fields: Fields) -> None:
    """A task for each thread or socket on a fixed number of nodes, as ``sbatch`` counts them."""
    places = [fields[name] for name in ("sockets_per_node", "threads_per_core") if name in fields]
    if places:
        fields.setdefault("tasks", int(fields.get("nodes", 1)) * math.prod(places))


def _gpus(fields: Fields, name: str) -> list[tuple[str, int]]:
    """Types and counts of the GPUs in a field; to Slurm, a type without a count is one of them."""
    found = GPUS_OF_FIELD.findall(str(fields.get(name, "")))
    return [(kind, read_count(count or "1")) for kind, count in found]


def _settle_tasks(fields: Fields) -> None:
    """The tasks of a job that says how many there are for each GPU."""
    per_gpu = fields.get("ntasks_per_tres")
    nodes = str(fields.get("nodes", "1"))
    for name, times in (("tres_per_job", "1"), ("tres_per_node", nodes)):
        gpus = sum(count for _, count in _gpus(fields, name))
        if per_gpu and gpus and times.isdigit():
            fields["tasks"] = max(fields.get("tasks", 0), per_gpu * gpus * int(times))


def _settle_gpus(fields: Fields) -> None:
    """The tasks of a job that says how many GPUs there are for each; slurmrestd would take one.

    :source: what ``sbatch`` 26.05 says of ``--gpus-per-task``.
    """
    per_task = [(kind, count) for kind, count in _gpus(fields, "tres_per_task") if count]
    if not per_task:
        return
    fields.setdefault("tres_bind", f"gres/gpu:per_task:{sum(count for _, count in per_task)}")
    kind, each = per_task[0]
    given = _tasks(fields)
    total = dict(_gpus(fields, "tres_per_job")).get(kind)
    if total is not None:
        fields["tasks"] = _tasks_for(total, each, given)
    elif given is None:
        of_kind = f" ({kind})" if kind else ""
        raise InputError(
            f"GPUs: {each} for each task{of_kind}, and not how many tasks. Give --ntasks, or --gpus "
            "of the same type, beside --gpus-per-task, as sbatch wants it."
        )
    elif "tasks_per_node" not in fields:
        fields["tasks"] = given


def _tasks_for(total: int, each: int, given: int | None) -> int:
    """The number of tasks that uses up the job's GPUs."""
    tasks, rest = divmod(total, each)
    if rest or given not in (None, tasks):
        raise InputError(
            f"GPUs: {each} for each task are not the {total} of the job with "
            f"{given or 'any number of'} tasks. Leave out one of --gpus, --gpus-per-task and --ntasks."
        )
    return tasks


def _tasks(fields: Fields) -> int | None:
    """The number of tasks apart from GPUs; None if it is open, e.g. with a range of nodes."""
    nodes = str(fields.get("nodes", ""))
    if "tasks" in fields or not nodes.isdigit():
        return fields.get("tasks")
    return int(nodes) * int(fields.get("tasks_per_node", 1))


class Option(NamedTuple):
    """One option."""

    takes: Literal["value", "perhaps", "nothing"]
    """Whether it takes a value; ``"perhaps"`` takes one only behind ``=``."""
    apply: Apply | None = None
    """Puts it into a job's fields. None: it is not supported."""
    letter: str = ""
    why: str = ""
    """Why it is not supported, or what to do instead."""
    field: str = ""
    """The field of ``job=`` that replaces an option that is not supported."""


TIMES: dict[str, tuple[str, Callable[[int], Any]]] = {
    "begin": ("begin_time", no_val),
    "deadline": ("deadline", int),
}
"""Options whose value is a point in time, with field and form: they need the time now, and its zone."""
NO_FIELD = "the API has no field for it"
OPTIONS: dict[str, Option] = {
    "account": Option("value", as_("account"), "A"),
    "acctg-freq": Option("value", as_("account_gather_frequency")),
    "array": Option("value", as_("array", read_array), "a"),
    "batch": Option("value", as_("batch_features")),
    "bb": Option("value", as_("burst_buffer")),
    "bbf": Option("value", why="give what the file says with job=", field="burst_buffer"),
    "begin": Option("value", put_nothing, "b"),
    "chdir": Option("value", as_("current_working_directory"), "D"),
    "cluster-constraint": Option("value", as_("cluster_constraint")),
    "clusters": Option("value", as_("clusters"), "M"),
    "comment": Option("value", as_("comment")),
    "consolidate-segments": Option("nothing", as_flag({"": "CONSOLIDATE_SEGMENTS"})),
    "constraint": Option("value", as_("constraints"), "C"),
    "container": Option("value", as_("container")),
    "container-id": Option("value", as_("container_id")),
    "container-type": Option("value", why=NO_FIELD),
    "contiguous": Option("nothing", as_word("contiguous", {"": True})),
    "core-spec": Option("value", as_("core_specification", whole_number), "S"),
    "cores-per-socket": Option("value", why=NO_FIELD),
    "cpu-freq": Option("value", as_("cpu_frequency", read_cpu_frequency)),
    "cpus-per-gpu": Option("value", put_cpus_per_gpu),
    "cpus-per-task": Option("value", put_cpus_per_task, "c"),
    "deadline": Option("value", put_nothing),
    "delay-boot": Option("value", as_("delay_boot", read_seconds)),
    "dependency": Option("value", as_("dependency", check_dependency), "d"),
    "distribution": Option("value", as_("distribution", read_distribution), "m"),
    "error": Option("value", as_("standard_error", read_path), "e"),
    "exclude": Option("value", as_("excluded_nodes", read_hosts), "x"),
    "exclusive": Option("perhaps", as_word("shared", EXCLUSIVE)),
    "export": Option("value", put_export),
    "export-file": Option("value", why="give its variables as environment", field="environment"),
    "extra": Option("value", as_("extra")),
    "extra-node-info": Option("value", put_node_info, "B"),
    "get-user-env": Option("perhaps", put_user_environment),
    "gid": Option("value", why="a job runs as the user that the API signs in"),
    "gpu-bind": Option("value", as_("tres_bind", "gres/gpu:{}".format)),
    "gpu-freq": Option("value", as_("tres_freq", "gpu:{}".format)),
    "gpus": Option("value", as_("tres_per_job", read_gpus), "G"),
    "gpus-per-node": Option("value", as_("tres_per_node", read_gpus, "SLURM_GPUS_PER_NODE")),
    "gpus-per-socket": Option("value", as_("tres_per_socket", read_gpus)),
    "gpus-per-task": Option("value", put_gpus_per_task),
    "gres": Option("value", put_gres),
    "gres-flags": Option("value", as_flag(GRES_FLAGS)),
    "help": Option("nothing", letter="h", why="it submits nothing"),
    "hint": Option("value", put_hint),
    "hold": Option("nothing", as_word("hold", {"": True}), "H"),
    "ignore-pbs": Option("nothing", put_nothing),
    "input": Option("value", as_("standard_input", read_path), "i"),
    "job-name": Option("value", as_("name"), "J"),
    "kill-on-invalid-dep": Option("value", as_flag(INVALID_DEPENDENCY)),
    "licenses": Option("value", as_("licenses"), "L"),
    "mail-type": Option("value", put_mail_type),
    "mail-user": Option("value", as_("mail_user")),
    "mcs-label": Option("value", as_("mcs_label")),
    "mem": Option("value", as_memory("memory_per_node")),
    "mem-bind": Option("value", put_memory_binding),
    "mem-per-cpu": Option("value", as_memory("memory_per_cpu")),
    "mem-per-gpu": Option("value", as_memory("memory_per_tres")),
    "mincpus": Option("value", as_("minimum_cpus_per_node", whole_number)),
    "network": Option("value", as_("network")),
    "nice": Option("perhaps", as_("nice", read_nice)),
    "no-kill": Option("perhaps", as_word("kill_on_node_fail", {"": False, "off": True}), "k"),
    "no-requeue": Option("nothing", as_word("requeue", {"": False})),
    "nodefile": Option("value", letter="F", why="name the nodes with job=", field="required_nodes"),
    "nodelist": Option("value", as_("required_nodes", read_hosts), "w"),
    "nodes": Option("value", as_("nodes", read_nodes), "N"),
    "ntasks": Option("value", as_("tasks", whole_number), "n"),
    "ntasks-per-core": Option("value", as_("tasks_per_core", whole_number)),
    "ntasks-per-gpu": Option("value", as_("ntasks_per_tres", whole_number, "SLURM_NTASKS_PER_GPU")),
    "ntasks-per-node": Option("value", as_("tasks_per_node", whole_number)),
    "ntasks-per-socket": Option("value", as_("tasks_per_socket", whole_number)),
    "ntasks-per-tres": Option(
        "value", as_("ntasks_per_tres", whole_number, "SLURM_NTASKS_PER_TRES")
    ),
    "oom-kill-step": Option("perhaps", as_word("oom_kill_step", {"": 1, "0": 0, "1": 1})),
    "open-mode": Option("value", as_word("open_mode", OPEN_MODES)),
    "output": Option("value", as_("standard_output", read_path), "o"),
    "overcommit": Option("nothing", as_word("overcommit", {"": True}), "O"),
    "oversubscribe": Option("nothing", as_word("shared", {"": ["oversubscribe"]}), "s"),
    "parsable": Option("nothing", put_nothing),
    "partition": Option("value", as_("partition"), "p"),
    "prefer": Option("value", as_("prefer")),
    "priority": Option("value", as_("priority", read_priority)),
    "profile": Option("value", as_("profile", read_profile)),
    "propagate": Option("perhaps", put_limits),
    "qos": Option("value", as_("qos"), "q"),
    "quiet": Option("nothing", put_nothing, "Q"),
    "reboot": Option("nothing", as_word("reboot", {"": True})),
    "requeue": Option("perhaps", put_requeue),
    "reservation": Option("value", as_("reservation")),
    "resources": Option("value", why=NO_FIELD),
    "resv-ports": Option("perhaps", as_("reserve_ports", read_ports)),
    "segment": Option("value", as_("segment_size", read_number)),
    "signal": Option("value", put_signal),
    "sockets-per-node": Option("value", as_("sockets_per_node", whole_number)),
    "spread-job": Option("nothing", as_flag({"": "SPREAD_JOB"})),
    "spread-segments": Option("nothing", as_flag({"": "SPREAD_SEGMENTS"})),
    "stepmgr": Option("nothing", as_flag({"": "STEPMGR_ENABLED"})),
    "switches": Option("value", put_switches),
    "test-only": Option("nothing", why="it submits nothing"),
    "thread-spec": Option("value", as_("thread_specification", whole_number)),
    "threads-per-core": Option("value", as_("threads_per_core", whole_number)),
    "time": Option("value", as_("time_limit", read_minutes), "t"),
    "time-min": Option("value", as_("time_minimum", read_minutes)),
    "tmp": Option("value", as_("temporary_disk_per_node", read_disk)),
    "tres-bind": Option("value", as_("tres_bind")),
    "tres-per-task": Option("value", put_per_task),
    "uid": Option("value", why="a job runs as the user that the API signs in"),
    "usage": Option("nothing", why="it submits nothing"),
    "use-min-nodes": Option("nothing", as_flag({"": "PREFER_MINIMUM_NODE_COUNT"})),
    "verbose": Option("nothing", put_nothing, "v"),
    "version": Option("nothing", letter="V", why="it submits nothing"),
    "wait": Option("nothing", letter="W", why="use wait_for_completion=True"),
    "wait-all-nodes": Option("value", as_word("wait_all_nodes", {"0": False, "1": True})),
    "wckey": Option("value", as_("wckey")),
    "wrap": Option("value", why="give the command as the script"),
}
LONG = {
    **{name: name for name in OPTIONS},
    "cluster": "clusters",
    "tasks-per-node": "ntasks-per-node",
}
"""The options' long names; two have a second one."""
SHORT = {option.letter: name for name, option in OPTIONS.items() if option.letter}
CARRIED = frozenset(
    (
        *("account", "array", "begin", "chdir", "comment", "deadline", "dependency", "error"),
        *("exclude", "get-user-env", "hint", "hold", "ignore-pbs", "input", "job-name"),
        *("kill-on-invalid-dep", "mem", "nice", "no-kill", "no-requeue", "open-mode", "output"),
        *("prefer", "priority", "qos", "requeue", "reservation", "signal", "time", "time-min"),
        "wckey",
    )
)
"""Options that a component of a heterogeneous job inherits from the one before it.

:source: ``sbatch -vv`` 26.05 with each option in the first of two components; its source marks the
    others ``reset_each_pass``.
"""
ABOVE_HINT = frozenset(
    (
        *("cores-per-socket", "extra-node-info", "ntasks-per-core", "sockets-per-node"),
        "threads-per-core",
    )
)
"""Options with which ``sbatch`` ignores ``--hint``."""
INSTEAD = (
    frozenset({"mem", "mem-per-cpu", "mem-per-gpu"}),
    frozenset({"exclusive", "oversubscribe"}),
)
"""Options that are forms of one thing: one replaces another."""
SAME = {name: group for group in (*INSTEAD, frozenset({"requeue", "no-requeue"})) for name in group}
"""For an option with other forms, all of them."""
RIVALS = (
    *INSTEAD,
    frozenset({"cpus-per-task", "cpus-per-gpu", "tres-per-task=cpu"}),
    frozenset({"gpus-per-node", "gres=gpu"}),
    frozenset({"gpus-per-task", "tres-per-task=gres/gpu"}),
    *(
        frozenset({per_gpu, other})
        for per_gpu in ("ntasks-per-gpu", "ntasks-per-tres")
        for other in ("gpus-per-task", "gpus-per-socket", "ntasks-per-node")
    ),
)
"""Options of which ``sbatch`` takes one; of two, slurmrestd would silently ignore one."""
CLAIMS = {
    "gres": re.compile(r"(?:^|,)(?:gres/)?(gpu)\b"),
    "tres-per-task": re.compile(r"(?:^|,)(cpu|gres[/:]gpu)\b"),
}
"""Parts of an option's value that another option can ask for as well."""


def claims_of(name: str, value: str) -> list[str]:
    """An option, and the parts of its value, by their names in :data:`RIVALS`."""
    parts = CLAIMS[name].findall(value) if name in CLAIMS else []
    return [name, *(f"{name}={each.replace(':', '/')}" for each in parts)]


def rivals(claims: Iterable[str]) -> list[str]:
    """Those of some options that exclude each other."""
    given = dict.fromkeys(claims)
    clash = next((group for group in RIVALS if len(group & given.keys()) > 1), ())
    return [name for name in given if name in clash]


def same(name: str) -> frozenset[str]:
    """An option, and those that it replaces."""
    return SAME.get(name, frozenset({name}))
