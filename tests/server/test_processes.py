"""Tests of clusterra_server.processes and .scheduler, whose minutes are short here."""

import asyncio
import time

import pytest

from clusterra_server.process_tree import ProcessTree
from clusterra_server.processes import Processes
from clusterra_server.scheduler import Limits, Scheduler

JOB = {"environment": ["A=1"], "current_working_directory": "/mnt/efs"}


class Cluster:
    """A backend on one test's folder."""

    def __init__(self, folder, **limits):
        limits = {"cpus": 2, "kill_wait": 0.2, "minute": 0.2, **limits}
        self.scheduler = Scheduler(folder, Limits(**limits), ProcessTree(), {})
        self.backend = Processes(self.scheduler)

    async def submit(self, script, **fields):
        body = {"script": f"#!/bin/bash\n{script}\n", "job": {**JOB, **fields}}
        return str((await self.backend.submit_job(body)).body["job_id"])

    async def jobs(self, job_id):
        return (await self.backend.get_job(job_id)).body["jobs"]

    async def until(self, job_id, done):
        async with asyncio.timeout(30):
            while not all(done(job) for job in await self.jobs(job_id)):
                await asyncio.sleep(0.01)
        return await self.jobs(job_id)

    async def ended(self, job_id):
        over = {"PENDING", "RUNNING", "COMPLETING"}
        return await self.until(job_id, lambda job: not over & set(job["job_state"]))

    async def running(self, job_id):
        return await self.until(job_id, lambda job: job["job_state"] == ["RUNNING"])

    async def says(self, job_id, word):
        path = self.scheduler.outputs / f"job_{job_id}.out"
        async with asyncio.timeout(30):
            while not (path.exists() and word in path.read_text()):
                await asyncio.sleep(0.01)


@pytest.fixture
async def make(tmp_path):
    made = []

    def make_cluster(**limits):
        made.append(Cluster(tmp_path, **limits))
        return made[-1]

    yield make_cluster
    for cluster in made:
        await cluster.scheduler.stop()


def by_index(tasks):
    return {task["array_task_id"]["number"]: task["job_state"] for task in tasks}


async def test_jobs_wait_while_no_cpu_is_free(make):
    cluster = make(cpus=1)
    first, second = await cluster.submit("sleep 60"), await cluster.submit("exit 0")
    await cluster.running(first)
    (waiting,) = await cluster.jobs(second)

    assert (waiting["job_state"], waiting["state_reason"]) == (["PENDING"], "Resources")
    await cluster.backend.cancel_job(first)
    assert (await cluster.ended(second))[0]["job_state"] == ["COMPLETED"]


async def test_a_job_that_runs_too_long_is_ended(make):
    cluster = make()
    limit = {"set": True, "infinite": False, "number": 1}
    (job,) = await cluster.ended(await cluster.submit("sleep 60", time_limit=limit))

    assert (job["job_state"], job["state_reason"]) == (["TIMEOUT"], "TimeLimit")


async def test_a_job_that_ends_in_time_is_left_alone(make):
    cluster = make()
    (job,) = await cluster.ended(await cluster.submit("sleep 0.05", time_limit=1000))

    assert job["job_state"] == ["COMPLETED"]


async def test_a_job_that_does_not_want_to_end_is_killed(make):
    cluster = make()
    job_id = await cluster.submit("trap '' TERM; echo up; while :; do sleep 0.05; done")
    await cluster.says(job_id, "up")
    await cluster.backend.cancel_job(job_id)

    assert (await cluster.jobs(job_id))[0]["job_state"] == ["CANCELLED", "COMPLETING"]
    (job,) = await cluster.ended(job_id)
    assert job["exit_code"]["signal"]["id"]["number"] == 9


async def test_a_job_that_begins_later_waits(make):
    cluster = make()
    job_id = await cluster.submit("exit 0", begin_time=int(time.time()) + 2)
    (waiting,) = await cluster.jobs(job_id)
    (job,) = await cluster.ended(job_id)

    assert waiting["state_reason"] == "BeginTime"
    assert job["start_time"]["number"] > job["submit_time"]["number"]


async def test_a_job_waits_for_another(make):
    cluster = make()
    first = await cluster.submit("sleep 0.2")
    second = await cluster.submit("exit 0", dependency=f"afterok:{first}")

    assert (await cluster.jobs(second))[0]["dependency"] == f"afterok:{first}(unfulfilled)"
    await cluster.ended(second)
    assert (await cluster.jobs(first))[0]["job_state"] == ["COMPLETED"]


async def test_an_array_runs_each_index_under_an_id_of_its_own(make):
    cluster = make()
    array = await cluster.submit("[ $SLURM_ARRAY_TASK_ID != 2 ]", array="0-3%1")
    tasks = await cluster.ended(array)

    assert by_index(tasks) == {
        0: ["COMPLETED"],
        1: ["COMPLETED"],
        2: ["FAILED"],
        3: ["COMPLETED"],
    }
    assert len({task["job_id"] for task in tasks}) == 4
    assert int(array) in [task["job_id"] for task in tasks]


async def test_the_waiting_tasks_of_an_array_are_shown_as_one(make):
    cluster = make()
    array = await cluster.submit("sleep 60", array="0-9%1")
    shown = (await cluster.backend.list_states([array])).body["jobs"]

    # the started one is shown under its own id, as a real server was seen to answer
    assert [row["job_id"] for row in shown] == [f"{array}_[1-9%1]", f"{int(array) + 1}_0"]
    assert [row["state"] for row in shown] == [["PENDING"], ["RUNNING"]]


async def test_one_index_of_an_array_is_cancelled_alone(make):
    cluster = make()
    array = await cluster.submit("sleep 60", array="0-1")
    await cluster.running(array)
    await cluster.backend.cancel_job(f"{array}_1")
    tasks = await cluster.until(array, lambda job: "COMPLETING" not in job["job_state"])

    assert by_index(tasks) == {0: ["RUNNING"], 1: ["CANCELLED"]}


async def test_a_job_is_forgotten_but_for_accounting(make):
    cluster = make(min_job_age=0.1)
    job_id = await cluster.submit("exit 0", name="short")
    async with asyncio.timeout(30):
        while (gone := await cluster.backend.get_job(job_id)).status == 200:
            await asyncio.sleep(0.01)
    (kept,) = (await cluster.backend.list_accounting([("job_name", "short")])).body["jobs"]

    assert gone.body["errors"][0]["error_number"] == 2017
    assert (str(kept["job_id"]), kept["state"]["current"]) == (job_id, ["COMPLETED"])
    assert (await cluster.backend.cancel_job(job_id)).body["status"][0]["error"]["code"] == 2017


@pytest.mark.parametrize(
    ("times", "shown"),
    [
        ({}, True),
        ({"start_time": -60}, True),
        ({"start_time": +60}, False),
        ({"start_time": -60, "end_time": +60}, True),
        ({"end_time": -60}, False),
    ],
)
async def test_accounting_tells_of_a_time(make, times, shown):
    cluster = make()
    await cluster.ended(await cluster.submit("exit 0", name="timed"))
    query = [(name, str(int(time.time()) + seconds)) for name, seconds in times.items()]
    answer = await cluster.backend.list_accounting([("job_name", "timed"), *query])

    assert bool(answer.body["jobs"]) is shown


async def test_accounting_takes_seconds_only(make):
    answer = await make().backend.list_accounting([("start_time", "uts0")])

    assert answer.status == 422
    assert answer.body["errors"][0]["description"] == "Parsing of uts0 for timestamp failed"


async def test_a_text_ends_where_it_ends_in_slurm(make):
    cluster = make()
    fields = {"environment": ["A=1\0x"], "name": "a\0b", "current_working_directory": "/\0x"}
    (job,) = await cluster.ended(await cluster.submit("exit $A", **fields))

    assert (job["name"], job["exit_code"]["return_code"]["number"]) == ("a", 1)


async def test_nothing_is_started_while_it_stops(make):
    cluster = make(cpus=1)
    await cluster.submit("sleep 60")
    waiting = await cluster.submit("echo started")
    await cluster.scheduler.stop()

    assert not (cluster.scheduler.outputs / f"job_{waiting}.out").exists()
