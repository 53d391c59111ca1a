"""One part of the whole in a process of its own: ``python -m bench.part NAME FILE``.

The file holds its figures as JSON. When it is told to end, it takes down what it has started.
"""

from __future__ import annotations

import importlib
import signal
import sys
from pathlib import Path

import msgspec


def _stop(*_: object) -> None:
    raise SystemExit("It was told to end.")


def main() -> None:
    """Measure."""
    name, file = sys.argv[1:]
    signal.signal(signal.SIGTERM, _stop)
    figures = importlib.import_module(f"bench.{name}").measure()
    Path(file).write_bytes(msgspec.json.encode(figures))


if __name__ == "__main__":
    main()
