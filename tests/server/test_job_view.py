"""Tests of clusterra_server.job_view: what a person is shown of a job."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clusterra_server.job_view import (
    CONTROLS,
    LONGEST_LINE,
    MOST_TASKS,
    JobView,
    Owner,
    RawJob,
    Search,
    bytes_text,
    clock,
    count_states,
    duration,
    list_rows,
    measure,
    merge,
    moment,
    output_text,
    read_bytes,
    read_indices,
    read_owner,
    receipt,
    select,
    sentence,
    spread,
    timeline,
    view_of,
    visible,
)
from tests.support.recorded import FOLDER

NAMES = sorted(path.stem for path in (FOLDER / "26.05-v0.0.44").glob("job_*.json"))
TASK = {"AIRFLOW_CTX_DAG_ID": "d", "AIRFLOW_CTX_TASK_ID": "t", "AIRFLOW_CTX_DAG_RUN_ID": "r"}


def view(**fields):
    return view_of(msgspec.convert(fields, RawJob))


@pytest.mark.parametrize("name", NAMES)
def test_what_slurm_has_said_is_shown(name):
    for record in json.loads((FOLDER / f"26.05-v0.0.44/{name}.json").read_text())["body"]["jobs"]:
        shown = view_of(msgspec.convert(record, RawJob))
        assert shown.job_id == record["job_id"]
        assert shown.user == record["user_name"]
        assert shown.state == record["job_state"][0]
        assert shown.submitted == record["submit_time"]["number"]
        assert sentence(shown)
        assert timeline(shown, shown.submitted + 10.0)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["set", "number", "type", "count", "start"]), inner)
    ),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(RawJob.__struct_fields__), JSON, max_size=8))
def test_records_of_any_shape_are_shown(fields):
    raw = RawJob(**fields)
    shown = view_of(raw)

    assert isinstance(sentence(shown) + shown.title + shown.shown_id, str)
    assert isinstance(timeline(shown, 5.0) + receipt(shown, raw, 5.0), list)
    assert moment(shown.submitted) + clock(shown.ended) is not None


def test_accounting_and_slurmctld_say_the_same():
    live = view(
        job_id=7,
        name="run",
        user_name="alice",
        job_state=["FAILED"],
        state_reason="NonZeroExitCode",
        exit_code={"return_code": {"set": True, "number": 3}},
        nodes="n1",
        submit_time={"set": True, "infinite": False, "number": 100},
        start_time={"set": True, "infinite": False, "number": 110},
        end_time={"set": True, "infinite": False, "number": 130},
        time_limit={"set": True, "infinite": False, "number": 5},
        comment="d/t/r/2",
    )
    past = view(
        job_id=7,
        name="run",
        user="alice",
        nodes="n1",
        state={"current": ["FAILED"], "reason": "NonZeroExitCode"},
        exit_code={"return_code": {"set": True, "number": 3}},
        time={"submission": 100, "start": 110, "end": 130, "limit": {"set": True, "number": 5}},
        comment={"job": "d/t/r/2", "administrator": "x"},
    )

    assert live == past
    assert sentence(live) == "It failed: the script ended with exit code 3."
    assert live.owner == Owner("d", "t", "r", "2")


@pytest.mark.parametrize(
    ("comment", "name", "variables", "owner"),
    [
        ("", "run", {**TASK, "AIRFLOW_CTX_TRY_NUMBER": "3"}, ("d", "t", "r", "3")),
        ("d/t/manual__2026/11/26/2", "run", {}, ("d", "t", "manual__2026/11/26", "2")),
        ("d/t[7]/r/2 (not waited for)", "run", {}, ("d", "t[7]", "r", "2")),
        ("", "run.af-01234567-89abcdef-0123-2.3", {}, ("", "", "", "3")),
        ("anything", "run", {}, ("", "", "", "")),
    ],
)
def test_who_a_job_is_for_is_read_where_it_stands(comment, name, variables, owner):
    assert read_owner(comment, name, variables) == owner


def test_a_name_is_shown_as_its_author_gave_it():
    assert JobView(1, "train.af-01234567-89abcdef-0123-2.3").title == "train"
    assert JobView(1, ".af-01234567-89abcdef-0123-2.3").title.startswith(".af-")
    assert JobView(1).title == "(no name)"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"states": ("PENDING",), "reason": "Resources"}, "It waits: the resources"),
        ({"states": ("PENDING",), "reason": "None"}, "It waits for its turn."),
        ({"states": ("PENDING",), "reason": "QOSMaxJobsPerUserLimit"}, "a limit of its QOS"),
        ({"states": ("PENDING",), "reason": "NewInSlurm99"}, "It waits: NewInSlurm99."),
        ({"states": ("RUNNING",), "nodes": "n1"}, "It runs on n1."),
        ({"states": ("TIMEOUT",), "reason": "TimeLimit"}, "It reached its time limit"),
        ({"states": ("OUT_OF_MEMORY",), "reason": "OutOfMemory"}, "more memory than it asked for."),
        ({"states": ("FAILED",), "reason": "RaisedSignal", "signal": "KILL"}, "signal KILL ended"),
        ({"states": ("COMPLETED",), "reason": "None"}, "It succeeded."),
        ({"states": ("NEWSTATE",)}, "Slurm calls it NEWSTATE."),
    ],
)
def test_a_state_is_said_in_words(fields, words):
    assert words in sentence(JobView(1, **fields))


def test_a_life_is_drawn_as_its_parts():
    job = JobView(1, states=("COMPLETED",), submitted=100, eligible=110, started=130, ended=200)
    spans = timeline(job, 999)

    assert [(each.kind, each.lasted) for each in spans] == [
        ("held", "10 s"),
        ("waits", "20 s"),
        ("runs", "1 min 10 s"),
    ]
    assert sum(each.width for each in spans) == pytest.approx(100)


@given(*[st.integers(-(2**40), 2**40)] * 5)
def test_whatever_the_clocks_say_a_life_is_drawn_within_its_bar(a, b, c, d, now):
    for each in timeline(JobView(1, submitted=a, eligible=b, started=c, ended=d), now):
        assert -0.01 <= each.x <= 100.01
        assert -0.01 <= each.width <= 100.01


STEP = {
    "time": {"start": 100, "end": 200, "total": {"seconds": 89, "microseconds": 1_000_000}},
    "tres": {
        "requested": {
            "max": [{"type": "mem", "name": "", "count": 2**29}],
            "total": [{"type": "mem", "name": "", "count": 2**30}, {"type": "cpu", "count": 90}],
        }
    },
}


def test_what_was_asked_and_used_stand_side_by_side():
    job = JobView(
        1,
        states=("COMPLETED",),
        started=100,
        ended=200,
        limit_minutes=5,
        asked={"cpu": "2", "mem": "4G", "node": "1", "gres/gpu": "1"},
    )
    past = msgspec.convert(
        # the job's own total is 0 with Slurm
        {"steps": [STEP, {}], "time": {"total": {"seconds": 0, "microseconds": 0}}},
        RawJob,
    )
    rows = {row.label: row for row in receipt(job, past, 999)}

    assert rows["CPUs"][1:] == ("2", "0.9 on average", 45.0)
    assert rows["Memory"][1:] == ("4 GB", "1 GB at most", 25.0)
    assert rows["Run time"][1:3] == ("5 min", "1 min 40 s")
    assert rows["GPUs"].asked == "1"


@pytest.mark.parametrize(
    ("times", "peak"),
    [
        ([(100, 200), (100, 200)], 2),
        ([(100, 150), (150, 200)], 1),
        ([(100, 160), (150, 200), (170, 180)], 2),
        ([(100, 0), (150, 200)], 2),
        ([(100, 100), (101, 101)], 1),
    ],
)
def test_steps_side_by_side_had_their_memory_together(times, peak):
    steps = [STEP | {"time": {"start": begin, "end": end}} for begin, end in times]

    assert measure(msgspec.convert({"steps": steps}, RawJob)).peak_memory == peak * 2**30


def test_what_accounting_has_not_gathered_is_not_shown_as_zero():
    job = JobView(1, states=("COMPLETED",), started=100, ended=200, asked={"cpu": "2"})
    past = msgspec.convert({"steps": [{}], "time": {"total": {"seconds": 0}}}, RawJob)

    assert {row.label: row.used for row in receipt(job, past, 999)} == {
        "CPUs": "",
        "Run time": "1 min 40 s",
    }


@pytest.mark.parametrize(
    ("text", "indices"),
    [
        ("", ()),
        ("3-5,9%2", (3, 4, 5, 9)),
        ("[0-8:4]", (0, 4, 8)),
        ("1,x,3-", (1,)),
        ("5-2", ()),
        ("0-6:0", tuple(range(7))),
    ],
)
def test_waiting_indices_are_read_as_far_as_they_go(text, indices):
    assert read_indices(text) == indices


def test_not_more_indices_are_read_than_are_shown():
    assert len(read_indices("0-999999999,0-999999999")) == MOST_TASKS


ARRAY = [
    JobView(20, array_id=20, waiting=(3, 4), states=("PENDING",)),
    JobView(21, array_id=20, task=0, states=("COMPLETED",)),
    JobView(22, array_id=20, task=1, states=("FAILED",)),
    JobView(20, array_id=20, task=2, states=("RUNNING",)),
]


@pytest.mark.parametrize(
    ("asked", "tasks"),
    [
        ("20", [-1, 0, 1, 2]),
        ("20_1", [1]),
        ("20_4", [4]),
        ("22", [1]),
        ("20_9", []),
        ("20+1", []),
        ("x", []),
        ("٣", []),
    ],
)
def test_an_id_means_a_task_or_the_whole_array(asked, tasks):
    assert [each.task for each in select(ARRAY, asked)] == tasks


def test_an_arrays_tasks_are_shown_each_and_in_order():
    assert [(each.task, each.shown_id) for each in spread(ARRAY)] == [
        (index, f"20_{index}") for index in range(5)
    ]
    assert list(count_states(ARRAY).items()) == [
        ("FAILED", 1),
        ("RUNNING", 1),
        ("PENDING", 2),
        ("COMPLETED", 1),
    ]


def test_tasks_that_slurmctld_forgot_come_from_accounting():
    past = [JobView(21, array_id=20, task=0), JobView(20, array_id=20, waiting=(3, 4))]

    assert merge(ARRAY[2:], past[:1]) == [*ARRAY[2:], past[0]]
    assert merge(ARRAY, past) == ARRAY
    assert merge([], past) == past
    assert merge(ARRAY[:1], past[1:]) == ARRAY[:1]


@pytest.mark.parametrize(
    ("search", "ids"),
    [
        (Search(), [30, 20, 7]),
        (Search(state="FAILED"), [20]),
        (Search(name="TRAIN"), [7]),
        (Search(since=150), [30]),
    ],
)
def test_a_list_shows_what_is_looked_for_and_an_array_once(search, ids):
    jobs = [
        JobView(7, "train", states=("RUNNING",), submitted=100),
        *ARRAY,
        JobView(30, submitted=200),
    ]
    rows = list_rows([*jobs[:1], *(view_at(each, 120) for each in ARRAY), jobs[-1]], search)

    assert [row.view.array_id or row.view.job_id for row in rows] == ids


def view_at(job, submitted):
    return JobView(job.job_id, "array", states=job.states, array_id=20, submitted=submitted)


@pytest.mark.parametrize(
    ("tail", "shown"),
    [
        (b"one\ntwo\n", "one\ntwo\n"),
        (b"10%\r50%\r100%\ndone\r\n", "100%\ndone\n"),
        (b"\x1b[31mred\x1b[0m \x1b]0;title\x07on", "red on"),
        (b"a\x00b\x07", "a\u2400b\u2407"),
        (b"\xff\xfe", "\ufffd\ufffd"),
        ("evil\u202egnp.exe".encode(), "evil\ufffdgnp.exe"),
        (b"a\x1b[", "a"),
        (b"\x1b]0;oops\nall the rest", "0;oops\nall the rest"),
        (b"\x1bPdcs\nshown", "dcs\nshown"),
        (b"\x1b]0;title\x1b\\on", "on"),
        (b"\x1b\xff", "\u241b\ufffd"),
        (b"<b>&amp;</b>", "<b>&amp;</b>"),
    ],
)
def test_output_is_shown_as_a_terminal_would(tail, shown):
    assert output_text(tail, from_begin=True) == shown


def test_half_a_line_and_the_rest_of_a_long_one_are_left_out():
    assert output_text(b"lf a line\nwhole\n", from_begin=False) == "whole\n"
    assert output_text(b"x" * 9000, from_begin=False).endswith(" … and 7,000 more characters")
    assert len(output_text(b"x" * 9000, from_begin=True)) < LONGEST_LINE + 100


@given(st.binary())
def test_nothing_in_an_output_acts(tail):
    assert not CONTROLS.search(output_text(tail, from_begin=True))


@given(st.text(st.characters()))
def test_every_text_can_be_sent(text):
    assert isinstance(visible(text).encode(), bytes)
    assert visible(visible(text)) == visible(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.6, "1 min"), (2465, "41 min 5 s"), (90061, "1 d 1 h"), (-5, "0 s")],
)
def test_a_time_is_said_as_a_person_says_it(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "count", "shown"),
    [("16G", 2**34, "16 GB"), ("100M", 100 * 2**20, "100 MB"), ("1536", 1536 * 2**20, "1.5 GB")],
)
def test_memory_is_read_and_written(text, count, shown):
    assert read_bytes(text) == count
    assert bytes_text(count) == shown
    assert read_bytes(shown) == count
    assert read_bytes("lots") == 0
