"""A job's files, found once it has ended, copied to where they are wanted, and reported to assets."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from http import HTTPStatus
from itertools import accumulate, takewhile
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
    RequestError,
)
from airflow_provider_clusterra.api.jobs import Job
from airflow_provider_clusterra.api.uploads import Download, DownloadGrant
from airflow_provider_clusterra.task import transfers
from airflow_provider_clusterra.task.arguments import (
    OutputFile,
    as_output,
    is_plain,
    optional,
    read_outputs,
    uri_of,
)
from airflow_provider_clusterra.task.lineage import ReportsLineage, place_on_cluster
from airflow_provider_clusterra.task.report import JobResultError
from airflow_provider_clusterra.task.transfers import Arrived, Target, Transfer

log = logging.getLogger(__name__)

LOCATIONS = ("data/", "outputs/", "scripts/", "shared/")
"""How the key of a file in the storage begins."""
MOST_SHOWN, LARGEST_SHOWN = 100, 16 * 1024
"""Files of one pattern that the result names, and bytes for those of all: XCom is no list of files."""
MOST_EVENTS = 1000
"""Of an AssetAlias: Airflow takes them all in the request that ends the task."""
CLOCKS = 60.0
"""Seconds by which the clocks of a cluster and of its storage may differ."""
MOST_NAMED = 20
"""Files that an error names."""


def check_outputs(
    client: Client, outputs: Mapping[str, OutputFile], task: Any, declared: Collection[str] = ()
) -> None:
    """Refuse outputs that cannot be brought, before anything is submitted.

    ``declared`` are the names of a template's artifacts, which need no path.
    """
    of_job = {name: file for name, file in outputs.items() if file.path or name not in declared}
    if outputs:
        _check_offer(client, of_job=bool(of_job))
    without = [name for name, file in of_job.items() if not (file.path or file.asset_file)]
    if without:
        raise InputError(
            f"outputs: {without[0]} has no path: give one. No template declares {without[0]!r}."
        )
    places = {name: _place(file) for name, file in _copied_files(outputs).items()}
    _check_places(outputs, places)
    warn_of_overwriting(task, {*places.values()})


def _check_places(outputs: Mapping[str, OutputFile], places: Mapping[str, str]) -> None:
    for name, place in places.items():
        transfers.check_target(outputs[name].place, is_many=is_pattern(outputs[name].path or ""))
        if not place.endswith("/") and [*places.values()].count(place) > 1:
            raise InputError(f"outputs: {name} and another would both be written to {place}.")


OF_ITS_OWN = re.compile(r"map_index|\bloop\b|\bti\b|\btask")
"""What makes a templated place another one for each mapped instance, or each iteration of a loop."""


def warn_of_overwriting(task: Any, places: set[str]) -> None:
    """Warn of what else of the DAG writes one of these files, as far as the DAG says."""
    dag = task.get_dag()
    if dag is None:
        return
    for other in dag.tasks:
        if other.task_id != task.task_id:
            for place in _files_written(other) & places:
                log.warning("Task %s writes %s, too: the last one wins.", other.task_id, place)
        elif several := _several_of(other):
            instances, number = several
            for place in _files_written(other):
                if not OF_ITS_OWN.search(place):
                    log.warning(
                        "All %s of this task write %s: the last one wins. Put %s into its name.",
                        *(instances, place, number),
                    )


def _several_of(task: Any) -> tuple[str, str] | None:
    """What of a task there are several in one run of its DAG, and what tells them apart."""
    if task.is_mapped or task.get_closest_mapped_task_group():
        return "mapped instances", "{{ ti.map_index }}"
    group = task.task_group
    while group is not None:
        # a loop of Airflow 3.4
        if hasattr(group, "max_iterations"):
            return "iterations", "{{ loop.index }}"
        group = group.parent_group
    return None


def _files_written(task: Any) -> set[str]:
    """As the DAG has them, so templated; without those whose names are not known in the DAG."""
    kind = getattr(task, "operator_class", type(task))
    if not issubclass(kind, ReportsLineage):
        return set()
    outputs, path, target = (
        getattr(task, name, getattr(task, "partial_kwargs", {}).get(name))
        for name in ("outputs", "path", "target")
    )
    files = [*_copied_files(outputs).values(), *([OutputFile(path, target)] if target else [])]
    # what another task returns, or a group is mapped over, the DAG does not say
    places = {_place(each) for each in files if not hasattr(each.place, "iter_references")}
    return {each for each in places if not each.endswith("/")}


def _copied_files(outputs: Any) -> dict[str, OutputFile]:
    """The outputs of a task that are copied."""
    if not isinstance(outputs, Mapping):
        return {}
    files = {name: as_output(value) for name, value in outputs.items()}
    return {name: file for name, file in files.items() if file.place is not None}


def _place(file: OutputFile) -> str:
    """Where an output is written; a folder with a ``/`` at its end if the file's name is not known yet."""
    place, path = str(file.place), file.path if isinstance(file.path, str) else ""
    # a template may be too long for Path.is_dir()
    is_folder = place.endswith("/") or os.path.isdir(place)  # noqa: PTH112
    if not (is_folder or is_pattern(path)):
        return place
    is_known = not is_pattern(path) and is_plain(path) and "%j" not in path
    return f"{place.rstrip('/')}/{PurePosixPath(path).name if is_known else ''}"


def _check_offer(client: Client, *, of_job: bool) -> None:
    if not transfers.offered(client, offers_files if of_job else _offers_any):
        raise InputError(
            "outputs: this API does not give out the files of a job. Let the job copy them itself, or "
            "print what is short and use return_output."
        )


def _offers_any(routes: Sequence[ApiRoute]) -> bool:
    """A template's artifact may be a key of the storage, or a file of the job."""
    return offers_files(routes) or find_download(routes) is not None


class FoundFile(msgspec.Struct, frozen=True, eq=False):
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
        """Find and copy all, report them to Airflow's assets, and return ``outputs`` for the result.

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
        started = result.get("started_at") or result.get("ended_at")
        return datetime.fromisoformat(started).timestamp() if started and not again else 0.0

    def _bring(self, result: Mapping[str, Any]) -> dict[str, Any]:
        declared = self._known_artifacts(result["job_id"])
        found = dict(self._found_unasked(result, declared))
        wanted = {
            name: self._find_wanted(result, name, file, declared)
            for name, file in self.outputs.items()
        }
        facts = {name: result[name] for name in ("job_id", "usage") if result.get(name)}
        copies = self._copied(wanted)
        for name, each in wanted.items():
            self._add_events(name, each, copies, facts)
        found |= wanted
        most = LARGEST_SHOWN // max(1, sum(each.is_many for each in found.values()))
        shown = {name: each.described(copies, most) for name, each in found.items()}
        return {"outputs": shown} if shown else {}

    def _found_unasked(
        self, result: Mapping[str, Any], declared: Mapping[str, str]
    ) -> Iterator[tuple[str, Found]]:
        """A template's artifacts that nobody asked for: what is there is listed, and not copied."""
        for name in declared.keys() - self.outputs.keys():
            try:
                yield name, self._find_declared(result, name, declared[name])
            except (ClusterraError, JobResultError) as error:
                log.info("The template's artifact %s is not found: %s", name, error)

    def _find_wanted(
        self, result: Mapping[str, Any], name: str, file: OutputFile, declared: Mapping[str, str]
    ) -> Found:
        if name in declared and not file.path:
            found = self._find_declared(result, name, declared[name])
        else:
            found = self._find(result, name, file.path or file.asset_file)
        check_events(f"outputs: {name}", [file.asset], found)
        return found

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

    def _copied(self, wanted: Mapping[str, Found]) -> Copies:
        places = {name: self.outputs[name].place for name in wanted}
        placed = [(wanted[name], place) for name, place in places.items() if place is not None]
        return download_found(self.client, placed, self.check)

    def _add_events(
        self, name: str, found: Found, copies: Copies, facts: Mapping[str, Any]
    ) -> None:
        file = self.outputs[name]
        for asset in self.outlets:
            if asset == file.asset or (isinstance(asset, Asset) and file.means(name, asset)):
                add_events(self.context, self.cluster_id, asset, found, copies, facts)


def outputs_of(
    task: Any, context: Context, client: Client, cluster_id: str, **more: Any
) -> JobOutputs:
    """What a task with ``outputs=`` wants of its job."""
    wanted = optional(read_outputs)("outputs", task.outputs) or {}
    return JobOutputs(
        wanted, client, cluster_id, context, task.outlets, task.outputs_on_failure, **more
    )


class Found(NamedTuple):
    """The files that one output means."""

    sources: Sequence[FoundFile]
    is_many: bool
    """Whether there may be several."""

    def target(self, place: Any, source: FoundFile) -> Target:
        """Where one of them goes."""
        target = transfers.read_target(place)
        return target / source.name if self.is_many or transfers.is_folder(place) else target

    def described(self, copies: Copies, most: int = 0) -> dict[str, Any]:
        """What the result says of them: for several files their total, and as many as fit into ``most`` bytes."""
        rows = self.rows(copies)
        if not self.is_many:
            return rows[0]
        sizes = accumulate(len(msgspec.json.encode(row)) for row in rows[:MOST_SHOWN])
        shown = [row for row, size in zip(rows, sizes, strict=False) if size <= most]
        found = {"count": len(rows), "size": sum(row["size"] for row in rows)}
        return {**found, "files": shown} if most else found

    def rows(self, copies: Copies) -> list[dict[str, Any]]:
        """What the result says of each: its size, and of a copy its place and its checksum."""
        return [
            {
                "path": each.path,
                **({} if each.size is None else {"size": each.size}),
                **(msgspec.structs.asdict(copies[each]) if each in copies else {}),
            }
            for each in self.sources
        ]


Copies = Mapping[FoundFile, Arrived]


def check_events(words: str, assets: Sequence[Any], found: Found) -> None:
    """Refuse an AssetAlias for more files than it may have events."""
    if len(found.sources) > MOST_EVENTS and any(isinstance(each, AssetAlias) for each in assets):
        raise JobResultError(
            f"{words} means {len(found.sources)} files, and an AssetAlias has an event for each of at "
            f"most {MOST_EVENTS}. Give an Asset, which has one event for all."
        )


def add_events(
    context: Context,
    cluster_id: str,
    asset: Any,
    found: Found,
    copies: Copies,
    facts: Mapping[str, Any],
) -> None:
    """Airflow makes the events once the task has succeeded: of an asset one, of an AssetAlias one for
    each file."""
    events: Any = context.get("outlet_events")
    if events is None:
        return
    if not isinstance(asset, AssetAlias):
        events[asset].extra.update({**found.described(copies), **facts})
        return
    for row in found.rows(copies):
        place = row.get("target") or _left_at(cluster_id, row["path"])
        events[asset].add(Asset(uri_of(place)), extra={**row, **facts})


def _left_at(cluster_id: str, path: str) -> str:
    """Where a file is that is not copied: in the shared folder, or in the storage."""
    return path if path.startswith("/") else place_on_cluster({"cluster_id": cluster_id}, path)


def download_found(
    client: Client,
    found: Sequence[tuple[Found, Any]],
    check: Callable[[], object] = lambda: None,
) -> Copies:
    """Download files to the places that each of them is wanted at."""
    wanted = {
        source: Transfer(
            Download(source.path, source.grant), each.target(place, source), source.size
        )
        for each, place in found
        for source in each.sources
    }
    arrived = transfers.download_all(client, list(wanted.values()), check)
    return dict(zip(wanted, arrived, strict=True))


def is_pattern(path: str) -> bool:
    """Whether a path may mean several files."""
    return bool(transfers.GLOB & set(path)) or path.endswith("/")


def stored(client: Client, cluster_id: str, key: str) -> FoundFile:
    """A file of the storage, by its key.

    :raises InputError: the API gives no addresses to read from.
    """
    route = transfers.offered(client, find_download)
    if route is None:
        raise InputError(f"{key}: this API offers no addresses to read files of the storage from.")
    grant = partial(client.presign_download, cluster_id, key, route)
    return FoundFile(key, PurePosixPath(key).name, grant)


def find_files_of(
    client: Client, cluster_id: str, job_id: int, path: str, words: str, began: float = 0.0
) -> Found:
    """The files that a job has written since ``began`` and that a path or a pattern means, at least one.

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
    if exact := [file for file in found.files if file.path == path]:
        found = msgspec.structs.replace(found, files=exact)
    before = _fixed(path)
    sources = [
        FoundFile(
            f"{found.folder}/{file.path}",
            _name_in(before, file),
            partial(client.presign_file, cluster_id, job_id, file.path),
            file.size,
        )
        for file in _written_since(began, found, path, words)
    ]
    return Found(sources, is_pattern(path) and not exact)


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


def _fixed(path: str) -> PurePosixPath:
    """The folders of a path before the first that is a pattern."""
    pure = PurePosixPath(path)
    folders = pure.parts if path.endswith("/") else pure.parts[:-1]
    return PurePosixPath(*takewhile(transfers.GLOB.isdisjoint, folders))


def _name_in(before: PurePosixPath, file: JobFile) -> str:
    path = PurePosixPath(file.path)
    return str(path.relative_to(before)) if path.is_relative_to(before) else path.name


def _why_missing(client: Client, cluster_id: str, job_id: int, path: str, folder: str) -> str:
    near = str(_fixed(path) / "*")
    found = [
        file.path
        for pattern in (near, "**")
        for file in client.list_files(cluster_id, job_id, pattern).files
    ]
    names = [*dict.fromkeys(found)]
    links = "symbolic links are not followed, and files of others not given"
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    there = (
        f"There is: {', '.join(names[:MOST_NAMED])}{more}." if names else "The folder has no files."
    )
    return f"{path} is not in {folder} ({links}). {there}"
