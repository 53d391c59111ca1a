"""The forms in which Slurm's answers write a number, a time, and an exit."""

from __future__ import annotations

import signal
from datetime import UTC, datetime
from typing import Any

import msgspec

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


class NoVal(msgspec.Struct, gc=False):
    """A number as slurmrestd has it; decoding it so takes half of a dict's time."""

    set: bool = True
    infinite: bool = False
    number: int | float | None = None


class ExitSignal(msgspec.Struct, gc=False):
    """A signal as slurmrestd has it in an exit."""

    id: NoVal | int | None = None
    signal_id: NoVal | int | None = None
    """What v0.0.39 calls it."""


class ExitCode(msgspec.Struct, gc=False):
    """An exit as slurmrestd has it, for the same reason."""

    return_code: NoVal | int | None = None
    signal: ExitSignal | None = None


def read_number(value: Any) -> int | None:
    """A number in any of its forms, or None where it is unset, infinite or no number.

    :param value: ``5``, ``5.0``, ``"5"``, ``None``, ``{"set", "infinite", "number"}``.
    :returns: the number cut to an integer.
    :source: slurmrestd's ``*_no_val_struct``; plain numbers in v0.0.38 and slurmdb.
    """
    if type(value) is NoVal:
        if not value.set or value.infinite:
            return None
        value = value.number
    elif type(value) is dict:
        if value.get("set") is False or value.get("infinite") is True:
            return None
        value = value.get("number")
    if type(value) is int:
        return value
    if value is None or isinstance(value, bool):
        return None
    try:
        return int(float(value))
    except (TypeError, ValueError, OverflowError):
        return None


def no_val(number: int | None) -> dict[str, Any] | None:
    """A number in slurmrestd's own form, or None.

    :param number: any, or None for the cluster's own default.
    :source: ``uint32_no_val_struct``; without ``set`` the number is silently ignored.
    """
    return None if number is None else {"set": True, "infinite": False, "number": number}


def read_time(value: Any) -> datetime | None:
    """A time as an aware datetime in UTC, or None where it is unset (0 means unset).

    :param value: seconds since 1970 in any form of :func:`read_number`.
    :source: ``submit_time``, ``start_time``, ``end_time`` of a job.
    """
    seconds = read_number(value)
    if not seconds or not 0 < seconds <= LARGEST_TIME:
        return None
    return datetime.fromtimestamp(seconds, UTC)


def read_exit(value: Any) -> ExitStatus:
    """The exit in any of its forms.

    :param value: ``{"status", "return_code", "signal"}``, or v0.0.38's wait status (768 is
        exit code 3, 9 is signal 9).
    :source: ``exit_code`` of a job.
    """
    if type(value) is ExitCode:
        by = value.signal or ExitSignal()
        number = read_number(by.id) or read_number(by.signal_id)
        return ExitStatus(signal=number) if number else ExitStatus(read_number(value.return_code))
    if isinstance(value, dict):
        killed = value.get("signal")
        number = (
            read_number(killed.get("id", killed.get("signal_id")))
            if isinstance(killed, dict)
            else None
        )
        if number:
            return ExitStatus(signal=number)
        return ExitStatus(code=read_number(value.get("return_code")))
    status = read_number(value)
    if status is None or status < 0:
        return NOT_ENDED
    if status & 0x7F:
        return ExitStatus(signal=status & 0x7F)
    return ExitStatus(code=(status >> 8) & 0xFF)
