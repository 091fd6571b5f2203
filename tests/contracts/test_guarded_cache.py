"""Only this installation writes what is read from the cache, whoever else may write there."""

from collections.abc import AsyncIterator, Callable
from hashlib import blake2b

import pytest

from app.cache.guarded import GuardedCache
from app.cache.redis import RedisAddress, RedisCache
from tests.servers.redis import RedisServer

KEY, OTHER_KEY = b"k" * 32, b"o" * 32
NAME, OTHER_NAME = "config:staging:shop:1", "config:production:shop:1"
VALUE = b'{"data":{}}'


class Bench:
    """One Redis, two installations on it with keys of their own, and the release before."""

    def __init__(self, server: RedisServer, prefix: str, cache: RedisCache) -> None:
        self.server = server
        self.prefix = prefix
        self.before = cache
        self.ours = GuardedCache(cache, KEY)
        self.others = GuardedCache(cache, OTHER_KEY)

    def stored_bytes(self, name: str) -> bytes:
        return bytes(self.server.command("GET", f"{self.prefix}:{name}"))

    def store(self, name: str, entry: bytes) -> None:
        self.server.command("SET", f"{self.prefix}:{name}", entry)


@pytest.fixture
async def bench(redis_server: RedisServer) -> AsyncIterator[Bench]:
    prefix, server = redis_server.fresh_prefix(), redis_server
    address = RedisAddress(server.host, server.port, server.password, server.db)
    cache = RedisCache(address, prefix=prefix)
    yield Bench(server, prefix, cache)
    await cache.close()


async def test_what_was_put_comes_back(bench: Bench) -> None:
    for value in (VALUE, b"", b"\0" * 100_000):
        await bench.ours.put(NAME, value)
        await bench.ours.put_newest("pointers", 7, value)

        assert await bench.ours.get(NAME) == value
        assert await bench.ours.get_newest("pointers") == value

    assert await bench.ours.drop([NAME])
    assert await bench.ours.get(NAME) is None


async def test_what_another_installation_put_is_missing(bench: Bench) -> None:
    await bench.others.put(NAME, VALUE)
    await bench.others.put_newest("pointers", 7, VALUE)

    assert await bench.ours.get(NAME) is None
    assert await bench.ours.get_newest("pointers") is None


async def test_what_the_release_before_put_is_missing_until_it_is_put_again(bench: Bench) -> None:
    entry = blake2b(VALUE, digest_size=16).digest() + VALUE
    await bench.before.put(NAME, entry)
    await bench.before.put_newest("pointers", 7, entry)

    assert await bench.ours.get(NAME) is None
    assert await bench.ours.get_newest("pointers") is None

    await bench.ours.put(NAME, VALUE)
    await bench.ours.put_newest("pointers", 7, VALUE)

    assert await bench.ours.get(NAME) == VALUE
    assert await bench.ours.get_newest("pointers") == VALUE


FORGERIES: dict[str, Callable[[bytes], bytes]] = {
    "another value under the signature": lambda entry: entry[:32] + b'{"data":{"a":1}}',
    "a digest that needs no key": lambda entry: (
        blake2b(entry[32:], digest_size=32).digest() + entry[32:]
    ),
    "one bit of the value": lambda entry: entry[:-1] + bytes([entry[-1] ^ 1]),
    "one bit of the signature": lambda entry: bytes([entry[0] ^ 1]) + entry[1:],
    "more than was put": lambda entry: entry + b" ",
    "less than was put": lambda entry: entry[:-1],
    "a signature alone": lambda entry: entry[:32],
    "part of a signature": lambda entry: entry[:31],
    "nothing": lambda _: b"",
}


@pytest.mark.parametrize("what", FORGERIES)
async def test_what_was_forged_is_missing(bench: Bench, what: str) -> None:
    await bench.ours.put(NAME, VALUE)

    bench.store(NAME, FORGERIES[what](bench.stored_bytes(NAME)))

    assert await bench.ours.get(NAME) is None


async def test_an_entry_is_good_under_its_own_name_alone(bench: Bench) -> None:
    await bench.ours.put(NAME, VALUE)

    bench.store(OTHER_NAME, bench.stored_bytes(NAME))

    assert await bench.ours.get(OTHER_NAME) is None
    assert await bench.ours.get(NAME) == VALUE
