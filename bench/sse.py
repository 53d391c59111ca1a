"""How fast server-sent events are decoded: ``python -m bench.sse``, MB/s of a stream."""

from __future__ import annotations

import time

from airflow_provider_clusterra.api.sse import Decoder
from bench.figures import Figure, median_of, show

EVENT = 4096
CHUNK = 64 * 1024
TOTAL = 100_000_000
LINES = {
    "one line an event": b"x" * EVENT,
    "lines of 80 bytes": (b"x" * 79 + b"\n") * (EVENT // 80),
    "lines of 8 bytes": (b"x" * 7 + b"\n") * (EVENT // 8),
}


def measure() -> list[Figure]:
    """The decoder alone, by the length of lines."""
    return [
        Figure(name="server-sent events decoded", value=_speed(piece), unit="MB/s", at=name)
        for name, piece in LINES.items()
    ]


def _speed(piece: bytes) -> float:
    event = b"".join(b"data: " + line + b"\n" for line in piece.split(b"\n")) + b"\n"
    stream = event * (TOTAL // len(event))
    return len(stream) / median_of(lambda: _seconds(stream)) / 1e6


def _seconds(stream: bytes) -> float:
    decoder = Decoder()
    begin = time.perf_counter()
    for at in range(0, len(stream), CHUNK):
        decoder.feed(stream[at : at + CHUNK])
    return time.perf_counter() - begin


if __name__ == "__main__":
    show(measure())
