"""Submits to a real Slurm: limits of accounts and QOS, and other users' jobs of the same name."""

import asyncio
import threading
import time
from datetime import timedelta

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from msgspec.structs import replace

from airflow_provider_clusterra.api.errors import Retry
from airflow_provider_clusterra.hooks.clusterra import ClusterraHook
from airflow_provider_clusterra.operators.cancel import ClusterraCancelJobOperator
from airflow_provider_clusterra.operators.jobs import ClusterraSubmitJobOperator
from airflow_provider_clusterra.submit.protocol import identity_of, tagged_name
from airflow_provider_clusterra.task.report import JobError
from tests.slurm.lab import OTHER, USER
from tests.support.airflow_side import TaskInstance, TaskStateStore
from tests.support.cluster import Cluster

pytestmark = pytest.mark.slurm


def submit(script="true", **fields):
    defaults = {"task_id": "task", "deferrable": False, "poll_interval": 1}
    text = f"#!/bin/bash\n{script}\n"
    operator = ClusterraSubmitJobOperator(**{**defaults, "script": text, **fields})
    operator.queue_pauses = Retry(first=1, cap=2)
    return operator


@pytest.fixture
def limit(lab):
    """Sets limits with sacctmgr, and takes them away again."""
    undo = []

    def modify(*words, back):
        lab.run("sacctmgr", "-i", "modify", *words)
        undo.append(back)
        # slurmdbd tells slurmctld a moment later
        time.sleep(2)

    yield modify
    for words in undo:
        lab.run("sacctmgr", "-i", "modify", *words)
    time.sleep(2)


MAX_SUBMIT = ("user", USER, "set")


def test_five_mapped_tasks_share_an_account_with_two_places(front, connection, limit):
    connection(front.url, front.token, front.cluster_id)
    limit(*MAX_SUBMIT, "MaxSubmitJobs=2", back=(*MAX_SUBMIT, "MaxSubmitJobs=-1"))
    tasks = [TaskInstance(run_id="full", map_index=index) for index in range(5)]
    results = {}

    def run(ti):
        results[ti.map_index] = submit("sleep 2", timeout=300).execute({"ti": ti})["state"]

    threads = [threading.Thread(target=run, args=(ti,)) for ti in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert results == dict.fromkeys(range(5), "COMPLETED")
    assert len({ti.pushed["job_id"] for ti in tasks}) == 5


def test_more_time_than_the_qos_allows_fails_at_once(front, connection, limit):
    connection(front.url, front.token, front.cluster_id)
    qos = ("qos", "normal", "set")
    limit(*qos, "MaxWall=10", "flags=DenyOnLimit", back=(*qos, "MaxWall=-1", "flags=-1"))
    begun = time.monotonic()
    with pytest.raises(AirflowFailException, match="2050"):
        submit(time_limit=timedelta(hours=1), timeout=300).execute({"ti": TaskInstance()})

    assert time.monotonic() - begun < 60


@pytest.fixture
def both(lab, tmp_path):
    """One server for two users, and each one's view of it."""
    users = tmp_path / "users"
    lines = [f"{user}s-long-secret-token {user} {lab.token_file(user)}" for user in (USER, OTHER)]
    users.write_text("\n".join(lines))
    users.chmod(0o600)
    with lab.front(users=users) as server:
        yield (
            server,
            {user: Cluster(server, f"{user}s-long-secret-token") for user in (USER, OTHER)},
        )


async def test_another_users_job_of_the_same_name_is_not_ours(both, connection):
    server, views = both
    connection(server.url, f"{USER}s-long-secret-token", server.cluster_id)
    ti, store = TaskInstance(run_id="names", try_number=2, max_tries=1), TaskStateStore()
    operator = submit("true", wait_for_completion=False)
    with ClusterraHook().connect() as signed_in:
        deployment = signed_in.settings.deployment
    identity = identity_of({"ti": ti}, deployment, server.cluster_id, operator._identity())
    name = tagged_name("dag.task", replace(identity.tag, try_number=1))
    theirs = views[OTHER]
    succeeded = theirs.submit("true", name=name)
    await theirs.until(lambda: theirs.job(succeeded).state.base == "COMPLETED")
    running = theirs.submit("sleep 60", name=name)
    await theirs.until_running(running)
    context = {"ti": ti, "task_state_store": store}
    mine = (await asyncio.to_thread(operator.execute, context))["job_id"]
    cancel = ClusterraCancelJobOperator(task_id="cancel", tag_of_run=True)
    cancelled = await asyncio.to_thread(cancel.execute, {"ti": TaskInstance(run_id="names")})

    assert mine not in (succeeded, running)
    assert running not in cancelled
    assert theirs.job(running).state.base == "RUNNING"
    assert theirs.cancel(running)


def test_a_retry_runs_on_another_node_than_the_one_that_failed(front, connection):
    connection(front.url, front.token, front.cluster_id)
    ti, store = TaskInstance(max_tries=1), TaskStateStore()
    context = {"ti": ti, "task_state_store": store}
    operator = submit(
        'echo "$SLURMD_NODENAME"; exit $FAILS',
        requeue=False,
        exclude_failed_nodes=True,
        environment={"FAILS": "1"},
        return_output="last_line",
    )
    with pytest.raises(JobError) as failure:
        operator.execute(context)
    node = failure.value.job.nodes
    # what slurmctld says of a job whose node was lost; losing one takes minutes
    [key] = store
    store[key]["failure"] |= {"state": "NODE_FAIL", "nodes": [node]}
    ti.try_number = 2
    operator.environment = {"FAILS": "0"}

    assert operator.execute(context)["output"] not in ("", node)
