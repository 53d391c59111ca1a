"""A slurmrestd, asked on behalf of one of its users: its answers as they are, or why there is none."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from math import inf
from pathlib import Path
from typing import Any

import httpx

from clusterra_server.backend import (
    Answer,
    BrokenOffError,
    Query,
    ReplyError,
    TokenError,
    envelope,
    problem,
)
from clusterra_server.sign_in import why_unfit

ADMIN = "admin"
VARIABLE = "SLURM_JWT"
"""Slurm's own name for the variable with a token."""
CONNECTIONS = 100
"""To slurmrestd, which takes 124 by default."""
WAITS = 10.0
"""Seconds for which a request waits for one of its user's connections."""
OLDEST = 40
"""v0.0.40 is the first version in whose shape the client knows all that it needs."""
LOOKED_AGAIN = 60.0
"""Seconds after which an unknown route may mean that Slurm was upgraded."""
TIMEOUT = httpx.Timeout(60, connect=5)
"""slurmrestd itself gives up on slurmctld after 20 s, and may make a client wait for 33 s."""


@dataclass(frozen=True, slots=True)
class SlurmToken:
    """Where one Slurm user's token comes from: a file, or otherwise the environment."""

    path: Path | None = None
    given_user: str = ""
    """The Slurm user, if it is known without the token."""

    def read(self) -> str:
        """The token as it is now: a file's may have been renewed.

        :raises TokenError: there is none.
        """
        if self.path is None:
            text = os.environ.get(VARIABLE, "")
            where = f"{VARIABLE} is not set. Set it, or give --token-file or --users"
        else:
            where = f"{self.path} is empty"
            try:
                text = self.path.read_text()
            except (OSError, UnicodeDecodeError) as exc:
                why = exc.strerror if isinstance(exc, OSError) else "it is no text"
                raise TokenError(f"the Slurm token in {self.path} cannot be read: {why}") from exc
        # as `scontrol token` prints it
        token = text.strip().removeprefix(f"{VARIABLE}=")
        if not token or not token.isascii() or not token.isprintable():
            raise TokenError(where if not token else f"{self.path or VARIABLE} holds no token")
        return token

    @property
    def user(self) -> str:
        """The Slurm user that it stands for; empty if it does not say.

        :raises TokenError: there is none.
        """
        return self.given_user or user_of(self.read())


@dataclass(frozen=True, slots=True)
class SlurmUser:
    """A line of the users' file: who may ask, and as whom."""

    token: str = field(repr=False)
    """What the client signs in with."""
    slurm: SlurmToken
    is_admin: bool = False
    """Whether files that everybody may read are this user's to write."""


def read_users(path: Path) -> list[SlurmUser]:
    """Who may ask: a line each with a client's token, the Slurm user, and that user's token file.

    :param path: blank lines and what follows a ``#`` at a line's beginning are skipped; a relative
        token file lies beside this one.
    :raises TokenError: it cannot be read; the words name the line, and never show a token.
    """
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        why = exc.strerror if isinstance(exc, OSError) else "it is no text"
        raise TokenError(f"{path} cannot be read: {why}") from exc
    numbered = ((number, line.split()) for number, line in enumerate(lines, 1))
    found = [
        _read_user(path, number, words)
        for number, words in numbered
        if words and not words[0].startswith("#")
    ]
    if not found:
        raise TokenError(f"{path} names no users")
    if len({each.token for each in found}) < len(found):
        raise TokenError(f"{path}: two users have the same token")
    return found


def _read_user(path: Path, number: int, words: list[str]) -> SlurmUser:
    if len(words) not in (3, 4) or words[3:] not in ([], [ADMIN]):
        raise TokenError(
            f"{path}, line {number}: it has {len(words)} words, not a client's token, a Slurm "
            f"user, the file with that user's Slurm token, and perhaps {ADMIN!r}"
        )
    token, user, file = words[:3]
    if why := why_unfit(token):
        raise TokenError(f"{path}, line {number}: the client's token {why}")
    return SlurmUser(token, SlurmToken(path.parent / file, user), len(words) > 3)


def user_of(token: str) -> str:
    """The Slurm user whom a token names; empty if it names none.

    :param token: a JWT of Slurm's; its signature is Slurm's business.
    :source: Slurm's ``auth/jwt``: the claim ``sun``.
    """
    parts = token.split(".")
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (IndexError, ValueError):
        return ""
    name = claims.get("sun") if isinstance(claims, dict) else None
    return name if isinstance(name, str) else ""


class UnavailableError(ReplyError):
    """No answer of slurmrestd's own; what to answer instead."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(status, words)
        error = problem(0, words, words, "clusterra-server")
        self.answer = Answer(envelope(errors=[error]), status)


class VersionError(UnavailableError):
    """slurmrestd offers no API that can be used here; the words say which it does."""

    def __init__(self, words: str) -> None:
        super().__init__(502, words)


@dataclass(frozen=True, slots=True)
class Call:
    """One request to slurmrestd, but for whose it is."""

    method: str
    path: str
    """With ``{version}`` for the API's."""
    query: Query = ()
    body: Mapping[str, Any] | None = None
    stream: bool = False
    """Whether a good answer's body is given as it comes."""


class Slurmrestd:
    """The server, whoever asks.

    :param url: its address, e.g. ``"http://127.0.0.1:6820"``.
    :param version: the API's, e.g. ``"v0.0.44"``; otherwise the newest that it offers.
    """

    def __init__(self, url: str, version: str = "") -> None:
        self.url = url.rstrip("/")
        self._given = version
        self._version = version
        self._looked_at = -inf
        # a kept connection that slurmrestd has closed would leave unclear what became of a submit
        limits = httpx.Limits(max_connections=CONNECTIONS + 20, max_keepalive_connections=0)
        # a proxy that the environment names would be handed the Slurm tokens
        self._http = httpx.AsyncClient(
            base_url=self.url, timeout=TIMEOUT, limits=limits, trust_env=False
        )

    async def close(self) -> None:
        """Close its connections."""
        await self._http.aclose()

    async def ask(
        self,
        token: SlurmToken,
        method: str,
        path: str,
        *,
        query: Query = (),
        body: Mapping[str, Any] | None = None,
        as_user: str = "",
        stream: bool = False,
    ) -> Answer:
        """Its answer, or one that says why there is none.

        :param path: with the API's version as ``{version}``, e.g. ``"/slurm/{version}/jobs/"``.
        :param as_user: the Slurm user, if it is not the token's own.
        :param stream: whether a good answer's body is given as it comes.
        """
        question = Call(method, path, query, body, stream)
        try:
            headers = _headers(token, as_user)
            answer = await self._send(question, await self._find_version(headers), headers)
            if self._is_outdated(answer, path):
                answer = await self._send(question, await self._find_version(headers), headers)
            if body is None and _may_be_down(method, answer):
                await self._check_controller(headers)
        except TokenError as exc:
            return UnavailableError(503, str(exc)).answer
        except UnavailableError as exc:
            return exc.answer
        return answer

    async def is_privileged(self, token: SlurmToken) -> bool:
        """Whether a token is root's or SlurmUser's: only theirs may speak for somebody else.

        :raises UnavailableError: slurmrestd cannot say now.
        """
        path = "/slurm/{version}/diag/"
        ours = await self.ask(token, "GET", path)
        if ours.status in (502, 503, 504):
            raise UnavailableError(ours.status, words_of(ours))
        if ours.status != 200:
            words = f"{self.url} does not take the Slurm token of {token.user or 'its user'}"
            raise UnavailableError(503, f"{words}: {ours.status} {words_of(ours)}".rstrip())
        return (await self.ask(token, "GET", path, as_user="root")).status == 200

    async def check_version(self, token: SlurmToken) -> None:
        """Look for the version, also if one is given.

        :raises TokenError: there is no token to ask with.
        :raises UnavailableError: slurmrestd does not answer now, or (:class:`VersionError`) offers none.
        """
        self._version = ""
        await self._find_version(_headers(token))

    def _is_outdated(self, answer: Answer, path: str) -> bool:
        """Whether the version may be gone; then it is looked for again."""
        unknown = answer.status == 404 and answer.media_type.startswith("text/")
        stale = time.monotonic() - self._looked_at > LOOKED_AGAIN
        if not unknown or not stale or not path.startswith("/slurm/"):
            return False
        self._version = ""
        return True

    async def _find_version(self, headers: Mapping[str, str]) -> str:
        if not self._version:
            answer = await self._send(Call("GET", "/openapi/v3"), "", headers)
            if answer.status != 200 or not isinstance(answer.body, bytes):
                words = f"{self.url} does not say which API it offers"
                raise UnavailableError(503, f"{words}: {answer.status} {words_of(answer)}".rstrip())
            self._version = choose_version(answer.body, self._given)
            self._looked_at = time.monotonic()
        return self._version

    async def _check_controller(self, headers: Mapping[str, str]) -> None:
        """Raise if slurmctld is down: slurmrestd's own answers to that differ."""
        ping = Call("GET", "/slurm/{version}/ping/")
        answer = await self._send(ping, await self._find_version(headers), headers)
        pings = answer.document().get("pings") or []
        # v0.0.45 says only "responding"
        if pings and not any(
            each.get("pinged") == "UP" or each.get("responding") for each in pings
        ):
            raise UnavailableError(503, "slurmctld does not answer")

    async def _send(self, question: Call, version: str, headers: Mapping[str, str]) -> Answer:
        request = self._http.build_request(
            question.method,
            question.path.format(version=version),
            params=list(question.query),
            json=question.body,
            headers=headers,
        )
        try:
            response = await self._http.send(request, stream=True)
            stream = question.stream and response.status_code == 200
            body = (
                Held(self._pieces(response), response.aclose) if stream else await _read(response)
            )
        except httpx.PoolTimeout as exc:
            words = f"all {CONNECTIONS} connections to slurmrestd are in use"
            raise UnavailableError(503, words) from exc
        except (httpx.ConnectError, httpx.ConnectTimeout) as exc:
            words = f"slurmrestd at {self.url} cannot be reached"
            raise UnavailableError(503, words) from exc
        except httpx.TimeoutException as exc:
            words = f"slurmrestd at {self.url} has not answered in {TIMEOUT.read:.0f} s"
            raise UnavailableError(504, words) from exc
        except httpx.HTTPError as exc:
            words = f"slurmrestd at {self.url} broke off ({type(exc).__name__})"
            raise UnavailableError(502, words) from exc
        media_type = response.headers.get("content-type", "text/plain")
        return Answer(body, response.status_code, media_type)

    async def _pieces(self, response: httpx.Response) -> AsyncGenerator[bytes, None]:
        try:
            async for piece in response.aiter_bytes():
                yield piece
        except httpx.HTTPError as exc:
            words = f"slurmrestd at {self.url} broke off in the middle of an answer"
            raise BrokenOffError(f"{words} ({type(exc).__name__})") from exc


async def _read(response: httpx.Response) -> bytes:
    try:
        return await response.aread()
    finally:
        await response.aclose()


def choose_version(openapi: bytes, given: str = "") -> str:
    """The version of the API to ask for: the given one, or otherwise the newest.

    :param openapi: what a slurmrestd says of itself.
    :param given: e.g. ``"v0.0.44"``.
    :raises VersionError: it does not offer it, or is too old.
    :source: ``paths`` of ``GET /openapi/v3``.
    """
    found = re.findall(rb'"\\?/slurm\\?/v0\.0\.(\d+)\\?/', openapi)
    offered = [f"v0.0.{number}" for number in sorted(set(map(int, found))) if number >= OLDEST]
    if not offered:
        words = f"slurmrestd offers no API from v0.0.{OLDEST} up, which Slurm has from 23.11 on"
        raise VersionError(words)
    if given and given not in offered:
        raise VersionError(f"slurmrestd offers {', '.join(offered)}, and not {given}")
    return given or offered[-1]


def _headers(token: SlurmToken, as_user: str = "") -> dict[str, str]:
    text = token.read()
    user = as_user or token.user
    return {"X-SLURM-USER-TOKEN": text} | ({"X-SLURM-USER-NAME": user} if user else {})


def _may_be_down(method: str, answer: Answer) -> bool:
    """Whether this is what slurmrestd says while slurmctld is down.

    :source: recorded: 500 to a GET, 403 to a DELETE; 511 is a token that is not taken.
    """
    return answer.status == 500 or (method == "DELETE" and answer.status == 403)


def words_of(answer: Answer) -> str:
    """What an answer says went wrong; empty if it says nothing."""
    errors = answer.document().get("errors") or []
    if errors:
        return str(errors[0].get("error") or errors[0].get("description") or "")
    if isinstance(answer.body, str):
        return answer.body[:200]
    if isinstance(answer.body, bytes) and answer.media_type.startswith("text/"):
        return answer.body.decode("utf-8", "replace")[:200]
    return json.dumps(answer.document())[:200]


class Held(AsyncGenerator[bytes, None]):
    """Pieces of an answer that hold something until they end or are given up, begun or not."""

    def __init__(
        self, pieces: AsyncGenerator[bytes, None], let_go: Callable[[], Awaitable[None]]
    ) -> None:
        self._pieces = pieces
        self._let_go: Callable[[], Awaitable[None]] | None = let_go

    async def asend(self, value: None) -> bytes:
        """The next piece."""
        try:
            return await self._pieces.asend(value)
        except BaseException:
            await self._end()
            raise

    async def athrow(self, *error: Any) -> bytes:
        """End it with an error."""
        await self._end()
        return await self._pieces.athrow(*error)

    async def aclose(self) -> None:
        """Give it up."""
        await self._end()
        await self._pieces.aclose()

    async def _end(self) -> None:
        let_go, self._let_go = self._let_go, None
        if let_go:
            await let_go()


class SlurmrestdUser:
    """One of a slurmrestd's users.

    :param token: the user's.
    :param ordinary_only: whether a token of root's or SlurmUser's is refused: until it is known to
        be none, nothing is asked with it.
    :param share: how many connections to slurmrestd this user may hold at once.
    :param waits: for how many seconds a request waits for one of them.
    """

    def __init__(
        self,
        slurmrestd: Slurmrestd,
        token: SlurmToken,
        *,
        ordinary_only: bool = False,
        share: int = CONNECTIONS,
        waits: float = WAITS,
    ) -> None:
        self.token = token
        self._share = share
        self._waits = waits
        self._places = asyncio.Semaphore(share)
        self._slurmrestd = slurmrestd
        self._doubtful = ordinary_only
        self._check = asyncio.Lock()

    async def ask(
        self,
        method: str,
        path: str,
        *,
        query: Query = (),
        body: Mapping[str, Any] | None = None,
        stream: bool = False,
    ) -> Answer:
        """As :meth:`Slurmrestd.ask`."""
        try:
            await self.check()
        except UnavailableError as exc:
            return exc.answer
        try:
            async with asyncio.timeout(self._waits):
                await self._places.acquire()
        except TimeoutError:
            words = f"{self._share} requests of this user are under way, and no more can be"
            return UnavailableError(503, words).answer
        body_held = False
        try:
            answer = await self._slurmrestd.ask(
                self.token, method, path, query=query, body=body, stream=stream
            )
            if isinstance(answer.body, AsyncGenerator):
                body_held = True
                return replace(answer, body=Held(answer.body, self._release))
            return answer
        finally:
            if not body_held:
                self._places.release()

    async def _release(self) -> None:
        self._places.release()

    async def check(self) -> None:
        """Refuse what may be a token of root's or SlurmUser's, if only ordinary ones are taken.

        :raises UnavailableError: it is one, or slurmrestd cannot say now.
        """
        if not self._doubtful:
            return
        async with self._check:
            # another request may have seen to it
            if self._doubtful and await self.is_privileged():
                raise UnavailableError(403, privileged(self.token))

    async def is_privileged(self) -> bool:
        """Whether the token may speak for anybody.

        :raises UnavailableError: slurmrestd cannot say now.
        """
        try:
            is_root = self.token.user == "root"
        except TokenError as exc:
            raise UnavailableError(503, str(exc)) from exc
        found = is_root or await self._slurmrestd.is_privileged(self.token)
        if not found:
            self._doubtful = False
        return found


def privileged(token: SlurmToken) -> str:
    """What is wrong with a token of root's or SlurmUser's."""
    whose = token.given_user or "root or SlurmUser"
    return f"the Slurm token of {whose} may do anything on the cluster"
