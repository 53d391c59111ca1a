"""Server-sent events: bytes in, each event's bytes out, none lost.

A job's output comes as the ``data`` of events, piece by piece, so that everything but the framing is
content. Hence the rules differ from the specification's where that would lose bytes:

1. Lines end at LF. A lone CR is content: a progress bar writes it.
2. A stream that is framed with CRLF shows it by its first blank line, which then is CR LF and which
   LF framing never has. From then on, and for the lines before it, one CR before an LF is framing.
3. ``data`` stays bytes: a letter may be cut in two by the end of an event.
4. The last event counts even where the stream ends without its blank line.

:source: https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
"""

from __future__ import annotations

import msgspec

BOM = b"\xef\xbb\xbf"
LF = b"\n\n"
"""What ends an event: its last line's LF, and a blank line."""
CRLF = b"\n\r\n"


class Event(msgspec.Struct, frozen=True):
    """One event."""

    data: bytes
    """Its ``data`` lines, joined with LF."""
    kind: str = "message"
    """What the ``event`` line said."""


class Decoder:
    """Takes a stream's bytes as they come, and gives the events that are whole."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._searched = 0
        """Up to here the buffer was searched for a blank line."""
        self._blank: bytes | None = None
        """:data:`LF` or :data:`CRLF`, once it was seen."""
        self._begun = False

    def feed(self, chunk: bytes) -> list[Event]:
        """The events that end in this chunk.

        :param chunk: the stream's next bytes, cut anywhere.
        """
        self._buffer += chunk
        if not self._begun and not self._begin():
            return []
        events: list[Event] = []
        begin = 0
        while (end := self._find_blank()) >= 0:
            events += self._read(begin, end)
            begin = self._searched
        del self._buffer[:begin]
        self._searched = max(0, len(self._buffer) - len(CRLF) + 1)
        return events

    def close(self) -> list[Event]:
        """The last event, where the stream ended without its blank line."""
        self._begun = self._begun or not BOM.startswith(self._buffer)
        events = self._read(0, len(self._buffer)) if self._begun else []
        self._buffer.clear()
        return events

    def _begin(self) -> bool:
        """Take the BOM away, once it is sure whether there is one."""
        if len(self._buffer) < len(BOM) and BOM.startswith(self._buffer):
            return False
        # so that a blank line at the very beginning is one
        self._buffer[: len(BOM) if self._buffer.startswith(BOM) else 0] = b"\n"
        self._begun = True
        return True

    def _find_blank(self) -> int:
        """Where the next event's last line ends, or -1; what is behind it counts as searched."""
        self._blank = self._blank or self._framing()
        end = self._buffer.find(self._blank, self._searched) if self._blank else -1
        if self._blank and end >= 0:
            self._searched = end + len(self._blank)
        return end

    def _framing(self) -> bytes | None:
        plain = self._buffer.find(LF, self._searched)
        with_cr = self._buffer.find(CRLF, self._searched)
        if plain >= 0 and not 0 <= with_cr < plain:
            return LF
        return CRLF if with_cr >= 0 else None

    def _read(self, begin: int, end: int) -> list[Event]:
        block = bytes(self._buffer[begin:end])
        if block.startswith(b"data: ") and self._blank == LF:
            # nothing but "data: " lines, which is how jobs' output comes: no line is looked at
            lines = block.count(b"\n")
            if block.count(b"\ndata: ") == lines:
                return [Event(block[6:].replace(b"\ndata: ", b"\n") if lines else block[6:])]
        rows = block.split(b"\n")
        if self._blank == CRLF:
            rows = [row.removesuffix(b"\r") for row in rows]
        return _interpret(rows)


def _interpret(lines: list[bytes]) -> list[Event]:
    data: list[bytes] = []
    kind = ""
    for line in lines:
        name, _, value = line.partition(b":")
        if name == b"data":
            data.append(value.removeprefix(b" "))
        elif name == b"event":
            kind = value.removeprefix(b" ").decode("utf-8", "replace")
    return [Event(b"\n".join(data), kind or "message")] if data else []
