"""Ports for servers that take long to start."""

import secrets
import socket
from contextlib import suppress


def free_port() -> int:
    """A port of loopback that nobody listens on.

    It is none of those that the system gives to connections and to others who ask for any: by the
    time an Airflow listens, half a minute later, somebody else might have it.
    """
    while True:
        port = 15_000 + secrets.randbelow(15_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
