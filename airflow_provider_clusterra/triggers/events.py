"""What a wait hands to the task that resumes: a value on both sides, JSON between them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec.structs import replace

from airflow_provider_clusterra.api.errors import ProtocolError
from airflow_provider_clusterra.api.jobs import ExitStatus, Job, JobState
from airflow_provider_clusterra.submit.protocol import MOST_NODES, failed_nodes
from airflow_provider_clusterra.watch.arrays import (
    pack_ids,
    read_indices,
    unpack_ids,
    write_indices,
)

LARGEST = 3600
"""Bytes of an event: Airflow logs it, and stores it, in a longer form of JSON."""
ROOMS = ((400, 1200), (100, 1200), (100, 0))
"""Characters of any one text (twice as many of the words), and of an array's tasks and their ids: if
these need more room, the resumed task asks again."""
LONGEST_TRES = 100
"""Of what the usage has been read from already."""


class JobEvent(msgspec.Struct, frozen=True):
    """The end of a wait."""

    outcome: str
    """``"ended"``, ``"lost"``, ``"stuck"``, ``"overdue"``, ``"timed_out"``, or ``"refused"`` (no
    waiting can heal it)."""
    job_id: int
    cluster_id: str
    job: Job | None = None
    """The job as last seen."""
    message: str = ""
    tasks: dict[str, str] = msgspec.field(default_factory=dict)
    """How an array's tasks ended, e.g. ``{"COMPLETED 0 -": "0-7,9", "FAILED 3 -": "8"}``: state,
    exit code and signal, to the indices."""
    task_ids: dict[str, str] = msgspec.field(default_factory=dict)
    """The own job ids of an array's tasks: what to add to an index, to the indices."""
    failed_nodes: dict[str, int] = msgspec.field(default_factory=dict)
    """The last nodes that failed under an array's tasks, to an index each."""
    adopted_at: float | None = None
    """When the task took the job over from an earlier try, in seconds since 1970."""

    def to_payload(self) -> dict[str, Any]:
        """The event as plain JSON values, under 4 KB however large the job is."""
        known = self.job.tasks if self.job else ()
        tasks, ids, nodes = pack_tasks(known), pack_ids(known), pack_nodes(known)
        payload: dict[str, Any] = {}
        for text, most in ROOMS:
            small = replace(
                self,
                message=self.message[: 2 * text],
                job=self.job and _shortened(self.job, text),
                tasks=tasks if _size(tasks) <= most else {},
                task_ids=ids if _size(tasks) + _size(ids) <= most else {},
                failed_nodes=nodes if _size(tasks) <= most else {},
            )
            payload = msgspec.to_builtins(small)
            if len(msgspec.json.encode(payload)) <= LARGEST:
                break
        return payload


def read_event(payload: Any) -> JobEvent:
    """The event, checked: it came through the metadata database.

    :raises ProtocolError: it is something else.
    """
    try:
        event = msgspec.convert(payload, JobEvent)
    except msgspec.ValidationError as exc:
        raise ProtocolError(
            f"The event with which this task was resumed cannot be read ({exc}). Was the provider "
            "upgraded while it was deferred? Clear the task."
        ) from exc
    if event.job is None or not event.tasks:
        return event
    tasks = unpack_tasks(event.tasks, event.job_id, event.task_ids)
    node_of = {index: node for node, index in event.failed_nodes.items()}
    with_nodes = [
        replace(task, failed_node=node_of.get(task.array_task_id or 0, "")) for task in tasks
    ]
    return replace(event, job=replace(event.job, tasks=tuple(with_nodes)))


def pack_tasks(tasks: Iterable[Job]) -> dict[str, str]:
    """How an array's tasks ended, as :attr:`JobEvent.tasks` has it."""
    groups: dict[str, set[int]] = {}
    for task in tasks:
        if task.array_task_id is not None:
            words = (task.state.base, _word(task.exit.code), _word(task.exit.signal))
            groups.setdefault(" ".join(words), set()).add(task.array_task_id)
    return {words: write_indices(indices) for words, indices in groups.items()}


def pack_nodes(tasks: Iterable[Job]) -> dict[str, int]:
    """The nodes that failed under an array's tasks, as :attr:`JobEvent.failed_nodes` has them."""
    failed = [*failed_nodes(tasks).items()][-MOST_NODES:]
    return {node: task.array_task_id for node, task in failed if task.array_task_id is not None}


def unpack_tasks(
    packed: dict[str, str], array_job_id: int, task_ids: dict[str, str]
) -> tuple[Job, ...]:
    """The tasks again, as far as they were packed."""
    ids = unpack_ids(task_ids)
    tasks: list[Job] = []
    for words, indices in packed.items():
        base, code, number = words.split(" ")
        status = ExitStatus(_number(code), _number(number))
        task = Job(0, JobState(base), exit=status, array_job_id=array_job_id)
        tasks += [
            replace(task, job_id=ids.get(index, 0), array_task_id=index)
            for index in read_indices(indices)
        ]
    return tuple(sorted(tasks, key=lambda task: task.array_task_id or 0))


def _size(packed: dict[str, str]) -> int:
    return sum(len(words) + len(indices) for words, indices in packed.items())


def _shortened(job: Job, longest: int) -> Job:
    texts = ("name", "nodes", "description", "comment", "standard_output", "working_directory")
    short = {name: getattr(job, name)[:longest] for name in (*texts, "array_task_string")}
    read = ("tres_allocated", "tres_requested", "admin_comment")
    short |= {name: getattr(job, name)[:LONGEST_TRES] for name in read}
    return replace(job, tasks=(), **short)


def _word(number: int | None) -> str:
    return "-" if number is None else str(number)


def _number(word: str) -> int | None:
    return None if word == "-" else int(word)
