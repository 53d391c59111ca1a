"""Tests of airflow_provider_clusterra.task.inputs: what source= means."""

import json
import os
import re
import socket
from collections import deque

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_clusterra.api import InputError
from airflow_provider_clusterra.api.uploads import LARGEST_PUT
from airflow_provider_clusterra.task.inputs import find_files, is_many


@pytest.fixture
def folder(tmp_path):
    for name, text in {"a.txt": "a", "b.txt": "bb", "sub/a.txt": "ccc", "x[1].txt": "x"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def found(source, filename=None):
    return [(file.name, file.size) for file in find_files(source, filename)]


def test_a_path_is_one_file(folder):
    assert found(str(folder / "a.txt")) == found(folder / "a.txt") == [("a.txt", 1)]
    assert not is_many(folder / "a.txt")


def test_a_glob_is_all_files_that_match_in_their_order(folder):
    assert found(f"{folder}/?.txt") == [("a.txt", 1), ("b.txt", 2)]
    assert is_many(f"{folder}/*.txt")


def test_a_list_may_hold_both(folder):
    assert found([folder / "a.txt", f"{folder}/b*"]) == [("a.txt", 1), ("b.txt", 2)]


def test_a_name_that_looks_like_a_glob_is_a_name_where_there_is_such_a_file(folder):
    assert found(f"{folder}/x[1].txt") == [("x[1].txt", 1)]


def test_an_object_of_a_storage_is_read_like_a_file(folder):
    for source in (ObjectStoragePath(f"file://{folder}/b.txt"), f"file://{folder}/b.txt"):
        (file,) = find_files(source, None)
        with file.open() as content:
            assert content.read() == b"bb"
        assert (file.name, file.size) == ("b.txt", 2)


def test_a_file_may_get_another_name(folder):
    assert found(folder / "a.txt", "run/1.txt") == [("run/1.txt", 1)]


@pytest.mark.parametrize(
    ("source", "filename", "words"),
    [
        ("missing.txt", None, "cannot be read on the worker: No such file"),
        ("sub", None, "is a folder. Give its files, e.g. '"),
        ("*.csv", None, "No file matches"),
        ("?.txt", "c.txt", "source means 2 files"),
        (["a.txt", "sub/a.txt"], None, "would both be uploaded as 'a.txt'"),
        ([], None, "empty list"),
        (" ", None, "source is empty"),
        (None, None, "source holds None"),
        ([7], None, "source holds 7"),
        ("a\0b", None, "no path has a NUL byte"),
    ],
    ids=repr,
)
def test_a_source_that_cannot_be_right_is_refused_in_words(
    folder, monkeypatch, source, filename, words
):
    monkeypatch.chdir(folder)
    with pytest.raises(InputError, match=re.escape(words)) as caught:
        find_files(source, filename)

    assert "\n" not in str(caught.value)


def test_a_file_over_five_gibibytes_is_refused(folder):
    with (folder / "large").open("wb") as file:
        file.truncate(LARGEST_PUT + 1)
    with pytest.raises(InputError, match=r"at most 5368709120 \(5 GiB\)"):
        find_files(folder / "large", None)


@pytest.fixture
def odd(folder):
    """A folder with a FIFO, a socket, and links to such and to a device."""
    os.mkfifo(folder / "pipe.odd")
    (folder / "device.odd").symlink_to("/dev/zero")
    (folder / "link.odd").symlink_to(folder / "pipe.odd")
    (folder / "round.odd").symlink_to(folder / "round.odd")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "s.odd"))
        yield folder


@pytest.mark.parametrize("form", ["{}", "{}*", "[{!r}]", "file://{}"])
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("pipe.odd", "is a FIFO"),
        ("link.odd", "is a FIFO"),
        ("device.odd", "is a device"),
        ("s.odd", "is a socket"),
        ("round.odd", "cannot be read"),
        ("sub", "is a folder"),
    ],
)
def test_what_is_no_plain_file_is_refused_at_once(odd, form, name, words):
    with pytest.raises(InputError, match=words):
        find_files(form.format(f"{odd}/{name}"), None)


def test_a_list_may_be_a_templates_text_or_of_a_mapped_task(folder):
    names = [f"{folder}/a.txt", f"{folder}/b.txt"]

    for source in (names, str(names), tuple(names), json.dumps(names), deque(names)):
        assert found(source) == [("a.txt", 1), ("b.txt", 2)]
        assert is_many(source)


def test_a_glob_that_walks_through_folders_takes_the_files_in_them(folder):
    assert found(f"{folder}/sub/**") == [("a.txt", 3)]
