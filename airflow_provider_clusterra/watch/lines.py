"""A job's output as log records: bytes in, whole lines out, and nothing lost.

A record holds as many whole lines as there are, without the last one's line end. A line that stays
unfinished is given all the same after a while; the record that goes on with it begins with
:data:`GOES_ON`. Taken together the records are the output, with bytes that are no UTF-8 replaced.
"""

from __future__ import annotations

import codecs

RECORD = 64 * 1024
"""Characters of one record at most."""
UNFINISHED = 5.0
"""Seconds for which an unfinished line is held back: a progress bar has no line ends."""
GOES_ON = "[…] "


class Lines:
    """Collects pieces of output, and gives them as records."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._text = ""
        self._in_a_line = False
        self._held_since: float | None = None

    @property
    def full(self) -> bool:
        """Whether there is enough for a record, however soon after the last."""
        return len(self._text) >= RECORD

    def feed(self, piece: bytes) -> None:
        """Take the output's next bytes.

        :param piece: cut anywhere.
        """
        self._text += self._decoder.decode(piece)

    def take(self, now: float, *, last: bool = False) -> str | None:
        """The next record, or None where there is none yet.

        :param now: seconds, of any clock that only goes on.
        :param last: whether the output ends here.
        """
        if last:
            self._text += self._decoder.decode(b"", final=True)
        end = self._text.rfind("\n", 0, RECORD + 1)
        if end >= 0:
            return self._give(end, end + 1, in_a_line=False)
        if not self._text:
            return None
        if self._held_since is None:
            self._held_since = now
        if self.full or last or now - self._held_since >= UNFINISHED:
            end = min(len(self._text), RECORD)
            return self._give(end, end, in_a_line=True)
        return None

    def _give(self, end: int, rest: int, *, in_a_line: bool) -> str:
        record = (GOES_ON if self._in_a_line else "") + self._text[:end]
        self._text = self._text[rest:]
        self._in_a_line = in_a_line
        self._held_since = None
        return record
