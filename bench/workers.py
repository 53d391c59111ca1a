"""Jobs a second, submitted by several workers at the same time."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager

WORKERS = 8
Opens = Callable[[], AbstractContextManager[Callable[[], object]]]


def rate(opens: Opens, jobs: int) -> float:
    """Jobs a second.

    :param opens: gives each worker what submits one job.
    :param jobs: in all.
    """

    def work(count: int) -> None:
        with opens() as submit:
            for _ in range(count):
                submit()

    begin = time.perf_counter()
    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(work, [jobs // WORKERS] * WORKERS))
    return jobs // WORKERS * WORKERS / (time.perf_counter() - begin)
