"""Tests of a submit to a full queue, on a real server behind a proxy that knows a limit."""

import json
import threading

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException, TaskDeferred

from airflow_provider_clusterra.api import InputError
from airflow_provider_clusterra.api.errors import Retry
from airflow_provider_clusterra.hooks.clusterra import ClusterraHook
from airflow_provider_clusterra.operators.jobs import ClusterraSubmitJobOperator
from airflow_provider_clusterra.submit.submission import KEY
from airflow_provider_clusterra.triggers.jobs import ClusterraQueueTrigger
from tests.support.proxy import Proxy, says

POLICY = "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"


def refusal(number=2050, words=POLICY):
    return says(422, {"errors": [{"error_number": number, "error": words}]})


def submit(pauses=0.05, **fields):
    defaults = {"task_id": "task", "deferrable": False, "wait_for_completion": False}
    operator = ClusterraSubmitJobOperator(**{**defaults, "script": "#!/bin/bash\ntrue\n", **fields})
    # no part of an operator's interface
    operator.queue_pauses = Retry(first=pauses, cap=pauses)
    return operator


@pytest.fixture
def limited(connected, connection):
    """Refuses so many submits in these words."""
    with Proxy(connected.url).serve() as proxy:
        connection(proxy.url, connected.token, connected.cluster_id)
        proxy.posts = 0

        def refuse(times, answer):
            def fault(request):
                if not request.startswith("POST"):
                    return None
                proxy.posts += 1
                return answer if proxy.posts <= times else None

            proxy.fault = fault
            return proxy

        yield refuse


@pytest.fixture
def job_of_ours(connected):
    with ClusterraHook().client() as client:
        body = {
            "script": "#!/bin/bash\nsleep 60\n",
            "job": {"name": "mine", "environment": ["A=1"]},
        }
        body["job"] |= {"current_working_directory": "/mnt/efs", "nodes": "1"}
        job_id = client.submit_job(connected.cluster_id, body).job_id
        yield job_id
        client.cancel_job(connected.cluster_id, job_id)


def test_a_task_waits_for_a_place_and_submits_once(limited, job_of_ours, run, store, capsys):
    proxy = limited(3, refusal())
    result = run(submit())

    assert (result["job_id"] > job_of_ours, proxy.posts) == (True, 4)
    assert store[KEY]["done"]
    assert capsys.readouterr().out.count("No place in the queue") == 1


@pytest.mark.parametrize(
    "answer",
    [refusal(words="AssocMaxSubmitJobLimit"), refusal(11, "Resource temporarily unavailable")],
    ids=["a limit with a name", "MaxJobCount"],
)
def test_a_limit_with_a_name_is_one_on_jobs_whoever_has_them(limited, run, answer):
    assert run(limited(1, answer) and submit())["job_id"]


@pytest.mark.parametrize(
    ("answer", "fields"),
    [
        (refusal(words="QOSMaxWallDurationPerJobLimit"), {}),
        (refusal(), {"on_full_queue": "fail"}),
        (refusal(2066, "Invalid qos specification"), {}),
    ],
    ids=["a limit on time", "as the author asks", "another refusal"],
)
def test_what_is_no_full_queue_fails_at_once(limited, job_of_ours, run, store, answer, fields):
    proxy = limited(9, answer)
    with pytest.raises(AirflowFailException):
        run(submit(**fields))

    assert (proxy.posts, store) == (1, {})


def test_a_limit_without_a_name_is_the_jobs_own_if_no_job_of_ours_is_there(
    local, connection, run, tmp_path
):
    from tests.support.servers import ClusterraServer  # noqa: PLC0415 - an empty one of its own

    with ClusterraServer(dir=tmp_path) as server, Proxy(server.url).serve() as proxy:
        connection(proxy.url, server.token, server.cluster_id)
        proxy.fault = lambda request: refusal() if request.startswith("POST") else None
        with pytest.raises(AirflowFailException, match="ask for less"):
            run(submit())


def test_a_place_that_became_free_since_the_refusal_is_taken(connection, run, tmp_path):
    from tests.support.servers import ClusterraServer  # noqa: PLC0415 - an empty one of its own

    answers = [refusal()]
    with ClusterraServer(dir=tmp_path) as server, Proxy(server.url).serve() as proxy:
        connection(proxy.url, server.token, server.cluster_id)
        proxy.fault = lambda request: (
            answers.pop() if request.startswith("POST") and answers else None
        )

        assert run(submit())["job_id"]


def resumed(trigger):
    """What the task is told, as Airflow's triggerer would bring it."""
    path, kwargs = trigger.serialize()
    assert path.endswith(".ClusterraQueueTrigger")
    return ClusterraQueueTrigger(**json.loads(json.dumps(kwargs)))._so_far()


def test_a_deferrable_task_waits_without_a_worker(limited, job_of_ours, run, ti, store):
    limited(2, refusal())
    with pytest.raises(TaskDeferred) as first:
        run(submit(deferrable=True, timeout=60))
    assert first.value.method_name == "submit_again"
    context = {"ti": ti, "task_state_store": store}
    with pytest.raises(TaskDeferred) as second:
        submit(deferrable=True, timeout=60).submit_again(context, resumed(first.value.trigger))
    again = second.value.trigger

    assert (again.tries, again.deadline) == (2, first.value.trigger.deadline)
    assert submit(timeout=60).submit_again(context, resumed(again))["job_id"]


@pytest.mark.parametrize("pauses", [0.05, 600.0])
def test_patience_ends_with_the_timeout(limited, job_of_ours, run, store, pauses):
    limited(10**6, refusal())
    with pytest.raises(
        AirflowException, match=r"no place in the queue .* until timeout=0.3 s"
    ) as caught:
        run(submit(pauses, timeout=0.3))

    assert not isinstance(caught.value, AirflowFailException)
    assert store == {}


def test_a_kill_ends_the_wait_for_a_place(limited, job_of_ours, run):
    operator = submit()
    proxy = limited(10**6, refusal())
    fault = proxy.fault
    # the proxy's own thread has the kill's requests to pass on
    killer = threading.Thread(target=operator.on_kill)

    def kill(request):
        if proxy.posts == 2 and killer.ident is None:
            killer.start()
        return fault(request)

    proxy.fault = kill
    with pytest.raises(AirflowException, match="The task was killed"):
        run(operator)
    killer.join()


def test_what_is_uploaded_is_not_uploaded_again(limited, job_of_ours, run, tmp_path):
    file = tmp_path / "in.dat"
    file.write_text("x")
    proxy = limited(0, None)
    submits, uploads = [], []

    def count(request):
        if "presigned-url" in request:
            uploads.append(request)
        elif "jobs/submit" in request:
            submits.append(request)
            return refusal() if len(submits) <= 2 else None
        return None

    proxy.fault = count
    run(submit(uploads={"INPUT": str(file)}))

    assert (len(submits), len(uploads)) == (3, 1)


def test_another_way_of_taking_a_full_queue_breaks_the_dag_and_not_the_task():
    with pytest.raises(InputError, match="'wait' or 'fail'"):
        submit(on_full_queue="retry")
