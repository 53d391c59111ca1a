"""The files of a job's folder: found by a pattern, and given at signed addresses, whole or in part."""

from __future__ import annotations

import fnmatch
import hmac
import os
import re
import stat
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlencode

from clusterra_server.backend import JobFolder, OutputError
from clusterra_server.outputs import Output, is_closed, open_below
from clusterra_server.sign_in import FILES
from clusterra_server.storage import EXPIRES_IN, is_one_line

EFS = PurePosixPath("/mnt/efs")
"""The folder that Clusterra's jobs share, as a client may write it."""
MOST_FILES = 10_000
"""Files that one list names."""
MOST_ENTRIES = 100_000
"""Entries of folders that are looked at for one list."""
DEEPEST = 32
"""Folders below the job's own."""
LONGEST_PATTERN = 1000
PIECE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Found:
    """What a pattern has found."""

    files: list[dict[str, Any]]
    truncated: bool
    """Whether there may be more."""


def find_files(folder: JobFolder, pattern: str) -> Found:
    """The job's own files that match a pattern: no links, and nothing behind one.

    :raises OutputError: the pattern leads out of the folder, or the folder is not there.
    """
    parts = _parts(folder, pattern or "**")
    # one answer to all: a job's folder may be anywhere, and who asks learns no names of others
    refusal = OutputError(
        404, f"The job's folder {folder} is not there, or not open to the job's user"
    )
    try:
        at = open_below(folder.shared, folder.parts, os.O_DIRECTORY)
    except OSError as exc:
        raise refusal from exc
    search = _Search(folder.owner)
    try:
        for name, facts in search.walk(at, "", parts):
            search.files[name] = {
                "path": name,
                "size": facts.st_size,
                "modified": int(facts.st_mtime),
                "changed": int(facts.st_ctime),
            }
            if search.is_over:
                break
    finally:
        os.close(at)
    if not search.files and is_closed(folder.shared, (*folder.parts, ""), folder.owner):
        raise refusal
    rows = [search.files[name] for name in sorted(search.files)]
    return Found(rows[:MOST_FILES], search.is_over)


class _Search:
    """One walk through a job's folder."""

    def __init__(self, owner: int | None) -> None:
        self.files: dict[str, dict[str, Any]] = {}
        self._owner = owner
        self._entries = 0

    @property
    def is_over(self) -> bool:
        """Whether it has seen more than it may."""
        return len(self.files) > MOST_FILES or self._entries > MOST_ENTRIES

    def walk(
        self, at: int, place: str, parts: tuple[str, ...]
    ) -> Iterator[tuple[str, os.stat_result]]:
        """Each file below an open folder that matches.

        :param at: the folder's descriptor.
        :param place: its path with a slash at its end; empty for the job's folder itself.
        :param parts: of the pattern, e.g. ``("out", "**", "*.pt")``.
        """
        part, rest = parts[0], parts[1:]
        deep = part == "**"
        below = parts if deep else rest
        if deep and rest:
            # "**" may stand for no folder
            yield from self.walk(at, place, rest)
        for name, facts in self._entries_of(at, "*" if deep else part):
            if below and stat.S_ISDIR(facts.st_mode):
                yield from self._below(at, f"{place}{name}", below)
            elif not rest and self._is_own_file(facts):
                yield f"{place}{name}", facts

    def _is_own_file(self, facts: os.stat_result) -> bool:
        return stat.S_ISREG(facts.st_mode) and self._owner in (None, facts.st_uid)

    def _below(
        self, at: int, place: str, parts: tuple[str, ...]
    ) -> Iterator[tuple[str, os.stat_result]]:
        if self.is_over or place.count("/") >= DEEPEST:
            return
        try:
            below = os.open(
                PurePosixPath(place).name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=at
            )
        except OSError:
            # it is another's, or has gone
            return
        try:
            yield from self.walk(below, f"{place}/", parts)
        finally:
            os.close(below)

    def _entries_of(self, at: int, part: str) -> Iterator[tuple[str, os.stat_result]]:
        matches = re.compile(fnmatch.translate(part)).match
        is_name = not set("*?[") & set(part)
        for name in [part] if is_name else os.listdir(at):
            self._entries += 1
            if self.is_over:
                return
            hidden = name.startswith(".") and not part.startswith(".")
            # a name may have the signs of a pattern
            if (name == part or (matches(name) and not hidden)) and is_one_line(name):
                try:
                    yield name, os.stat(name, dir_fd=at, follow_symlinks=False)
                except OSError:
                    continue


def folder_of(shared: Path, path: str, owner: int | None = None) -> JobFolder:
    """A job's working directory as the folder of its files.

    :raises OutputError: it is not below the folder that the jobs share.
    """
    name = _name_below(shared, path)
    if name is None:
        words = f"The job's folder {path} is not in the folder that the jobs share, {shared}"
        raise OutputError(409, f"{words}: set its working directory to one there")
    return JobFolder(shared, str(name), owner)


def _name_below(shared: Path, path: str) -> PurePosixPath | None:
    place = PurePosixPath(path)
    for folder in (shared, os.path.realpath(shared)):
        if place.is_relative_to(folder) and ".." not in place.parts:
            return place.relative_to(folder)
    return None


def _parts(folder: JobFolder, path: str) -> tuple[str, ...]:
    """A path, or a pattern, below the job's folder.

    :raises OutputError: it is none.
    """
    place = PurePosixPath(path)
    if len(path) > LONGEST_PATTERN or not is_one_line(path):
        raise OutputError(400, "this is no path of a file")
    if ".." in place.parts:
        raise OutputError(400, f"{path}: there is no '..' in a path of a job's file")
    if place.is_absolute():
        under = _name_below(folder.shared, path)
        if under is None and place.is_relative_to(EFS):
            under = place.relative_to(EFS)
        if under is None or not under.is_relative_to(folder.name):
            raise OutputError(400, f"{path} is outside of the job's folder {folder}")
        place = under.relative_to(folder.name)
    if not place.parts:
        raise OutputError(400, f"{path!r} is the job's folder, and no file in it")
    return place.parts


@dataclass(frozen=True, slots=True)
class Place:
    """One file, as an address has it."""

    name: str
    """Below the shared folder."""
    owner: int | None

    @classmethod
    def of(cls, folder: JobFolder, path: str) -> Place:
        """A file of a job's.

        :raises OutputError: it is not in the job's folder.
        """
        return cls("/".join([*folder.parts, *_parts(folder, path)]), folder.owner)

    def open(self, shared: Path) -> Output:
        """The file, open.

        :raises OutputError: it is not there, or not given; checked on what is open.
        """
        # one answer to all: a job's folder may be anywhere, and who asks learns no names of others
        refusal = OutputError(
            404,
            f"{shared / self.name} is no plain file of the job's user; symbolic links are not followed",
        )
        try:
            descriptor = open_below(shared, PurePosixPath(self.name).parts)
        except OSError as exc:
            raise refusal from exc
        facts = os.fstat(descriptor)
        if stat.S_ISREG(facts.st_mode) and self.owner in (None, facts.st_uid):
            return Output(descriptor)
        os.close(descriptor)
        raise refusal


class Signer:
    """Addresses that give one file for an hour to whoever has them, and that nobody else can make.

    :param key: random bytes.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def sign(self, place: Place) -> str:
        """A file's address, below the server's own."""
        expires = str(int(time.time()) + EXPIRES_IN)
        owner = "" if place.owner is None else str(place.owner)
        query = {"name": place.name, "owner": owner, "expires": expires}
        return f"{FILES}?{urlencode({**query, 'signature': self._signature(**query)})}"

    def read(self, query: dict[str, str]) -> Place | None:
        """The file of an address; None if it is not one of ours, or is too old."""
        signature = query.pop("signature", "")
        if set(query) != {"name", "owner", "expires"}:
            return None
        expected = self._signature(**query)
        if not hmac.compare_digest(expected.encode(), signature.encode()):
            return None
        if int(query["expires"]) < time.time():
            return None
        return Place(query["name"], int(query["owner"]) if query["owner"] else None)

    def _signature(self, name: str, owner: str, expires: str) -> str:
        text = f"{expires}\n{owner}\n{name}"
        return hmac.new(self._key, text.encode(), "sha256").hexdigest()


def version_of(file: Output) -> str:
    """An ETag: another one for what is another file, or has been written to."""
    facts = os.fstat(file.descriptor)
    return f'"{facts.st_ino:x}-{facts.st_size:x}-{facts.st_mtime_ns:x}"'


def read_range(header: str, size: int) -> tuple[int, int] | None:
    """Where a range begins and ends; None for the whole file.

    :raises OutputError: it is beyond the end.
    :source: RFC 9110, 14.1.2; what is no range is as if it were not there, and several are all.
    """
    number = "[0-9]{1,18}"
    if found := re.fullmatch(rf"bytes=\s*({number})-({number})?\s*", header):
        first, last = int(found[1]), int(found[2] or 10**18)
        if last < first:
            return None
        end = min(size, last + 1)
    elif found := re.fullmatch(rf"bytes=\s*-({number})\s*", header):
        first, end = max(0, size - int(found[1])), size
    else:
        return None
    if first >= size or end <= first:
        raise OutputError(416, f"the file has {size} bytes")
    return first, end


async def pieces(file: Output, first: int, end: int) -> AsyncIterator[bytes]:
    """A part of a file; what is not there any more is left out."""
    while first < end and (piece := await file.read(min(end - first, PIECE), first)):
        first += len(piece)
        yield piece
