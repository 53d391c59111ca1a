"""One file's way to the storage: a grant from the API, then a PUT to another host."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, BinaryIO

import httpx
import msgspec

from airflow_provider_clusterra.api.errors import (
    ApiError,
    ConflictError,
    InputError,
    ProtocolError,
    ServerError,
)

LARGEST_PUT = 5 * 1024**3
"""Bytes: S3's limit for one PUT."""
PIECE = 1024 * 1024


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
        try:
            url = httpx.URL(self.upload_url)
        except (httpx.InvalidURL, ValueError):
            raise ProtocolError("The API gave an upload_url that is no address.") from None
        schemes = ("https",) if origin.startswith("https:") else ("https", "http")
        if url.scheme not in schemes or not url.host or url.userinfo:
            raise ProtocolError(
                f"The API gave an upload_url to which no file is sent: it must begin with "
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
    """Refuse a file that S3 takes in no single PUT.

    :raises InputError: it is over 5 GiB.
    """
    if size > LARGEST_PUT:
        raise InputError(
            f"{name} has {size} bytes; one upload takes at most {LARGEST_PUT} (5 GiB). "
            "Split it, or compress it."
        )


def pieces(content: BinaryIO, size: int) -> Iterator[bytes]:
    """A file's bytes, 1 MiB at a time, so that memory stays flat.

    :raises InputError: there are more or fewer.
    """
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


def put_refusal(grant: UploadGrant, status: int, body: bytes) -> ApiError | None:
    """The error that the storage's answer to the PUT means, or None where it is a yes.

    A 403 or 400 may be an address that has expired: a :class:`ConflictError`, since a fresh one
    can help, and the caller asks for one.

    :source: S3's error answers: XML with ``Code`` and ``Message``.
    """
    if status < 300:
        return None
    text = body[:2000].decode("utf-8", "replace")
    found = dict(re.findall(r"<(Code|Message)>([^<]*)</", text))
    detail = ": ".join(found[key] for key in ("Code", "Message") if key in found) or text[:200]
    kind: type[ApiError] = ServerError if status >= 500 else ApiError
    if status in (400, 403) and re.search("AccessDenied|Expired|RequestTimeTooSkewed", text):
        kind = ConflictError
    return kind(
        f"{status} PUT {grant.shown_url}: {detail or 'no words of explanation'}.",
        status=status,
        detail=detail,
    )
