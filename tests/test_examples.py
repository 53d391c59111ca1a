"""Tests of example_dags: that each can be read, and what of them needs no Airflow."""

import runpy
import signal
import subprocess
from pathlib import Path

import pytest
from airflow.dag_processing.dagbag import DagBag

from tests.support.versions import HAS_LOOPS, NEED_LOOPS

EXAMPLES = sorted((Path(__file__).parent.parent / "example_dags").glob("*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_a_dag_of_its_files_name_with_words_at_its_head(path):
    if path.stem in NEED_LOOPS and not HAS_LOOPS:
        pytest.skip("Airflow 3.4 has loops")
    bag = DagBag(path, collect_dags=False)
    found = bag.process_file(str(path))

    assert bag.import_errors == {}
    assert [dag.dag_id for dag in found] == [path.stem]
    assert path.read_text().startswith('"""')


def test_the_checkpoint_goes_on_where_it_was_ended(tmp_path):
    script = runpy.run_path(str(EXAMPLES[0].with_name("checkpoint.py")))["SCRIPT"]
    run = {
        "args": ["bash", "-c", script],
        "env": {"CHECKPOINT": "x", "PATH": "/usr/bin:/bin"},
        "cwd": tmp_path,
        "stdout": subprocess.PIPE,
        "text": True,
    }
    with subprocess.Popen(**run) as first:
        beginning = first.stdout.readline()
        first.send_signal(signal.SIGTERM)
        end = first.stdout.read()
    second = subprocess.run(**run, check=True).stdout

    assert beginning == "beginning at step 0 of 5\n"
    assert first.returncode == 143
    assert end.startswith("ended at step ")
    assert second.startswith(end.replace("ended", "beginning"))
    assert second.endswith("all 5 steps are done\n")
    assert list(tmp_path.iterdir()) == []
