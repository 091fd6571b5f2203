"""A server that cannot be reached, or refuses, is told as what it is, in words of the settings."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from app.cache.redis import RedisAddress, RedisCache
from app.changes.events.kafka import KafkaPublisher
from app.changes.log.port import ChangeLog
from app.configs.store.vault import VaultConfigStore
from app.configs.store.vault_client import AppRoleLogin, TokenLogin, VaultClient
from app.connection_failures import explain_connection_failure, find_unknown_hosts, hosts_of
from app.errors import Unavailable
from app.postgres.failures import explain_failure
from app.registry.nodes.zookeeper.client import ZooKeeperServiceRegistryClient
from tests.changes.ports import opened_ports
from tests.servers.postgres import PostgresServer
from tests.servers.process import PATIENCE_SECONDS, wait_until
from tests.servers.redis import RedisServer
from tests.servers.service import ServiceProcess
from tests.servers.vault import VaultServer

pytestmark = pytest.mark.anyio
SECRET = "hidden-SECRET-7"
NOWHERE = "no-such-host.invalid"


async def detail(ping: Callable[[], Awaitable[None]]) -> str:
    """Return what is told of a server that is pinged, once it is no matter of time."""
    for _ in range(20):
        try:
            await ping()
        except Unavailable as error:
            if "in time" not in str(error):
                return str(error)
        else:
            return "up"
    raise AssertionError("it never answers in time")


@asynccontextmanager
async def postgres(url: str) -> AsyncIterator[ChangeLog]:
    async with opened_ports(url) as ports:
        yield ports.log


@pytest.fixture
def login(postgres_server: PostgresServer) -> str:
    """Return a URL whose user has a password that is asked for, with another one in it."""
    asyncio.run(_lock(postgres_server))
    parts = urlsplit(postgres_server.url)
    return f"postgresql://locked:{SECRET}@{parts.hostname}:{parts.port}/postgres"


async def _lock(postgres_server: PostgresServer) -> None:
    connection = await asyncpg.connect(postgres_server.url, timeout=10)
    try:
        await connection.execute("DROP ROLE IF EXISTS locked")
        await connection.execute("CREATE ROLE locked LOGIN PASSWORD 'right'")
        file = await connection.fetchval("SHOW hba_file")
        rules = await connection.fetchval("SELECT pg_read_file($1)", file)
        if "locked" not in rules:
            added = "host all locked all scram-sha-256"
            lines = ", ".join(f"($${line}$$)" for line in [added, *rules.splitlines()])
            await connection.execute(f"COPY (VALUES {lines}) TO '{file}'")
            await connection.execute("SELECT pg_reload_conf()")
    finally:
        await connection.close()


async def test_a_wrong_password_of_postgres_is_told(login: str) -> None:
    async with postgres(login) as log:
        message = await detail(log.ping)

    assert "Postgres refuses the user or the password in DATABASE_URL" in message
    assert SECRET not in message


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"path": "/nowhere"}, "Postgres has no database of the name in DATABASE_URL"),
        ({"netloc": f"{SECRET}@127.0.0.1:1"}, "nothing listens where DATABASE_URL points to"),
        ({"netloc": f"u:{SECRET}@{NOWHERE}"}, "the host in DATABASE_URL does not exist"),
        ({"query": "sslmode=require"}, "Postgres does not support TLS"),
        ({"query": "sslmode=verify-ca&sslrootcert=/none"}, "a file that DATABASE_URL names"),
        ({"query": "colour=blue"}, "Postgres does not know an option in DATABASE_URL"),
    ],
)
async def test_what_is_wrong_in_the_url_of_postgres_is_told(
    postgres_server: PostgresServer, changed: dict[str, Any], reason: str
) -> None:
    url = urlsplit(postgres_server.url)._replace(**changed).geturl()

    async with postgres(url) as log:
        message = await detail(log.ping)

    assert message.startswith("the change log does not answer: ")
    assert reason in message
    assert SECRET not in message
    assert NOWHERE not in message  # a password that was not encoded is taken for a part of the host


async def test_a_database_without_tables_says_how_to_make_them(
    postgres_server: PostgresServer,
) -> None:
    async with postgres(postgres_server.fresh_database()) as log:
        with pytest.raises(Unavailable, match="run `python -m app migrate`"):
            await log.snapshot()


@asynccontextmanager
async def vault(address: str, login: TokenLogin | AppRoleLogin) -> AsyncIterator[VaultConfigStore]:
    client = VaultClient(address, login)
    try:
        yield VaultConfigStore(client, mount="secret", prefix="x", max_versions=10)
    finally:
        await client.close()


@pytest.mark.parametrize(
    ("login", "reason"),
    [
        (TokenLogin(SECRET), "Vault refuses VAULT_TOKEN"),
        (AppRoleLogin("nobody", SECRET), "VAULT_ROLE_ID, VAULT_SECRET_ID or"),
        (AppRoleLogin("nobody", SECRET, "elsewhere"), "VAULT_APPROLE_MOUNT is wrong"),
    ],
)
async def test_a_wrong_login_of_vault_is_told(
    vault_server: VaultServer, login: TokenLogin | AppRoleLogin, reason: str
) -> None:
    async with vault(vault_server.address, login) as store:
        message = await detail(store.ping)

    assert reason in message
    assert SECRET not in message


async def test_a_wrong_secret_id_of_a_role_is_told(vault_server: VaultServer) -> None:
    vault_server.api("POST", "auth/approle/role/told", {})
    _, role = vault_server.api("GET", "auth/approle/role/told/role-id")

    async with vault(vault_server.address, AppRoleLogin(role["data"]["role_id"], SECRET)) as store:
        message = await detail(store.ping)

    assert "VAULT_SECRET_ID" in message


async def test_https_to_an_http_vault_is_told(vault_server: VaultServer) -> None:
    address = vault_server.address.replace("http:", "https:")

    async with vault(address, TokenLogin("x")) as store:
        message = await detail(store.ping)

    assert message == "Vault cannot be reached: the server in VAULT_ADDR does not speak TLS"


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("http://127.0.0.1:1", "nothing listens where VAULT_ADDR points to"),
        (f"https://{NOWHERE}", "the host in VAULT_ADDR does not exist"),
    ],
)
async def test_a_vault_that_is_not_there_is_told(address: str, reason: str) -> None:
    async with vault(address, TokenLogin("x")) as store:
        assert await detail(store.ping) == f"Vault cannot be reached: {reason}"


@asynccontextmanager
async def answering(answer: bytes) -> AsyncIterator[str]:
    """Serve one answer to whatever comes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (
            b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n",
            "VAULT_ADDR is http, but its server needs https",
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n<ok>",
            "the server at VAULT_ADDR answers, but is not Vault",
        ),
    ],
)
async def test_another_server_in_the_place_of_vault_is_told(answer: bytes, reason: str) -> None:
    async with answering(answer) as address, vault(address, TokenLogin("x")) as store:
        assert await detail(store.ping) == reason


@asynccontextmanager
async def redis(address: RedisAddress) -> AsyncIterator[RedisCache]:
    cache = RedisCache(address, prefix="t", seconds=PATIENCE_SECONDS)
    try:
        yield cache
    finally:
        await cache.close()


async def test_what_is_wrong_with_redis_is_told(redis_server: RedisServer) -> None:
    host, port, right = redis_server.host, redis_server.port, redis_server.password
    reasons = {
        RedisAddress(host, port): "Redis demands a password, and REDIS_PASSWORD is not set",
        RedisAddress(host, port, SECRET): "Redis refuses REDIS_PASSWORD",
        RedisAddress(host, port, right, db=9999): "Redis has no database REDIS_DB",
        RedisAddress(
            "127.0.0.1", 1
        ): "Redis cannot be reached: nothing listens where REDIS_HOST points to",
        RedisAddress(NOWHERE): "Redis cannot be reached: the host in REDIS_HOST does not exist",
    }

    for address, reason in reasons.items():
        async with redis(address) as cache:
            assert await detail(cache.ping) == reason


@pytest.mark.parametrize(
    ("hosts", "reason"),
    [
        (f"{NOWHERE}:2181", f"ZOOKEEPER_HOSTS contains unknown host names: '{NOWHERE}'"),
        (f"127.0.0.1:1,{NOWHERE}:1", f"ZOOKEEPER_HOSTS contains unknown host names: '{NOWHERE}'"),
        ("127.0.0.1:1", "nothing listens where ZOOKEEPER_HOSTS points to"),
    ],
)
async def test_a_wrong_host_of_zookeeper_is_told(hosts: str, reason: str) -> None:
    nodes = ZooKeeperServiceRegistryClient(hosts, base="/services")
    try:
        while (message := await detail(nodes.ping)) == "ZooKeeper is not connected":
            pass  # before the first attempt there is nothing to tell
    finally:
        await nodes.close()

    assert message == f"ZooKeeper is not connected: {reason}"


async def test_a_wrong_host_of_kafka_is_told() -> None:
    publisher = KafkaPublisher(f"{NOWHERE}:9092", "t", may_create=True)
    try:
        message = await detail(publisher.ping)
    finally:
        await publisher.close()

    assert message == "Kafka cannot be reached: no host in KAFKA_BOOTSTRAP_SERVERS exists"


def test_all_of_it_stands_in_ready_and_in_the_log_and_no_secret(
    vault_server: VaultServer, redis_server: RedisServer, login: str
) -> None:
    settings = {
        "VAULT_ADDR": vault_server.address,
        "VAULT_TOKEN": SECRET,
        "DATABASE_URL": login,
        **redis_server.settings,
        "REDIS_PASSWORD": SECRET,
        "ZOOKEEPER_HOSTS": f"{NOWHERE}:2181",
        "KAFKA_BOOTSTRAP_SERVERS": f"{NOWHERE}:9092",
    }
    wanted = {
        "configs": "Vault refuses VAULT_TOKEN",
        "flags": "Postgres refuses the user or the password in DATABASE_URL",
        "changes": "Postgres refuses the user or the password in DATABASE_URL",
        "registry": "ZOOKEEPER_HOSTS contains unknown host names",
        "cache": "Redis refuses REDIS_PASSWORD",
        "events": "no host in KAFKA_BOOTSTRAP_SERVERS exists",
    }
    with ServiceProcess(settings) as service:

        def is_told() -> bool:
            ports = service.request("GET", "/ready").json()["ports"]
            details = {port["name"]: port["detail"] or "" for port in ports}
            return all(reason in details[name] for name, reason in wanted.items())

        wait_until(is_told, "every fault is told as what it is")
        log = service.log()

    assert SECRET not in log
    down = [line for line in log.splitlines() if '"port_down"' in line]
    assert all(any(reason in line for line in down) for reason in wanted.values())
    assert any(
        "log_away_at_start" in line and "refuses the user" in line for line in log.splitlines()
    )


def test_kinds_of_failures_are_told_whatever_wraps_them() -> None:
    mismatch = ssl.SSLCertVerificationError(1, "x")
    mismatch.verify_code = 62
    untrusted = ssl.SSLCertVerificationError(1, "x")
    untrusted.verify_code = 20
    wrapped = RuntimeError()
    wrapped.__context__ = ExceptionGroup("all", [ConnectionRefusedError()])
    slow = socket.gaierror(socket.EAI_AGAIN, "x")

    messages = [
        explain_connection_failure(one, "HERE") for one in (mismatch, untrusted, wrapped, slow)
    ]

    assert messages == [
        "the certificate there is for another host than HERE names",
        "the certificate of the server in HERE is not trusted",
        "nothing listens where HERE points to",
        "no name server answers for HERE",
    ]
    assert explain_connection_failure(OSError(), "HERE") is None
    assert explain_failure(OSError()) == "Postgres cannot be reached"
    assert explain_failure(TimeoutError()) == "Postgres did not answer in time"


async def test_hosts_are_found_in_lists_and_only_unknown_ones_are_named() -> None:
    assert hosts_of("a:1, b,[::1]:2,a:3/chroot/x") == ["a", "b", "::1"]
    assert await find_unknown_hosts(["127.0.0.1", NOWHERE, "::1"]) == [NOWHERE]
