"""Tests of airflow_provider_clusterra.decorators.jobs."""

import asyncio
import sys
import threading
from datetime import timedelta
from types import SimpleNamespace

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSkipException,
    TaskDeferred,
)
from airflow.sdk import DAG, task

from airflow_provider_clusterra.api.errors import InputError
from airflow_provider_clusterra.decorators.jobs import ClusterraDecoratedOperator, clusterra_task
from airflow_provider_clusterra.hooks.clusterra import ClusterraHook
from airflow_provider_clusterra.operators.jobs import ClusterraSubmitJobOperator
from airflow_provider_clusterra.submit.submission import KEY
from airflow_provider_clusterra.task.report import JobError
from airflow_provider_clusterra.triggers.jobs import ClusterraJobTrigger, JobEvent
from tests.support.airflow_side import TaskInstance, TaskStateStore
from tests.support.proxy import Proxy, says

NOW = {"deferrable": False, "poll_interval": 0.05, "python": sys.executable}


def multiply(a, b=1, ds=None):
    print("multiplying")
    return {"product": a * b, "day": ds}


def fail():
    raise ValueError("no such basis set")


def made(function, *args, **kwargs):
    """The operator that a call of a decorated function makes."""
    with DAG("dag", schedule=None):
        return clusterra_task(function, **NOW)(*args, **kwargs).operator


def run(operator, ti=None, **context):
    return operator.execute({"ti": ti or TaskInstance(), **context})


def test_airflow_knows_it_as_a_decorator_of_task():
    with DAG("dag", schedule=None):

        @task.clusterra(time_limit=timedelta(minutes=5), memory="1G", partition="gpu")
        def train(rate: float) -> float:
            return rate

        operator = train(0.1).operator

    assert isinstance(operator, ClusterraDecoratedOperator)
    assert isinstance(operator, ClusterraSubmitJobOperator)
    assert (operator.task_id, operator.partition, operator.memory) == ("train", "gpu", "1G")
    assert operator.operator_extra_links == ClusterraSubmitJobOperator.operator_extra_links


def test_a_function_runs_as_a_job_and_returns_its_value(connected):
    ti = TaskInstance()
    value = run(made(multiply, 6, b=7), ti, ds="2026-01-01")

    assert value == {"product": 42, "day": "2026-01-01"}
    assert ti.pushed["job"]["state"] == "COMPLETED"
    assert ti.pushed["job"]["name"].startswith("dag.task")


@pytest.mark.parametrize("factor", [7, "{{ ti.try_number }}"])
def test_a_retry_takes_over_the_job_of_the_try_before(connected, factor):
    ti, store = TaskInstance(run_id=f"again{factor}"), TaskStateStore()

    def rendered():
        operator = made(multiply, 6, b=factor)
        operator.render_template_fields({"ti": ti, "task": operator, "dag": operator.dag})
        return operator

    dies = rendered()
    dies._wait = lambda *_: pytest.fail("the worker is gone")
    with pytest.raises(pytest.fail.Exception):
        run(dies, ti, task_state_store=store)
    job_id = ti.pushed["job_id"]
    ti.try_number += 1
    run(rendered(), ti, task_state_store=store)

    assert ti.pushed["job"]["job_id"] == job_id


def test_a_value_that_could_not_be_read_is_read_by_the_next_try(connected, connection):
    ti, store = TaskInstance(run_id="unread", max_tries=1), TaskStateStore()
    with Proxy(connected.url).serve() as proxy:
        connection(proxy.url, connected.token, connected.cluster_id)
        proxy.fault = lambda request: says(403, {}) if request.endswith("/output") else None
        with pytest.raises(AirflowFailException):
            run(made(multiply, 6), ti, task_state_store=store)
        first, proxy.fault, ti.try_number = ti.pushed["job_id"], lambda _: None, 2

        assert store
        assert run(made(multiply, 6), ti, task_state_store=store)["product"] == 6
    assert ti.pushed["job_id"] == first
    assert store[KEY]["done"]


def test_return_output_goes_into_the_job_and_not_into_the_value(connected):
    with DAG("dag", schedule=None):
        operator = clusterra_task(multiply, return_output="text", **NOW)(6, b=7).operator
    ti = TaskInstance()

    assert run(operator, ti)["product"] == 42
    assert ti.pushed["job"]["output"].startswith("multiplying\n")


def test_what_it_is_given_goes_before_what_airflow_knows(connected):
    assert run(made(multiply, 1, ds="mine"), ds="airflows")["day"] == "mine"


def test_the_loop_that_it_asks_for_travels_as_what_is_plain_of_it(connected):
    def step(*, loop=None):
        return [loop.index, loop.previous]

    loop = SimpleNamespace(index=1, max_iterations=3, previous=0.5)
    assert run(made(step), loop=loop) == [1, 0.5]


def test_an_exception_fails_the_task_with_its_traceback(connected):
    with pytest.raises(JobError, match="exit code 1") as caught:
        run(made(fail))

    assert "Traceback (most recent call last):" in str(caught.value)
    assert "ValueError: no such basis set" in str(caught.value)


def test_it_leaves_its_worker_and_returns_its_value_afterwards(connected, monkeypatch):
    operator = made(multiply, 2, 3)
    operator.deferrable = True
    monkeypatch.setattr(ClusterraJobTrigger, "first_look", lambda *_: None)
    ti = TaskInstance()
    with pytest.raises(TaskDeferred):
        run(operator, ti)
    job_id = ti.pushed["job_id"]
    with ClusterraHook().client() as client:
        while not (job := client.get_job(connected.cluster_id, job_id)).state.ended:
            pass
    event = JobEvent("ended", job_id, connected.cluster_id, job).to_payload()

    assert made(multiply, 2, 3).execute_complete({"ti": ti}, event)["product"] == 6


def test_an_adopted_job_that_is_cancelled_is_replaced_and_its_value_returned(connected, tmp_path):
    gate = tmp_path / "gate"
    gate.touch()

    def wait_at(gate):
        import time  # noqa: PLC0415 - travels
        from pathlib import Path  # noqa: PLC0415

        while Path(gate).exists():
            time.sleep(0.05)
        return "through"

    first = TaskInstance(run_id=str(tmp_path))
    operator = made(wait_at, str(gate))
    operator.wait_for_completion = False
    old = run(operator, first)["job_id"]
    retry = TaskInstance(run_id=str(tmp_path), try_number=2)
    adopted = threading.Event()
    push = retry.xcom_push
    retry.xcom_push = lambda key, value: (push(key, value), adopted.set())

    def cancel():
        adopted.wait()
        with ClusterraHook().client() as client:
            client.cancel_job(connected.cluster_id, old)
        gate.unlink()

    canceller = threading.Thread(target=cancel)
    canceller.start()
    try:
        value = run(made(wait_at, str(gate)), retry)
    finally:
        adopted.set()  # a run that failed before has adopted nothing
        canceller.join()

    assert value == "through"
    assert (retry.pushed["job"]["state"], retry.pushed["job_id"] > old) == ("COMPLETED", True)


def test_arguments_are_rendered():
    operator = made(multiply, "{{ ds }}", b="{{ 6 * 7 }}")
    operator.render_template_fields({"ds": "2026-01-01"})

    assert operator.op_args == ("2026-01-01",)
    assert operator.op_kwargs["b"] == "42"


def test_it_maps():
    with DAG("dag", schedule=None) as dag:
        clusterra_task(multiply, **NOW).partial(b=2).expand(a=[1, 2, 3])

    assert dag.get_task("multiply").operator_class is ClusterraDecoratedOperator


def test_without_waiting_it_returns_the_job(connected):
    operator = made(multiply, 1)
    operator.wait_for_completion = False

    assert set(run(operator)) >= {"job_id", "name"}


def test_an_interpreter_that_cannot_be_is_refused_before_the_submit(connected):
    operator = made(multiply, 1)
    operator.python = "module load python"
    with pytest.raises(AirflowFailException, match="it is one word"):
        run(operator)


def test_a_function_that_cannot_travel_is_refused_when_the_dag_is_read():
    dag_object = object()

    def closes_over():
        return dag_object

    with pytest.raises(InputError, match="closes_over uses dag_object"):
        made(closes_over)


def test_an_array_of_a_function_is_refused():
    with DAG("dag", schedule=None), pytest.raises(InputError, match=r"map the task with \.expand"):
        clusterra_task(multiply, array="0-3", **NOW)(1)


@pytest.mark.parametrize("fields", [{"array": "0-3"}, {"job": {"array": "0-3"}}], ids=repr)
def test_an_array_in_default_args_or_among_the_fields_is_refused_too(connected, fields):
    with (
        DAG("dag", schedule=None, default_args=fields),
        pytest.raises(AirflowFailException, match=r"map the task with \.expand"),
    ):
        run(clusterra_task(multiply, **NOW)(1).operator)


@pytest.mark.parametrize("key", ["job", "job_id", "clusterra_job_url"])
def test_an_output_that_would_overwrite_an_xcom_of_the_job_is_refused(connected, key):
    def sneaky(key):
        return {key: 1}

    with DAG("dag", schedule=None):
        operator = clusterra_task(sneaky, multiple_outputs=True, **NOW)(key).operator
    with pytest.raises(AirflowFailException, match=f"returns the key '{key}'"):
        run(operator)


def test_an_output_that_would_overwrite_an_xcom_breaks_the_dag():
    def train() -> dict[str, int]:
        return {"job_id": 1}

    with DAG("dag", schedule=None), pytest.raises(InputError, match="returns the key 'job_id'"):
        clusterra_task(train, **NOW)()


def test_braces_in_a_functions_source_are_not_jinjas(connected):
    def braces():
        return "{{ ds }} {# not Jinja #}"

    operator = made(braces)
    operator.render_template_fields({"ds": "2026-01-01"})

    assert run(operator) == "{{ ds }} {# not Jinja #}"


def test_an_exit_code_may_skip_the_task(connected):
    def leave():
        import sys  # noqa: PLC0415 - travels

        sys.exit(99)

    with DAG("dag", schedule=None):
        operator = clusterra_task(leave, skip_on_exit_code=99, **NOW)().operator
    with pytest.raises(AirflowSkipException, match="exit code 99"):
        run(operator)


def mapped(function, over, *args, options=None, **kwargs):
    """The operator of a function that is given a list."""
    with DAG("dag", schedule=None):
        fields = {**NOW, "map_over": over, **(options or {})}
        return clusterra_task(function, **fields)(*args, **kwargs).operator


def square(x, add=0):
    return {"squared": x * x + add}


@pytest.mark.parametrize(
    ("args", "kwargs"), [(([3, 1, 2],), {"add": 1}), ((), {"x": [3, 1, 2], "add": 1})]
)
def test_a_list_is_one_array_and_its_values_come_back_in_order(connected, args, kwargs):
    ti = TaskInstance()
    value = run(mapped(square, "x", *args, options={"max_running": 2}, **kwargs), ti)

    assert value == [{"squared": 10}, {"squared": 2}, {"squared": 5}]
    assert len(ti.pushed["job"]["tasks"]) == 3
    with ClusterraHook().client() as client:
        job = client.get_job(connected.cluster_id, ti.pushed["job_id"])
    assert [task.array_task_id for task in job.tasks] == [0, 1, 2]


def test_an_empty_list_runs_nothing(connected):
    ti = TaskInstance()

    assert run(mapped(square, "x", []), ti) == []
    assert "job_id" not in ti.pushed


def test_a_mapped_function_may_say_that_it_returns_a_dict():
    def measure(x) -> dict[str, int]:
        return {"x": x}

    assert mapped(measure, "x", [1]).multiple_outputs is False


@pytest.mark.parametrize("is_forgotten", [True, False])
def test_a_list_that_is_empty_after_a_clear_cancels_the_job_of_the_one_before(
    connected, is_forgotten
):
    def wait(x):
        import time  # noqa: PLC0415 - a job has its own

        time.sleep(600)

    ti, store = TaskInstance(run_id=f"cleared{is_forgotten}"), TaskStateStore()
    operator = mapped(wait, "x", [2, 3], options={"deferrable": True})
    with pytest.raises(TaskDeferred):
        run(operator, ti, task_state_store=store)
    ti.try_number, ti.max_tries = 2, 1
    if is_forgotten:
        store.clear()

    assert run(mapped(wait, "x", []), ti, task_state_store=store) == []
    with ClusterraHook().client() as client:
        state = client.get_job(connected.cluster_id, ti.pushed["job_id"]).state
    assert (state.base, state.finished) == ("CANCELLED", True)
    assert not store


def test_it_leaves_its_worker_and_returns_the_list_afterwards(connected):
    def wait_and_square(x):
        import time  # noqa: PLC0415 - a job has its own

        time.sleep(1)
        return x * x

    ti = TaskInstance()
    operator = mapped(wait_and_square, "x", [2, 3], options={"deferrable": True})
    with pytest.raises(TaskDeferred) as deferral:
        run(operator, ti)
    event = asyncio.run(deferral.value.trigger.wait()).to_payload()
    again = mapped(wait_and_square, "x", [2, 3], options={"deferrable": True})

    assert again.execute_complete({"ti": ti}, event) == [4, 9]


@pytest.mark.parametrize("known", [{"0": (9, None)}, {"1": (9, None)}, {}], ids=str)
def test_a_list_of_which_slurm_has_forgotten_an_element_fails(known):
    operator, ti = mapped(square, "x", [3, 3]), TaskInstance()
    with pytest.raises(JobError, match="Job 5 ended well, but Slurm has forgotten its index"):
        operator.read_result({"ti": ti}, {"job_id": 5, "output": known, "tasks": known})

    assert ti.pushed["job"]["job_id"] == 5


def flaky(x, folder):
    import pathlib  # noqa: PLC0415 - a job has its own

    mark = pathlib.Path(folder) / f"ran-{x}"
    mark.write_text(mark.read_text() + "x" if mark.exists() else "x")
    if x < 0 and mark.read_text() == "x":
        raise ValueError(f"cannot do {x} yet")
    return x


def test_each_elements_error_is_shown_and_a_retry_runs_only_those(connected, tmp_path):
    ti, store = TaskInstance(max_tries=1), TaskStateStore()

    def attempt(values):
        operator = mapped(flaky, "x", values, str(tmp_path))
        return run(operator, ti, task_state_store=store)

    with pytest.raises(JobError) as failure:
        attempt([5, -1, 6, -2])
    words = str(failure.value)
    assert "  1: ValueError: cannot do -1 yet\n  3: ValueError: cannot do -2 yet" in words
    ti.try_number = 2

    assert attempt([5, -1, 6, -2]) == [5, -1, 6, -2]
    ran = {path.name: len(path.read_text()) for path in tmp_path.iterdir()}
    assert ran == {"ran-5": 1, "ran--1": 2, "ran-6": 1, "ran--2": 2}


def test_a_retry_with_another_list_runs_all_of_it(connected, tmp_path):
    ti, store = TaskInstance(max_tries=1), TaskStateStore()
    with pytest.raises(JobError):
        run(mapped(flaky, "x", [5, -1], str(tmp_path)), ti, task_state_store=store)
    ti.try_number = 2
    operator = mapped(flaky, "x", [7, 8, -1], str(tmp_path))

    assert run(operator, ti, task_state_store=store) == [7, 8, -1]


@pytest.mark.parametrize(
    ("over", "options", "words"),
    [
        ("y", {}, "has no such parameter"),
        ("x", {"max_running": 0}, "whole number above 0"),
        ("x", {"max_running": "two"}, "whole number above 0"),
        ("x", {"multiple_outputs": True}, "leave multiple_outputs out"),
        ("x", {"array": "0-3"}, "map_over"),
        ("x", {"return_output": "json"}, "leave return_output out"),
        (None, {"max_running": 2}, "leave max_running out"),
    ],
)
def test_what_is_no_list_of_a_function_breaks_the_dag(over, options, words):
    with pytest.raises(InputError, match=words):
        mapped(square, over, [1], options=options)


@pytest.mark.parametrize("value", ["abc", 7, {"a": 1}])
def test_what_is_given_instead_of_a_list_is_refused_before_the_submit(connected, value):
    with pytest.raises(AirflowFailException, match="it takes a list"):
        run(mapped(square, "x", value))
