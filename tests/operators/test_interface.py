"""Tests of what operators, sensor and decorator take: said, rendered, read, and used."""

import ast
import inspect

import pytest

from airflow_provider_clusterra.operators.jobs import JOB_ARGUMENTS, ClusterraSubmitJobOperator
from airflow_provider_clusterra.sbatch.job import ARGUMENTS
from airflow_provider_clusterra.triggers.jobs import SAME_ARGUMENTS
from tests.support.arguments import HEADINGS, PAGE, arguments_of, draw, meanings_of

CHOICES = {
    *("wait_for_completion", "deferrable", "follow_output", "return_output", "cancel_on_kill"),
    *("on_stuck", "on_unknown", "on_full_queue", "durable", "render_script"),
    *("array_success", "retry_failed_indices", "grow_on_retry", "max_memory", "max_time_limit"),
    *("exclude_failed_nodes", "map_over", "max_running"),
    *("tag_of_run", "python_callable", "outputs_on_failure"),
}
"""What an author decides when the DAG is written: checked then, and not templated."""
kinds = pytest.mark.parametrize("kind", HEADINGS, ids=lambda kind: kind.__name__)


@kinds
def test_each_argument_is_said_and_no_other(kind):
    assert {*meanings_of(kind)} == {name for name, _ in arguments_of(kind)}


@kinds
def test_each_argument_is_templated_or_a_choice(kind):
    names = {name for name, _ in arguments_of(kind)}

    assert names - {*kind.template_fields} <= CHOICES
    assert not CHOICES & {*kind.template_fields}


@kinds
def test_each_argument_is_used_by_more_than_its_assignment(kind):
    modules = {inspect.getmodule(each) for each in kind.__mro__ if "clusterra" in each.__module__}
    nodes = [node for each in modules for node in ast.walk(ast.parse(inspect.getsource(each)))]
    read = {
        node.attr
        for node in nodes
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
    }
    given = {node.id for node in nodes if isinstance(node, ast.Name)}
    used = read | {*JOB_ARGUMENTS, *SAME_ARGUMENTS} | (given & CHOICES)

    assert {name for name, _ in arguments_of(kind)} - used == set()


def test_each_option_of_sbatch_that_is_an_argument_is_sent_and_part_of_what_is_asked_for():
    assert {*JOB_ARGUMENTS} == {*ARGUMENTS}
    assert {*JOB_ARGUMENTS} <= {*ClusterraSubmitJobOperator.IDENTITY}


@kinds
def test_what_is_templated_has_a_reader(kind):
    texts = {"clusterra_conn_id", "cluster_id", "op_args", "op_kwargs", "python"}
    texts |= {"source", "location", "filename", "target", "key", "path"}
    readers = getattr(kind, "READERS", {})

    assert {*kind.template_fields} - {*readers} <= texts


@kinds
def test_a_default_means_the_same_read_or_not(kind):
    readers = getattr(kind, "READERS", {})
    defaults = {name: default for name, default in arguments_of(kind) if name in readers}
    given = {name: each for name, each in defaults.items() if each is not inspect.Parameter.empty}
    read = {name: readers[name](name, each) for name, each in given.items()}

    assert {name: each or None for name, each in read.items()} == {
        name: each or None for name, each in given.items()
    }


def test_the_docs_say_what_the_docstrings_say():
    assert PAGE.read_text() == draw(), "python -m tests.support.arguments draws it anew"
