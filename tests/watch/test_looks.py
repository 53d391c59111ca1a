"""Tests of airflow_provider_clusterra.watch.looks: what a round asks for, over real sockets."""

import errno
from contextlib import AsyncExitStack

import pytest

from airflow_provider_clusterra.api import Access, AsyncClient
from airflow_provider_clusterra.api.errors import ONCE
from airflow_provider_clusterra.api.jobs import Job, JobState
from airflow_provider_clusterra.watch import looks
from airflow_provider_clusterra.watch.eventloop import LARGE
from airflow_provider_clusterra.watch.looks import (
    LEFT_OUT,
    REASON_EVERY,
    REMEASURE,
    RUNNING,
    WORTH_A_LIST,
    Looker,
    Need,
    PolledJob,
)
from tests.support.wire import Wire, http

NOT_OFFERED = http(404, {"detail": "Not Found"})
LONG = "x" * (LARGE // 20)
"""A comment of which 20 jobs make a large answer."""


def job(job_id, state="RUNNING", **fields):
    return {"job_id": job_id, "job_state": [state], "name": "mine", **fields}


def jobs(*records):
    return http(200, {"jobs": list(records)})


def states(**by_id):
    rows = [{"job_id": name[1:], "state": [state]} for name, state in by_id.items()]
    return http(200, {"jobs": rows})


@pytest.fixture
async def look():
    """Looks at jobs again and again, as a poller does; gives what was found.

    ``look.loads`` are those of the looks that follow.
    """
    lookers, remembered = {}, {}

    async def look(wire, *known, due=None):
        if wire not in lookers:
            client = AsyncClient(Access(wire.url, "s3cret"), retry=ONCE)
            lookers[wire] = Looker(await clients.enter_async_context(client), "c1")
        jobs = remembered.setdefault(wire, {each.job_id: each for each in known})
        asked = [jobs[each.job_id] for each in due or known]
        found = await lookers[wire].look(asked, list(jobs.values()))
        for job_id, seen in found.jobs.items():
            left_out = job_id in found.left_out
            jobs[job_id] = jobs[job_id].seen(seen, 0.0, left_out=left_out)
        for job_id in found.unchanged:
            jobs[job_id] = jobs[job_id].unchanged()
        look.loads.append(await lookers[wire].weigh(jobs.values()))
        return found

    look.loads = []
    async with AsyncExitStack() as clients:
        yield look


def asked(wire):
    """The requests' paths, without what they have in common."""
    lines = [request.split(b" ")[1].decode() for request in wire.requests]
    return [line.removeprefix("/v1/clusters/c1/") for line in lines]


async def test_a_first_look_is_a_whole_one_and_the_next_asks_for_all_states_at_once(look):
    one, two = PolledJob(1), PolledJob(2)
    with Wire(
        jobs(job(1), job(2)), jobs(job(1), job(2)), states(_1="RUNNING", _2="RUNNING")
    ) as wire:
        first = await look(wire, one, two)
        second = await look(wire, one, two)

        assert sorted(asked(wire)[:2]) == ["jobs/1", "jobs/2"]
        assert asked(wire)[2:] == ["jobs/state?job_id=1&job_id=2"]
    assert set(first.jobs) == {1, 2}
    assert second.unchanged == {1, 2}
    assert second.jobs == {}


async def test_a_state_that_has_changed_is_confirmed_by_a_whole_look(look):
    one, two = PolledJob(1), PolledJob(2)
    both = jobs(job(1), job(2))
    done = jobs(job(1, "COMPLETED"))
    with Wire(both, both, states(_1="COMPLETED", _2="RUNNING"), done) as wire:
        await look(wire, one, two)
        found = await look(wire, one, two)

        assert asked(wire)[3:] == ["jobs/1"]
    assert found.jobs[1].state.succeeded
    assert found.unchanged == {2}


@pytest.mark.parametrize("odd", ["2_1", "2_[3-9]", "2+1", "²", "two", 2.5, None, {"number": 2}])
async def test_a_row_of_states_that_names_no_job_is_about_none(look, odd):
    one, two = PolledJob(1), PolledJob(2)
    both = jobs(job(1), job(2))
    known = [{"job_id": each, "state": ["RUNNING"]} for each in (1, "2")]
    rows = http(200, {"jobs": [*known, {"job_id": odd, "state": ["FAILED"]}]})
    with Wire(both, both, rows) as wire:
        await look(wire, one, two)
        found = await look(wire, one, two)

    assert found.unchanged == {1, 2}


async def test_a_job_that_the_states_leave_out_is_asked_for_by_itself(look):
    one, two = PolledJob(1), PolledJob(2)
    both = jobs(job(1), job(2))
    with Wire(both, both, states(_2="RUNNING"), NOT_OFFERED) as wire:
        await look(wire, one, two)
        found = await look(wire, one, two)

    assert found.jobs == {1: None}


async def test_states_that_are_older_than_a_look_make_no_job_one_that_is_asked_for_by_itself(look):
    known = PolledJob(1), PolledJob(2)
    both, shown = jobs(job(1), job(2)), states(_1="RUNNING", _2="RUNNING")
    older, one = states(_2="RUNNING"), jobs(job(1))
    with Wire(both, both, older, one, shown, older, one) as wire:
        await look(wire, *known)
        found = [await look(wire, *known) for _ in range(3)]

        assert [path for path in asked(wire) if "state" in path] == [
            "jobs/state?job_id=1&job_id=2"
        ] * 3
    assert [load.shared.requests for load in look.loads] == [1, 1, 1, 1]
    assert found[1].unchanged == {1, 2}


async def test_a_job_that_the_states_keep_leaving_out_is_asked_for_by_itself(look):
    known = PolledJob(1), PolledJob(2), PolledJob(3)
    all_three, older = jobs(job(1), job(2), job(3)), states(_2="RUNNING", _3="RUNNING")
    with Wire(*[all_three] * 3, *[older, jobs(job(1))] * 3) as wire:
        for _ in range(4):
            await look(wire, *known)

        assert sorted(asked(wire)[7:]) == ["jobs/1", "jobs/state?job_id=1&job_id=2&job_id=3"]
    assert [load.single.requests for load in look.loads] == [0, 0, 1, 1]


async def test_a_job_that_was_left_out_and_has_ended_as_the_states_show_is_seen_before_it_is_due(
    look,
):
    known = PolledJob(1), PolledJob(2), PolledJob(3)
    all_three, older = jobs(job(1), job(2), job(3)), states(_2="RUNNING", _3="RUNNING")
    ended = states(_1="COMPLETED", _2="RUNNING", _3="RUNNING")
    looks = [older, jobs(job(1)), older, jobs(job(1)), ended, jobs(job(1, "COMPLETED"))]
    with Wire(*[all_three] * 3, *looks) as wire:
        for _ in range(3):
            await look(wire, *known)
        found = await look(wire, *known, due=known[1:])

    assert found.jobs[1].state.succeeded


async def test_states_that_show_none_of_the_jobs_are_no_news_of_them_and_soon_asked_for_again(look):
    known = PolledJob(1), PolledJob(2)
    both = jobs(job(1), job(2))
    with Wire(both, both, states(_9="RUNNING"), both) as wire:
        found = [await look(wire, *known) for _ in range(3)]

        assert [path for path in asked(wire) if "state" in path] == [asked(wire)[2]]
    assert [each.jobs.keys() for each in found] == [{1, 2}] * 3
    assert all(each.left_out == set() for each in found)


def left_out(times):
    known = PolledJob(1)
    for at in range(times):
        known = known.seen(Job(1, RUNNING), at, left_out=True)
    return known


def test_a_job_that_the_states_show_again_shares_looks_again():
    alone = left_out(LEFT_OUT)

    assert not alone.shares_looks
    assert alone.unchanged().shares_looks
    assert not alone.seen(Job(1, RUNNING), 9.0).shares_looks


def test_the_states_are_tried_again_for_a_job_that_they_left_out_long_ago():
    later = REMEASURE + LEFT_OUT
    again = left_out(LEFT_OUT).seen(Job(1, RUNNING), later)

    assert again.shares_looks
    assert not again.seen(Job(1, RUNNING), later, left_out=True).shares_looks


async def test_jobs_that_are_not_due_are_asked_for_where_that_costs_nothing(look):
    one, two, three = PolledJob(1), PolledJob(2), PolledJob(3)
    all_three = jobs(job(1), job(2), job(3))
    with Wire(
        *[all_three] * 3, states(_1="RUNNING", _2="RUNNING", _3="COMPLETED"), all_three
    ) as wire:
        await look(wire, one, two, three)
        found = await look(wire, one, two, three, due=[one, two])

        assert asked(wire)[3:] == ["jobs/state?job_id=1&job_id=2&job_id=3", "jobs/3"]
    assert found.unchanged == {1, 2}


async def test_more_ids_than_a_url_holds_are_all_states(look):
    known = [PolledJob(100_000 + number) for number in range(500)]
    records = [job(each.job_id) for each in known]
    by_id = {f"_{each.job_id}": "RUNNING" for each in known}
    with Wire(jobs(*records), states(**by_id)) as wire:
        await look(wire, *known)
        found = await look(wire, *known)

        assert asked(wire) == ["jobs", "jobs/state"]
    assert len(found.unchanged) == 500


@pytest.mark.parametrize(
    ("later", "need"), [(REASON_EVERY - 1, Need.STATE), (REASON_EVERY, Need.WHOLE)]
)
def test_a_pending_jobs_reason_is_looked_for_every_five_minutes(later, need):
    pending = PolledJob(1).seen(Job(1, JobState("PENDING")), 50.0)

    assert pending.need(50.0 + later) is need


async def test_of_many_that_join_and_run_the_states_are_enough(look):
    count = int(WORTH_A_LIST / 0.05) + 2
    known = [PolledJob(number, whole=number == 2) for number in range(1, count + 1)]
    running = {f"_{number}": "RUNNING" for number in range(1, count + 1)}
    both = jobs(job(1, "PENDING"), job(2))
    with Wire(states(**running | {"_1": "PENDING"}), both) as wire:
        found = await look(wire, *known)

        assert sorted(path.partition("?")[0] for path in asked(wire)) == [
            "jobs/1",
            "jobs/2",
            "jobs/state",
        ]
    assert set(found.jobs) == set(range(1, count + 1))
    assert found.jobs[3] == Job(3, JobState("RUNNING"))


async def test_an_array_is_always_asked_for_by_itself(look):
    tasks = [
        job(11, array_job_id={"set": True, "number": 1}, array_task_id={"set": True, "number": 0}),
    ]
    one, two = PolledJob(1), PolledJob(2)
    with Wire(jobs(*tasks, job(2)), jobs(job(2), *tasks), jobs(*tasks, job(2))) as wire:
        await look(wire, one, two)
        await look(wire, one, two)

        assert sorted(asked(wire)[2:]) == ["jobs/1", "jobs/2"]


@pytest.mark.parametrize(
    "answer",
    [
        NOT_OFFERED,
        http(404, b"404 page not found"),
        http(501, b""),
        http(403, b"no"),
        http(400, b"no"),
    ],
    ids=repr,
)
async def test_states_that_the_api_does_not_offer_are_asked_for_no_more(look, answer):
    one, two = PolledJob(1), PolledJob(2)
    both = jobs(job(1), job(2))
    with Wire(both, both, answer, both) as wire:
        for _ in range(3):
            found = await look(wire, one, two)

        assert [path for path in asked(wire) if "state" in path] == [asked(wire)[2]]
    assert set(found.jobs) == {1, 2}
    assert found.hiccup is None


async def test_a_session_that_is_not_accepted_is_told_and_no_reason_to_do_without_states(look):
    one, two = PolledJob(1), PolledJob(2)
    both = jobs(job(1), job(2))
    with Wire(both, both, http(401, b"no"), states(_1="RUNNING", _2="RUNNING")) as wire:
        await look(wire, one, two)
        refused = await look(wire, one, two)
        again = await look(wire, one, two)

    assert refused.hiccup.status == 401
    assert again.unchanged == {1, 2}


async def test_states_that_fail_alone_are_given_a_rest(look):
    one, two = PolledJob(1), PolledJob(2)
    both, broken = jobs(job(1), job(2)), http(500, b"oops")
    with Wire(both, both, *[broken, both] * 3, both) as wire:
        await look(wire, one, two)
        for _ in range(3):
            found = await look(wire, one, two)
            assert found.hiccup.status == 500
            assert found.jobs[1].state.base == "RUNNING"
        found = await look(wire, one, two)

    assert found.hiccup is None
    assert set(found.jobs) == {1, 2}


async def test_bad_weather_is_no_reason_to_do_without_states(look):
    one, two = PolledJob(1), PolledJob(2)
    both = jobs(job(1), job(2))
    with Wire(both, both, *[http(503, b"busy")] * 10, states(_1="RUNNING", _2="RUNNING")) as wire:
        await look(wire, one, two)
        for _ in range(5):
            assert (await look(wire, one, two)).hiccup.status == 503
        found = await look(wire, one, two)

    assert found.unchanged == {1, 2}


async def test_many_jobs_are_first_seen_in_one_list_and_those_it_lacks_by_themselves(look):
    count = int(WORTH_A_LIST / 0.05) + 2
    known = [PolledJob(number) for number in range(1, count + 1)]
    array = job(
        3, array_job_id={"set": True, "number": 3}, array_task_id={"set": True, "number": 1}
    )
    listed = [job(number) for number in range(4, count + 1)] + [array]
    with Wire(jobs(*listed), jobs(job(1), job(2), array)) as wire:
        found = await look(wire, *known)

        assert sorted(asked(wire)) == ["jobs", "jobs/1", "jobs/2", "jobs/3"]
    assert set(found.jobs) == set(range(1, count + 1))
    assert found.jobs[3].tasks


async def test_a_large_list_is_read_by_a_process_of_its_own(look):
    count = int(WORTH_A_LIST / 0.05) + 2
    known = [PolledJob(number) for number in range(1, count + 1)]
    with Wire(
        jobs(*(job(number, "FAILED", comment=LONG) for number in range(1, count + 1)))
    ) as wire:
        found = await look(wire, *known)

        assert asked(wire) == ["jobs"]
    assert {each.state.base for each in found.jobs.values()} == {"FAILED"}


async def test_a_large_array_is_read_by_a_process_of_its_own(look):
    tasks = [
        job(
            100 + index,
            "COMPLETED",
            array_job_id={"set": True, "number": 1},
            array_task_id={"set": True, "number": index},
            comment=LONG,
        )
        for index in range(50)
    ]
    with Wire(jobs(*tasks)) as wire:
        found = await look(wire, PolledJob(1))

    assert len(found.jobs[1].tasks) == 50


async def test_a_large_answer_is_read_here_if_no_process_can_be_started(look, mocker):
    full = OSError(errno.EMFILE, "Too many open files")
    mocker.patch("asyncio.create_subprocess_exec", side_effect=full)
    with Wire(jobs(job(1, "FAILED", comment="x" * LARGE))) as wire:
        found = await look(wire, PolledJob(1))

    assert found.jobs[1].state.base == "FAILED"


@pytest.mark.parametrize("surprise", [OSError("no room"), MemoryError(), RuntimeError("no thread")])
async def test_a_machine_that_has_no_room_for_a_look_is_a_hiccup(look, mocker, surprise):
    mocker.patch("airflow_provider_clusterra.watch.looks.read_job_answer", side_effect=surprise)
    with Wire(jobs(job(1))) as wire:
        found = await look(wire, PolledJob(1))

    assert repr(surprise) in str(found.hiccup)


async def test_a_surprise_in_one_jobs_look_concerns_that_job_only(look, mocker):
    real = looks.read_job_answer

    async def reads(call, answer, job_id):
        if job_id == 1:
            raise ValueError("odd")
        return await real(call, answer, job_id)

    mocker.patch("airflow_provider_clusterra.watch.looks.read_job_answer", reads)
    with Wire(jobs(job(1), job(2))) as wire:
        found = await look(wire, PolledJob(1), PolledJob(2))

    assert "ValueError('odd')" in str(found.refused[1])
    assert set(found.jobs) == {2}


async def test_a_surprise_in_a_list_is_no_reason_not_to_look_one_by_one(look, mocker):
    mocker.patch(
        "airflow_provider_clusterra.watch.looks.read_jobs_answer", side_effect=ValueError("odd")
    )
    known = [PolledJob(number) for number in range(1, int(WORTH_A_LIST / 0.05) + 3)]
    with Wire(jobs(*(job(each.job_id) for each in known))) as wire:
        found = await look(wire, *known)

    assert set(found.jobs) == {each.job_id for each in known}
    assert found.hiccup is None


@pytest.mark.parametrize("body", [b'{"jobs": [' + b" " * LARGE, b"<html>" + b" " * LARGE], ids=len)
async def test_a_large_answer_that_cannot_be_read_is_a_hiccup(look, body):
    with Wire(http(200, body)) as wire:
        found = await look(wire, PolledJob(1))

    assert "cannot be read" in str(found.hiccup)


async def test_what_concerns_one_job_only_is_told_of_that_job(look):
    with Wire(http(400, b"no")) as wire:
        found = await look(wire, PolledJob(1))

    assert found.refused[1].status == 400
    assert found.hiccup is None


def seen_before(pause):
    return PolledJob(1).seen(Job(1, RUNNING), 0.0).looked_at(0.0, 0.0, pause)


def test_a_wait_that_joins_puts_off_no_look_that_is_planned_sooner():
    planned = seen_before(pause=1.0)

    assert planned.joined(0.5, 3.0, begun=0.0, whole=True).due == 1.0
    assert planned.joined(0.5, 0.7, begun=0.0, whole=True).due == 0.7
    # the look that is under way has begun without it
    under_way = planned.joined(1.5, 3.0, begun=1.0, whole=True)
    assert under_way.unchanged().looked_at(begun=1.0, now=2.0, pause=60.0).due == 3.0


@pytest.mark.parametrize("pause", [60.0, 1.0])
def test_a_job_that_is_hurried_while_it_is_looked_at_waits_as_long_as_any_other(pause):
    planned = seen_before(pause=1.0)
    asked = planned.hurried(2.0, 6.0, begun=1.0, every=5.0, whole=False)
    hurried = asked.unchanged().looked_at(begun=1.0, now=3.0, pause=pause)

    assert hurried.due == min(6.0, 3.0 + pause)
    assert hurried.is_hurried == (pause == 60.0)


def hurry(job, now, begun, soonest=None):
    """Ask for a look as an output does; the latest began at ``begun``."""
    return job.hurried(now, soonest or now, begun=begun, every=5.0, whole=False)


def test_a_look_that_has_not_begun_serves_all_who_ask_for_it():
    seen = seen_before(pause=60.0)
    once = hurry(seen, 1.0, begun=0.0, soonest=3.0)
    twice = hurry(once, 2.0, begun=0.0)

    assert once.due == twice.due == 3.0
    assert twice.unchanged().looked_at(begun=3.0, now=3.2, pause=60.0).due == 63.2


def test_looks_that_are_asked_for_again_and_again_are_5_s_apart():
    seen = seen_before(pause=60.0)
    looked = hurry(seen, 1.0, begun=0.0).unchanged().looked_at(begun=1.0, now=1.2, pause=60.0)

    assert hurry(looked, 2.0, begun=1.0).due == 6.0
    assert hurry(looked, 9.0, begun=1.0).due == 9.0


def test_a_look_that_is_asked_for_puts_off_none_that_is_planned_and_is_forgotten_once_served():
    seen = seen_before(pause=4.0)
    asked = hurry(seen, 1.0, begun=0.0, soonest=9.0)

    assert (asked.due, asked.is_hurried) == (4.0, False)
    assert asked.unchanged().looked_at(begun=4.0, now=4.2, pause=60.0).due == 64.2


def test_a_jobs_first_look_is_one_that_it_joined_for_and_no_hurried_one():
    assert PolledJob(1).due == float("inf")
    joined = PolledJob(1).joined(0.0, 2.0, begun=-1.0, whole=False)

    assert (joined.due, joined.is_hurried) == (2.0, False)
