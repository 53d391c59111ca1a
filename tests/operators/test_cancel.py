"""Tests of airflow_provider_clusterra.operators.cancel."""

from collections.abc import Sequence

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_clusterra.api import JobSpec
from airflow_provider_clusterra.api.errors import InputError
from airflow_provider_clusterra.hooks.clusterra import ClusterraHook
from airflow_provider_clusterra.operators.cancel import ClusterraCancelJobOperator
from airflow_provider_clusterra.submit.protocol import identity_of, tagged_name
from tests.support.wire import Wire, http


def cancel(**fields):
    return ClusterraCancelJobOperator(task_id="cancel", **fields)


@pytest.fixture
def submitted(connected):
    """Submits a script, and gives the job's id."""
    made = []
    with ClusterraHook().client() as client:

        def submit(script="sleep 60", name="job"):
            body = JobSpec(f"#!/bin/bash\n{script}\n", name).body()
            made.append(client.submit_job(connected.cluster_id, body).job_id)
            return made[-1]

        submit.state = lambda job_id: str(client.get_job(connected.cluster_id, job_id).state)
        yield submit
        for job_id in made:
            client.cancel_job(connected.cluster_id, job_id)


def test_a_job_is_cancelled_and_seen_to_be_gone(submitted, run):
    job_id = submitted()

    assert run(cancel(job_id=str(job_id))) == [job_id]
    assert submitted.state(job_id) == "CANCELLED"


def test_jobs_that_have_ended_or_were_never_there_are_a_success(submitted, run):
    job_id = submitted("exit 0")
    while submitted.state(job_id) != "COMPLETED":
        pass

    assert run(cancel(job_id=[job_id, 999_999])) == []


def test_a_job_that_cannot_be_cancelled_leaves_none_of_the_others(connection, run):
    def answer(request):
        if b"/jobs/7 " in request:
            return http(403, b"")
        done = b"DELETE" in b"".join(wire.requests)
        state = "CANCELLED" if done else "RUNNING"
        return http(200, {"jobs": [{"job_id": 8, "job_state": [state]}], "status": []})

    with Wire(answer) as wire:
        connection(wire.url)
        with pytest.raises(AirflowFailException, match="403"):
            run(cancel(job_id=[7, 8]))

        last = wire.requests[-1]
    assert last.startswith(b"GET")
    assert b"/jobs/8 " in last


@pytest.mark.parametrize("pushed", ["None", "", []], ids=repr)
def test_where_no_job_was_submitted_there_is_nothing_to_cancel(connected, run, pushed):
    assert run(cancel(job_id=pushed)) == []


def test_all_jobs_of_a_run_are_cancelled_and_no_others(submitted, connected, run, ti):
    def named(run_id):
        ti.run_id = run_id
        with ClusterraHook().connect() as signed_in:
            deployment = signed_in.settings.deployment
        return tagged_name("job", identity_of({"ti": ti}, deployment, connected.cluster_id, {}).tag)

    other = submitted(name=named("another"))
    mine = [submitted(name=named("mine")) for _ in range(2)]

    assert run(cancel(tag_of_run=True)) == mine
    assert [submitted.state(job_id) for job_id in mine] == ["CANCELLED", "CANCELLED"]
    assert submitted.state(other) != "CANCELLED"


@pytest.mark.parametrize("fields", [{}, {"job_id": 7, "tag_of_run": True}])
def test_a_dag_that_does_not_say_which_jobs_breaks_at_once(fields):
    with pytest.raises(AirflowFailException, match="Give either job_id, or tag_of_run=True"):
        cancel(**fields)


class OfAMappedTask(Sequence):
    """What ``mapped.output["job_id"]`` is at run time: read when it is needed, and shown otherwise."""

    def __init__(self, *pushed):
        self._pushed = pushed

    def __len__(self):
        return len(self._pushed)

    def __getitem__(self, index):
        return self._pushed[index]


@pytest.mark.parametrize("pushed", [(), (999_998, None, "999999")])
def test_the_jobs_of_a_mapped_task_are_cancelled(connected, run, pushed):
    assert run(cancel(job_id=OfAMappedTask(*pushed))) == []


@pytest.mark.parametrize("given", ["seven", "0", [7, "x"], -1])
def test_what_is_no_job_id_breaks_the_dag(given):
    with pytest.raises(InputError, match="it is Slurm's number for a job"):
        cancel(job_id=given)


def test_what_renders_to_no_job_id_fails_the_task_for_good(connected, run):
    operator = cancel(job_id="{{ 'seven' }}")
    operator.render_template_fields({})
    with pytest.raises(AirflowFailException, match="job_id is 'seven'"):
        run(operator)
