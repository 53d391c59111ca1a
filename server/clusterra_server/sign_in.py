"""Who may ask, and what runs their jobs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from clusterra_server.backend import Backend
from clusterra_server.session import Session

PAGES = "/manage/"
"""Pages for a browser, which show no output."""
KEY = "clusterra.account"


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
