"""Tests of airflow_provider_clusterra.watch.eventloop."""

import asyncio

import pytest

from airflow_provider_clusterra.watch.eventloop import yielding


@pytest.mark.parametrize(("stretch", "turns"), [(10, 10), (50, 2), (1000, 0)])
async def test_others_have_their_turn_after_each_stretch(stretch, turns):
    had = 0

    async def other():
        nonlocal had
        while True:
            await asyncio.sleep(0)
            had += 1

    task = asyncio.create_task(other())
    await asyncio.sleep(0)
    things = [thing async for thing in yielding(range(100), stretch)]
    task.cancel()

    assert things == list(range(100))
    assert had == turns
