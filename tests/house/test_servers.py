"""The harness for real servers keeps its promises; everything below relies on them."""

import asyncio
import re
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from tests.servers.choice import ForeignServer, NotOurs, ServerMissing
from tests.servers.kafka import start_kafka
from tests.servers.postgres import PostgresServer, start_postgres
from tests.servers.process import freeze_server
from tests.servers.proxy import LossyProxy
from tests.servers.vault import VaultServer, start_vault


@pytest.fixture
def secret(vault_server: VaultServer) -> str:
    path = f"secret/data/{vault_server.fresh_prefix()}/greeting"
    vault_server.api("POST", path, {"data": {"word": "ahoy"}})
    return path


def word(vault: VaultServer, secret: str) -> object:
    status, answer = vault.api("GET", secret, timeout=1)
    return answer["data"]["data"]["word"] if status == 200 else status


def test_vault_counts_the_versions_of_a_secret(vault_server: VaultServer, secret: str) -> None:
    status, answer = vault_server.api("POST", secret, {"data": {"word": "land"}})

    assert (status, answer["data"]["version"]) == (200, 2)


def test_vault_keeps_a_secret_through_a_kill(vault_server: VaultServer, secret: str) -> None:
    vault_server.kill()
    with pytest.raises(ConnectionRefusedError):
        word(vault_server, secret)
    vault_server.restart()

    assert word(vault_server, secret) == "ahoy"


def test_a_frozen_vault_is_silent_until_thawed(vault_server: VaultServer, secret: str) -> None:
    with freeze_server(vault_server), pytest.raises(TimeoutError):
        word(vault_server, secret)

    assert word(vault_server, secret) == "ahoy"


def test_a_sealed_vault_says_so_until_unsealed(vault_server: VaultServer, secret: str) -> None:
    vault_server.seal()
    sealed = word(vault_server, secret)
    vault_server.unseal()

    assert (sealed, word(vault_server, secret)) == (503, "ahoy")


def test_enabling_what_is_enabled_changes_nothing(vault_server: VaultServer, secret: str) -> None:
    vault_server.enable("kv", "secret")
    vault_server.enable("approle", "approle")

    assert word(vault_server, secret) == "ahoy"


def test_two_vault_prefixes_differ(vault_server: VaultServer) -> None:
    assert vault_server.fresh_prefix() != vault_server.fresh_prefix()


async def ask(url: str, question: str) -> object:
    session = await asyncpg.connect(url)
    try:
        return await session.fetchval(question)
    finally:
        await session.close()


async def test_two_fresh_databases_share_nothing(postgres_server: PostgresServer) -> None:
    one, other = postgres_server.fresh_database(), postgres_server.fresh_database()
    await ask(one, "CREATE TABLE ships (name text)")

    with pytest.raises(asyncpg.UndefinedTableError):
        await ask(other, "SELECT * FROM ships")


async def test_postgres_keeps_a_row_through_a_kill(postgres_server: PostgresServer) -> None:
    url = postgres_server.fresh_database()
    await ask(url, "CREATE TABLE ships AS SELECT 'Argo' AS name")

    postgres_server.kill()
    with pytest.raises(ConnectionRefusedError):
        await asyncpg.connect(url)
    postgres_server.restart()

    assert await ask(url, "SELECT name FROM ships") == "Argo"


async def test_a_frozen_postgres_freezes_open_sessions(postgres_server: PostgresServer) -> None:
    session = await asyncpg.connect(postgres_server.fresh_database())
    try:
        with freeze_server(postgres_server), pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await asyncio.shield(
                    question := asyncio.ensure_future(session.fetchval("SELECT 1"))
                )

        assert await question == 1
    finally:
        await session.close()


async def test_a_frozen_postgres_takes_nobody_in(postgres_server: PostgresServer) -> None:
    with freeze_server(postgres_server), pytest.raises(TimeoutError):
        await asyncpg.connect(postgres_server.url, timeout=0.3)

    assert await ask(postgres_server.url, "SELECT 1") == 1


async def test_a_proxy_can_lose_the_answer_to_a_commit(postgres_server: PostgresServer) -> None:
    url = postgres_server.fresh_database()
    parts = urlsplit(url)
    await ask(url, "CREATE TABLE ships (name text)")
    with LossyProxy(parts.hostname or "", parts.port or 0) as proxy:
        lossy = await asyncpg.connect(url.replace(str(parts.port), str(proxy.port)))
        proxy.drop_next_response(when=lambda sent: b"COMMIT" in sent)

        with pytest.raises(asyncpg.ConnectionDoesNotExistError):
            await lossy.execute("BEGIN; INSERT INTO ships VALUES ('Argo'); COMMIT")

    assert await ask(url, "SELECT name FROM ships") == "Argo"


@pytest.fixture
def no_docker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")


def test_without_any_vault_the_error_names_all_ways(no_docker: None, tmp_path: Path) -> None:
    with pytest.raises(ServerMissing) as missing:
        start_vault({"XDG_CACHE_HOME": str(tmp_path)})

    assert re.search(
        r"(?s)no Vault.*TEST_VAULT_ADDR is not set.*Docker.*none answers.*no `go` on the PATH",
        str(missing.value),
    )


def test_without_any_postgres_the_error_names_all_ways(no_docker: None, tmp_path: Path) -> None:
    with pytest.raises(ServerMissing) as missing:
        start_postgres({}, debian=tmp_path)

    assert re.search(
        r"(?s)no PostgreSQL.*TEST_DATABASE_URL is not set.*Docker.*none answers.*no `postgres` on",
        str(missing.value),
    )


def test_without_any_kafka_the_error_names_all_ways(no_docker: None, tmp_path: Path) -> None:
    for program, missing in (("java", "no `java` on the PATH"), ("mvn", "no `mvn` on the PATH")):
        with pytest.raises(ServerMissing) as caught:
            start_kafka({"PATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)})

        assert re.search(
            rf"(?s)no Kafka.*TEST_KAFKA_BOOTSTRAP is not set.*Docker.*none answers.*{missing}",
            str(caught.value),
        )
        (tmp_path / program).touch(mode=0o755)


def test_an_address_without_its_token_is_an_error() -> None:
    with pytest.raises(ServerMissing, match="TEST_VAULT_TOKEN is not"):
        start_vault({"TEST_VAULT_ADDR": "http://127.0.0.1:1"})


def test_a_vault_named_in_the_environment_is_used(vault_server: VaultServer, secret: str) -> None:
    environment = {
        "TEST_VAULT_ADDR": vault_server.address,
        "TEST_VAULT_TOKEN": vault_server.root_token,
    }

    assert word(start_vault(environment), secret) == "ahoy"


async def test_a_postgres_named_in_the_environment_is_left_tidy(
    postgres_server: PostgresServer,
) -> None:
    foreign = start_postgres({"TEST_DATABASE_URL": postgres_server.url})
    url = foreign.fresh_database()
    foreign.close()

    with pytest.raises(asyncpg.InvalidCatalogNameError):
        await asyncpg.connect(url)


@pytest.mark.parametrize("deed", ["freeze", "thaw", "kill", "stop", "restart"])
def test_a_server_of_somebody_else_is_not_interrupted(deed: str) -> None:
    with pytest.raises(NotOurs, match="unset TEST_VAULT_ADDR"):
        getattr(ForeignServer("TEST_VAULT_ADDR"), deed)()
