"""A job's state: one base word and any number of flags, as Slurm says it.

Source: slurm.h ``enum job_states`` and ``JOB_STATE_FLAGS``; slurmrestd's ``job_state`` array.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import msgspec

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

    :param value: ``["RUNNING", "CONFIGURING"]``, ``"RUNNING"``, ``"CANCELLED by 1000"``,
        ``"COMPLETED+"``, ``"PD"``, slurmdb's ``{"current": […]}``, or anything else.
    :returns: the state; base ``"UNKNOWN"`` where there is none.
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
    names = [SHORT_FORMS.get(word.strip().upper(), word.strip().upper()) for word in words]
    names = [name for name in names if name]
    if not names:
        return NO_STATE
    base = next((name for name in names if name in ACTIVE or name in TERMINAL), None)
    if base is None:
        base = next((name for name in names if name not in FLAGS), UNKNOWN)
    return JobState(base, frozenset(name for name in names if name != base))
