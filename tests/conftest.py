"""What every test may ask for: real servers, started when the first test needs them."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.servers.kafka import KafkaServer, start_kafka
from tests.servers.postgres import PostgresServer, start_postgres
from tests.servers.redis import RedisServer, start_redis
from tests.servers.vault import VaultServer, start_vault
from tests.servers.zookeeper import ZooKeeperServer, start_zookeeper

SERVERS = frozenset(
    {"vault_server", "postgres_server", "kafka_server", "redis_server", "zookeeper_server"}
)


@pytest.hookimpl(tryfirst=True)  # before `-m "not servers"` chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if SERVERS.intersection(getattr(item, "fixturenames", ())):
            item.add_marker("servers")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def vault_server() -> Iterator[VaultServer]:
    with closing(start_vault()) as server:
        yield server


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    with closing(start_postgres()) as server:
        yield server


@pytest.fixture(scope="session")
def kafka_server() -> Iterator[KafkaServer]:
    with closing(start_kafka()) as server:
        yield server


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    with closing(start_redis()) as server:
        yield server


@pytest.fixture(scope="session")
def zookeeper_server() -> Iterator[ZooKeeperServer]:
    with closing(start_zookeeper()) as server:
        yield server
