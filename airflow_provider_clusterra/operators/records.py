"""Where Airflow keeps what a task must know of its submit at its next try."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from airflow.providers.common.compat.sdk import Context
from msgspec.structs import replace

from airflow_provider_clusterra.operators.kill import TaskKilledError
from airflow_provider_clusterra.submit.record import Failure, Kept, Record, read_record

log = logging.getLogger(__name__)

KEY = "clusterra_submit"


class RecordStore:
    """The task's one record in Airflow's task state store, which survives retries and clears.

    Airflow has it from 3.3 on. Before, nothing is remembered, and the tag alone tells.

    :param context: the task's.
    """

    def __init__(self, context: Context) -> None:
        self._store: Any = context.get("task_state_store")

    @property
    def lasts(self) -> bool:
        """Whether anything is remembered at all."""
        return self._store is not None

    def load(self) -> Record | None:
        """The record of the last submit that did not end well, or None."""
        return None if self._store is None else read_record(self._store.get(KEY))

    def save(self, record: Record) -> None:
        """Remember the record instead of the one before.

        :param record: in the place of the one before.
        """
        if self._store is not None:
            self._store.set(KEY, record.to_json())

    def put_back(self, record: Record | None) -> None:
        """Remember what was remembered before a submit that was none.

        :param record: of :meth:`load`, before.
        """
        if record is None:
            self.drop()
        else:
            self.save(record)

    def save_failure(self, failure: Failure, kept: Kept | None = None) -> None:
        """Remember how the job ended, where Airflow can: the end itself is the task's to tell.

        :param failure: what the next try needs of it.
        :param kept: what its tries have brought; otherwise what was known before.
        """
        try:
            record = self.load()
            if record is not None:
                self.save(replace(record, failure=failure, kept=kept or record.kept))
        except Exception as error:  # noqa: BLE001 - whatever it is, the job's end is told
            log.warning("Airflow could not remember how the job ended: %s", error)

    @contextmanager
    def told_of_kills(self, *, wanted: bool) -> Iterator[None]:
        """Remember of a try that is killed that nobody wants its job any more.

        :param wanted: whether its job goes on all the same.
        """
        try:
            yield
        except TaskKilledError:
            record = None if wanted else self.load()
            if record is not None:
                # as far as the time lasts that Airflow gives
                self.save(replace(record, unwanted=True))
            raise

    def drop(self) -> None:
        """Forget the record: a task that is cleared after its success runs a new job."""
        if self._store is not None:
            self._store.delete(KEY)
