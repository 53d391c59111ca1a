"""Files to upload: found before a submit, uploaded right before its POST, passed to the job."""

from __future__ import annotations

import glob
import logging
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, cast

import msgspec
from airflow.providers.common.compat.sdk import Context, ObjectStoragePath
from msgspec.structs import replace

from airflow_provider_clusterra.api.calls import find_download
from airflow_provider_clusterra.api.client import Client
from airflow_provider_clusterra.api.errors import InputError
from airflow_provider_clusterra.api.specs import is_variable
from airflow_provider_clusterra.api.uploads import check_size
from airflow_provider_clusterra.submit.protocol import hash_task, iteration_of, map_index_of
from airflow_provider_clusterra.task.arguments import from_text
from airflow_provider_clusterra.task.transfers import (
    AT_ONCE,
    GLOB,
    CountedFile,
    TransferLog,
    offered,
)

Source = str | os.PathLike[str] | ObjectStoragePath
KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class SourceFile(msgspec.Struct, frozen=True):
    """One file to upload."""

    shown: str
    """Its path or URI, for logs and errors."""
    name: str
    """Its name in the storage."""
    size: int
    """Bytes."""
    open: Callable[[], BinaryIO]


def find_files(source: Source | Sequence[Source], filename: str | None) -> list[SourceFile]:
    """The files of a source, all of them checked before the first is uploaded."""
    many = _listed(source)
    files = [file for one in ([source] if many is None else many) for file in _files_of(one)]
    if not files:
        raise InputError("There is nothing to upload: source is an empty list.")
    if filename:
        if len(files) > 1:
            raise InputError(
                f"filename is {filename!r}, but source means {len(files)} files. Leave it out."
            )
        files = [replace(files[0], name=filename)]
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
    """Whether the source is a list or a glob, so that the result is a list, too."""
    return _listed(source) is not None or _is_glob(source)


def _listed(source: Any) -> list[Any] | None:
    """The entries of a list, which may be a template's text or another sequence; None: it is none."""
    value = from_text(source)
    many = isinstance(value, Sequence) and not isinstance(value, str | bytes)
    return list(value) if many else None


def _is_glob(source: Any) -> bool:
    return isinstance(source, str) and bool(GLOB & set(source)) and not os.path.lexists(source)


def _files_of(source: Any) -> list[SourceFile]:
    if isinstance(source, ObjectStoragePath):
        return [_stored_file(source)]
    text = _path_of(source)
    if "://" in text:
        return [_stored_file(ObjectStoragePath(text))]
    if not _is_glob(source):
        return [_local_file(Path(text))]
    found = sorted(map(Path, glob.glob(text, recursive=True)))  # noqa: PTH207 - it may be absolute
    if "**" in text:
        # ** matches folders, too
        found = [path for path in found if not path.is_dir()]
    if not found:
        raise InputError(f"No file matches source {text!r} on the worker.")
    return [_local_file(path) for path in found]


def _path_of(source: Any) -> str:
    if not isinstance(source, str | os.PathLike):
        raise InputError(f"source holds {source!r:.200}; it takes paths, globs and URIs.")
    text = os.fspath(source)
    if not text.strip():
        raise InputError("There is nothing to upload: source is empty.")
    if "\0" in text:
        raise InputError(f"source holds {text!r:.200}, and no path has a NUL byte.")
    return text


def _local_file(path: Path) -> SourceFile:
    try:
        status = path.stat()
        if stat.S_ISREG(status.st_mode):
            # opening a FIFO would wait for a writer
            path.open("rb").close()
    except OSError as exc:
        raise InputError(f"{path} cannot be read on the worker: {exc.strerror}.") from exc
    _check_kind(path, status.st_mode)
    return SourceFile(str(path), path.name, status.st_size, lambda: path.open("rb"))


def _stored_file(path: Any) -> SourceFile:
    try:
        status = path.stat()
    except OSError as exc:
        raise InputError(f"{path} cannot be read: {exc}.") from exc
    _check_kind(path, status.st_mode)
    return SourceFile(
        str(path), path.name, int(status.st_size), lambda: cast("BinaryIO", path.open("rb"))
    )


def _check_kind(path: Any, mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise InputError(f"{path} is a folder. Give its files, e.g. '{path}/*'.")
    if not stat.S_ISREG(mode):
        kind = KINDS.get(stat.S_IFMT(mode), "not a plain file")
        raise InputError(f"{path} is {kind}, which has no size to upload. Give a plain file.")


log = logging.getLogger(__name__)
LOCATION = "data"


def upload_all(
    client: Client, cluster_id: str, files: Sequence[SourceFile], location: str
) -> list[str]:
    """Put files into the storage, some at a time; the keys are in the order of the files.

    The error of the first file that fails, in that order, is raised, and no more are begun.
    """
    if len(files) == 1:
        return [upload_file(client, cluster_id, files[0], location)]
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="clusterra-upload") as pool:
        try:
            return list(
                pool.map(lambda file: upload_file(client, cluster_id, file, location), files)
            )
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def upload_file(client: Client, cluster_id: str, file: SourceFile, location: str) -> str:
    """Put one file into the storage, and say so in the log."""
    progress = TransferLog("Uploaded", file.shown, file.size)

    def content() -> Any:
        return CountedFile(file.open(), progress)

    try:
        key = client.upload_file(cluster_id, file.name, location, file.size, content)
    except OSError as exc:
        # it could be read when the sources were checked
        raise InputError(f"{file.shown} cannot be read any more: {exc.strerror}.") from exc
    progress.end(f"as {key}")
    return key


def find_inputs(uploads: Mapping[str, Source] | None, context: Context) -> dict[str, SourceFile]:
    """The file of each upload, under a name that no other task's upload has.

    Mapped tasks and runs upload files of one name, and must not read each other's; a retry puts its
    files in the place of its own earlier ones.
    """
    found = {}
    for name, source in (uploads or {}).items():
        if not source:
            raise InputError(f"uploads: {name} is empty. Give a file's path.")
        try:
            files = find_files(source, None)
        except InputError as exc:
            raise InputError(f"uploads: {name}: {exc}") from exc
        if len(files) > 1:
            raise InputError(
                f"uploads: {name} means {len(files)} files. Give one, or use "
                "ClusterraUploadFileOperator, which uploads many."
            )
        (file,) = files
        found[name] = replace(file, name=f"{_scope(context, name)}-{file.name}")
    return found


def check_variables(uploads: Sequence[str], environment: Mapping[str, Any]) -> None:
    """Refuse names that cannot be variables, or that are used already."""
    taken = set(environment)
    for name in uploads:
        if not is_variable(name):
            raise InputError(f"uploads: {name!r} is not a variable's name, e.g. INPUT.")
        for variable in (name, f"{name}_URL"):
            if variable in taken:
                raise InputError(
                    f"uploads: the variable {variable} has a value already. Rename it."
                )
            taken.add(variable)


def download_route(client: Client) -> str:
    """The API's route that presigns downloads."""
    route: str | None = offered(client, find_download)
    if route is None:
        raise InputError(
            "uploads: this API offers no addresses to read files from, so a script cannot get at "
            "what is uploaded. Use a template, which takes a file's key, or copy the file to the "
            "cluster's own file system."
        )
    return route


def download_variables(
    client: Client, cluster_id: str, keys: Mapping[str, str], route: str
) -> dict[str, str]:
    """The variables of a script for its files: keys and URLs."""
    variables: dict[str, str] = {}
    for name, key in keys.items():
        grant = client.presign_download(cluster_id, key, route)
        variables |= {name: key, f"{name}_URL": grant.download_url}
        if grant.expires_in:
            log.info(
                "$%s_URL is good for %.0f minutes; a job that starts later cannot read from it.",
                name,
                grant.expires_in / 60,
            )
    return variables


def upload_files(
    client: Client, cluster_id: str, files: Mapping[str, SourceFile], keys: dict[str, str]
) -> None:
    """Upload those files that have no key yet, and note their keys."""
    for name, file in files.items():
        if name not in keys:
            keys[name] = upload_file(client, cluster_id, file, LOCATION)


def _scope(context: Context, name: str) -> str:
    ti = context["ti"]
    task = f"{ti.dag_id}\0{ti.run_id}\0{ti.task_id}\0{name}"
    return hash_task(task, map_index_of(context), *iteration_of(context))
