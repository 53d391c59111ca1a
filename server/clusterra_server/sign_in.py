"""Who may ask, and what runs their jobs."""

from __future__ import annotations

import asyncio
import base64
import hmac
import ipaddress
import json
import os
import re
import secrets
import time
from collections import deque
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from math import inf
from pathlib import Path

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from clusterra_server.backend import LOG, Backend
from clusterra_server.connections import Connections

LASTS = 365 * 24 * 3600
"""Seconds until a new session says that it ends."""
DOMAIN = "local.clusterra"
USER = "you"
COOKIE = "clusterra_session"
SHORTEST, FEWEST = 16, 8
"""Characters of a token that was given, and different ones among them, at least."""
A_DAY = 24 * 3600
GUESSES = 5
"""Wrong tokens that are refused at once; the next ones wait, each longer."""
GUESSED_WITHIN = 60.0
LONGEST_DELAY = 3.0
PAGES = "/manage/"
"""Pages for a browser, which show no output."""
FILES = "/v1/files"
"""Signed addresses of files, which hold no session."""
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

    def accepts(self, given: Collection[str]) -> bool:
        """Whether it is among what a request has given."""
        return any(hmac.compare_digest(each.encode(), self.token.encode()) for each in given)


def why_unfit(token: str) -> str:
    """Why a token that was given cannot be used; empty if it can."""
    if not token.isascii() or not token.isprintable() or set(token) & set(" ;,"):
        return "holds what no cookie can: a space, ';', ',' or the like"
    if len(token) < SHORTEST or len(set(token)) < FEWEST:
        return f"can be guessed: give one of {SHORTEST} characters or more, as openssl rand -hex 32"
    return ""


def keep_session(path: Path, user: str) -> Session:
    """The session that was made for a user in a folder, or a new one, which is kept there."""
    with suppress(OSError, ValueError, IndexError, KeyError, TypeError):
        token = path.read_text().strip()
        claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
        if claims["email"] == Session("", user).email and claims["exp"] > time.time() + A_DAY:
            return Session(token, user)
    made = new_session(user)
    path.unlink(missing_ok=True)
    with open(path, "x", opener=_private) as file:
        file.write(made.token)
    return made


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


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


def given_tokens(headers: Headers, *, basic: bool) -> list[str]:
    """What a request gives as its session.

    :param basic: whether a browser's password counts.
    """
    kind, _, text = headers.get("authorization", "").partition(" ")
    given = [_from_cookie(headers.get("cookie", ""))]
    if kind.lower() == "bearer":
        given.append(text.strip())
    elif kind.lower() == "basic" and basic:
        given.append(_from_basic(text))
    return [each for each in given if each]


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
    is_admin: bool = False
    """Whether files that everybody may read are this user's to write."""


class Guesses:
    """Sign-ins that were refused of late: each makes the next refusal later."""

    def __init__(self) -> None:
        self._times: deque[float] = deque()
        self._unsaid = 0
        self._said = -inf

    def delay(self, now: float) -> float:
        """Count one; returns after how many seconds it is to be refused."""
        while self._times and self._times[0] < now - GUESSED_WITHIN:
            self._times.popleft()
        self._times.append(now)
        excess = len(self._times) - GUESSES
        return min(LONGEST_DELAY, 0.1 * 2 ** min(excess, 10)) if excess > 0 else 0.0

    def say(self, who: str, what: str, now: float) -> None:
        """Log a refusal, but not more than one a second."""
        if now - self._said < 1:
            self._unsaid += 1
            return
        more = f", and {self._unsaid} more before" if self._unsaid else ""
        LOG.warning("refused a sign-in from %s: %s%s", who, what, more)
        self._said, self._unsaid = now, 0


class SignIn:
    """Refuses a request without a session, and tells the handlers whose it is.

    :param open_pages: whether a page is shown without one, too.
    :param names: what the server is called by its clients, besides its addresses.
    """

    def __init__(
        self,
        app: ASGIApp,
        accounts: Sequence[Account],
        connections: Connections,
        names: Collection[str],
        *,
        open_pages: bool,
    ) -> None:
        self._app = app
        self._accounts = accounts
        self._connections = connections
        self._names = set(map(str.lower, names))
        self._open_pages = open_pages
        self._guesses = Guesses()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_in_time(message: Message) -> None:
            await self._connections.send_in_time(send(message), scope["client"])

        request = Request(scope)
        if not is_ours(request.headers.get("host", ""), self._names):
            words = "this server does not go by that name; --name gives it another"
            await _no(421, words)(scope, receive, send_in_time)
            return
        if scope["path"] == FILES:
            # its signature says whose file it is
            await self._app(scope, receive, send_in_time)
            return
        account = await self._find(request)
        if account is None:
            await _refusal(scope["path"])(scope, receive, send_in_time)
            return
        self._connections.admit(scope["client"])
        scope[KEY] = account
        await self._app(scope, receive, send_in_time)

    async def _find(self, request: Request) -> Account | None:
        is_page = request.url.path.startswith(PAGES)
        given = given_tokens(request.headers, basic=is_page)
        for account in self._accounts:
            if account.session.accepts(given):
                return account
        if is_page and self._open_pages:
            return self._accounts[0]
        now = time.monotonic()
        who = request.client.host if request.client else "nobody"
        self._guesses.say(who, f"{request.method} {request.url.path[:100]!r}", now)
        if given:
            await asyncio.sleep(self._guesses.delay(now))
        return None


def is_ours(host: str, names: Collection[str]) -> bool:
    """Whether a request's ``Host`` is an address or one of the server's names.

    A page of another site that a browser was led here by (DNS rebinding) has that site's name, with
    a dot in it.
    """
    name = re.sub(r":[0-9]*$", "", host).lower().rstrip(".")
    with suppress(ValueError):
        ipaddress.ip_address(name.strip("[]"))
        return True
    return "." not in name or name in names


def _no(status: int, words: str, **headers: str) -> JSONResponse:
    # whoever is no user does not stay
    return JSONResponse({"error": words}, status, {"Connection": "close", **headers})


def _refusal(path: str) -> JSONResponse:
    words = "the session is not known, or has ended"
    if path.startswith(PAGES):
        # so that a browser asks for it
        return _no(401, words, **{"WWW-Authenticate": 'Basic realm="clusterra"'})
    return _no(401, words)


def account_of(request: Request) -> Account:
    """Whose request it is."""
    found: Account = request.scope[KEY]
    return found
