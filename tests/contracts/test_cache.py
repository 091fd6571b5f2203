"""What a cache promises: it keeps what it can, and it never fails or delays a caller."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from itertools import cycle
from time import monotonic

import pytest

from app.cache.absent import AbsentCache
from app.cache.port import Cache
from app.cache.redis import CALL_SECONDS, KEPT_SECONDS, RedisAddress, RedisCache
from app.errors import Unavailable
from app.telemetry import REGISTRY
from tests.servers.deadlines import PATIENT_SECONDS
from tests.servers.process import PATIENCE_SECONDS, SLACK_SECONDS, freeze_server, reserve_port
from tests.servers.redis import RedisServer

LATEST = "pointers"


@asynccontextmanager
async def open_cache(
    server: RedisServer,
    prefix: str,
    *,
    password: str | None = None,
    port: int | None = None,
    seconds: float = CALL_SECONDS,
) -> AsyncIterator[RedisCache]:
    address = RedisAddress(server.host, port or server.port, password or server.password, server.db)
    cache = RedisCache(address, prefix=prefix, seconds=seconds)
    try:
        yield cache
    finally:
        await cache.close()


@pytest.fixture
def prefix(redis_server: RedisServer) -> str:
    return redis_server.fresh_prefix()


@pytest.fixture
async def cache(redis_server: RedisServer, prefix: str) -> AsyncIterator[Cache]:
    async with open_cache(redis_server, prefix, seconds=PATIENT_SECONDS) as opened_cache:
        yield opened_cache


async def wait_for_answer(cache: Cache) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            with suppress(Unavailable):
                return await cache.ping()


@contextmanager
def with_settings(server: RedisServer, settings: Mapping[str, str]) -> Iterator[None]:
    before = {name: server.command("CONFIG", "GET", name)[1] for name in settings}
    for name, value in settings.items():
        server.command("CONFIG", "SET", name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            server.command("CONFIG", "SET", name, value)


def requests_counted(operation: str, outcome: str) -> float:
    labels = {"operation": operation, "outcome": outcome}
    return REGISTRY.get_sample_value("pilothouse_cache_requests_total", labels) or 0


async def seconds_of_calls(calls: int, call: Callable[[], Awaitable[object]]) -> list[float]:
    """Make the call again and again, one after the other; tell how long each took, in order."""
    taken = []
    for _ in range(calls):
        began = monotonic()
        assert not await call()
        taken.append(monotonic() - began)
    return sorted(taken)


async def longest(calls: int, call: Callable[[], Awaitable[object]]) -> float:
    return (await seconds_of_calls(calls, call))[-1]


Call = Callable[[Cache], Awaitable[object]]
EACH: dict[str, Call] = {
    "get": lambda cache: cache.get("config:e:s:1"),
    "put": lambda cache: cache.put("config:e:s:1", b"value"),
    "drop": lambda cache: cache.drop(["config:e:s:1"]),
    "get_newest": lambda cache: cache.get_newest(LATEST),
    "put_newest": lambda cache: cache.put_newest(LATEST, 1, b"value"),
}
each = pytest.mark.parametrize("call", EACH.values(), ids=EACH.keys())


async def test_what_was_put_is_found(cache: Cache) -> None:
    await cache.put("config:e:s:1", b"\x00\xff\r\n")

    assert await cache.get("config:e:s:1") == b"\x00\xff\r\n"
    assert cache.is_usable


async def test_what_was_never_put_is_a_miss(cache: Cache) -> None:
    assert await cache.get("config:e:s:1") is None
    assert await cache.get_newest(LATEST) is None


async def test_two_prefixes_share_nothing(cache: Cache, redis_server: RedisServer) -> None:
    await cache.put("config:e:s:1", b"value")

    async with open_cache(redis_server, redis_server.fresh_prefix()) as other:
        assert await other.get("config:e:s:1") is None


async def test_what_was_dropped_is_gone(cache: Cache) -> None:
    await cache.put("config:e:s:1", b"old")
    await cache.put("config:e:s:2", b"new")

    assert await cache.drop(["config:e:s:1", "config:e:s:0"])

    assert await cache.get("config:e:s:1") is None
    assert await cache.get("config:e:s:2") == b"new"


async def test_the_newest_version_stays_in_whatever_order_they_come(cache: Cache) -> None:
    for version in (9, 2, 10, 3):
        await cache.put_newest(LATEST, version, b"%d" % version)

    assert await cache.get_newest(LATEST) == b"10"


async def test_the_same_version_is_written_again(cache: Cache) -> None:
    await cache.put_newest(LATEST, 10, b"before")
    await cache.put_newest(LATEST, 10, b"after")

    assert await cache.get_newest(LATEST) == b"after"


async def test_writers_at_once_leave_the_newest(cache: Cache) -> None:
    versions = [n * 37 % 101 for n in range(101)]
    for start in range(0, 101, 10):
        some = versions[start : start + 10]
        await asyncio.gather(*(cache.put_newest(LATEST, n, b"%d" % n) for n in some))

    assert await cache.get_newest(LATEST) == b"100"


async def test_everything_expires_in_the_end(
    cache: Cache, redis_server: RedisServer, prefix: str
) -> None:
    await cache.put("config:e:s:1", b"value")
    await cache.put_newest(LATEST, 1, b"value")

    for key in ("config:e:s:1", LATEST):
        assert KEPT_SECONDS - 60 < redis_server.command("TTL", f"{prefix}:{key}") <= KEPT_SECONDS


@pytest.mark.parametrize(
    "words",
    [
        ("SET", "text"),
        ("LPUSH", "a", "b"),
        ("SADD", "a"),
        ("HSET", "v", "no number", "b", "x"),
        ("HSET", "b", "x"),
    ],
)
async def test_whatever_a_key_holds_is_a_miss_and_replaced(
    cache: Cache, redis_server: RedisServer, prefix: str, words: tuple[str, ...]
) -> None:
    for key in ("config:e:s:1", LATEST):
        redis_server.command(words[0], f"{prefix}:{key}", *words[1:])

    if words[0] != "SET":
        assert await cache.get("config:e:s:1") is None
    if words[0] != "HSET":
        assert await cache.get_newest(LATEST) is None
    await cache.put("config:e:s:1", b"value")
    await cache.put_newest(LATEST, 1, b"newest")

    assert await cache.get("config:e:s:1") == b"value"
    assert await cache.get_newest(LATEST) == b"newest"


@each
async def test_a_frozen_server_costs_fifty_milliseconds_and_then_nothing(
    redis_server: RedisServer, prefix: str, call: Call
) -> None:
    async with open_cache(redis_server, prefix) as cache:
        await cache.put("config:e:s:2", b"value")
        with freeze_server(redis_server):
            assert await longest(5, lambda: call(cache)) < CALL_SECONDS + SLACK_SECONDS
            assert (await seconds_of_calls(20, lambda: call(cache)))[10] < CALL_SECONDS
            assert not cache.is_usable
            with pytest.raises(Unavailable, match="did not answer in time"):
                await cache.ping()

        await wait_for_answer(cache)
        assert cache.is_usable


async def test_a_crowd_before_a_frozen_server_waits_no_longer_than_one(
    redis_server: RedisServer, prefix: str
) -> None:
    async with open_cache(redis_server, prefix) as cache:
        await cache.put("config:e:s:1", b"value")
        with freeze_server(redis_server):
            began = monotonic()
            found = await asyncio.gather(*(cache.get(f"config:e:s:{n}") for n in range(500)))
            assert monotonic() - began < CALL_SECONDS + SLACK_SECONDS

    assert not any(found)


async def test_a_crowd_before_a_healthy_server_opens_no_breaker(
    redis_server: RedisServer, prefix: str
) -> None:
    async with open_cache(redis_server, prefix) as cache:
        for _ in range(20):  # a server that a busy machine keeps from running opens it as well
            await wait_for_answer(cache)
            for _ in range(3):
                await asyncio.gather(*(cache.get(f"config:e:s:{n}") for n in range(500)))
            if cache.is_usable:
                return

    pytest.fail("every crowd opened it")


@each
async def test_a_server_that_is_gone_is_a_miss(
    redis_server: RedisServer, prefix: str, call: Call
) -> None:
    with reserve_port() as nobody:
        port = nobody.getsockname()[1]
        async with open_cache(redis_server, prefix, port=port, seconds=PATIENT_SECONDS) as cache:
            assert await longest(10, lambda: call(cache)) < CALL_SECONDS + SLACK_SECONDS
            assert not cache.is_usable
            with pytest.raises(Unavailable, match="cannot be reached"):
                await cache.ping()


@each
async def test_a_wrong_password_is_a_miss(
    redis_server: RedisServer, prefix: str, call: Call
) -> None:
    async with open_cache(redis_server, prefix, password="wrong", seconds=PATIENT_SECONDS) as cache:
        assert await longest(10, lambda: call(cache)) < CALL_SECONDS + SLACK_SECONDS
        with pytest.raises(Unavailable, match="refuses") as refused:
            await cache.ping()

    assert "wrong" not in str(refused.value)


async def test_a_full_server_keeps_nothing_more_and_still_answers(
    cache: Cache, redis_server: RedisServer
) -> None:
    await cache.put("config:e:s:1", b"old")
    with with_settings(redis_server, {"maxmemory": "1mb", "maxmemory-policy": "noeviction"}):
        before = requests_counted("put", "refused")
        for _ in range(10):
            await cache.put("config:e:s:2", b"new" * 1000)
            await cache.put_newest(LATEST, 1, b"new")

        assert requests_counted("put", "refused") == before + 10
        assert await cache.get("config:e:s:1") == b"old"
        assert await cache.get("config:e:s:2") is None
        assert await cache.get_newest(LATEST) is None
        assert cache.is_usable


REFUSALS: dict[str, tuple[Sequence[Sequence[str]], Sequence[Sequence[str]], str]] = {
    "full": (
        [("CONFIG", "SET", "maxmemory-policy", "noeviction"), ("CONFIG", "SET", "maxmemory", "1")],
        [("CONFIG", "SET", "maxmemory", "0")],
        "out of memory",
    ),
    "a replica": (
        [("REPLICAOF", "127.0.0.1", "1")],
        [("REPLICAOF", "NO", "ONE")],
        "read-only",
    ),
    "forbidden": (
        [("ACL", "SETUSER", "default", "-set")],
        [("ACL", "SETUSER", "default", "+@all")],
        "may not write",
    ),
    "without scripts": (
        [("ACL", "SETUSER", "default", "-eval")],
        [("ACL", "SETUSER", "default", "+@all")],
        "may not write",
    ),
}


@pytest.mark.parametrize("kind", REFUSALS)
async def test_a_server_that_refuses_writes_is_told_of_and_still_read(
    cache: Cache, redis_server: RedisServer, kind: str
) -> None:
    begin, end, reason = REFUSALS[kind]
    await cache.put("config:e:s:1", b"old")
    await wait_for_answer(cache)
    for command in begin:
        redis_server.command(*command)
    try:
        with pytest.raises(Unavailable, match=reason):
            await told_of(cache)
        assert await cache.get("config:e:s:1") == b"old"
        assert cache.is_usable
    finally:
        for command in end:
            redis_server.command(*command)

    await wait_for_answer(cache)


async def told_of(cache: Cache) -> None:
    """Ping until it says that something is wrong other than an answer that comes late."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            try:
                await cache.ping()
            except Unavailable as error:
                if "refuses" in str(error):
                    raise


async def test_a_server_that_was_killed_is_used_again_when_it_is_back(
    cache: Cache, redis_server: RedisServer
) -> None:
    await cache.put("config:e:s:1", b"value")
    redis_server.kill()
    try:
        assert await longest(10, lambda: cache.get("config:e:s:1")) < CALL_SECONDS + SLACK_SECONDS
    finally:
        redis_server.restart()

    await cache.ping()
    assert await cache.get("config:e:s:1") is None
    await cache.put("config:e:s:1", b"value")
    assert await cache.get("config:e:s:1") == b"value"


async def test_something_else_on_the_port_is_a_miss(redis_server: RedisServer) -> None:
    nonsense = [b"HTTP/1.1 400 Bad Request\r\n\r\n", b":x\r\n", b"$-7\r\n", b"*x\r\n", b"\xff"]
    replies = iter(cycle(nonsense))

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(next(replies))
        writer.close()
        await writer.wait_closed()

    impostor = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = impostor.sockets[0].getsockname()[1]
    async with impostor:
        for call in EACH.values():
            for _ in nonsense:
                async with open_cache(redis_server, "p", port=port) as cache:
                    assert not await call(cache)


async def test_a_caller_who_gives_up_takes_nobody_elses_answer(
    cache: Cache, redis_server: RedisServer
) -> None:
    for n in range(20):
        await cache.put(f"config:e:s:{n}", b"%d" % n)
    for round_ in range(20):
        impatient = [asyncio.create_task(cache.get(f"config:e:s:{n}")) for n in range(20)]
        for _ in range(round_ % 5):
            await asyncio.sleep(0)
        for task in impatient:
            task.cancel()
        await asyncio.gather(*impatient, return_exceptions=True)

        found = await asyncio.gather(*(cache.get(f"config:e:s:{n}") for n in range(20)))

        assert found == [b"%d" % n for n in range(20)]


async def test_an_absent_cache_says_nothing_and_keeps_nothing() -> None:
    cache: Cache = AbsentCache()
    await cache.put("config:e:s:1", b"value")
    await cache.put_newest(LATEST, 1, b"value")
    await cache.ping()

    assert not cache.is_usable
    assert await cache.get("config:e:s:1") is None
    assert await cache.get_newest(LATEST) is None
    assert await cache.drop(["config:e:s:1"])
