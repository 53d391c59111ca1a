"""What somebody may have meant."""

from __future__ import annotations

from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name that is most like this one, or ``""`` where none is.

    :param name: a name that is not known.
    :param known: those that are.
    """
    # loading it takes as long as three of our modules, and only an error needs it
    from difflib import get_close_matches  # noqa: PLC0415

    return next(iter(get_close_matches(name, known, 1)), "")
