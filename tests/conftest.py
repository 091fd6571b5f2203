"""What every test may ask for: real servers, started when the first test needs them."""

import logging
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import structlog

from tests.servers.kafka import KafkaServer, start_kafka
from tests.servers.postgres import PostgresServer, start_postgres
from tests.servers.redis import RedisServer, start_redis
from tests.servers.vault import VaultServer, start_vault
from tests.servers.zookeeper import ZooKeeperServer, start_zookeeper
from tests.trials import load_profile

load_profile()

SERVERS = frozenset(
    {"vault_server", "postgres_server", "kafka_server", "redis_server", "zookeeper_server"}
)


# Suites that start services of their own, or run programs: together they take minutes.
LONG = (
    "sdk/tests/",
    "tests/access/test_canaries.py",
    "tests/access/test_mass_assignment.py",
    "tests/access/test_matrix.py",
    "tests/access/test_schema_canaries.py",
    "tests/changes/test_relay.py",
    "tests/docs/test_events.py",
    "tests/docs/test_examples.py",
    "tests/e2e/test_access.py",
    "tests/e2e/test_any_flags.py",
    "tests/e2e/test_audit.py",
    "tests/e2e/test_bad_",
    "tests/e2e/test_caching.py",
    "tests/e2e/test_concurrency.py",
    "tests/e2e/test_conventions.py",
    "tests/e2e/test_discovery.py",
    "tests/e2e/test_full_service.py",
    "tests/e2e/test_hot_registry.py",
    "tests/e2e/test_import_export.py",
    "tests/e2e/test_limits.py",
    "tests/e2e/test_ofrep_javascript.py",
    "tests/e2e/test_open_access.py",
    "tests/e2e/test_openapi.py",
    "tests/e2e/test_people.py",
    "tests/e2e/test_plain_values.py",
    "tests/e2e/test_registry.py",
    "tests/e2e/test_secrets.py",
    "tests/e2e/test_stream.py",
    "tests/e2e/test_token_commands.py",
    "tests/e2e/test_tokens.py",
    "tests/e2e/test_unknown_parameters.py",
    "tests/house/test_server",
    "tests/web/test_connection.py",
)
# What the client does without a service, all the same.
SHORT = (
    "sdk/tests/test_configuration.py",
    "sdk/tests/test_events.py",
    "sdk/tests/test_snapshot.py",
    "sdk/tests/reload/test_merging.py",
)


def is_long(file: str) -> bool:
    return file.startswith(LONG) and file not in SHORT


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Collecting what is left out anyway would take as long as the rest: most tests are long."""
    if collection_path.suffix != ".py" or "not slow" not in config.option.markexpr:
        return None
    return is_long(collection_path.relative_to(config.rootpath).as_posix()) or None


@pytest.hookimpl(tryfirst=True)  # before `-m "not servers"` chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if SERVERS.intersection(getattr(item, "fixturenames", ())):
            item.add_marker("servers")
        if is_long(item.nodeid.partition("::")[0]):
            item.add_marker("slow")


@pytest.fixture
def logs_as_before() -> Iterator[None]:
    """Undo what a command that is run inside the test makes of the logs."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


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


@pytest.fixture
def url(postgres_server: PostgresServer) -> Iterator[str]:
    """A migrated database of its own."""
    created = postgres_server.migrated_database()
    yield created
    postgres_server.drop(created)


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
