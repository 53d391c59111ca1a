"""Tests of airflow_provider_clusterra.watch.eventloop."""

import asyncio
import time

import pytest

from airflow_provider_clusterra.watch.eventloop import Stopwatch, yielding


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


async def test_what_the_loop_stands_still_for_is_no_part_of_an_answers_time():
    async with Stopwatch() as watch:
        await asyncio.sleep(0.1)
        time.sleep(0.7)  # noqa: ASYNC251 - it is what another task might do
        await asyncio.sleep(0.1)

    assert 0.1 < watch.seconds < 0.7
