"""A server that says what it is told, byte for byte: for the faults a real one cannot be made to show."""

from __future__ import annotations

import contextlib
import json
import socketserver
import ssl
import threading
from collections.abc import Callable, Mapping
from typing import Any, Self

Answer = bytes | Callable[[bytes], bytes] | None


def http(status: int = 200, body: Any = b"", headers: Mapping[str, str] | None = None) -> bytes:
    """One HTTP answer; anything but bytes goes out as JSON."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    kind = "text/plain" if isinstance(body, bytes) else "application/json"
    lines = {"Content-Type": kind, "Content-Length": str(len(raw)), "Connection": "close"}
    head = "".join(f"{name}: {value}\r\n" for name, value in {**lines, **(headers or {})}.items())
    return f"HTTP/1.1 {status} Said\r\n{head}\r\n".encode() + raw


class Wire:
    """Answers its requests in the order given, the last one for ever; a context manager.

    :param answers: raw bytes each, or what makes them of the request; None closes the connection
        without a word.
    :param tls: speaks TLS with this, where it is given.
    """

    def __init__(self, *answers: Answer, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[bytes] = []
        self.connections = 0
        """That brought a request."""
        self.silent = threading.Event()
        """Set it to let the requests wait for an answer that never comes."""
        self._answers = list(answers)
        self._released = threading.Event()
        wire = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                kept = False
                while request := _read_request(self.rfile):
                    wire.connections += not kept
                    wire.requests.append(request)
                    answer = wire._next()
                    told = (answer(request) if callable(answer) else answer) or b""
                    self.wfile.write(told)
                    if not (kept := b"\r\nConnection: keep-alive\r\n" in told):
                        return

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            request_queue_size = 128

            def finish_request(self, request: Any, client_address: Any) -> None:
                if tls is None:
                    super().finish_request(request, client_address)
                    return
                with (
                    contextlib.suppress(ssl.SSLError),
                    tls.wrap_socket(request, server_side=True) as secured,
                ):
                    super().finish_request(secured, client_address)

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def says(self, *answers: Answer) -> None:
        """Give other answers from now on."""
        self._answers[:] = answers

    def _next(self) -> Answer:
        if self.silent.is_set():
            self._released.wait(30)
            return None
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def headers_of(request: bytes) -> dict[str, str]:
    """A raw request's headers, their names in lower case."""
    lines = request.partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]
    return {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}


def _read_request(file: Any) -> bytes:
    """A whole request; nothing where it was cut short."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        line = file.readline()
        if not line:
            return b""
        head += line
    length = int(headers_of(head).get("content-length", 0))
    body = file.read(length)
    return head + body if len(body) == length else b""
