"""Tests of airflow_provider_clusterra.cli: whose a job is, with a database of Airflow's tables."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from uuid import UUID

import pytest
from airflow.models import DagRun, TaskInstance
from msgspec.structs import replace
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from airflow_provider_clusterra.api.jobs import Job, JobState
from airflow_provider_clusterra.cli import get_clusterra_cli_commands, read_age, read_id
from airflow_provider_clusterra.cli.commands import TaggedTask, find_tasks, living_jobs
from airflow_provider_clusterra.submit.protocol import (
    Owner,
    Tag,
    hash_run,
    hash_task,
    tagged_name,
)
from tests.support.versions import HAS_LOOPS

RUNNING = JobState("RUNNING")
NOW = datetime.now(UTC)
# Airflow 3.4 keeps a map index and a loop's iteration in one column
INDEX = "region_index" if "region_index" in TaskInstance.__table__.columns else "map_index"


def tag_of(dag_id="dag", run_id="run/1", task_id="task", map_index=-1, deployment="here"):
    run = hash_run(deployment, "c1", dag_id, run_id)
    return Tag(run, hash_task(task_id, map_index), "beef", 0, 1)


def owner_of(dag_id="dag", run_id="run/1", task_id="task", map_index=-1, *, waits=True):
    return Owner(dag_id, task_id, map_index, run_id, waits)


def job(tag, comment="", number=7, state=RUNNING, **fields):
    return Job(number, state, tagged_name("dag.task", tag), comment=comment, **fields)


@pytest.fixture
def session():
    """Airflow's two tables, of which no column is needed that no test fills."""
    engine = create_engine("sqlite://")
    with engine.begin() as connection:
        for table in (DagRun.__table__, TaskInstance.__table__):
            columns = ", ".join(f'"{column.name}"' for column in table.columns)
            connection.exec_driver_sql(f"CREATE TABLE {table.name} ({columns})")
    with Session(engine) as session:
        yield session
    engine.dispose()


def add_task(
    session, state, dag_id="dag", run_id="run/1", task_id="task", map_index=-1, region=None
):
    words = {"dag_id": dag_id, "run_id": run_id}
    for table, row in (
        (DagRun.__table__, words),
        (TaskInstance.__table__, {**words, "task_id": task_id, INDEX: map_index}),
    ):
        values = row | ({"state": state} if table is TaskInstance.__table__ else {})
        values |= {"region_id": region.hex} if region and table is TaskInstance.__table__ else {}
        # Airflow 3.4 keeps former rows beside those that count
        values |= {"working_set": True} if "working_set" in table.columns else {}
        literal = ", ".join(f'"{name}"' for name in values)
        marks = ", ".join("?" for _ in values)
        session.connection().exec_driver_sql(
            f"INSERT INTO {table.name} ({literal}) VALUES ({marks})",  # noqa: S608 - a test's
            tuple(values.values()),
        )


CONNECTED = SimpleNamespace(settings=SimpleNamespace(deployment="here"), cluster_id="c1")


def task_of(session, tag, comment=""):
    [found] = find_tasks([(job(tag, comment), tag)], CONNECTED, session)
    return found


@pytest.mark.parametrize("comment", [owner_of().comment(1), ""], ids=["comment", "hash"])
@pytest.mark.parametrize(
    ("state", "is_orphan"),
    [
        ("running", False),
        ("deferred", False),
        ("queued", False),
        ("up_for_retry", False),
        ("up_for_reschedule", False),
        (None, False),
        ("failed", True),
        ("skipped", True),
        ("upstream_failed", True),
        ("removed", True),
        # what a later Airflow has
        ("awaiting_input", False),
    ],
)
def test_a_job_is_an_orphan_if_its_task_does_not_wait(session, state, is_orphan, comment):
    add_task(session, state)
    found = task_of(session, tag_of(), comment)

    assert found.is_orphan == is_orphan
    row = found.row()
    assert (row["dag_id"], row["task_id"], row["run_id"]) == ("dag", "task", "run/1")
    assert row["task_state"] == (state or "none")


@pytest.mark.parametrize(
    ("comment", "is_orphan"),
    [
        (owner_of().comment(1), True),
        (owner_of(waits=False).comment(1), False),
        # nothing says whether the task has left its job on purpose
        ("", False),
    ],
)
def test_the_job_of_a_task_that_succeeded_is_an_orphan_if_it_was_waited_for(
    session, comment, is_orphan
):
    add_task(session, "success")

    assert task_of(session, tag_of(), comment).is_orphan == is_orphan


def test_the_job_of_a_run_that_was_deleted_is_an_orphan_if_its_comment_says_whose_it_is(session):
    found = task_of(session, tag_of(), owner_of().comment(1))

    assert found.is_orphan
    assert found.row()["task_state"] == "not in Airflow"
    assert not task_of(session, tag_of()).is_orphan


@pytest.mark.parametrize("state", ["failed", "success", "skipped"])
def test_a_job_that_its_task_left_on_purpose_is_no_orphan(session, state):
    add_task(session, state)

    assert not task_of(session, tag_of(), owner_of(waits=False).comment(1)).is_orphan


@pytest.mark.parametrize(("text", "number"), [("12", 12), ("12_3", 12), ("12+1", 12)])
def test_a_job_is_named_as_slurm_names_it(text, number):
    assert read_id(text) == number


def test_another_airflows_job_is_no_orphan_of_ours_whatever_its_comment_says(session):
    add_task(session, "failed")
    found = task_of(session, tag_of(deployment="there"), owner_of().comment(1))

    assert found.owner is None
    assert not found.is_orphan


def test_a_mapped_tasks_job_is_its_own(session):
    add_task(session, "failed", map_index=0)
    add_task(session, "running", map_index=1)

    for comment in (True, False):
        said = [owner_of(map_index=index).comment(1) if comment else "" for index in (0, 1)]
        found = [task_of(session, tag_of(map_index=index), said[index]) for index in (0, 1)]
        assert [each.is_orphan for each in found] == [True, False]


def test_a_loops_job_is_waited_for_while_any_iteration_runs(session):
    add_task(session, "success", map_index=0)
    add_task(session, "running", map_index=1)

    assert not task_of(session, tag_of(), owner_of().comment(1)).is_orphan


@pytest.mark.skipif(not HAS_LOOPS, reason="Airflow 3.4 has loops")
@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("comment", [False, True])
def test_the_job_of_an_iteration_that_has_failed_is_an_orphan_while_another_runs(
    session, mapped, comment
):
    regions = [UUID(int=1), UUID(int=2)] if mapped else [UUID(int=1)] * 2
    indices = [0, 0] if mapped else [0, 1]
    found = []
    for region, index, state in zip(regions, indices, ("failed", "running"), strict=True):
        add_task(session, state, map_index=index, region=region)
    for region, index in zip(regions, indices, strict=True):
        map_index = index if mapped else -1
        task = hash_task("task", map_index, str(region), str(index))
        said = owner_of(map_index=map_index).comment(1) if comment else ""
        found.append(task_of(session, replace(tag_of(), task=task), said))

    assert [each.is_orphan for each in found] == [True, False]
    assert {each.owner.task_id for each in found} == {"task"}


def test_only_the_sessions_own_living_jobs_count():
    tag = tag_of()
    listed = [
        job(tag, number=1, user="me"),
        job(tag, number=2, state=JobState("COMPLETED"), user="me"),
        job(tag, number=3, user="other"),
        Job(4, RUNNING, "mine but no task's", user="me"),
        job(tag, number=6, array_job_id=5, array_task_id=0, user="me"),
        job(tag, number=5, array_job_id=5, array_task_id=1, user="me"),
    ]
    user = SimpleNamespace(slurm_user="me")
    client = SimpleNamespace(list_jobs=lambda _: listed, get_user=lambda: user)

    found = living_jobs(SimpleNamespace(client=client, cluster_id="c1"))

    assert [each.job_id for each, _ in found] == [1, 5]


def test_a_jobs_age_is_shown():
    old = job(tag_of(), submitted_at=NOW - timedelta(hours=30))

    assert TaggedTask(old, tag_of()).row()["age"].startswith("1 day, 6:")


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("2m", 120), ("1h", 3600), ("2d", 172800)]
)
def test_an_age_has_a_unit(text, seconds):
    assert read_age(text) == seconds


@pytest.mark.parametrize("text", ["", "h", "1.5h", "-1h", "1w"])
def test_what_is_no_age_is_refused(text):
    with pytest.raises(Exception, match="is no age"):
        read_age(text)


def test_the_commands_are_airflows():
    [group] = get_clusterra_cli_commands()

    assert group.name == "clusterra"
    assert [each.name for each in group.subcommands] == ["job", "orphans"]
