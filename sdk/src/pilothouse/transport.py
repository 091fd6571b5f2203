"""HTTP to the service: deadlines, a bounded pool, bounded retries, problems as typed errors.

The only file that knows the HTTP library.
"""

import asyncio
import json
import random
import re
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import version
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from pilothouse.errors import (
    BadAnswer,
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    OutcomeUnknown,
    PilothouseError,
    PreconditionFailed,
    Refused,
    Unauthenticated,
    Unavailable,
)
from pilothouse.proxies import choose_proxy
from pilothouse.timeouts import run_with_timeout

# Otherwise the first request imports them on the client's thread: reads would wait for the
# interpreter, and a process forked at that time would keep a half-finished import.
for _later in ("httpcore", "anyio._backends._asyncio", "concurrent.futures.thread"):
    with suppress(ImportError):
        import_module(_later)

Params = Mapping[str, str | list[str]]
Token = str | Callable[[], str | None] | None
_AGENT: Final = f"pilothouse-client/{version('pilothouse-client')}"
_CREDENTIALS = re.compile("//[^/]*@")
_KINDS: dict[int, type[PilothouseError]] = {
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: NotFound,
    412: PreconditionFailed,
    422: Invalid,
    400: Invalid,
}
_REPEATABLE = frozenset({"GET", "HEAD", "PUT", "DELETE"})
_TOO_MANY, _NOT_MODIFIED = 429, 304
_MOST_REDIRECTS = 5
_HEADERS_FOR_ANYBODY = frozenset({"accept", "accept-encoding", "connection", "host", "user-agent"})


def full_jitter(failures: int, base: float, cap: float) -> float:
    """Return the seconds to wait after so many failures in a row: anything up to the exponential.

    "Full jitter" of M. Brooker, Exponential Backoff and Jitter (AWS Architecture Blog, 2015): of
    the variants there it makes the fewest calls when a crowd comes back at once.
    """
    return random.uniform(0, min(cap, base * 2.0 ** min(failures - 1, 30)))  # noqa: S311 - jitter


@dataclass(frozen=True, slots=True)
class Answer:
    """A status that is no failure (2xx or 304), headers by lower-case name, and the body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def is_unchanged(self) -> bool:
        return self.status == _NOT_MODIFIED

    @property
    def etag(self) -> str:
        return self.headers.get("etag", "")

    def json(self) -> Any:
        """Return the body; raises BadAnswer where it is not JSON."""
        kind = self.headers.get("content-type", "nothing").partition(";")[0]
        if kind != "application/json" and not kind.endswith("+json"):
            raise BadAnswer(f"an answer of {kind} instead of JSON", status=self.status)
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError) as error:
            raise BadAnswer("an answer that is not JSON", status=self.status) from error

    def object(self) -> dict[str, Any]:
        """Return the body; raises BadAnswer where it is not a JSON object."""
        body = self.json()
        if not isinstance(body, dict):
            raise BadAnswer("an answer that is not a JSON object", status=self.status)
        return body


@dataclass(frozen=True)
class Limits:
    """Bounds in seconds and counts; the defaults suit a service nearby.

    `timeout` bounds one attempt, `attempts` how many there are, `connections` how many are open.
    `proxy` is the URL of a proxy, `environment` for the one that HTTP_PROXY, HTTPS_PROXY, ALL_PROXY
    and NO_PROXY choose, or None: then connections are direct, whatever the environment says.
    """

    timeout: float = 5.0
    attempts: int = 3
    connections: int = 10
    backoff: float = 0.1
    longest_backoff: float = 2.0
    silence: float = 45.0  # of a stream, which sends something every 15 s
    verify: bool | str | ssl.SSLContext = True  # a string: the path of a bundle of authorities
    headers: Mapping[str, str] = field(default_factory=dict)
    proxy: str | None = None


class Transport:
    """Requests to one service. Belongs to the event loop that it is first used on.

    Raises ValueError for a URL, a proxy or a token that cannot be one. `token` may be a function:
    it is asked before every request, so that a token that is renewed on disk is used at once. White
    space around it is taken off, as a file ends with a line end; when it raises, that is
    Unauthenticated with the code `no_token`.

    With `is_document` the URL is that of one document: it may have a query, its last slash counts,
    and redirects are followed. Another origin is sent no headers of the caller.
    """

    def __init__(
        self,
        url: str,
        token: Token = None,
        limits: Limits | None = None,
        *,
        is_document: bool = False,
    ) -> None:
        scheme = _check_url(url, is_document=is_document)
        if isinstance(token, str):
            _check_token(token)
        self.url = url if is_document else url.rstrip("/")
        self._is_document = is_document
        self._is_verified = is_document or scheme == "https"
        self._token = token
        self._limits = limits or Limits()
        self._proxy = _usable_proxy(choose_proxy(self._limits.proxy, url))
        self._client: httpx.AsyncClient | None = None

    @property
    def connections(self) -> int:
        return self._limits.connections

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    async def get(
        self,
        path: str,
        params: Params | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        attempts: int | None = None,
        longer: float = 0.0,
    ) -> Answer:
        """Read; `longer` is added to each attempt's deadline (a read that waits for a change)."""
        return await self.request(
            "GET", path, params=params, headers=headers, attempts=attempts, longer=longer
        )

    async def request(  # noqa: PLR0913 - each is a part of one request
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        headers: Mapping[str, str] | None = None,
        body: Any = None,
        content: bytes | None = None,
        attempts: int | None = None,
        longer: float = 0.0,
    ) -> Answer:
        """Send `body` as JSON, or `content`; return what is answered with 2xx or 304.

        What may be repeated (reads, PUT, DELETE, whatever has an `Idempotency-Key`) is tried up
        to `attempts` times. Raises Unavailable, OutcomeUnknown, BadAnswer or a kind of Refused.
        """
        sent = dict(headers or {})
        if content is None and body is not None:
            content = json.dumps(body, ensure_ascii=False).encode()
            sent.setdefault("Content-Type", "application/json")
        if content is not None:
            sent.setdefault("Content-Type", "application/octet-stream")
        repeatable = method in _REPEATABLE or "Idempotency-Key" in sent
        allowed = (attempts or self._limits.attempts) if repeatable else 1
        failures = 0
        while True:
            try:
                request = self._request(method, path, params, sent, content)
                return await self._once(request, self._limits.timeout + longer)
            except Unavailable as error:
                failures += 1
                if failures >= allowed:
                    raise
                await asyncio.sleep(self._pause(failures, error.retry_after))

    def _pause(self, failures: int, retry_after: float | None) -> float:
        longest = self._limits.longest_backoff
        jitter = full_jitter(failures, self._limits.backoff, longest)
        return jitter + min(retry_after or 0.0, longest)

    async def _once(self, request: httpx.Request, deadline: float) -> Answer:
        try:
            response = await run_with_timeout(deadline, self._send(request))
        except TimeoutError as error:
            raise _lost_answer_error(request, f"no answer within {deadline:g} s") from error
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise Unavailable(f"{self.url} cannot be reached: {_error_text(error)}") from error
        except httpx.TransportError as error:
            raise _lost_answer_error(request, f"no answer: {_error_text(error)}") from error
        except (httpx.InvalidURL, httpx.DecodingError) as error:
            raise BadAnswer(f"an answer that cannot be read: {_error_text(error)}") from error
        return _checked_answer(Answer(response.status_code, _headers(response), response.content))

    async def _send(self, request: httpx.Request) -> httpx.Response:
        response = await self._open_client().send(request)
        for _ in range(_MOST_REDIRECTS if self._is_document else 0):
            following = response.next_request
            if following is None:
                break
            _check_redirect(request, following)
            request = following
            response = await self._open_client().send(request)
        return response

    @asynccontextmanager
    async def stream(
        self,
        path: str,
        params: Params | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open a stream of server-sent events and yield its chunks.

        Raises as `request` does, within the body as well: Unavailable when the connection breaks
        or nothing is heard for `silence` seconds.
        """
        sent = {"Accept": "text/event-stream", "Accept-Encoding": "identity", **(headers or {})}
        request = self._request("GET", path, params, sent, None)
        request.extensions["timeout"]["read"] = self._limits.silence
        try:
            sending = self._open_client().send(request, stream=True)
            response = await run_with_timeout(self._limits.timeout, sending)
        except (TimeoutError, httpx.TransportError) as error:
            raise Unavailable(f"no stream: {_error_text(error)}") from error
        try:
            kind = response.headers.get("content-type", "nothing").partition(";")[0]
            if response.status_code != httpx.codes.OK or kind != "text/event-stream":
                content = await run_with_timeout(self._limits.timeout, response.aread())
                _checked_answer(Answer(response.status_code, _headers(response), content))
                raise BadAnswer(f"an answer of {kind} instead of a stream of events")
            yield _chunks(response)
        except (TimeoutError, httpx.TransportError) as error:
            raise Unavailable(f"the stream broke: {_error_text(error)}") from error
        finally:
            await response.aclose()

    def _open_client(self) -> httpx.AsyncClient:
        if self._client is None:
            self._client = httpx.AsyncClient(
                # Reading the authorities takes longer than a whole start from the snapshot.
                verify=self._verify() if self._is_verified else False,
                limits=httpx.Limits(max_connections=self._limits.connections),
                timeout=httpx.Timeout(None, connect=self._limits.timeout),
                headers={"User-Agent": _AGENT},
                proxy=self._proxy,
                trust_env=False,  # the library fails on ordinary values of NO_PROXY and ALL_PROXY
            )
        return self._client

    def _verify(self) -> ssl.SSLContext | bool:
        verify = self._limits.verify
        if isinstance(verify, str):
            return ssl.create_default_context(cafile=verify)
        # SSL_CERT_FILE and SSL_CERT_DIR count, which `trust_env` would have read.
        return httpx.create_ssl_context(verify=True) if verify is True else verify

    def _request(
        self,
        method: str,
        path: str,
        params: Params | None,
        headers: Mapping[str, str],
        content: bytes | None,
    ) -> httpx.Request:
        token = _call_token_source(self._token) if callable(self._token) else self._token
        known = {"Accept": "application/json", **self._limits.headers}
        if token:
            known["Authorization"] = f"Bearer {token}"
        return self._open_client().build_request(
            method,
            self.url + path,
            params=dict(params) if params else None,
            headers={**known, **headers},
            content=content,
        )


def _check_url(url: str, *, is_document: bool) -> str:
    """Return the scheme; raises ValueError for what is no URL, quoting nothing secret of it."""
    shown = _CREDENTIALS.sub("//", url.partition("?")[0])
    refused = ValueError(f"{shown!r} is not the http or https URL of a service")
    if not url.isprintable() or " " in url or "\\" in url:
        raise refused  # some parsers take such characters out: the parts would be another URL's
    try:
        parts = urlsplit(url)
        port = parts.port
        httpx.URL(url)
    except (ValueError, httpx.InvalidURL):
        raise refused from None
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0:
        raise refused
    if parts.username or parts.password:
        raise ValueError("a URL with credentials: give a token, URLs are logged")
    if not is_document and ("?" in url or "#" in url):
        raise ValueError(f"the URL of the service has a query or a fragment: {shown!r}")
    return parts.scheme


def _check_redirect(request: httpx.Request, following: httpx.Request) -> None:
    """Refuse to leave TLS, and take the caller's headers off what goes to another origin."""
    if following.url.scheme not in {"http", "https"} or (
        request.url.scheme == "https" and following.url.scheme == "http"
    ):
        raise BadAnswer("a redirect to a less safe URL than the requested one")
    if _origin(request.url) != _origin(following.url):
        for name in set(following.headers) - _HEADERS_FOR_ANYBODY:
            del following.headers[name]


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _usable_proxy(url: str | None) -> str | None:
    if url is None or not url.lower().startswith("socks"):
        return url
    try:
        import_module("socksio")
    except ImportError:
        raise ValueError("a SOCKS proxy needs the package socksio") from None
    return f"socks5://{url.partition('://')[2]}"  # names are looked up by the proxy in any case


async def _chunks(response: httpx.Response) -> AsyncIterator[bytes]:
    async for chunk in response.aiter_raw():
        yield chunk


def _call_token_source(token: Callable[[], str | None]) -> str | None:
    """Call the function that returns the token; raises Unauthenticated if it fails."""
    try:
        return _check_token((token() or "").strip())
    except Exception as error:
        # The message of any other error might quote the token.
        is_quotable = isinstance(error, (OSError, _NoToken))
        reason = str(error) if is_quotable else type(error).__name__
        message = f"no token can be sent: {reason}"
        raise Unauthenticated(message, code="no_token") from error


class _NoToken(ValueError):
    pass


def _check_token(token: str) -> str:
    """Return the token; raises ValueError without quoting it, for the message may be logged."""
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise _NoToken("the token has characters that no token has")
    return token


def _headers(response: httpx.Response) -> dict[str, str]:
    return {name.lower(): value for name, value in response.headers.items()}


def _error_text(error: BaseException) -> str:
    return str(error) or type(error).__name__


def _lost_answer_error(request: httpx.Request, message: str) -> PilothouseError:
    """Return the error for a lost answer: a write without a key may have taken effect."""
    if request.method in _REPEATABLE or "Idempotency-Key" in request.headers:
        return Unavailable(message)
    return OutcomeUnknown(message)


def _checked_answer(answer: Answer) -> Answer:
    """Return the answer; raises what a status of failure means."""
    status = answer.status
    if status < 300 or status == _NOT_MODIFIED:  # noqa: PLR2004 - the statuses that are no failure
        return answer
    try:
        problem = answer.object()
    except BadAnswer:
        problem = {}
    code = str(problem.get("code", ""))
    message = str(problem.get("detail") or problem.get("title") or f"status {status}")
    known = {"title", "detail", "status", "code", "type"}
    facts = {name: fact for name, fact in problem.items() if name not in known}
    if code == OutcomeUnknown.code:
        raise OutcomeUnknown(message, code=code, status=status, facts=facts)
    if status == _TOO_MANY or status >= 500:  # noqa: PLR2004 - the statuses of a service in trouble
        unavailable = Unavailable(message, code=code, status=status, facts=facts)
        unavailable.retry_after = _seconds(answer.headers.get("retry-after", ""))
        raise unavailable
    if status < 400 or (not code and status not in {401, 403}):  # noqa: PLR2004
        kind = answer.headers.get("content-type", "nothing")
        raise BadAnswer(f"status {status} with {kind}: this is not the service", status=status)
    raise _KINDS.get(status, Refused)(message, code=code, status=status, facts=facts)


def _seconds(text: str) -> float | None:
    return float(text) if text.isdecimal() and len(text) < 6 else None  # noqa: PLR2004 - days
