"""HTTP to the service: deadlines, a bounded pool, bounded retries, problems as typed errors.

The only file that knows the HTTP library.
"""

import asyncio
import json
import random
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
from pilothouse.waiting import within

# Else they are imported with the first request, on the client's thread: reads would wait for the
# interpreter meanwhile, and a process forked at that moment would have half an import for ever.
for _later in ("httpcore", "anyio._backends._asyncio", "concurrent.futures.thread"):
    with suppress(ImportError):
        import_module(_later)

Token = str | Callable[[], str | None] | None
_AGENT: Final = f"pilothouse-client/{version('pilothouse-client')}"
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
    """

    timeout: float = 5.0
    attempts: int = 3
    connections: int = 10
    backoff: float = 0.1
    longest_backoff: float = 2.0
    silence: float = 45.0  # of a stream, which sends something every 15 s
    verify: bool | str | ssl.SSLContext = True  # a string: the path of a bundle of authorities
    headers: Mapping[str, str] = field(default_factory=dict)


class Transport:
    """Requests to one service. Belongs to the event loop that it is first used on.

    Raises ValueError for a URL or a token that cannot be one. `token` may be a function: it is
    asked before every request, so that a token that is renewed on disk is used at once. White
    space around it is taken off, as a file ends with a line end; when it raises, that is
    Unauthenticated with the code `no_token`.
    """

    def __init__(self, url: str, token: Token = None, limits: Limits | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError(f"{url!r} is not the http or https URL of a service")
        if parts.username or parts.password:
            raise ValueError("a URL with credentials: give a token, URLs are logged")
        if isinstance(token, str):
            _checked(token)
        self.url = url.rstrip("/")
        self._token = token
        self._limits = limits or Limits()
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
        params: Mapping[str, str] | None = None,
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
        params: Mapping[str, str] | None = None,
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
            response = await within(deadline, self._opened().send(request))
        except TimeoutError as error:
            raise _lost(request, f"no answer within {deadline:g} s") from error
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise Unavailable(f"{self.url} cannot be reached: {_named(error)}") from error
        except httpx.TransportError as error:
            raise _lost(request, f"no answer: {_named(error)}") from error
        except (httpx.InvalidURL, httpx.DecodingError) as error:
            raise BadAnswer(f"an answer that cannot be read: {_named(error)}") from error
        return _checked_answer(Answer(response.status_code, _headers(response), response.content))

    @asynccontextmanager
    async def stream(
        self,
        path: str,
        params: Mapping[str, str] | None = None,
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
            sending = self._opened().send(request, stream=True)
            response = await within(self._limits.timeout, sending)
        except (TimeoutError, httpx.TransportError) as error:
            raise Unavailable(f"no stream: {_named(error)}") from error
        try:
            kind = response.headers.get("content-type", "nothing").partition(";")[0]
            if response.status_code != httpx.codes.OK or kind != "text/event-stream":
                content = await within(self._limits.timeout, response.aread())
                _checked_answer(Answer(response.status_code, _headers(response), content))
                raise BadAnswer(f"an answer of {kind} instead of a stream of events")
            yield _chunks(response)
        except (TimeoutError, httpx.TransportError) as error:
            raise Unavailable(f"the stream broke: {_named(error)}") from error
        finally:
            await response.aclose()

    def _opened(self) -> httpx.AsyncClient:
        if self._client is None:
            self._client = httpx.AsyncClient(
                # Reading the authorities takes longer than a whole start from the snapshot.
                verify=self._verify() if self.url.startswith("https:") else False,
                limits=httpx.Limits(max_connections=self._limits.connections),
                timeout=httpx.Timeout(None, connect=self._limits.timeout),
                headers={"User-Agent": _AGENT},
            )
        return self._client

    def _verify(self) -> ssl.SSLContext | bool:
        verify = self._limits.verify
        return ssl.create_default_context(cafile=verify) if isinstance(verify, str) else verify

    def _request(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None,
        headers: Mapping[str, str],
        content: bytes | None,
    ) -> httpx.Request:
        token = _given(self._token) if callable(self._token) else self._token
        known = {"Accept": "application/json", **self._limits.headers}
        if token:
            known["Authorization"] = f"Bearer {token}"
        return self._opened().build_request(
            method,
            self.url + path,
            params=dict(params) if params else None,
            headers={**known, **headers},
            content=content,
        )


async def _chunks(response: httpx.Response) -> AsyncIterator[bytes]:
    async for chunk in response.aiter_raw():
        yield chunk


def _given(token: Callable[[], str | None]) -> str | None:
    """Ask for the token; raises Unauthenticated, for who gives it is somebody else's code."""
    try:
        return _checked((token() or "").strip())
    except Exception as error:
        # The message of any other error might quote the token.
        is_told = isinstance(error, (OSError, _NoToken))
        reason = str(error) if is_told else type(error).__name__
        message = f"no token can be sent: {reason}"
        raise Unauthenticated(message, code="no_token") from error


class _NoToken(ValueError):
    pass


def _checked(token: str) -> str:
    """Return the token; raises ValueError without quoting it, for the message may be logged."""
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise _NoToken("the token has characters that no token has")
    return token


def _headers(response: httpx.Response) -> dict[str, str]:
    return {name.lower(): value for name, value in response.headers.items()}


def _named(error: BaseException) -> str:
    return str(error) or type(error).__name__


def _lost(request: httpx.Request, message: str) -> PilothouseError:
    """Return what an answer that never came means: a write without a key may have happened."""
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
