"""What the server remembers of its jobs when it is started again in the same folder."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import asdict, fields
from pathlib import Path

from clusterra_server.jobs import Job
from clusterra_server.requests import Request

FORMAT = 1
TABLES = """
create table if not exists requests (submit integer primary key, request text not null);
create table if not exists jobs (
    submit integer, task integer, job text not null, primary key (submit, task)
);
"""


class LedgerError(Exception):
    """The file cannot be used; the words say why."""


class Ledger:
    """All jobs there ever were, in one SQLite file that one server holds at a time.

    Survives the server's end in any form, but not the machine's: it does not wait for the disk, so
    that a write takes microseconds and may stand in the event loop.
    """

    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(path, isolation_level=None, timeout=0)
        try:
            version = self._open()
        except sqlite3.Error as exc:
            self._database.close()
            words = "is it in use by another clusterra-server?"
            raise LedgerError(f"{path} cannot be used ({exc}); {words}") from exc
        if version not in (0, FORMAT):
            self._database.close()
            raise LedgerError(f"{path} was written by another version; choose another --dir")

    def add(self, jobs: list[Job]) -> None:
        """Remember a submit: one job, or an array's tasks."""
        self._database.execute("begin")
        self._database.execute(
            "insert into requests values (?, ?)",
            (jobs[0].key[0], json.dumps(asdict(jobs[0].request))),
        )
        self._write(jobs)
        self._database.execute("commit")

    def keep(self, job: Job) -> None:
        """Remember a job as it is now."""
        self._write([job])

    def read(self) -> list[list[Job]]:
        """All submits in their order: one job each, or an array's tasks."""
        found: dict[int, list[Job]] = {}
        rows = self._database.execute("select submit, request from requests order by submit")
        requests = {submit: _request(text) for submit, text in rows}
        rows = self._database.execute("select submit, job from jobs order by submit, task")
        for submit, text in rows:
            found.setdefault(submit, []).append(Job(request=requests[submit], **json.loads(text)))
        return list(found.values())

    def close(self) -> None:
        """Let another server have the file."""
        self._database.close()

    def _open(self) -> int:
        self._database.execute("pragma locking_mode = exclusive")
        self._database.execute("pragma journal_mode = wal")
        self._database.execute("pragma synchronous = off")
        (version,) = self._database.execute("pragma user_version").fetchone()
        if version in (0, FORMAT):
            self._database.executescript(f"{TABLES} pragma user_version = {FORMAT};")
        return int(version)

    def _write(self, jobs: Iterable[Job]) -> None:
        names = [field.name for field in fields(Job) if field.name != "request"]
        self._database.executemany(
            "insert or replace into jobs values (?, ?, ?)",
            [(*job.key, json.dumps({name: getattr(job, name) for name in names})) for job in jobs],
        )


def _request(text: str) -> Request:
    values = json.loads(text)
    for name in ("environment", "indices"):
        values[name] = tuple(values[name])
    return Request(**values)
