"""Tests of airflow_provider_clusterra.triggers.jobs."""

import asyncio

from airflow_provider_clusterra.api.errors import Retry
from airflow_provider_clusterra.triggers.jobs import SubmitTurns


def queue(settled_after=0.05, first=0.01):
    return SubmitTurns(Retry(first=first, cap=first), settled_after)


async def until(true):
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.005)


async def test_more_and_more_may_try_as_long_as_none_comes_back():
    turns, gone = queue(), []
    tasks = [asyncio.create_task(turns.wait(is_back=False)) for _ in range(7)]
    for number, task in enumerate(tasks):
        task.add_done_callback(lambda _, number=number: gone.append(number))
    steps = []
    for count in (1, 3, 7):
        await until(lambda count=count: len(gone) >= count)
        steps.append(len(gone))

    assert steps == [1, 3, 7]
    assert gone == sorted(gone)


async def test_one_alone_may_try_after_one_has_come_back():
    turns, gone = queue(settled_after=0.1), []

    async def waits(number, *, is_back=False):
        await turns.wait(is_back=is_back)
        gone.append(number)

    tasks = [asyncio.create_task(waits(number)) for number in range(5)]
    await until(lambda: gone == [0])
    tasks.append(asyncio.create_task(waits(0, is_back=True)))
    await until(lambda: len(gone) >= 2)

    assert gone == [0, 1]
    await asyncio.gather(*tasks)


async def test_nobody_waits_longer_than_they_may():
    turns = queue(first=60)
    await turns.wait(is_back=False, until=0.01)

    assert turns._waiting == []
    turns._letting_go.cancel()
