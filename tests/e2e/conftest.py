"""The service as a process of its own: with everything embedded, and on real servers."""

import asyncio
import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.e2e.client import Layer, Service
from tests.servers.postgres import PostgresServer
from tests.servers.process import PATIENCE_SECONDS
from tests.servers.service import ServiceProcess
from tests.servers.vault import VaultServer
from tests.servers.zookeeper import ZooKeeperServer

SETTINGS = {
    "TRUSTED_PROXIES": "127.0.0.1",  # the tests themselves
    "VAULT_MAX_VERSIONS": "60",  # few enough that a test can reach beyond them
    "SERVICE_HEALTH_CHECK_INTERVAL": "0.2",  # frequent enough to be waited for
    "ALLOWED_HOSTS": "pilothouse,flags.example.org",
}
# Frequent enough to be waited for, and seldom enough to leave others the processor: the service
# stays for the whole run.
SCANNING = {**SETTINGS, "VAULT_SCAN_INTERVAL": "1"}
TABLES = (
    "changes",
    "documents",
    "intents",
    "audit",
    "claims",
    "tokens",
    "definition_versions",
    "webhook_deliveries",
    "webhook_attempts",
    "proposals",
)


class EmbeddedBackend:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def stored_bytes(self) -> bytes:
        return b"\n".join(file.read_bytes() for file in self._folder.iterdir() if file.is_file())

    def audit(self, request_id: str) -> Sequence[Mapping[str, Any]]:
        uri = f"file:{self._folder / 'pilothouse.db'}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True)) as connection:
            connection.row_factory = sqlite3.Row
            rows = connection.execute(
                "SELECT * FROM audit WHERE request_id = ? ORDER BY id", (request_id,)
            )
            return [{**row, "facts": json.loads(row["facts"] or "{}")} for row in map(dict, rows)]


class RealBackend:
    def __init__(self, vault: VaultServer, prefix: str, database_url: str) -> None:
        self.vault = vault
        self.prefix = prefix
        self._url = database_url

    def stored_bytes(self) -> bytes:
        rows = [str(row[0]) for table in TABLES for row in self._select(f"t::text FROM {table} t")]
        texts = [self._texts(path) for path in self._paths("")]
        return "\n".join([*rows, *texts]).encode()

    def _paths(self, folder: str) -> Iterator[str]:
        _, answer = self.vault.api("LIST", f"secret/metadata/{self.prefix}/{folder}")
        for name in answer.get("data", {}).get("keys", ()):  # there is no empty folder
            if name.endswith("/"):
                yield from self._paths(f"{folder}{name}")
            else:
                yield f"{folder}{name}"

    def _texts(self, path: str) -> str:
        _, metadata = self.vault.api("GET", f"secret/metadata/{self.prefix}/{path}")
        return "\n".join(
            json.dumps(self.vault.api("GET", f"secret/data/{self.prefix}/{path}?version={number}"))
            for number in metadata["data"]["versions"]
        )

    def audit(self, request_id: str) -> Sequence[Mapping[str, Any]]:
        # What several connections inserted stands in the table in any order.
        rows = self._select("* FROM audit WHERE request_id = $1 ORDER BY id", request_id)
        return [{**row, "facts": json.loads(row["facts"] or "{}")} for row in map(dict, rows)]

    def _select(self, rest: str, *values: object) -> list[Any]:
        async def ask() -> list[Any]:
            connection = await asyncpg.connect(self._url, timeout=PATIENCE_SECONDS)
            try:
                return list(await connection.fetch(f"SELECT {rest}", *values))
            finally:
                await connection.close()

        with ThreadPoolExecutor(1) as thread:  # the caller may be inside an event loop
            return thread.submit(asyncio.run, ask()).result()


@contextmanager
def embedded_service(settings: Mapping[str, str]) -> Iterator[Service]:
    with ServiceProcess(settings) as process:
        yield Service(process, EmbeddedBackend(process.data_folder), settings)


@contextmanager
def real_service(
    vault: VaultServer,
    postgres: PostgresServer,
    zookeeper: ZooKeeperServer,
    settings: Mapping[str, str],
) -> Iterator[Service]:
    prefix, url = vault.fresh_prefix(), postgres.fresh_database()
    settings = {
        **settings,
        "VAULT_ADDR": vault.address,
        "VAULT_TOKEN": vault.root_token,
        "VAULT_PREFIX": prefix,
        "DATABASE_URL": url,
        "ZOOKEEPER_HOSTS": zookeeper.hosts,
        "ZOOKEEPER_BASE_PATH": zookeeper.fresh_path(),
    }
    with ServiceProcess(settings) as process:
        yield Service(process, RealBackend(vault, prefix, url), settings)


SERVERS = pytest.mark.servers
EITHER = [pytest.param("service_embedded", id="embedded"), pytest.param("real", marks=SERVERS)]


@pytest.fixture(scope="session")
def service_embedded() -> Iterator[Service]:
    with embedded_service(SETTINGS) as service:
        yield service


@pytest.fixture(scope="session")
def real(
    vault_server: VaultServer, postgres_server: PostgresServer, zookeeper_server: ZooKeeperServer
) -> Iterator[Service]:
    with real_service(vault_server, postgres_server, zookeeper_server, SETTINGS) as service:
        yield service


@pytest.fixture(params=EITHER)
def service(request: pytest.FixtureRequest) -> Service:
    """The service, shared by all tests: each uses names of its own."""
    found: Service = request.getfixturevalue(request.param)
    found.wait_until_ready()
    return found


@pytest.fixture
def layer(service: Service) -> Layer:
    return service.layer()


@pytest.fixture(scope="session")
def fresh_embedded() -> Iterator[Service]:
    with embedded_service(SCANNING) as service:
        yield service


@pytest.fixture(scope="session")
def fresh_real(
    vault_server: VaultServer, postgres_server: PostgresServer, zookeeper_server: ZooKeeperServer
) -> Iterator[Service]:
    with real_service(vault_server, postgres_server, zookeeper_server, SCANNING) as service:
        yield service


@pytest.fixture(
    scope="session", params=["fresh_embedded", pytest.param("fresh_real", marks=SERVERS)]
)
def fresh(request: pytest.FixtureRequest) -> Service:
    """Another service, in which nothing is shared by all: it may be filled and restarted."""
    found: Service = request.getfixturevalue(request.param)
    return found
