"""Tests of airflow_provider_clusterra.operators.jobs."""

import base64
import json
import os
import re
import signal
import threading
import time
from datetime import timedelta

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowSkipException,
    TaskDeferred,
)

from airflow_provider_clusterra.api import InputError
from airflow_provider_clusterra.compat import TaskDeferralError, TaskDeferralTimeout
from airflow_provider_clusterra.hooks.clusterra import ClusterraHook
from airflow_provider_clusterra.operators.jobs import ClusterraSubmitJobOperator
from airflow_provider_clusterra.submit.submission import KEY
from airflow_provider_clusterra.task.arguments import seconds
from airflow_provider_clusterra.task.report import (
    JobError,
    JobLostError,
    JobStuckError,
    JobTimedOutError,
)
from airflow_provider_clusterra.triggers.jobs import JobEvent
from tests.support.wire import Wire, http

SUBMITTED = http(200, {"job_id": 7})


def submit(script="exit 0", **fields):
    defaults = {"task_id": "task", "deferrable": False, "poll_interval": 0.05}
    text = script if script.startswith("#!") else f"#!/bin/bash\n{script}\n"
    return ClusterraSubmitJobOperator(**{**defaults, "script": text, **fields})


def job_now(server, job_id):
    with ClusterraHook().client() as client:
        return client.get_job(server.cluster_id, job_id)


def test_a_task_returns_what_became_of_its_job(connected, run, ti):
    result = run(submit("echo hi; sleep 0.1", name="greet"))

    assert result["job_id"] == ti.pushed["job_id"]
    assert result["name"].startswith("greet.af-")
    assert (result["state"], result["exit_code"]) == ("COMPLETED", 0)
    assert result["ended_at"] >= result["started_at"] >= result["submitted_at"]
    assert result["output"] is None
    assert json.loads(json.dumps(result)) == result


def test_the_link_leads_to_the_job_also_where_it_failed(connected, run, ti):
    operator = submit("exit 3")
    with pytest.raises(JobError):
        run(operator)
    (link,) = operator.operator_extra_links
    place = f"{connected.url}/manage/{connected.cluster_id}/jobs/{ti.pushed['job_id']}"

    assert link.get_link(operator, ti_key=ti) == place


@pytest.mark.parametrize(
    ("what", "expected"),
    [("last_line", '{"a": 1}'), ("json", {"a": 1}), ("text", 'one\n{"a": 1}\n')],
)
def test_a_task_returns_what_of_the_output_is_asked_for(connected, run, what, expected):
    script = """echo one; echo '{"a": 1}'"""

    assert run(submit(script, return_output=what))["output"] == expected


def test_the_jobs_fields_reach_slurm(connected, run, tmp_path):
    script = 'echo "$SLURM_JOB_NAME $SLURM_NTASKS $COLOUR"; pwd'
    operator = submit(
        script,
        tasks=2,
        environment={"COLOUR": "a b"},
        memory="1G",
        time_limit=timedelta(minutes=5),
        working_directory=str(tmp_path),
        return_output="text",
    )
    result = run(operator)

    assert result["output"] == f"dag.task 2 a b\n{tmp_path}\n"


def test_a_job_that_fails_fails_its_task_in_words(connected, run):
    with pytest.raises(JobError, match="FAILED") as caught:
        run(submit("echo no input file >&2; exit 3"))

    assert "exit code 3" in str(caught.value)
    assert "no input file" in str(caught.value)


def test_a_task_that_does_not_wait_ends_once_its_job_is_submitted(connected, run, ti):
    result = run(submit("sleep 60", wait_for_completion=False))

    assert result == {
        "job_id": ti.pushed["job_id"],
        "name": job_now(connected, result["job_id"]).name,
    }
    assert not job_now(connected, result["job_id"]).state.ended
    with ClusterraHook().client() as client:
        client.cancel_job(connected.cluster_id, result["job_id"])


def test_a_job_that_takes_too_long_is_cancelled(connected, run, ti):
    with pytest.raises(JobTimedOutError, match="It was cancelled and is CANCELLED"):
        run(submit("sleep 60", timeout=0.3))

    assert job_now(connected, ti.pushed["job_id"]).state.base == "CANCELLED"


def test_a_deferrable_task_leaves_its_worker_once_the_job_is_submitted(connected, run, ti):
    with pytest.raises(TaskDeferred) as caught:
        run(submit("sleep 60", deferrable=True, timeout=timedelta(hours=1)))
    deferred = caught.value
    kwargs = deferred.trigger.serialize()[1]

    assert kwargs["job_id"] == ti.pushed["job_id"]
    assert kwargs["cluster_id"] == connected.cluster_id
    assert 3590 < kwargs["deadline"] - time.time() <= 3600
    assert kwargs["owns_job"] is True
    assert deferred.method_name == "execute_complete"
    assert 3600 < seconds("timeout", deferred.timeout) < 3800
    assert connected.token not in json.dumps(kwargs)
    with ClusterraHook().client() as client:
        client.cancel_job(connected.cluster_id, kwargs["job_id"])


def test_a_job_that_has_ended_already_is_not_deferred(connection, run):
    done = http(200, {"jobs": [{"job_id": 7, "job_state": ["COMPLETED"]}]})
    with Wire(SUBMITTED, done) as wire:
        connection(wire.url)

        assert run(submit(deferrable=True))["state"] == "COMPLETED"


@pytest.mark.parametrize(("deferrable", "end"), [(True, TaskDeferred), (False, JobLostError)])
def test_a_job_of_another_name_under_the_id_is_not_taken_for_ours(connection, run, deferrable, end):
    theirs = {"job_id": 7, "job_state": ["COMPLETED"], "name": "theirs"}
    with Wire(SUBMITTED, http(200, {"jobs": [theirs]})) as wire:
        connection(wire.url)
        with pytest.raises(end):
            run(submit(deferrable=deferrable))


@pytest.mark.parametrize("follow", [True, False])
def test_the_output_of_a_job_that_nobody_could_follow_is_in_the_log(
    connection, run, capsys, follow
):
    record = {"job_id": 7, "job_state": ["COMPLETED"], "start_time": 1, "end_time": 2}
    with Wire(SUBMITTED, http(200, {"jobs": [record]}), http(200, b"quick\n")) as wire:
        connection(wire.url)
        run(submit(deferrable=True, follow_output=follow))

    assert ("quick" in capsys.readouterr().out) == follow


def test_the_earlier_of_the_two_timeouts_counts(connected, run):
    with pytest.raises(
        JobTimedOutError, match=r"and execution_timeout=0.3 s has passed since the task began"
    ):
        run(submit("sleep 60", timeout=60, execution_timeout=timedelta(seconds=0.3)))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"script": "echo hi"}, "no shebang"),
        ({"script": ""}, "script is empty"),
        ({"script": "  \n"}, "script is empty"),
        ({"memory": "lots"}, "memory"),
        ({"time_limit": "soon"}, "time"),
        ({"tasks": "many"}, "tasks is 'many'"),
        ({"cpus_per_task": 0}, "cpus_per_task is 0"),
        ({"environment": {"A-B": "1"}}, "'A-B' is not a variable's name"),
        ({"cluster_id": "typo"}, "there is no cluster 'typo'. The session's clusters: clusloc1"),
        ({"partition": "typo"}, "Invalid partition name"),
    ],
    ids=repr,
)
def test_bad_input_fails_the_task_for_good_in_one_line(connected, run, ti, fields, words):
    operator = submit()
    for name, value in fields.items():
        setattr(operator, name, value)
    with pytest.raises(AirflowFailException, match=re.escape(words)) as caught:
        run(operator)

    assert "\n" not in str(caught.value)
    assert ti.pushed == {}


def test_a_way_of_returning_output_that_is_none_breaks_the_dag_and_not_the_task():
    with pytest.raises(InputError, match="'last_line', 'json', 'text' or None"):
        submit(return_output="all")


def test_a_session_that_is_not_accepted_fails_the_task_for_good(local, connection, run):
    connection(local.url, "wr0ng-cookie", local.cluster_id)
    with pytest.raises(AirflowFailException, match=r"sign in .* \(connection clusterra_default\)"):
        run(submit())


def test_a_host_that_cannot_be_reached_is_worth_a_retry(connection, run):
    with Wire(b"") as wire:
        connection(wire.url)
    with pytest.raises(AirflowException, match="Is the connection's host right") as caught:
        run(submit(submit_timeout=0.1))

    assert not isinstance(caught.value, AirflowFailException)


def test_a_job_that_slurm_took_otherwise_than_asked_is_cancelled(connection, run):
    said = {"job_id": 7, "errors": [{"error": "Invalid account", "error_number": 2045}]}
    gone = http(200, {"jobs": [{"job_id": 7, "job_state": ["CANCELLED"]}]})
    with Wire(http(500, said), http(200, {"status": []}), gone) as wire:
        connection(wire.url)
        with pytest.raises(AirflowFailException, match="cancelled and is CANCELLED: Invalid acc"):
            run(submit())

        assert wire.requests[1].startswith(b"DELETE /v1/clusters/c1/jobs/7 ")


def test_a_killed_task_cancels_its_job_and_goes_no_further(connected, run, ti):
    operator = submit("sleep 60")
    # Airflow calls on_kill inside the handler of a signal, in the thread that runs the task
    before = signal.signal(signal.SIGUSR1, lambda number, frame: operator.on_kill())

    over = threading.Event()

    def kill():
        while operator._kill._stop_waiting is None:
            if over.wait(0.01):
                return
        os.kill(os.getpid(), signal.SIGUSR1)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        with pytest.raises(AirflowException, match=r"The task was killed: job \d+ is CANCELLED"):
            run(operator)
    finally:
        over.set()
        killer.join()
        signal.signal(signal.SIGUSR1, before)

    assert job_now(connected, ti.pushed["job_id"]).state.base == "CANCELLED"


def test_a_killed_task_leaves_its_job_where_that_was_asked(connected, run, ti):
    operator = submit("sleep 60", cancel_on_kill=False)
    operator.on_kill()
    with pytest.raises(AirflowException, match="The task was killed"):
        run(operator)

    assert ti.pushed == {}


def test_a_task_that_is_killed_while_it_submits_cancels_the_job_it_then_has(connection, run):
    operator = submit()
    none_yet = http(200, {"jobs": []})
    with Wire(none_yet, SUBMITTED, http(200, {"status": []}), http(404, b"")) as wire:
        connection(wire.url)
        told = wire._next

        def next_answer():
            if len(wire.requests) == 1:
                operator.on_kill()
            return told()

        wire._next = next_answer
        with pytest.raises(AirflowException, match="The task was killed"):
            run(operator)

        methods = [request.split(b" ")[0] for request in wire.requests]
        assert methods == [b"POST", b"GET", b"DELETE", b"GET"]


def test_what_authors_template_is_templated():
    assert {"script", "name", "environment", "cluster_id", "clusterra_conn_id"} <= set(
        ClusterraSubmitJobOperator.template_fields
    )


def test_a_task_has_the_template_fields_that_its_author_has_given():
    operator = submit(memory="{{ much }}")
    assert {*operator.template_fields} == {"script", "memory", "poll_interval"}

    operator.account = "{{ who }}"
    operator.render_template_fields({"much": "4G", "who": "lab"})
    assert (operator.memory, operator.account) == ("4G", "lab")


def test_what_an_authors_own_class_gives_by_default_is_rendered_as_well():
    class Simulation(ClusterraSubmitJobOperator):
        def __init__(self, *, script="#!/bin/sh\necho {{ ds }}", name="of-{{ ds }}", **kwargs):
            super().__init__(script=script, name=name, **kwargs)

    operator = Simulation(task_id="task")
    operator.render_template_fields({"ds": "today"})

    assert (operator.script, operator.name) == ("#!/bin/sh\necho today", "of-today")


def test_only_uploads_keys_go_through_a_deferral(connected, run, ti):
    """An author's class may override ``execute_complete(context, event)``."""
    with pytest.raises(TaskDeferred) as caught:
        run(submit("sleep 60", deferrable=True))

    assert not caught.value.kwargs


def deferral_that_failed(why):
    return {"next_method": "__fail__", "next_kwargs": {"error": why}}


@pytest.mark.parametrize(
    ("why", "kind"),
    [("Trigger timeout", TaskDeferralTimeout), ("no such class", TaskDeferralError)],
)
def test_a_deferral_that_airflow_ends_cancels_the_job(connected, run, ti, why, kind):
    operator = submit("sleep 60", deferrable=True)
    with pytest.raises(TaskDeferred):
        run(operator)
    with pytest.raises(kind):
        operator.resume_execution(**deferral_that_failed(why), context={"ti": ti})

    assert job_now(connected, ti.pushed["job_id"]).state.base == "CANCELLED"


def test_a_job_that_cannot_be_cancelled_does_not_hide_why_the_deferral_failed(
    connection, ti, capsys
):
    ti.pushed["job_id"] = 7
    operator = submit()
    with Wire(b"") as wire:
        connection(wire.url, cluster_id="c1", timeout=0.1)
    with pytest.raises(TaskDeferralTimeout, match="Trigger timeout"):
        operator.resume_execution(**deferral_that_failed("Trigger timeout"), context={"ti": ti})

    assert "could not be cancelled" in capsys.readouterr().out


def test_a_deferral_that_told_its_event_is_gone_on_with(connected, run, ti):
    operator = submit("exit 3")
    with pytest.raises(JobError):
        run(operator)
    job_id = ti.pushed["job_id"]
    event = JobEvent("ended", job_id, connected.cluster_id, job_now(connected, job_id))
    with pytest.raises(JobError, match="exit code 3"):
        operator.resume_execution(
            "execute_complete", {"event": event.to_payload()}, context={"ti": ti}
        )


def test_a_job_that_is_held_fails_its_task_for_good_and_is_cancelled(connected, run, ti, patience):
    patience(stuck=0.1)
    with pytest.raises(JobStuckError, match=r"it is held.* It was cancelled and is CANCELLED"):
        run(submit(job={"hold": True}))

    assert issubclass(JobStuckError, AirflowFailException)
    assert job_now(connected, ti.pushed["job_id"]).state.base == "CANCELLED"


def test_what_the_wait_is_to_do_is_in_the_trigger(connected, run, ti):
    operator = submit(
        "sleep 60",
        deferrable=True,
        pending_timeout=timedelta(hours=1),
        max_restarts=2,
        on_stuck="warn",
        follow_output=False,
    )
    with pytest.raises(TaskDeferred) as caught:
        run(operator)
    kwargs = caught.value.trigger.serialize()[1]

    assert kwargs["pending_timeout"] == 3600.0
    assert (kwargs["max_restarts"], kwargs["on_stuck"]) == (2, "warn")
    assert kwargs["follow_output"] is False
    assert kwargs["job_name"] == job_now(connected, kwargs["job_id"]).name
    with ClusterraHook().client() as client:
        client.cancel_job(connected.cluster_id, kwargs["job_id"])


def test_a_word_for_stuck_jobs_that_is_none_breaks_the_dag_and_not_the_task():
    with pytest.raises(InputError, match="'fail' or 'warn'"):
        submit(on_stuck="ignore")


@pytest.mark.parametrize("codes", [99, [98, 99], "{{ [99] }}"], ids=repr)
@pytest.mark.parametrize("deferred", [True, False])
def test_an_exit_code_may_skip_the_task(connected, run, ti, store, codes, deferred):
    operator = submit("exit 99", skip_on_exit_code=codes)
    operator.render_template_fields({})
    if not deferred:
        with pytest.raises(AirflowSkipException, match="exit code 99"):
            run(operator)
    else:
        operator.wait_for_completion = False
        job_id = run(operator)["job_id"]
        while not (job := job_now(connected, job_id)).state.ended:
            pass
        event = JobEvent("ended", job_id, connected.cluster_id, job).to_payload()
        with pytest.raises(AirflowSkipException, match="exit code 99"):
            operator.execute_complete({"ti": ti, "task_state_store": store}, event)

    assert ti.pushed["job"]["exit_code"] == 99
    assert not store[KEY]["failure"]


def test_another_exit_code_fails_the_task(connected, run):
    with pytest.raises(JobError, match="exit code 98"):
        run(submit("exit 98", skip_on_exit_code=99))


def session_until(end):
    claims = base64.urlsafe_b64encode(json.dumps({"exp": int(end)}).encode()).decode().rstrip("=")
    return f"head.{claims}.signature"


@pytest.mark.parametrize(
    ("hours", "time_limit", "warned"),
    [
        (1, timedelta(hours=2), True),
        (3, timedelta(hours=2), False),
        (1, None, False),
        (1, "4294967290", True),
    ],
    ids=["before the time limit", "after it", "no time limit is known", "8000 years"],
)
def test_a_session_that_ends_before_the_jobs_time_limit_is_warned_of(
    connection, run, capsys, hours, time_limit, warned
):
    with Wire(SUBMITTED) as wire:
        connection(wire.url, session_until(time.time() + hours * 3600))
        run(submit(time_limit=time_limit, wait_for_completion=False))

    assert ("The session ends" in capsys.readouterr().out) is warned


@pytest.mark.parametrize(
    "asked",
    [
        {"nodes": 1},
        {"tasks": 2},
        {"cpus_per_task": 1},
        {"cpus_per_task": 2, "tasks": 1},
        {"memory": "100M"},
        {"memory_per_cpu": "100M"},
        {"time_limit": "0:05:00"},
        {"array": "0-1%1"},
        {"requeue": False},
        {"name": "mine", "partition": "gpu"},
        {"script": "#!/bin/bash\n#SBATCH -N1 -n1 -c1 -t5 --mem=100\ntrue\n"},
    ],
    ids=repr,
)
def test_processes_warn_of_no_field_that_follows_from_one_they_know(connected, run, caplog, asked):
    run(submit(**{"script": "true", **asked}))

    assert "Ignoring field" not in caplog.text


@pytest.mark.parametrize("outcome", ["timed_out", "overdue", "stuck", "refused"])
def test_a_job_that_the_wait_could_not_cancel_is_cancelled_by_the_worker(connected, ti, outcome):
    operator = submit("sleep 600", wait_for_completion=False)
    job_id = operator.execute({"ti": ti})["job_id"]
    event = JobEvent(outcome, job_id, connected.cluster_id, message="It could not be cancelled.")

    with pytest.raises(AirflowException):
        submit("sleep 600").execute_complete({"ti": ti}, event.to_payload())
    assert job_now(connected, job_id).state.base == "CANCELLED"


def test_a_job_that_cannot_be_cancelled_at_all_is_named_with_the_end_of_the_wait(connection, ti):
    with Wire(http(400)) as api:
        connection(api.url)
        event = JobEvent("timed_out", 7, "c1", message="timeout=5 s has passed.")
        with pytest.raises(AirflowException, match="timeout=5 s has passed"):
            submit().execute_complete({"ti": ti}, event.to_payload())
