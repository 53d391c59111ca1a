"""Tests of ClusterraPlaceTrigger: a task's turn to try again."""

import json
import time

from airflow_provider_clusterra.triggers.jobs import ClusterraPlaceTrigger


async def test_a_turn_comes_at_the_deadline_at_the_latest_with_all_that_the_task_needs():
    place = {"tries": 1, "deadline": time.time() + 0.05, "limit": "timeout=1 s", "keys": {"A": "k"}}
    trigger = ClusterraPlaceTrigger(clusterra_conn_id="c", cluster_id="c1", **place)
    (event,) = [event async for event in trigger.run()]

    assert event.payload == place == json.loads(json.dumps(event.payload))


def test_a_worker_that_does_not_defer_pauses_no_longer_than_it_may():
    trigger = ClusterraPlaceTrigger(
        clusterra_conn_id="c", cluster_id="c1", tries=9, deadline=time.time() + 2
    )

    assert trigger.pause() <= 2
