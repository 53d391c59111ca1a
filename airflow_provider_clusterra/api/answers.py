"""An answer of the API, and what it means when it is a no."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import httpx
import msgspec

from airflow_provider_clusterra.api.errors import (
    ApiError,
    AuthenticationError,
    ConflictError,
    NotFoundError,
    ProtocolError,
    RateLimitedError,
    RequestError,
    ServerError,
    TransportError,
)
from airflow_provider_clusterra.api.jobs import read_number, read_objects

T = TypeVar("T")
BOM = codecs.BOM_UTF8
"""What some gateways put before a body."""
NOT_JSON = (msgspec.MsgspecError, ValueError, RecursionError)
"""What :func:`decode` raises over bytes that are no JSON, or none of the asked form."""
LONGEST_DETAIL = 500
"""Characters of an answer's own words that an error repeats."""
INVALID_JOB_ID = 2017
"""Slurm's ESLURM_INVALID_JOB_ID; it comes with 404, 500 (v0.0.38) or 200 (cancel)."""
ACCESS_DENIED = 2002
BY_NUMBER: tuple[tuple[range, type[ApiError]], ...] = (
    (range(INVALID_JOB_ID, INVALID_JOB_ID + 1), NotFoundError),
    (range(ACCESS_DENIED, ACCESS_DENIED + 1), AuthenticationError),
    # Slurm's daemons do not reach or do not trust each other
    (range(1000, 2000), ServerError),
    # what a user asked wrongly, which comes with 422, and with 500 as well
    (range(2000, 3000), RequestError),
    (range(9000, 9300), RequestError),
)
"""Whose fault Slurm's own number says it is, whatever a proxy has made of the status."""
BY_STATUS: dict[int, type[ApiError]] = {
    401: AuthenticationError,
    403: AuthenticationError,
    404: NotFoundError,
    408: ServerError,
    409: ConflictError,
    425: ServerError,
    429: RateLimitedError,
}
ADVICE = {
    401: " The session is not accepted: sign in with the browser and put the new clusterra_session "
    "cookie into the connection's password; of a clusterra-server, put the token of the line that it "
    "prints when it starts there.",
    403: " The session's user may not do this.",
}
"""What to do about a status, whatever the answer's own words."""
NOT_NOW = "Operation not permitted"
"""What a slurmrestd says with a 403 to a cancel while its slurmctld is down."""
NO_ROUTE = re.compile(
    r"|no route matched.*|missing authentication token|((page|resource|route|service) )?not found\.?",
    re.IGNORECASE,
)
"""What gateways say in JSON with a 404 of their own: AWS's, Kong and their like, or nothing at all."""
FRAMES = {"path", "statusCode", "title"}
"""What web frameworks have in their own 404: Spring's, Node's, RFC 9457's; Google's and Kubernetes'
gateways repeat the status as ``code``."""
REQUEST_ID_HEADERS = ("x-request-id", "x-amzn-requestid", "x-amzn-trace-id", "x-amz-cf-id")
NOT_SENT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
)


def decode(body: bytes, form: Any = Any) -> Any:
    """JSON in the asked form; bytes that are not UTF-8 are replaced, and NaN is null.

    A job's name may be any bytes, and slurmrestd repeats them. Raises one of
    :data:`NOT_JSON`.
    """
    body = body.removeprefix(BOM)
    try:
        return msgspec.json.decode(body, type=form)
    except msgspec.ValidationError:
        raise
    except (msgspec.DecodeError, UnicodeDecodeError):
        text = body.decode("utf-8", "replace")
        found = json.loads(text, strict=False, parse_constant=lambda _: None)
        again = json.dumps(found, ensure_ascii=False).encode("utf-8", "replace")
        return msgspec.json.decode(again, type=form)


class Answer(msgspec.Struct, frozen=True):
    """One HTTP answer, read to its end."""

    request: str
    """The request in words, e.g. ``"GET /v1/clusters/c1/jobs/9"``."""
    status: int
    headers: Mapping[str, str]
    """Names in lower case, or a mapping that ignores case."""
    body: bytes
    skipped: int = 0
    """Bytes that came before :attr:`body` and were not kept."""

    @property
    def is_json(self) -> bool:
        """Whether the answer says that it is JSON."""
        return "json" in self.headers.get("content-type", "")

    def json(self) -> Any:
        """The body as JSON values."""
        try:
            return decode(self.body)
        except NOT_JSON as exc:
            raise self.unreadable(str(exc)) from exc

    def object(self, within: str = "") -> dict[str, Any]:
        """The body as a JSON object, or the object that it holds ``within``."""
        body = self.json()
        if not isinstance(body, dict):
            raise self.unreadable("it is not an object")
        inner = body.get(within)
        return inner if isinstance(inner, dict) else body

    def rows(self, name: str) -> list[dict[str, Any]]:
        """The objects of a list that the body holds, or is; other entries are skipped."""
        body = self.json()
        rows = body.get(name) if isinstance(body, dict) else body
        if not isinstance(rows, list):
            raise self.unreadable(f"it holds no list of {name}")
        return read_objects(rows)

    def unreadable(self, why: str) -> ProtocolError:
        """The error that says that this answer cannot be read, and shows its beginning."""
        begins = self.body[:120].decode("utf-8-sig", "replace").strip()
        hint = " Is the connection's host the API's?" if begins.startswith("<") else ""
        shown = f"it begins {begins!r}" if begins else "it is empty"
        return ProtocolError(
            f"{self.status} {self.request}: the answer cannot be read ({why}); {shown}.{hint}"
        )


class Problem(msgspec.Struct, frozen=True):
    """One thing that an answer complains of."""

    text: str
    number: int | None = None
    """Slurm's error number."""
    in_own_words: bool = True
    """Whether it has a form of Slurm's or the API's; ``message`` alone is a gateway's."""

    def __str__(self) -> str:
        return f"{self.text} (Slurm error {self.number})" if self.number else self.text


def checked(read: Callable[[Answer], T]) -> Callable[[Answer], T]:
    """A reader of successful answers as a reader of any answer: a refusal is raised."""

    def read_or_refuse(answer: Answer) -> T:
        error = refusal(answer)
        if error is not None:
            raise error
        return read(answer)

    return read_or_refuse


def refusal(answer: Answer) -> ApiError | None:
    """The error that an answer means, or None if it is a success.

    :source: slurmrestd's ``errors[]`` under any status; the body forms of Clusterra's proxy.
    """
    problems = read_problems(answer)
    if answer.status < 300 and not problems:
        return None
    number = next((problem.number for problem in problems if problem.number), None)
    detail = "; ".join(str(problem) for problem in problems) or _plain_words(answer)
    detail = detail[:LONGEST_DETAIL]
    kind = _kind(answer, number, detail)
    words = (detail or "no words of explanation").removesuffix(".")
    return kind(
        f"{answer.status} {answer.request}: {words}.{_advice(kind, answer.status)}",
        status=answer.status,
        detail=detail,
        number=number,
        request_id=next(filter(None, map(answer.headers.get, REQUEST_ID_HEADERS)), None),
        retry_after=read_retry_after(answer.headers.get("retry-after")),
        in_own_words=any(problem.in_own_words for problem in problems),
    )


def read_problems(answer: Answer) -> list[Problem]:
    """What an answer complains of, in any of the forms in which it may.

    :source: ``errors[]`` of slurmrestd; ``error``, ``message``, ``detail`` of proxies.
    """
    try:
        body = decode(answer.body, _Complaint)
    except NOT_JSON:
        return []
    problems = [_problem(error) for error in _list(body.errors)]
    if not problems and answer.status >= 300:
        for word in (body.error, body.message, body.detail):
            text = word.get("message") if isinstance(word, dict) else word
            if text:
                return [Problem(str(text), in_own_words=word is not body.message)]
    return problems


def transport_error(
    request: str, exc: httpx.HTTPError | httpx.InvalidURL | TimeoutError, origin: str
) -> TransportError:
    """httpx's error as ours: no answer, and whether the request may have arrived."""
    sent = not isinstance(exc, NOT_SENT)
    words = str(exc) or type(exc).__name__
    hint = ""
    if not sent:
        hint = f" Is the connection's host right, and can this machine reach {origin}?"
    if isinstance(exc, httpx.TimeoutException | TimeoutError):
        words = f"no answer in time ({type(exc).__name__})"
    elif "CERTIFICATE_VERIFY_FAILED" in words:
        hint = (
            f" This machine does not trust the certificate of {origin}: name the CA's file in the "
            "connection's extra verify."
        )
    return TransportError(f"{request}: {words}.{hint}", may_have_arrived=sent)


class _Complaint(msgspec.Struct, gc=False):
    errors: Any = None
    error: Any = None
    message: Any = None
    detail: Any = None


def _problem(error: Any) -> Problem:
    if not isinstance(error, dict):
        return Problem(str(error))
    number = read_number(error.get("error_number", error.get("error_code")))
    words = [str(error[key]) for key in ("error", "description") if error.get(key)]
    return Problem(": ".join(dict.fromkeys(words)) or "an error without words", number)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value] if value else []


def _plain_words(answer: Answer) -> str:
    text = answer.body[: 4 * LONGEST_DETAIL].decode("utf-8-sig", "replace").strip()
    if text.startswith("<"):
        return "a web page instead of an answer"
    location = answer.headers.get("location")
    if 300 <= answer.status < 400 and location:
        # its query may hold secrets
        place = "".join(filter(str.isprintable, re.split(r"[?#]", location)[0]))
        return f"redirected to {place}, which is not followed"
    return text


def kind_of_number(number: int | None) -> type[ApiError] | None:
    """Whose fault Slurm's number says it is, if it says so."""
    return next((kind for numbers, kind in BY_NUMBER if number in numbers), None)


def _kind(answer: Answer, number: int | None, detail: str) -> type[ApiError]:
    status = answer.status
    by_number = kind_of_number(number)
    if by_number is not None and status != 401:
        return by_number
    if status == 403 and NOT_NOW in detail:
        return ServerError
    kind = BY_STATUS.get(status, RequestError if 300 <= status < 500 else ServerError)
    # a gateway, too, may ask for a session or for fewer requests
    heeded = kind in (AuthenticationError, RateLimitedError)
    return ServerError if not heeded and is_a_gateways(answer) else kind


def is_page(headers: Mapping[str, str]) -> bool:
    """Whether an answer is a web page, which the API never sends."""
    return "html" in headers.get("content-type", "")


def is_a_gateways(answer: Answer) -> bool:
    """Whether a 4xx is of something before the API: a web page, or a 404 that is not the API's own."""
    # the vendor's log server says this in plain text
    if answer.status < 400 or answer.body.startswith(b"log not found"):
        return False
    if is_page(answer.headers) or answer.body.removeprefix(BOM).lstrip().startswith(b"<"):
        return True
    try:
        return answer.status == 404 and _knows_no_route(decode(answer.body))
    except NOT_JSON:
        return True


def _knows_no_route(body: Any) -> bool:
    if not isinstance(body, dict):
        return True
    if (body.keys() & FRAMES or body.get("code") == 404) and "errors" not in body:
        return True
    is_own = body.keys() & {"errors", "error", "detail"}
    return not is_own and bool(NO_ROUTE.fullmatch(str(body.get("message") or "")))


def _advice(kind: type[ApiError], status: int) -> str:
    if 300 <= status < 400:
        return " Is the connection's host the API's?"
    return ADVICE.get(status, " Too many requests." if kind is RateLimitedError else "")


def read_retry_after(value: str | None, now: datetime | None = None) -> float | None:
    """Seconds to wait, from either form of the header, or None if it says nothing.

    :source: RFC 9110, 10.2.3.
    """
    if not value:
        return None
    if re.fullmatch(r"\s*[0-9]+\s*", value):
        return float(value)
    try:
        when = parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max(0.0, (when - (now or datetime.now(UTC))).total_seconds())
