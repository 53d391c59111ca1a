"""What an upload's ``source`` means: which files, under which names, how large."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

import msgspec
from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_clusterra.api.errors import InputError
from airflow_provider_clusterra.api.uploads import check_size

Source = str | os.PathLike[str] | ObjectStoragePath
GLOB = frozenset("*?[")


class SourceFile(msgspec.Struct, frozen=True):
    """One file to upload."""

    shown: str
    """Where it is, for logs and errors."""
    name: str
    """What it is called in the storage."""
    size: int
    """Bytes."""
    open: Callable[[], BinaryIO]


def find_files(source: Source | Sequence[Source], filename: str | None) -> list[SourceFile]:
    """The files that a source means, all of them checked before the first is uploaded.

    :param source: a path, a glob, an ``ObjectStoragePath`` or its URI, or a list of these.
    :param filename: another name for a single file.
    :raises InputError: one is missing, a folder, or over 5 GiB; or two would have one name.
    """
    each = list(source) if isinstance(source, list | tuple) else [cast("Source", source)]
    files = [file for one in each for file in _files_of(one)]
    if not files:
        raise InputError("There is nothing to upload: source is an empty list.")
    if filename:
        if len(files) > 1:
            raise InputError(
                f"filename is {filename!r}, but source means {len(files)} files. Leave it out."
            )
        files = [SourceFile(files[0].shown, filename, files[0].size, files[0].open)]
    names: dict[str, str] = {}
    for file in files:
        check_size(file.shown, file.size)
        if file.name in names:
            raise InputError(
                f"{names[file.name]} and {file.shown} would both be uploaded as {file.name!r}. "
                "Upload them to two locations, or under another filename."
            )
        names[file.name] = file.shown
    return files


def is_many(source: Source | Sequence[Source]) -> bool:
    """Whether the source is a list or a glob, so that the result is a list, too.

    :param source: as :func:`find_files` takes it.
    """
    return isinstance(source, list | tuple) or _is_glob(source)


def _is_glob(source: Any) -> bool:
    return isinstance(source, str) and bool(GLOB & set(source)) and not os.path.lexists(source)


def _files_of(source: Source) -> list[SourceFile]:
    if isinstance(source, ObjectStoragePath):
        return [_stored_file(source)]
    text = os.fspath(source)
    if not text.strip():
        raise InputError("There is nothing to upload: source is empty.")
    if "://" in text:
        return [_stored_file(ObjectStoragePath(text))]
    if not _is_glob(source):
        return [_local_file(Path(text))]
    matches = glob.glob(text, recursive=True)  # noqa: PTH207 - the glob may be absolute
    found = sorted(path for path in map(Path, matches) if not path.is_dir())
    if not found:
        raise InputError(f"No file matches source {text!r} on the worker.")
    return [_local_file(path) for path in found]


def _local_file(path: Path) -> SourceFile:
    if path.is_dir():
        raise InputError(f"{path} is a folder. Give its files, e.g. '{path}/*'.")
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
    except OSError as exc:
        raise InputError(f"{path} cannot be read on the worker: {exc.strerror}.") from exc
    if not path.is_file():
        raise InputError(f"{path} is not a plain file.")
    return SourceFile(str(path), path.name, size, lambda: path.open("rb"))


def _stored_file(path: Any) -> SourceFile:
    try:
        if path.is_dir():
            raise InputError(f"{path} is a folder. Give its files.")
        size = int(path.stat().st_size)
    except OSError as exc:
        raise InputError(f"{path} cannot be read: {exc}.") from exc
    return SourceFile(str(path), path.name, size, lambda: cast("BinaryIO", path.open("rb")))
