"""Tests of airflow_provider_clusterra.task.lineage, with OpenLineage's own provider."""

import json
import subprocess
import sys
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_clusterra.decorators.jobs import ClusterraDecoratedOperator
from airflow_provider_clusterra.operators.storage import (
    ClusterraDownloadFileOperator,
    ClusterraUploadFileOperator,
)
from airflow_provider_clusterra.sensors.jobs import ClusterraJobSensor
from airflow_provider_clusterra.task.lineage import is_parent_wanted, parent_variables
from airflow_provider_clusterra.task.report import JobError
from tests.operators.test_jobs import submit

pytest.importorskip("airflow.providers.openlineage")


def emitted(tmp_path, task, *, failed=False):
    """The event that OpenLineage's provider writes of a task, through its own file transport."""
    from airflow.providers.openlineage.extractors import ExtractorManager  # noqa: PLC0415
    from airflow.providers.openlineage.plugins.adapter import OpenLineageAdapter  # noqa: PLC0415
    from airflow.utils.state import TaskInstanceState  # noqa: PLC0415
    from openlineage.client import OpenLineageClient  # noqa: PLC0415
    from openlineage.client.transport.file import FileConfig, FileTransport  # noqa: PLC0415

    state = TaskInstanceState.FAILED if failed else TaskInstanceState.SUCCESS
    lineage = ExtractorManager().extract_metadata(
        SimpleNamespace(run_id="run"), task, state, task_instance=SimpleNamespace()
    )
    path = tmp_path / "events.json"
    transport = FileTransport(FileConfig(log_file_path=str(path), append=True))
    adapter = OpenLineageAdapter(OpenLineageClient(transport=transport))
    adapter.complete_task(
        run_id="3f5e83fa-3480-44ff-99c5-ff943904e5e8",
        job_name="dag.task",
        end_time=datetime.now(UTC).isoformat(),
        task=lineage,
        nominal_start_time=None,
        nominal_end_time=None,
        owners=None,
        tags=None,
        job_description=None,
    )
    return json.loads(path.read_text().splitlines()[-1])


def test_a_job_its_script_and_what_it_used_are_told(connected, run, tmp_path):
    operator = submit("echo hi", name="greet", memory=100)
    result = run(operator)
    event = emitted(tmp_path, operator)
    job = event["run"]["facets"]["clusterra_job"]

    assert (job["jobId"], job["clusterId"]) == (result["job_id"], connected.cluster_id)
    assert job["name"].startswith("greet.af-")
    assert (job["state"], job["exitCode"]) == ("COMPLETED", 0)
    assert job["usage"]["memory_bytes_requested"] == 100 * 2**20
    assert event["job"]["facets"]["sourceCode"]["language"] == "bash"
    assert event["job"]["facets"]["sourceCode"]["sourceCode"] == "#!/bin/bash\necho hi\n"


def test_a_failure_is_told_with_its_words(connected, run, tmp_path):
    operator = submit("exit 3")
    with pytest.raises(JobError):
        run(operator)
    facets = emitted(tmp_path, operator, failed=True)["run"]["facets"]

    assert facets["clusterra_job"]["state"] == "FAILED"
    assert facets["clusterra_job"]["exitCode"] == 3
    assert "exit code 3" in facets["errorMessage"]["message"]


def test_a_sensors_job_is_told(connected, run, ti, tmp_path):
    job_id = run(submit("exit 0", wait_for_completion=False))["job_id"]
    sensor = ClusterraJobSensor(task_id="wait", job_id=job_id, poke_interval=0.05)
    sensor.execute({"ti": ti})
    event = emitted(tmp_path, sensor)

    assert event["run"]["facets"]["clusterra_job"]["jobId"] == job_id
    assert "sourceCode" not in event["job"]["facets"]


def test_a_job_that_is_not_waited_for_is_told(connected, run, tmp_path):
    operator = submit("exit 0", wait_for_completion=False)
    job_id = run(operator)["job_id"]

    assert emitted(tmp_path, operator)["run"]["facets"]["clusterra_job"]["jobId"] == job_id


def test_uploads_are_inputs_before_the_start(tmp_path):
    uploads = {
        "A": str(tmp_path / "a.txt"),
        "B": ObjectStoragePath("s3://aws_default@bucket/b/c.txt"),
        "C": "s3://bucket/d.txt",
    }
    lineage = submit(uploads=uploads).get_openlineage_facets_on_start()

    assert [(each.namespace, each.name) for each in lineage.inputs] == [
        ("file", str(tmp_path / "a.txt")),
        ("s3://bucket", "b/c.txt"),
        ("s3://bucket", "d.txt"),
    ]
    assert lineage.run_facets == {}


def test_the_files_of_a_job_are_outputs(tmp_path):
    task = submit()
    with task.lineage_of("c1", 9) as told:
        told["outputs"] = {
            "model": {"path": "out/m.pt", "size": 7, "target": "s3://bucket/m.pt", "checksum": "x"},
            "left": {"path": "/mnt/efs/out/l.pt"},
            "stored": {"path": "data/me/s.pt"},
            "many": {"count": 1, "size": 3, "files": [{"path": "a", "size": 3, "target": "/t/a"}]},
        }
    outputs = emitted(tmp_path, task)["outputs"]

    assert [(each["namespace"], each["name"]) for each in outputs] == [
        ("s3://bucket", "m.pt"),
        ("clusterra://c1", "9/mnt/efs/out/l.pt"),
        ("clusterra://c1", "data/me/s.pt"),
        ("file", "/t/a"),
    ]
    assert outputs[0]["outputFacets"]["outputStatistics"]["size"] == 7


def test_a_names_own_signs_are_not_taken_for_a_queries():
    lineage = submit(uploads={"A": "/x/a b?c#d%20.txt", "B": "s3://b/a b?c#d%20.txt"})
    inputs = lineage.get_openlineage_facets_on_start().inputs

    assert [each.name for each in inputs] == ["/x/a b?c#d%20.txt", "a b?c#d%20.txt"]


def test_files_that_are_moved_are_inputs_and_outputs(connected, run, tmp_path):
    (tmp_path / "in.txt").write_text("weights")
    up = ClusterraUploadFileOperator(task_id="up", source=tmp_path / "in.txt")
    key = run(up)
    down = ClusterraDownloadFileOperator(task_id="down", key=key, target=tmp_path / "out.txt")
    run(down)
    sent, back = emitted(tmp_path, up), emitted(tmp_path, down)
    stored = {"namespace": f"clusterra://{connected.cluster_id}", "name": key}

    def named(rows):
        return [{"namespace": row["namespace"], "name": row["name"]} for row in rows]

    assert named(sent["inputs"]) == [{"namespace": "file", "name": f"{tmp_path}/in.txt"}]
    assert named(sent["outputs"]) == named(back["inputs"]) == [stored]
    assert named(back["outputs"]) == [{"namespace": "file", "name": f"{tmp_path}/out.txt"}]
    assert back["outputs"][0]["outputFacets"]["outputStatistics"]["size"] == 7
    assert "clusterra_job" not in sent["run"]["facets"]


@pytest.mark.parametrize(
    ("script", "language"),
    [
        ("#!/bin/bash -l\n", "bash"),
        ("#!/usr/bin/env python3.11\n", "python"),
        ("#! /usr/bin/Rscript\n", "Rscript"),
    ],
)
def test_the_language_is_that_of_the_first_line(script, language):
    facets = submit(script).get_openlineage_facets_on_start().job_facets
    assert facets["sourceCode"].language == language


def test_a_functions_source_is_its_own():
    def work():
        return 5

    task = ClusterraDecoratedOperator(task_id="task", python_callable=work)
    code = task.get_openlineage_facets_on_start().job_facets["sourceCode"]

    assert code.language == "python"
    assert "def work():" in code.sourceCode


def test_a_path_of_a_file_is_no_source_code():
    task = ClusterraUploadFileOperator(task_id="up", source="/data/md.tpr")

    assert task.get_openlineage_facets_on_start().job_facets == {}


def test_source_code_stays_at_home_where_the_site_wants_it(monkeypatch):
    monkeypatch.setenv("AIRFLOW__OPENLINEAGE__DISABLE_SOURCE_CODE", "True")
    assert submit().get_openlineage_facets_on_start().job_facets == {}


TI = SimpleNamespace(
    dag_id="dag",
    task_id="task",
    try_number=1,
    map_index=-1,
    get_template_context=dict,
    dag_run=SimpleNamespace(
        logical_date=datetime(2026, 1, 1, tzinfo=UTC),
        run_after=datetime(2026, 1, 1, tzinfo=UTC),
        clear_number=0,
        conf={},
    ),
)


@pytest.fixture
def wanted(monkeypatch):
    """A site that wants lineage of the jobs themselves to name their tasks."""
    monkeypatch.setenv("AIRFLOW__CLUSTERRA__OPENLINEAGE_INJECT_PARENT_JOB_INFO", "True")
    is_parent_wanted.cache_clear()
    yield
    is_parent_wanted.cache_clear()


def test_a_job_is_not_told_of_its_parent_unless_the_site_wants_it():
    assert parent_variables(TI) == {}


@pytest.mark.usefixtures("wanted")
def test_a_job_is_told_of_its_parent_if_the_site_wants_it():
    found = parent_variables(TI)

    assert sorted(found) == ["OPENLINEAGE_PARENT_ID", "OPENLINEAGE_ROOT_PARENT_ID"]
    assert found["OPENLINEAGE_PARENT_ID"].startswith("default/dag.task/")
    assert found["OPENLINEAGE_ROOT_PARENT_ID"].startswith("default/dag/")


@pytest.mark.usefixtures("wanted")
def test_a_parent_that_cannot_be_named_never_fails_the_task(caplog):
    assert parent_variables(SimpleNamespace()) == {}
    assert "OpenLineage parent" in caplog.text


def test_nothing_of_openlineage_is_imported_before_it_asks():
    # Airflow itself reads what each provider declares
    program = (
        "import sys\n"
        "import airflow_provider_clusterra.decorators.jobs, airflow_provider_clusterra.sensors.jobs\n"
        "print([name for name in sys.modules if name.startswith('openlineage.') or"
        " name.startswith(('airflow.providers.openlineage.e', 'airflow.providers.openlineage.p'))])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.splitlines()[-1] == "[]"
