"""Tests of ClusterraQueueTrigger: a task's turn to submit again."""

import json
import time

from airflow_provider_clusterra.triggers.jobs import ClusterraQueueTrigger


async def test_a_turn_comes_at_the_deadline_at_the_latest_with_all_that_the_task_needs():
    queue = {"tries": 1, "deadline": time.time() + 0.05, "limit": "timeout=1 s", "keys": {"A": "k"}}
    trigger = ClusterraQueueTrigger(clusterra_conn_id="c", cluster_id="c1", **queue)
    (event,) = [event async for event in trigger.run()]

    assert event.payload == queue == json.loads(json.dumps(event.payload))
