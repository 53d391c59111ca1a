"""The API over HTTP: its address and the session, a client for a thread and one for an event loop.

What an answer means is decided in answers and calls, what is tried again in errors. Only workers move
files, and only event loops follow an output.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import ipaddress
import os
import ssl
import threading
import time
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Coroutine,
    Generator,
    Iterator,
    Mapping,
)
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from datetime import datetime
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, BinaryIO, Generic, Literal, ParamSpec, Self, TypeVar, overload

import httpcore
import httpx
import msgspec
from msgspec.structs import replace

from airflow_provider_clusterra.api import calls
from airflow_provider_clusterra.api.answers import Answer, transport_error
from airflow_provider_clusterra.api.calls import (
    LARGEST_BODY,
    Call,
    is_plain_output,
    is_stream,
    read_pieces,
)
from airflow_provider_clusterra.api.errors import (
    ApiError,
    ClusterraError,
    InputError,
    Retry,
    TooLargeError,
    TransportError,
)
from airflow_provider_clusterra.api.jobs import read_time
from airflow_provider_clusterra.api.sse import Decoder
from airflow_provider_clusterra.api.uploads import (
    Download,
    UploadGrant,
    check_address,
    pieces,
    storage_refusal,
)

C = TypeVar("C")
P = ParamSpec("P")
T = TypeVar("T")
DEFAULT_HOST = "https://api-use1.clusterra.cloud"
DEFAULT_TIMEOUT = 60.0
"""Seconds. A busy slurmrestd was seen to answer after 33."""
Auth = Literal["cookie", "bearer"]


class Access(msgspec.Struct, frozen=True):
    """An address and a session. Two are equal when they reach the same API as the same user."""

    origin: str
    """Scheme, host and port, without a trailing slash, e.g. ``"https://api.example.org"``."""
    secret: str
    """The ``clusterra_session`` cookie's value, or a bearer token."""
    auth: Auth = "cookie"
    verify: bool | str = True
    """Whether TLS certificates are checked; a path names the CA file to check them with."""
    timeout: float = DEFAULT_TIMEOUT
    """Seconds without a byte after which an answer is given up. As a whole it may take five times as
    long (an output thirty times); only headers that arrive byte by byte hold up a :class:`Client`
    until the task's own timeout."""

    def __repr__(self) -> str:
        return f"Access(origin={self.origin!r}, auth={self.auth!r})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """What a traceback shows: not the secret, either."""
        return [("origin", self.origin), ("auth", self.auth)]

    def headers(self) -> dict[str, str]:
        """What every request to :attr:`origin`, and to no other, carries."""
        if self.auth == "bearer":
            return {"Authorization": f"Bearer {self.secret}"}
        return {"Cookie": f"clusterra_session={self.secret}"}

    def session_end(self) -> datetime | None:
        """When the session ends, as it says itself, or None if it does not say.

        :source: the ``exp`` claim of a JWT (RFC 7519, 4.1.4), read without verifying.
        """
        try:
            part = self.secret.split(".")[1]
            padded = part + "=" * (-len(part) % 4)
            claims = msgspec.json.decode(base64.urlsafe_b64decode(padded))
            return read_time(claims.get("exp"))
        except (IndexError, ValueError, AttributeError, msgspec.MsgspecError):
            return None


def read_origin(host: str, *, allow_http: bool = False) -> str:
    """The API's origin, from what a person writes into a connection.

    :param host: ``"https://api.example.org"``, with or without the scheme, a port, a trailing
        slash, or ``/v1``; ``""`` is :data:`DEFAULT_HOST`.
    :param allow_http: whether plain http may be spoken to another machine.
    :returns: ``scheme://host[:port]``.
    :raises InputError: it is no address, or plain http to another machine.
    """
    text = host.strip() or DEFAULT_HOST
    url = _parse(text)
    redo = "Use https, or set the connection's extra allow_http to true."
    is_http = url.scheme in ("http", "https") and bool(url.host) and (url.port or 0) <= 65535
    plain = url.scheme == "http" and not (allow_http or is_loopback(url.host))
    for wrong, words in (
        (not is_http, f"The host {text!r} is not an http address, e.g. {DEFAULT_HOST}."),
        (
            bool(url.userinfo),
            "The host holds a user or a password. Put the session into the password field.",
        ),
        (
            url.path.strip("/") not in ("", "v1"),
            f"The host {text!r} has a path. Give only the address, e.g. {DEFAULT_HOST}.",
        ),
        (
            plain,
            f"The host {text!r} is plain http, which would show the session to the network. {redo}",
        ),
    ):
        if wrong:
            raise InputError(words)
    return origin_of(url)


def _parse(text: str) -> httpx.URL:
    try:
        return httpx.URL(text if "://" in text else f"https://{text}")
    except (httpx.InvalidURL, ValueError) as exc:
        raise InputError(f"The host {text!r} is not an address: {exc}.") from exc


def origin_of(url: httpx.URL) -> str:
    """``scheme://host[:port]``."""
    name = f"[{url.host}]" if ":" in url.host else url.host
    return f"{url.scheme}://{name}" + (f":{url.port}" if url.port else "")


def is_loopback(host: str) -> bool:
    """Whether a host is this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


CONNECT_TIMEOUT = 10.0
"""Seconds."""
WHOLE = 5
"""How many timeouts an answer may take as a whole, even if it arrives byte by byte. A thread looks at
the clock once it has the headers, which httpx ends at 100 KB or after a timeout without a byte."""
WHOLE_OUTPUT = 30
"""The same for a job's output, which is a file of any size."""
LONG = 4 * 1024 * 1024
READ_AT_ONCE = 256 * 1024
"""Bytes; as many as asyncio reads from a socket."""
LARGEST_WORDS = 64 * 1024
"""Bytes of an answer that may be repeated in an error."""
SHORTEST_SECRET = 6
"""Characters; a shorter one would be found in words that have nothing to do with it."""


class SessionAuth(httpx.Auth):
    """The session on requests to the API's own origin, and to no other. It shows itself nowhere."""

    def __init__(self, access: Access) -> None:
        self.access = access
        """Another one of the same API may take its place: a session is renewed."""
        self._url = httpx.URL(access.origin)

    def __repr__(self) -> str:
        return "SessionAuth(***)"

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """httpx's hook: called once a request."""
        url, own = request.url, self._url
        if (url.scheme, url.host, url.port) == (own.scheme, own.host, own.port):
            request.headers.update(self.access.headers())
        yield request


def build(kind: Callable[..., C], access: Access, url: str, **settings: Any) -> C:
    """An httpx client or transport for one origin, with the environment's proxy if one leads there."""
    variable, proxy = _find_proxy(httpx.URL(url))
    try:
        return kind(verify=tls_context(access.verify), trust_env=False, proxy=proxy, **settings)
    except (ImportError, ValueError, httpx.InvalidURL) as exc:
        hint = ": pip install 'httpx[socks]'" if isinstance(exc, ImportError) else f" ({exc})"
        raise InputError(
            f"The environment variable {variable} names a proxy that cannot be used{hint}."
        ) from exc


def build_for_api(kind: Callable[..., C], session: SessionAuth) -> C:
    """An httpx client for the API's own origin.

    Redirects are not followed: a session stays with its origin.
    """
    access = session.access
    return build(
        kind,
        access,
        access.origin,
        base_url=access.origin,
        auth=session,
        timeout=_timeout(access),
        # no answer's cookie goes out again
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        # callers bound their own concurrency: no request waits for a connection
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=20),
    )


def _find_proxy(url: httpx.URL) -> tuple[str, str | None]:
    """The environment's proxy for an address, and the variable that names it.

    A proxy of another machine would be given loopback's session, and cannot reach us.

    :source: the variables as curl and urllib read them; httpx itself refuses some forms of NO_PROXY.
    """
    for name in (f"{url.scheme}_proxy", "all_proxy"):
        for variable in (name, name.upper()):
            proxy = os.environ.get(variable, "").strip()
            if proxy and not is_loopback(url.host) and not _is_direct(url.host):
                return variable, proxy if "://" in proxy else f"http://{proxy}"
    return "", None


def _is_direct(host: str) -> bool:
    """Whether ``NO_PROXY`` names a host: itself, a domain of it, its network, or ``*``."""
    listed = os.environ.get("no_proxy") or os.environ.get("NO_PROXY", "")
    entries = [entry.strip().lower() for entry in listed.split(",")]
    return any(entry and _names(entry, host) for entry in entries)


def _names(entry: str, host: str) -> bool:
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(entry.strip("[]"), strict=False)
    except ValueError:
        domain = entry.partition("://")[2] or entry
        domain = domain.rpartition(":")[0] if domain.rpartition(":")[2].isdecimal() else domain
        domain = domain.strip("[]").lstrip("*").lstrip(".")
        return entry == "*" or (domain != "" and f".{host}".endswith(f".{domain}"))


def _timeout(access: Access, *, stream: bool = False) -> httpx.Timeout:
    """A stream may be silent for as long as a job is."""
    connect, read = min(CONNECT_TIMEOUT, access.timeout), None if stream else access.timeout
    return httpx.Timeout(access.timeout, connect=connect, read=read)


@functools.lru_cache(maxsize=8)
def tls_context(verify: bool | str) -> ssl.SSLContext:  # noqa: FBT001 - httpx's own word
    """The TLS settings, built once: reading the certificates takes up to 50 ms."""
    named = "The connection's extra verify names"
    try:
        if isinstance(verify, str):
            return ssl.create_default_context(cafile=verify)
        named = "The environment variable SSL_CERT_FILE or SSL_CERT_DIR names"
        return httpx.create_ssl_context(verify=verify)
    except OSError as exc:
        where = verify if isinstance(verify, str) else os.environ.get("SSL_CERT_FILE", "")
        raise InputError(f"{named} a CA file that cannot be read: {where} ({exc}).") from exc


class Body:
    """An answer's body while it arrives: all of it, or its end."""

    def __init__(
        self, keep: int | None, largest: int = LARGEST_BODY, until: float = float("inf")
    ) -> None:
        self._keep = keep
        self._largest = largest
        self._until = until
        """By the monotonic clock."""
        self._pieces: deque[bytes] = deque()
        self._kept = 0
        self._skipped = 0

    def add(self, piece: bytes) -> None:
        """Take the next piece, and drop what comes before the end that is kept."""
        if time.monotonic() > self._until:
            raise httpx.ReadTimeout("the answer did not end in time")
        if self._keep is None and self._kept + len(piece) > self._largest:
            raise TooLargeError(f"An answer has more than {self._largest} bytes; it is not read.")
        self._pieces.append(piece)
        self._kept += len(piece)
        while self._keep is not None and self._kept - len(self._pieces[0]) >= self._keep > 0:
            gone = len(self._pieces.popleft())
            self._kept -= gone
            self._skipped += gone

    @property
    def is_long(self) -> bool:
        """Whether :meth:`answer` is better called in a thread: 4 MiB take it 3 ms, 40 MB 30."""
        return self._kept > LONG

    def answer(self, request: str, status: int, headers: Mapping[str, str]) -> Answer:
        """The answer, once all has arrived."""
        data = b"".join(self._pieces)
        extra = 0 if self._keep is None else max(0, len(data) - self._keep)
        return Answer(request, status, headers, data[extra:], self._skipped + extra)


class _Endpoint(Generic[P, T]):
    """A call as a method: it takes what the call takes, and each client sends it in its way."""

    def __init__(self, call: Callable[P, Call[T]]) -> None:
        self._call = call

    @overload
    def __get__(self, client: None, owner: Any) -> Callable[P, Call[T]]: ...
    @overload
    def __get__(self, client: Client, owner: Any) -> Callable[P, T]: ...
    @overload
    def __get__(self, client: AsyncClient, owner: Any) -> Callable[P, Coroutine[Any, Any, T]]: ...
    def __get__(self, client: Any, owner: Any) -> Any:
        if client is None:
            return self._call

        @functools.wraps(self._call)
        def send(*args: P.args, **kwargs: P.kwargs) -> Any:
            return client.send(self._call(*args, **kwargs))

        return send


class _Endpoints:
    """What both clients offer; the functions of ``calls`` say what each takes and returns."""

    _session: SessionAuth

    @property
    def access(self) -> Access:
        """The address and the session; a renewed session of the same API may be set."""
        return self._session.access

    @access.setter
    def access(self, access: Access) -> None:
        self._session.access = access

    get_user = _Endpoint(calls.get_user)
    list_clusters = _Endpoint(calls.list_clusters)
    submit_job = _Endpoint(calls.submit_job)
    get_job = _Endpoint(calls.get_job)
    list_jobs = _Endpoint(calls.list_jobs)
    list_states = _Endpoint(calls.list_states)
    list_accounting = _Endpoint(calls.list_accounting)
    list_runs = _Endpoint(calls.list_runs)
    cancel_job = _Endpoint(calls.cancel_job)
    read_output = _Endpoint(calls.read_output)
    presign_upload = _Endpoint(calls.presign_upload)
    presign_download = _Endpoint(calls.presign_download)
    find_run = _Endpoint(calls.find_run)
    list_files = _Endpoint(calls.list_files)
    presign_file = _Endpoint(calls.presign_file)
    list_nodes = _Endpoint(calls.list_nodes)
    get_stats = _Endpoint(calls.get_stats)
    read_metrics = _Endpoint(calls.read_metrics)
    list_templates = _Endpoint(calls.list_templates)
    get_template = _Endpoint(calls.get_template)
    list_routes = _Endpoint(calls.list_routes)


class Client(_Endpoints):
    """The API for a thread. Use it as a context manager, or :meth:`close` it."""

    def __init__(self, access: Access, *, retry: Retry | None = None) -> None:
        self._session = SessionAuth(access)
        self._retry = retry or Retry()
        self._http = build_for_api(httpx.Client, self._session)
        self._building = threading.Lock()
        self._storages: dict[str, httpx.HTTPTransport] = {}
        """For files, by origin; they share its connections, and the first one builds it."""

    def send(self, call: Call[T], *, retry: Retry | None = None) -> T:
        """What a call of ``calls`` returns; every other method but the upload is this.

        :param call: e.g. ``calls.get_job("clusde74", 12)``.
        :param retry: how patient this one request is; otherwise as the client is.
        :raises ClusterraError: as the call says.
        """
        attempt = 0
        while True:
            try:
                return call.read(self._exchange(call))
            except ClusterraError as error:
                attempt += 1
                pause = (retry or self._retry).delay(error, attempt, repeatable=call.repeatable)
            time.sleep(pause)

    def upload_file(
        self,
        cluster_id: str,
        filename: str,
        location: str,
        size: int,
        content: Callable[[], BinaryIO],
    ) -> str:
        """Put one file into the cluster's storage, in constant memory.

        :param cluster_id: the cluster, e.g. ``"clusde74"``.
        :param filename: the name there, e.g. ``"input.pdb"``.
        :param location: ``"data"``, ``"scripts"``, ``"outputs"`` or ``"shared"``.
        :param size: bytes; S3 wants to know before.
        :param content: opens the file; called anew for each try.
        :returns: the key, ready for a template's parameter.
        :raises ApiError: the API or the storage refused.
        :raises TransportError: no answer, in all tries.
        :raises InputError: the file changed meanwhile.
        :source: ``POST …/storage/presigned-url``, then ``PUT`` to the address it gives, which is
            another host's: no session, no header of ours.
        """
        attempt = 0
        while True:
            grant = self.presign_upload(cluster_id, filename, location)
            try:
                self._put(grant, size, content)
            except (ApiError, TransportError) as error:
                attempt += 1
                pause = self._retry.upload_delay(error, attempt)
            else:
                return grant.key
            time.sleep(pause)

    def download_file(self, download: Download) -> Generator[bytes, None, None]:
        """The bytes of one file, in constant memory; after a break the rest is asked for.

        :param download: which file; it says how far the download is.
        :raises ApiError: the API or the storage refused.
        :raises TransportError: no answer, in all tries that brought nothing.
        :raises ProtocolError: the file changed meanwhile.
        :source: ``GET`` of the address that a :class:`DownloadGrant` holds, with ``Range``; no
            session, no header of ours.
        """
        attempt, before = 0, 0
        while True:
            attempt += 1
            try:
                yield from self._get(download)
            except (ApiError, TransportError) as error:
                attempt = attempt if download.offset == before else 1
                before = download.offset
                pause = self._retry.upload_delay(error, attempt)
            else:
                return
            time.sleep(pause)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()
        for storage in self._storages.values():
            storage.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _exchange(self, call: Call[Any]) -> Answer:
        access = self.access
        with (
            _in_our_words(call.request, access.origin),
            self._http.stream(*call.request.split(" ", 1), json=call.json) as response,
        ):
            body = _empty_body(call, access)
            for piece in response.iter_bytes():
                body.add(piece)
            return _answer(call, body, response, access)

    def _put(self, grant: UploadGrant, size: int, content: Callable[[], BinaryIO]) -> None:
        url = grant.check(self.access.origin)
        request = f"PUT {grant.shown_url}"
        with content() as file:
            headers = {"Content-Length": str(size)}
            sent = httpx.Request("PUT", url, headers=headers, content=pieces(file, size))
            with self._stored(sent, request) as response:
                body = response.read()
        error = storage_refusal(request, response.status_code, body)
        if error is not None:
            raise error

    def _get(self, download: Download) -> Generator[bytes, None, None]:
        address = download.grant().download_url
        url = check_address("download_url", address, self.access.origin)
        request = f"GET {download.shown}"
        sent = httpx.Request("GET", url, headers=download.headers)
        with self._stored(sent, request) as response:
            body = response.read() if response.status_code >= 300 else b""
            if download.is_whole(response.status_code, response.headers):
                return
            error = storage_refusal(request, response.status_code, body)
            if error is not None:
                raise error
            download.begin(response.status_code, response.headers)
            for piece in _body(response, sent.extensions["timeout"]["read"]):
                yield download.take(piece)
        download.end()

    @contextmanager
    def _stored(self, sent: httpx.Request, request: str) -> Iterator[httpx.Response]:
        """The storage's answer, by a transport alone: sessions, cookies, redirects and a log line, which
        the storage does not need, take half of httpx's time for a small file."""
        access, origin = self.access, origin_of(sent.url)
        with self._building:
            storage = self._storages.get(origin)
            if storage is None:
                storage = self._storages[origin] = build(httpx.HTTPTransport, access, origin)
        sent.extensions["timeout"] = _timeout(access).as_dict()
        with (
            _in_our_words(request, origin),
            closing(storage.handle_request(sent)) as response,
        ):
            yield response


class AsyncClient(_Endpoints):
    """The API for an event loop. Use it as a context manager, or :meth:`aclose` it.

    Building one takes milliseconds that an event loop may not have: build it in a thread.
    """

    def __init__(self, access: Access, *, retry: Retry | None = None) -> None:
        self._session = SessionAuth(access)
        self._retry = retry or Retry()
        self._http = build_for_api(httpx.AsyncClient, self._session)
        self._http.event_hooks = {"request": [_notice_cancels], "response": [_read_much_at_once]}

    async def send(self, call: Call[T], *, retry: Retry | None = None) -> T:
        """What a call of ``calls`` returns; every other method but the streams is this.

        :param call: e.g. ``calls.get_job("clusde74", 12)``.
        :param retry: how patient this one request is; otherwise as the client is.
        :raises ClusterraError: as the call says.
        """
        attempt = 0
        while True:
            try:
                return call.read(await self.exchange(call))
            except ClusterraError as error:
                attempt += 1
                pause = (retry or self._retry).delay(error, attempt, repeatable=call.repeatable)
            await asyncio.sleep(pause)

    async def stream_output(self, cluster_id: str, job_id: int) -> AsyncGenerator[bytes, None]:
        """See :func:`airflow_provider_clusterra.api.calls.stream_output`.

        Sent once: its reader decides what a break means.
        """
        call = calls.stream_output(cluster_id, job_id)
        with _in_our_words(call.request, self.access.origin):
            async with self._sent(call, timeout=_timeout(self.access, stream=True)) as response:
                if not is_stream(response.status_code, response.headers):
                    call.read(await self._whole(call, response))
                decoder = Decoder()
                async for piece in response.aiter_bytes():
                    for found in read_pieces(call.request, decoder.feed(piece)):
                        yield found
                for found in read_pieces(call.request, decoder.close()):
                    yield found

    async def read_output_pieces(self, cluster_id: str, job_id: int) -> AsyncGenerator[bytes, None]:
        """The whole output as it is now, piece by piece: for what is too long to be held.

        :param cluster_id: the cluster, e.g. ``"clusde74"``.
        :param job_id: Slurm's number for the job, > 0.
        :raises NotFoundError: there is no output (yet).
        :source: as :func:`airflow_provider_clusterra.api.calls.read_output`. Asked once.
        """
        call = calls.read_output(cluster_id, job_id)
        with _in_our_words(call.request, self.access.origin):
            async with self._sent(call) as response:
                if not is_plain_output(response.status_code, response.headers):
                    yield call.read(await self._whole(call, response)).data
                    return
                async for piece in response.aiter_bytes():
                    yield piece

    async def exchange(self, call: Call[Any]) -> Answer:
        """One call's answer, whatever its status: sent once, and not interpreted.

        :param call: whose ``read`` says what the answer means.
        :raises TransportError: there was none, or not all of it in time.
        """
        with _in_our_words(call.request, self.access.origin):
            async with (
                asyncio.timeout(_longest(call, self.access)),
                self._sent(call, json=call.json) as response,
            ):
                return await self._whole(call, response)

    @asynccontextmanager
    async def _sent(self, call: Call[Any], **options: Any) -> AsyncIterator[httpx.Response]:
        """A request's response, once its headers are there.

        The request runs in a task of its own. While httpx connects, anyio may swallow a cancel (or a
        timeout's), which it mistakes for its own cancel of connection attempts that it no longer needs.
        The request would then go on, an output for ever, and whoever cancelled it would wait for ever.
        A cancel raised here also keeps its message, by which Airflow recognizes a user's kill.
        """
        method, path = call.request.split(" ", 1)
        sending = asyncio.create_task(
            # a frame with the request would hold the session
            self._http.send(self._http.build_request(method, path, **options), stream=True)
        )
        try:
            await asyncio.wait({sending})
            response = sending.result()
        except asyncio.CancelledError:
            while not sending.done():
                sending.cancel()
                with suppress(asyncio.CancelledError):
                    await asyncio.wait({sending})
            if not sending.cancelled() and sending.exception() is None:
                await sending.result().aclose()
            raise
        try:
            yield response
        finally:
            await response.aclose()

    async def aclose(self) -> None:
        """Close the connections: all of them, even if this is cancelled in the middle."""
        closing = asyncio.get_running_loop().create_task(self._http.aclose())
        try:
            await asyncio.shield(closing)
        except asyncio.CancelledError:
            await asyncio.wait({closing})
            raise

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _whole(self, call: Call[Any], response: httpx.Response) -> Answer:
        access = self.access
        body = _empty_body(call, access)
        async for piece in response.aiter_bytes():
            body.add(piece)
        if body.is_long:
            return await asyncio.to_thread(_answer, call, body, response, access)
        return _answer(call, body, response, access)


async def _notice_cancels(request: httpx.Request) -> None:
    """Raise a cancel that anyio has swallowed: see :meth:`AsyncClient._sent`."""
    task = asyncio.current_task()
    made: list[httpcore.AsyncNetworkStream] = []

    async def notice(event: str, info: Mapping[str, Any]) -> None:
        is_connected = event.endswith(".connect_tcp.complete")
        if is_connected:
            made.append(info["return_value"])
        swallowed = is_connected and task is not None and task.cancelling()
        if swallowed or event.endswith(".start_tls.failed"):
            # httpcore closes it after an error, but not after a cancel
            for stream in made:
                await stream.aclose()
        if swallowed:
            raise asyncio.CancelledError

    request.extensions["trace"] = notice


async def _read_much_at_once(response: httpx.Response) -> None:
    """Take what asyncio has read as it is: httpx asks for 64 KiB of its 256, and the rest is copied
    each time. A TLS record is shorter."""
    stream = response.extensions.get("network_stream")
    if stream is not None and stream.get_extra_info("ssl_object") is None:
        read = functools.partial(type(stream).read, stream, READ_AT_ONCE)
        stream.read = lambda _, timeout=None: read(timeout)


def _longest(call: Call[Any], access: Access) -> float:
    return access.timeout * (WHOLE if call.keep is None else WHOLE_OUTPUT)


def _empty_body(call: Call[Any], access: Access) -> Body:
    return Body(call.keep, call.largest, time.monotonic() + _longest(call, access))


def _answer(call: Call[Any], body: Body, response: httpx.Response, access: Access) -> Answer:
    answer = body.answer(call.request, response.status_code, response.headers)
    secret = access.secret.encode()
    is_output = call.keep is not None and answer.status < 300
    # an error repeats short answers only; a job's output stays as it is
    if is_output or len(answer.body) > LARGEST_WORDS or len(secret) < SHORTEST_SECRET:
        return answer
    # an API may repeat what it was sent
    return replace(answer, body=answer.body.replace(secret, b"***"))


LARGE = 1024 * 1024
"""Bytes of a body for which a connection is given up afterwards."""


def _body(response: httpx.Response, timeout: float) -> Iterator[bytes]:
    """An answer's body. httpx reads 64 KiB at a time and copies them three times, which takes longer than
    all else, so most of a large one comes from its connection, which is of no use to httpx afterwards."""
    # a broken proxy sends a length with an answer in chunks
    is_plain = response.http_version == "HTTP/1.1" and "transfer-encoding" not in response.headers
    length = response.headers.get("content-length", "")
    left = int(length) if length.isdecimal() and is_plain else 0
    pieces = response.iter_raw()
    if left > LARGE:
        # what httpx has read beyond the head, and no more
        yield (first := next(pieces, b""))
        left -= len(first)
        connection = response.extensions["network_stream"]
        while left and (piece := _read(connection, min(left, READ_AT_ONCE), timeout)):
            yield piece
            left -= len(piece)
    else:
        yield from pieces


def _read(connection: Any, most: int, timeout: float) -> bytes:
    try:
        return bytes(connection.read(most, timeout))
    except (httpcore.NetworkError, httpcore.TimeoutException) as exc:
        raise httpx.ReadError(str(exc) or type(exc).__name__) from exc


@contextmanager
def _in_our_words(request: str, origin: str) -> Iterator[None]:
    """httpx's errors as ours. The session is neither in their words nor in frames that are kept."""
    try:
        yield
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as exc:
        raise transport_error(request, exc, origin) from _without_frames(exc)


def _without_frames(exc: BaseException) -> BaseException:
    """An error without the frames of httpx, whose variables hold what was sent."""
    each: BaseException | None = exc
    while each is not None:
        each.__traceback__ = None
        each = each.__cause__ or each.__context__
    return exc
