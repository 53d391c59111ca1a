"""Tests of ``outputs=``: files of a job, found, copied and told of."""

import asyncio
import gzip
import json
import time
import zlib
from contextlib import nullcontext
from datetime import datetime, timedelta

import httpx
import msgspec
import pytest
from airflow.providers.common.compat.sdk import (
    DAG,
    AirflowException,
    AirflowFailException,
    Asset,
    AssetAlias,
    ObjectStoragePath,
    TaskDeferred,
    task_group,
)
from airflow.sdk.execution_time.context import OutletEventAccessors

from airflow_provider_clusterra.api import (
    Access,
    Client,
    ConflictError,
    InputError,
    NotFoundError,
    RequestError,
)
from airflow_provider_clusterra.hooks.clusterra import ClusterraHook
from airflow_provider_clusterra.operators import jobs
from airflow_provider_clusterra.operators.jobs import (
    ClusterraSubmitJobOperator,
    ClusterraSubmitTemplateOperator,
    OutputFile,
)
from airflow_provider_clusterra.operators.storage import (
    ClusterraDownloadFileOperator,
    ClusterraUploadFileOperator,
)
from airflow_provider_clusterra.sensors.jobs import ClusterraJobSensor
from airflow_provider_clusterra.task import fetching
from airflow_provider_clusterra.task.arguments import read_outputs, uri_of
from airflow_provider_clusterra.task.report import JobExitedError, JobResultError
from tests.support.versions import HAS_LOOPS
from tests.support.wire import Wire, http

WRITE = (
    "mkdir -p logs/deep; printf weights >model.pt; printf a >logs/a.log; printf bb >logs/deep/b.log"
)
CHECKSUM = f"crc32:{zlib.crc32(b'weights'):08x}"


@pytest.fixture
def work(connected):
    """A job's folder of its own, and what runs a job in it."""
    name = f"job-{time.time_ns()}"
    folder = connected.folder / "efs" / name
    folder.mkdir()

    def submit(script=WRITE, **fields):
        defaults = {"task_id": "task", "deferrable": False, "poll_interval": 0.05}
        defaults["working_directory"] = f"/mnt/efs/{name}"
        text = f"#!/bin/bash\n{script}\nsleep 0.05\n{fields.pop('end', '')}\n"
        return ClusterraSubmitJobOperator(**{**defaults, "script": text, **fields})

    submit.folder = folder
    return submit


def test_a_file_is_told_with_its_place_and_size(work, run):
    result = run(work(outputs={"model": "model.pt"}))

    assert result["outputs"] == {"model": {"path": f"{work.folder}/model.pt", "size": 7}}


def test_a_file_is_copied_with_its_checksum(work, run, tmp_path):
    target = tmp_path / "new" / "model.pt"
    result = run(work(outputs={"model": OutputFile("model.pt", target)}))

    assert target.read_text() == "weights"
    assert result["outputs"]["model"] == {
        "path": f"{work.folder}/model.pt",
        "size": 7,
        "checksum": CHECKSUM,
        "target": str(target),
    }
    assert json.loads(json.dumps(result)) == result


@pytest.mark.parametrize(
    ("pattern", "arrive"),
    [
        ("logs/**", ["a.log", "deep/b.log"]),
        ("logs/", ["a.log", "deep/b.log"]),
        ("**/*.log", ["logs/a.log", "logs/deep/b.log"]),
        ("logs/*.log", ["a.log"]),
    ],
)
def test_a_patterns_files_go_to_a_folder_under_their_own_names(
    work, run, tmp_path, pattern, arrive
):
    result = run(work(outputs={"logs": OutputFile(pattern, f"{tmp_path}/new/")}))

    there = sorted(each for each in (tmp_path / "new").rglob("*") if each.is_file())
    assert [str(each.relative_to(tmp_path / "new")) for each in there] == arrive
    told = result["outputs"]["logs"]
    assert (told["count"], told["size"]) == (
        len(arrive),
        sum(each.stat().st_size for each in there),
    )
    assert [each["target"] for each in told["files"]] == list(map(str, there))


def test_the_result_names_the_first_hundred_of_many_files(work, run):
    result = run(work("for i in $(seq 300); do echo >$i; done", outputs={"all": "*"}))

    told = result["outputs"]["all"]
    assert (told["count"], len(told["files"])) == (300, 100)


def test_the_rows_of_all_outputs_together_have_few_bytes(work, run):
    script = "mkdir d; for i in $(seq 200); do echo >d/$i-$(printf %0200d 0); done"
    result = run(work(script, outputs={"a": "d/", "b": "d/*", "c": "**"}))

    told = result["outputs"]
    assert [each["count"] for each in told.values()] == [200, 200, 200]
    assert all(10 < len(each["files"]) < 50 for each in told.values())
    assert len(json.dumps(told)) < 20_000


NAMES = ["a b", "ü", "100%", "a#b", "a?b=c", "a+b&c", "a[1]", "-rf", "a*b"]
WIDE = ["a\u3000b", "a\xa0b", "\U0001f469\u200d\U0001f52c", "\u7814" * 85]


@pytest.mark.parametrize("name", [*NAMES, *WIDE], ids=ascii)
def test_a_file_may_have_any_name(work, run, tmp_path, name):
    script = f"{WRITE}; touch 'a b'; printf weights >'./{name}'"
    result = run(work(script, outputs={"one": OutputFile(name, tmp_path / name)}))

    assert (tmp_path / name).read_text() == "weights"
    assert result["outputs"]["one"]["path"] == f"{work.folder}/{name}"


def test_an_empty_file_is_copied_too(work, run, tmp_path):
    result = run(work("touch empty", outputs={"one": OutputFile("empty", tmp_path / "e")}))

    assert (result["outputs"]["one"]["size"], (tmp_path / "e").read_bytes()) == (0, b"")


@pytest.mark.parametrize("path", ["other.pt", "logs/other.pt", "*.onnx", "gone/"])
def test_a_missing_file_fails_the_task_for_good_and_what_is_there_is_named(work, run, ti, path):
    with pytest.raises(JobResultError, match=r"There is: .*(model\.pt|a\.log)") as caught:
        run(work(outputs={"model": path}))

    assert isinstance(caught.value, AirflowFailException)
    assert f"outputs: model: {path} is not in {work.folder}" in str(caught.value)
    assert ti.pushed["job"]["state"] == "COMPLETED"
    assert ti.pushed["job"]["usage"]


def test_a_link_is_not_given_and_it_is_said_why(work, run):
    with pytest.raises(JobResultError, match="symbolic links are not followed"):
        run(work("ln -s /etc/passwd model.pt", outputs={"model": "model.pt"}))


def test_the_error_of_an_empty_folder_says_so(work, run):
    with pytest.raises(JobResultError, match=r"The folder has no files\."):
        run(work("", outputs={"model": "model.pt"}, job={"standard_output": "/dev/null"}))


def test_a_job_whose_folder_is_elsewhere_is_refused_before_the_submit(work, run, ti, tmp_path):
    with pytest.raises(AirflowFailException, match="is not in the folder that the cluster's jobs"):
        run(work(outputs={"model": "model.pt"}, working_directory=str(tmp_path)))

    assert "job_id" not in ti.pushed


def test_a_path_elsewhere_is_refused_before_the_submit(work, run, ti):
    with pytest.raises(AirflowFailException, match=r"/scratch/model\.pt is not in the folder"):
        run(work(outputs={"model": "/scratch/model.pt"}))

    assert "job_id" not in ti.pushed


def test_the_shared_folder_may_be_named_as_the_cluster_names_it(work, run):
    fields = {"outputs": {"model": f"{work.folder}/model.pt"}, "working_directory": work.folder}

    assert run(work(**fields))["outputs"]["model"]["size"] == 7


@pytest.fixture
def bring(work, run, connected, ti):
    """Brings a job's files as if the job had begun so many seconds after it had written them."""
    with ClusterraHook().client() as client:

        def bringing(outputs, began):
            result = run(work())
            started = datetime.fromisoformat(result["ended_at"]) + timedelta(seconds=began)
            later = {**result, "started_at": started.isoformat()}
            context = {"ti": ti}
            outputs = read_outputs("outputs", outputs)
            return fetching.JobOutputs(outputs, client, connected.cluster_id, context).bring(later)

        yield bringing


@pytest.mark.parametrize("path", ["model.pt", "*.pt"])
def test_a_file_that_was_there_before_the_job_is_no_output_of_it(bring, path):
    with pytest.raises(JobResultError, match="was there before the job, which has not written it"):
        bring({"model": path}, 3600)


def test_the_clocks_of_cluster_and_storage_may_differ(bring):
    assert bring({"model": "model.pt"}, 30)["outputs"]["model"]["size"] == 7


def test_a_file_of_an_earlier_try_is_an_output_of_the_task(bring, ti):
    ti.try_number = 2

    assert bring({"model": "model.pt"}, 3600)["outputs"]["model"]["size"] == 7


def test_nothing_is_brought_of_a_job_that_failed(work, run, ti, tmp_path):
    with pytest.raises(JobExitedError):
        run(work(outputs={"model": OutputFile("model.pt", tmp_path / "m")}, end="exit 3"))

    assert not (tmp_path / "m").exists()
    assert "outputs" not in ti.pushed["job"]


def test_what_is_there_of_a_job_that_failed_is_brought_if_that_is_asked_for(
    work, run, ti, tmp_path, caplog
):
    wanted = {"model": OutputFile("model.pt", tmp_path / "m"), "other": "other.pt"}
    with pytest.raises(JobExitedError):
        run(work(outputs=wanted, outputs_on_failure=True, end="exit 3"))

    assert (tmp_path / "m").read_text() == "weights"
    assert ti.pushed["job"]["outputs"]["model"]["checksum"] == CHECKSUM
    assert "output other is not brought" in caplog.text


def test_a_retry_of_a_task_that_could_not_copy_runs_no_job_again(
    work, run, ti, tmp_path, monkeypatch
):
    def broken(*_):
        raise AirflowException("no space left")

    outputs = {"model": OutputFile("model.pt", tmp_path / "m")}
    with monkeypatch.context() as patch:
        patch.setattr(fetching.transfers, "download_all", broken)
        with pytest.raises(AirflowException, match="no space left"):
            run(work(outputs=outputs))
    first = ti.pushed["job_id"]
    ti.try_number = 2
    result = run(work(outputs=outputs))

    assert result["job_id"] == first
    assert (tmp_path / "m").read_text() == "weights"


def test_a_retry_waits_for_its_job_whatever_the_target_says(work, run, ti, tmp_path):
    """The worker died while the job ran, and a store's hiccup is no reason to leave it alone."""
    outputs = {"model": OutputFile("model.pt", tmp_path / "to" / "m")}
    with pytest.raises(TaskDeferred):
        run(work(f"sleep 0.5; {WRITE}", outputs=outputs, deferrable=True))
    first = ti.pushed["job_id"]
    (tmp_path / "to").touch()
    ti.try_number = 2
    with pytest.raises(AirflowException, match="cannot be written") as caught:
        run(work(f"sleep 0.5; {WRITE}", outputs=outputs))
    assert not isinstance(caught.value, AirflowFailException)

    (tmp_path / "to").unlink()
    ti.try_number = 3
    assert run(work(f"sleep 0.5; {WRITE}", outputs=outputs))["job_id"] == first


@pytest.mark.parametrize(
    ("error", "for_good"),
    [
        (RequestError("401", status=401, in_own_words=True), False),
        (NotFoundError("404 of a gateway", status=404), False),
        (ConflictError("409 of a gateway", status=409), False),
        (ConflictError("not in the shared folder", status=409, in_own_words=True), True),
    ],
    ids=str,
)
def test_what_a_retry_can_heal_is_no_end_of_a_job_that_succeeded(
    work, run, mocker, error, for_good
):
    mocker.patch.object(Client, "list_files", side_effect=error)
    with pytest.raises(AirflowException, match=str(error)) as caught:
        run(work(outputs={"model": "model.pt"}))

    assert isinstance(caught.value, AirflowFailException) is for_good


@pytest.mark.parametrize(
    ("outputs", "words"),
    [
        ({"m": "../x"}, "no file in the job's folder"),
        ({"m": ""}, "no file in the job's folder"),
        ({"m": 5}, "takes a path, an OutputFile or an Asset"),
        ({"m": OutputFile()}, "takes a path, an OutputFile or an Asset"),
        ({"m": OutputFile("a", "/x", "no asset")}, "give an Asset"),
        (5, "it takes a dict"),
    ],
    ids=repr,
)
def test_what_cannot_be_meant_is_refused_when_the_dag_is_read(work, outputs, words):
    with pytest.raises(InputError, match=words):
        work(outputs=outputs)


def test_outputs_of_a_job_that_is_not_waited_for_are_refused(work):
    with pytest.raises(InputError, match="outputs are there once the job has ended"):
        work(outputs={"m": "m"}, wait_for_completion=False)


@pytest.mark.parametrize(
    ("outputs", "words"),
    [
        ({"m": OutputFile(target="/x/m")}, "m has no path"),
        ({"m": OutputFile(asset=AssetAlias("m"))}, "m has no path"),
        ({"m": OutputFile(asset=Asset("s3://bucket/"))}, "m has no path"),
        ({"m": OutputFile("m", "{tmp}/file/m")}, "file is a file"),
        ({"m": OutputFile("m", "")}, "The target is empty"),
        ({"m": OutputFile("m", "ftpx://a/b")}, "cannot be written"),
        ({"m": OutputFile("m", "{tmp}/m"), "n": OutputFile("n", "{tmp}/m")}, "both be written to"),
        ({"m": OutputFile("m", "{tmp}/"), "n": OutputFile("a/m", "{tmp}/")}, "be written to .*/m"),
    ],
    ids=repr,
)
def test_what_cannot_be_brought_is_refused_before_the_submit(
    work, run, ti, tmp_path, outputs, words
):
    (tmp_path / "file").touch()
    outputs = {
        name: file._replace(target=file.target and file.target.format(tmp=tmp_path))
        for name, file in outputs.items()
    }
    with pytest.raises(AirflowFailException, match=words):
        run(work(outputs=outputs))

    assert "job_id" not in ti.pushed


@pytest.mark.parametrize(
    "routes",
    [http(200, {"routes": []}), http(404, {"error": "not found"})],
    ids=["none", "unknown"],
)
def test_an_api_without_files_is_told_before_the_submit(connection, work, run, routes):
    with Wire(routes) as wire:
        connection(wire.url, "s3cret-cookie", "c1")
        with pytest.raises(
            AirflowFailException, match="this API does not give out the files of a job"
        ):
            run(work(outputs={"m": "m"}))

        assert [each.split()[1] for each in wire.requests] == [b"/v1/api-routes"]


KEYS = {
    "method": "POST",
    "path": "/v1/clusters/{cluster_id}/storage/{key}/download-url",
    "name": "download",
}


@pytest.mark.parametrize(
    ("file", "offered"), [(OutputFile(target="/srv/x"), True), (OutputFile("x", "/srv/x"), False)]
)
def test_an_api_that_gives_files_of_the_storage_brings_declared_artifacts(file, offered):
    refused = nullcontext() if offered else pytest.raises(InputError, match="does not give out")
    wire = Wire(http(200, {"routes": [KEYS]}))
    with wire, Client(Access(wire.url, "s")) as client, refused:
        fetching.check_outputs(
            client, {"m": file}, ClusterraJobSensor(task_id="t", job_id=1), ["m"]
        )


def test_that_another_task_of_the_dag_writes_the_same_place_is_told(work, run, tmp_path, caplog):
    outputs = {"m": OutputFile("model.pt", str(tmp_path / "m"))}
    with DAG("dag", schedule=None):
        first = work(task_id="first", outputs=outputs)
        work(task_id="second", outputs=outputs)
    run(first)

    assert f"Task second writes {tmp_path}/m, too: the last one wins." in caplog.text


MAPPED = "All mapped instances of this task write {}: the last one wins."


@pytest.mark.parametrize(
    ("target", "collide"),
    [
        ("{tmp}/m", True),
        ("{tmp}/{{{{ ds }}}}", True),
        ("{tmp}/{{{{ ti.map_index }}}}", False),
        ("{tmp}/{{{{ task.name }}}}", False),
        ("{tmp}/", True),
        ("{tmp}", True),
    ],
)
def test_mapped_instances_that_write_one_place_are_told_of(
    connected, work, run, tmp_path, caplog, target, collide
):
    target = target.format(tmp=tmp_path)
    fields = {"deferrable": False, "poll_interval": 0.05, "script": f"#!/bin/sh\n{WRITE}\n"}
    with DAG("dag", schedule=None) as dag:
        ClusterraSubmitJobOperator.partial(
            task_id="each",
            outputs={"m": OutputFile("model.pt", target)},
            working_directory=work().working_directory,
            **fields,
        ).expand(name=["a", "b"])
    one = dag.get_task("each").unmap({"name": "a"})
    one.outputs = {"m": OutputFile("model.pt", str(tmp_path / "rendered"))}
    run(one)

    place = f"{tmp_path}/model.pt" if target in (str(tmp_path), f"{tmp_path}/") else target
    assert (MAPPED.format(place) in caplog.text) is collide
    assert ("the last one wins" in caplog.text) is collide


@pytest.mark.parametrize(
    ("target", "collide"),
    [
        ("{tmp}/m", True),
        ("{tmp}/{{{{ ti.map_index }}}}", False),
        ("{tmp}/", False),
        (None, False),
    ],
)
def test_mapped_downloads_to_one_place_are_told_of(work, run, tmp_path, caplog, target, collide):
    result, target = run(work()), target and target.format(tmp=tmp_path)
    with DAG("dag", schedule=None) as dag:
        each = ClusterraDownloadFileOperator.partial(
            task_id="each", path="model.pt", **({"target": target} if target else {})
        )
        mapped = {"job_id": [result]} | ({} if target else {"target": ["/a", "/b"]})
        each.expand(**mapped)
    one = dag.get_task("each").unmap({"job_id": result, "target": f"{tmp_path}/rendered"})
    one.target = f"{tmp_path}/rendered"
    run(one)

    words = f"{MAPPED.format(target)} Put {{{{ ti.map_index }}}} into its name"
    assert (words in caplog.text) is collide


def test_mapped_downloads_of_many_files_go_to_one_folder(work, run, tmp_path, caplog):
    result = run(work())
    with DAG("dag", schedule=None) as dag:
        ClusterraDownloadFileOperator.partial(
            task_id="each", path="logs/", target=f"{tmp_path}/logs"
        ).expand(job_id=[result])
    run(dag.get_task("each").unmap({"job_id": result}))

    assert "the last one wins" not in caplog.text


@pytest.mark.parametrize("target", ["{tmp}", "{{{{ params.folder }}}}"])
def test_mapped_downloads_into_a_folder_that_exists_are_not_warned_of(
    work, run, tmp_path, caplog, target
):
    result = run(work())
    with DAG("dag", schedule=None) as dag:
        ClusterraDownloadFileOperator.partial(
            task_id="each", job_id=result, target=target.format(tmp=tmp_path)
        ).expand(path=["model.pt", "logs/a.log"])
    one = dag.get_task("each").unmap({"path": "model.pt"})
    one.target = str(tmp_path)
    run(one)

    assert "the last one wins" not in caplog.text
    assert (tmp_path / "model.pt").read_text() == "weights"


def test_a_group_that_is_mapped_over_its_targets_is_not_warned_of(caplog):
    with DAG("dag", schedule=None) as dag:

        @task_group
        def group(target):
            download(key="k", target=target)
            ClusterraSubmitJobOperator(
                task_id="submit", script="#!/bin/sh\n", outputs={"m": OutputFile("m", target)}
            )

        group.expand(target=["/a", "/b"])
    for each in dag.tasks:
        fetching.warn_of_overwriting(each, {"/a"})

    assert caplog.text == ""


@pytest.mark.parametrize(
    ("path", "other", "target"),
    [
        ("model.pt", "logs/a.log", "{tmp}"),
        ("model.pt", "logs/a.log", "{tmp}/"),
        ("logs/*.log", "logs/deep/", "{tmp}/new"),
    ],
)
def test_outputs_that_go_into_one_folder_do_not_collide(
    work, run, tmp_path, caplog, path, other, target
):
    target = target.format(tmp=tmp_path)
    outputs = {"m": OutputFile(path, target), "n": OutputFile(other, target)}
    with DAG("dag", schedule=None):
        first = work(task_id="first", outputs=outputs)
        work(task_id="second", outputs={"x": OutputFile("model-%j.pt", target)})
        download(task_id="third", job_id=1, path="{{ params.path }}", target=target)
        download(task_id="fourth", key="k", target=target)
    run(first)

    assert "the last one wins" not in caplog.text
    assert len([each for each in tmp_path.rglob("*") if each.is_file()]) == 2


@pytest.mark.parametrize("target", ["{tmp}/model.pt", "{tmp}/"])
def test_a_download_to_the_place_of_another_tasks_output_is_told_of(
    work, run, tmp_path, caplog, target
):
    place = f"{tmp_path}/model.pt"
    with DAG("dag", schedule=None):
        first = work(task_id="first", outputs={"m": OutputFile("model.pt", place)})
        download(task_id="second", job_id=1, path="a/model.pt", target=target.format(tmp=tmp_path))
    run(first)

    assert f"Task second writes {place}, too: the last one wins." in caplog.text


LOOPED = "All iterations of this task write {}: the last one wins. Put {{{{ loop.index }}}} into its name"


@pytest.mark.skipif(not HAS_LOOPS, reason="Airflow 3.4 has loops")
@pytest.mark.parametrize(
    ("target", "collide"),
    [("{tmp}/m", True), ("{tmp}/{{{{ loop.index }}}}", False)],
)
def test_iterations_that_write_one_place_are_told_of(work, run, tmp_path, caplog, target, collide):
    target = target.format(tmp=tmp_path)
    result = run(work())
    with DAG("dag", schedule=None) as dag:

        @task_group
        def steps():
            each = work(task_id="each", name="n", outputs={"m": OutputFile("model.pt", target)})
            each >> download(task_id="get", job_id=result, path="model.pt", target=target)

        steps.loop(max_iterations=2, until=lambda loop: True)
    for name in ("steps.each", "steps.get"):
        caplog.clear()
        one = dag.get_task(name).prepare_for_execution()
        one.outputs = {"m": OutputFile("model.pt", str(tmp_path / "rendered"))}
        one.target = str(tmp_path / "rendered")
        run(one)

        assert (LOOPED.format(target) in caplog.text) is collide


def test_outputs_are_templated(work, tmp_path):
    operator = work(outputs={"m": OutputFile("{{ ds }}.pt", "{{ params.to }}/{{ ds }}.pt")})
    operator.render_template_fields({"ds": "2026-01-01", "params": {"to": str(tmp_path)}})

    assert operator.outputs == {"m": OutputFile("2026-01-01.pt", f"{tmp_path}/2026-01-01.pt")}


@pytest.fixture
def events():
    """What Airflow makes events of, once a task has succeeded."""
    return OutletEventAccessors()


@pytest.fixture
def run_with_events(ti, store, events):
    """Executes an operator whose assets are looked at."""
    context = {"ti": ti, "task_state_store": store, "outlet_events": events}
    return lambda operator: operator.execute(context)


def test_an_assets_uri_is_the_target_and_its_event_holds_what_there_is(
    work, run_with_events, events, ti, tmp_path
):
    asset = Asset(f"file://{tmp_path}/model.pt")
    task = work(outputs={"model": OutputFile("model.pt", asset=asset)})
    result = run_with_events(task)

    assert task.outlets == [asset]
    assert (tmp_path / "model.pt").read_text() == "weights"
    assert events[asset].extra == {
        "path": f"{work.folder}/model.pt",
        "size": 7,
        "checksum": CHECKSUM,
        "target": f"{tmp_path}/model.pt",
        "job_id": ti.pushed["job_id"],
        "usage": result["usage"],
    }


def test_an_asset_alone_is_the_file_of_its_last_part_and_its_own_target(
    work, run_with_events, events, tmp_path
):
    asset = Asset("the_model", uri=f"file://{tmp_path}/models/model.pt")
    task = work(outputs={"model": asset})
    result = run_with_events(task)

    assert task.outlets == [asset]
    assert result["outputs"]["model"]["path"] == f"{work.folder}/model.pt"
    assert (tmp_path / "models/model.pt").read_text() == "weights"
    assert events[asset].extra["checksum"] == CHECKSUM


def test_an_asset_without_a_place_has_an_event_and_no_copy(work, run_with_events, events):
    result = run_with_events(work(outputs={"model": Asset("model.pt")}))

    assert "target" not in result["outputs"]["model"]
    assert events[Asset("model.pt")].extra["size"] == 7


def test_an_alias_of_thousands_of_files_is_refused_before_any_is_copied(work, run, tmp_path):
    script = "mkdir many; cd many; seq -w 1001 | xargs touch"
    outputs = {"m": OutputFile("many/", f"{tmp_path}/to/", AssetAlias("m"))}
    with pytest.raises(JobResultError, match="m means 1001 files, and an AssetAlias has an event"):
        run(work(script, outputs=outputs))

    assert not (tmp_path / "to").exists()


@pytest.fixture
def declared(ti, events):
    """Brings what a template declares, of an API that says these files are in the job's folder."""

    def bringing(path, files, outputs):
        alias = AssetAlias("m")
        listed = {"folder": "/mnt/efs", "files": [{"path": file, "size": 1} for file in files]}
        wire = Wire(http(200, {"routes": [KEYS], **listed}))
        with wire, Client(Access(wire.url, "s3cret-cookie")) as client:
            found = fetching.JobOutputs(
                {"m": OutputFile(asset=alias, **outputs)},
                *(client, "c1", {"ti": ti, "outlet_events": events}, [alias]),
                artifacts=lambda _: {"m": path},
            ).bring({"job_id": 7})
        return found["outputs"]["m"], events[alias].asset_alias_events

    return bringing


def test_an_alias_of_thousands_of_declared_files_is_refused_too(declared, tmp_path):
    with pytest.raises(JobResultError, match="m means 1001 files, and an AssetAlias has an event"):
        declared("out/", [f"out/{n}" for n in range(1001)], {"target": f"{tmp_path}/to/"})

    assert not (tmp_path / "to").exists()


def test_an_alias_of_a_key_of_the_storage_names_the_cluster(declared):
    row, (event,) = declared("data/me/x", [], {})

    assert row == {"path": "data/me/x"}
    assert event.dest_asset_key.uri == "clusterra://c1/data/me/x"


@pytest.mark.parametrize("kind", [ClusterraSubmitJobOperator, ClusterraJobSensor])
def test_outlets_of_the_dags_defaults_stay_beside_an_outputs_asset(kind):
    mine, others = Asset("mine"), Asset("others")
    fields = {"script": "true"} if kind is ClusterraSubmitJobOperator else {"job_id": 1}
    with DAG("outlets", schedule=None, default_args={"outlets": [others]}):
        task = kind(task_id="task", outputs={"m": mine}, **fields)

    assert task.outlets == [others, mine]


def test_a_plain_tuples_asset_is_an_outlet_too(work, tmp_path):
    asset = Asset(f"file://{tmp_path}/m")

    assert work(outputs={"model": ("model.pt", None, asset)}).outlets == [asset]


@pytest.mark.parametrize("target", ["file://{tmp}/m", "{tmp}/m"])
@pytest.mark.parametrize("uri", ["model", "file://{tmp}/m"])
def test_an_outlet_is_an_output_by_its_name_or_its_place(
    work, run_with_events, events, tmp_path, uri, target
):
    asset = Asset(uri.format(tmp=tmp_path))
    outputs = {"model": OutputFile("model.pt", target.format(tmp=tmp_path))}
    task = work(outlets=[asset, Asset("other")], outputs=outputs)
    run_with_events(task)

    assert events[asset].extra["checksum"] == CHECKSUM
    assert events[Asset("other")].extra == {}
    assert task.outlets == [asset, Asset("other")]


@pytest.mark.parametrize(
    ("place", "uri"),
    [
        ("s3://models@bucket/m.pt", "s3://bucket/m.pt"),
        ("s3://bucket/a@b/", "s3://bucket/a@b"),
        ("/srv/m.pt", "file:///srv/m.pt"),
        ("file:///srv/m.pt", "file:///srv/m.pt"),
    ],
)
def test_an_asset_does_not_name_the_connection_that_leads_to_it(place, uri):
    asset = Asset("other_name", uri=uri)

    assert uri_of(place) == uri
    assert OutputFile("m", place).means("model", asset)


def test_an_alias_has_an_event_for_each_file(work, run_with_events, events, tmp_path):
    alias = AssetAlias("logs")
    run_with_events(work(outputs={"logs": OutputFile("logs/", f"{tmp_path}/", alias)}))

    made = events[alias].asset_alias_events
    assert [each.dest_asset_key.uri for each in made] == [
        f"file://{tmp_path}/a.log",
        f"file://{tmp_path}/deep/b.log",
    ]
    assert [each.extra["size"] for each in made] == [1, 2]


def test_a_deferred_tasks_files_are_brought_by_the_task_that_goes_on(
    work, ti, store, events, tmp_path
):
    asset = Asset(f"file://{tmp_path}/model.pt")
    fields = {"outputs": {"model": OutputFile("model.pt", asset=asset)}, "deferrable": True}
    context = {"ti": ti, "task_state_store": store, "outlet_events": events}
    with pytest.raises(TaskDeferred) as deferred:
        work("sleep 0.3; printf weights >model.pt", **fields).execute(context)
    event = next(iter(_events(deferred.value.trigger)))
    result = work("", **fields).execute_complete(context, event)

    assert result["outputs"]["model"]["checksum"] == CHECKSUM
    assert events[asset].extra["checksum"] == CHECKSUM


def _events(trigger):
    async def first():
        return [event.payload async for event in trigger.run()]

    return asyncio.run(first())


def test_a_sensor_brings_the_files_of_a_job_that_something_else_submitted(work, run, ti, tmp_path):
    job_id = run(work())["job_id"]
    wanted = {"model": OutputFile("model.pt", tmp_path / "m")}
    sensor = ClusterraJobSensor(task_id="wait", job_id=job_id, poke_interval=0.1, outputs=wanted)
    result = run(sensor)

    assert result["outputs"]["model"]["checksum"] == CHECKSUM
    assert (tmp_path / "m").read_text() == "weights"


@pytest.fixture
def count(connected, tmp_path):
    """Runs the template that counts words, and declares the file with the counts."""
    (tmp_path / "text").write_text("a b b\n")

    def counting(**fields):
        return ClusterraSubmitTemplateOperator(
            task_id="count",
            template_id="word-count",
            uploads={"text_file": str(tmp_path / "text")},
            poll_interval=0.05,
            **{"deferrable": False, **fields},
        )

    return counting


def test_a_templates_artifacts_are_found_by_themselves(count, run):
    result = run(count())

    assert list(result["outputs"]) == ["counts"]
    assert result["outputs"]["counts"]["size"] > 5


def test_a_templates_artifact_is_copied_by_its_name_alone(count, run, tmp_path):
    result = run(count(outputs={"counts": OutputFile(target=tmp_path / "counts")}))

    assert (tmp_path / "counts").read_text().split() == ["2", "b", "1", "a"]
    assert result["outputs"]["counts"]["target"] == f"{tmp_path}/counts"


def test_an_asset_alone_is_the_artifact_that_the_template_declares_under_its_key(
    count, run, tmp_path
):
    result = run(count(outputs={"counts": Asset(f"file://{tmp_path}/other-name")}))

    assert (tmp_path / "other-name").read_text().split() == ["2", "b", "1", "a"]
    assert result["outputs"]["counts"]["target"] == f"{tmp_path}/other-name"


def test_an_artifact_whose_place_is_not_known_is_missing_and_no_other_file_is_taken(
    count, run, tmp_path, mocker
):
    mocker.patch.object(ClusterraSubmitTemplateOperator, "_find_artifacts", return_value={})
    with pytest.raises(JobResultError, match="outputs: counts: where it is, is not known"):
        run(count(outputs={"counts": OutputFile(target=tmp_path / "counts")}))

    assert not (tmp_path / "counts").exists()


def test_an_artifact_that_is_named_by_an_upload_is_found_after_the_deferral(
    count, ti, store, tmp_path, mocker
):
    find, place = jobs.find_template, "{{.inputs.text_file}}"
    declare = lambda found: found and msgspec.structs.replace(found, artifacts={"text": place})  # noqa: E731
    mocker.patch.object(jobs, "find_template", lambda *given: tuple(map(declare, find(*given))))
    fields = {"outputs": {"text": OutputFile(target=tmp_path / "back")}, "deferrable": True}
    context = {"ti": ti, "task_state_store": store}
    with pytest.raises(TaskDeferred) as deferred:
        count(**fields).execute(context)
    event = next(iter(_events(deferred.value.trigger)))
    result = count(**fields).execute_complete(context, event, **deferred.value.kwargs)

    assert (tmp_path / "back").read_text() == "a b b\n"
    assert result["outputs"]["text"]["path"].startswith("data/")


def test_what_a_template_does_not_declare_needs_a_path(count, run):
    with pytest.raises(AirflowFailException, match="cuonts has no path: give one"):
        run(count(outputs={"cuonts": OutputFile(target="/srv/x")}))


def download(task_id="task", **fields):
    return ClusterraDownloadFileOperator(task_id=task_id, **fields)


def test_an_upload_is_downloaded_again(connected, run, tmp_path):
    (tmp_path / "in.txt").write_text("weights")
    key = run(ClusterraUploadFileOperator(task_id="up", source=tmp_path / "in.txt"))
    row = run(download(key=key, target=tmp_path / "out.txt"))

    assert (tmp_path / "out.txt").read_text() == "weights"
    assert row == {"path": key, "size": 7, "checksum": CHECKSUM, "target": f"{tmp_path}/out.txt"}


@pytest.fixture
def store_encoded(connected):
    """Stores a compressed file as ``aws s3 cp --content-encoding`` does; returns its key."""

    def storing(name, encoding):
        with Client(Access(connected.url, connected.token)) as client:
            grant = client.presign_upload(connected.cluster_id, name, "data")
        put = httpx.put(
            grant.upload_url, content=COMPRESSED, headers={"Content-Encoding": encoding}
        )
        assert put.is_success
        return grant.key

    return storing


COMPRESSED = gzip.compress(b"1,2\n" * 100)


def test_a_file_that_is_stored_with_an_encoding_is_copied_as_it_is_stored(
    store_encoded, run, tmp_path, caplog
):
    encodings = {"1.csv": "gzip", "2.csv": "gzip", "3.csv": "aws-chunked", "4.csv": "Identity"}
    keys = [store_encoded(name, encoding) for name, encoding in encodings.items()]
    result = run(download(key=keys, target=f"{tmp_path}/"))

    assert (tmp_path / "1.csv").read_bytes() == COMPRESSED
    assert result["files"][0]["size"] == len(COMPRESSED)
    assert [each.getMessage() for each in caplog.records if each.levelname == "WARNING"] == [
        "2 of 4 files came with Content-Encoding gzip, e.g. data/you/1.csv. They are copied as they "
        "came, and not decoded."
    ]


def test_many_keys_go_to_a_folder(connected, run, tmp_path):
    for name in ("1.dat", "2.dat"):
        (tmp_path / name).write_text(name)
    keys = run(ClusterraUploadFileOperator(task_id="up", source=f"{tmp_path}/*.dat"))
    many = run(download(key=keys, target=ObjectStoragePath(f"file://{tmp_path}/new/")))

    assert (many["count"], many["size"]) == (2, 10)
    assert [row["target"] for row in many["files"]] == [
        f"{tmp_path}/new/1.dat",
        f"{tmp_path}/new/2.dat",
    ]
    assert (tmp_path / "new/2.dat").read_text() == "2.dat"


def test_files_of_a_job_are_downloaded_by_its_result(work, run_with_events, events, run, tmp_path):
    result = run(work())
    asset = Asset("model", uri=f"{tmp_path}/model.pt")
    one = download(job_id=result, path="model.pt", target=f"{tmp_path}/", outlets=[asset])
    row = run_with_events(one)

    assert row["target"] == f"{tmp_path}/model.pt"
    many = run(download(job_id=result, path="logs/", target=f"{tmp_path}/l"))
    assert [row["size"] for row in many["files"]] == [1, 2]


def test_a_downloads_assets_and_aliases_have_events_as_those_of_outputs(
    work, run_with_events, events, run, tmp_path
):
    job_id = run(work())["job_id"]
    alias, folder = AssetAlias("logs"), Asset(f"file://{tmp_path}")
    file = Asset("deep", uri=f"file://{tmp_path}/deep/b.log")
    outlets = [alias, folder, file, Asset("other")]
    run_with_events(download(job_id=job_id, path="logs/", target=f"{tmp_path}/", outlets=outlets))

    made = events[alias].asset_alias_events
    assert [
        (each.dest_asset_key.uri, each.extra["size"], each.extra["job_id"]) for each in made
    ] == [
        (f"file://{tmp_path}/a.log", 1, job_id),
        (f"file://{tmp_path}/deep/b.log", 2, job_id),
    ]
    assert events[folder].extra == {"count": 2, "size": 3, "job_id": job_id}
    assert events[file].extra == made[1].extra
    assert events[Asset("other")].extra == {}


def test_an_uploads_copy_has_an_event_for_an_alias_without_a_job(
    connected, run, run_with_events, events, tmp_path
):
    (tmp_path / "in.txt").write_text("weights")
    key = run(ClusterraUploadFileOperator(task_id="up", source=tmp_path / "in.txt"))
    alias = AssetAlias("copies")
    row = run_with_events(download(key=key, target=tmp_path / "out.txt", outlets=[alias]))

    (event,) = events[alias].asset_alias_events
    assert (event.dest_asset_key.uri, event.extra) == (f"file://{tmp_path}/out.txt", row)


def test_an_alias_of_thousands_of_downloads_is_refused_before_any_is_copied(work, run, tmp_path):
    result = run(work("mkdir many; cd many; seq -w 1001 | xargs touch"))
    fields = {"path": "many/", "target": f"{tmp_path}/to/", "outlets": [AssetAlias("m")]}
    with pytest.raises(
        JobResultError, match="path means 1001 files, and an AssetAlias has an event"
    ):
        run(download(job_id=result, **fields))

    assert not (tmp_path / "to").exists()


def test_a_download_of_many_files_returns_few_bytes(work, run, tmp_path):
    result = run(work("seq 300 | xargs touch"))
    many = run(download(job_id=result, path="*", target=f"{tmp_path}/to"))

    assert many["count"] == len(list((tmp_path / "to").iterdir())) == 300
    assert len(json.dumps(many)) < 20_000


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"key": "data/you/gone"}, "404"),
        ({"key": "data/someone/x"}, "belongs to another user"),
        ({"key": "x"}, "is no file's"),
        ({"key": []}, "There is nothing to download"),
        ({"job_id": 999_999, "path": "x"}, "there is no job"),
        ({"job_id": 1, "path": ""}, "path: where it is, is not known: its path is ''"),
        ({"job_id": 1, "path": "./"}, "where it is, is not known"),
    ],
    ids=repr,
)
def test_what_cannot_be_downloaded_fails_the_task_for_good(connected, run, tmp_path, fields, words):
    with pytest.raises(AirflowFailException, match=words):
        run(download(target=tmp_path / "x", **fields))

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fields", [{}, {"key": "k", "job_id": 1}, {"job_id": 1}, {"path": "x"}])
def test_a_download_is_of_keys_or_of_a_jobs_files(fields):
    with pytest.raises(InputError, match="Give key, or job_id and path"):
        download(target="/x", **fields)
