"""Tests of airflow_provider_clusterra.task.transfers: whole, or not at all."""

import errno
import json
import logging
import os
import zlib
from pathlib import Path
from unittest.mock import Mock

import fsspec
import pytest
from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    ObjectStoragePath,
)
from airflow.sdk.io import attach

from airflow_provider_clusterra.api import Access, Client, Download, InputError, Retry
from airflow_provider_clusterra.task import transfers
from airflow_provider_clusterra.task.transfers import (
    Transfer,
    TransferLog,
    check_target,
    download_all,
    is_folder,
    read_target,
)
from tests.support.store import BUCKET, Store
from tests.support.versions import HAS_PLAIN_STORES
from tests.support.wire import Wire, http

CONTENT = bytes(range(256)) * 2000
BROKEN = http(200, b"x" * 999, {"Content-Length": "9999"})


not_on_3_1 = pytest.mark.skipif(not HAS_PLAIN_STORES, reason="Airflow 3.1 has other stores")


@pytest.fixture(scope="session")
def s3(tmp_path_factory):
    """A real S3."""
    pytest.importorskip("s3fs")
    with Store(tmp_path_factory.mktemp("store")) as made:
        yield made


@pytest.fixture
def bucket(s3, monkeypatch):
    """Its bucket, through an Airflow connection."""
    monkeypatch.setenv("AIRFLOW_CONN_MODELS", json.dumps(s3.connection))
    return f"s3://models@{BUCKET}"


@pytest.fixture(params=["local", "s3", pytest.param("memory", marks=not_on_3_1)])
def place(request, tmp_path):
    """A folder for targets."""
    if request.param == "local":
        yield tmp_path
    elif request.param == "s3":
        yield ObjectStoragePath(f"{request.getfixturevalue('bucket')}/{tmp_path.name}")
    else:
        store = fsspec.filesystem("memory")
        attach("memory", fs=store)
        yield ObjectStoragePath("memory://b")
        store.store.clear()


@pytest.fixture
def download():
    """Downloads from a storage that answers so."""

    def downloading(targets, *answers, check=lambda: None):
        with (
            Wire(*answers) as storage,
            Wire(http(200, {"download_url": f"{storage.url}/k"})) as api,
        ):
            retry = Retry(tries=2, first=0.001, cap=0.001)
            with Client(Access(api.url, "s3cret-cookie"), retry=retry) as client:
                grant = lambda: client.presign_file("c1", 7, "k")  # noqa: E731
                wanted = [Transfer(Download("k", grant), target) for target in targets]
                return download_all(client, wanted, check)

    return downloading


def names(folder):
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_a_file_arrives_in_a_new_folder_with_its_size_and_checksum(download, place):
    target = place / "new" / "model.pt"
    (arrived,) = download([target], http(200, CONTENT))

    assert target.read_bytes() == CONTENT
    assert arrived.size == len(CONTENT)
    assert arrived.checksum == f"crc32:{zlib.crc32(CONTENT):08x}"
    assert arrived.target == str(target)
    assert names(place / "new") == ["model.pt"]


def test_many_arrive_in_their_order(download, place):
    targets = [place / f"{number:02}" for number in range(20)]
    arrived = download(targets, http(200, b"x"))

    assert [each.target for each in arrived] == list(map(str, targets))
    assert {target.read_bytes() for target in targets} == {b"x"}


def test_what_breaks_off_leaves_what_was_there_and_nothing_beside_it(download, place):
    target = place / "new" / "model.pt"
    download([target], http(200, b"the old one"))
    with pytest.raises(Exception, match="k: "):
        download([target], BROKEN)

    assert target.read_bytes() == b"the old one"
    assert names(place / "new") == ["model.pt"]


def test_a_task_that_is_killed_leaves_nothing(download, place):
    def check():
        raise AirflowException("killed")

    with pytest.raises(AirflowException, match="killed"):
        download([place / "new" / "model.pt"], http(200, CONTENT), check=check)

    assert names(place / "new") == []


def test_the_first_that_fails_ends_all(download, place):
    answers = [http(404, b"<Code>NoSuchKey</Code>")] * 30
    with pytest.raises(Exception, match=r"NoSuchKey|Another download has failed"):
        download([place / f"{number}" for number in range(30)], *answers)


def test_two_files_for_one_place_are_refused(download, place):
    with pytest.raises(InputError, match="Two files would be written to"):
        download([place / "x", place / "x"], http(200, b"x"))


def test_a_file_has_the_rights_of_any_new_one(download, tmp_path):
    (tmp_path / "plain").touch()
    download([tmp_path / "model.pt"], http(200, b"x"))

    assert (tmp_path / "model.pt").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_it_is_said_that_a_file_is_replaced(download, place, caplog):
    caplog.set_level(logging.INFO)
    (place / "x").write_bytes(b"old")
    download([place / "x"], http(200, b"new"))

    assert f"{place / 'x'} is there already (3 bytes), and is replaced." in caplog.text


class Parts:
    """An object's writer, as s3fs has it: what is closed is an object."""

    def __init__(self):
        self.closed = self.discarded = False

    def write(self, piece):
        if len(piece) > 10:
            raise PermissionError("no write access")

    def close(self):
        assert not self.closed
        self.closed = True

    def discard(self):
        self.discarded = True


@pytest.fixture
def store(mocker):
    """An object of a store, and its writer."""
    parts = Parts()
    mocker.spy(parts, "close")
    target = mocker.Mock(protocol="s3", path="b/model.pt", spec_set=["protocol", "path", "fs"])
    target.fs.open.return_value = parts
    return target, parts


def test_an_object_that_is_not_whole_is_dropped_and_not_closed(store, download):
    target, parts = store
    with pytest.raises(AirflowException, match="cannot be written: no write access"):
        download([target], http(200, b"long" * 9))

    assert (parts.discarded, parts.closed, parts.close.call_count) == (True, True, 0)


def test_a_whole_object_is_closed(store, download):
    target, parts = store
    download([target], http(200, b"short"))

    assert (parts.discarded, parts.close.call_count) == (False, 1)


@pytest.mark.parametrize(
    ("given", "folder"),
    [
        ("/a/b", False),
        ("/a/b/", True),
        ("{tmp}", True),
        pytest.param("s3://b/k", False, marks=not_on_3_1),
        ("s3://b/k/", True),
    ],
)
def test_a_place_is_a_folder_if_it_says_so_or_is_one(tmp_path, given, folder):
    assert is_folder(given.format(tmp=tmp_path)) is folder


def test_a_path_may_be_given_as_a_uri(tmp_path):
    assert read_target(f"file://{tmp_path}/x") == tmp_path / "x"


@not_on_3_1
def test_a_stores_path_may_be_given_as_a_uri():
    assert str(read_target("memory://b/x")) == "memory://b/x"


@pytest.mark.parametrize("given", ["/x", "/deep er/x", "/", ""])
def test_a_place_in_a_bucket_is_taken_and_the_bucket_itself_is_a_folder(bucket, given):
    check_target(f"{bucket}{given}")

    assert is_folder(f"{bucket}{given}") is not given.endswith("x")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("s3://models@gone/x/", "there is no gone"),
        ("s3://models@gone/x", "there is no gone"),
        ("s3:///x", "names no bucket"),
    ],
)
def test_a_bucket_that_is_not_there_is_refused(bucket, given, words):
    with pytest.raises(InputError, match=words):
        check_target(given)


@pytest.mark.parametrize(
    ("given", "is_many", "key"),
    [("/dir", True, "dir/clusterra"), ("/dir/", False, "dir/clusterra"), ("/dir", False, "dir")],
)
def test_the_right_to_write_is_tried_where_the_files_go(bucket, monkeypatch, given, is_many, key):
    store, keys = read_target(bucket).fs, []
    ask = store.call_s3

    def note(method, **place):
        keys.append(place["Key"])
        return ask(method, **place)

    monkeypatch.setattr(store, "call_s3", note)
    check_target(f"{bucket}{given}", is_many=is_many)

    assert set(keys) == {key}


def test_a_file_is_no_folder_for_many(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file is a file"):
        check_target(tmp_path / "file", is_many=True)


def test_that_nobody_may_write_is_known_before(bucket, s3, monkeypatch):
    wrong = {**s3.connection, "password": "wrong"}
    monkeypatch.setenv("AIRFLOW_CONN_OTHERS", json.dumps(wrong))
    with pytest.raises(AirflowException, match=r"cannot be written: \S") as caught:
        check_target(f"s3://others@{BUCKET}/x")

    # keys are renewed: a retry may be let in
    assert not isinstance(caught.value, AirflowFailException)


@pytest.mark.parametrize("given", ["", " "])
def test_an_empty_target_is_refused(given):
    with pytest.raises(InputError, match="The target is empty"):
        check_target(given)


def test_a_home_is_that_of_the_workers_user():
    assert read_target("~/x") == Path.home() / "x"


@pytest.mark.parametrize("name", ["a b", "ü", "100%", "%20", "a#b", "a?b=c", "a+b&c"])
def test_an_object_may_have_any_name(download, bucket, s3, name):
    download([read_target(f"{bucket}/{name}")], http(200, CONTENT))

    assert (s3.bucket / name).read_bytes() == CONTENT


@pytest.mark.parametrize("given", ["{tmp}/x", "{tmp}/new/x", "{tmp}/new/"])
def test_a_place_that_can_be_written_is_taken(tmp_path, given):
    check_target(given.format(tmp=tmp_path))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("{tmp}/file/x", "file is a file"),
        ("nonsense://b/x", "cannot be written"),
        ("/proc/x/y", "no right to write to /proc"),
        (f"{{tmp}}/{'x' * 300}", "name too long"),
        (f"{{tmp}}/{'x' * 300}/y", "name too long"),
    ],
)
def test_a_place_that_cannot_be_written_is_refused(tmp_path, given, words, monkeypatch):
    (tmp_path / "file").touch()
    # root may write anywhere, as far as modes go
    may = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: str(path) != "/proc" and may(path, mode))
    with pytest.raises(InputError, match=f"(?i){words}"):
        check_target(given.format(tmp=tmp_path))


def test_a_place_in_a_folder_that_is_closed_to_the_worker_is_refused(tmp_path, monkeypatch):
    closed = PermissionError(errno.EACCES, "Permission denied", str(tmp_path))
    monkeypatch.setattr(Path, "exists", Mock(side_effect=closed))
    with pytest.raises(InputError, match="Permission denied"):
        check_target(tmp_path / "x")


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (FileNotFoundError("no such bucket"), InputError),
        (ValueError("bad name"), InputError),
        (OSError(101, "Network is unreachable"), AirflowException),
        (TimeoutError(), AirflowException),
        (RuntimeError("503 SlowDown"), AirflowException),
    ],
    ids=repr,
)
def test_a_store_that_is_down_is_no_fault_of_the_target(monkeypatch, error, raised):
    def exists(*_):
        raise error

    store = fsspec.filesystem("memory")
    attach("memory", fs=store)
    monkeypatch.setattr(store, "exists", exists)
    with pytest.raises(raised, match=r"^memory://b/x cannot be written: \S"):
        check_target("memory://b/x")


def test_a_long_transfer_says_how_far_it_is_at_growing_distances(monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    now = [0.0]
    monkeypatch.setattr(transfers.time, "monotonic", lambda: now[0])
    progress = TransferLog("Downloaded", "model.pt", 1000 * 2**20)
    for _ in range(100):
        now[0] += 1
        progress.add(10 * 2**20)
    progress.end("to /x")

    said = [record.getMessage() for record in caplog.records]
    assert [line.partition(":")[0] for line in said] == [
        "Downloaded 10 % of model.pt",
        "Downloaded 20 % of model.pt",
        "Downloaded 40 % of model.pt",
        "Downloaded 80 % of model.pt",
        "Downloaded model.pt to /x",
    ]
    assert said[-1].endswith("1048576000 bytes in 100.0 s (10 MiB/s)")
