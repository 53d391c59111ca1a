"""What Slurm's reasons mean: whether the job starts by itself, and what its author can change."""

from __future__ import annotations

import re

import msgspec


class Reason(msgspec.Struct, frozen=True):
    """What a reason means."""

    stuck: str = ""
    """Why the job will not start unless somebody acts; ``""`` if it will."""
    advice: str = ""
    """What to change in the submit."""


NORMAL = Reason()
HELD = Reason(
    "it is held, and only its user or an administrator can release it",
    "Submit it without a hold; if somebody will release it, on_stuck='warn' waits for that. An "
    "administrator's hold, and one after a failed start, only an administrator can explain.",
)
TOO_LARGE = Reason(
    "it asks for more than its account or its QOS allows one job",
    "Ask for less, or for another account= or qos=.",
)
REASONS = {
    "DependencyNeverSatisfied": Reason(
        "a job that it depends on did not end as the dependency asks",
        "See why the job in dependency= failed; afterany: instead of afterok: starts this one "
        "however that one ends.",
    ),
    "BadConstraints": Reason(
        "no node fits the constraints that it asks for",
        "Correct constraint=, or ask for less in one node.",
    ),
    "PartitionConfig": Reason(
        "no nodes of its partition can ever hold it",
        "Ask for fewer nodes, CPUs or GPUs, or for another partition=.",
    ),
    "PartitionNodeLimit": Reason(
        "it asks for more nodes than its partition allows",
        "Ask for fewer nodes=, or for another partition=.",
    ),
    "PartitionTimeLimit": Reason(
        "it asks for more time than its partition allows",
        "Ask for a shorter time_limit=, or for another partition=.",
    ),
    "InvalidAccount": Reason("its account may not run it", "Correct account=, or leave it out."),
    "InvalidQOS": Reason("its QOS may not run it", "Correct qos=, or leave it out."),
    "ReservationDeleted": Reason(
        "the reservation that it asks for is gone",
        "Leave the reservation out, or name one that exists.",
    ),
    "MaxMemPerLimit": Reason(
        "it asks for more memory than its partition allows",
        "Ask for less memory=, or for another partition=.",
    ),
    "Resources": Reason(
        advice="The cluster was full: ask for less, for another partition=, or wait for longer."
    ),
    "Priority": Reason(
        advice="Others came first: ask for less, for another partition=, or wait for longer."
    ),
}
FORMS = (
    (re.compile(r"JobHeld.*|JobHold.*|.*held", re.IGNORECASE), HELD),
    # limits that a job breaks by itself, not those that it shares with others that will end
    (re.compile(r"(Assoc|Association|QOS)\w*PerJob\w*|QOSMin\w+"), TOO_LARGE),
)


def reason_of(words: str) -> Reason:
    """What a reason means; most, such as ``BeginTime``, are normal."""
    forms = (reason for form, reason in FORMS if form.fullmatch(words))
    return REASONS.get(words) or next(forms, NORMAL)
