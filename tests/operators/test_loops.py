"""Tests of tasks in a loop of Airflow 3.4: what tells its iterations apart, and what does not."""

from uuid import UUID

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_clusterra.compat import CLEARS_FORGET
from airflow_provider_clusterra.hooks.clusterra import ClusterraHook
from airflow_provider_clusterra.operators.cancel import ClusterraCancelJobOperator
from airflow_provider_clusterra.operators.jobs import ClusterraSubmitJobOperator
from airflow_provider_clusterra.submit.protocol import Record, identity_of, iteration_of
from airflow_provider_clusterra.submit.submission import RecordStore
from airflow_provider_clusterra.task.inputs import find_inputs
from tests.support.airflow_side import TaskInstance

OUTSIDE = UUID(int=0)
ONE, ANOTHER = UUID(int=1), UUID(int=2)


def instance(region_id=OUTSIDE, region_index=-1, **fields):
    ti = TaskInstance(**fields)
    ti.region_id, ti.region_index = region_id, region_index
    return ti


def context(*region, loop=True, **fields):
    return {"ti": instance(*region, **fields), "loop": object() if loop else None}


def submit(script="sleep 60", **fields):
    defaults = {"task_id": "task", "deferrable": False, "wait_for_completion": False}
    text = f"#!/bin/bash\n{script}\n"
    return ClusterraSubmitJobOperator(**{**defaults, "script": text, **fields})


def tag(where):
    return identity_of(where, "airflow", "c1", {}).tag


def test_each_iteration_of_each_pass_has_a_tag_of_its_own():
    places = [(ONE, 0), (ONE, 1), (ANOTHER, 0), (ANOTHER, 1)]

    assert len({tag(context(*place)).task for place in places}) == 4
    assert len({tag(context(*place)).run for place in places}) == 1


def test_outside_of_a_loop_nothing_is_different():
    plain = {"ti": TaskInstance()}
    mapped = context(ONE, 3, loop=False)

    assert tag(mapped) == tag(plain) == tag(context(loop=False))


def test_each_iteration_remembers_its_own_submit(store):
    def store_of(where):
        return RecordStore(store, iteration_of(where))

    stores = [store_of(context(*place)) for place in [(ONE, 0), (ONE, 1), (ANOTHER, 0)]]
    stores += [store_of({"ti": TaskInstance()})]
    for number, each in enumerate(stores):
        each.save(Record("tag", 0, job_id=number))

    assert [each.load().job_id for each in stores] == [0, 1, 2, 3]
    assert store_of(context(loop=False)).load().job_id == 3


def test_each_iteration_uploads_under_names_of_its_own(tmp_path):
    file = tmp_path / "in.dat"
    file.touch()
    names = {
        find_inputs({"INPUT": str(file)}, context(*place))["INPUT"].name
        for place in [(ONE, 0), (ONE, 1), (ANOTHER, 0)]
    }

    assert len(names) == 3


@pytest.mark.parametrize("script", ["exit 0", "sleep 61"], ids=["succeeded", "running"])
def test_a_retry_adopts_no_other_iterations_job(connected, store, script):
    """Bodies that are equal, and the other's success or running job."""
    run_id = f"loop {script}"
    first = context(ONE, 0, run_id=run_id)
    other = submit(script).execute({**first, "task_state_store": store})["job_id"]
    second = context(ONE, 1, run_id=run_id, try_number=2)
    mine = submit(script).execute({**second, "task_state_store": store})["job_id"]

    assert mine != other
    with ClusterraHook().client() as client:
        assert client.get_job(connected.cluster_id, other).state.base != "CANCELLED"


def test_all_iterations_of_a_run_are_cancelled_together(connected):
    jobs = [submit().execute(context(ONE, at, run_id="all"))["job_id"] for at in range(2)]
    cancel = ClusterraCancelJobOperator(task_id="cancel", tag_of_run=True)

    assert cancel.execute(context(loop=False, run_id="all", task_id="cancel")) == jobs


@pytest.mark.skipif(not CLEARS_FORGET, reason="Airflow 3.4 has regions")
@pytest.mark.parametrize(
    ("where", "stays"),
    [
        (context(loop=False), True),
        (context(ONE, 3, loop=False, map_index=3), True),
        # expanded by an older Airflow: a clear of all instances makes new ones, with a first try
        (context(OUTSIDE, 3, loop=False, map_index=3), False),
        (context(ONE, 0), False),
        (context(ANOTHER, 3, map_index=3), False),
    ],
    ids=["plain", "mapped", "mapped before", "in a loop", "mapped in a loop"],
)
def test_a_clear_leaves_a_job_only_to_a_try_that_looks_for_it(connected, where, stays):
    with pytest.raises(TaskDeferred) as deferred:
        submit(wait_for_completion=True, deferrable=True).execute(where)

    assert deferred.value.trigger.kept_on_clear is stays
