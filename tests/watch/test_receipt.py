"""Tests of airflow_provider_clusterra.watch.receipt."""

import asyncio
import time
from urllib.parse import parse_qs, urlsplit

import pytest

from airflow_provider_clusterra.api.errors import TransportError
from airflow_provider_clusterra.api.jobs import Job, read_state
from airflow_provider_clusterra.watch import receipt
from airflow_provider_clusterra.watch.receipt import TOGETHER, Receipts
from tests.support.accounting import record
from tests.support.recorded import answer

DONE = read_state("COMPLETED")


class Accounting:
    """What a client is asked, and what it says: a record for each id that ``says`` has one for."""

    def __init__(self, says):
        self.says = says
        self.asked = []

    async def exchange(self, call):
        ids = parse_qs(urlsplit(call.path).query)["step"]
        self.asked.append(ids)
        said = self.says(ids, len(self.asked))
        if isinstance(said, Exception):
            raise said
        return said if hasattr(said, "status") else answer({"jobs": said, "errors": []})


def everything(ids, _):
    return [record(job_id=int(each)) for each in ids]


async def ask(says, count=1, patience=0.1):
    accounting = Accounting(says)
    receipts = Receipts(accounting, "c1")
    jobs = await asyncio.gather(
        *(receipts.add_to(Job(number, DONE), patience) for number in range(1, count + 1))
    )
    await receipts.close()
    return accounting.asked, jobs


async def test_jobs_that_end_together_are_asked_for_together():
    asked, jobs = await ask(everything, 250)

    assert [len(ids) for ids in asked] == [TOGETHER, TOGETHER, 50]
    assert all(job.usage["run_seconds"] == 100 for job in jobs)


async def test_a_late_accounting_is_asked_again_and_then_let_be(monkeypatch):
    monkeypatch.setattr(receipt, "PAUSE", 0.01)
    asked, (job,) = await ask(lambda ids, n: everything(ids, n) if n == 3 else [], patience=60)
    assert job.usage["run_seconds"] == 100
    assert len(asked) == 3

    begin = time.monotonic()
    _, (job,) = await ask(lambda *_: [record(state="RUNNING")], patience=0.05)
    assert job.usage == {}
    assert time.monotonic() - begin < 30


@pytest.mark.parametrize(
    "said",
    [
        answer("<html>", status=404),
        answer({"errors": [{"error": "no", "error_number": 9}]}, status=501),
        ValueError("a surprise"),
    ],
    ids=repr,
)
async def test_an_api_without_accounting_is_asked_once(said):
    asked, (job, *_) = await ask(lambda *_: said, 3, patience=60)

    assert len(asked) == 1
    assert job.usage == {}


async def test_an_accounting_that_does_not_answer_is_never_the_reason_to_fail():
    asked, (job,) = await ask(lambda *_: TransportError("no answer"), patience=0)

    assert len(asked) == 1
    assert job.usage == {}


async def test_one_that_is_cancelled_leaves_the_answer_to_the_others():
    free = asyncio.Event()
    accounting = Accounting(everything)
    at_once = accounting.exchange

    async def slowly(call):
        await free.wait()
        return await at_once(call)

    accounting.exchange = slowly
    receipts = Receipts(accounting, "c1")
    first, second = (asyncio.create_task(receipts.add_to(Job(n, DONE), 1)) for n in (1, 2))
    await asyncio.sleep(0)
    first.cancel()
    free.set()

    assert (await second).usage["run_seconds"] == 100
    assert first.cancelled()


async def test_one_question_is_under_way_at_a_time(monkeypatch):
    monkeypatch.setattr(receipt, "PAUSE", 0.0)
    monkeypatch.setattr(receipt, "LONGEST", 1.0)
    accounting = Accounting(everything)
    at_once, most, under_way = accounting.exchange, 0, 0

    async def slowly(call):
        nonlocal most, under_way
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.02)
        under_way -= 1
        return await at_once(call)

    accounting.exchange = slowly
    receipts = Receipts(accounting, "c1")
    waits = []
    for number in range(1, 8):
        waits.append(asyncio.create_task(receipts.add_to(Job(number, DONE), 5)))
        await asyncio.sleep(0.01)
    jobs = await asyncio.gather(*waits)

    assert most == 1
    assert len(accounting.asked) < len(jobs)
    assert all(job.usage["run_seconds"] == 100 for job in jobs)


async def test_an_accounting_that_never_answers_holds_nobody_for_long(monkeypatch):
    monkeypatch.setattr(receipt, "LONGEST", 0.05)
    accounting = Accounting(everything)

    async def never(_):
        await asyncio.Event().wait()

    accounting.exchange = never
    receipts = Receipts(accounting, "c1")
    job = await receipts.add_to(Job(9, DONE), 0.05)
    await receipts.close()

    assert job.usage == {}


async def test_a_large_array_is_asked_for_in_pieces():
    tasks = tuple(Job(100 + n, DONE, array_job_id=9, array_task_id=n) for n in range(250))
    accounting = Accounting(
        lambda ids, _: [record(job_id=1, array=(9, int(each.partition("_")[2]))) for each in ids]
    )
    job = await Receipts(accounting, "c1").add_to(Job(9, DONE, tasks=tasks), 1)

    assert [len(ids) for ids in accounting.asked] == [TOGETHER, TOGETHER, 50]
    assert job.usage["tasks"]["count"] == 250
