"""Transfers of files: their progress in the log, and downloads that arrive whole or not at all."""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path, PurePath, PurePosixPath
from typing import Any, BinaryIO, Self

import msgspec
from airflow.providers.common.compat.sdk import AirflowException, ObjectStoragePath

from airflow_provider_clusterra.api.calls import ApiRoute
from airflow_provider_clusterra.api.client import Client
from airflow_provider_clusterra.api.errors import ClusterraError, InputError, NotFoundError
from airflow_provider_clusterra.api.uploads import Download

log = logging.getLogger(__name__)

MIB = 1024 * 1024
FIRST_LOGGED = 10.0
"""Seconds until a transfer's progress is logged first; then each time after twice as long."""
AT_ONCE = 8
"""Small files wait for the API and the storage longer than they take."""
BLOCK = 8 * MIB
"""Bytes of a part of an object: two are held at a time."""
MOST_PARTS = 9000
"""S3 takes 10,000."""
_WELL_KNOWN = ("s3", "s3a", "gs", "gcs", "abfs", "abfss", "adl", "az", "oss", "oci")
ATOMIC = frozenset((*_WELL_KNOWN, "hf", "lakefs", "r2", "swift", "tos"))
"""Object stores, in which a file exists once it is closed. In others it exists once it is opened."""
WRONG_PLACE = (FileNotFoundError, NotADirectoryError, ValueError, ImportError, TypeError)
"""Errors of a store if a place is wrong. Any other may be a hiccup."""
WRONG_PATH = (errno.EACCES, errno.ENAMETOOLONG)
"""Those of a file system: its errors name the file. A store's do not if it rejects credentials, which may
be renewed."""
PLAIN = ("", "identity", "aws-chunked")
"""Values of ``Content-Encoding`` that mean plain bytes; the last is a leftover of how the file was uploaded."""


GLOB = frozenset("*?[")
"""Characters that make a path a pattern."""


def offered(client: Client, find: Callable[[list[ApiRoute]], Any]) -> Any:
    """What ``find`` returns for the API's routes; None if the API does not list them."""
    try:
        return find(client.list_routes())
    except NotFoundError:
        return None


class TransferLog:
    """Logs the progress of a transfer that takes long, and its end."""

    def __init__(self, verb: str, shown: str, size: int | None) -> None:
        self._verb, self._shown, self._size = verb, shown, size
        self._begin = time.monotonic()
        self._next = FIRST_LOGGED
        self.done = 0
        """Bytes."""

    def add(self, count: int) -> None:
        """Count bytes that were transferred."""
        self.done += count
        took = time.monotonic() - self._begin
        if took >= self._next:
            self._next = 2 * took
            share = f"{100 * self.done // self._size} % of " if self._size else ""
            log.info("%s %s%s: %s", self._verb, share, self._shown, self._rate(took))

    def end(self, where: str) -> None:
        """Log that all were."""
        took = max(time.monotonic() - self._begin, 1e-3)
        log.info("%s %s %s: %s", self._verb, self._shown, where, self._rate(took))

    def _rate(self, took: float) -> str:
        return f"{self.done} bytes in {took:.1f} s ({self.done / took / MIB:.0f} MiB/s)"


class CountedFile:
    """A file to upload whose bytes are counted as they are read; each try counts anew."""

    def __init__(self, file: BinaryIO, progress: TransferLog) -> None:
        self._file, self._progress = file, progress

    def read(self, count: int) -> bytes:
        """Some bytes."""
        piece = self._file.read(count)
        self._progress.add(len(piece))
        return piece

    def __enter__(self) -> Self:
        self._progress.done = 0
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


Target = Path | ObjectStoragePath


def read_target(given: Any) -> Target:
    """A place for a file: a path of the worker, an ``ObjectStoragePath``, or its URI."""
    if isinstance(given, ObjectStoragePath):
        path = given
    else:
        text = os.fspath(given)
        if not text.strip():
            raise InputError("The target is empty: give a place for the copy.")
        if "://" not in text:
            return Path(text).expanduser().absolute()
        path = ObjectStoragePath(text)
    return Path(path.path) if path.protocol in ("file", "local") else path


def is_folder(given: Any) -> bool:
    """Whether a place is a folder, into which files go under their own names."""
    target = read_target(given)
    if isinstance(target, Path):
        return str(given).endswith("/") or target.is_dir()
    return str(given).endswith("/") or (target.protocol in ATOMIC and not target.key)


def check_target(given: Any, *, is_many: bool = False) -> None:
    """Refuse a place that cannot be written, as far as that is known before anything is.

    Raises InputError, or AirflowException if the store does not answer, which a retry may heal.
    """
    try:
        target = read_target(given)
        into = is_many or is_folder(given)
        if isinstance(target, Path):
            _check_folder(target if into else target.parent)
        elif target.protocol in ATOMIC:
            _check_bucket(target, target / "clusterra" if into else target)
        else:
            target.fs.exists("/")
    except (InputError, AirflowException):
        raise
    except Exception as exc:  # each store has errors of its own
        error = InputError if _is_wrong(exc) else AirflowException
        raise error(f"{given} cannot be written: {str(exc) or type(exc).__name__}") from exc


def _is_wrong(exc: Exception) -> bool:
    if isinstance(exc, WRONG_PLACE):
        return True
    return isinstance(exc, OSError) and exc.filename is not None and exc.errno in WRONG_PATH


def _check_bucket(target: Any, file: Any) -> None:
    if not target.bucket:
        raise InputError(f"{target} cannot be written: it names no bucket.")
    try:
        if hasattr(target.fs, "call_s3"):
            # to begin an upload takes the right to write, and aborting it leaves nothing
            place = {"Bucket": file.bucket, "Key": file.key}
            begun = target.fs.call_s3("create_multipart_upload", **place)
            with suppress(PermissionError):
                target.fs.call_s3("abort_multipart_upload", **place, UploadId=begun["UploadId"])
            return
        with suppress(PermissionError):
            # who may write an object may not see its bucket
            target.fs.info(target.bucket)
    except FileNotFoundError as exc:
        raise InputError(f"{target} cannot be written: there is no {target.bucket}.") from exc


def _check_folder(folder: Path) -> None:
    there = next(each for each in (folder, *folder.parents) if each.exists())
    if not there.is_dir():
        raise InputError(f"{folder} cannot be written: {there} is a file.")
    if not os.access(there, os.W_OK | os.X_OK):
        raise InputError(f"{folder} cannot be written on the worker: no right to write to {there}.")


class Transfer(msgspec.Struct, frozen=True):
    """One file to download."""

    download: Download
    target: Target
    size: int | None = None
    """Bytes, if they are known beforehand."""


class Arrived(msgspec.Struct, frozen=True):
    """One file that was downloaded."""

    target: str
    size: int
    checksum: str
    """CRC-32 takes a fraction of the download's time, SHA-256 as long as everything else."""


def download_all(
    client: Client, transfers: Sequence[Transfer], check: Callable[[], object] = lambda: None
) -> list[Arrived]:
    """Download files, some at a time, in constant memory; each arrives whole or not at all.

    The first that fails ends all, and so does what ``check`` raises, which is called for each piece.
    """
    places = [str(each.target) for each in transfers]
    twice = next((each for each, count in Counter(places).items() if count > 1), None)
    if twice:
        raise InputError(f"Two files would be written to {twice}. Give each a place of its own.")
    stopped = threading.Event()

    def go_on() -> None:
        if stopped.is_set():
            raise AirflowException("Another download has failed.")
        check()

    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="clusterra-download") as pool:
        waits = [pool.submit(_download, client, each, go_on) for each in transfers]
        try:
            for each in wait(waits, return_when=FIRST_EXCEPTION).done:
                each.result()
            arrived = [each.result() for each in waits]
        finally:
            stopped.set()
            pool.shutdown(cancel_futures=True)
    _warn_of_encoded([each.download for each in transfers])
    return arrived


def _warn_of_encoded(downloads: Sequence[Download]) -> None:
    """As all of S3's own programs do, a copy has the bytes that are stored; a reader may expect others."""
    encoded = [each for each in downloads if each.encoding.lower() not in PLAIN]
    if encoded:
        log.warning(
            "%s of %s files came with Content-Encoding %s, e.g. %s. They are copied as they came, and "
            "not decoded.",
            *(len(encoded), len(downloads)),
            *(encoded[0].encoding, encoded[0].shown),
        )


def _download(client: Client, transfer: Transfer, go_on: Callable[[], object]) -> Arrived:
    download, target = transfer.download, transfer.target
    progress = TransferLog("Downloaded", download.shown, transfer.size)
    go_on()
    _say_if_replaced(target)
    checksum = 0
    try:
        with _written(target, transfer.size) as file:
            # in this thread: handing pieces to a second one costs more than the checksum
            for piece in client.download_file(download):
                file.write(piece)
                checksum = zlib.crc32(piece, checksum)
                progress.add(len(piece))
                go_on()
    except (ClusterraError, AirflowException):
        raise
    except Exception as exc:
        raise AirflowException(
            f"{target} cannot be written: {str(exc) or type(exc).__name__}. A retry downloads it again."
        ) from exc
    progress.end(f"to {target}")
    return Arrived(str(target), download.offset, f"crc32:{checksum:08x}")


def _say_if_replaced(target: Target) -> None:
    """Of two tasks that write to one place, the second one finds the first one's file."""
    with suppress(Exception):
        facts = target.stat()
        log.info("%s is there already (%s bytes), and is replaced.", target, facts.st_size)


def _written(target: Target, size: int | None) -> AbstractContextManager[Any]:
    """A file to write that appears at its target once it is complete."""
    if isinstance(target, Path):
        # a DAG's import does not need it
        from fsspec.implementations.local import LocalFileSystem  # noqa: PLC0415

        return _renamed(LocalFileSystem(), target)
    if target.protocol in ATOMIC:
        return _object(target, max(BLOCK, -(-(size or 0) // MOST_PARTS)))
    return _renamed(target.fs, PurePosixPath(target.path))


@contextmanager
def _object(target: Any, block: int) -> Iterator[Any]:
    file = target.fs.open(target.path, "wb", block_size=block)
    try:
        yield file
    except BaseException:
        # parts that were sent are dropped; closing it would make an object of them
        with suppress(Exception):
            file.discard()
        file.closed = True
        raise
    file.close()


@contextmanager
def _renamed(fs: Any, path: PurePath) -> Iterator[Any]:
    # a name has at most 255 bytes, and a character up to 4
    part = str(path.with_name(f".{path.name[:50]}.{os.urandom(4).hex()}.part"))
    fs.makedirs(str(path.parent), exist_ok=True)
    try:
        with fs.open(part, "wb") as file:
            yield file
        fs.mv(part, str(path))
    except BaseException:
        with suppress(Exception):
            fs.rm(part)
        raise
