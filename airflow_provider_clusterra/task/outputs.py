"""``outputs=``: which files of a job are wanted, and where; light, since whoever reads a DAG reads it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from airflow.providers.common.compat.sdk import Asset, AssetAlias

from airflow_provider_clusterra.api.errors import InputError
from airflow_provider_clusterra.task import arguments as given


class OutputFile(NamedTuple):
    """A file that a job writes, and where it goes once the job has succeeded.

    :param path: in the job's working directory: a path, a glob such as ``"out/**/*.pt"``, or a folder
        with a ``/`` at its end; ``%j`` is the job's id. Of a template's declared artifact it may be
        left out, and of an ``Asset`` whose last part it is.
    :param target: where it is copied to: an ``ObjectStoragePath``, its URI, or a path of the worker; a
        folder for many, or with a ``/`` at its end. Without one it stays where it is.
    :param asset: an ``Asset``, which has one event then, or an ``AssetAlias``, which has one for each
        file. An asset's URI is the target unless there is another.
    """

    path: str | None = None
    target: Any = None
    asset: Any = None

    @property
    def place(self) -> Any:
        """Where it is copied to, or None."""
        if self.target or not isinstance(self.asset, Asset):
            return self.target
        return self.asset.uri if "://" in self.asset.uri else None

    @property
    def asset_file(self) -> str:
        """The file in the working directory that an asset alone means: the last part of its URI."""
        return self.asset.uri.rpartition("/")[2] if isinstance(self.asset, Asset) else ""

    def named(self, name: str, asset: Any) -> tuple[Any, ...]:
        """An asset of the outlets that is this output by its name or its place."""
        place = str(self.place).rstrip("/")
        same = asset.uri.rstrip("/") in (place, f"file://{place}")
        return (asset,) if asset.name == name or same else ()


def read_outputs(name: str, value: Any) -> dict[str, OutputFile]:
    """What an author gives as ``outputs=``.

    :raises InputError: it cannot be meant.
    """
    outputs = given.mapping(name, value)
    return {key: _read_output(f"{name}: {key}", each) for key, each in outputs.items()}


def as_output(value: Any) -> OutputFile:
    """What an author's value means, if it means anything."""
    if isinstance(value, Asset | AssetAlias):
        return OutputFile(asset=value)
    is_file = isinstance(value, list | tuple) and 0 < len(value) <= len(OutputFile._fields)
    return OutputFile(*value) if is_file else OutputFile(value)


def _read_output(words: str, value: Any) -> OutputFile:
    file = as_output(value)
    if file == OutputFile() or not isinstance(file.path, str | None):
        raise InputError(f"{words} is {value!r:.200}; it takes a path, an OutputFile or an Asset.")
    path = "x" if file.path is None else file.path
    if not path.strip("./") or ".." in PurePosixPath(path).parts:
        raise InputError(f"{words} is {file.path!r}, which is no file in the job's folder.")
    if not isinstance(file.asset, Asset | AssetAlias | None):
        raise InputError(f"{words} has the asset {file.asset!r:.200}; give an Asset.")
    return file


def with_assets(outlets: Any, outputs: Any) -> list[Any]:
    """A task's outlets with the assets of its outputs, each once: Airflow makes their events."""
    listed = [*(outlets if isinstance(outlets, list | tuple) else [outlets])] if outlets else []
    values = outputs.values() if isinstance(outputs, Mapping) else ()
    for asset in (as_output(value).asset for value in values):
        if isinstance(asset, Asset | AssetAlias) and asset not in listed:
            listed.append(asset)
    return listed
