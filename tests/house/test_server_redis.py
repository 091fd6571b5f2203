"""The harness for a real Redis keeps its promises."""

import re

import pytest
from redis.exceptions import ConnectionError as NotConnected
from redis.exceptions import TimeoutError as NoAnswer

from tests.servers.choice import NotOurs, ServerMissing
from tests.servers.process import freeze_server
from tests.servers.redis import RedisServer, start_redis


@pytest.fixture
def greeting(redis_server: RedisServer) -> str:
    key = f"{redis_server.fresh_prefix()}:greeting"
    redis_server.command("SET", key, "ahoy")
    return key


def url(server: RedisServer) -> str:
    return f"redis://:{server.password}@{server.host}:{server.port}/{server.db}"


def test_it_tells_what_it_holds_below_a_prefix(redis_server: RedisServer, greeting: str) -> None:
    redis_server.command("HSET", f"{greeting}:more", "to", "you")

    assert sorted(redis_server.contents(greeting)) == sorted(
        [greeting.encode(), b"ahoy", f"{greeting}:more".encode(), b"to\nyou"]
    )


def test_it_holds_nothing_after_a_flush(redis_server: RedisServer, greeting: str) -> None:
    redis_server.flush()

    assert redis_server.command("GET", greeting) is None


def test_a_frozen_one_is_silent_until_thawed(redis_server: RedisServer, greeting: str) -> None:
    with freeze_server(redis_server), pytest.raises(NoAnswer):
        redis_server.command("GET", greeting, within=0.2)

    assert redis_server.command("GET", greeting) == b"ahoy"


def test_it_is_gone_after_a_kill_and_empty_when_it_is_back(
    redis_server: RedisServer, greeting: str
) -> None:
    redis_server.kill()
    try:
        with pytest.raises(NotConnected):
            redis_server.command("GET", greeting)
    finally:
        redis_server.restart()

    assert redis_server.command("GET", greeting) is None


def test_without_any_the_error_names_all_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    with pytest.raises(ServerMissing) as missing:
        start_redis({})

    assert re.search(
        r"(?s)no Redis.*TEST_REDIS_URL is not set.*Docker.*none answers.*no `redis-server` on",
        str(missing.value),
    )


def test_one_named_in_the_environment_is_used_and_not_interrupted(
    redis_server: RedisServer, greeting: str
) -> None:
    named = start_redis({"TEST_REDIS_URL": url(redis_server)})

    assert named.command("GET", greeting) == b"ahoy"
    for deed in (named.freeze, named.kill, named.flush):
        with pytest.raises(NotOurs):
            deed()


def test_an_address_of_something_else_is_an_error() -> None:
    with pytest.raises(ServerMissing, match="is not redis://"):
        start_redis({"TEST_REDIS_URL": "http://127.0.0.1:6379"})
