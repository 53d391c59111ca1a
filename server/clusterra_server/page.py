"""A job's page for a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

STYLE = "body{font:16px sans-serif;margin:2em}td,th{padding:.3em 1em;text-align:left}"


def job_page(shown_id: str, records: Sequence[Mapping[str, Any]]) -> str:
    """A page of HTML that shows a job, or all tasks of an array.

    :param shown_id: the id as it was asked for.
    :param records: as slurmrestd gives them; empty where there is no such job.
    """
    title = escape(f"Job {shown_id}")
    rows = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in _cells(record)) + "</tr>"
        for record in records
    )
    table = f"<table><tr><th>id</th><th>name</th><th>state</th><th>reason</th></tr>{rows}</table>"
    shown = table if records else "<p>There is no such job, or it was purged.</p>"
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title>"
        f"<style>{STYLE}</style><h1>{title}</h1>{shown}"
    )


def _cells(record: Mapping[str, Any]) -> tuple[str, str, str, str]:
    state = record.get("job_state") or []
    shown = state if isinstance(state, str) else " ".join(state)
    reason = str(record.get("state_reason", ""))
    return str(record.get("job_id", "")), str(record.get("name", "")), shown, reason
