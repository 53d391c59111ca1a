"""A server that gives a job's output as fast as a socket takes it: ``python -m bench.pour BYTES``.

It prints its address. ``…/output`` is the whole file, in chunks and without a length, as the vendor's;
``…/output/stream`` the same bytes as server-sent events of 4 KiB, which end with the file. The
vendor's own stream brings 8 KiB a second, which would measure the vendor.
"""

from __future__ import annotations

import socketserver
import sys
import zlib
from functools import cache
from typing import ClassVar

from bench.process import end_with_the_parent

EVENT = 4096
LINE = b"step 000001  energy -1.234567e+05  temperature 300.15 K  pressure 1.0 bar  ok\n"
PIECE = 64 * 1024
HEAD = (
    "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n"
    "Connection: close\r\n\r\n"
)


@cache
def piece() -> bytes:
    """64 KiB of a job's output, in lines of 80 bytes."""
    return (LINE * (PIECE // len(LINE) + 1))[:PIECE]


def checksum(size: int) -> int:
    """The checksum of a whole output.

    :param size: its bytes; whole pieces only.
    """
    found = 0
    for _ in range(size // PIECE):
        found = zlib.crc32(piece(), found)
    return found


class Pouring(socketserver.StreamRequestHandler):
    """Answers one request."""

    size: ClassVar[int] = 0
    """Bytes of the output."""

    def handle(self) -> None:
        """Read the request's head, and pour."""
        path = self.rfile.readline().split(b" ")[1]
        while self.rfile.readline().strip():
            pass
        streamed = path.endswith(b"/stream")
        kind = "text/event-stream" if streamed else "text/plain"
        self.wfile.write(HEAD.format(status="200 OK", kind=kind).encode())
        body = _events(piece()) if streamed else piece()
        chunk = b"%x\r\n%b\r\n" % (len(body), body)
        try:
            for _ in range(self.size // PIECE):
                self.wfile.write(chunk)
            self.wfile.write(b"0\r\n\r\n")
        except ConnectionError:
            return


def _events(data: bytes) -> bytes:
    made = []
    for at in range(0, len(data), EVENT):
        lines = data[at : at + EVENT].split(b"\n")
        made.append(b"".join(b"data: " + line + b"\n" for line in lines) + b"\n")
    return b"".join(made)


def main() -> None:
    """Serve until the process is ended, or its parent has."""
    end_with_the_parent()
    Pouring.size = int(sys.argv[1])
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Pouring) as server:
        print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
