"""Tests of clusterra_server.processes and .scheduler, whose minutes are short here."""

import asyncio
import json
import os
import resource
import signal
import sys
import time
from pathlib import Path

import pytest

from clusterra_server import spawner
from clusterra_server.backend import ReplyError
from clusterra_server.process_tree import ProcessTree
from clusterra_server.processes import Processes, listed
from clusterra_server.scheduler import Limits, Scheduler
from clusterra_server.spawner import places
from tests.server.escapes import ESCAPES, processes_running

JOB = {"environment": ["A=1"], "current_working_directory": "/mnt/efs"}


class Cluster:
    """A backend on one test's folder."""

    def __init__(self, folder, **limits):
        limits = {"cpus": 2, "kill_wait": 0.2, "minute": 0.2, **limits}
        self.tree = ProcessTree()
        self.scheduler = Scheduler(folder, Limits(**limits), self.tree, {})
        self.backend = Processes(self.scheduler)

    async def submit(self, script, **fields):
        body = {"script": f"#!/bin/bash\n{script}\n", "job": {**JOB, **fields}}
        return str((await self.backend.submit_job(body)).body["job_id"])

    async def jobs(self, job_id):
        return await jobs_of(self.backend.get_job(job_id))

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
        await cluster.tree.stop()


async def jobs_of(asked):
    return (await (await asked).whole()).document()["jobs"]


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
    shown = await jobs_of(cluster.backend.list_states([array]))

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
    (kept,) = await jobs_of(cluster.backend.list_accounting([("job_name", "short")]))

    assert gone.body["errors"][0]["error_number"] == 2017
    assert (str(kept["job_id"]), kept["state"]["current"]) == (job_id, ["COMPLETED"])
    assert (await cluster.backend.cancel_job(job_id)).body["status"][0]["error"]["code"] == 2017


async def test_accounting_has_what_a_jobs_processes_used(make):
    cluster = make()
    script = f"{sys.executable} -c \"b = b'x' * 60 * 2**20; sum(range(10**7))\""
    job_id = await cluster.submit(script, memory_per_node={"set": True, "number": 200})
    (job,) = await cluster.ended(job_id)
    (kept,) = await jobs_of(cluster.backend.list_accounting([("step", job_id)]))
    (step,) = kept["steps"]
    used = {each["type"]: each["count"] for each in step["tres"]["requested"]["total"]}
    total = step["time"]["total"]

    assert 60 * 2**20 < used["mem"] < 200 * 2**20
    assert 0.05 < total["seconds"] + total["microseconds"] / 1e6 < 20
    assert {"type": "mem", "name": "", "id": 2, "count": 200} in kept["tres"]["allocated"]
    assert job["tres_alloc_str"] == "cpu=1,mem=200M,node=1"


async def test_the_memory_of_processes_side_by_side_adds_up(make):
    cluster = make()
    hold = f"{sys.executable} -c \"import time; b = b'x' * 60 * 2**20; time.sleep(3)\" &"
    job_id = await cluster.submit(f"{hold}\n{hold}\nwait")
    await cluster.ended(job_id)
    (kept,) = await jobs_of(cluster.backend.list_accounting([("step", job_id)]))
    (step,) = kept["steps"]
    used = {each["type"]: each["count"] for each in step["tres"]["requested"]["total"]}

    assert used["mem"] > 120 * 2**20


async def test_accounting_measures_nothing_of_a_job_that_never_ran(make):
    cluster = make()
    job_id = await cluster.submit("exit 0", hold=True)
    await cluster.backend.cancel_job(job_id)
    (kept,) = await jobs_of(cluster.backend.list_accounting([("step", job_id)]))

    assert kept["steps"] == kept["tres"]["allocated"] == []


async def test_accounting_is_asked_for_one_task_of_an_array(make):
    cluster = make()
    job_id = await cluster.submit("exit 0", array="0-2")
    (kept,) = await jobs_of(
        cluster.backend.list_accounting([("step", "x"), ("step", f"{job_id}_1"), ("step", "0_1")])
    )

    assert kept["array"]["task_id"]["number"] == 1


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
    jobs = await jobs_of(cluster.backend.list_accounting([("job_name", "timed"), *query]))

    assert bool(jobs) is shown


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


async def until_running(word, count=1):
    async with asyncio.timeout(30):
        while len(processes_running(word)) < count:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("escape", ESCAPES.values(), ids=ESCAPES)
async def test_whatever_a_script_does_it_can_be_cancelled(make, word, escape):
    cluster = make()
    job_id = await cluster.submit(escape.format(sleep=f"sleep {word}"))
    await until_running(word)
    await cluster.backend.cancel_job(job_id)
    (job,) = await cluster.ended(job_id)

    assert job["job_state"] == ["CANCELLED"]
    assert processes_running(word) == []


@pytest.mark.parametrize("escape", ESCAPES.values(), ids=ESCAPES)
async def test_whatever_a_script_does_its_time_is_limited(make, word, escape):
    cluster = make()
    script = escape.format(sleep=f"sleep {word}")
    (job,) = await cluster.ended(await cluster.submit(script, time_limit=2))

    assert job["job_state"] == ["TIMEOUT"]
    assert processes_running(word) == []


@pytest.mark.parametrize("trap", ["trap '' TERM;", "trap 'exit 0' TERM;"])
async def test_what_escapes_a_cancel_is_killed_at_its_end(make, word, trap):
    cluster = make(kill_wait=0.1)
    job_id = await cluster.submit(
        f"{trap} (env -i setsid perl -e '$SIG{{TERM}} = IGNORE; exec qw(sleep {word})' &);"
        "while :; do sleep 0.02; done"
    )
    await until_running(word)
    await cluster.backend.cancel_job(job_id)
    await cluster.ended(job_id)

    assert processes_running(word) == []


async def test_a_script_is_given_no_file_of_the_servers(make):
    cluster = make()
    job_id = await cluster.submit(
        "umask; ulimit -Sn; for file in /proc/$$/fd/*; do readlink $file; done"
    )
    await cluster.ended(job_id)
    output = cluster.scheduler.outputs / f"job_{job_id}.out"
    mask, limit, *files = output.read_text().splitlines()

    # bash reads its script
    assert sorted(files)[:3] == ["/dev/null", str(output), str(output)]
    assert [Path(each).suffix for each in sorted(files)[3:]] == [".sh"]
    assert int(mask, 8) == os.umask(int(mask, 8))
    assert int(limit) == resource.getrlimit(resource.RLIMIT_NOFILE)[0]


async def test_a_jobs_end_leaves_another_jobs_processes_alone(make, word):
    cluster = make()
    stays = await cluster.submit(f"(env -i setsid sleep {word} &); exec env -i sleep {word}")
    await until_running(word, 2)
    await cluster.ended(await cluster.submit(f"(env -i setsid sleep {word}1 &) ; exit 0"))

    assert processes_running(f"{word}1") == []
    assert (await cluster.jobs(stays))[0]["job_state"] == ["RUNNING"]
    assert len(processes_running(word)) == 2


async def test_jobs_are_lost_with_the_process_above_them_and_others_run_after_it(make, word):
    cluster = make()
    lost = await cluster.submit(f"(setsid sleep {word} &); exec sleep {word}")
    await until_running(word, 2)
    ours = {pid for pid, place in places().items() if place.parent == os.getpid()}
    (above,) = ours & set(processes_running(spawner.__file__))
    os.kill(above, signal.SIGKILL)
    (job,) = await cluster.ended(lost)

    assert (job["job_state"], processes_running(word)) == (["NODE_FAIL"], [])
    assert (await cluster.ended(await cluster.submit("exit 0")))[0]["job_state"] == ["COMPLETED"]


FAULTS = {
    "a name that is too long": ({"current_working_directory": f"/mnt/efs/{'x' * 300}"}, "chdir()"),
    "no folder": ({"current_working_directory": "/nowhere"}, "chdir()"),
    "a file": ({"current_working_directory": "/etc/passwd"}, "chdir()"),
    "too many variables": (
        {"environment": [f"A{n}={'x' * 100_000}" for n in range(40)]},
        "execve()",
    ),
}


@pytest.mark.parametrize(("fields", "where"), FAULTS.values(), ids=FAULTS)
async def test_a_job_that_cannot_be_started_ends_in_words(make, fields, where):
    cluster = make()
    job_id = await cluster.submit("exit 0", **fields)
    (job,) = await cluster.ended(job_id)
    output = (cluster.scheduler.outputs / f"job_{job_id}.out").read_text()

    assert job["job_state"] == ["FAILED"]
    assert output == f"slurmstepd: error: {job['state_description']}\n"
    assert job["state_description"].startswith(f"{where}: ")


@pytest.mark.parametrize("folder", ["spool", "scratch", "efs"])
async def test_a_folder_that_cannot_be_written_fails_a_job_and_no_other(make, tmp_path, folder):
    cluster = make(cpus=1)
    (tmp_path / folder).rename(tmp_path / "away")
    (tmp_path / folder).touch()
    fails = await cluster.submit("exit 0", current_working_directory="/")
    (failed,) = await cluster.ended(fails)
    (tmp_path / folder).unlink()
    (tmp_path / "away").rename(tmp_path / folder)
    (job,) = await cluster.ended(await cluster.submit("exit 0"))

    assert (failed["job_state"], job["job_state"]) == (["FAILED"], ["COMPLETED"])
    assert failed["exit_code"]["signal"]["id"]["number"] == 53
    assert "Not a directory" in failed["state_description"]


def read_only(cluster, *, on=True):
    """As a disk that is full, or can only be read: nothing can be recorded."""
    cluster.scheduler._ledger._database.execute(f"pragma query_only = {int(on)}")


async def test_a_submit_that_cannot_be_recorded_did_not_happen(make):
    cluster = make()
    read_only(cluster)
    with pytest.raises(ReplyError, match="the job was not submitted") as refused:
        await cluster.submit("exit 0")
    read_only(cluster, on=False)

    assert refused.value.status == 503
    assert await jobs_of(cluster.backend.list_jobs()) == []
    (job,) = await cluster.ended(await cluster.submit("exit 0"))
    assert job["job_state"] == ["COMPLETED"]


async def test_a_job_whose_start_cannot_be_recorded_waits_until_it_can(make):
    cluster = make(cpus=1, record_again=0.05)
    first, second = await cluster.submit("sleep 60"), await cluster.submit("exit 0")
    await cluster.running(first)
    read_only(cluster)
    await cluster.backend.cancel_job(first)
    await cluster.until(second, lambda job: job["state_reason"] == "SystemFailure")
    read_only(cluster, on=False)
    (job,) = await cluster.ended(second)

    assert job["job_state"] == ["COMPLETED"]
    kept = [job.state for jobs in cluster.scheduler._ledger.read() for job in jobs]
    assert kept == ["CANCELLED", "COMPLETED"]


async def test_an_end_that_cannot_be_recorded_is_recorded_later(make):
    cluster = make(record_again=0.05)
    job_id = await cluster.submit("sleep 60")
    await cluster.running(job_id)
    read_only(cluster)
    await cluster.backend.cancel_job(job_id)
    await cluster.ended(job_id)
    read_only(cluster, on=False)
    async with asyncio.timeout(30):
        while cluster.scheduler._ledger.read()[0][0].state != "CANCELLED":
            await asyncio.sleep(0.01)


async def test_a_scripts_arguments_are_those_behind_the_first(make):
    cluster = make()
    job_id = await cluster.submit('printf "%s|" "$@"', argv=["ignored", "3", "a b", ""])
    await cluster.ended(job_id)

    assert (cluster.scheduler.outputs / f"job_{job_id}.out").read_text() == "3|a b||"


async def test_arguments_are_texts(make):
    answer = await make().backend.submit_job({"script": "#!", "job": {**JOB, "argv": ["a", 3]}})

    assert (answer.status, answer.body["errors"][0]["source"]) == (500, "#/job/argv/")


async def test_a_long_list_is_whole(make):
    cluster = make(cpus=1)
    array = await cluster.submit("exit 0", array="0-2999", hold=True)
    await cluster.backend.cancel_job(array)
    for asked in (cluster.backend.get_job(array), cluster.backend.list_states([])):
        body = b"".join([piece async for piece in (await asked).body])

        assert len(json.loads(body)["jobs"]) == 3000


async def test_a_long_list_lets_others_have_their_turn():
    turns = 0

    async def count():
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    counts = asyncio.create_task(count())
    pieces = [piece async for piece in listed([b"{}"] * 100, turn=-1.0)]
    counts.cancel()

    assert len(json.loads(b"".join(pieces))["jobs"]) == 100
    assert turns >= 99
