"""What the server remembers of its jobs when it is started again in the same folder."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import msgspec

from clusterra_server.backend import LOG
from clusterra_server.jobs import Job
from clusterra_server.requests import Request

FORMAT = 1
TABLES = """
create table if not exists requests (submit integer primary key, request text not null);
create table if not exists jobs (
    submit integer, task integer, job text not null, primary key (submit, task)
);
"""


KINDS = {
    field.name: {"int": int, "str": str, "float": int | float, "bool": bool}[str(field.type)]
    for field in fields(Job)
    if field.name != "request"
}
"""A job's values but for its request, which the tasks of an array share."""


class LedgerError(Exception):
    """The file cannot be used; the words say why."""


class Ledger:
    """All jobs there ever were, in one SQLite file that one server holds at a time.

    Survives the server's end in any form, but not the machine's: it does not wait for the disk, so
    that a write takes microseconds and may stand in the event loop.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
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
        """Remember a submit: one job, or an array's tasks.

        :raises LedgerError: it is not remembered.
        """
        with self._transaction():
            self._database.execute(
                "insert into requests values (?, ?)",
                (jobs[0].key[0], _text(asdict(jobs[0].request))),
            )
            self._write(jobs)

    def keep(self, jobs: Iterable[Job]) -> None:
        """Remember jobs as they are now.

        :raises LedgerError: they are remembered as they were.
        """
        with self._transaction():
            self._write(jobs)

    def read(self) -> list[list[Job]]:
        """All submits in their order: one job each, or an array's tasks; but for damaged rows."""
        requests, found = dict[int, Request](), dict[int, list[Job]]()
        for submit, text in self._rows("select submit, request from requests order by submit"):
            with self._forgiving(submit):
                requests[submit] = msgspec.json.decode(text, type=Request)
        for submit, text in self._rows("select submit, job from jobs order by submit, task"):
            with self._forgiving(submit):
                values = msgspec.json.decode(text)
                if not all(isinstance(values[name], kind) for name, kind in KINDS.items()):
                    raise TypeError(text)
                job = Job(request=requests[submit], **values)
                found.setdefault(submit, []).append(job)
        return list(found.values())

    def last_id(self) -> int:
        """The largest id of a submit, damaged ones included."""
        rows = self._rows("select coalesce(max(submit), 0) from requests")
        return max((int(submit) for (submit,) in rows), default=0)

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

    def _rows(self, query: str) -> Iterator[tuple[Any, ...]]:
        """What can be read of a table whose file may be damaged, too."""
        try:
            yield from self._database.execute(query)
        except sqlite3.DatabaseError as exc:
            LOG.error("the jobs in %s cannot all be read: %s", self._path, exc)

    @contextmanager
    def _forgiving(self, submit: object) -> Iterator[None]:
        try:
            yield
        except (ValueError, TypeError, KeyError) as exc:
            LOG.error("what %s holds of job %s is damaged: %r", self._path, submit, exc)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            self._database.execute("begin")
            yield
            self._database.execute("commit")
        except sqlite3.Error as exc:
            raise LedgerError(f"{self._path} cannot be written: {exc}") from exc
        finally:
            if self._database.in_transaction:
                self._database.execute("rollback")

    def _write(self, jobs: Iterable[Job]) -> None:
        self._database.executemany(
            "insert or replace into jobs values (?, ?, ?)",
            [(*job.key, _text({name: getattr(job, name) for name in KINDS})) for job in jobs],
        )


def _text(values: dict[str, Any]) -> str:
    return msgspec.json.encode(values).decode()
