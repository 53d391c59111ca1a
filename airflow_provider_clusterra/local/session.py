"""Who may ask: one user, one session, as a cookie or as a bearer token."""

from __future__ import annotations

import base64
import hmac
import json
import secrets
import time
from dataclasses import dataclass, field

LASTS = 30 * 24 * 3600
"""Seconds until a new session says that it ends."""
EMAIL = "you@local.clusterra"
COOKIE = "clusterra_session"


@dataclass(frozen=True, slots=True)
class Session:
    """The server's one session."""

    token: str = field(repr=False)
    email: str = EMAIL

    @property
    def user(self) -> str:
        """The user's part of the storage's keys."""
        return self.email.partition("@")[0]

    def accepts(self, cookie: str | None, authorization: str | None) -> bool:
        """Whether a request's headers hold the session.

        :param cookie: the ``Cookie`` header.
        :param authorization: the ``Authorization`` header.
        """
        return any(
            hmac.compare_digest(given.encode(), self.token.encode())
            for given in (_from_cookie(cookie or ""), _from_bearer(authorization or ""))
            if given
        )


def new_session() -> Session:
    """A session with a token in a JWT's form, which says when it ends."""
    now = int(time.time())
    header = _part({"alg": "HS256", "typ": "JWT"})
    claims = _part({"email": EMAIL, "iat": now, "exp": now + LASTS})
    return Session(f"{header}.{claims}.{secrets.token_urlsafe(32)}")


def _part(values: dict[str, object]) -> str:
    return base64.urlsafe_b64encode(json.dumps(values).encode()).rstrip(b"=").decode()


def _from_cookie(header: str) -> str:
    # not http.cookies, which gives up at the first cookie that it does not like
    pairs = (each.strip().partition("=")[::2] for each in header.split(";"))
    return next((value for name, value in pairs if name == COOKIE), "")


def _from_bearer(header: str) -> str:
    kind, _, token = header.partition(" ")
    return token.strip() if kind.lower() == "bearer" else ""
