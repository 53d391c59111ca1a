"""How fast server-sent events are decoded: ``python -m bench.sse``, MB/s of a stream, best of five."""

from __future__ import annotations

import time

from airflow_provider_clusterra.api.sse import Decoder

EVENT = 4096
CHUNK = 64 * 1024
TOTAL = 100_000_000
RUNS = 5
LINES = {
    "one line an event": b"x" * EVENT,
    "lines of 80 bytes": (b"x" * 79 + b"\n") * (EVENT // 80),
    "lines of 8 bytes": (b"x" * 7 + b"\n") * (EVENT // 8),
}


def main() -> None:
    """Print the figures."""
    for name, piece in LINES.items():
        event = b"".join(b"data: " + line + b"\n" for line in piece.split(b"\n")) + b"\n"
        stream = event * (TOTAL // len(event))
        print(
            f"{name:<18} {len(stream) / min(_seconds(stream) for _ in range(RUNS)) / 1e6:6.0f} MB/s"
        )


def _seconds(stream: bytes) -> float:
    decoder = Decoder()
    begin = time.perf_counter()
    for at in range(0, len(stream), CHUNK):
        decoder.feed(stream[at : at + CHUNK])
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
