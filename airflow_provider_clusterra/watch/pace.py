"""How soon to look again: young jobs often, old ones at the interval."""

from __future__ import annotations

import random

SHORTEST = 1.0
"""Seconds: no job is looked at more often."""
AGE_SHARE = 0.125
"""A young job is looked at again after this share of its age."""


def next_look(age: float, poll_interval: float) -> float:
    """Seconds until the next look at a job, with jitter.

    :param age: seconds that the job has been waited for.
    :param poll_interval: seconds between two looks at an old job.
    """
    pause = min(poll_interval, max(SHORTEST, age * AGE_SHARE))
    return pause * random.uniform(0.9, 1.1)
