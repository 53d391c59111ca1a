"""Tests of airflow_provider_clusterra.watch.receipt."""

import asyncio
import threading
import time
from urllib.parse import parse_qs, urlsplit

import pytest

from airflow_provider_clusterra.api.calls import list_runs
from airflow_provider_clusterra.api.errors import TooLargeError, TransportError
from airflow_provider_clusterra.api.jobs import Job, read_state, read_time
from airflow_provider_clusterra.watch import receipt
from airflow_provider_clusterra.watch.receipt import TOGETHER, Receipts
from tests.support.accounting import BEGIN, record
from tests.support.recorded import answer

DONE = read_state("COMPLETED")


class Accounting:
    """What a client is asked, and what it says: a record for each id that ``says`` has one for."""

    def __init__(self, says):
        self.says = says
        self.asked = []

    async def exchange(self, call):
        ids = parse_qs(urlsplit(call.request.split()[1]).query)["step"]
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


def an_array(count, job_id=9):
    begun = read_time(BEGIN)
    tasks = (
        Job(100 + n, DONE, started_at=begun, array_job_id=job_id, array_task_id=n)
        for n in range(count)
    )
    return Job(job_id, DONE, tasks=tuple(tasks))


def tasks_of(ids):
    return [record(job_id=1, array=(9, int(each.partition("_")[2]))) for each in ids if "_" in each]


async def test_a_large_array_is_asked_for_in_pieces():
    accounting = Accounting(lambda ids, _: tasks_of(ids))
    job = await Receipts(accounting, "c1").add_to(an_array(250), 1)

    assert [len(ids) for ids in accounting.asked] == [TOGETHER, TOGETHER, 50]
    assert job.usage["tasks"]["count"] == 250


async def test_only_those_tasks_of_which_accounting_was_late_are_asked_for_again(monkeypatch):
    monkeypatch.setattr(receipt, "PAUSE", 0.0)
    accounting = Accounting(
        lambda ids, n: tasks_of(each for each in ids if n > 3 or each not in ("9_7", "9_120"))
    )
    job = await Receipts(accounting, "c1").add_to(an_array(250), 5)

    assert accounting.asked[3:] == [["9_7", "9_120"]]
    assert job.usage["tasks"]["count"] == 250
    assert job.usage["node_hours"] == pytest.approx(250 * 100 / 3600, abs=0.1)


async def test_a_large_array_holds_no_other_job_up():
    accounting = Accounting(lambda ids, n: tasks_of(ids) or everything(ids, n))
    receipts = Receipts(accounting, "c1")
    array = asyncio.create_task(receipts.add_to(an_array(3000), 60))
    while not accounting.asked:
        await asyncio.sleep(0)
    job = await receipts.add_to(Job(1, DONE), 5)

    assert job.usage["run_seconds"] == 100
    assert len(accounting.asked) < 30
    assert (await array).usage["tasks"]["count"] == 3000


async def test_each_job_has_its_receipt_as_soon_as_its_answer_is_there():
    accounting = Accounting(everything)
    at_once, go_on = accounting.exchange, asyncio.Event()

    async def slowly(call):
        if accounting.asked:
            await go_on.wait()
        return await at_once(call)

    accounting.exchange = slowly
    receipts = Receipts(accounting, "c1")
    waits = [asyncio.create_task(receipts.add_to(Job(n, DONE), 60)) for n in range(1, 201)]
    done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    assert done
    go_on.set()
    assert all(job.usage["run_seconds"] == 100 for job in await asyncio.gather(*waits))


async def test_small_arrays_count_with_all_their_tasks():
    accounting = Accounting(lambda *_: [])
    receipts = Receipts(accounting, "c1")
    arrays = [an_array(60, 1), an_array(40, 2), an_array(1, 3), Job(4, DONE)]
    await asyncio.gather(*(receipts.add_to(job, 0) for job in arrays))

    assert accounting.asked == [["1", "2"], ["3", "4"]]


async def test_a_job_with_too_many_steps_costs_no_other_its_receipt():
    asked, jobs = await ask(
        lambda ids, n: TooLargeError("much") if "5" in ids else everything(ids, n), 8, patience=0
    )

    assert [job.job_id for job in jobs if "run_seconds" not in job.usage] == [5]
    assert asked[-1] == ["7", "8"]
    assert list_runs("c1", ["5"]).largest == 10 * 2**20


@pytest.mark.parametrize(
    "said", [ValueError("a surprise"), answer({}, status=400), TransportError("none")], ids=repr
)
async def test_a_question_that_fails_costs_only_those_it_asks_for(said):
    _, jobs = await ask(lambda ids, n: said if "1" in ids else everything(ids, n), 250, patience=0)

    assert sum("run_seconds" in job.usage for job in jobs) == 150


async def test_slow_answers_are_asked_for_seldom(monkeypatch):
    for name, value in {"PAUSE": 0.0, "LONGEST": 0.1, "SHARE": 0.25}.items():
        monkeypatch.setattr(receipt, name, value)
    accounting = Accounting(lambda ids, n: everything(ids, n) if n == 2 else [])
    at_once, times = accounting.exchange, []

    async def slowly(call):
        await asyncio.sleep(0.2)
        times.append(time.monotonic())
        return await at_once(call)

    accounting.exchange = slowly
    await Receipts(accounting, "c1").add_to(Job(1, DONE), 30)

    assert times[1] - times[0] > 0.8


async def test_who_waits_for_a_turn_when_the_poll_ends_waits_no_longer(monkeypatch):
    monkeypatch.setattr(receipt, "PAUSE", 60.0)
    accounting = Accounting(lambda *_: [])
    receipts = Receipts(accounting, "c1")
    wait = asyncio.create_task(receipts.add_to(Job(1, DONE), 3))
    while not accounting.asked:
        await asyncio.sleep(0)
    await asyncio.sleep(0.05)
    begin = time.monotonic()
    await receipts.close()

    assert (await wait).usage == {}
    assert time.monotonic() - begin < 2
    assert len(accounting.asked) == 1


@pytest.mark.parametrize("count", [TOGETHER, 250])
async def test_an_arrays_tasks_are_compared_beside_the_event_loop(monkeypatch, count):
    threads = []

    def spied(name):
        real = getattr(receipt, name)

        def spy(*args):
            threads.append((name, threading.current_thread()))
            return real(*args)

        monkeypatch.setattr(receipt, name, spy)

    for name in ("is_told", "untold", "usage_of"):
        spied(name)
    await Receipts(Accounting(lambda ids, _: tasks_of(ids)), "c1").add_to(an_array(count), 0)

    assert len({name for name, _ in threads}) == 2
    assert threading.main_thread() not in {thread for _, thread in threads}
