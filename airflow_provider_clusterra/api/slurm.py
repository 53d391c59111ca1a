"""The forms in which Slurm says things: numbers, times, exits, and a job's state."""

from __future__ import annotations

import re
import signal
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import msgspec

from airflow_provider_clusterra.api.errors import ProtocolError

LARGEST_TIME = 253402300799
"""9999-12-31: beyond it a number is not a time."""


class ExitStatus(msgspec.Struct, frozen=True, gc=False):
    """How the job's script ended. It means nothing before the job has ended."""

    code: int | None = None
    """0 to 255; None where a signal ended it, or nothing is known."""
    signal: int | None = None
    """The signal's number, e.g. 9; Slurm also uses 53 (cannot start) and 125 (out of memory)."""

    @property
    def signal_name(self) -> str:
        """The signal's name, e.g. ``"SIGKILL"``, or ``""`` where it has none."""
        try:
            return signal.Signals(self.signal or 0).name
        except ValueError:
            return ""

    def __str__(self) -> str:
        if self.signal is not None:
            return f"signal {self.signal}" + (f" ({self.signal_name})" if self.signal_name else "")
        return f"exit code {self.code}" if self.code is not None else "no exit code"


NOT_ENDED = ExitStatus()


Plain = int | float | str | bool | list[Any] | None


class NoVal(msgspec.Struct, gc=False):
    """An object in a number's place; decoding it so takes half of a dict's time."""

    set: Any = None
    infinite: Any = None
    number: Any = None


Number = NoVal | Plain
"""Whatever JSON may stand in a number's place: a new form costs the field, not the answer."""


class ExitSignal(msgspec.Struct, gc=False):
    """A signal as slurmrestd has it in an exit; v0.0.39 calls it ``signal_id``."""

    id: Number = None
    signal_id: Number = None


class ExitCode(msgspec.Struct, gc=False):
    """An exit as slurmrestd has it, for the same reason."""

    return_code: Number = None
    signal: ExitSignal | Plain = None


class JobId(msgspec.Struct, frozen=True):
    """A job's id as Slurm writes it: ``12``, an array's task ``12_3``, a het job's part ``12+1``."""

    number: int
    array_task: int | None = None
    het_offset: int | None = None


LARGEST_ID = 0xFFFFFFFD
"""The two numbers above it are Slurm's for "not set" and "infinite"."""
_ID = re.compile(r"([0-9]{1,10})(?:_([0-9]{1,10})|\+([0-9]{1,10}))?")
_DECIMAL = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?")


def read_job_id(value: Any) -> JobId:
    """The one reader of job ids: a number > 0, or text such as ``"12"``, ``"12_3"``, ``"12+1"``.

    :raises ProtocolError: it is anything else.
    """
    number = value if isinstance(value, str) else read_number(value)
    match = _ID.fullmatch(str(number).strip())
    if match is None or not 0 < int(match[1]) <= LARGEST_ID:
        raise ProtocolError(f"{value!r} is not a job id; one is e.g. 12, 12_3 or 12+1.")
    return JobId(int(match[1]), *(int(each) if each else None for each in match.groups()[1:]))


def read_number(value: Any) -> int | None:
    """A number in any of its forms, or None where it is unset, infinite or no number.

    :source: slurmrestd's ``*_no_val_struct``; plain numbers in v0.0.38 and slurmdb.
    """
    if type(value) is dict:
        value = msgspec.convert(value, NoVal)
    if type(value) is NoVal:
        value = None if value.set is False or value.infinite is True else value.number
    if type(value) is int:
        return value
    try:
        # float() alone would read "12_3" as 123, and "1e3" as 1000
        text = value.strip() if isinstance(value, str) else repr(value)
        return int(float(text)) if _DECIMAL.fullmatch(text) else None
    except (ValueError, OverflowError):
        return None


def no_val(number: int | None) -> dict[str, Any] | None:
    """A number in slurmrestd's own form, or None.

    :source: ``uint32_no_val_struct``; without ``set`` the number is silently ignored.
    """
    return None if number is None else {"set": True, "infinite": False, "number": number}


def read_time(value: Any) -> datetime | None:
    """A time as an aware datetime in UTC, or None where it is unset (0 means unset).

    :source: ``submit_time``, ``start_time``, ``end_time`` of a job.
    """
    seconds = read_number(value)
    if not seconds or not 0 < seconds <= LARGEST_TIME:
        return None
    return datetime.fromtimestamp(seconds, UTC)


def read_exit(value: Any) -> ExitStatus:
    """The exit in any of its forms.

    :source: ``exit_code`` of a job.
    """
    if isinstance(value, dict):
        value = msgspec.convert(value, ExitCode)
    if type(value) is ExitCode:
        by = value.signal
        number = isinstance(by, ExitSignal) and (read_number(by.id) or read_number(by.signal_id))
        return ExitStatus(signal=number) if number else ExitStatus(read_number(value.return_code))
    status = read_number(value)
    if status is None or status < 0:
        return NOT_ENDED
    if status & 0x7F:
        return ExitStatus(signal=status & 0x7F)
    return ExitStatus(code=(status >> 8) & 0xFF)


ACTIVE = frozenset({"PENDING", "RUNNING", "SUSPENDED"})
TERMINAL = frozenset(
    {
        "COMPLETED",
        "CANCELLED",
        "FAILED",
        "TIMEOUT",
        "NODE_FAIL",
        "PREEMPTED",
        "BOOT_FAIL",
        "DEADLINE",
        "OUT_OF_MEMORY",
    }
)
FLAGS = frozenset(
    {
        "LAUNCH_FAILED",
        "REQUEUED",
        "REQUEUE_HOLD",
        "SPECIAL_EXIT",
        "RESIZING",
        "CONFIGURING",
        "COMPLETING",
        "STOPPED",
        "RECONFIG_FAIL",
        "POWER_UP_NODE",
        "REVOKED",
        "REQUEUE_FED",
        "RESV_DEL_HOLD",
        "SIGNALING",
        "STAGE_OUT",
        "EXPEDITING",
    }
)
GOES_ON = frozenset({"REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "EXPEDITING"})
"""Flags under which a terminal base state is not the end: Slurm will run the job again."""

SHORT_FORMS = {
    "PD": "PENDING",
    "R": "RUNNING",
    "S": "SUSPENDED",
    "CD": "COMPLETED",
    "CA": "CANCELLED",
    "F": "FAILED",
    "TO": "TIMEOUT",
    "NF": "NODE_FAIL",
    "PR": "PREEMPTED",
    "BF": "BOOT_FAIL",
    "DL": "DEADLINE",
    "OOM": "OUT_OF_MEMORY",
    "CG": "COMPLETING",
    "CF": "CONFIGURING",
    "RQ": "REQUEUED",
}
UNKNOWN = "UNKNOWN"


class JobState(msgspec.Struct, frozen=True):
    """One base state, e.g. ``"RUNNING"``, and its flags, e.g. ``{"CONFIGURING"}``.

    A base that Slurm has not taught us yet is kept as it is, and is never an end.
    """

    base: str
    flags: frozenset[str] = frozenset()

    @property
    def ended(self) -> bool:
        """Whether Slurm is done with the job but for cleaning up."""
        return self.base in TERMINAL and not self.flags & GOES_ON

    @property
    def completing(self) -> bool:
        """Whether the result is known while processes or files are still being cleaned up."""
        return bool(self.flags & {"COMPLETING", "STAGE_OUT"})

    @property
    def finished(self) -> bool:
        """Whether the job has ended and nothing of it is left: no process, no file to stage out."""
        return self.ended and not self.completing

    @property
    def succeeded(self) -> bool:
        """Whether the job ended, and ended well."""
        return self.ended and self.base == "COMPLETED"

    @property
    def known(self) -> bool:
        """Whether every word of it is one that this version knows.

        v0.0.38 says only ``COMPLETING`` while it is so: a flag without a base.
        """
        based = self.base in ACTIVE or self.base in TERMINAL
        return (based or (self.base == UNKNOWN and bool(self.flags))) and self.flags <= FLAGS

    def __str__(self) -> str:
        return "+".join((self.base, *sorted(self.flags)))


NO_STATE = JobState(UNKNOWN)


def read_state(value: Any) -> JobState:
    """The state in any form in which an answer may hold it.

    :source: ``job_state`` of slurmrestd v0.0.38 to v0.0.45, ``state`` of the simple shapes.
    """
    if isinstance(value, dict):
        value = value.get("current")
    if isinstance(value, str):
        return _from_words(tuple(re.split(r"[\s,+]+by\s.*|[\s,+]+", value)))
    if isinstance(value, list | tuple):
        return _from_words(tuple([word for word in value if isinstance(word, str)]))
    return NO_STATE


@lru_cache(maxsize=1024)
def _from_words(words: tuple[str, ...]) -> JobState:
    tidy = (word.strip().upper() for word in words)
    names = [SHORT_FORMS.get(word, word) for word in tidy if word]
    if not names:
        return NO_STATE
    base = min(names, key=_rank)
    base = UNKNOWN if base in FLAGS else base
    return JobState(base, frozenset(names) - {base})


def _rank(name: str) -> int:
    """A base that we know before one that we do not, and that before a flag."""
    return 0 if name in ACTIVE or name in TERMINAL else 2 if name in FLAGS else 1
