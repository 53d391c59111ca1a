"""The tag in a job's name, by which a job is found again: made and read.

``.af-<8 hex of deployment, cluster, dag and run>-<8 hex of task and map index>-<4 hex of the
body>-<max_tries>.<try_number>``. Slurm has no other field that a submit can set and every later
answer shows, and Clusterra overwrites the comment.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

import msgspec

LONGEST_NAME = 200
"""Bytes of a whole name: slurmdbd keeps 255, slurmctld 1003."""
FORM = re.compile(
    r"\.af-(?P<run>[0-9a-f]{8})-(?P<task>[0-9a-f]{8})-(?P<body>[0-9a-f]{4})"
    r"-(?P<max_tries>\d+)\.(?P<try_number>\d+)\Z"
)


class Tag(msgspec.Struct, frozen=True):
    """Which try of which task submitted a job, and with which body."""

    run: str
    """8 hex digits of :func:`hash_run`."""
    task: str
    """8 hex digits of the task and its map index."""
    body: str
    """4 hex digits of what the author asks for."""
    max_tries: int
    """Airflow's: a clear changes it, a retry does not."""
    try_number: int

    def __str__(self) -> str:
        return f".af-{self.run}-{self.task}-{self.body}-{self.max_tries}.{self.try_number}"

    def is_same_task(self, other: Tag) -> bool:
        """Whether both are of one task of one run.

        :param other: another tag.
        """
        return (self.run, self.task) == (other.run, other.task)


def hash_run(deployment: str, cluster_id: str, dag_id: str, run_id: str) -> str:
    """What all jobs of one DAG run on one cluster have in common, in 8 hex digits.

    :param deployment: the connection's ``instance``, or else the Airflow's address.
    :param cluster_id: the cluster, e.g. ``"clusde74"``.
    :param dag_id: Airflow's.
    :param run_id: Airflow's.
    """
    return _hex(deployment, cluster_id, dag_id, run_id, digits=8)


def hash_task(task_id: str, map_index: int) -> str:
    """What all jobs of one task of a run have in common, in 8 hex digits.

    :param task_id: Airflow's.
    :param map_index: Airflow's; -1 where the task is not mapped.
    """
    return _hex(task_id, str(map_index), digits=8)


def hash_body(identity: Any) -> str:
    """What an author asks for, in 4 hex digits.

    :param identity: plain values; what is not JSON counts by its text.
    """
    return _hex(json.dumps(identity, sort_keys=True, default=str), digits=4)


def read_tag(name: str) -> Tag | None:
    """The tag at the end of a job's name, or None where it has none.

    :param name: as Slurm has it.
    """
    found = FORM.search(name)
    if found is None:
        return None
    tries = (int(found["max_tries"]), int(found["try_number"]))
    return Tag(found["run"], found["task"], found["body"], *tries)


def tagged_name(name: str, tag: Tag) -> str:
    """A job's name with its tag: at most :data:`LONGEST_NAME` bytes, no control characters.

    :param name: the author's part, cut where it is too long.
    :param tag: whole.
    """
    plain = "".join(each if each.isprintable() else "_" for each in name)
    room = LONGEST_NAME - len(str(tag))
    return plain.encode()[:room].decode("utf-8", "ignore") + str(tag)


def _hex(*parts: str, digits: int) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:digits]
