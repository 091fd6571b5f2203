"""A real Redis for tests: named in the environment, in a container, or installed here."""

import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError
from redis.retry import Retry

from tests.servers.choice import (
    ForeignServer,
    NotOurs,
    NotProvided,
    ServerMissing,
    first_provided,
)
from tests.servers.container import Image, RunningContainer
from tests.servers.debian import install
from tests.servers.process import PATIENCE_SECONDS, Berth, ChildProcess, Command, Running

DEFAULT_PORT = 6379


class RedisServer:
    """Keeps nothing through a kill or a restart; has a password unless it is somebody else's."""

    def __init__(
        self, host: str, port: int, password: str | None, running: Running, db: int = 0
    ) -> None:
        self.host = host
        self.port = port
        self.password = password
        self.db = db
        self._running = running

    @property
    def settings(self) -> Mapping[str, str]:
        """The environment of replicas that share it; entries of another pepper are missing."""
        return {
            "PILOTHOUSE_TOKEN_PEPPER": "pepper-of-all-replicas-on-one-redis",
            "REDIS_HOST": self.host,
            "REDIS_PORT": str(self.port),
            "REDIS_PASSWORD": self.password or "",
            "REDIS_DB": str(self.db),
        }

    def command(self, *words: bytes | str | float, within: float = PATIENCE_SECONDS) -> Any:
        """Ask it one thing; raises redis.exceptions.RedisError."""
        with Redis(
            self.host,
            self.port,
            self.db,
            self.password,
            socket_timeout=within,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
        ) as client:
            return client.execute_command(*words)

    def contents(self, prefix: str = "") -> Iterator[bytes]:
        """Tell every key that begins with `prefix`, and what it holds as one piece of bytes."""
        for key in self.command("KEYS", f"{prefix}*"):
            yield key
            yield self._value(key)

    def _value(self, key: bytes) -> bytes:
        """Return what a key holds as one piece of bytes, whoever replaces it meanwhile."""
        while True:
            try:
                match self.command("TYPE", key):
                    case b"string":
                        return self.command("GET", key) or b""
                    case b"hash":
                        pairs: dict[bytes, bytes] = self.command("HGETALL", key)
                        return b"\n".join(part for pair in pairs.items() for part in pair)
                    case _:
                        return b""
            except ResponseError as error:
                if not str(error).startswith("WRONGTYPE"):  # of another type since it was asked
                    raise

    def fresh_prefix(self) -> str:
        """Invent a beginning of keys that nothing else uses."""
        return f"t{secrets.token_hex(8)}"

    def flush(self) -> None:
        if isinstance(self._running, ForeignServer):
            raise NotOurs("only a Redis that this run started can be emptied: others may use it")
        self.command("FLUSHALL")

    def freeze(self) -> None:
        self._running.freeze()

    def thaw(self) -> None:
        self._running.thaw()

    def kill(self) -> None:
        self._running.kill()

    def stop(self) -> None:
        self._running.stop()

    def restart(self) -> None:
        self._running.restart()

    def close(self) -> None:
        self._running.close()


def start_redis(environment: Mapping[str, str] = os.environ) -> RedisServer:
    """Raise ServerMissing, naming what is missing, when there is no way to get one."""
    return first_provided(
        "Redis",
        {
            "set TEST_REDIS_URL": lambda: _foreign_redis(environment),
            "start a Docker engine": _redis_in_container,
            "install redis-server": lambda: _installed_redis(environment),
        },
    )


def _foreign_redis(environment: Mapping[str, str]) -> RedisServer:
    url = environment.get("TEST_REDIS_URL")
    if not url:
        raise NotProvided("TEST_REDIS_URL is not set")
    parts = urlsplit(url)
    if parts.scheme != "redis" or not parts.hostname:
        raise ServerMissing("TEST_REDIS_URL is set, but is not redis://[:password@]host[:port][/n]")
    password = unquote(parts.password) if parts.password else None
    port, db = parts.port or DEFAULT_PORT, int(parts.path.strip("/") or 0)
    return RedisServer(parts.hostname, port, password, ForeignServer("TEST_REDIS_URL"), db)


def _is_serving(host: str, port: int, password: str) -> bool:
    try:
        with Redis(host, port, password=password, socket_timeout=2, protocol=2) as client:
            return bool(client.ping())
    except (OSError, RedisError):
        return False


def _options(password: str) -> tuple[str, ...]:
    return ("--requirepass", password, "--save", "", "--appendonly", "no")


def _redis_in_container() -> RedisServer:
    password = secrets.token_hex(16)
    words = f"redis-server --requirepass {password} --save '' --appendonly no"
    container = RunningContainer(Image(name="redis:7.4", port=DEFAULT_PORT, command=words))
    port = int(container.port)
    container.wait_until_ready(partial(_is_serving, container.host, port, password))
    return RedisServer(container.host, port, password, container)


def _installed_redis(environment: Mapping[str, str]) -> RedisServer:
    program = _program(environment)
    password = secrets.token_hex(16)
    berth = Berth("redis")
    listen = ("--bind", "127.0.0.1", "--port", str(berth.port), "--dir", str(berth.folder))
    command = Command(
        argv=(program, *listen, *_options(password)), environment={}, folder=berth.folder
    )
    ready = partial(_is_serving, "127.0.0.1", berth.port, password)
    return RedisServer("127.0.0.1", berth.port, password, ChildProcess(command, berth, ready))


def _program(environment: Mapping[str, str]) -> Path:
    """Find the server; install it when there is none."""
    path = environment.get("PATH", "")
    found = shutil.which("redis-server", path=path)
    if found is None:
        install("redis-server", "no `redis-server` on the PATH", environment)
        found = shutil.which("redis-server", path=path)
    if found is None:
        raise NotProvided("apt-get installed it, but there is no `redis-server` on the PATH")
    return Path(found)
