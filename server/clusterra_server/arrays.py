"""Array indices as Slurm writes them."""

from __future__ import annotations

import re
from collections.abc import Sequence

LARGEST = 10_000
"""Slurm's MaxArraySize on Clusterra's clusters."""


def read_array(text: str) -> tuple[tuple[int, ...], int]:
    """The indices of an array, and how many of its tasks may run at once (0: no limit).

    :param text: e.g. ``"0-9"``, ``"0-20:5"``, ``"1,3,7-9%2"``.
    :raises ValueError: it is none of these, or too large.
    :source: ``sbatch --array``.
    """
    found = re.fullmatch(r"([\d,:-]+)(?:%(\d+))?", text.strip())
    if not found:
        raise ValueError(text)
    indices: set[int] = set()
    for part in found[1].split(","):
        piece = re.fullmatch(r"(\d+)(?:-(\d+)(?::([1-9]\d*))?)?", part)
        if not piece:
            raise ValueError(text)
        first, last, step = int(piece[1]), int(piece[2] or piece[1]), int(piece[3] or 1)
        if last < first or last >= LARGEST:
            raise ValueError(text)
        indices.update(range(first, last + 1, step))
    return tuple(sorted(indices)), int(found[2] or 0)


def write_array(indices: Sequence[int], at_once: int = 0) -> str:
    """Indices as one short text, e.g. ``"2-4,7%2"``."""
    parts: list[list[int]] = []
    for index in sorted(indices):
        if parts and index == parts[-1][-1] + 1:
            parts[-1].append(index)
        else:
            parts.append([index])
    text = ",".join(f"{part[0]}-{part[-1]}" if len(part) > 1 else str(part[0]) for part in parts)
    return f"{text}%{at_once}" if at_once else text
