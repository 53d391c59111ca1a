"""Tests of airflow_provider_clusterra.operators.storage."""

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_clusterra.operators.storage import ClusterraUploadFileOperator
from airflow_provider_clusterra.task.inputs import find_files


def upload(source, **fields):
    return ClusterraUploadFileOperator(task_id="task", source=source, **fields)


def stored(server, key):
    return (server.folder / "s3" / server.cluster_id / key).read_text()


def test_a_file_is_uploaded_and_its_key_returned(connected, run, tmp_path):
    (tmp_path / "in.txt").write_text("hello")
    key = run(upload(tmp_path / "in.txt"))

    assert key == "data/you/in.txt"
    assert stored(connected, key) == "hello"


def test_a_list_gives_a_list(connected, run, tmp_path):
    for name in ("1.dat", "2.dat"):
        (tmp_path / name).write_text(name)
    keys = run(upload(f"{tmp_path}/*.dat", location="scripts"))

    assert keys == ["scripts/you/1.dat", "scripts/you/2.dat"]
    assert [stored(connected, key) for key in keys] == ["1.dat", "2.dat"]


def test_many_files_are_uploaded_some_at_a_time_and_their_keys_are_in_order(
    connected, run, tmp_path
):
    names = [f"{number:02}.dat" for number in range(20)]
    for name in names:
        (tmp_path / name).write_text(name)
    keys = run(upload([str(tmp_path / name) for name in names]))

    assert keys == [f"data/you/{name}" for name in names]
    assert [stored(connected, key) for key in keys] == names


def test_the_first_file_that_fails_is_the_one_that_is_named(connected, run, tmp_path):
    for name in ("1", "2", "3"):
        (tmp_path / name).write_text(name)
    files = [str(tmp_path / name) for name in ("1", "2", "3")]
    with pytest.raises(AirflowFailException, match="location 'attic' is none of"):
        run(upload(files, location="attic"))


def test_nothing_is_uploaded_where_one_file_is_missing(connected, run, tmp_path):
    (tmp_path / "there").write_text("x")
    with pytest.raises(AirflowFailException, match="cannot be read on the worker"):
        run(upload([tmp_path / "there", tmp_path / "missing"]))

    assert not (connected.folder / "s3" / connected.cluster_id / "data/you/there").exists()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"location": "attic"}, "location 'attic' is none of"),
        ({"location": "shared"}, "only an administrator"),
        ({"filename": "../up"}, "is no name for a file"),
        ({"cluster_id": "typo"}, "there is no cluster 'typo'"),
    ],
    ids=repr,
)
def test_what_the_api_refuses_fails_the_task_for_good(connected, run, tmp_path, fields, words):
    (tmp_path / "in.txt").write_text("hello")
    with pytest.raises(AirflowFailException, match=words):
        run(upload(tmp_path / "in.txt", **fields))


def test_a_file_that_goes_while_the_task_uploads_is_named(connected, run, tmp_path, monkeypatch):
    source = tmp_path / "in.txt"
    source.write_text("hello")
    monkeypatch.setattr(
        "airflow_provider_clusterra.operators.storage.find_files",
        lambda *given: (find_files(*given), source.unlink())[0],
    )
    with pytest.raises(AirflowFailException, match=r"in.txt cannot be read any more: No such file"):
        run(upload(source))
