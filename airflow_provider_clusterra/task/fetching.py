"""A job's files, found once it has ended, copied to where they are wanted, and reported to assets."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from http import HTTPStatus
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import msgspec
from airflow.providers.common.compat.sdk import AirflowException, Asset, AssetAlias, Context

from airflow_provider_clusterra.api.calls import (
    ApiRoute,
    JobFile,
    JobFiles,
    find_download,
    offers_files,
)
from airflow_provider_clusterra.api.client import Client
from airflow_provider_clusterra.api.errors import (
    ClusterraError,
    InputError,
    NotFoundError,
    RequestError,
)
from airflow_provider_clusterra.api.jobs import Job
from airflow_provider_clusterra.api.uploads import Download, DownloadGrant
from airflow_provider_clusterra.task.outputs import OutputFile
from airflow_provider_clusterra.task.report import JobResultError
from airflow_provider_clusterra.task.transfers import (
    Arrived,
    Target,
    Transfer,
    check_target,
    download_all,
    is_folder,
    read_target,
)

log = logging.getLogger(__name__)

GLOB = frozenset("*?[")
LOCATIONS = ("data/", "outputs/", "scripts/", "shared/")
"""How the key of a file in the storage begins."""
MOST_SHOWN = 100
"""Files of one pattern that the result names: XCom is no list of files."""
CLOCKS = 60.0
"""Seconds by which the clocks of a cluster and of its storage may differ."""
MOST_NAMED = 20
"""Files that an error names."""


def check_outputs(
    client: Client,
    outputs: Mapping[str, OutputFile],
    declared: Collection[str] = (),
    others: Iterable[Any] = (),
) -> None:
    """Refuse outputs that cannot be brought, before anything is submitted.

    :param declared: the names of a template's artifacts, which need no path.
    :param others: the other tasks of the DAG.
    """
    if outputs:
        _check_offer(client, outputs.values())
    without = {name for name, file in outputs.items() if file.path is None} - {*declared}
    if without:
        name = without.pop()
        raise InputError(f"outputs: {name} has no path: give one. No template declares {name!r}.")
    places = _places(outputs)
    for name, place in places.items():
        check_target(outputs[name].place)
        if not place.endswith("/") and [*places.values()].count(place) > 1:
            raise InputError(f"outputs: {name} and another would both be written to {place}.")
    for task, place in _also_written(others, {*places.values()}):
        log.warning("Task %s writes %s, too: the last one wins.", task, place)


def _also_written(others: Iterable[Any], places: set[str]) -> Iterable[tuple[str, str]]:
    for task in others:
        theirs = getattr(task, "outputs", getattr(task, "partial_kwargs", {}).get("outputs"))
        for place in places & {*_places(theirs).values()}:
            yield task.task_id, place


def _places(outputs: Any) -> dict[str, str]:
    """Where the outputs of a task go that are copied."""
    files = outputs.items() if isinstance(outputs, Mapping) else ()
    return {
        name: str(file.place)
        for name, file in files
        if isinstance(file, OutputFile) and file.place is not None
    }


def _offers(client: Client, find: Callable[[Any], Any]) -> Any:
    try:
        return find(client.list_routes())
    except NotFoundError:
        return None


def _check_offer(client: Client, files: Iterable[OutputFile]) -> None:
    of_job = any(file.path is not None for file in files)
    if not _offers(client, offers_files if of_job else _offers_any):
        raise InputError(
            "outputs: this API does not give out the files of a job. Let the job copy them itself, or "
            "print what is short and use return_output."
        )


def _offers_any(routes: Sequence[ApiRoute]) -> bool:
    """A template's artifact may be a key of the storage, or a file of the job."""
    return offers_files(routes) or find_download(routes) is not None


class Source(msgspec.Struct, frozen=True, eq=False):
    """One file that a job has written, or that is in the storage."""

    path: str
    """On the cluster, or its key."""
    name: str
    """What it is called in a folder."""
    grant: Callable[[], DownloadGrant]
    size: int | None = None


class JobOutputs(msgspec.Struct, frozen=True):
    """A task's outputs, once its job has ended."""

    outputs: Mapping[str, OutputFile]
    client: Client
    cluster_id: str
    context: Context
    outlets: Sequence[Any] = ()
    on_failure: bool = False
    artifacts: Callable[[int], Mapping[str, str]] = lambda _: {}
    """The paths of a template's declared artifacts, by their names."""
    check: Callable[[], object] = lambda: None
    """Raises if the task is to end."""

    def bring(self, result: Mapping[str, Any], job: Job | None = None) -> dict[str, Any]:
        """Find and copy all, and report them to Airflow's assets.

        :param result: of the job.
        :returns: what it has besides: ``outputs``, if there are any.
        :raises JobResultError: one is not there.
        :raises AirflowException: what a retry can heal, which takes over the job that has succeeded.
        """
        try:
            return self._bring(result)
        except RequestError as error:
            if error.in_own_words and error.status != HTTPStatus.UNAUTHORIZED:
                raise
            raise AirflowException(f"The job has ended, and its outputs: {error}") from error
        except JobResultError as error:
            error.job, error.result = job, {**result}
            raise

    def _began(self, result: Mapping[str, Any]) -> float:
        """Since when the job writes; 0 if an earlier try or run may have written for it, too."""
        again = self.context["ti"].try_number > 1 or result.get("restarts")
        started = result.get("started_at")
        return datetime.fromisoformat(started).timestamp() if started and not again else 0.0

    def _bring(self, result: Mapping[str, Any]) -> dict[str, Any]:
        found, declared = {}, self._known_artifacts(result["job_id"])
        for name in declared.keys() - self.outputs.keys():
            # nobody asked for it: what is there is listed, and not copied
            try:
                found[name] = self._find_declared(result, name, declared[name]).described({})
            except (ClusterraError, JobResultError) as error:
                log.info("The template's artifact %s is not found: %s", name, error)
        wanted = {
            name: self._find(result, name, file.path)
            if file.path
            else self._find_declared(result, name, declared.get(name, ""))
            for name, file in self.outputs.items()
        }
        facts = {name: result[name] for name in ("job_id", "usage") if result.get(name)}
        found |= self._copied(wanted, facts)
        return {"outputs": found} if found else {}

    def bring_of_failed(self, result: Mapping[str, Any]) -> dict[str, Any]:
        """The same for a job that ended badly, as far as it goes."""
        found: dict[str, Any] = {}
        for name, file in self.outputs.items():
            only = msgspec.structs.replace(self, outputs={name: file}, outlets=())
            try:
                found |= only.bring(result)["outputs"]
            except (ClusterraError, AirflowException) as error:
                log.warning("The job failed, and output %s is not brought: %s", name, error)
        return found

    def _known_artifacts(self, job_id: int) -> Mapping[str, str]:
        try:
            return self.artifacts(job_id)
        except ClusterraError as error:
            if any(not file.path for file in self.outputs.values()):
                raise
            log.info("Where the template's artifacts are is not known: %s", error)
            return {}

    def _find(self, result: Mapping[str, Any], name: str, path: str) -> Found:
        job_id, words = result["job_id"], f"outputs: {name}"
        path, began = path.replace("%j", str(job_id)), self._began(result)
        return find_files_of(self.client, self.cluster_id, job_id, path, words, began)

    def _find_declared(self, result: Mapping[str, Any], name: str, path: str) -> Found:
        """A template's artifact: a key of the storage, a file, or a folder that looks like one."""
        if path.startswith(LOCATIONS):
            return Found([stored(self.client, self.cluster_id, path)], is_many=False)
        try:
            return self._find(result, name, path)
        except JobResultError as missing:
            try:
                return self._find(result, name, f"{path}/")
            except JobResultError:
                raise missing from None

    def _copied(self, wanted: Mapping[str, Found], facts: Mapping[str, Any]) -> dict[str, Any]:
        places = {name: self.outputs[name].place for name in wanted}
        copies = download_found(
            self.client,
            [(found, places[name]) for name, found in wanted.items() if places[name] is not None],
            self.check,
        )
        for name, found in wanted.items():
            self._tell_assets(name, found, copies, facts)
        return {name: found.described(copies) for name, found in wanted.items()}

    def _tell_assets(
        self, name: str, found: Found, copies: Copies, facts: Mapping[str, Any]
    ) -> None:
        """Airflow makes the events, one for each asset of the task's outlets, once it has succeeded."""
        file = self.outputs[name]
        events: Any = self.context.get("outlet_events")
        for asset in self.outlets if events is not None else ():
            if isinstance(asset, Asset) and asset in (file.asset, *file.named(name, asset)):
                described = found.described(copies)
                described.pop("files", None)
                events[asset].extra.update({**described, **facts})
            elif isinstance(asset, AssetAlias) and asset == file.asset:
                for row in found.rows(copies):
                    uri = row.get("target") or row["path"]
                    one = Asset(f"file://{uri}" if uri.startswith("/") else uri)
                    events[asset].add(one, extra={**row, **facts})


class Found(NamedTuple):
    """The files that one output means."""

    sources: Sequence[Source]
    is_many: bool
    """Whether there may be several."""

    def target(self, place: Any, source: Source) -> Target:
        """Where one of them goes."""
        target = read_target(place)
        return target / source.name if self.is_many or is_folder(place) else target

    def described(self, copies: Copies) -> dict[str, Any]:
        """What the result says of them."""
        rows = self.rows(copies)
        if not self.is_many:
            return rows[0]
        size = sum(row["size"] for row in rows)
        return {"count": len(rows), "size": size, "files": rows[:MOST_SHOWN]}

    def rows(self, copies: Copies) -> list[dict[str, Any]]:
        """What is to be said of each: its size, and of a copy where it is and its checksum."""
        return [
            {
                "path": each.path,
                **({} if each.size is None else {"size": each.size}),
                **(msgspec.structs.asdict(copies[each]) if each in copies else {}),
            }
            for each in self.sources
        ]


Copies = Mapping[Source, Arrived]


def download_found(
    client: Client,
    found: Sequence[tuple[Found, Any]],
    check: Callable[[], object] = lambda: None,
) -> Copies:
    """Download files to the places that each of them is wanted at."""
    transfers = {
        source: Transfer(
            Download(source.path, source.grant), each.target(place, source), source.size
        )
        for each, place in found
        for source in each.sources
    }
    arrived = download_all(client, list(transfers.values()), check)
    return dict(zip(transfers, arrived, strict=True))


def is_pattern(path: str) -> bool:
    """Whether a path may mean several files."""
    return bool(GLOB & set(path)) or path.endswith("/")


def stored(client: Client, cluster_id: str, key: str) -> Source:
    """A file of the storage, by its key.

    :raises InputError: the API gives no addresses to read from.
    """
    route = _offers(client, find_download)
    if route is None:
        raise InputError(f"{key}: this API offers no addresses to read files of the storage from.")
    grant = partial(client.presign_download, cluster_id, key, route)
    return Source(key, PurePosixPath(key).name, grant)


def find_files_of(
    client: Client, cluster_id: str, job_id: int, path: str, words: str, began: float = 0.0
) -> Found:
    """The files of a job's folder that a path or a pattern means, at least one.

    :param began: what is older was there before the job.
    :raises JobResultError: there is none; the words name what is there.
    """
    if not path.strip("./"):
        raise JobResultError(f"{words}: where it is, is not known: its path is {path!r}.")
    found = client.list_files(cluster_id, job_id, f"{path}**" if path.endswith("/") else path)
    if found.truncated:
        raise JobResultError(
            f"{words}: there are too many files to look through for {path}. Begin the pattern with a "
            "folder."
        )
    if not found.files:
        raise JobResultError(
            f"{words}: {_why_missing(client, cluster_id, job_id, path, found.folder)}"
        )
    before = PurePosixPath(*_fixed(path))
    sources = [
        Source(
            f"{found.folder}/{file.path}",
            _name_in(before, file),
            partial(client.presign_file, cluster_id, job_id, file.path),
            file.size,
        )
        for file in _written_since(began, found, path, words)
    ]
    return Found(sources, is_pattern(path))


def _written_since(began: float, found: JobFiles, path: str, words: str) -> list[JobFile]:
    files = [file for file in found.files if (file.changed or began) >= began - CLOCKS]
    if old := len(found.files) - len(files):
        log.warning(
            "%s: %s files that match %s are older than the job, and left out.", words, old, path
        )
    if not files:
        raise JobResultError(
            f"{words}: {path} is in {found.folder}, but was there before the job, which has not "
            "written it. A job that keeps a file that is up to date has to touch it."
        )
    return files


def _fixed(path: str) -> list[str]:
    """The folders of a pattern before the first that is none by itself."""
    parts: list[str] = []
    for part in PurePosixPath(path).parts if path.endswith("/") else PurePosixPath(path).parts[:-1]:
        if GLOB & set(part):
            break
        parts.append(part)
    return parts


def _name_in(before: PurePosixPath, file: JobFile) -> str:
    path = PurePosixPath(file.path)
    return str(path.relative_to(before)) if path.is_relative_to(before) else path.name


def _why_missing(client: Client, cluster_id: str, job_id: int, path: str, folder: str) -> str:
    near = str(PurePosixPath(*_fixed(path)) / "*")
    names = [
        file.path
        for pattern in (near, "**")
        for file in client.list_files(cluster_id, job_id, pattern).files
    ]
    shown = ", ".join(list(dict.fromkeys(names))[:MOST_NAMED]) or "no file"
    links = "symbolic links are not followed, and files of others not given"
    more = f" and {len(set(names)) - MOST_NAMED} more" if len(set(names)) > MOST_NAMED else ""
    return f"{path} is not in {folder} ({links}). There is: {shown}{more}."
