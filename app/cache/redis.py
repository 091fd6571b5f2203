"""Redis as the cache all replicas share: a slow or broken one costs little and fails nobody."""

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
from redis.exceptions import AuthenticationError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeout

from app.cache.breaker import Breaker
from app.errors import Unavailable
from app.patience import within
from app.telemetry import CACHE_BREAKER_OPEN, CACHE_REQUESTS

CALL_SECONDS = 0.05
CONNECTIONS = 16
KEPT_SECONDS = 7 * 24 * 3600
_CLOSE_SECONDS = 0.5
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
    def __init__(self, address: RedisAddress, *, prefix: str) -> None:
        self._prefix = prefix
        self._redis: Redis = Redis.from_pool(_pool(address))
        self._breaker = Breaker()
        self._turns = asyncio.Semaphore(CONNECTIONS)
        CACHE_BREAKER_OPEN.set(0)

    @property
    def is_usable(self) -> bool:
        return self._breaker.is_due

    async def get(self, key: str) -> bytes | None:
        return _bytes(await self._ask("get", _found, "GET", self._name(key)))

    async def put(self, key: str, value: bytes) -> None:
        await self._ask("put", _done, "SET", self._name(key), value, "EX", KEPT_SECONDS)

    async def drop(self, keys: Sequence[str]) -> bool:
        return await self._ask("drop", _done, "UNLINK", *map(self._name, keys)) is not None

    async def get_newest(self, key: str) -> bytes | None:
        return _bytes(await self._ask("get_newest", _found, "HGET", self._name(key), "b"))

    async def put_newest(self, key: str, version: int, value: bytes) -> None:
        words = ("EVAL", _PUT_NEWEST, 1, self._name(key), version, value, KEPT_SECONDS * 1000)
        await self._ask("put_newest", _done_if_newest, *words)

    async def ping(self) -> None:
        """Ask though the breaker is open: an answer closes it."""
        self._breaker.note_trial()
        began = monotonic()
        try:
            await self._timed("PING")
        except _Busy:
            return  # others are being answered, or fail and say so
        except Exception as error:
            self._failed(began)
            raise Unavailable(_reason(error)) from error
        self._succeeded()

    async def close(self) -> None:
        with suppress(Exception):  # nobody waits for a cache that does not let go
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._redis.aclose()

    def _name(self, key: str) -> str:
        return f"{self._prefix}:{key}"

    async def _ask(self, operation: str, outcome: Callable[[Any], str], *words: Any) -> Any:
        """Return the answer, None when there is none in time or it is a refusal."""
        answer: Any = None
        told = "skipped"
        if self._breaker.lets_through():
            answer, told = await self._asked(outcome, *words)
        CACHE_REQUESTS.labels(operation, told).inc()
        return answer

    async def _asked(self, outcome: Callable[[Any], str], *words: Any) -> tuple[Any, str]:
        began = monotonic()
        try:
            answer = await self._timed(*words)
        except _Busy:
            return None, "busy"  # of our own making: it tells nothing about the server
        except ResponseError:
            # It answers, and does not do it: out of memory, another type, not allowed.
            self._succeeded()
            return None, "refused"
        except (TimeoutError, RedisError):
            self._failed(began)
            return None, "failed"
        except Exception as error:  # noqa: BLE001 - whatever an answer does to the driver
            self._failed(began)
            _log.warning("cache_driver_failed", error=type(error).__name__)
            return None, "failed"
        self._succeeded()
        return answer, outcome(answer)

    async def _timed(self, *words: Any) -> Any:
        """Ask, with one bound over connecting, logging in and asking: the driver has one each."""
        has_turn = False
        try:
            async with within(CALL_SECONDS), self._turns:
                has_turn = True
                return await self._redis.execute_command(*words)  # type: ignore[no-untyped-call]
        except TimeoutError:
            if has_turn:
                raise
            raise _Busy from None

    def _succeeded(self) -> None:
        if self._breaker.is_open:
            _log.info("cache_back")
        self._breaker.succeeded()
        CACHE_BREAKER_OPEN.set(0)

    def _failed(self, began: float) -> None:
        was_open = self._breaker.is_open
        self._breaker.failed(began)
        if self._breaker.is_open and not was_open:
            _log.warning("cache_away")
            CACHE_BREAKER_OPEN.set(1)


def _pool(address: RedisAddress) -> BlockingConnectionPool:
    return BlockingConnectionPool(
        connection_class=SSLConnection if address.tls else Connection,
        max_connections=CONNECTIONS,
        timeout=CALL_SECONDS,
        host=address.host,
        port=address.port,
        password=address.password,
        db=address.db,
        protocol=_RESP2,
        driver_info=None,
        socket_timeout=CALL_SECONDS,
        socket_connect_timeout=CALL_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )


def _bytes(answer: Any) -> bytes | None:
    return answer if isinstance(answer, bytes) else None


def _found(answer: Any) -> str:
    return "miss" if answer is None else "hit"


def _done(_: Any) -> str:
    return "done"


def _done_if_newest(answer: Any) -> str:
    return "done" if answer == 1 else "older"


def _reason(error: Exception) -> str:
    """Say what is wrong without what was sent: that may be a password."""
    if isinstance(error, (TimeoutError, RedisTimeout)):
        return "Redis did not answer in time"
    if isinstance(error, ResponseError | AuthenticationError):
        return "Redis refused the question or the password"
    return "Redis cannot be reached"
