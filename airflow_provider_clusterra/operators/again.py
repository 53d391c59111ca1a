"""What a retry asks for instead of the same once more: only what failed, and more of what was short."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec.structs import replace

from airflow_provider_clusterra.api.environment import sbatch_environment
from airflow_provider_clusterra.api.errors import ClusterraError, InputError, RequestError
from airflow_provider_clusterra.api.jobs import Job
from airflow_provider_clusterra.api.numbers import ExitStatus
from airflow_provider_clusterra.api.states import JobState
from airflow_provider_clusterra.operators.arrays import (
    check_indices_alone,
    left_of,
    narrowed,
    succeeded_indices,
)
from airflow_provider_clusterra.operators.records import RecordStore
from airflow_provider_clusterra.submit.growth import Growth, Seen, asked_of, grow
from airflow_provider_clusterra.submit.protocol import is_same_submit
from airflow_provider_clusterra.submit.record import Kept, Record, failure_of
from airflow_provider_clusterra.submit.request import Request
from airflow_provider_clusterra.submit.tag import Tag
from airflow_provider_clusterra.triggers.events import pack_ids, unpack_ids
from airflow_provider_clusterra.watch.arrays import read_indices, write_indices

log = logging.getLogger(__name__)

LONGEST = 20_000
"""Characters of one part of what is kept: Airflow keeps 64 KB of a task."""
NEEDS = (
    "retry_failed_indices and grow_on_retry need Airflow 3.3, which remembers of a task how its last "
    "try ended; here a retry asks for the same once more."
)


class Again(msgspec.Struct, frozen=True):
    """What an author wants of a retry."""

    failed_indices: bool = False
    """Of an array only the indices that have not succeeded."""
    growth: Growth = Growth()

    @property
    def wanted(self) -> bool:
        """Whether a retry is to be anything else than the same once more."""
        return self.failed_indices or self.growth != Growth()

    def check(self, request: Request) -> None:
        """Refuse what cannot be retried so.

        :param request: what the author asks for.
        :raises InputError: its script counts on the whole array, or there is none.
        """
        if not self.failed_indices:
            return
        if not request.array:
            raise InputError("retry_failed_indices is for an array, and the job is none.")
        check_indices_alone(str(request.body.get("script", "")))


def ask_again(request: Request, record: Record | None, again: Again) -> Request:
    """The request of this try.

    :param request: what the author asks for.
    :param record: of the last submit of the same; None where there was none.
    :param again: what the author wants of a retry.
    :returns: it, with what is to be kept of it for the next try.
    :raises InputError: growth has come to its end.
    """
    kept = record.kept if record else Kept()
    fields: dict[str, Any] = {}
    more = ""
    array = request.array
    left = left_of(array, read_indices(kept.succeeded)) if again.failed_indices else frozenset()
    if left and kept.succeeded:
        array = fields["array"] = narrowed(array, left)
    job = request.body.get("job")
    if again.growth != Growth() and isinstance(job, Mapping):
        fields |= kept.asked
        steps = grow({**asked_of(job), **kept.asked}, _seen(record), again.growth)
        fields |= {step.field: step.value for step in steps}
        more = " and ".join(step.words for step in steps)
    body = with_fields(request.body, fields) if fields else request.body
    asked = asked_of(body["job"]) if "job" in body else {}
    return replace(
        request, body=body, array=array, kept=replace(kept, array=array, asked=asked, more=more)
    )


def with_fields(body: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """A raw submit's body with other fields, which its job's own variables tell as well.

    :param body: ``{"script", "job"}``.
    :param fields: of slurmrestd v0.0.44.
    """
    job = body["job"]
    changed = {**job, **fields}
    new = sbatch_environment(changed)
    told = {
        f"{name}={value}": f"{name}={new[name]}"
        for name, value in sbatch_environment(job).items()
        if name in new
    }
    changed["environment"] = [told.get(each, each) for each in job.get("environment", [])]
    return {**body, "job": changed}


def kept_after(kept: Kept, job: Job | None) -> Kept:
    """What is kept after a job's bad end.

    :param kept: of its submit.
    :param job: as it ended, together with the earlier tries' tasks; None where it was never seen.
    """
    if job is None or not kept.array:
        return kept
    good = succeeded_indices(job)
    succeeded = write_indices(good)
    ids = pack_ids(task for task in job.tasks if task.array_task_id in good)
    if len(succeeded) > LONGEST:
        return kept
    size = sum(len(each) + len(indices) for each, indices in ids.items())
    return replace(kept, succeeded=succeeded, task_ids=ids if size <= LONGEST else {})


def earlier_tasks(kept: Kept) -> list[Job]:
    """The tasks that succeeded in earlier tries.

    :param kept: of the last submit.
    """
    ids = unpack_ids(kept.task_ids)
    good = JobState("COMPLETED")
    return [
        Job(ids.get(index, 0), good, exit=ExitStatus(0), array_task_id=index)
        for index in sorted(read_indices(kept.succeeded))
    ]


class EarlierTries:
    """What is remembered of the tries before this one, as far as they asked for the same.

    :param store: what Airflow remembers.
    :param tag: this try's.
    """

    def __init__(self, store: RecordStore, tag: Tag) -> None:
        self._store = store
        self._tag = tag

    def last(self) -> Record | None:
        """The record of the last one that submitted, or None."""
        record = self._store.load()
        return record if record and is_same_submit(record, self._tag) else None

    def note_end(self, job: Job) -> None:
        """Remember how the last one's job ended, where that try could not tell.

        :param job: that ended badly.
        """
        last = self.last()
        if last is not None and last.failure is None and last.job_id == job.job_id:
            self._store.save_failure(failure_of(job), kept_after(last.kept, job))

    def ask_again(self, request: Request, again: Again) -> Request:
        """As :func:`ask_again`, and say so.

        :param request: what the author asks for.
        :param again: what the author wants of a retry.
        :raises InputError: growth has come to its end.
        """
        if again.wanted and not self._store.lasts:
            log.warning(NEEDS)
        asked = ask_again(request, self.last(), again)
        if asked.array != request.array:
            log.info("Only the indices that have not succeeded run again: %s.", asked.array)
        if asked.kept.more:
            log.info("This try asks for more than the last: %s.", asked.kept.more)
        return asked


def refused(error: ClusterraError, kept: Kept) -> ClusterraError:
    """A refusal with both figures, where it was of a request that had grown.

    :param error: of the submit.
    :param kept: of the request.
    """
    if not kept.more or not isinstance(error, RequestError):
        return error
    words = f"{error} This retry asked for more than the last try: {kept.more}."
    return RequestError(words, status=error.status, detail=error.detail, number=error.number)


def _seen(record: Record | None) -> Seen:
    failure = record.failure if record else None
    if failure is None:
        return Seen()
    return Seen(
        failure.states or (failure.state,),
        failure.memory_mb,
        failure.memory_per_cpu,
        failure.time_limit_minutes,
    )
