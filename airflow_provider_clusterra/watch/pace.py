"""How soon to look again: young jobs often, old ones at the interval, and nobody at any price."""

from __future__ import annotations

import random

SHORTEST = 1.0
"""Seconds: no job is looked at more often."""
AGE_SHARE = 0.125
"""A young job is looked at again after this share of its age."""
AFTER_A_MISS = 5.0
"""Seconds at most until a job that was not shown is looked for again."""
DEAR = 10.0
"""A look is followed by a pause of at least so many times what it took, up to the interval."""


def next_look(
    age: float, poll_interval: float, *, took: float = 0.0, missed: bool = False
) -> float:
    """Seconds until the next look at a job, with jitter.

    :param age: seconds that the job has been waited for.
    :param poll_interval: seconds between two looks at an old job.
    :param took: seconds that the last look took.
    :param missed: whether the job was not shown.
    """
    pause = min(poll_interval, max(SHORTEST, age * AGE_SHARE))
    if missed:
        pause = min(pause, AFTER_A_MISS)
    return max(pause, min(poll_interval, took * DEAR)) * random.uniform(0.9, 1.1)
