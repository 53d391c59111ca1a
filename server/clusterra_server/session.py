"""A user's session, as a cookie, a bearer token, or a browser's password."""

from __future__ import annotations

import base64
import hmac
import json
import secrets
import time
from dataclasses import dataclass, field

LASTS = 30 * 24 * 3600
"""Seconds until a new session says that it ends."""
DOMAIN = "local.clusterra"
USER = "you"
COOKIE = "clusterra_session"


@dataclass(frozen=True, slots=True)
class Session:
    """A user's one session."""

    token: str = field(repr=False)
    user: str = USER
    """Also the user's part of the storage's keys."""
    source: str = ""
    """Where the token was given; empty where it was made here."""

    @property
    def email(self) -> str:
        """The user's address, which no mail goes to."""
        return f"{self.user}@{DOMAIN}"

    def accepts(self, cookie: str | None, authorization: str | None) -> bool:
        """Whether a request's headers hold the session.

        :param cookie: the ``Cookie`` header.
        :param authorization: the ``Authorization`` header.
        """
        return any(
            hmac.compare_digest(given.encode(), self.token.encode())
            for given in (_from_cookie(cookie or ""), _from_authorization(authorization or ""))
            if given
        )


def fits_cookie(token: str) -> bool:
    """Whether a cookie can hold a token."""
    return token.isascii() and token.isprintable() and not set(token) & set(" ;,")


def new_session(user: str = USER) -> Session:
    """A session with a token in a JWT's form, which says when it ends."""
    now = int(time.time())
    header = _part({"alg": "HS256", "typ": "JWT"})
    claims = _part({"email": Session("", user).email, "iat": now, "exp": now + LASTS})
    return Session(f"{header}.{claims}.{secrets.token_urlsafe(32)}", user)


def _part(values: dict[str, object]) -> str:
    return base64.urlsafe_b64encode(json.dumps(values).encode()).rstrip(b"=").decode()


def _from_cookie(header: str) -> str:
    # not http.cookies, which gives up at the first cookie that it does not like
    pairs = (each.strip().partition("=")[::2] for each in header.split(";"))
    return next((value for name, value in pairs if name == COOKIE), "")


def _from_authorization(header: str) -> str:
    kind, _, text = header.partition(" ")
    if kind.lower() == "basic":
        return _from_basic(text)
    return text.strip() if kind.lower() == "bearer" else ""


def _from_basic(text: str) -> str:
    """The password, whoever it is said to be of: a browser asks for both."""
    try:
        return base64.b64decode(text).decode().partition(":")[2]
    except ValueError:
        return ""
