"""Tests of airflow_provider_clusterra.watch.poller: how often it looks, as values and on a virtual
clock."""

import asyncio
import json
import random
import time
from collections import Counter
from contextlib import AsyncExitStack
from functools import partial
from itertools import chain, cycle, islice, pairwise, repeat
from statistics import median

import pytest

from airflow_provider_clusterra.api.answers import Answer
from airflow_provider_clusterra.watch.looks import (
    LONGEST_DEBT,
    SAVED,
    SHARE,
    Cost,
    Costs,
    Load,
    Way,
)
from airflow_provider_clusterra.watch.poller import (
    FREE,
    Poller,
    pause_before_look,
    shortest_pause,
)
from airflow_provider_clusterra.watch.verdict import PATIENT
from tests.support.waits import VirtualClock

BUSY = 60
"""Requests in the last minute."""
NO = (403, b"no")
SLURMS_MISS = b'{"errors": [{"error": "Invalid job id specified", "error_number": 2017}]}'


@pytest.mark.parametrize(
    ("age", "expected"), [(0, 1), (8, 1), (16, 2), (32, 4), (64, 5), (240, 5), (9e9, 5)]
)
def test_young_jobs_are_looked_at_often_and_old_ones_every_5_s(age, expected):
    assert 0.9 * expected <= pause_before_look(age, 30.0) <= 1.1 * expected


def test_an_interval_shorter_than_the_shortest_pause_is_kept():
    assert max(pause_before_look(500, 0.5) for _ in range(20)) <= 0.5


def test_looks_do_not_all_come_at_once():
    assert len({pause_before_look(600, 30.0) for _ in range(20)}) > 1


def test_a_job_that_is_not_shown_or_is_completing_is_looked_for_sooner_but_for_no_more():
    assert pause_before_look(9e9, None, eager=True) <= 1.1
    assert pause_before_look(9e9, None, 50.0, eager=True) >= 50


def test_only_an_author_makes_a_pause_shorter_than_the_budget():
    assert pause_before_look(9e9, 30.0, 3000.0) == 30
    assert pause_before_look(9e9, None, 3000.0) >= 3000


@pytest.mark.parametrize(
    ("shared", "single"),
    [(1, 0), (0, 1), (1, 1), (0, 2), (0, 5), (1, 5), (0, 20), (1, 20), (0, 100), (1, 100)],
)
@pytest.mark.parametrize("seconds", [0.0, 0.005, 0.1, 2.0])
def test_all_kinds_of_jobs_together_make_20_requests_a_minute_and_take_2_percent(
    shared, single, seconds
):
    load = Load(Cost(shared * seconds, shared), Cost(single * seconds, single))
    looks = [
        (cost, shortest_pause(load, single=kind, recent=BUSY))
        for kind, cost in enumerate([load.shared, load.single])
        if cost.requests
    ]

    assert sum(cost.requests / pause for cost, pause in looks) * 60 <= 20.001
    assert sum(cost.seconds / pause for cost, pause in looks) <= SHARE + 1e-9


def test_jobs_that_share_a_look_are_held_up_by_a_hundred_arrays_as_little_as_by_one():
    pauses = {
        shortest_pause(Load(single=Cost(requests=arrays)), single=False, recent=BUSY)
        for arrays in (1, 100)
    }

    assert pauses == {6.0}


def test_a_few_young_jobs_are_looked_at_at_once_and_many_share_the_budget():
    assert shortest_pause(Load(), single=False, recent=FREE - 1) == 1
    assert shortest_pause(Load(), single=False, recent=FREE) == 3


def test_the_end_of_a_job_that_lives_for_less_than_a_minute_is_seen_within_2_s_on_median():
    late = []
    for tenths in range(10, 600, 7):
        end, look = tenths / 10, 0.0
        while look < end:
            look += pause_before_look(look, 30.0)
        late.append(look - end)

    assert median(late) < 2


def looked_at(costs, hours=2.0):
    """Old jobs' looks one after the other: seconds of answering so far, and when each began."""
    measured, now, spent = Costs(), 0.0, 0.0
    for cost in costs:
        if now > hours * 3600:
            return
        yield spent, now
        spent, now = spent + cost, now + cost
        measured.note(Way.STATES, cost, now)
        load = measured.load(1000, 0, 0, now)
        now += pause_before_look(9e9, None, shortest_pause(load, single=False, recent=BUSY))


@pytest.mark.parametrize(
    "costs",
    [
        repeat(0.05),
        repeat(2.0),
        cycle([0.05, 1.5]),
        cycle([0.4, 0.9, 0.5, 0.7]),
        cycle([0.1] * 9 + [4.0]),
        chain(islice(repeat(0.1), 200), repeat(1.0)),
        chain(islice(repeat(1.0), 50), cycle([0.1, 0.1, 1.2])),
    ],
    ids=["cheap", "dear", "by turns", "noise", "each tenth", "a queue that grows", "that shrinks"],
)
def test_looks_take_a_fiftieth_of_the_servers_time_whatever_each_costs(costs):
    looks = list(looked_at(costs))

    assert len(looks) > 50
    assert all(spent <= 0.02 * now + SAVED + 4.0 for spent, now in looks)


def test_one_slow_answer_among_cheap_ones_delays_no_look():
    times = [now for _, now in looked_at(chain([0.05] * 5, [1.8], repeat(0.05)), hours=0.1)]

    assert max(later - now for now, later in pairwise(times)) < 9


@pytest.mark.parametrize(("took", "every", "longest"), [(0.3, 5, 60), (1.0, 10, 60), (2.0, 5, 106)])
def test_looks_that_wait_for_nothing_hold_up_others_for_a_minute_or_a_dear_looks_share(
    took, every, longest
):
    costs = Costs()
    for look in range(1000):
        costs.note(Way.STATES, took, float(look * every))
    shared = costs.load(100, 0, 0, 999.0 * every).shared

    assert LONGEST_DEBT - 1 < shared.owed / SHARE < longest
    assert shared.wait == pytest.approx(took / SHARE, rel=0.2)


class Api:
    """Answers in ``seconds`` of the virtual clock; ``refuses`` is what it says to single looks.

    Its states leave so many jobs out.
    """

    access = None

    def __init__(self, jobs, seconds, states=200, refuses=None, leaves_out=0):
        self._jobs, self._seconds, self._refuses = jobs, seconds, refuses
        self.states = states
        self.listed = [*jobs][leaves_out:]
        self.asked = []
        self.places = []

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        pass

    async def begin(self):
        return self

    def accept(self):
        pass

    async def exchange(self, call):
        await asyncio.sleep(self._seconds)
        self.asked.append(time.monotonic())
        place = call.request.rpartition("jobs")[2].strip("/")
        self.places.append(place.partition("?")[0])
        status, body = self._answer(place)
        body = body if isinstance(body, bytes) else json.dumps({"jobs": body}).encode()
        return Answer("GET", status, {"content-type": "application/json"}, body)

    def _answer(self, place):
        if place.startswith("state"):
            rows = [{"job_id": str(each), "state": ["RUNNING"]} for each in self.listed]
            return self.states, rows
        if not place:
            return 200, [record for records in self._jobs.values() for record in records]
        return self._refuses or (200, self._jobs[int(place)])


def plain(job_id):
    return [{"job_id": job_id, "job_state": ["RUNNING"]}]


def array(job_id, *states):
    states = states or ("RUNNING",)
    fields = {"array_job_id": job_id, "job_state": states}
    return [{"job_id": job_id + n, "array_task_id": n, **fields} for n in range(1, 4)]


async def wait_for_ever(poller, job_id, **fields):
    async with poller.subscribed(job_id, None, age=86_400, **fields) as subscriber:
        while True:
            await subscriber.next()


async def end_all(waits):
    for each in waits:
        each.cancel()
    await asyncio.gather(*waits, return_exceptions=True)


@pytest.mark.parametrize(
    ("singles", "arrays", "api"),
    [
        (1, 0, {}),
        (10, 0, {}),
        (500, 0, {}),
        (1, 1, {}),
        (10, 1, {}),
        (1, 5, {}),
        (0, 20, {}),
        (20, 100, {}),
        (1, 0, {"seconds": 2.0}),
        (100, 1, {"seconds": 1.0}),
        (0, 1, {"seconds": 1.0, "states_of_arrays": ("COMPLETED", "COMPLETING")}),
        (10, 0, {"leaves_out": 10}),
        (200, 0, {"leaves_out": 9}),
        (2, 0, {"states": 404}),
        (10, 0, {"states": 404}),
        (20, 1, {"states": 404}),
        (5, 0, {"states": 404, "refuses": NO}),
        (20, 0, {"refuses": NO}),
        (20, 0, {"refuses": (404, SLURMS_MISS)}),
    ],
)
def test_a_poller_makes_20_requests_a_minute_and_takes_2_percent_whatever_waits(
    singles, arrays, api, mocker
):
    clock = VirtualClock()
    mocker.patch("time.monotonic", clock.time)
    seen, fields = {}, {"seconds": 0.01} | api
    states = fields.pop("states_of_arrays", ())
    jobs = {number: plain(number) for number in range(1, singles + 1)}
    jobs |= {number * 10_000: array(number * 10_000, *states) for number in range(1, arrays + 1)}
    api = Api(jobs, **fields)
    poller = Poller("c1", api, lambda _: None, PATIENT)

    async def wait(job_id):
        async with poller.subscribed(job_id, None, age=86_400) as subscriber:
            while True:
                seen[job_id] = await subscriber.next() is not None

    async def wait_for_all():
        waits = [asyncio.create_task(wait(job_id)) for job_id in jobs]
        await asyncio.sleep(20 * 60)
        await end_all(waits)

    clock.run_until_complete(wait_for_all())
    clock.close()
    minutes = Counter((at - 1000.0) // 60 for at in api.asked)
    settled = [minutes[minute] for minute in range(5, 20)]

    assert sum(settled) / len(settled) <= 20
    assert sum(settled) * fields["seconds"] / (len(settled) * 60) <= 0.021
    # what is refused is never seen, and what is not shown is seen not to be
    assert seen.keys() == (set() if fields.get("refuses") == NO else jobs.keys())
    assert set(seen.values()) <= {"refuses" not in fields}


@pytest.mark.parametrize("count", [2, 20, 500])
def test_states_that_are_refused_once_are_soon_looked_at_again(count, mocker):
    clock = VirtualClock()
    mocker.patch("time.monotonic", clock.time)
    jobs = {number: plain(number) for number in range(1, count + 1)}
    api = Api(jobs, 0.05)
    poller = Poller("c1", api, lambda _: None, PATIENT)

    async def odd_for_a_moment():
        waits = [asyncio.create_task(wait_for_ever(poller, number)) for number in jobs]
        await asyncio.sleep(600)
        worked = api.places.count("state")
        api.states = 404
        await asyncio.sleep(7)
        api.states = 200
        odd = api.places.count("state")
        await asyncio.sleep(60)
        await end_all(waits)
        return worked, odd, api.places.count("state")

    worked, odd, again = clock.run_until_complete(odd_for_a_moment())
    clock.close()

    assert worked > 100
    assert odd - worked == 1
    assert again - odd >= 5


@pytest.mark.parametrize("count", [2, 50, 500])
def test_states_that_left_all_jobs_out_for_a_moment_are_soon_looked_at_again(count, mocker):
    clock = VirtualClock()
    mocker.patch("time.monotonic", clock.time)
    jobs = {number: plain(number) for number in range(1, count + 1)}
    api = Api(jobs, 0.05, leaves_out=count)
    poller = Poller("c1", api, lambda _: None, PATIENT)

    async def as_old_as_a_cache_for_a_moment():
        waits = [asyncio.create_task(wait_for_ever(poller, number)) for number in jobs]
        await asyncio.sleep(30)
        api.listed = [*jobs]
        await asyncio.sleep(90)
        asked = len(api.places)
        await asyncio.sleep(60)
        await end_all(waits)
        return Counter(place for place in api.places[asked:])

    places = clock.run_until_complete(as_old_as_a_cache_for_a_moment())
    clock.close()

    assert places["state"] >= 10
    assert places.total() - places["state"] <= 2


@pytest.mark.parametrize("count", [2, 100, 1000])
def test_jobs_that_join_while_an_array_is_looked_at_do_not_put_off_its_next_look(count, mocker):
    clock = VirtualClock()
    mocker.patch("time.monotonic", clock.time)
    jobs = {number: plain(number) for number in range(1, count + 1)}
    api = Api(jobs | {10_000: array(10_000)}, 0.5)
    poller = Poller("c1", api, lambda _: None, PATIENT)

    async def longest_time_without_a_look_at_the_array():
        waits = [asyncio.create_task(wait_for_ever(poller, 10_000))]
        await asyncio.sleep(0.1)
        waits += [asyncio.create_task(wait_for_ever(poller, number)) for number in jobs]
        await asyncio.sleep(600)
        await end_all(waits)
        looks = [at for at, place in zip(api.asked, api.places, strict=True) if place == "10000"]
        return max(later - at for at, later in pairwise([*looks, time.monotonic()]))

    longest = clock.run_until_complete(longest_time_without_a_look_at_the_array())
    clock.close()

    assert longest < 70


def test_jobs_that_join_a_long_queue_share_its_dear_looks(mocker):
    clock = VirtualClock()
    mocker.patch("time.monotonic", clock.time)
    api = Api({number: plain(number) for number in range(1, 6001)}, 0.5)
    poller = Poller("c1", api, lambda _: None, PATIENT)

    wait = partial(wait_for_ever, poller, whole=False)

    async def join():
        waits = []
        for number in range(1, 6001, 50):
            waits += [asyncio.create_task(wait(number + each)) for each in range(50)]
            await asyncio.sleep(5)
        await end_all(waits)

    clock.run_until_complete(join())
    clock.close()

    assert 0.5 * len(api.asked) <= 0.02 * 600 + SAVED + 1.0


@pytest.mark.parametrize("fails", [False, True])
def test_thousands_of_jobs_that_join_in_a_pause_do_not_end_it_each(fails, mocker):
    clock = VirtualClock()
    mocker.patch("time.monotonic", clock.time)
    rounds = mocker.spy(Poller, "_round")
    jobs = {number: plain(number) for number in range(1, 2001)}
    api = Api(jobs, 0.1, refuses=(503, b"busy") if fails else None)
    poller = Poller("c1", api, lambda _: None, PATIENT)

    wait = partial(wait_for_ever, poller)

    async def join():
        waits = [asyncio.create_task(wait(1))]
        # the first looks are free, and may come at once
        await asyncio.sleep(30)
        for number in range(2, 2001):
            waits.append(asyncio.create_task(wait(number)))
            await asyncio.sleep(0)
        await asyncio.sleep(30)
        await end_all(waits)

    clock.run_until_complete(join())
    clock.close()

    assert rounds.call_count < 100


@pytest.mark.parametrize(
    ("seconds", "poll_interval", "hurries", "longest"),
    [(0.1, None, True, 7), (0.2, None, True, 12), (1.0, 10.0, False, 12)],
)
def test_looks_that_one_job_asks_for_hold_up_a_new_jobs_first_look_for_one_looks_share(
    seconds, poll_interval, hurries, longest, mocker
):
    clock = VirtualClock()
    mocker.patch("time.monotonic", clock.time)
    api = Api({number: plain(number) for number in range(1, 22)}, seconds)
    poller = Poller("c1", api, lambda _: None, PATIENT)

    async def hurry():
        for number in cycle(range(1, 21)):
            await asyncio.sleep(3)
            if hurries:
                poller.hurry(number)

    async def first_look_after_half_an_hour():
        async with AsyncExitStack() as waits:
            for number in range(1, 21):
                await waits.enter_async_context(
                    poller.subscribed(number, poll_interval if number == 1 else None, 86_400)
                )
            hurrying = asyncio.create_task(hurry())
            await asyncio.sleep(1800)
            joined, asked = clock.now, len(api.asked)
            async with poller.subscribed(21, None) as subscriber:
                await subscriber.next()
            hurrying.cancel()
            return clock.now - joined, asked

    waited, asked = clock.run_until_complete(first_look_after_half_an_hour())
    clock.close()

    assert waited < longest
    # beside what is saved, and the first looks
    assert not hurries or (asked - 20) * seconds <= 0.02 * 1800 + SAVED


@pytest.mark.parametrize("seed", range(6))
def test_a_pause_ends_when_the_first_job_is_due_whatever_joins_hurries_leaves_or_fails(
    seed, mocker
):
    chance = random.Random(seed)
    clock = VirtualClock()
    mocker.patch("time.monotonic", clock.time)
    api = Api({number: plain(number) for number in range(1, 21)}, 0.2)
    poller = Poller("c1", api, lambda _: None, PATIENT)
    look, ended, late = poller._round, [0.0], []

    async def timed_look(*looked_with):
        due = min((job.due for job in poller._jobs.values()), default=clock.now)
        late.append(clock.now - max(due, poller._not_before, ended[-1]))
        await look(*looked_with)
        ended.append(clock.now)

    async def wait(number):
        while True:
            await asyncio.sleep(chance.uniform(0, 40))
            interval = chance.choice([None, 1.0, 10.0])
            async with poller.subscribed(number, interval, chance.choice([0, 86_400])):
                await asyncio.sleep(chance.uniform(0, 40))

    async def play():
        # one that stays, so that the poller does
        async with poller.subscribed(1, None, age=86_400):
            waits = [asyncio.create_task(wait(number)) for number in range(2, 21)]
            for _ in range(300):
                await asyncio.sleep(chance.uniform(0, 5))
                poller.hurry(chance.randrange(1, 21), whole=chance.random() < 0.5)
                api._refuses = (503, b"busy") if chance.random() < 0.2 else None
            await end_all(waits)

    mocker.patch.object(poller, "_round", timed_look)
    clock.run_until_complete(play())
    clock.close()

    assert len(late) > 100
    assert max(late) < 0.01
