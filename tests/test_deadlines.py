"""Each server's deadline is a setting, and everything else follows from it."""

from time import monotonic
from urllib.parse import urlsplit

import asyncpg
import pytest
from pydantic import ValidationError

from app.changes.errors import LogUnavailable
from app.postgres.engine import Deadlines, connect, deadlines_of, open_engine
from app.production_checks import StartRefused, refuse_unsafe
from app.settings import Settings
from tests.changes.ports import opened_ports
from tests.servers.answer import Answer
from tests.servers.deadlines import PATIENT, PROMPT
from tests.servers.postgres import PostgresServer
from tests.servers.process import SLACK_SECONDS
from tests.servers.proxy import LossyProxy
from tests.servers.redis import RedisServer
from tests.servers.service import ServiceProcess
from tests.servers.vault import VaultServer

NAMES = sorted(PATIENT)


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", ["0", "-1", "61", "nan", "inf", "1e9", "2 s", "1,5", ""])
def test_a_deadline_out_of_bounds_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)

    with pytest.raises(ValidationError, match=name.lower()):
        Settings()


def test_by_default_a_read_takes_less_than_one_second_and_a_write_two() -> None:
    settings = Settings()

    assert settings.read_seconds == pytest.approx(0.8)
    assert settings.write_seconds == pytest.approx(2)
    assert settings.registry_seconds == pytest.approx(2)


@pytest.mark.parametrize("database", [0.2, 1.8, 60])
@pytest.mark.parametrize("vault", [0.1, 0.7, 60])
def test_there_is_time_in_a_write_for_either_server(database: float, vault: float) -> None:
    settings = Settings(database_timeout_seconds=database, vault_timeout_seconds=vault)

    assert settings.write_seconds > database
    assert settings.write_seconds * 0.75 > vault  # until when it must have answered
    assert settings.read_seconds > vault + settings.redis_timeout_seconds


def test_a_cache_is_not_waited_for_longer_than_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(redis_host="redis", redis_timeout_seconds=2, vault_timeout_seconds=1)

    with pytest.raises(StartRefused, match="REDIS_TIMEOUT_SECONDS is longer than VAULT_TIMEOUT"):
        refuse_unsafe(settings)


def test_what_is_silent_is_noticed_before_callers_give_up_and_soon_in_any_case() -> None:
    for seconds in (0.2, 1.8, 60):
        assert Deadlines(seconds).ping < min(seconds, 3)
        assert Deadlines(seconds).silent < seconds < Deadlines(seconds).server


async def test_the_server_ends_what_a_call_has_given_up(postgres_server: PostgresServer) -> None:
    connection = await connect(postgres_server.url, Deadlines(7.3))
    try:
        names = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
        limits = [await connection.fetchval(f"SHOW {name}") for name in names]
    finally:
        await connection.close()

    assert limits == ["7500ms"] * 3


async def test_a_call_that_waits_for_a_lock_is_given_up_at_its_deadline(url: str) -> None:
    blocker = await asyncpg.connect(url)
    async with opened_ports(url, 1) as hasty, opened_ports(url, 30) as patient:
        await patient.maintenance.acquire_turn("scan", 0)
        holding = blocker.transaction()
        await holding.start()
        await blocker.execute("SELECT * FROM claims FOR UPDATE")
        began = monotonic()

        with pytest.raises(LogUnavailable):
            await hasty.maintenance.acquire_turn("scan", 0)

        assert 0.9 < monotonic() - began < 1 + SLACK_SECONDS
        await holding.rollback()
        assert await patient.maintenance.acquire_turn("scan", 0)
    await blocker.close()


def test_an_engine_knows_the_deadlines_it_was_opened_with() -> None:
    assert deadlines_of(open_engine("postgresql://nobody@127.0.0.1:1/none")) == Deadlines(1.8)
    assert deadlines_of(open_engine("postgresql://nobody@127.0.0.1:1/none", 5)) == Deadlines(5)


# The settings reach the adapters


def create(service: ServiceProcess, name: str) -> Answer:
    body = {"key": "a", "value": 1, "service_name": name}
    return service.request("POST", "/api/v1/config", body)


def read_key(service: ServiceProcess, name: str) -> Answer:
    return service.request("GET", f"/api/configs/{name}?environment=default")


@pytest.fixture
def environment(vault_server: VaultServer, postgres_server: PostgresServer) -> dict[str, str]:
    return {
        "VAULT_ADDR": vault_server.address,
        "VAULT_TOKEN": vault_server.root_token,
        "VAULT_PREFIX": vault_server.fresh_prefix(),
        "DATABASE_URL": postgres_server.migrated_database(),
        "CACHE_MEMORY_BYTES": "0",
    }


SLOW_SECONDS = 1.0


@pytest.mark.slow
def test_a_slow_vault_is_waited_for_as_long_as_it_is_said(environment: dict[str, str]) -> None:
    address = urlsplit(environment["VAULT_ADDR"])
    with (
        LossyProxy(address.hostname or "", address.port or 0) as proxy,
        ServiceProcess(environment) as direct,
    ):
        assert create(direct, "checkout").status == 201
        way = {**environment, "VAULT_ADDR": f"http://127.0.0.1:{proxy.port}"}
        with ServiceProcess({**way, **PROMPT}) as hasty, ServiceProcess(way) as patient:
            proxy.slow(SLOW_SECONDS)

            assert read_key(hasty, "checkout").status == 503
            assert read_key(patient, "checkout").status == 200
            assert create(patient, "cart").status == 201


@pytest.mark.slow
def test_a_slow_postgres_is_waited_for_as_long_as_it_is_said(environment: dict[str, str]) -> None:
    address = urlsplit(environment["DATABASE_URL"])
    with LossyProxy(address.hostname or "", address.port or 0) as proxy:
        where = f"{address.netloc.rpartition('@')[0]}@127.0.0.1:{proxy.port}"
        way = {**environment, "DATABASE_URL": address._replace(netloc=where).geturl()}
        short = {**PROMPT, "DATABASE_TIMEOUT_SECONDS": "0.5"}
        with ServiceProcess({**way, **short}) as hasty, ServiceProcess(way) as patient:
            assert create(patient, "checkout").status == 201
            proxy.slow(SLOW_SECONDS)

            began = monotonic()
            refused = create(hasty, "orders")
            assert monotonic() - began < 2 + SLACK_SECONDS
            assert (refused.status, refused.json()["code"]) == (503, "change_log_unavailable")
            assert create(patient, "cart").status == 201


@pytest.mark.slow
def test_a_slow_redis_is_waited_for_as_long_as_it_is_said(
    environment: dict[str, str], redis_server: RedisServer
) -> None:
    with LossyProxy(redis_server.host, redis_server.port) as proxy:
        way = {
            **environment,
            **redis_server.settings,
            "REDIS_HOST": "127.0.0.1",
            "REDIS_PORT": str(proxy.port),
            "REDIS_PREFIX": redis_server.fresh_prefix(),
        }
        with ServiceProcess({**way, **PROMPT}) as hasty, ServiceProcess(way) as patient:
            assert create(patient, "checkout").status == 201
            assert read_key(patient, "checkout").headers["X-Cache"]
            proxy.slow(0.3)

            found = [read_key(one, "checkout").headers["X-Cache"] for one in (patient, hasty)]

    assert found == ["hit-redis", "miss"]
