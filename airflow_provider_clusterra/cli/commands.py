"""Whose a job is, and which jobs nobody waits for: Slurm's list beside Airflow's database."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from itertools import groupby
from typing import Any

import msgspec
from airflow.cli.simple_table import AirflowConsole
from airflow.configuration import conf
from airflow.models import Connection, DagRun, TaskInstance
from airflow.utils.cli import suppress_logs_and_warning
from airflow.utils.session import create_session
from airflow.utils.state import TaskInstanceState
from sqlalchemy import null, select, tuple_

from airflow_provider_clusterra.api.errors import ClusterraError, InputError, NotFoundError
from airflow_provider_clusterra.api.jobs import Job, one_job
from airflow_provider_clusterra.hooks.clusterra import ClusterraHook, Connected
from airflow_provider_clusterra.operators.cancel import cancel_all, describe_left
from airflow_provider_clusterra.submit.protocol import (
    Owner,
    Tag,
    hash_run,
    hash_task,
    keep_own,
    read_owner,
    read_tag,
    whole_id,
)
from airflow_provider_clusterra.triggers.jobs import ENDS
from airflow_provider_clusterra.watch.verdict import records_of

RUNS_AT_ONCE = 200


class TaggedTask(msgspec.Struct, frozen=True):
    """A job, and the task that submitted it as far as anything says so."""

    job: Job
    tag: Tag
    owner: Owner | None = None
    task_state: str | None = None
    known: bool = False
    """Whether Airflow still has the task."""

    @property
    def is_orphan(self) -> bool:
        """Whether no task looks after the job any more, and no next try will.

        A task that has succeeded may have left its job on purpose; only the owner says that it has not.
        """
        if self.owner is None or not self.owner.waits:
            return False
        if self.task_state == TaskInstanceState.SUCCESS:
            return self.owner.is_written
        return not self.known or self.task_state in ENDS

    def row(self) -> dict[str, Any]:
        """What the command shows."""
        owner, submitted = self.owner, self.job.submitted_at
        age = datetime.now(UTC) - submitted if submitted else None
        return {
            "job_id": self.job.job_id,
            "dag_id": owner.dag_id if owner else "?",
            "task_id": owner.task_id if owner else "?",
            "map_index": owner.map_index if owner else None,
            "run_id": owner.run_id if owner else "?",
            "try_number": self.tag.try_number,
            "job_state": str(self.job.state),
            "task_state": (self.task_state or "none") if self.known else "not in Airflow",
            "age": str(age).partition(".")[0] if age else "?",
        }


@suppress_logs_and_warning
def show_job(args: Any) -> None:
    """``airflow clusterra job``."""
    with _connected(args) as connected:
        job = _find_job(connected, args.job_id)
        tag = read_tag(job.name)
        if tag is None:
            raise SystemExit(f"Job {args.job_id} ({job.name}) was not submitted by a task.")
        with create_session() as session:
            [found] = find_tasks([(job, tag)], connected, session)
        if found.owner is None:
            raise SystemExit(
                f"Job {args.job_id} ({job.name}) was submitted by a task that this Airflow does not "
                "have: another Airflow's, or of a DAG run that was deleted."
            )
        links = {
            "task": _task_url(found.owner),
            "page": connected.settings.job_url(connected.cluster_id, args.job_id),
        }
        AirflowConsole().print_as(data=[{**found.row(), **links}], output=args.output)


@suppress_logs_and_warning
def show_orphans(args: Any) -> None:
    """``airflow clusterra orphans``."""
    with _connected(args) as connected:
        # first the jobs, then the tasks: a task that begins meanwhile is seen, and a job that ends
        # meanwhile has ended when it is cancelled
        jobs = living_jobs(connected)
        with create_session() as session:
            found = find_tasks(jobs, connected, session)
        orphans = [
            each for each in found if each.is_orphan and _is_older(each.job, args.older_than)
        ]
        AirflowConsole().print_as(data=[each.row() for each in orphans], output=args.output)
        if args.cancel:
            job_ids = [each.job.job_id for each in orphans]
            access, cluster_id = connected.settings.access, connected.cluster_id
            if left := describe_left(asyncio.run(cancel_all(access, cluster_id, job_ids))):
                raise SystemExit(left)


class _Hook(ClusterraHook):
    """Reads the connection where a command can: as the scheduler does, from Airflow's own database."""

    @classmethod
    def get_connection(cls, conn_id: str) -> Any:
        return Connection.get_connection_from_secrets(conn_id)  # noqa: AIR311 - the database's


@contextmanager
def _connected(args: Any) -> Iterator[Connected]:
    try:
        with _Hook(args.conn_id, args.cluster_id).connect() as connected:
            yield connected
    except ClusterraError as error:
        raise SystemExit(f"{error} (connection {args.conn_id})") from error


def _find_job(connected: Connected, job_id: int) -> Job:
    client, cluster_id = connected.client, connected.cluster_id
    try:
        return client.get_job(cluster_id, job_id)
    except NotFoundError:
        records = client.list_accounting(cluster_id, job_ids=[job_id])
        job = one_job(records_of(job_id, records), job_id)
    if job is None:
        raise InputError(f"There is no job {job_id} on cluster {cluster_id}.")
    return job


def living_jobs(connected: Connected) -> list[tuple[Job, Tag]]:
    """The session's own jobs with a tag of which anything may run, an array or a het job as one."""
    listed = connected.client.list_jobs(connected.cluster_id)
    tagged = [job for job in listed if read_tag(job.name) and not job.state.finished]
    own = sorted(keep_own(tagged, listed, connected.client.get_user), key=whole_id)
    found = []
    for number, records in groupby(own, whole_id):
        job = one_job(list(records), number)
        tag = read_tag(job.name) if job else None
        if job and tag:
            found.append((job, tag))
    return found


def find_tasks(
    jobs: Sequence[tuple[Job, Tag]], connected: Connected, session: Any
) -> list[TaggedTask]:
    """The task of each job: its owner's, or that of a run whose hash is the tag's."""
    hashed = partial(hash_run, connected.settings.deployment, connected.cluster_id)
    owned = [(job, tag, _owner_of(job, tag, hashed)) for job, tag in jobs]
    runs = {(owner.dag_id, owner.run_id) for _, _, owner in owned if owner}
    runs |= _runs_of(session, {tag.run for _, tag, owner in owned if owner is None}, hashed)
    states: dict[tuple[str, str, str], set[str | None]] = {}
    by_tag: dict[tuple[str, str], tuple[Owner, str | None]] = {}
    for task, region, state in _rows_of(session, runs):
        states.setdefault((task.dag_id, task.task_id, task.run_id), set()).add(state)
        run = hashed(task.dag_id, task.run_id)
        by_tag |= {(run, each): (task, state) for each in _task_hashes(task, region)}
    return [
        _with_state(job, tag, owner, by_tag.get((tag.run, tag.task)), states)
        for job, tag, owner in owned
    ]


def _task_hashes(task: Owner, region: Any) -> list[str]:
    """What a tag may hold for a task: its own hash, or in a loop that of the iteration.

    The row of a task in a loop does not say whether the task is mapped.
    """
    place = task.map_index
    iteration = (str(region), str(place))
    return [
        hash_task(task.task_id, place),
        hash_task(task.task_id, -1, *iteration),
        hash_task(task.task_id, place, *iteration),
    ]


def _runs_of(
    session: Any, hashes: Collection[str], hashed: Callable[[str, str], str]
) -> set[tuple[str, str]]:
    """The DAG runs with these hashes, among all that Airflow has."""
    every = session.execute(select(DagRun.dag_id, DagRun.run_id)) if hashes else ()
    return {(dag_id, run_id) for dag_id, run_id in every if hashed(dag_id, run_id) in hashes}


def _owner_of(job: Job, tag: Tag, hashed: Callable[[str, str], str]) -> Owner | None:
    """Whom a job's comment names, if the tag says that it is true: a comment is anybody's to write."""
    owner = read_owner(job.comment)
    return owner if owner and hashed(owner.dag_id, owner.run_id) == tag.run else None


def _rows_of(
    session: Any, runs: Collection[tuple[str, str]]
) -> Iterator[tuple[Owner, Any, str | None]]:
    """The tasks of some runs, each with its region and state.

    In a loop (Airflow 3.4) an iteration stands in the place of the map index of a task that is not mapped.
    """
    columns = (
        *(TaskInstance.dag_id, TaskInstance.task_id, TaskInstance.map_index, TaskInstance.run_id),
        *(getattr(TaskInstance, "region_id", null()), TaskInstance.state),
    )
    listed = sorted(runs)
    for begin in range(0, len(listed), RUNS_AT_ONCE):
        some = listed[begin : begin + RUNS_AT_ONCE]
        is_one = tuple_(TaskInstance.dag_id, TaskInstance.run_id).in_(some)
        for dag_id, task_id, index, run_id, region, state in session.execute(
            select(*columns).where(is_one)
        ):
            yield Owner(dag_id, task_id, index, run_id, is_written=False), region, state


def _with_state(
    job: Job,
    tag: Tag,
    owner: Owner | None,
    exact: tuple[Owner, str | None] | None,
    states: Mapping[tuple[str, str, str], set[str | None]],
) -> TaggedTask:
    if exact is not None:
        return TaggedTask(job, tag, owner or exact[0], exact[1], known=True)
    if owner is None:
        return TaggedTask(job, tag)
    # of a place that a clear has made anew, all of the task's count
    found = states.get((owner.dag_id, owner.task_id, owner.run_id))
    if found is None:
        return TaggedTask(job, tag, owner)
    # one that still looks after the job counts for all
    state = min(found, key=lambda state: (state in ENDS, str(state)))
    return TaggedTask(job, tag, owner, state, known=True)


def _is_older(job: Job, seconds: float) -> bool:
    if job.submitted_at is None:
        return not seconds
    return (datetime.now(UTC) - job.submitted_at).total_seconds() >= seconds


def _task_url(owner: Owner) -> str:
    base = str(conf.get("api", "base_url", fallback="")).rstrip("/")
    mapped = "" if owner.map_index < 0 else f"/mapped/{owner.map_index}"
    return f"{base}/dags/{owner.dag_id}/runs/{owner.run_id}/tasks/{owner.task_id}{mapped}"
