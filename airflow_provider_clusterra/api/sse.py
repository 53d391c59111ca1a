"""Server-sent events: bytes in, each event's bytes out, none lost.

A job's output comes as the ``data`` of events, piece by piece, so that everything but the framing is
content. Hence the rules differ from the specification's if those would lose bytes:

1. Lines end at LF. A lone CR is content: a progress bar writes it.
2. A stream that is framed with CRLF shows it by its first blank line, which then is CR LF and which
   LF framing never has. From then on, and for the lines before it, one CR before an LF is framing.
3. ``data`` stays bytes: a letter may be cut in two by the end of an event.
4. The last event counts even if the stream ends without its blank line.

:source: https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
"""

from __future__ import annotations

import re

import msgspec

from airflow_provider_clusterra.api.errors import ProtocolError

BOM = b"\xef\xbb\xbf"
LF = b"\n\n"
"""What ends an event: its last line's LF, and a blank line."""
CRLF = b"\n\r\n"
BEGIN = b"\ndata: "
"""How a line of jobs' output begins, with the line end before it."""
END = re.compile(rb"\n(?!data: )").split
"""At line ends after which no such line begins: those of events, as a rule."""
LARGEST = 64 * 1024 * 1024
"""Bytes of one event; a job's output comes in pieces of some KiB."""


class Event(msgspec.Struct, frozen=True):
    """One event."""

    data: bytes
    """Its ``data`` lines, joined with LF."""
    kind: str = "message"
    """What the ``event`` line said."""


class Decoder:
    """Takes a stream's bytes as they come, and gives the events that are whole."""

    def __init__(self, largest: int = LARGEST) -> None:
        self._largest = largest
        self._buffer = bytearray()
        self._searched = 0
        """Up to here the buffer was searched for a blank line."""
        self._blank: bytes | None = None
        """:data:`LF` or :data:`CRLF`, once it was seen."""
        self._begun = False

    def feed(self, chunk: bytes) -> list[Event]:
        """The events that end in this chunk."""
        self._buffer += chunk
        if not self._begun and not self._begin():
            return []
        events: list[Event] = []
        self._blank = self._blank or self._framing()
        if self._blank and (end := self._buffer.rfind(self._blank, self._searched)) >= 0:
            events = self._read(end)
            # the blank line's own LF stays, so that each line has one before it
            del self._buffer[: end + len(self._blank) - 1]
        if len(self._buffer) > self._largest + len(b"\n"):
            raise ProtocolError(f"An event of the output has more than {self._largest} bytes.")
        self._searched = max(0, len(self._buffer) - len(CRLF) + 1)
        return events

    def close(self) -> list[Event]:
        """The last event, if the stream ended without its blank line."""
        self._begun = self._begun or not BOM.startswith(self._buffer)
        events = self._read(len(self._buffer)) if self._begun else []
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

    def _framing(self) -> bytes | None:
        plain = self._buffer.find(LF, self._searched)
        with_cr = self._buffer.find(CRLF, self._searched)
        if plain >= 0 and not 0 <= with_cr < plain:
            return LF
        return CRLF if with_cr >= 0 else None

    def _read(self, end: int) -> list[Event]:
        """The events up to where the last one's last line ends."""
        with memoryview(self._buffer) as whole, whole[:end] as text:
            if self._blank == CRLF:
                blocks = bytes(text).split(CRLF)
                rows = ([row.removesuffix(b"\r") for row in each.split(b"\n")] for each in blocks)
                return [event for each in rows for event in _interpret(each)]
            return _read_plain(text)


def _read_plain(text: memoryview) -> list[Event]:
    """What is framed with LF. No line is looked at if all are output."""
    blocks = END(text)
    if all(block.startswith(BEGIN) for block in blocks):
        return [Event(b"\n".join(block.split(BEGIN)[1:])) for block in blocks]
    return [event for each in bytes(text).split(LF) for event in _interpret(each.split(b"\n"))]


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
