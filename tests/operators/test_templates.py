"""Tests of ClusterraSubmitTemplateOperator, on a real server."""

import io

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_clusterra.hooks.clusterra import ClusterraHook
from airflow_provider_clusterra.operators.jobs import ClusterraSubmitTemplateOperator
from airflow_provider_clusterra.submit.protocol import read_tag


def submit(template_id, params=None, **fields):
    defaults = {
        "task_id": "task",
        "deferrable": False,
        "poll_interval": 0.05,
        "follow_output": False,
    }
    return ClusterraSubmitTemplateOperator(
        **{**defaults, "template_id": template_id, "template_params": params, **fields}
    )


@pytest.fixture
def text_key(connected):
    """The key of an uploaded text."""
    content = b"Alpha alpha beta extraordinary"
    with ClusterraHook().client() as client:
        return client.upload_file(
            connected.cluster_id, "t.txt", "data", len(content), lambda: io.BytesIO(content)
        )


def test_a_template_runs_and_its_job_carries_the_tag(connected, run, text_key):
    result = run(submit("word-count", {"text_file": text_key}, return_output="json"))

    assert result["output"] == {"words": 4, "different": 3, "first": "alpha"}
    assert result["name"].startswith("dag.task.af-")
    assert read_tag(result["name"]) is not None


def test_the_authors_own_name_carries_the_tag_too(connected, run, text_key):
    params = {"text_file": text_key, "job_name": "mine"}

    assert run(submit("word-count", params))["name"].startswith("mine.af-")
    assert run(submit("word-count", params, durable=False))["name"] == "mine"


def test_what_jinja_has_turned_into_text_is_read_back(connected, run, text_key):
    params = {"text_file": text_key, "min_length": "5", "ignore_case": "False"}
    result = run(submit("word-count", params, return_output="json"))

    assert result["output"] == {"words": 3, "different": 3, "first": "Alpha"}


def test_a_preset_runs_as_its_parent_with_its_values(connected, run, text_key):
    result = run(submit("long-words", {"text_file": text_key}, return_output="json"))

    assert result["output"] == {"words": 1, "different": 1, "first": "extraordinary"}


def test_a_template_without_a_name_runs_and_its_job_is_not_tagged(connected, run):
    result = run(submit("estimate-pi", {"points": 10}, return_output="json"))

    assert result["name"] == "estimate-pi"
    assert 0 <= result["output"]["pi"] <= 4


@pytest.mark.parametrize(
    ("template_id", "params", "words"),
    [
        ("word-cuont", {}, "There is no template 'word-cuont'. Did you mean word-count?"),
        ("zzz", {}, "There is no template 'zzz'. There is align-reads, custom-slurm,"),
        ("", {}, "template_id is empty"),
        ("align-reads", {"reads": "x"}, "align-reads is not ready"),
        ("notebook", {}, "notebook is interactive"),
        ("word-count", {}, "text_file is missing"),
        ("estimate-pi", {"points": 0}, "points is 0, and must be 1 or more"),
        ("estimate-pi", {"point": 5}, "point is not known (did you mean points?)"),
        (
            "long-words",
            {"text_file": "x", "min_length": 2},
            "min_length is fixed by the preset at 8",
        ),
    ],
)
def test_what_cannot_run_fails_the_task_before_it_is_submitted(
    connected, run, ti, template_id, params, words
):
    with pytest.raises(AirflowFailException) as caught:
        run(submit(template_id, params))

    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert ti.pushed == {}


def test_the_values_are_rendered_wherever_they_stand():
    operator = submit("{{ which }}", {"points": "{{ n }}"}, uploads={"text_file": "{{ n }}.txt"})
    operator.render_template_fields({"which": "estimate-pi", "n": 5})

    assert operator.template_id == "estimate-pi"
    assert operator.template_params == {"points": "5"}
    assert operator.uploads == {"text_file": "5.txt"}
