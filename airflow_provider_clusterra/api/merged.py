"""One job's fields from several sources: what comes later wins, and what it overrules is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from airflow_provider_clusterra.api.fields import Fields

LINES = "the script's #SBATCH lines"


class Merged:
    """A job's fields, beginning with those of its script's lines."""

    def __init__(self, lines: Fields) -> None:
        self.fields = dict(lines)
        self.conflicts: list[str] = []
        """One line of words for each source that overruled something."""
        self._sources = dict.fromkeys(lines, LINES)

    def overrule(self, said: str, source: str, change: Callable[[Fields], None]) -> None:
        """Let a source change the fields.

        :param said: what the source says, in words, e.g. ``"partition='gpu'"``.
        :param source: the source in fewer words, for when something else overrules it.
        :param change: changes the fields; it adds to a field, or puts another value there, but
            never changes a value in its place.
        """
        before = dict(self.fields)
        change(self.fields)
        lost = [name for name, value in before.items() if not _stays(value, self.fields.get(name))]
        if lost:
            name = lost[0]
            what = "" if name == "environment" else f"{name} {shown(before[name])} of "
            self.conflicts.append(f"{said} wins over {what}{self._sources[name]}.")
        for name, value in self.fields.items():
            if value != before.get(name):
                self._sources[name] = source


def shown(value: Any) -> str:
    """A field's value for a reader.

    :param value: in slurmrestd's form.
    """
    if isinstance(value, dict) and "number" in value:
        return "without a limit" if value.get("infinite") else str(value["number"])
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _stays(old: Any, new: Any) -> bool:
    """Whether the old value is part of the new one."""
    if isinstance(old, str) and isinstance(new, str):
        return set(old.split(",")) <= set(new.split(","))
    if isinstance(old, list) and isinstance(new, list):
        return all(each in new for each in old)
    if isinstance(old, dict) and isinstance(new, dict):
        return old.items() <= new.items()
    return bool(old == new)
