"""Redis as the shared cache: a slow or broken server costs little and fails no request."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import structlog
from redis.asyncio import BlockingConnectionPool, Connection, Redis, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import TimeoutError as RedisTimeout

from app.connection_failures import explain_connection_failure
from app.errors import Unavailable
from app.telemetry import CACHE_BREAKER_OPEN, CACHE_REQUESTS
from app.timeouts import timeout_while_running
from pilothouse_core.breaker import Breaker

CALL_SECONDS = 0.05
CONNECTIONS = 16
KEPT_SECONDS = 7 * 24 * 3600
_PROBE = "probe"  # a key of its own, which is written to find out whether writes work
_PROBE_SECONDS = 60
_CLOSE_SECONDS = 0.5
_PAUSE_SECONDS = 1.0  # between trials while the breaker is open
_RESP2 = 2  # version 3 costs every new connection a question more
# Never back to an older version, whatever order the writers come in; what is no hash, or has no
# number, is replaced. An equal version is written again: that keeps it from expiring.
_PUT_NEWEST = """
local kind = redis.call('TYPE', KEYS[1]).ok
local kept = kind == 'hash' and redis.call('HGET', KEYS[1], 'v')
if kept and tonumber(kept) and tonumber(kept) > tonumber(ARGV[1]) then return 0 end
if kind ~= 'hash' and kind ~= 'none' then redis.call('DEL', KEYS[1]) end
redis.call('HSET', KEYS[1], 'v', ARGV[1], 'b', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
"""
_log = structlog.get_logger(__name__)


class _Busy(Exception):
    """No connection came free in time; never leaves this module."""


@dataclass(frozen=True, slots=True)
class RedisAddress:
    host: str
    port: int = 6379
    password: str | None = field(default=None, repr=False)
    db: int = 0
    tls: bool = False


class RedisCache:
    def __init__(
        self, address: RedisAddress, *, prefix: str, seconds: float = CALL_SECONDS
    ) -> None:
        """Wait `seconds` for each answer, connecting included."""
        self._prefix = prefix
        self._has_password = address.password is not None
        self._seconds = seconds
        self._redis: Redis = Redis.from_pool(_pool(address, seconds))
        self._breaker = Breaker(pause=_PAUSE_SECONDS)
        self._turns = asyncio.Semaphore(CONNECTIONS)
        CACHE_BREAKER_OPEN.set(0)

    @property
    def is_usable(self) -> bool:
        return self._breaker.is_due

    async def get(self, key: str) -> bytes | None:
        return _bytes(await self._request("get", _hit_or_miss, "GET", self._redis_key(key)))

    async def put(self, key: str, value: bytes) -> None:
        await self._request("put", _done, "SET", self._redis_key(key), value, "EX", KEPT_SECONDS)

    async def drop(self, keys: Sequence[str]) -> bool:
        return await self._request("drop", _done, "UNLINK", *map(self._redis_key, keys)) is not None

    async def get_newest(self, key: str) -> bytes | None:
        return _bytes(
            await self._request("get_newest", _hit_or_miss, "HGET", self._redis_key(key), "b")
        )

    async def put_newest(self, key: str, version: int, value: bytes) -> None:
        words = ("EVAL", _PUT_NEWEST, 1, self._redis_key(key), version, value, KEPT_SECONDS * 1000)
        await self._request("put_newest", _done_if_newest, *words)

    async def ping(self) -> None:
        """Ask though the breaker is open: an answer closes it.

        A server that answers and refuses writes is used for what it still has.
        """
        self._breaker.record_trial()
        began = monotonic()
        try:
            await self._execute_in_time("PING")
        except _Busy:
            return  # other calls are under way and report their outcome
        except Exception as error:
            self._record_failure(began)
            raise Unavailable(_reason(error, has_password=self._has_password)) from error
        self._record_success()
        await self._ping_by_writing()

    async def _ping_by_writing(self) -> None:
        """Write as `put` and `put_newest` do; raises Unavailable where that is refused."""
        name = self._redis_key(_PROBE)
        try:
            await self._execute_in_time("SET", name, b"", "EX", _PROBE_SECONDS)
            await self._execute_in_time("EVAL", _PUT_NEWEST, 1, name, 0, b"", _PROBE_SECONDS * 1000)
        except ResponseError as error:
            raise Unavailable(f"Redis refuses writes: {_refusal(error)}") from error
        except (_Busy, TimeoutError, RedisError):
            return  # it has just answered: the next ping decides

    async def close(self) -> None:
        with suppress(Exception):  # closing a broken cache must not delay the shutdown
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._redis.aclose()

    def _redis_key(self, key: str) -> str:
        return f"{self._prefix}:{key}"

    async def _request(self, operation: str, outcome: Callable[[Any], str], *words: Any) -> Any:
        """Return the answer, None when there is none in time or it is a refusal."""
        answer: Any = None
        label = "skipped"
        if self._breaker.try_call():
            answer, label = await self._answer_and_outcome(outcome, *words)
        CACHE_REQUESTS.labels(operation, label).inc()
        return answer

    async def _answer_and_outcome(
        self, outcome: Callable[[Any], str], *words: Any
    ) -> tuple[Any, str]:
        began = monotonic()
        try:
            answer = await self._execute_in_time(*words)
        except _Busy:
            return None, "busy"  # caused by this process: it says nothing about the server
        except ResponseError:
            # It answers, and does not do it: out of memory, another type, not allowed.
            self._record_success()
            return None, "refused"
        except (TimeoutError, RedisError):
            self._record_failure(began)
            return None, "failed"
        except Exception as error:  # noqa: BLE001 - whatever an answer does to the driver
            self._record_failure(began)
            _log.warning("cache_driver_failed", error=type(error).__name__)
            return None, "failed"
        self._record_success()
        return answer, outcome(answer)

    async def _execute_in_time(self, *words: Any) -> Any:
        """Ask, with one bound over connecting, logging in and asking: the driver has one each."""
        has_turn = False
        try:
            async with timeout_while_running(self._seconds), self._turns:
                has_turn = True
                return await self._redis.execute_command(*words)  # type: ignore[no-untyped-call]
        except TimeoutError:
            if has_turn:
                raise
            raise _Busy from None

    def _record_success(self) -> None:
        if self._breaker.is_open:
            _log.info("cache_back")
        self._breaker.record_success()
        CACHE_BREAKER_OPEN.set(0)

    def _record_failure(self, began: float) -> None:
        was_open = self._breaker.is_open
        self._breaker.record_failure(began)
        if self._breaker.is_open and not was_open:
            _log.warning("cache_away")
            CACHE_BREAKER_OPEN.set(1)


def _pool(address: RedisAddress, seconds: float) -> BlockingConnectionPool:
    return BlockingConnectionPool(
        connection_class=SSLConnection if address.tls else Connection,
        max_connections=CONNECTIONS,
        timeout=seconds,
        host=address.host,
        port=address.port,
        password=address.password,
        db=address.db,
        protocol=_RESP2,
        driver_info=None,
        socket_timeout=seconds,
        socket_connect_timeout=seconds,
        retry=Retry(NoBackoff(), 0),
    )


def _bytes(answer: Any) -> bytes | None:
    return answer if isinstance(answer, bytes) else None


def _hit_or_miss(answer: Any) -> str:
    return "miss" if answer is None else "hit"


def _done(_: Any) -> str:
    return "done"


def _done_if_newest(answer: Any) -> str:
    return "done" if answer == 1 else "older"


def _refusal(error: ResponseError) -> str:
    match error:
        case OutOfMemoryError():
            return "it is out of memory (maxmemory)"
        case ReadOnlyError():
            return "it is read-only (a replica)"
        case NoPermissionError():
            return "its user may not write (ACL)"
        case _:
            return "see its own log"


def _reason(error: Exception, *, has_password: bool) -> str:
    """Say what is wrong without what was sent: that may be a password."""
    if isinstance(error, (TimeoutError, RedisTimeout)):
        return "Redis did not answer in time"
    if isinstance(error, AuthenticationError):
        return _password_reason(str(error).lower(), has_password=has_password)
    if isinstance(error, ResponseError):
        is_index = "db index" in str(error).lower()
        return "Redis has no database REDIS_DB" if is_index else "Redis refused the request"
    explanation = explain_connection_failure(error, "REDIS_HOST")
    return "Redis cannot be reached" + ("" if explanation is None else f": {explanation}")


def _password_reason(text: str, *, has_password: bool) -> str:
    if not has_password:
        return "Redis demands a password, and REDIS_PASSWORD is not set"
    if "without any password" in text or "no password is set" in text:
        return "Redis has no password, and REDIS_PASSWORD is set"
    return "Redis refuses REDIS_PASSWORD"
