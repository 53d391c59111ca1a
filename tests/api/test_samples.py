"""Every recorded answer is read by the reader that its request asks for."""

import json

import pytest

from airflow_provider_clusterra.api import calls
from airflow_provider_clusterra.api import calls as cluster
from airflow_provider_clusterra.api.answers import checked, refusal
from airflow_provider_clusterra.api.errors import ClusterraError
from tests.support.recorded import FOLDER, answer, read

FILES = [path for path in sorted(FOLDER.rglob("*.json")) if path.parent.name[0].isdigit()]
READERS = {
    "job/submit": calls.read_submitted,
    "jobs/state": checked(calls.read_states),
    "nodes": checked(cluster.read_nodes),
    "diag": checked(cluster.read_stats),
    "job": calls.read_jobs,
    "jobs": calls.read_jobs,
}


def recorded(path):
    """What was asked and what was answered; some recordings hold the answer alone."""
    text = path.read_text()
    try:
        request = json.loads(text).get("request")
    except json.JSONDecodeError:
        return reader_of("POST", "job/submit"), answer(text, status=500)
    if request is None:
        method = "DELETE" if "delete" in path.stem else "GET"
        return reader_of(method, "job"), read(path)
    resource = "/".join(request["path"].partition("?")[0].strip("/").split("/")[2:])
    return reader_of(request["method"], resource), read(path)


def reader_of(method, resource):
    """The reader for a request, by its path behind ``/slurm/v0.0.44/``."""
    if method == "DELETE":
        return calls.read_cancelled
    if method == "POST":
        return calls.read_submitted if resource == "job/submit" else refusal
    return READERS.get(resource) or READERS.get(resource.partition("/")[0]) or refusal


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_recorded_answer_is_read_or_refused_in_our_words(path):
    reader, said = recorded(path)
    try:
        found = reader(said)
    except ClusterraError as error:
        words = str(error)
    else:
        assert found is not None or reader is refusal
        return

    assert 10 < len(words) < 1000
    # a yes says no only to a cancel; the recordings of "-auth" have lost their status
    assert said.status >= 400 or reader is calls.read_cancelled or "-auth" in path.parent.name
