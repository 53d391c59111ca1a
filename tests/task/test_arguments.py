"""Tests of airflow_provider_clusterra.task.arguments: the forms that arguments may have."""

from datetime import timedelta
from pathlib import Path

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.sdk import DAG, task, task_group

from airflow_provider_clusterra.api.errors import InputError
from airflow_provider_clusterra.decorators.jobs import clusterra_task
from airflow_provider_clusterra.operators.jobs import (
    ClusterraSubmitJobOperator,
    ClusterraSubmitTemplateOperator,
)
from airflow_provider_clusterra.task import arguments as given

BASH = "#!/bin/bash\ntrue\n"
TIMES = (
    "poll_interval",
    "timeout",
    "pending_timeout",
    "submit_timeout",
    "submit_confirmation_timeout",
)


def submit(**fields):
    defaults = {"task_id": "task", "script": BASH, "deferrable": False, "poll_interval": 0.05}
    return ClusterraSubmitJobOperator(**{**defaults, **fields})


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (90, 90.0),
        (0.5, 0.5),
        (timedelta(minutes=1, seconds=30), 90.0),
        ("90", 90.0),
        (" 90.5 ", 90.5),
        (str(timedelta(minutes=1, seconds=30)), 90.0),
        (str(timedelta(days=2, hours=1)), 176400.0),
        (str(timedelta(days=1, seconds=0.25)), 86400.25),
    ],
    ids=repr,
)
def test_a_time_is_seconds_or_a_timedelta_or_the_text_of_one(value, expected):
    assert given.seconds("timeout", value) == expected


@pytest.mark.parametrize(
    "value",
    ["1h", "soon", -1, 0, True, float("nan"), float("inf"), [3], timedelta(0), "nan", 10**400],
    ids=repr,
)
@pytest.mark.parametrize("name", TIMES)
def test_a_time_that_is_none_breaks_the_dag_and_names_its_argument(name, value):
    with pytest.raises(InputError, match=rf"{name} is .*it takes seconds above 0"):
        submit(**{name: value})


@pytest.mark.parametrize("value", ["two", -1, 1.5, True, "1.5", [1], float("inf")], ids=repr)
def test_a_count_that_is_none_breaks_the_dag_and_names_its_argument(value):
    with pytest.raises(InputError, match=r"max_restarts is .*whole number"):
        submit(max_restarts=value)


@pytest.mark.parametrize("value", [2, "2", 2.0, " 2 ", "2.0"], ids=repr)
def test_a_count_may_be_text_or_a_float(value):
    assert given.count("max_restarts", value) == 2


@pytest.mark.parametrize("name", TIMES)
def test_a_template_that_renders_to_no_time_fails_before_the_submit(connected, run, ti, name):
    operator = submit(**{name: "{{ params.limit }}"})
    operator.render_template_fields({"params": {"limit": "1h"}})
    with pytest.raises(AirflowFailException, match=f"{name} is '1h'"):
        run(operator)

    assert ti.pushed == {}


@pytest.mark.parametrize("limit", [timedelta(hours=1), 3600, "3600"], ids=repr)
def test_times_may_be_templated(connected, run, limit):
    operator = submit(**dict.fromkeys(TIMES[1:], "{{ limit }}"), max_restarts="{{ restarts }}")
    operator.render_template_fields({"limit": limit, "restarts": "3"})

    assert run(operator)["state"] == "COMPLETED"
    assert {getattr(operator, name) for name in TIMES[1:]} == {3600.0}
    assert operator.max_restarts == 3


def test_times_may_come_from_other_tasks_and_from_a_mapped_group(connected, run):
    with DAG("dag", schedule=None, params={"limit": 3600}) as dag:

        @task
        def limits() -> list[int]:
            return [10, 20]

        @task_group
        def each(limit):
            submit(task_id="in_a_group", pending_timeout=limit, max_restarts=limit)

        found = limits()
        each.expand(limit=found)
        submit(task_id="single", timeout=found)
        ClusterraSubmitJobOperator.partial(task_id="mapped", script=BASH, timeout=found).expand(
            poll_interval=found
        )
        operator = submit(task_id="of_a_param", timeout=dag.param("limit"))
    operator.render_template_fields({"params": {"limit": 3600}})

    assert run(operator)["state"] == "COMPLETED"
    assert operator.timeout == 3600.0
    for name in ("each.in_a_group", "single", "mapped"):
        assert "limits" in dag.get_task(name).upstream_task_ids


@pytest.mark.parametrize(
    "value",
    [
        {"A": "1", "B": 2},
        ["A=1", "B=2"],
        ("A=1", "B=2"),
        "{'A': '1', 'B': 2}",
        '{"A": "1", "B": 2}',
        '["A=1", "B=2"]',
    ],
    ids=repr,
)
def test_variables_have_many_forms(value):
    assert given.environment("environment", value) == {"A": "1", "B": "2"}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"environment": {"X": None}}, "environment: X is None"),
        ({"environment": ["A"]}, "environment is .*it takes a dict, e.g."),
        ({"environment": "A=1"}, "environment is 'A=1'; it takes a dict, e.g."),
        ({"environment": 7}, "environment is 7; it takes a dict"),
        ({"environment": {"X": "a\0b"}}, "environment holds a NUL byte"),
        ({"environment": {"X": "\udc80"}}, "environment holds .*cannot be sent"),
        ({"environment": ["X=\udc80"]}, "environment holds .*cannot be sent"),
        ({"script": f"{BASH}echo \udcff"}, "script holds .*cannot be sent"),
        ({"name": "\udcff"}, "name holds .*cannot be sent"),
        ({"name": "a\0b"}, "name holds a NUL byte"),
        ({"job": {"comment": ["\ud800"]}}, "job holds .*cannot be sent"),
        ({"job": ["nice"]}, "job is .*it takes a dict"),
        ({"job": "nice"}, "job is 'nice'; it takes a dict"),
        ({"job": {"environment": {"X": None}}}, "job: environment: X is None"),
        ({"job": {"environment": "A"}}, "job: environment is 'A'; it takes a dict"),
        ({"job": {"environment": ["A"]}}, r"job: environment is \['A'\]; .* list of 'NAME=value'"),
        ({"uploads": ["a.tpr"]}, "uploads is .*it takes a dict"),
        ({"uploads": "a.tpr"}, "uploads is 'a.tpr'; it takes a dict"),
        ({"cpus_per_task": 1.5}, "cpus_per_task is 1.5; it takes a whole number"),
        ({"tasks": float("nan")}, "tasks is nan; it takes a whole number"),
    ],
    ids=repr,
)
def test_what_cannot_be_meant_breaks_the_dag_and_names_its_argument(fields, words):
    with pytest.raises(InputError, match=words):
        submit(**fields)


@pytest.mark.parametrize(
    "value", [["order=alphabet"], "order=alphabet", 7, {"order": "\udc80"}], ids=repr
)
def test_values_of_a_template_are_a_dict(value):
    with pytest.raises(InputError, match=r"template_params (is|holds)"):
        ClusterraSubmitTemplateOperator(task_id="t", template_id="x", template_params=value)


def test_what_is_nested_too_deeply_breaks_the_dag_and_names_its_argument():
    value = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(InputError, match="job is nested too deeply"):
        submit(job={"comment": value})


def test_clear_forms_are_taken(connected, run, tmp_path):
    script = tmp_path / "run.sh"
    script.write_text('#!/bin/bash\necho "$SLURM_CPUS_PER_TASK $A"\n')
    operator = submit(
        script=Path(script),
        environment="{{ variables }}",
        job="{{ fields }}",
        cpus_per_task=1.0,
        memory="100.0",
        return_output="last_line",
    )
    operator.render_template_fields({"variables": ["A=1"], "fields": {"nice": 5}})

    assert run(operator)["output"] == "1 1"


def test_the_decorator_checks_its_arguments_as_the_operator_does():
    def function():
        return 1

    with DAG("dag", schedule=None), pytest.raises(InputError, match="timeout is '1h'"):
        clusterra_task(function, timeout="1h")()


RESULT = {"job_id": 7, "name": "x", "state": "COMPLETED", "output": None, "tasks": {}}


@pytest.mark.parametrize("value", [7, "7", 7.0, "7.0", " 7\n", RESULT, str(RESULT)], ids=repr)
def test_a_job_id_may_be_text_a_float_or_a_whole_result(value):
    assert given.job_id("job_id", value) == 7


@pytest.mark.parametrize(
    "value",
    [None, "", "None", 0, -1, 7.5, "x", {}, {"job_id": None}, True, "12_3", "1e3", "12+1", 1 << 32],
    ids=repr,
)
def test_what_is_no_job_id_names_the_argument(value):
    with pytest.raises(InputError, match=r"job_id is .*it is Slurm's number for a job"):
        given.job_id("job_id", value)


@pytest.mark.parametrize("read", [given.job_id, given.job_ids])
@pytest.mark.parametrize("length", ["<unevaluated length>", "[2 items]"])
def test_what_a_template_makes_of_several_jobs_is_named_as_that(read, length):
    with pytest.raises(InputError, match=r"several tasks, .* end the template in '\| list'"):
        read("job_id", f"LazyXComSequence({length})")


@pytest.mark.parametrize("value", [[7], ({"job_id": 7}, {"job_id": 8})], ids=repr)
def test_the_jobs_of_several_tasks_are_not_one(value):
    with pytest.raises(InputError, match="several tasks, mapped ones or a loop's iterations"):
        given.job_id("job_id", value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (7, [7]),
        ("7, 8", [7, 8]),
        ("[7, 8]", [7, 8]),
        ("['7', None]", [7]),
        ([7, "8", None, 9.0], [7, 8, 9]),
        ((7,), [7]),
        ({7}, [7]),
        (range(7, 9), [7, 8]),
        (RESULT, [7]),
        ([RESULT, 8], [7, 8]),
        (None, []),
        ("None", []),
        ("", []),
        ("[]", []),
        ([], []),
    ],
    ids=repr,
)
def test_job_ids_are_one_or_many_or_none(value, expected):
    assert given.job_ids("job_id", value) == expected


def test_a_flag_that_a_template_has_made_text_of_is_still_a_flag(connected, run):
    operator = submit(
        script="#!/bin/bash\necho ${SLURM_GET_USER_ENV:-none}\n",
        login_environment="{{ flag }}",
        return_output="last_line",
    )
    operator.render_template_fields({"flag": False})

    assert run(operator)["output"] == "none"
    with pytest.raises(InputError, match="login_environment is 'maybe'; it takes True or False"):
        submit(login_environment="maybe")


@pytest.mark.parametrize("value", [True, False, 1.5, float("nan")], ids=repr)
def test_what_is_no_number_of_things_names_the_argument(value):
    with pytest.raises(InputError, match=r"gpus is .*it takes a whole number"):
        given.whole("gpus", value)


@pytest.mark.parametrize(
    ("read", "value", "words"),
    [
        (given.image, 5, "it is an image"),
        (given.image, ["a"], "it is an image"),
        (given.mounts, ["a:/b"], "whole paths"),
        (given.mounts, ["/a,/b"], "whole paths"),
        (given.mounts, ["/a:b"], "whole paths"),
        (given.mounts, ["5"], "whole paths"),
        (given.folder, "here", "whole path in the container"),
        (given.folder, 5, "whole path in the container"),
    ],
)
def test_what_says_nothing_of_a_container_is_refused(read, value, words):
    with pytest.raises(InputError, match=words):
        read("name", value)
