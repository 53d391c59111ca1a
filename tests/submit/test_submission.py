"""Tests of exactly-once submits: retries, clears and lost answers, on a real server."""

import asyncio
import time
from uuid import uuid4

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowSkipException,
)
from airflow.sdk import DAG
from msgspec.structs import replace

from airflow_provider_clusterra.compat import CLEARS_FORGET
from airflow_provider_clusterra.hooks.clusterra import ClusterraHook
from airflow_provider_clusterra.operators.jobs import (
    ClusterraSubmitJobOperator,
    ClusterraSubmitTemplateOperator,
)
from airflow_provider_clusterra.submit.protocol import (
    identity_of,
    tagged_name,
)
from airflow_provider_clusterra.submit.submission import KEY, Submission
from airflow_provider_clusterra.task.report import JobError, SubmitLostError
from airflow_provider_clusterra.triggers.jobs import JobEvent
from airflow_provider_clusterra.watch.cancel import KillSwitch, TaskKilledError
from tests.support.airflow_side import TaskStateStore
from tests.support.proxy import Proxy, says
from tests.support.servers import ClusterraServer
from tests.support.wire import Wire, http

LONG = "#!/bin/bash\nsleep 60\n"


def submit(script=LONG, **fields):
    text = script if script.startswith("#!") else f"#!/bin/bash\n{script}\n"
    defaults = {
        "task_id": "task",
        "deferrable": False,
        "poll_interval": 0.05,
        "submit_confirmation_timeout": 1.5,
    }
    return ClusterraSubmitJobOperator(**{**defaults, "script": text, **fields})


class Task:
    """One task of one run, try after try, as Airflow has it."""

    def __init__(self, server, ti, store):
        self._server = server
        self.ti = ti
        self.store = store

    def execute(self, operator):
        context = {"ti": self.ti}
        if self.store is not None:
            context["task_state_store"] = self.store
        return operator.execute(context)

    def crash(self, operator):
        """Run until the job is submitted, and die as by SIGKILL: nothing more is done."""
        operator.wait_for_completion = True
        operator._wait = lambda *_: pytest.fail("the worker is gone")
        with pytest.raises(pytest.fail.Exception):
            self.execute(operator)
        return self.ti.pushed["job_id"]

    def retry(self):
        self.ti.try_number += 1

    def clear(self, *, forgets=CLEARS_FORGET):
        self.ti.max_tries = self.ti.try_number
        self.ti.try_number += 1
        if forgets and self.store is not None:
            self.store.clear()

    def jobs(self):
        """Job ids of this task to their states, the oldest first."""
        with ClusterraHook().client() as client:
            listed = client.list_jobs(self._server.cluster_id)
        return {job.job_id: job.state.base for job in listed if job.name.startswith(self.ti.run_id)}


@pytest.fixture(params=["airflow 3.3", "airflow 3.1"])
def task(request, connected, ti):
    """A task; Airflow 3.1 remembers nothing between its tries."""
    ti.run_id = f"run-{uuid4().hex}"
    ti.dag_id = ti.run_id
    made = Task(connected, ti, TaskStateStore() if request.param == "airflow 3.3" else None)
    yield made
    with ClusterraHook().client() as client:
        for job_id in made.jobs():
            client.cancel_job(connected.cluster_id, job_id)


def test_a_retry_after_a_crash_adopts_the_job_that_runs(task, caplog):
    job_id = task.crash(submit("sleep 1; echo done", return_output="last_line"))
    task.retry()
    caplog.clear()
    result = task.execute(submit("sleep 1; echo done", return_output="last_line"))

    assert (result["job_id"], result["output"]) == (job_id, "done")
    assert list(task.jobs()) == [job_id]
    assert f"Adopted job {job_id}, which try 1 submitted" in caplog.text


def test_a_retry_returns_the_success_of_a_job_that_nobody_waited_for(task):
    job_id = task.crash(submit("exit 0"))
    task.retry()

    assert task.execute(submit("exit 0"))["job_id"] == job_id


def test_a_retry_after_a_failed_job_submits_a_new_one(task):
    for _ in range(2):
        with pytest.raises(JobError):
            task.execute(submit("exit 3"))
        task.retry()

    assert list(task.jobs().values()) == ["FAILED", "FAILED"]


def test_a_retry_skips_if_the_job_that_nobody_waited_for_ended_with_a_code_that_skips(task):
    old = task.crash(submit("exit 99", skip_on_exit_code=99))
    task.retry()
    with pytest.raises(AirflowSkipException):
        task.execute(submit("exit 99", skip_on_exit_code=99))

    assert [*task.jobs()] == [old]


def test_a_clear_cancels_the_old_job_and_submits_a_new_one(task, caplog):
    old = task.crash(submit())
    task.clear()
    new = task.crash(submit())

    assert task.jobs() == {old: "CANCELLED", new: task.jobs()[new]}
    assert new != old
    assert f"Cancelled job {old} because the task was cleared" in caplog.text


def test_a_changed_script_cancels_the_old_job_first(task):
    old = task.crash(submit())
    task.retry()
    new = task.crash(submit("sleep 61"))

    assert (task.jobs()[old], new != old) == ("CANCELLED", True)


def test_a_task_that_is_cleared_after_its_success_runs_again(task):
    first = task.execute(submit("exit 0"))["job_id"]
    task.clear()

    assert task.execute(submit("exit 0"))["job_id"] != first


def test_two_airflows_with_the_same_dag_and_run_never_touch_each_others_jobs(
    task, connected, connection
):
    mine = task.crash(submit())
    connection(connected.url, connected.token, connected.cluster_id, instance="the other")
    task.clear()
    if task.store is not None:
        task.store.clear()
    task.crash(submit())

    assert task.jobs()[mine] in ("PENDING", "RUNNING")


def test_a_killed_trys_job_is_not_adopted(connected, ti, store):
    task = Task(connected, ti, store)
    old = task.crash(submit("sleep 62"))
    store[KEY]["unwanted"] = True
    task.retry()
    new = task.crash(submit("sleep 62"))

    assert new != old
    with ClusterraHook().client() as client:
        assert client.get_job(connected.cluster_id, old).state.base == "CANCELLED"
        client.cancel_job(connected.cluster_id, new)


def test_the_success_that_a_kill_came_too_late_for_is_the_retrys(task, connected):
    operator = submit("exit 0")

    def killed_at_the_end(context, hooked, job, *_):
        while not hooked.client.get_job(connected.cluster_id, job.job_id).state.finished:
            time.sleep(0.02)
        operator.on_kill()
        operator._kill.check()

    operator._wait = killed_at_the_end
    with pytest.raises(AirflowException, match=r"The task was killed: job \d+ is COMPLETED"):
        task.execute(operator)
    task.retry()

    assert task.execute(submit("exit 0"))["state"] == "COMPLETED"
    assert list(task.jobs().values()) == ["COMPLETED"]


@pytest.fixture
def proxy(connected, connection):
    with Proxy(connected.url).serve() as made:
        connection(made.url, connected.token, connected.cluster_id)
        yield made
    connection(connected.url, connected.token, connected.cluster_id)


def killed_while(operator, fault, proxy):
    """Let a task be killed once its job is submitted, in such weather."""

    def wait(*_):
        proxy.fault = fault
        operator.on_kill()
        operator._kill.check()

    operator._wait = wait
    return operator


def test_a_success_that_a_kill_did_not_reach_is_the_retrys(task, proxy):
    operator = killed_while(submit("sleep 0.2"), lambda request: says(503, b"away"), proxy)
    with pytest.raises(AirflowException, match=r"job \d+ could not be cancelled"):
        task.execute(operator)
    proxy.fault = lambda request: None
    while "RUNNING" in task.jobs().values():
        time.sleep(0.05)
    task.retry()

    assert task.execute(submit("sleep 0.2"))["state"] == "COMPLETED"
    assert list(task.jobs().values()) == ["COMPLETED"]


def test_a_job_that_a_kill_did_not_reach_and_that_runs_is_cancelled_by_the_retry(
    connected, ti, store, proxy
):
    task = Task(connected, ti, store)
    operator = killed_while(submit("sleep 67"), lambda request: says(503, b"away"), proxy)
    with pytest.raises(AirflowException, match=r"job \d+ could not be cancelled"):
        task.execute(operator)
    proxy.fault = lambda request: None
    old = ti.pushed["job_id"]
    task.retry()
    new = task.crash(submit("sleep 67"))

    with ClusterraHook().client() as client:
        assert client.get_job(connected.cluster_id, old).state.base == "CANCELLED"
        client.cancel_job(connected.cluster_id, new)


def test_a_kill_outlasts_a_stumble_of_the_api(task, proxy):
    stumbles = iter(range(3))
    fault = lambda request: says(503, b"away") if next(stumbles, None) is not None else None  # noqa: E731
    with pytest.raises(AirflowException, match=r"job \d+ is CANCELLED"):
        task.execute(killed_while(submit("sleep 69"), fault, proxy))


def test_an_adopted_job_that_had_been_cancelled_is_replaced_once(task, connected):
    old = task.crash(submit("sleep 63"))
    task.retry()
    operator = submit("sleep 63", deferrable=True)
    with ClusterraHook().client() as client:
        client.cancel_job(connected.cluster_id, old)
        job = client.get_job(connected.cluster_id, old)
    event = JobEvent("ended", old, connected.cluster_id, job, adopted_at=job.ended_at.timestamp())
    operator.execute = lambda context: "submitted again"
    context = {"ti": task.ti, "task_state_store": task.store}

    assert operator.execute_complete(context, event.to_payload()) == "submitted again"
    with pytest.raises(JobError, match="CANCELLED"):
        operator.execute_complete(context, JobEvent("ended", old, "c", job).to_payload())


SOME_LAST = "#!/bin/bash\n[ $SLURM_ARRAY_TASK_ID != 3 ] || sleep 66\n"


def some_cancelled(server, array_id):
    """The array, once its last task is cancelled and the others have succeeded."""
    with ClusterraHook().client() as client:
        while True:
            array = client.get_job(server.cluster_id, array_id)
            if array.state.finished:
                return array
            if sum(task.state.succeeded for task in array.tasks) == 3:
                last = next(task for task in array.tasks if task.array_task_id == 3)
                client.cancel_job(server.cluster_id, last.job_id)
            time.sleep(0.05)


def test_an_array_of_which_enough_has_succeeded_is_not_replaced_for_a_task_that_was_cancelled(
    task, connected
):
    array = {"array": "0-3", "array_success": 0.75}
    old = task.crash(submit(SOME_LAST, **array))
    some_cancelled(connected, old)
    task.retry()

    assert task.execute(submit(SOME_LAST, **array))["job_id"] == old


def test_such_an_array_is_not_replaced_either_if_it_was_adopted_before_its_end(task, connected):
    operator = submit(SOME_LAST, array="0-3", array_success=0.75)
    old = task.crash(operator)
    array = some_cancelled(connected, old)
    operator.execute = lambda context: pytest.fail("it was submitted again")
    event = JobEvent("ended", old, connected.cluster_id, array, adopted_at=time.time())
    context = {"ti": task.ti, "task_state_store": task.store}

    assert operator.execute_complete(context, event.to_payload())["job_id"] == old


@pytest.fixture
def forgetful(tmp_path, connection):
    """A server that forgets a job a second after its end; it has accounting."""
    with ClusterraServer(dir=tmp_path, min_job_age=1) as server:
        connection(server.url, server.token, server.cluster_id)
        yield server


def forgotten(server, job_id):
    with ClusterraHook().client() as client:
        while any(job.job_id == job_id for job in client.list_jobs(server.cluster_id)):
            pass


def test_a_success_that_slurm_has_forgotten_is_known_from_accounting(forgetful, ti, store):
    task = Task(forgetful, ti, store)
    job_id = task.crash(submit("exit 0"))
    forgotten(forgetful, job_id)
    task.retry()

    assert task.execute(submit("exit 0"))["job_id"] == job_id


@pytest.mark.parametrize("on_unknown", ["fail", "submit"])
def test_without_accounting_the_user_decides(forgetful, ti, store, connection, on_unknown):
    task = Task(forgetful, ti, store)
    job_id = task.crash(submit("exit 0"))
    forgotten(forgetful, job_id)
    task.retry()
    with Proxy(forgetful.url).serve() as proxy:
        proxy.fault = lambda request: (
            says(404, {"detail": "Not Found"}) if "accounting" in request else None
        )
        connection(proxy.url, forgetful.token, forgetful.cluster_id)
        if on_unknown == "submit":
            assert task.execute(submit("exit 0", on_unknown="submit"))["job_id"] != job_id
        else:
            with pytest.raises(AirflowFailException, match=f"submitted job {job_id}; Slurm no lon"):
                task.execute(submit("exit 0"))


NO_JOBS = http(200, {"jobs": []})


@pytest.mark.parametrize(
    "answer",
    [
        None,
        http(200, b"{"),
        *(http(status, b"upstream") for status in (500, 502, 503, 504, 511, 520)),
        http(503, {"message": "Service Unavailable"}),
    ],
    ids=repr,
)
def test_a_lost_answer_is_looked_for_and_never_sent_again(connection, run, store, answer):
    with Wire(answer, NO_JOBS) as wire:
        connection(wire.url)
        with pytest.raises(SubmitLostError, match="Nothing is submitted again") as caught:
            run(submit())

        assert sum(request.startswith(b"POST") for request in wire.requests) == 1
        assert sum(request.startswith(b"GET") for request in wire.requests) >= 2
    assert isinstance(caught.value, AirflowException)
    assert store[KEY]["job_id"] is None


@pytest.mark.parametrize(
    "answer", [http(429, b""), http(503, {"errors": [{"error": "busy"}]})], ids=["429", "503"]
)
def test_a_submit_that_was_not_taken_is_looked_for_once_and_sent_again(connection, run, answer):
    with Wire(answer, NO_JOBS, http(200, {"job_id": 7})) as wire:
        connection(wire.url)
        result = run(submit(wait_for_completion=False))

        kinds = [request.split(b" ")[0] for request in wire.requests]
    assert (result["job_id"], kinds) == (7, [b"POST", b"GET", b"POST"])


def test_a_submit_that_is_refused_leaves_nothing_to_remember(connected, run, store):
    with pytest.raises(AirflowFailException):
        run(submit(partition="typo"))

    assert store == {}


def test_a_job_is_remembered_until_it_has_succeeded(connected, run, store):
    with pytest.raises(JobError):
        run(submit("exit 3"))
    assert store[KEY]["failure"]["state"] == "FAILED"
    run(submit("exit 0"))

    assert store[KEY]["done"]


def estimate(**fields):
    """A job of which nobody can tell by its name whose it is."""
    defaults = {"task_id": "task", "deferrable": False, "poll_interval": 0.05}
    return ClusterraSubmitTemplateOperator(template_id="estimate-pi", **{**defaults, **fields})


@pytest.mark.parametrize("waits", [True, False])
def test_a_success_that_airflow_did_not_learn_of_is_not_repeated(connected, run, ti, waits):
    first = run(estimate(wait_for_completion=waits))
    ti.try_number = 2

    assert run(estimate(wait_for_completion=waits))["job_id"] == first["job_id"]


@pytest.mark.parametrize("waits", [True, False])
def test_a_clear_after_a_success_runs_a_new_job(connected, run, ti, store, waits):
    first = run(estimate(wait_for_completion=waits))
    ti.try_number, ti.max_tries = 2, 1
    if CLEARS_FORGET:
        store.clear()

    assert run(estimate(wait_for_completion=waits))["job_id"] > first["job_id"]


def test_without_a_tag_nothing_is_adopted(connected, run, store, ti):
    run(submit("exit 0", name="plain", durable=False))
    with ClusterraHook().client() as client:
        assert client.get_job(connected.cluster_id, ti.pushed["job_id"]).name == "plain"


def stale(proxy, *lists):
    """Answers the list of jobs as it was, so often; an API that caches does so for a while."""
    left = list(lists)

    def fault(request):
        if request.startswith("GET") and request.split(" ")[1].endswith("/jobs") and left:
            return says(200, left.pop(0))
        return None

    proxy.fault = fault


@pytest.mark.parametrize("remembers", ["the id", "an intent"])
def test_a_list_that_lacks_the_newest_job_does_not_bring_a_second_one(
    connected, connection, ti, store, remembers
):
    ti.run_id = remembers
    task = Task(connected, ti, store)
    job_id = task.crash(submit("exit 0"))
    if remembers == "an intent":
        store[KEY]["job_id"] = None
    task.retry()
    with Proxy(connected.url).serve() as proxy:
        stale(proxy, {"jobs": []})
        connection(proxy.url, connected.token, connected.cluster_id)

        assert task.execute(submit("exit 0"))["job_id"] == job_id


def test_a_job_that_slurm_took_otherwise_than_asked_and_is_still_there_is_remembered_as_such(
    connection, run, store
):
    said = {"job_id": 7, "errors": [{"error": "Invalid account", "error_number": 2045}]}
    with Wire(http(500, said), http(401, b"")) as wire:
        connection(wire.url)
        with pytest.raises(AirflowFailException):
            run(submit())

    assert (store[KEY]["job_id"], store[KEY]["unwanted"]) == (7, True)


@pytest.mark.parametrize("answer", [http(401, b""), http(503, b"")], ids=repr)
def test_a_lost_job_that_cannot_be_looked_for_is_not_given_up(connection, run, store, answer):
    with Wire(None, answer) as wire:
        connection(wire.url)
        with pytest.raises(SubmitLostError, match="the cluster does not say"):
            run(submit(durable=False))

    assert store[KEY]["job_id"] is None


def lost(run, connection, store, **fields):
    """An untagged job's submit is lost, and no look answers; the words of the error."""
    with Wire(None, http(503, b"")) as wire:
        connection(wire.url)
        with pytest.raises(AirflowException) as caught:
            run(submit(durable=False, **fields))
    return caught.value


def test_a_retry_without_a_tag_does_not_submit_beside_a_job_that_may_be_there(
    connection, run, store, ti
):
    error = lost(run, connection, store)
    assert "the next try fails, as on_unknown='fail' asks" in str(error)
    ti.try_number = 2
    with Wire(NO_JOBS) as wire:
        connection(wire.url)
        with pytest.raises(AirflowFailException, match="on_unknown='submit' would"):
            run(submit(durable=False))

        assert not any(request.startswith(b"POST") for request in wire.requests)


def test_a_retry_without_a_tag_submits_again_if_the_user_says_so(
    connection, run, store, ti, caplog
):
    error = lost(run, connection, store, on_unknown="submit")
    assert "the next try submits it" in str(error)
    ti.try_number = 2
    with Wire(http(200, {"job_id": 8})) as wire:
        connection(wire.url)
        operator = submit(durable=False, on_unknown="submit", wait_for_completion=False)
        assert run(operator)["job_id"] == 8
    assert "on_unknown is 'submit', so it runs again" in caplog.text


def test_a_clear_without_a_tag_submits_again(connection, run, store, ti):
    lost(run, connection, store)
    ti.try_number = ti.max_tries = 2
    with Wire(http(200, {"job_id": 8})) as wire:
        connection(wire.url)
        assert run(submit(durable=False, wait_for_completion=False))["job_id"] == 8


@pytest.mark.parametrize(
    ("on_unknown", "fails_for_good", "words"),
    [("fail", True, "Look for it before you clear"), ("submit", False, "the next try submits it")],
)
def test_what_nothing_remembers_and_nothing_can_find_is_not_left_to_a_retry(
    connection, ti, store, on_unknown, fails_for_good, words
):
    def run(operator):
        return operator.execute({"ti": ti})

    error = lost(run, connection, store, on_unknown=on_unknown)

    assert isinstance(error, AirflowFailException) is fails_for_good
    assert words in str(error)


def test_an_unnamed_job_that_is_not_there_counts_as_not_submitted(connection, run, store, ti):
    with Wire(None, NO_JOBS) as wire:
        connection(wire.url)
        with pytest.raises(
            SubmitLostError, match=r"no new job is there .* counts as not submitted"
        ):
            run(submit(durable=False))
    assert store == {}


def test_a_job_is_remembered_also_where_its_id_cannot_be_pushed(connected, run, ti, store, mocker):
    mocker.patch.object(ti, "xcom_push", side_effect=OSError("Airflow's API is away"))
    with pytest.raises(OSError, match="away"):
        run(submit("exit 0"))

    assert store[KEY]["job_id"] > 0


def test_accounting_that_refuses_the_session_is_not_taken_for_none(
    forgetful, ti, store, connection
):
    task = Task(forgetful, ti, store)
    forgotten(forgetful, task.crash(submit("exit 0")))
    task.retry()
    with Proxy(forgetful.url).serve() as proxy:
        proxy.fault = lambda request: says(401) if "accounting" in request else None
        connection(proxy.url, forgetful.token, forgetful.cluster_id)
        with pytest.raises(AirflowFailException, match="401"):
            task.execute(submit("exit 0", on_unknown="submit"))


def test_a_task_that_is_killed_as_it_looks_cancels_the_earlier_job(connected, ti, store):
    task = Task(connected, ti, store)
    old = task.crash(submit("sleep 64"))
    task.retry()
    operator = submit("sleep 64")
    looked = Submission._look_for_earlier
    killed = []

    def look(self):
        killed.append(operator.on_kill())
        return looked(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Submission, "_look_for_earlier", look)
        with pytest.raises(AirflowException, match=f"job {old} is CANCELLED"):
            task.execute(operator)

    assert killed
    assert store[KEY]["unwanted"] is True


def test_a_task_that_is_killed_as_it_looks_cancels_no_job_of_its_rescheduled_try_that_has_ended(
    connected, ti, store, tmp_path
):
    """Both have one name; the answer to the second submit was never heard."""
    task = Task(connected, ti, store)
    script = f"[ -e {tmp_path}/second ] && sleep 66\ntouch {tmp_path}/second\nexit 1"
    with pytest.raises(JobError):
        task.execute(submit(script))
    going = task.crash(submit(script))
    store[KEY]["job_id"] = None
    again = submit(script)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Submission, "_look_for_earlier", lambda *_: again.on_kill() or [])
        with pytest.raises(AirflowException, match=f"job {going} is CANCELLED"):
            task.execute(again)


@pytest.mark.parametrize("cleared", [False, True])
def test_a_task_that_is_killed_as_it_looks_cancels_a_job_that_carries_no_name(
    connected, ti, store, cleared
):
    task = Task(connected, ti, store)
    old = task.crash(submit("sleep 68", durable=False))
    assert store[KEY]["name"] == ""
    # what a clear forgets of a job without a name, nobody can find
    task.clear(forgets=False) if cleared else task.retry()
    again = submit("sleep 68")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Submission, "_look_for_earlier", lambda *_: again.on_kill() or [])
        with pytest.raises(AirflowException, match=f"job {old} is"):
            task.execute(again)
    with ClusterraHook().client() as client:
        assert client.get_job(connected.cluster_id, old).state.base == "CANCELLED"


def test_a_task_that_is_killed_as_it_submits_does_not_succeed_without_waiting(
    connected, run, ti, mocker
):
    operator = submit("sleep 65", wait_for_completion=False)
    mocker.patch.object(ti, "xcom_push", side_effect=lambda **_: operator.on_kill())
    with pytest.raises(AirflowException, match=r"job \d+ is CANCELLED"):
        run(operator)


def test_a_job_that_nobody_waits_for_outlives_a_kill_after_its_submit(connected, run):
    operator = submit("sleep 66", wait_for_completion=False)
    job_id = run(operator)["job_id"]
    # the worker is terminated while it pushes the result: the task succeeds all the same
    operator.on_kill()

    with ClusterraHook().client() as client:
        assert not client.get_job(connected.cluster_id, job_id).state.ended
        client.cancel_job(connected.cluster_id, job_id)


def test_a_wait_that_begins_after_the_kill_does_not_begin():
    switch = KillSwitch()
    switch.kill()
    with pytest.raises(TaskKilledError, match="no job had been submitted"):
        switch.run(asyncio.Event().wait())


@pytest.fixture
def render():
    """Renders an operator's fields as a worker does before it executes."""

    def rendered(operator, ti, **context):
        with DAG("dag", schedule=None):
            operator.render_template_fields({"ti": ti, "task_instance": ti, **context})
        return operator

    return rendered


def varying(**fields):
    defaults = {"environment": {"TRY": "{{ ti.try_number }}"}}
    return submit("sleep 66 # {{ ti.try_number }}", **{**defaults, **fields})


@pytest.mark.parametrize("fields", [{}, {"login_environment": "{{ ti.map_index > 0 }}"}])
def test_what_differs_because_of_the_try_alone_is_the_same_job(task, render, fields):
    old = task.crash(render(varying(**fields), task.ti))
    task.retry()
    assert task.crash(render(varying(**fields), task.ti)) == old
    task.retry()

    assert task.crash(render(varying(**fields), task.ti)) == old
    assert list(task.jobs()) == [old]
    # a job that was adopted is not one of those that were there before its submit
    assert task.store is None or not task.store[KEY]["known"]


def test_what_differs_otherwise_as_well_is_another_job(task, render):
    old = task.crash(render(varying(), task.ti))
    task.retry()
    new = task.crash(render(varying(memory="{{ 3 }}G"), task.ti))

    assert (task.jobs()[old], new != old) == ("CANCELLED", True)


def test_the_log_says_which_argument_differs(connected, ti, store, caplog):
    ti.run_id = "which"
    task = Task(connected, ti, store)
    clock = iter(["12:00", "12:01"])
    old = task.crash(submit(environment={"NOW": next(clock)}))
    task.retry()
    new = task.crash(submit(environment={"NOW": next(clock)}))
    with ClusterraHook().client() as client:
        client.cancel_job(connected.cluster_id, new)

    words = f"Cancelled job {old} because what the task asks for has changed (environment)"
    assert words in caplog.text


OOM = {"state": "OUT_OF_MEMORY"}


def test_growth_needs_the_same_task_and_not_the_same_body(connected, ti, store):
    ti.run_id = "growing"
    task = Task(connected, ti, store)
    growing = {"memory": "1G", "grow_on_retry": {"memory": 2.0}}
    first = task.crash(submit(**growing, environment={"NOW": "12:00"}))
    store[KEY]["failure"] = OOM
    with ClusterraHook().client() as client:
        client.cancel_job(connected.cluster_id, first)
        task.retry()
        second = task.crash(submit(**growing, environment={"NOW": "12:01"}))
        assert client.get_job(connected.cluster_id, second).memory_mb == 2048
        client.cancel_job(connected.cluster_id, second)


def test_a_try_that_is_rescheduled_is_a_retry(connected, ti, store):
    """Airflow 3.4's retry policies may run the same try again, with the same number."""
    ti.run_id = "rescheduled"
    task = Task(connected, ti, store)
    growing = {"memory": "1G", "grow_on_retry": {"memory": 2.0}}
    jobs = [task.crash(submit(**growing))]
    with ClusterraHook().client() as client:
        for memory in (2048, 4096):
            store[KEY]["failure"] = OOM
            client.cancel_job(connected.cluster_id, jobs[-1])
            jobs.append(task.crash(submit(**growing)))
            assert client.get_job(connected.cluster_id, jobs[-1]).memory_mb == memory
        assert task.crash(submit(**growing)) == jobs[-1]
        client.cancel_job(connected.cluster_id, jobs[-1])

    assert len(set(jobs)) == 3


def test_a_look_after_a_submit_ignores_the_jobs_that_were_there_before(
    connected, connection, ti, store
):
    """A rescheduled try's jobs have one name; the answer to the second submit is lost."""
    ti.run_id = "before"
    task = Task(connected, ti, store)
    with pytest.raises(JobError):
        task.execute(submit("exit 3"))
    old = ti.pushed["job_id"]
    with Proxy(connected.url).serve() as proxy:
        proxy.fault = lambda request: says(504) if request.startswith("POST") else None
        connection(proxy.url, connected.token, connected.cluster_id)
        with pytest.raises(SubmitLostError, match="no job named"):
            task.execute(submit("exit 3"))

    assert ti.pushed["job_id"] == old


def test_a_submit_is_not_sent_again_as_long_as_no_look_answers(connection, run):
    """The POST was not taken; the list fails twice before it answers."""
    refused, away = http(429, b""), http(504, b"")
    with Wire(refused, away, away, NO_JOBS, http(200, {"job_id": 7})) as wire:
        connection(wire.url)
        run(submit(wait_for_completion=False))

        kinds = [request.split(b" ")[0] for request in wire.requests]
    assert kinds == [b"POST", b"GET", b"GET", b"GET", b"POST"]


def test_anothers_job_of_the_same_name_is_neither_adopted_nor_cancelled(connection, run, ti, store):
    """Two people with Airflow's default address, one DAG and one run have equal tags."""
    ti.try_number = 2
    with Wire(NO_JOBS) as wire:
        connection(wire.url)
        with ClusterraHook().connect() as signed_in:
            deployment = signed_in.settings.deployment
        operator = submit("exit 0", wait_for_completion=False)
        identity = identity_of({"ti": ti}, deployment, "c1", operator._identity())
        name = tagged_name("dag.task", replace(identity.tag, try_number=1))
        theirs = {"job_id": 6, "job_state": ["COMPLETED"], "name": name, "user_name": "bob"}
        user = http(200, {"email": "ada@example.org", "user_name": "ada"})
        accounting = http(200, {"jobs": [{**theirs, "state": {"current": ["COMPLETED"]}}]})
        wire.says(http(200, {"jobs": [theirs]}), user, accounting, user, http(200, {"job_id": 7}))

        assert run(operator)["job_id"] == 7
        assert not any(request.startswith(b"DELETE") for request in wire.requests)


def test_with_cancel_on_kill_false_the_words_say_that_the_job_goes_on(connected, run, ti):
    operator = submit("sleep 67", cancel_on_kill=False)
    operator._wait = lambda *_: (operator.on_kill(), operator._kill.check())
    with pytest.raises(AirflowException, match=r"job \d+ goes on, as cancel_on_kill=False asks"):
        run(operator)
    with ClusterraHook().client() as client:
        assert not client.get_job(connected.cluster_id, ti.pushed["job_id"]).state.ended
        client.cancel_job(connected.cluster_id, ti.pushed["job_id"])


def taken_and(answer):
    """The API takes the request, and a gateway that lost it answers in its place."""

    async def fault(send, passed):
        async for _ in passed():
            pass
        await answer(send, passed)

    return fault


def fails(_, lists):
    return says(503) if lists <= 2 else None


def lags(answer, lists):
    return answer if lists <= 2 else None


@pytest.mark.parametrize(
    ("status", "looks"), [(502, fails), (503, lags), (504, lags), (511, fails)]
)
def test_a_submit_that_was_taken_behind_a_gateways_answer_is_never_sent_again(
    task, connected, connection, status, looks
):
    with Proxy(connected.url).serve() as proxy:
        seen = {"POST": 0, "GET": 0}

        def fault(request):
            method = request.split(" ")[0]
            if method == "POST" and not seen["POST"]:
                seen["POST"] += 1
                return taken_and(says(status, b"upstream connect error"))
            if request.split(" ")[1].endswith("/jobs"):
                seen["GET"] += 1
                return looks(says(200, {"jobs": []}), seen["GET"])
            return None

        proxy.fault = fault
        connection(proxy.url, connected.token, connected.cluster_id)
        job_id = task.crash(submit(submit_confirmation_timeout=20))
        connection(connected.url, connected.token, connected.cluster_id)

    assert list(task.jobs()) == [job_id]


@pytest.mark.parametrize("status", [503, 511])
def test_a_submit_that_a_gateway_did_not_take_is_left_to_the_next_try(
    task, connected, connection, status
):
    with Proxy(connected.url).serve() as proxy:
        proxy.fault = lambda request: says(status, b"") if request.startswith("POST") else None
        connection(proxy.url, connected.token, connected.cluster_id)
        with pytest.raises(SubmitLostError):
            task.execute(submit())
        connection(connected.url, connected.token, connected.cluster_id)
    assert task.jobs() == {}
    task.retry()
    job_id = task.crash(submit())

    assert list(task.jobs()) == [job_id]


@pytest.mark.skipif(not CLEARS_FORGET, reason="a clear keeps no task's state before Airflow 3.4")
def test_a_clear_that_keeps_the_tasks_state_keeps_the_indices_that_have_succeeded(
    connected, ti, store, tmp_path
):
    """Try 2 runs what failed of try 1 and is adopted after the clear, while it still runs."""
    task = Task(connected, ti, store)
    again, adopted = tmp_path / "again", tmp_path / "adopted"
    script = (
        f"if [ $SLURM_ARRAY_TASK_ID = 0 ]; then exit 0; fi\n"
        f"if [ ! -e {again} ]; then touch {again}; exit 3; fi\n"
        f"until [ -e {adopted} ]; do sleep 0.1; done"
    )
    retrying = {"array": "0-1", "retry_failed_indices": True}
    with pytest.raises(JobError):
        task.execute(submit(script, **retrying))
    task.retry()
    job_id = task.crash(submit(script, **retrying))
    task.clear(forgets=False)
    operator = submit(script, **retrying)
    wait = operator._wait
    operator._wait = lambda *given: (adopted.touch(), wait(*given))[1]

    result = task.execute(operator)

    assert (result["job_id"], result["state"]) == (job_id, "COMPLETED")
    assert set(result["tasks"]) == {"0", "1"}
