"""Who may ask, and what runs their jobs."""

from __future__ import annotations

import base64
import hmac
import json
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from clusterra_server.backend import Backend

LASTS = 30 * 24 * 3600
"""Seconds until a new session says that it ends."""
DOMAIN = "local.clusterra"
USER = "you"
COOKIE = "clusterra_session"
PAGES = "/manage/"
"""Pages for a browser, which show no output."""
KEY = "clusterra.account"


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


@dataclass(frozen=True, slots=True)
class Account:
    """One user of the server."""

    session: Session
    backend: Backend


class SignIn:
    """Refuses a request without a session, and tells the handlers whose it is.

    :param open_pages: whether a page is shown without one, too.
    """

    def __init__(self, app: ASGIApp, accounts: Sequence[Account], *, open_pages: bool) -> None:
        self._app = app
        self._accounts = accounts
        self._open_pages = open_pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer 401."""
        if scope["type"] == "http":
            account = self._find(Request(scope))
            if account is None:
                await _refusal(scope["path"])(scope, receive, send)
                return
            scope[KEY] = account
        await self._app(scope, receive, send)

    def _find(self, request: Request) -> Account | None:
        headers = request.headers
        cookie, authorization = headers.get("cookie"), headers.get("authorization")
        for account in self._accounts:
            if account.session.accepts(cookie, authorization):
                return account
        is_page = self._open_pages and request.url.path.startswith(PAGES)
        return self._accounts[0] if is_page else None


def _refusal(path: str) -> JSONResponse:
    words = {"error": "the session is not known, or has ended"}
    # so that a browser asks for it
    headers = {"WWW-Authenticate": 'Basic realm="clusterra"'} if path.startswith(PAGES) else None
    return JSONResponse(words, 401, headers)


def account_of(request: Request) -> Account:
    """Whose request it is."""
    found: Account = request.scope[KEY]
    return found
