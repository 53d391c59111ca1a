"""Whatever slurmrestd v0.0.44 may answer by its own document, and more, is read or refused in our words."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_clusterra.api import calls, templates
from airflow_provider_clusterra.api import calls as cluster
from airflow_provider_clusterra.api.answers import checked, refusal
from airflow_provider_clusterra.api.errors import ClusterraError
from tests.support.openapi import JUNK, answers
from tests.support.recorded import answer

READERS = {
    "submit": calls.read_submitted,
    "job": checked(lambda said: calls.read_job(said, 1)),
    "cancel": calls.read_cancelled,
    "states": checked(calls.read_states),
    "nodes": checked(cluster.read_nodes),
    "stats": checked(cluster.read_stats),
}
OTHERS = {
    "jobs": calls.read_jobs,
    "user": cluster.read_user,
    "clusters": cluster.read_clusters,
    "routes": cluster.read_routes,
    "metrics": cluster.read_text,
    "grant": calls.read_grant,
    "output": calls.output_of,
    "templates": templates.read_templates,
    "template": templates.read_template,
    "refusal": refusal,
}
STATUSES = st.sampled_from([200, 200, 200, 404, 422, 500])
NO_HURRY = settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def read(reader, body, status):
    try:
        reader(answer(body, status=status, headers={"Content-Type": "application/json"}))
    except ClusterraError as error:
        words = str(error)
    else:
        return

    assert len(words) < 2000


@pytest.mark.parametrize("kind", READERS)
@given(data=st.data(), status=STATUSES)
@NO_HURRY
def test_any_answer_of_the_document_is_read_or_refused(kind, data, status):
    read(READERS[kind], data.draw(answers(kind)), status)


@pytest.mark.parametrize("kind", [*READERS, *OTHERS])
@given(body=JUNK, status=STATUSES)
@NO_HURRY
def test_so_is_any_json(kind, body, status):
    read({**READERS, **OTHERS}[kind], body, status)


@pytest.mark.parametrize("kind", [*READERS, *OTHERS])
@given(body=st.binary(max_size=40), status=STATUSES)
@NO_HURRY
def test_so_are_any_bytes(kind, body, status):
    read({**READERS, **OTHERS}[kind], body, status)


@given(rows=st.lists(answers("job"), max_size=2), cut=st.integers(0, 10_000))
@NO_HURRY
def test_so_is_an_answer_that_was_cut_short(rows, cut):
    whole = json.dumps({"jobs": rows}).encode()

    read(calls.read_jobs, whole[:cut], 200)
