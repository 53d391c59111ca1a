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
from typing import Protocol
from urllib.parse import parse_qs, quote

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from clusterra_server.backend import LOG, Backend, ReplyError
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
"""Pages for a browser, which only show."""
FILES = "/v1/files"
"""Signed addresses of files, which hold no session."""
ASSETS = "/manage/static/"
"""What they look like, for everybody."""
PAGE_COOKIE = "clusterra_page"
"""What a browser signs in to the pages with; the API does not take it."""
SIGN_OUT = "/manage/sign-out"
SIGNED_IN = 7 * A_DAY
"""Seconds for which a browser is signed in."""
OTHER_NAME = "this server does not go by that name; --name gives it another"
LONGEST_FORM, FORM_WITHIN = 16 * 1024, 10.0
"""Bytes and seconds for a sign-in."""
KEY = "clusterra.account"
FORBIDS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; "
    "img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""What a page forbids the browser, unless an answer says otherwise."""


@dataclass(frozen=True, slots=True)
class Session:
    """A user's one session."""

    token: str = field(repr=False)
    user: str = USER
    """Also the user's part of the storage's keys."""
    source: str = ""
    """Where the token was given; empty if it was made here."""

    @property
    def email(self) -> str:
        """The user's address, which no mail goes to."""
        return f"{self.user}@{DOMAIN}"

    def accepts(self, given: Collection[str]) -> bool:
        """Whether it is among what a request has given."""
        return any(hmac.compare_digest(each.encode(), self.token.encode()) for each in given)

    def page_cookie(self, end: int) -> str:
        """What opens the pages until a time, in seconds since 1970, and nothing else."""
        mark = hmac.digest(self.token.encode(), f"clusterra-server pages {end}".encode(), "sha256")
        return f"{end}.{mark.hex()}"

    def accepts_page_cookie(self, given: str, now: float) -> bool:
        """Whether it is one, and has not ended."""
        end = given.partition(".")[0]
        if not re.fullmatch("[0-9]{1,12}", end) or not now < int(end) <= now + SIGNED_IN:
            return False
        return hmac.compare_digest(given.encode(), self.page_cookie(int(end)).encode())


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


def _from_cookie(header: str, wanted: str = COOKIE) -> str:
    # not http.cookies, which gives up at the first cookie that it does not like
    pairs = (each.strip().partition("=")[::2] for each in header.split(";"))
    return next((value for name, value in pairs if name == wanted), "")


def given_tokens(headers: Headers) -> list[str]:
    """What a request gives as its session."""
    kind, _, text = headers.get("authorization", "").partition(" ")
    given = [_from_cookie(headers.get("cookie", ""))]
    if kind.lower() == "bearer":
        given.append(text.strip())
    return [each for each in given if each]


def is_of_another_site(headers: Headers) -> bool:
    """Whether a browser says that a form is another site's.

    :source: the order of Go's ``http.CrossOriginProtection``: what is no browser says neither.
    """
    if site := headers.get("sec-fetch-site"):
        return site not in ("same-origin", "none")
    origin = headers.get("origin")
    return origin is not None and origin.partition("://")[2] != headers.get("host")


def comes_from_elsewhere(headers: Headers) -> bool:
    """Whether a link of another site was followed, for which a browser gives no strict cookie."""
    return headers.get("sec-fetch-site") == "cross-site"


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


class Door(Protocol):
    """What a browser is shown that is not signed in."""

    def ask_for_token(self, *, wrong: bool = False) -> Response:
        """A page to sign in with."""

    def come_again(self, path: str) -> Response:
        """A page that leads to itself, this time not from another site."""

    def refuse(self, status: int, words: str) -> Response:
        """A page that says why there is none."""


class SignIn:
    """Refuses a request without a session, and passes on to the handlers whose it is.

    :param door: the pages for who is not signed in.
    :param names: what the server is called by its clients, besides its addresses.
    """

    def __init__(
        self,
        app: ASGIApp,
        accounts: Sequence[Account],
        connections: Connections,
        names: Collection[str],
        door: Door,
    ) -> None:
        self._app = app
        self._accounts = accounts
        self._connections = connections
        self._names = set(map(str.lower, names))
        self._door = door
        self._guesses = Guesses()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        is_page = scope["path"].startswith(PAGES)

        async def send_in_time(message: Message) -> None:
            if is_page and message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in FORBIDS.items():
                    headers.setdefault(name, value)
            await self._connections.send_in_time(send(message), scope["client"])

        answer = await (self._page if is_page else self._call)(request)
        await answer(scope, receive, send_in_time)

    async def _call(self, request: Request) -> ASGIApp:
        """What answers a request to the API."""
        if not is_ours(request.headers.get("host", ""), self._names):
            return _no(421, OTHER_NAME)
        if request.url.path == FILES:
            # its signature says whose file it is
            return self._app
        if account := await self._find(request, given_tokens(request.headers)):
            return self._let_in(request, account)
        return _no(401, "the session is not known, or has ended")

    async def _page(self, request: Request) -> ASGIApp:
        """What answers a request for a page."""
        if not is_ours(request.headers.get("host", ""), self._names):
            return _no(421, OTHER_NAME)
        if request.url.path.startswith(ASSETS):
            return self._app
        if request.method == "POST":
            return await self._take_form(request)
        account, given = self._signed_in(request), given_tokens(request.headers)
        if account is None and given:
            account = await self._find(request, given)
        if account:
            return self._let_in(request, account)
        if comes_from_elsewhere(request.headers) and not given:
            return self._door.come_again(path_of(request))
        return self._door.ask_for_token()

    def _let_in(self, request: Request, account: Account) -> ASGIApp:
        self._connections.admit(request.scope["client"])
        request.scope[KEY] = account
        return self._app

    def _signed_in(self, request: Request) -> Account | None:
        given = _from_cookie(request.headers.get("cookie", ""), PAGE_COOKIE)
        now = time.time()
        accounts = (each for each in self._accounts if each.session.accepts_page_cookie(given, now))
        return next(accounts, None)

    async def _take_form(self, request: Request) -> Response:
        """Sign a browser in, or out; the pages have no other forms that change something."""
        if is_of_another_site(request.headers):
            return self._door.refuse(403, "This form was sent by another site.")
        secure = request.url.scheme == "https"
        answer = RedirectResponse(path_of(request), 303)
        if request.url.path == SIGN_OUT:
            answer = RedirectResponse(PAGES, 303)
            answer.delete_cookie(
                PAGE_COOKIE, path=PAGES, secure=secure, httponly=True, samesite="strict"
            )
            return answer
        try:
            token = await _read_token(request)
        except ReplyError as exc:
            return self._door.refuse(exc.status, str(exc))
        account = await self._find(request, [token])
        if account is None:
            return self._door.ask_for_token(wrong=True)
        answer.set_cookie(
            PAGE_COOKIE,
            account.session.page_cookie(int(time.time()) + SIGNED_IN - 1),
            max_age=SIGNED_IN,
            path=PAGES,
            secure=secure,
            httponly=True,
            samesite="strict",
        )
        return answer

    async def _find(self, request: Request, given: Collection[str]) -> Account | None:
        for account in self._accounts:
            if account.session.accepts(given):
                return account
        now = time.monotonic()
        who = request.client.host if request.client else "nobody"
        self._guesses.say(who, f"{request.method} {request.url.path[:100]!r}", now)
        if given:
            await asyncio.sleep(self._guesses.delay(now))
        return None


async def _read_token(request: Request) -> str:
    """The token in a form.

    :raises ReplyError: it is too long, or does not come.
    """
    text = bytearray()
    try:
        async with asyncio.timeout(FORM_WITHIN):
            async for piece in request.stream():
                text += piece
                if len(text) > LONGEST_FORM:
                    raise ReplyError(413, "That is longer than any token.")
    except ClientDisconnect as exc:
        raise ReplyError(400, "The form broke off.") from exc
    except TimeoutError as exc:
        raise ReplyError(408, "The form did not come in time.") from exc
    values = parse_qs(text.decode("latin-1"), max_num_fields=10)
    return values.get("token", [""])[0].strip()


def path_of(request: Request) -> str:
    """A request's path and query, on this server."""
    query = request.url.query
    return quote(request.url.path) + (f"?{query}" if query else "")


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


def _no(status: int, words: str) -> JSONResponse:
    # whoever is no user does not stay
    return JSONResponse({"error": words}, status, {"Connection": "close"})


def account_of(request: Request) -> Account:
    """Whose request it is."""
    found: Account = request.scope[KEY]
    return found
