"""An object storage for what jobs have made: S3's protocol on loopback, by the server's own program."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import time
from pathlib import Path
from typing import Any, Self

from clusterra_server.storage import find_rclone
from tests.support.ports import free_port

BUCKET = "clusterra-example"


class Store:
    """``rclone serve s3`` of a folder; a context manager."""

    def __init__(self, folder: Path) -> None:
        self.bucket = folder / BUCKET
        """Where the objects lie, each under its key."""
        self.bucket.mkdir(parents=True)
        self._keys = secrets.token_hex(8), secrets.token_hex(16)
        self._port = free_port()

    @property
    def url(self) -> str:
        """The endpoint."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def connection(self) -> dict[str, Any]:
        """What Airflow's connection to it has."""
        login, password = self._keys
        extra = {"endpoint_url": self.url, "region_name": "us-east-1"}
        return {
            "conn_type": "aws",
            "login": login,
            "password": password,
            "extra": json.dumps(extra),
        }

    def __enter__(self) -> Self:
        words = ("serve", "s3", "--addr", f"127.0.0.1:{self._port}", str(self.bucket.parent))
        pair = ",".join(self._keys)
        self._process = subprocess.Popen(
            [find_rclone(), *words],
            env={**os.environ, "RCLONE_AUTH_KEY": f'"{pair}"', "RCLONE_CONFIG": "/dev/null"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while self._process.poll() is None and not self._listens():
            time.sleep(0.02)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self._port)) == 0
