"""Tests of airflow_provider_clusterra.sensors.jobs."""

import time
from datetime import UTC, datetime, timedelta

import pytest
from airflow.exceptions import AirflowRescheduleException
from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
    TaskDeferred,
)
from airflow.sdk import DAG

from airflow_provider_clusterra.hooks.clusterra import ClusterraHook
from airflow_provider_clusterra.links.jobs import KEY
from airflow_provider_clusterra.sensors.jobs import ClusterraJobSensor
from airflow_provider_clusterra.task.arguments import seconds
from airflow_provider_clusterra.task.report import JobError, JobLostError, JobStuckError
from airflow_provider_clusterra.triggers.jobs import ClusterraJobTrigger, JobEvent
from airflow_provider_clusterra.watch.verdict import PATIENT
from tests.support.airflow_side import TaskInstance, TaskStateStore
from tests.support.wire import Wire, http

RUNNING = http(200, {"jobs": [{"job_id": 7, "job_state": ["RUNNING"]}]})
GONE = http(404, {"errors": [{"error": "Invalid job id specified", "error_number": 2017}]})


def wait_for(job_id, **fields):
    defaults = {"task_id": "task", "deferrable": False, "poke_interval": 0.05, "timeout": 30}
    return ClusterraJobSensor(job_id=job_id, **{**defaults, **fields})


def run(sensor):
    return sensor.execute({"ti": TaskInstance()})


@pytest.fixture
def submitted(connected):
    """Submits a script, and gives the job's id."""

    def submit(script):
        job = {"environment": ["A=1"], "current_working_directory": "/mnt/efs"}
        body = {"script": f"#!/bin/bash\n{script}\n", "job": job}
        with ClusterraHook().client() as client:
            return client.submit_job(connected.cluster_id, body).job_id

    return submit


def test_a_job_is_waited_for_and_its_result_returned(submitted):
    result = run(wait_for(submitted("sleep 0.2; echo 5"), return_output="json"))

    assert (result["state"], result["output"]) == ("COMPLETED", 5)


def test_a_job_id_may_come_from_xcom_as_text(submitted):
    assert run(wait_for(f" {submitted('exit 0')} "))["state"] == "COMPLETED"


@pytest.mark.parametrize("deferrable", [True, False])
def test_the_link_leads_to_the_job_from_the_first_look(submitted, connected, deferrable):
    job_id = submitted("sleep 60")
    ti = TaskInstance()
    with pytest.raises((TaskDeferred, AirflowSensorTimeout)):
        wait_for(job_id, deferrable=deferrable, timeout=0.01).execute({"ti": ti})

    assert ti.pushed[KEY] == f"{connected.url}/manage/{connected.cluster_id}/jobs/{job_id}"


def test_a_deferrable_sensor_leaves_its_worker(submitted, connected):
    with pytest.raises(TaskDeferred) as caught:
        run(wait_for(submitted("sleep 60"), deferrable=True, timeout=100))
    kwargs = caught.value.trigger.serialize()[1]

    assert kwargs["owns_job"] is False
    assert kwargs["poll_interval"] == 0.05
    assert 100 < seconds("timeout", caught.value.timeout) < 300


def test_airflows_default_poke_interval_is_nobodys_wish_for_so_many_looks(submitted):
    sensor = ClusterraJobSensor(task_id="task", job_id=submitted("sleep 60"), deferrable=True)
    with pytest.raises(TaskDeferred) as caught:
        run(sensor)

    assert caught.value.trigger.serialize()[1]["poll_interval"] is None


def test_a_dags_default_poke_interval_is_its_authors_wish(submitted):
    with DAG("dag", schedule=None, default_args={"poke_interval": 600}):
        sensor = ClusterraJobSensor(task_id="task", job_id=submitted("sleep 60"), deferrable=True)
    with pytest.raises(TaskDeferred) as caught:
        run(sensor)

    assert caught.value.trigger.serialize()[1]["poll_interval"] == 600


def test_a_deferrable_sensor_does_not_defer_for_a_job_that_has_ended(submitted):
    job_id = submitted("exit 0")
    run(wait_for(job_id))

    assert run(wait_for(job_id, deferrable=True))["state"] == "COMPLETED"


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_failed_job_fails_the_task_or_skips_it(submitted, deferrable):
    job_id = submitted("echo bad luck; exit 3")
    with pytest.raises(JobError, match="bad luck"):
        run(wait_for(job_id))
    with pytest.raises(JobError, match="bad luck"):
        run(wait_for(job_id, deferrable=deferrable))
    with pytest.raises(AirflowSkipException, match="bad luck"):
        run(wait_for(job_id, deferrable=deferrable, soft_fail=True))


def test_a_sensor_that_runs_out_of_time_leaves_the_job_alone(submitted, connected):
    job_id = submitted("sleep 60")
    with pytest.raises(AirflowSensorTimeout):
        run(wait_for(job_id, timeout=0.2))
    with pytest.raises(AirflowSkipException):
        run(wait_for(job_id, timeout=0.2, soft_fail=True))
    with ClusterraHook().client() as client:
        assert client.get_job(connected.cluster_id, job_id).state.base == "RUNNING"
        client.cancel_job(connected.cluster_id, job_id)


@pytest.mark.parametrize(
    ("soft_fail", "kind"), [(False, AirflowSensorTimeout), (True, AirflowSkipException)]
)
def test_a_deferral_that_runs_out_of_time_means_the_same(connection, soft_fail, kind):
    connection("http://127.0.0.1:9")
    event = JobEvent("timed_out", 7, "c1", None, "Job 7 is RUNNING after 30 s").to_payload()
    with pytest.raises(kind, match="RUNNING after 30 s"):
        wait_for(7, soft_fail=soft_fail).execute_complete({"ti": TaskInstance()}, event)


def test_an_execution_timeout_that_is_shorter_means_the_same_when_deferred(submitted, connected):
    short = {"deferrable": True, "timeout": 100, "execution_timeout": timedelta(seconds=20)}
    job_id = submitted("sleep 60")
    with pytest.raises(TaskDeferred) as caught:
        run(wait_for(job_id, **short))
    event = JobEvent("timed_out", job_id, connected.cluster_id, None, "It is RUNNING").to_payload()

    assert caught.value.trigger.spec.deadline < time.time() + 30
    # not even soft_fail takes Airflow's own error for a sensor's
    with pytest.raises(AirflowTaskTimeout, match="RUNNING"):
        wait_for(job_id, soft_fail=True, **short).execute_complete({"ti": TaskInstance()}, event)


def test_an_event_becomes_the_same_result(submitted, connected):
    job_id = submitted("echo 5")
    now = run(wait_for(job_id, return_output="json"))
    with ClusterraHook().client() as client:
        job = client.get_job(connected.cluster_id, job_id)
    event = JobEvent("ended", job_id, connected.cluster_id, job).to_payload()
    sensor = wait_for(job_id, return_output="json")

    assert sensor.execute_complete({"ti": TaskInstance()}, event) == now


def test_a_hiccup_is_looked_past(connection, mocker):
    mocker.patch("time.sleep")
    with Wire(
        *[http(503, b"busy")] * 12, http(200, {"jobs": [{"job_id": 7, "job_state": ["COMPLETED"]}]})
    ) as wire:
        connection(wire.url)

        assert run(wait_for(7))["state"] == "COMPLETED"


def test_a_job_that_vanishes_is_lost(connection, patience):
    patience(min_job_age=0.0)
    clusters = http(200, {"clusters": [{"id": "c1"}]})

    def gone(request):
        return clusters if request.startswith(b"GET /v1/clusters HTTP") else GONE

    with Wire(RUNNING, gone) as wire:
        connection(wire.url)
        with pytest.raises(JobLostError, match="last seen RUNNING"):
            run(wait_for(7))


@pytest.mark.parametrize("job_id", [None, "", "None", "abc", 0, -1], ids=repr)
def test_a_job_id_that_is_none_says_so(connection, job_id):
    connection("http://127.0.0.1:9")
    with pytest.raises(AirflowFailException, match="Slurm's number for a job"):
        run(wait_for(job_id))


def test_an_unknown_cluster_fails_for_good(connected):
    with pytest.raises(AirflowFailException, match="no cluster 'typo'"):
        run(wait_for(7, cluster_id="typo"))


def test_a_session_that_is_not_accepted_fails_for_good(local, connection):
    connection(local.url, "wr0ng-cookie", local.cluster_id)
    with pytest.raises(AirflowFailException, match="sign in with the browser"):
        run(wait_for(7))


@pytest.fixture
def logged(mocker):
    """What the sensor writes into its log."""
    lines = []

    def write(words, *values):
        lines.append(words % values if values else words)

    logger = mocker.patch.object(ClusterraJobTrigger, "log", mocker.Mock())
    logger.info.side_effect = logger.warning.side_effect = write
    return lines


@pytest.mark.parametrize("follow_output", [True, False])
def test_the_jobs_output_is_in_the_sensors_log(submitted, logged, follow_output):
    job_id = submitted("for n in 1 2 3; do echo line $n; sleep 0.2; done")
    run(wait_for(job_id, follow_output=follow_output))
    output = "\n".join(line for line in logged if line.startswith("line"))

    assert output == ("line 1\nline 2\nline 3" if follow_output else "")

    # and of a job that has ended when a deferrable sensor first looks
    logged.clear()
    run(wait_for(job_id, follow_output=follow_output, deferrable=True))

    assert "\n".join(line for line in logged if line.startswith("line")) == output


def test_a_job_that_slurm_forgot_is_known_from_accounting(connection):
    told = {
        "job_id": 7,
        "state": {"current": ["COMPLETED"], "reason": "None"},
        "time": {"start": 1, "end": 2, "submission": 1},
    }
    gone, clusters = GONE, http(200, {"clusters": [{"id": "c1"}]})
    answers = [RUNNING, *[gone, clusters] * 2, gone, clusters, http(200, {"jobs": [told]})]
    with Wire(*answers) as wire:
        connection(wire.url)

        assert run(wait_for(7, follow_output=False))["state"] == "COMPLETED"


@pytest.mark.parametrize("on_stuck", ["fail", "warn"])
def test_a_held_job_fails_the_sensor_or_is_told(connection, patience, logged, on_stuck):
    patience(stuck=0.0)
    held = {"job_id": 7, "job_state": ["PENDING"], "state_reason": "JobHeldUser"}
    done = http(200, {"jobs": [{"job_id": 7, "job_state": ["COMPLETED"]}]})
    with Wire(*[http(200, {"jobs": [held]})] * 2, done) as wire:
        connection(wire.url)
        sensor = wait_for(7, on_stuck=on_stuck, follow_output=False)
        if on_stuck == "fail":
            with pytest.raises(JobStuckError, match="it is held"):
                run(sensor)
        else:
            assert run(sensor)["state"] == "COMPLETED"
            assert any("it is held" in line for line in logged)

        assert all(request.startswith(b"GET") for request in wire.requests)


def test_a_deferral_that_airflow_ends_leaves_the_job_alone(submitted, connected):
    job_id = submitted("sleep 60")
    for soft_fail, kind in ((False, AirflowSensorTimeout), (True, AirflowSkipException)):
        with pytest.raises(kind):
            wait_for(job_id, soft_fail=soft_fail).resume_execution(
                "__fail__", {"error": "Trigger timeout"}, {"ti": TaskInstance()}
            )
    with ClusterraHook().client() as client:
        assert not client.get_job(connected.cluster_id, job_id).state.ended
        client.cancel_job(connected.cluster_id, job_id)


@pytest.mark.parametrize("fields", [{}, {"mode": "reschedule"}, {"deferrable": True}], ids=repr)
def test_an_exit_code_may_skip_the_task(submitted, connected, fields):
    job_id = submitted("exit 99")
    with ClusterraHook().client() as client:
        while not (job := client.get_job(connected.cluster_id, job_id)).state.finished:
            pass
    with pytest.raises(AirflowSkipException, match="exit code 99"):
        run(wait_for(job_id, skip_on_exit_code=[99], **fields))
    event = JobEvent("ended", job_id, connected.cluster_id, job).to_payload()
    with pytest.raises(AirflowSkipException, match="exit code 99"):
        wait_for(job_id, skip_on_exit_code=99).execute_complete({"ti": TaskInstance()}, event)


REFUSED = http(401, {"error": "unauthorized"})
WEB_PAGE = http(403, b"<html>a gateway</html>")
DONE = http(200, {"jobs": [{"job_id": 7, "job_state": ["COMPLETED"]}]})


@pytest.fixture
def renewable(connection, mocker):
    """A connection that is not an environment variable's, so that it may change meanwhile."""
    mocker.patch.object(ClusterraHook, "is_in_the_environment", new=False)
    return connection


@pytest.mark.parametrize("odd", [REFUSED, WEB_PAGE, http(408, b""), http(302, b"")], ids=repr)
def test_a_poke_that_is_refused_has_as_much_time_to_heal_as_a_deferral(renewable, odd):
    with Wire(RUNNING, *[odd] * 3, DONE) as wire:
        renewable(wire.url)

        assert run(wait_for(7, follow_output=False))["state"] == "COMPLETED"


@pytest.mark.parametrize("odd", [REFUSED, WEB_PAGE], ids=["401", "403"])
def test_a_poke_that_is_refused_for_too_long_fails_for_good(renewable, patience, odd):
    patience(refused=0.2)
    with Wire(RUNNING, odd) as wire:
        renewable(wire.url)
        with pytest.raises(AirflowFailException):
            run(wait_for(7, follow_output=False))

        # a refusal, and after its time another one
        assert len(wire.requests) >= 3


def rescheduled(store, try_number=1, **fields):
    """One look of a process of its own."""
    sensor = wait_for(7, mode="reschedule", follow_output=False, **fields)
    ti = TaskInstance(try_number=try_number)
    return sensor.execute({"ti": ti, "task_state_store": store})


@pytest.fixture
def after(mocker):
    """Sets the clock to so many seconds from now."""
    now = time.time()
    clock = mocker.patch("airflow_provider_clusterra.sensors.jobs.time.time", return_value=now)

    def set_to(seconds):
        clock.return_value = now + seconds

    return set_to


COMPLETING = {"job_id": 7, "job_state": ["COMPLETED", "COMPLETING"]}
HELD = {"job_id": 7, "job_state": ["PENDING"], "state_reason": "JobHeldUser"}


def test_a_rescheduled_sensor_waits_for_a_hung_node_no_longer_than_any_other(connection, after):
    store = TaskStateStore()
    with Wire(http(200, {"jobs": [COMPLETING]})) as wire:
        connection(wire.url)
        for seconds in (0, 30):
            after(seconds)
            with pytest.raises(AirflowRescheduleException):
                rescheduled(store)
        after(3600)

        assert rescheduled(store)["state"] == "COMPLETED"


def test_a_rescheduled_sensor_counts_from_when_its_job_was_held(connection, after):
    store = TaskStateStore()
    jobs = [{**HELD, "state_reason": "Priority"}, HELD, HELD]
    with Wire(lambda _: http(200, {"jobs": jobs[:1]})) as wire:
        connection(wire.url)
        for seconds in (0, 7200):
            after(seconds)
            with pytest.raises(AirflowRescheduleException):
                rescheduled(store)
        jobs.pop(0)
        with pytest.raises(AirflowRescheduleException):
            rescheduled(store)
        after(10800)
        with pytest.raises(JobStuckError, match="it is held"):
            rescheduled(store)
        # the next try has its own patience
        with pytest.raises(AirflowRescheduleException):
            rescheduled(store, try_number=2)


def test_a_rescheduled_sensor_remembers_since_when_it_is_refused(renewable, mocker):
    store = TaskStateStore()
    with Wire(REFUSED) as wire:
        renewable(wire.url)
        for _ in range(2):
            with pytest.raises(AirflowRescheduleException):
                rescheduled(store)
        later = time.time() + 16 * 60
        mocker.patch("airflow_provider_clusterra.sensors.jobs.time.time", return_value=later)
        with pytest.raises(AirflowFailException, match="not accepted"):
            rescheduled(store)
    with Wire(REFUSED, RUNNING, REFUSED) as wire:
        renewable(wire.url)
        store.clear()
        for _ in range(3):
            with pytest.raises(AirflowRescheduleException):
                rescheduled(store)

        assert len(store) == 1
    with Wire(REFUSED) as wire:
        renewable(wire.url)
        with pytest.raises(AirflowRescheduleException):
            rescheduled(None)


def test_a_rescheduled_sensor_does_not_believe_one_answer_without_its_job(
    connection, after, mocker
):
    store = TaskStateStore()
    began = datetime.fromtimestamp(time.time(), UTC)
    mocker.patch.object(TaskInstance, "get_first_reschedule_date", return_value=began)
    gone = http(404, {"errors": [{"error": "Invalid job id", "error_number": 2017}]})
    shown = [False]

    def answer(request):
        asks_for_it = request.startswith(b"GET") and b"/jobs/7 " in request
        return RUNNING if asks_for_it and shown[0] else gone

    with Wire(answer) as wire:
        connection(wire.url)
        for at, is_shown in ((0, True), (200, False), (210, True), (220, False)):
            after(at)
            shown[0] = is_shown
            with pytest.raises(AirflowRescheduleException):
                rescheduled(store)
        after(230)
        with pytest.raises(JobLostError):
            rescheduled(store)


def test_a_rescheduled_sensor_asks_accounting_in_vain_no_longer_than_any_other(connection, mocker):
    tasks = [
        {"job_id": 7 + index, "array_job_id": 7, "array_task_id": index, "job_state": "COMPLETED"}
        for index in range(2)
    ]
    refused = http(403, {"error": "no accounting for you"})

    def answer(request):
        return refused if b"/accounting" in request else http(200, {"jobs": tasks})

    store = TaskStateStore()
    with Wire(answer) as wire:
        connection(wire.url)
        with pytest.raises(AirflowRescheduleException):
            rescheduled(store)
        later = time.time() + PATIENT.grace + 1
        mocker.patch("airflow_provider_clusterra.sensors.jobs.time.time", return_value=later)

        assert rescheduled(store)["state"] == "COMPLETED"


def test_slurms_own_no_fails_a_sensor_at_once(renewable):
    no = {"errors": [{"error": "Access denied", "error_number": 2002}]}
    with Wire(http(403, no)) as wire:
        renewable(wire.url)
        with pytest.raises(AirflowFailException, match="Access denied"):
            run(wait_for(7))


def test_a_sensor_counts_its_patience_from_its_first_poke(connection):
    sensor = wait_for(7, deferrable=True, pending_timeout=5)
    time.sleep(0.1)
    begun = time.time()
    with Wire(http(200, {"jobs": [{"job_id": 7, "job_state": ["PENDING"]}]})) as wire:
        connection(wire.url)
        with pytest.raises(TaskDeferred) as caught:
            run(sensor)

    assert caught.value.trigger.spec.since >= begun


def test_a_timeout_names_its_limit(submitted):
    with pytest.raises(TaskDeferred) as caught:
        run(wait_for(submitted("sleep 60"), deferrable=True, timeout=100))

    assert caught.value.trigger.spec.limit == "timeout=100 s"
