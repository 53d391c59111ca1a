"""Tests of airflow_provider_clusterra.watch.tail: real files, real streams, and a proxy's faults."""

import asyncio
import time
from contextlib import asynccontextmanager

import pytest
from msgspec.structs import replace

from airflow_provider_clusterra.api import Access, AsyncClient
from airflow_provider_clusterra.api.errors import ONCE, Retry
from airflow_provider_clusterra.api.jobs import Job, read_state
from airflow_provider_clusterra.watch.eventloop import cancel_and_wait
from airflow_provider_clusterra.watch.tail import (
    GOES_ON,
    KEPT,
    MOST_REWRITES,
    REPLAY,
    Tail,
    TailPace,
    has_output,
)
from tests.support.proxy import Proxy, is_cut, says, stalls
from tests.support.wire import Wire, http

HASTY = TailPace(
    reopen=Retry(first=0.05, cap=0.05), quiet=0.7, spaced=0.1, record_every=0.1, settled=0.02
)


@pytest.fixture
def weather(local):
    """A proxy in front of the real server."""
    with Proxy(local.url).serve() as proxy:
        yield proxy


class Log:
    """What a task's log would hold."""

    def __init__(self):
        self.records = []
        self.notes = []
        self.hurries = 0

    @property
    def text(self):
        return "\n".join(self.records).replace(f"\n{GOES_ON}", "")

    def hurry(self):
        self.hurries += 1


def tail_of(cluster_id, job_id, log, **pace):
    """The tail of a job's output, at a hasty pace."""
    made = Tail(cluster_id, job_id, log.records.append, log.notes.append)
    made.pace = replace(HASTY, **pace)
    return made


class Output:
    """A file that a job of the server would write; the server shows whatever lies there."""

    numbers = iter(range(900_001, 999_999))

    def __init__(self, local):
        self.job_id = next(self.numbers)
        self.path = local.folder / "efs" / f"job_{self.job_id}.out"
        self.path.parent.mkdir(exist_ok=True)

    def write(self, data, *, mode="ab"):
        with self.path.open(mode) as file:
            file.write(data)


@pytest.fixture
def output(local):
    return Output(local)


@asynccontextmanager
async def following(url, local, job_id, log, **pace):
    """Follows for as long as the block is; then reads the rest."""
    made = tail_of(local.cluster_id, job_id, log, **pace)
    async with AsyncClient(Access(url, local.token), retry=ONCE) as client:
        task = asyncio.create_task(made.follow(client, log.hurry))
        try:
            yield
        finally:
            await cancel_and_wait(task)
        await made.finish(client)


async def until(done):
    async with asyncio.timeout(30):
        while not done():
            await asyncio.sleep(0.02)


async def test_what_is_written_is_shown_as_it_comes(local, output):
    log = Log()
    output.write(b"first\n")
    async with following(local.url, local, output.job_id, log):
        await until(lambda: log.text == "first")
        output.write(b"second\nsecond\n")
        await until(lambda: log.text == "first\nsecond\nsecond")
        output.write(b"last")

    assert log.text == "first\nsecond\nsecond\nlast"
    assert log.notes == []


async def test_a_progress_bar_and_letters_of_many_bytes_are_exact(local, output):
    log = Log()
    written = b""
    async with following(local.url, local, output.job_id, log):
        for percent in range(0, 100, 4):
            piece = f"\r{percent}% naïve 🧬 ".encode()
            for half in (piece[:-3], piece[-3:]):
                output.write(half)
                written += half
                await asyncio.sleep(0.03)
        output.write("\ndone \u2028 end\n".encode())

    assert log.text == written.decode() + "\ndone \u2028 end"


async def test_more_than_the_stream_carries_is_all_there_while_it_runs(local, output):
    log = Log()
    lines = [b"%06d " % number + b"x" * 93 for number in range(6000)]
    async with following(local.url, local, output.job_id, log, busy=0.6):
        for at in range(0, 6000, 200):
            output.write(b"\n".join(lines[at : at + 200]) + b"\n")
            await asyncio.sleep(0.05)
        # the stream would need over a minute for these 600 kB
        await until(lambda: log.text.endswith(lines[-1].decode()))

    assert log.text == b"\n".join(lines).decode()
    assert log.notes == []


async def test_no_byte_is_lost_or_doubled_however_often_the_stream_breaks(local, weather, output):
    log = Log()
    cuts = iter(range(500, 10_000_000, 700))
    weather.fault = lambda request: is_cut(next(cuts)) if "output" in request else None
    lines = [b"%05d the same words in every line" % (number // 3) for number in range(2000)]
    async with following(weather.url, local, output.job_id, log):
        for at in range(0, 2000, 50):
            output.write(b"\n".join(lines[at : at + 50]) + b"\n")
            await asyncio.sleep(0.05)
        weather.fault = lambda request: None

    assert weather.count("output/stream") > 5
    assert log.text == b"\n".join(lines).decode()
    assert log.notes == []


async def test_a_stream_that_began_somewhere_is_not_counted(local, output):
    log = Log()
    before = b"".join(b"%07d\n" % number for number in range(3 * REPLAY // 8))
    output.write(before)
    async with following(local.url, local, output.job_id, log):
        await until(lambda: len(log.text) >= len(before) - 1)
        for number in range(10):
            output.write(b"new %d\n" % number)
            await asyncio.sleep(0.05)
        await until(lambda: log.text.endswith("new 9"))

    after = b"".join(b"new %d\n" % number for number in range(10))
    assert log.text == (before + after).decode().removesuffix("\n")


async def test_a_file_that_was_begun_anew_is_shown_from_its_beginning_and_that_is_said(
    local, output
):
    log = Log()
    output.write(b"run 1\n" * 50)
    async with following(local.url, local, output.job_id, log):
        await until(lambda: "run 1" in log.text)
        output.write(b"run 2\n", mode="wb")

    assert log.text == "\n".join(["run 1"] * 50 + ["run 2"])
    assert ["begins again" in note for note in log.notes] == [True]


async def test_a_run_that_has_written_more_than_the_one_before_begins_again(local, output):
    log = Log()
    made = tail_of(local.cluster_id, output.job_id, log)
    async with AsyncClient(Access(local.url, local.token), retry=ONCE) as client:
        output.write(b"".join(b"run 1 line %d\n" % number for number in range(20)))
        made.is_run(0)
        await made.catch_up(client)
        second = b"".join(b"run 2 line %d\n" % number for number in range(40))
        output.write(second, mode="wb")
        made.is_run(1)
        await made.finish(client)

    assert log.text.endswith(second.decode().removesuffix("\n"))
    assert log.text.count("run 1") == 20
    assert log.notes == [f"Job {output.job_id} was started again; here its output begins again."]


@pytest.mark.parametrize("lines", [21, 40, 400])
async def test_a_file_that_was_truncated_and_has_grown_beyond_begins_again(local, output, lines):
    log = Log()
    made = tail_of(local.cluster_id, output.job_id, log)
    async with AsyncClient(Access(local.url, local.token), retry=ONCE) as client:
        output.write(b"".join(b"before %d\n" % number for number in range(20)))
        await made.catch_up(client)
        after = b"".join(b"after. %d\n" % number for number in range(lines))
        output.write(after, mode="wb")
        await made.finish(client)

    assert log.text.endswith(after.decode().removesuffix("\n"))
    assert log.text.count("before") == 20
    assert ["begins again" in note for note in log.notes] == [True]


async def test_a_program_that_writes_over_its_own_output_is_not_shown_for_ever(local, output):
    log = Log()
    made = tail_of(local.cluster_id, output.job_id, log, spaced=0)
    async with AsyncClient(Access(local.url, local.token), retry=ONCE) as client:
        for number in range(20):
            output.write(b"step %02d\n" % number * 50, mode="wb")
            await made.catch_up(client)
        output.write(b"end\n")
        await made.finish(client)

    assert len(log.notes) == MOST_REWRITES
    assert log.text.endswith("end")


async def test_a_requeued_run_begins_again_however_often_the_first_wrote_anew(local, output):
    log = Log()
    made = tail_of(local.cluster_id, output.job_id, log, spaced=0)
    async with AsyncClient(Access(local.url, local.token), retry=ONCE) as client:
        for number in range(MOST_REWRITES + 2):
            output.write(b"epoch %02d\n" % number * (20 - number), mode="wb")
            await made.catch_up(client)
        made.is_run(1)
        output.write(b"".join(b"run 2: %d\n" % number for number in range(60)), mode="wb")
        await made.finish(client)

    assert log.text.count("run 2: ") == 60


async def test_a_run_whose_file_was_seen_to_begin_anew_does_not_begin_twice(local, output):
    log = Log()
    made = tail_of(local.cluster_id, output.job_id, log)
    async with AsyncClient(Access(local.url, local.token), retry=ONCE) as client:
        output.write(b"run 1\n" * 20)
        await made.catch_up(client)
        output.write(b"run 2\n", mode="wb")
        await asyncio.sleep(0.15)
        await made.catch_up(client)
        made.is_run(1)
        output.write(b"run 2\n")
        await made.finish(client)

    assert log.text.count("run 2") == 2
    assert ["begins again" in note for note in log.notes] == [True]


async def test_a_file_that_its_script_truncates_begins_again_while_it_is_streamed(local, output):
    log = Log()
    output.write(b"before\n" * 50)
    async with following(local.url, local, output.job_id, log):
        await until(lambda: log.text.count("before") == 50)
        output.write(b"after\n", mode="wb")
        await until(lambda: "after" in log.text)
        output.write(b"after\n" * 100)

    assert log.text.count("after") == 101
    assert ["begins again" in note for note in log.notes] == [True]


@pytest.mark.parametrize("first", [1, 20, 200])
async def test_a_stream_that_falls_silent_is_found_out_by_the_file(local, weather, output, first):
    weather.fault = lambda request: stalls(first) if request.endswith("stream") else None
    log = Log()
    lines = [f"line {number}" for number in range(30)]
    output.write(b"line 0\n")
    async with following(weather.url, local, output.job_id, log, silent=0.5, quiet=0.2):
        for line in lines[1:]:
            output.write(f"{line}\n".encode())
            await asyncio.sleep(0.1)
        await until(lambda: log.text == "\n".join(lines))

    assert log.notes == []


async def test_a_silence_in_which_nothing_is_written_breaks_no_stream(local, weather, output):
    log = Log()
    output.write(b"first\n")
    async with following(weather.url, local, output.job_id, log, silent=0.3, quiet=0.1):
        await until(lambda: log.text == "first")
        await asyncio.sleep(1.5)
        output.write(b"second\n")
        await until(lambda: log.text == "first\nsecond")

        assert weather.count("stream") == 1


async def test_the_end_of_a_wait_is_not_held_up_by_an_output_without_an_end(local, weather, output):
    output.write(b"line\n" * 1000)
    weather.fault = lambda request: stalls(100) if request.endswith("output") else None
    log = Log()
    made = tail_of(local.cluster_id, output.job_id, log, end_within=0.5)
    async with AsyncClient(Access(weather.url, local.token), retry=ONCE) as client:
        begin = time.monotonic()
        await made.finish(client)

    assert time.monotonic() - begin < 5
    assert "is left out: it could not be read within" in log.notes[0]


async def test_what_is_too_long_for_a_log_is_left_out_in_the_middle_and_that_is_said(local, output):
    log = Log()
    whole = b"".join(b"%07d\n" % number for number in range(100_000))
    async with following(local.url, local, output.job_id, log, limit=200_000):
        output.write(whole[:300_000])
        await until(lambda: len(log.text) >= 190_000)
        output.write(whole[300_000:])

    begin, end = whole[:200_000].decode(), whole[-KEPT:].decode()
    assert log.text == begin + end.removesuffix("\n")
    left_out = len(whole) - 200_000 - KEPT
    assert log.notes == [
        f"{left_out} bytes of job {output.job_id}'s output are left out here; all {len(whole)} "
        f"bytes are in job_{output.job_id}.out."
    ]


async def test_a_little_more_than_the_limit_is_all_there(local, output):
    log = Log()
    whole = b"".join(b"%07d\n" % number for number in range(1000))
    output.write(whole)
    async with following(local.url, local, output.job_id, log, limit=1000):
        pass

    assert log.text == whole.decode().removesuffix("\n")
    assert log.notes == []


async def test_a_file_that_the_file_system_shows_late_is_waited_for(local, output):
    log = Log()

    async def show_late():
        await asyncio.sleep(0.3)
        output.write(b"late\n")

    made = tail_of(local.cluster_id, output.job_id, log)
    async with AsyncClient(Access(local.url, local.token), retry=ONCE) as client:
        await asyncio.gather(made.finish(client), show_late())

    assert log.text == "late"
    assert log.notes == []


async def test_output_that_is_not_there_is_told_and_not_waited_for_for_ever(local, output):
    log = Log()
    async with following(local.url, local, output.job_id, log, end_patience=0.1):
        await asyncio.sleep(0.2)

    assert log.records == []
    assert log.notes == [f"Job {output.job_id} has no output that can be read."]


async def test_output_that_cannot_be_read_is_told_in_the_apis_words(local, weather, output):
    weather.fault = lambda request: says(500, b"read error")
    log = Log()
    async with following(weather.url, local, output.job_id, log, end_patience=0.1):
        pass

    assert "read error" in log.notes[0]


async def test_silence_after_a_burst_asks_for_a_look_at_the_job(local, output):
    log = Log()
    output.write(b"the last words\n")
    async with following(local.url, local, output.job_id, log):
        await until(lambda: log.hurries)

    assert log.hurries == 1


async def test_a_file_that_is_missing_asks_for_no_look(local, output):
    log = Log()
    async with following(local.url, local, output.job_id, log):
        await asyncio.sleep(0.5)
        assert log.hurries == 0
        output.write(b"there\n")
        await until(lambda: log.text == "there")


async def test_output_in_json_is_unwrapped():
    log = Log()
    with Wire(http(200, {"output": "one\ntwo\n"})) as wire:
        made = tail_of("c1", 7, log)
        async with AsyncClient(Access(wire.url, "s3cret"), retry=ONCE) as client:
            await made.finish(client)

    assert log.text == "one\ntwo"


async def test_so_many_outputs_are_followed_at_once_and_the_rest_comes_at_the_end(local, weather):
    outputs = [Output(local) for _ in range(4)]
    logs = [Log() for _ in outputs]
    for number, each in enumerate(outputs):
        each.write(b"%d\n" % number)

    async def follow(each, log):
        async with following(weather.url, local, each.job_id, log, streams=2):
            await until(lambda: sum(bool(log.records) for log in logs) == 2)
            await asyncio.sleep(0.5)
            assert sum(bool(log.records) for log in logs) == 2

    await asyncio.gather(*map(follow, outputs, logs))

    assert sorted(log.text for log in logs) == ["0", "1", "2", "3"]


@pytest.mark.parametrize(
    ("job", "expected"),
    [
        ({"state": "RUNNING"}, True),
        ({"state": "COMPLETED", "standard_output": "/mnt/efs/job_%j.out"}, True),
        ({"state": "COMPLETED", "standard_output": "/mnt/efs/slurm-7.out"}, True),
        ({"state": "COMPLETED", "standard_output": "/scratch/mine.txt"}, False),
        ({"state": "PENDING"}, False),
        ({"state": "CANCELLED"}, False),
        ({"state": "RUNNING", "tasks": (Job(8, read_state("RUNNING")),)}, False),
    ],
    ids=repr,
)
def test_output_is_looked_for_where_there_may_be_any(job, expected):
    fields = {"started_at": time.gmtime, "ended_at": time.gmtime, **job}
    made = Job(7, **{**fields, "state": read_state(job["state"])})

    assert has_output(made) is expected
