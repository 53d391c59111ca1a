"""Tests of airflow_provider_clusterra.submit.retries: what a retry asks for instead of the same."""

import time

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, TaskDeferred
from msgspec.structs import replace

from airflow_provider_clusterra.api import InputError
from airflow_provider_clusterra.api.errors import AuthenticationError, ConflictError, RequestError
from airflow_provider_clusterra.api.jobs import Job, JobState
from airflow_provider_clusterra.api.specs import no_val
from airflow_provider_clusterra.hooks.clusterra import ClusterraHook
from airflow_provider_clusterra.operators.jobs import ClusterraSubmitJobOperator
from airflow_provider_clusterra.sbatch.job import JobRequest
from airflow_provider_clusterra.submit.protocol import Failure, Record, RetryState, failure_of
from airflow_provider_clusterra.submit.retries import (
    LONGEST,
    Growth,
    RetryOptions,
    earlier_tasks,
    job_of_try,
    refused,
    state_after,
)
from airflow_provider_clusterra.submit.submission import KEY
from airflow_provider_clusterra.task.report import (
    JobExitedError,
    JobOutOfMemoryError,
    JobTimedOutError,
)
from tests.support.servers import ClusterraServer
from tests.support.wire import Wire, http
from tests.watch.test_array_success import array

GROWING = RetryOptions(growth=Growth(memory=2.0, time_limit=1.5))
CHOOSING = RetryOptions(failed_indices=True)


def request(**job):
    return JobRequest("#!/bin/bash\n", (job,), "x")


def record(ended="FAILED", states=(), **state):
    return Record(
        "tag", 1, job_id=7, failure=Failure(ended, states), retry_state=RetryState(**state)
    )


def job_of(asked):
    return asked.components[0]


@pytest.mark.parametrize("options", [RetryOptions(), CHOOSING, GROWING])
def test_the_first_try_asks_for_what_the_author_asks_for(options):
    asked, state = job_of_try(request(array="0-9%2", time_limit=no_val(5)), None, options)

    assert job_of(asked) == job_of(request(array="0-9%2", time_limit=no_val(5)))
    asked_for = {"time_limit": no_val(5)} if options is GROWING else {}
    assert state == RetryState(array="0-9%2", requested=asked_for)


def test_a_retry_submits_only_the_indices_that_are_left_as_many_at_once():
    asked, state = job_of_try(request(array="0-9%2"), record(succeeded="0-2,5,9"), CHOOSING)

    assert job_of(asked)["array"] == asked.array == state.array == "3-4,6-8%2"
    assert state.succeeded == "0-2,5,9"


@pytest.mark.parametrize(
    ("options", "succeeded"), [(RetryOptions(), "0-2"), (CHOOSING, ""), (CHOOSING, "0-9")]
)
def test_a_retry_submits_the_whole_array_where_that_is_right(options, succeeded):
    asked, _state = job_of_try(request(array="0-9"), record(succeeded=succeeded), options)

    assert job_of(asked)["array"] == "0-9"


@pytest.mark.parametrize(
    ("array", "options", "kept"),
    [("", CHOOSING, ""), ("", GROWING, ""), ("1-3", CHOOSING, "1-2"), ("0-9", GROWING, "")],
)
def test_successes_of_another_array_or_of_a_former_one_do_not_count(array, options, kept):
    _, state = job_of_try(request(array=array), record(succeeded="0-2"), options)

    assert state.succeeded == kept
    assert [task.array_task_id for task in earlier_tasks(state)] == [1, 2][: 2 * bool(kept)]


def test_what_an_array_brought_is_kept_over_all_tries():
    first = array({0: "COMPLETED", 1: "FAILED", 2: "FAILED"})
    state = state_after(RetryState(array="0-2"), first)
    assert (state.succeeded, state.task_ids) == ("0", {"100": "0"})

    tasks = {task.array_task_id: task for task in earlier_tasks(state)}
    assert {index: task.job_id for index, task in tasks.items()} == {0: 100}
    assert tasks[0].state.succeeded


def test_what_is_too_much_to_be_kept_is_left_out():
    many = array({index * 2: "COMPLETED" for index in range(LONGEST)})

    assert state_after(RetryState(array="0-99999"), many) == RetryState(array="0-99999")


def test_an_element_whose_own_job_id_is_not_known_runs_again():
    before = record(succeeded="0-2", task_ids={"100": "0-1"})
    asked, state = job_of_try(
        request(array="0-3"), before, RetryOptions(True, indexed_by=("op_args",))
    )

    assert (asked.array, state.succeeded) == ("2-3", "0-1")


def test_growth_goes_on_from_what_the_last_try_asked_for():
    first, first_state = job_of_try(
        request(memory_per_node=no_val(100), time_limit=no_val(10)),
        record(
            "OUT_OF_MEMORY", requested={"memory_per_node": no_val(100), "time_limit": no_val(10)}
        ),
        GROWING,
    )
    assert job_of(first)["memory_per_node"] == no_val(200)
    assert first_state.more == "200 MB of memory a node instead of 100 MB"

    second, second_state = job_of_try(
        request(memory_per_node=no_val(100), time_limit=no_val(10)),
        Record("tag", 1, failure=Failure("TIMEOUT"), retry_state=first_state),
        GROWING,
    )
    assert job_of(second)["memory_per_node"] == no_val(200)
    assert job_of(second)["time_limit"] == no_val(15)
    assert second_state.more == "a time limit of 15 min instead of 10 min"

    third, third_state = job_of_try(
        request(memory_per_node=no_val(100), time_limit=no_val(10)),
        Record("tag", 1, failure=Failure("NODE_FAIL"), retry_state=second_state),
        GROWING,
    )
    assert (job_of(third), third_state.more) == (job_of(second), "")


def tries_of(*tries):
    """What each try asks for, given what the author wrote and how the try before ended."""
    previous = None
    for written, ended in tries:
        previous = previous and replace(previous, failure=Failure(ended, memory_mb=4096))
        asked, state = job_of_try(request(**written), previous, GROWING)
        previous = Record("tag", 1, job_id=7, retry_state=state)
        yield {name: job_of(asked)[name] for name in state.requested}, state.more


def node(megabytes):
    return {"memory_per_node": no_val(megabytes)}


OUT_OF_MEMORY, GPU = "OUT_OF_MEMORY", {"memory_per_tres": "gres/gpu:64"}


@pytest.mark.parametrize(
    ("before", "now", "asked"),
    [
        (node(4096), node(65536), node(65536)),
        (node(4096), node(4097), node(4097)),
        (node(4096), node(2048), node(8192)),
        (node(4096), {}, node(8192)),
        (node(4096), GPU, GPU),
        (node(4096), node(0), node(0)),
        ({}, node(65536), node(65536)),
        ({}, node(1024), node(8192)),
        ({"memory_per_tres": "gres/gpu:8"}, GPU, GPU),
    ],
    ids=repr,
)
def test_a_retry_asks_for_the_memory_that_the_author_has_written_since(before, now, asked):
    *_, last = tries_of((before, ""), (now, OUT_OF_MEMORY))

    assert last[0] == asked
    assert bool(last[1]) is (asked != now)


def test_what_had_grown_is_dropped_once_the_author_writes_something_else():
    asked = tries_of(
        (node(4), ""),
        (node(4), OUT_OF_MEMORY),
        (node(4), "FAILED"),
        (node(6), "FAILED"),
        (node(6), OUT_OF_MEMORY),
        (node(64), OUT_OF_MEMORY),
        (node(64), OUT_OF_MEMORY),
    )
    memory = [each["memory_per_node"]["number"] for each, _ in asked]

    assert memory == [4, 8, 8, 6, 12, 64, 128]


def test_a_time_limit_that_the_author_has_changed_is_asked_for_whatever_else_grows():
    hour, day = {"time_limit": no_val(60)}, {"time_limit": no_val(1440)}
    *_, last = tries_of((node(4) | hour, ""), (node(4) | day, OUT_OF_MEMORY))
    assert last[0] == node(8) | day
    *_, last = tries_of((hour, ""), (hour, "TIMEOUT"), (day, "TIMEOUT"))
    assert last == (day, "")


def test_what_grew_from_slurms_default_stays_grown():
    *_, last = tries_of(({}, ""), ({}, OUT_OF_MEMORY), ({}, "NODE_FAIL"))

    assert last[0] == node(8192)


@pytest.mark.parametrize("kind", [AuthenticationError, ConflictError, RequestError])
def test_a_refusal_with_both_figures_is_otherwise_the_same(kind):
    told = {"status": 409, "detail": "no", "number": 1, "request_id": "r", "retry_after": 2.0}
    error = refused(kind("No.", **told, in_own_words=True), RetryState(more="2 instead of 1"))

    assert str(error) == "No. This retry asked for more than the last try: 2 instead of 1."
    assert type(error) is kind
    assert vars(error) == {**told, "in_own_words": True}


EXCLUDING = RetryOptions(exclude_failed_nodes=True)


def after_nodes(*nodes, before=()):
    failure = Failure("NODE_FAIL", nodes=nodes)
    return Record("tag", 1, failure=failure, retry_state=RetryState(failed_nodes=before))


def test_a_retry_excludes_the_nodes_that_failed_besides_the_authors():
    asked, state = job_of_try(
        request(excluded_nodes=["n1"]), after_nodes("n2", "n1", before=("n3",)), EXCLUDING
    )

    assert job_of(asked)["excluded_nodes"] == ["n1", "n3", "n2"]
    assert state.failed_nodes == ("n3", "n2", "n1")


def test_every_component_keeps_away_from_a_failed_node():
    het = JobRequest("#!/bin/bash\n", ({}, {"excluded_nodes": ["n9"]}), "x")

    asked, _ = job_of_try(het, after_nodes("n2"), EXCLUDING)

    assert [each["excluded_nodes"] for each in asked.components] == [["n2"], ["n9", "n2"]]


def test_only_the_last_failed_nodes_are_excluded():
    nodes = [f"n{number}" for number in range(20)]
    asked, _ = job_of_try(request(), after_nodes("new", before=nodes), EXCLUDING)

    assert job_of(asked)["excluded_nodes"] == [*nodes[-15:], "new"]


@pytest.mark.parametrize("options", [RetryOptions(), GROWING, CHOOSING])
def test_nodes_are_excluded_only_if_it_is_asked_for(options):
    asked, _ = job_of_try(request(array="1-3"), after_nodes("n2"), options)

    assert "excluded_nodes" not in job_of(asked)


NODE_FAIL = JobState("NODE_FAIL")


@pytest.mark.parametrize(
    ("job", "nodes"),
    [
        (Job(7, NODE_FAIL, nodes="n1"), ("n1",)),
        (Job(7, JobState("BOOT_FAIL"), nodes="n1"), ("n1",)),
        (Job(7, NODE_FAIL, nodes="n[1-4]", failed_node="n3"), ("n3",)),
        (Job(7, NODE_FAIL, nodes="n[1-4]"), ()),
        (Job(7, NODE_FAIL, nodes="n1,n7"), ()),
        (Job(7, NODE_FAIL), ()),
        (Job(7, JobState("FAILED"), nodes="n1", failed_node="n1"), ()),
        (
            Job(
                7,
                NODE_FAIL,
                tasks=(
                    Job(8, NODE_FAIL, nodes="n1", array_task_id=0),
                    Job(9, JobState("COMPLETED"), nodes="n2", array_task_id=1),
                    Job(10, NODE_FAIL, nodes="n3", array_task_id=2),
                ),
            ),
            ("n1", "n3"),
        ),
    ],
)
def test_the_nodes_that_failed_are_those_that_slurm_names(job, nodes):
    assert failure_of(job).nodes == nodes


def test_the_jobs_own_variables_tell_of_what_has_grown():
    asked, _state = job_of_try(
        request(memory_per_tres="gres/gpu:100", environment={"A": "100"}),
        record("OUT_OF_MEMORY"),
        GROWING,
    )

    variables = asked.body()["job"]["environment"]
    assert {"SLURM_MEM_PER_GPU=200", "A=100"} <= set(variables)


def test_an_array_of_which_some_ran_out_of_memory_grows():
    asked, _state = job_of_try(
        request(memory_per_cpu=no_val(10), array="0-3"),
        record("FAILED", ("FAILED", "OUT_OF_MEMORY"), succeeded="0"),
        RetryOptions(True, Growth(memory=2.0)),
    )

    assert (job_of(asked)["memory_per_cpu"], job_of(asked)["array"]) == (no_val(20), "1-3")


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (request(), "the job is none"),
        (
            JobRequest("echo $SLURM_ARRAY_TASK_COUNT", ({"array": "0-3"},), "x"),
            "names SLURM_ARRAY_TASK_COUNT",
        ),
    ],
)
def test_what_cannot_run_some_of_its_indices_is_refused_before_it_runs(asked, words):
    with pytest.raises(InputError, match=words):
        CHOOSING.check(asked)

    RetryOptions().check(asked)


def job(**fields):
    defaults = {"task_id": "task", "deferrable": False, "poll_interval": 0.05}
    return ClusterraSubmitJobOperator(**{**defaults, **fields})


FLAKY = """\
#!/bin/bash
echo "index $SLURM_ARRAY_TASK_ID"
[ $SLURM_ARRAY_TASK_ID != 2 ] || [ -e {folder}/again ] || exit 3
"""


def test_a_retry_runs_the_failed_index_alone_and_returns_all(connected, run, ti, store, tmp_path):
    operator = job(
        array="0-3%2",
        script=FLAKY.format(folder=tmp_path),
        retry_failed_indices=True,
        return_output="last_line",
    )
    ti.max_tries = 1
    with pytest.raises(JobExitedError, match=r"1 of 4 array tasks did not succeed:\n  2: FAILED"):
        run(operator)
    first = ti.pushed["job_id"]
    assert ti.pushed["job"]["tasks"]["2"] == {"state": "FAILED", "exit_code": 3}
    (tmp_path / "again").touch()
    ti.try_number = 2
    result = run(operator)

    assert result["job_id"] == ti.pushed["job_id"] != first
    assert result["output"] == {str(index): f"index {index}" for index in range(4)}
    assert {task["state"] for task in result["tasks"].values()} == {"COMPLETED"}
    with ClusterraHook().client() as client:
        again = client.get_job(connected.cluster_id, result["job_id"])
    assert [task.array_task_id for task in again.tasks] == [2]
    assert store[KEY]["done"]


def test_an_array_of_which_enough_succeeds_is_a_success(connected, run, tmp_path):
    operator = job(array="0-3%2", script=FLAKY.format(folder=tmp_path), array_success=0.75)

    assert run(operator)["tasks"]["2"]["exit_code"] == 3


def until_ended(server, job_id):
    with ClusterraHook().client() as client:
        while not client.get_job(server.cluster_id, job_id).state.ended:
            time.sleep(0.02)


@pytest.mark.parametrize(("array_success", "runs_again"), [("all", [2]), ("any", [])])
def test_an_array_that_ended_while_nobody_looked_is_judged_at_the_retry(
    connected, run, ti, store, tmp_path, array_success, runs_again
):
    operator = job(
        array="0-3%2",
        script=FLAKY.format(folder=tmp_path),
        retry_failed_indices=True,
        array_success=array_success,
        deferrable=True,
    )
    ti.max_tries = 1
    with pytest.raises(TaskDeferred):
        run(operator)
    first = ti.pushed["job_id"]
    until_ended(connected, first)
    (tmp_path / "again").touch()
    ti.try_number = 2
    operator.deferrable = False
    result = run(operator)

    assert (result["job_id"] != first) is bool(runs_again)
    assert len(result["tasks"]) == 4


HALF = """\
#!/bin/bash
[ $SLURM_ARRAY_TASK_ID = 0 ] || [ $SLURM_ARRAY_TASK_ID = 1 -a -e {folder}/again ] || exit 3
"""


def test_a_retrys_array_that_nobody_looked_at_is_judged_with_the_tries_before(
    connected, run, ti, tmp_path
):
    operator = job(
        array="0-3",
        script=HALF.format(folder=tmp_path),
        retry_failed_indices=True,
        array_success=2,
    )
    ti.max_tries = 2
    with pytest.raises(JobExitedError):
        run(operator)
    (tmp_path / "again").touch()
    ti.try_number, operator.deferrable = 2, True
    with pytest.raises(TaskDeferred):
        run(operator)
    second = ti.pushed["job_id"]
    until_ended(connected, second)
    ti.try_number, operator.deferrable = 3, False
    result = run(operator)

    assert result["job_id"] == second
    states = {index: task["state"] for index, task in result["tasks"].items()}
    assert states == {"0": "COMPLETED", "1": "COMPLETED", "2": "FAILED", "3": "FAILED"}


@pytest.fixture(scope="module")
def hurried():
    """A clusterra-server whose minutes last for half a second."""
    with ClusterraServer(cpus=2, kill_wait=0.5, minute=0.5) as server:
        yield server


def test_a_job_that_ran_out_of_time_gets_more_at_each_retry(hurried, connection, run, ti):
    connection(hurried.url, hurried.token, hurried.cluster_id)
    operator = job(
        script="#!/bin/bash\nsleep 1.3\n", time_limit=1, grow_on_retry={"time_limit": 2.0}
    )
    ti.max_tries = 2
    for ti.try_number in (1, 2):
        with pytest.raises(JobTimedOutError, match=f"time limit of {ti.try_number} min"):
            run(operator)
    ti.try_number = 3

    assert run(operator)["state"] == "COMPLETED"


def test_growth_that_has_come_to_its_end_fails_for_good(hurried, connection, run, ti):
    connection(hurried.url, hurried.token, hurried.cluster_id)
    operator = job(
        script="#!/bin/bash\nsleep 9\n",
        time_limit=1,
        grow_on_retry={"time_limit": 2.0},
        max_time_limit=1,
    )
    ti.max_tries = 1
    with pytest.raises(JobTimedOutError):
        run(operator)
    ti.try_number = 2
    with pytest.raises(AirflowFailException, match="max_time_limit is 1 min: it is not submitted"):
        run(operator)


OOM = {"job_id": 7, "job_state": ["OUT_OF_MEMORY"], "memory_per_node": no_val(1024)}
REFUSAL = {
    "errors": [
        {"error": "Requested node configuration is not available", "error_number": 2014},
    ]
}


def test_more_than_the_cluster_has_fails_for_good_with_both_figures(connection, run, ti):
    operator = job(
        script="#!/bin/bash\n", memory="1G", grow_on_retry={"memory": 2.0}, durable=False
    )
    ti.max_tries = 1
    submitted, ended = http(200, {"job_id": 7}), http(200, {"jobs": [OOM]})
    with Wire(submitted, ended, http(200, b"Killed\n"), http(422, REFUSAL)) as wire:
        connection(wire.url)
        with pytest.raises(JobOutOfMemoryError, match="1024 MB a node"):
            run(operator)
        ti.try_number = 2
        with pytest.raises(AirflowFailException) as caught:
            run(operator)

    assert "not available (Slurm error 2014)" in str(caught.value)
    assert "2048 MB of memory a node instead of 1024 MB" in str(caught.value)
    assert "ask for less memory=" in str(caught.value)


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (RetryOptions(True, indexed_by=("op_args",)), "running only map_over's failed elements"),
        (RetryOptions(True, Growth(memory=2.0)), "retry_failed_indices, grow_on_retry"),
        (RetryOptions(exclude_failed_nodes=True), "exclude_failed_nodes"),
    ],
)
def test_what_needs_a_newer_airflow_is_what_was_asked_for(options, names):
    assert f"Not before Airflow 3.3: {names}. " in options.needs


def test_an_airflow_that_remembers_nothing_says_so(connected, ti, caplog, capsys):
    operator = job(script="#!/bin/bash\n", grow_on_retry={"memory": 2.0}, follow_output=False)
    operator.execute({"ti": ti})

    assert "Not before Airflow 3.3: grow_on_retry." in caplog.text + capsys.readouterr().out
