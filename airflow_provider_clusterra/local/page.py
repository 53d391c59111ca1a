"""A job's page for a person."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from airflow_provider_clusterra.local.jobs import Job

STYLE = "body{font:16px sans-serif;margin:2em}td,th{padding:.3em 1em;text-align:left}"


def job_page(shown_id: str, jobs: Sequence[Job]) -> str:
    """A page of HTML that shows a job, or all tasks of an array.

    :param shown_id: the id as it was asked for.
    :param jobs: empty where there is no such job.
    """
    title = escape(f"Job {shown_id}")
    rows = "".join(
        f"<tr><td>{job.job_id}</td><td>{escape(job.request.name)}</td>"
        f"<td>{escape(job.state)}</td><td>{escape(job.reason)}</td></tr>"
        for job in jobs
    )
    table = f"<table><tr><th>id</th><th>name</th><th>state</th><th>reason</th></tr>{rows}</table>"
    shown = table if jobs else "<p>There is no such job, or it was purged.</p>"
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title>"
        f"<style>{STYLE}</style><h1>{title}</h1>{shown}"
    )
