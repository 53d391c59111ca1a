"""Counts of jobs as OpenMetrics text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable


def job_metrics(states: Iterable[str]) -> str:
    """How many jobs there are in which state.

    :param states: each job's.
    """
    counts = Counter(states)
    lines = [f'slurm_jobs{{state="{state}"}} {counts[state]}' for state in sorted(counts)]
    return "\n".join(["# TYPE slurm_jobs gauge", *lines, "# EOF", ""])
