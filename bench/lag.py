"""How late an event loop is: what the triggerer's other triggers would feel."""

from __future__ import annotations

import asyncio
import gc
import signal
import struct
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import BinaryIO

EVERY = 0.005
WORTH_TELLING = 0.001
SAMPLE = struct.Struct("dd")


@asynccontextmanager
async def written_lag(path: Path) -> AsyncIterator[None]:
    """Write when each sleep of 5 ms was over, and the seconds by which it was late.

    SIGUSR1 ends it: it costs more CPU than waiting does.

    :param path: the file, written as it goes: a loop that is blocked cannot tell at the end.
    """
    with path.open("wb", buffering=512) as file:
        task = asyncio.create_task(_write(file))
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, task.cancel)
        try:
            yield
        finally:
            task.cancel()


async def _write(file: BinaryIO) -> None:
    while True:
        begin = time.time()
        await asyncio.sleep(EVERY)
        now = time.time()
        file.write(SAMPLE.pack(now, max(0.0, now - begin - EVERY)))


@contextmanager
def written_collections(path: Path) -> Iterator[None]:
    """Write when each of the garbage collector's runs was over, and the seconds that it took.

    :param path: the file, written as it goes.
    """
    begin = 0.0

    def note(phase: str, _: dict[str, int]) -> None:
        nonlocal begin
        now = time.time()
        if phase == "start":
            begin = now
        elif now - begin > WORTH_TELLING:
            file.write(SAMPLE.pack(now, now - begin))

    with path.open("wb", buffering=0) as file:
        gc.callbacks.append(note)
        try:
            yield
        finally:
            gc.callbacks.remove(note)


def read_longest(path: Path, begin: float, end: float) -> float:
    """The milliseconds of the longest of the samples of a time; 0 where there is none.

    :param path: as one of the above wrote it.
    :param begin: seconds since 1970.
    :param end: seconds since 1970.
    """
    inside = (each for at, each in _samples(path) if begin <= at <= end)
    return max(inside, default=0.0) * 1000


def read_lag(path: Path, begin: float, end: float) -> list[float]:
    """The milliseconds for which a call would have waited, had one come each 5 ms of a time.

    A loop that stands still for a second has kept 200 calls waiting, not one. What the file does
    not tell of its end, the loop stood still.

    :param path: as :func:`written_lag` wrote it.
    :param begin: seconds since 1970.
    :param end: seconds since 1970.
    """
    samples = _samples(path)
    inside = [(at, late) for at, late in samples if begin <= at <= end]
    last = max((at for at, _ in samples if at <= end), default=begin)
    after = next((sample for sample in samples if sample[0] > end), None)
    if after is not None and after[0] - after[1] < end:
        inside.append((end, end - max(begin, after[0] - after[1])))
    elif after is None and end - last > 1.0:
        inside.append((end, end - max(begin, last)))
    return [late * 1000 for late in _spread(min(late, at - begin) for at, late in inside)]


def _samples(path: Path) -> list[tuple[float, float]]:
    raw = path.read_bytes()
    return list(SAMPLE.iter_unpack(raw[: len(raw) // SAMPLE.size * SAMPLE.size]))


def _spread(delays: Iterable[float]) -> Iterable[float]:
    for late in delays:
        yield late
        for number in range(1, int(late / EVERY) + 1):
            yield late - number * EVERY


def percentile(values: list[float], share: float) -> float:
    """One of the values, in order.

    :param values: any number but none.
    :param share: 0 is the least, 1 the most.
    """
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
