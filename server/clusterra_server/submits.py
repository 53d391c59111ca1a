"""A submit as a Slurm of one's own needs it: the places of Clusterra, on these machines."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

EFS = PurePosixPath("/mnt/efs")
"""The folder that Clusterra's jobs share."""
PLACES = (
    "current_working_directory",
    "standard_output",
    "standard_error",
    "standard_input",
)
OTHER_PEOPLE = ("user_id", "group_id")
"""Who a job belongs to is the token's business."""


def own_submit(body: Mapping[str, Any], outputs: Path, login: Mapping[str, str]) -> dict[str, Any]:
    """The submit as slurmrestd gets it.

    Clusterra's shared folder is ``outputs``; a job's output goes there unless it says otherwise;
    whose job it is, is not the client's to say.

    :param body: ``{"script": str, "job": {…}}``, or ``jobs`` for a heterogeneous one.
    :param outputs: the folder that the jobs share, as they see it.
    :param login: variables that a user finds after signing in, for jobs that do not set them.
    """
    found = dict(body)
    if isinstance(body.get("job"), Mapping):
        found["job"] = _own_job(body["job"], outputs, login)
    if isinstance(body.get("jobs"), list):
        found["jobs"] = [
            _own_job(each, outputs, login) if isinstance(each, Mapping) else each
            for each in body["jobs"]
        ]
    return found


def _own_job(job: Mapping[str, Any], outputs: Path, login: Mapping[str, str]) -> dict[str, Any]:
    own = {name: value for name, value in job.items() if name not in OTHER_PEOPLE}
    for name in PLACES:
        if isinstance(own.get(name), str):
            own[name] = _place(own[name], outputs)
    if not own.get("standard_output"):
        own["standard_output"] = f"{outputs}/job_%j.out"
    if isinstance(own.get("environment"), list) and own["environment"]:
        own["environment"] = _environment(own["environment"], outputs, login)
    return own


def _environment(given: list[Any], outputs: Path, login: Mapping[str, str]) -> list[Any]:
    names = {str(each).partition("=")[0] for each in given}
    places = [
        f"{name}={_place(value, outputs)}" if name == "SLURM_SUBMIT_DIR" else each
        for each in given
        for name, _, value in [str(each).partition("=")]
    ]
    return places + [f"{name}={value}" for name, value in login.items() if name not in names]


def _place(path: str, outputs: Path) -> str:
    place = PurePosixPath(path)
    return str(outputs / place.relative_to(EFS)) if place.is_relative_to(EFS) else path
