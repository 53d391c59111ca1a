"""Tests of airflow_provider_clusterra.watch.receipt."""

import asyncio
import threading
import time
from contextlib import closing
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit

import pytest

from airflow_provider_clusterra.api.calls import list_runs
from airflow_provider_clusterra.api.errors import TooLargeError, TransportError
from airflow_provider_clusterra.api.jobs import Job, read_state, read_time
from airflow_provider_clusterra.watch import receipt
from airflow_provider_clusterra.watch.receipt import PAUSE, TOGETHER, Budget, Receipts
from tests.support.accounting import BEGIN, record
from tests.support.recorded import answer
from tests.support.waits import VirtualClock

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


async def ask(says, count=1, patience=0.1, pause=PAUSE):
    accounting = Accounting(says)
    receipts = Receipts(accounting, "c1", pause=pause)
    jobs = await asyncio.gather(
        *(receipts.add_to(Job(number, DONE), patience) for number in range(1, count + 1))
    )
    await receipts.close()
    return accounting.asked, jobs


async def test_jobs_that_end_together_are_asked_for_together():
    asked, jobs = await ask(everything, 250)

    assert [len(ids) for ids in asked] == [TOGETHER, TOGETHER, 50]
    assert all(job.usage["run_seconds"] == 100 for job in jobs)


async def test_a_late_accounting_is_asked_again_and_then_let_be():
    asked, (job,) = await ask(
        lambda ids, n: everything(ids, n) if n == 3 else [], patience=60, pause=0.01
    )
    assert job.usage["run_seconds"] == 100
    assert len(asked) == 3

    begin = time.monotonic()
    _, (job,) = await ask(lambda *_: [record(state="RUNNING")], patience=0.05, pause=0.01)
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


async def test_one_question_is_under_way_at_a_time():
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
    receipts = Receipts(accounting, "c1", pause=0.0, longest=1.0)
    waits = []
    for number in range(1, 8):
        waits.append(asyncio.create_task(receipts.add_to(Job(number, DONE), 5)))
        await asyncio.sleep(0.01)
    jobs = await asyncio.gather(*waits)

    assert most == 1
    assert len(accounting.asked) < len(jobs)
    assert all(job.usage["run_seconds"] == 100 for job in jobs)


async def test_an_accounting_that_never_answers_holds_nobody_for_long():
    accounting = Accounting(everything)

    async def never(_):
        await asyncio.Event().wait()

    accounting.exchange = never
    receipts = Receipts(accounting, "c1", longest=0.05)
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


async def test_only_those_tasks_of_which_accounting_was_late_are_asked_for_again():
    accounting = Accounting(
        lambda ids, n: tasks_of(each for each in ids if n > 3 or each not in ("9_7", "9_120"))
    )
    job = await Receipts(accounting, "c1", pause=0.0).add_to(an_array(250), 600)

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


@pytest.fixture
def ends(monkeypatch):
    """Let jobs end: how many had a receipt, how long each was held up, and the server's share."""

    async def at_once(function, *args):
        return function(*args)

    def run(times, *, takes, late, patience=6.0):
        loop, ended, receipts = VirtualClock(), {}, []
        monkeypatch.setattr(receipt, "time", SimpleNamespace(monotonic=loop.time))
        monkeypatch.setattr(asyncio, "to_thread", at_once)
        accounting = Accounting(
            lambda ids, _: [
                record(job_id=int(each), state=said(loop.time() - takes - ended[int(each)]))
                for each in ids
            ]
        )
        exchange = accounting.exchange

        def said(age):
            return "COMPLETED" if age >= late - 1e-6 else "RUNNING"

        async def slowly(call):
            await asyncio.sleep(takes)
            return await exchange(call)

        accounting.exchange = slowly

        async def end(all_of, number, at):
            await asyncio.sleep(at)
            ended[number] = begin = loop.time()
            job = await all_of.add_to(Job(number, DONE), patience)
            receipts.append(("run_seconds" in job.usage, loop.time() - begin))

        async def all_end():
            all_of = Receipts(accounting, "c1")
            await asyncio.gather(*(end(all_of, *each) for each in enumerate(times, 1)))
            await all_of.close()

        with closing(loop):
            loop.run_until_complete(all_end())
        told, held = zip(*receipts, strict=True)
        return sum(told), list(held), len(accounting.asked) * takes

    return run


@pytest.mark.parametrize("takes", [0.02, 0.35, 1.0, 2.0])
@pytest.mark.parametrize("late", [0.0, 2.0])
def test_a_job_that_ends_alone_has_its_receipt_as_soon_as_accounting_has_it(ends, takes, late):
    told, held, _ = ends([600.0 * n for n in range(20)], takes=takes, late=late)

    assert told == 20
    assert max(held) <= late + 2 * takes + 0.1


@pytest.mark.parametrize("takes", [0.35, 1.0, 3.0, 20.0])
def test_slow_answers_take_their_share_of_the_server_and_hold_nobody_up_for_nothing(ends, takes):
    told, held, used = ends([10.0 * n for n in range(360)], takes=takes, late=2.0)

    # one question may take more than there is left
    assert used <= 0.02 * (3600 + receipt.OVER) + takes
    assert takes > 10 or told >= used / takes * 0.6
    # jobs that end during a question of 20 s wait for it, at most 16 s
    assert sum(held) <= told * (6 + takes) + 32 * used / takes
    assert sorted(held)[180] == 0 or takes < 1


@pytest.mark.parametrize("takes", [0.02, 1.0])
def test_who_waits_for_nothing_again_and_again_is_held_up_no_more(ends, takes):
    told, held, _ = ends([10.0 * n for n in range(100)], takes=takes, late=1e9)

    assert told == 0
    assert sorted(held)[50] <= takes


def test_an_accounting_that_is_late_for_a_while_is_waited_for_again(ends):
    assert ends([0.0, 20.0, 40.0, 110.0], takes=0.02, late=2.0)[0] == 4
    told, held, _ = ends([0, 10, 20, *range(30, 300, 10)], takes=0.02, late=7.0, patience=6.0)
    assert told == 0
    assert [n for n, each in enumerate(held) if each > 1] == [0, 1, 2, 9, 16, 23]


async def test_a_job_that_never_ran_is_not_asked_for():
    cancelled = Job(9, read_state("CANCELLED"), tres_requested="cpu=1,mem=1G")
    accounting = Accounting(everything)
    job = await Receipts(accounting, "c1").add_to(cancelled, 60)

    assert accounting.asked == []
    assert job.usage == {"memory_bytes_requested": 2**30}
    assert receipt.account_for(None, "c1", cancelled) is cancelled


@pytest.mark.parametrize(
    ("budget", "turn"),
    [
        (Budget(6, 0, 1), 100),
        (Budget(0, 100, 1), 150),
        (Budget(1, 100, 1), 103),
        (Budget(0, 100, 0.01), 103),
        (Budget(0, 100, 60), 400),
    ],
)
def test_a_question_is_due_when_there_is_time_for_two_or_in_the_middle_for_one(budget, turn):
    assert budget.next_turn(100, 103) == pytest.approx(turn)


async def test_who_waits_for_a_turn_when_the_poll_ends_waits_no_longer():
    accounting = Accounting(lambda *_: [])
    receipts = Receipts(accounting, "c1", pause=60.0)
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
