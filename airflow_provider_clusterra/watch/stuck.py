"""Which reasons for waiting never go away by themselves.

Source: slurm.h ``enum job_state_reason`` and ``job_state_reason_string()``. Reasons that an
autoscaler or other jobs resolve (Resources, Priority, ReqNodeNotAvail, BeginTime …) are not here.
"""

from __future__ import annotations

import re

from airflow_provider_clusterra.api.jobs import Job

HELD = "it is held, and only its user or an administrator can release it"
NEVER = {
    "DependencyNeverSatisfied": "a job that it depends on did not end as the dependency asks",
    "BadConstraints": "no node fits the constraints that it asks for",
    "PartitionConfig": "no nodes of its partition can ever hold it",
    "PartitionNodeLimit": "it asks for more nodes than its partition allows",
    "PartitionTimeLimit": "it asks for more time than its partition allows",
    "InvalidAccount": "its account may not run it",
    "InvalidQOS": "its QOS may not run it",
    "ReservationDeleted": "the reservation that it asks for is gone",
    "MaxMemPerLimit": "it asks for more memory than its partition allows",
}
LIMIT_OF_ONE_JOB = re.compile(r"(Assoc|Association|QOS)\w*PerJob\w*|QOSMin\w+")
"""Limits that a job breaks by itself, not those that it shares with others that will end."""


def never_starts(job: Job) -> str:
    """Why a job will not start unless somebody acts, or ``""``.

    :param job: as last seen.
    """
    if job.state.base != "PENDING":
        return ""
    reason = job.reason
    if reason.startswith(("JobHeld", "JobHold")) or reason.lower().endswith("held"):
        return HELD
    if LIMIT_OF_ONE_JOB.fullmatch(reason):
        return "it asks for more than its account or its QOS allows one job"
    return NEVER.get(reason, "")
