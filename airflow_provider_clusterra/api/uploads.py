"""A file's way to the storage and back: a grant from the API, then a PUT or GET of an address."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO, NamedTuple

import httpx
import msgspec

from airflow_provider_clusterra.api.errors import (
    ApiError,
    ConflictError,
    InputError,
    NotFoundError,
    ProtocolError,
    RateLimitedError,
    ServerError,
    TransportError,
)

LARGEST_PUT = 5 * 1024**3
"""Bytes: S3's limit for one PUT."""
PIECE = 1024 * 1024
PART = re.compile(r"bytes ([0-9]+)-[0-9]+/([0-9]+|\*)$")


class UploadGrant(msgspec.Struct, frozen=True):
    """An address to which one file may be PUT."""

    upload_url: str
    """Signed: whoever has it may write."""
    key: str
    """The file's name in the storage, as template parameters take it."""
    expires_in: int | None = None
    """Seconds."""

    def __repr__(self) -> str:
        return f"UploadGrant(key={self.key!r})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """What a traceback shows: not the signature, either."""
        return [("key", self.key)]

    @property
    def shown_url(self) -> str:
        """The address without its signature, for logs and errors."""
        return self.upload_url.partition("?")[0]

    def check(self, origin: str) -> httpx.URL:
        """The address, if a file may be sent there by an API of this origin.

        :param origin: e.g. ``"https://api.example.org"``.
        :raises ProtocolError: it may not.
        """
        return check_address("upload_url", self.upload_url, origin)


def check_address(name: str, address: str, origin: str) -> httpx.URL:
    """An address of a grant, which may be one of the API's own, if it may be used."""
    own = address.startswith("/") and not address.startswith("//")
    try:
        url = httpx.URL(f"{origin}{address}" if own else address)
    except (httpx.InvalidURL, ValueError):
        raise ProtocolError(f"The API gave an {name} that is no address.") from None
    schemes = ("https",) if origin.startswith("https:") else ("https", "http")
    if url.scheme not in schemes or not url.host or url.userinfo:
        raise ProtocolError(
            f"The API gave an {name} which is not used: it must begin with "
            f"{schemes[-1]}:// and hold no user or password."
        )
    return url


class DownloadGrant(msgspec.Struct, frozen=True):
    """An address from which one file may be read."""

    download_url: str
    """Signed: whoever has it may read."""
    expires_in: int | None = None
    """Seconds."""

    def __repr__(self) -> str:
        return f"DownloadGrant(expires_in={self.expires_in!r})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """What a traceback shows: not the address."""
        return [("expires_in", self.expires_in)]


def check_size(name: str, size: int) -> None:
    """Refuse a file that S3 takes in no single PUT."""
    if size > LARGEST_PUT:
        raise InputError(
            f"{name} has {size} bytes; one upload takes at most {LARGEST_PUT} (5 GiB). "
            "Split it, or compress it."
        )


def pieces(content: BinaryIO, size: int) -> Iterator[bytes]:
    """A file's bytes, 1 MiB at a time, so that memory stays flat."""
    left = size
    while piece := content.read(PIECE):
        left -= len(piece)
        if left < 0:
            break
        yield piece
    if left:
        raise InputError(
            f"The file changed while it was uploaded: it had {size} bytes before, and now "
            f"{'more' if left < 0 else size - left}. Upload it once nothing writes to it."
        )


KINDS: dict[int, type[ApiError]] = {404: NotFoundError, 429: RateLimitedError}


def storage_refusal(request: str, status: int, body: bytes) -> ApiError | None:
    """The error that the storage's answer to a PUT or GET means, or None if it is a success.

    A 403 or 400 may be an address that has expired: a :class:`ConflictError`, since a fresh one
    can help, and the caller asks for one.

    :source: S3's error answers: XML with ``Code`` and ``Message``.
    """
    if status < 300:
        return None
    text = body[:2000].decode("utf-8", "replace")
    found = dict(re.findall(r"<(Code|Message)>([^<]*)</", text))
    detail = ": ".join(found[key] for key in ("Code", "Message") if key in found) or text[:200]
    kind = KINDS.get(status, ServerError if status >= 500 else ApiError)
    if status in (400, 403) and re.search("AccessDenied|Expired|RequestTimeTooSkewed", text):
        kind = ConflictError
    return kind(
        f"{status} {request}: {detail or 'no words of explanation'}.",
        status=status,
        detail=detail,
    )


class Part(NamedTuple):
    """The part of a file that an answer of the storage holds."""

    first: int = 0
    """The byte that it begins with."""
    size: int | None = None
    """Of the whole file, if that is said."""
    is_range: bool = False


def read_part(shown: str, status: int, headers: Mapping[str, str]) -> Part:
    """Read it from the headers of a success. ``rclone serve s3`` sends a range with status 200."""
    found = PART.match(headers.get("content-range", ""))
    if status == 206 and found is None:
        raise ProtocolError(f"{shown}: the storage sent a part without saying which.")
    first, size = found.groups() if found else ("0", headers.get("content-length", ""))
    return Part(int(first), int(size) if size.isdecimal() else None, found is not None)


class Download:
    """A file that arrives in as many parts as it takes: how far it is, and what comes next.

    :param shown: the file's name, for errors and logs.
    :param grant: asks for an address; called anew for each part, since one expires.
    """

    def __init__(self, shown: str, grant: Callable[[], DownloadGrant]) -> None:
        self.shown = shown
        self.grant = grant
        self.offset = 0
        """Bytes that have arrived."""
        self.size: int | None = None
        """Bytes in all, once they are known."""
        self.encoding = ""
        """The ``Content-Encoding``: of what is stored, since none was asked for. Nothing decodes it."""
        self._version = ""
        self._to_skip = 0
        """Bytes of this answer that have arrived before: not every storage knows ranges."""
        self._part = Part()

    @property
    def headers(self) -> dict[str, str]:
        """Of the request for what is missing."""
        part = {"Range": f"bytes={self.offset}-"} if self.offset else {}
        return {"Accept-Encoding": "identity", **part}

    def begin(self, status: int, headers: Mapping[str, str]) -> None:
        """Take the beginning of a successful answer.

        :param status: 200 or 206.
        :param headers: by names in lower case, or in any.
        :raises ProtocolError: the file is another one than before, or it is not the part that was
            asked for.
        :source: RFC 9110, 14.4 and 8.8.3.
        """
        part = read_part(self.shown, status, headers)
        size = part.size
        version = headers.get("etag") or headers.get("last-modified", "")
        if self.offset:
            size = self.size if size is None else size
            if version != self._version or self.size not in (None, size):
                raise ProtocolError(f"{self.shown} changed while it was downloaded.")
        if part.first not in (0, self.offset):
            raise ProtocolError(
                f"{self.shown}: the storage sent a different part than was requested."
            )
        self._version, self.size, self._part = version, size, part
        self._to_skip = self.offset - part.first
        self.encoding = headers.get("content-encoding", "")

    def is_whole(self, status: int, headers: Mapping[str, str]) -> bool:
        """Whether the storage refuses a part because there is nothing after what has arrived.

        :param status: the refusal's.
        :param headers: its headers.
        :source: RFC 9110, 15.5.17.
        """
        return status == 416 and headers.get("content-range", "") == f"bytes */{self.offset}"

    def take(self, piece: bytes) -> bytes:
        """What of a piece had not arrived before.

        :param piece: as it came.
        """
        new = piece[self._to_skip :]
        self._to_skip = max(0, self._to_skip - len(piece))
        self.offset += len(new)
        return new

    def end(self) -> None:
        """Take the end of an answer.

        :raises TransportError: it came too soon.
        """
        if self.size is None and self._part.is_range:
            raise TransportError(
                f"{self.shown}: {self.offset} bytes arrived, and perhaps there are more."
            )
        if self.size not in (None, self.offset):
            raise TransportError(f"{self.shown}: {self.offset} of {self.size} bytes arrived.")
