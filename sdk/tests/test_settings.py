"""Settings of other libraries, built from the real service, and from nothing never."""

import itertools
from pathlib import Path
from typing import Any

import pytest
from dynaconf import Dynaconf  # type: ignore[import-untyped]
from pydantic import AliasChoices, BaseModel, Field
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from pilothouse import Pilothouse
from pilothouse.errors import BadAnswer, Unavailable
from pilothouse.settings_source import PilothouseSettingsSource
from pilothouse.testing import FakePilothouse
from sdk.tests.scripted import ScriptedServer, html, problem
from tests.servers.service import ServiceProcess

_numbers = itertools.count()
LOADERS = ["pilothouse.dynaconf_loader", "dynaconf.loaders.env_loader"]


class Database(BaseModel):
    host: str = "localhost"
    port: int = 5432


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="ORDERS_", env_nested_delimiter="__")

    database: Database = Database()
    workers: int = 1
    debug: bool = Field(default=False, validation_alias=AliasChoices("verbose", "debugging"))


class Extra(Settings):
    model_config = SettingsConfigDict(extra="allow")


def build_settings(kind: type[Settings], **arguments: Any) -> Settings:
    """Build with a source of these arguments, below the environment's variables."""

    class Built(kind):  # type: ignore[misc,valid-type]
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            **_: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            source = PilothouseSettingsSource(settings_cls, **arguments)
            return init_settings, env_settings, source

    settings: Settings = Built()
    return settings


@pytest.fixture
def address(service: ServiceProcess) -> dict[str, str]:
    """Where something is configured for a service of its own name."""
    name = f"settings-{next(_numbers)}"
    query = f"environment=production&service_name={name}"
    values = {"database.host": "db1", "workers": "4", "debugging": True, "unknown": {"a": 1}}
    answer = service.request("PATCH", f"/api/v1/config?{query}", {"set": values})
    assert answer.status == 200
    return {"url": service.url, "service": name, "environment": "production"}


def test_fields_are_read_by_name_and_alias(address: dict[str, str]) -> None:
    settings = build_settings(Settings, **address)

    assert settings.database == Database(host="db1")
    assert (settings.workers, settings.debug) == (4, True)


def test_a_client_that_is_there_is_used_and_may_be_a_fake() -> None:
    fake = FakePilothouse({"orders": {"workers": 3, "database": {"port": 1}}, "workers": 9})

    settings = build_settings(Settings, client=fake, section="orders")

    assert (settings.workers, settings.database.port) == (3, 1)
    assert build_settings(Settings, client=Pilothouse.offline({"workers": 5})).workers == 5


def test_other_keys_are_kept_where_the_class_allows_them(address: dict[str, str]) -> None:
    settings = build_settings(Extra, **address)

    assert settings.model_extra is not None
    assert settings.model_extra["unknown"] == {"a": 1}
    assert settings.debug is True


def test_variables_are_merged_above_and_may_say_where_the_service_is(
    address: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in address.items():
        monkeypatch.setenv(f"PILOTHOUSE_{name.upper()}", value)
    monkeypatch.setenv("ORDERS_DATABASE__PORT", "7")

    assert build_settings(Settings).database == Database(host="db1", port=7)
    assert Dynaconf(loaders=LOADERS).DATABASE.HOST == "db1"


def test_without_an_address_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PILOTHOUSE_URL", raising=False)

    with pytest.raises(ValueError, match="PILOTHOUSE_URL"):
        build_settings(Settings, service="orders")


def test_dynaconf_reads_the_same_and_the_environment_is_above(
    address: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DYNACONF_WORKERS", "8")

    settings = Dynaconf(loaders=LOADERS, pilothouse_for_dynaconf=address)

    assert settings.database.host == "db1"
    assert settings.WORKERS == 8
    assert settings.unknown.a == 1


def test_dynaconf_reads_a_section(address: dict[str, str]) -> None:
    options = {**address, "section": "unknown"}

    settings = Dynaconf(loaders=LOADERS, pilothouse_for_dynaconf=options)

    assert settings.a == 1
    assert "database" not in settings


@pytest.mark.parametrize(
    ("reply", "error"), [(problem(503, "away"), Unavailable), (html(), BadAnswer)]
)
def test_both_fail_loudly_without_service_and_snapshot(
    scripted_server: ScriptedServer, reply: Any, error: type[Exception]
) -> None:
    scripted_server.answers["/api/v1/effective"] = lambda _: reply
    arguments: dict[str, Any] = {
        "url": scripted_server.url,
        "service": "orders",
        "start_timeout": 0.2,
    }

    with pytest.raises(error):
        build_settings(Settings, **arguments)
    with pytest.raises(error):
        _ = Dynaconf(loaders=LOADERS, pilothouse_for_dynaconf=arguments).WORKERS
    with pytest.raises(error):
        _ = Dynaconf(loaders=LOADERS, silent_errors=True, pilothouse_for_dynaconf=arguments).WORKERS


def test_a_snapshot_is_enough(
    address: dict[str, str], service: ServiceProcess, tmp_path: Path
) -> None:
    arguments: dict[str, Any] = {**address, "snapshot": str(tmp_path / "file"), "start_timeout": 1}
    build_settings(Settings, **arguments)

    service.freeze()
    try:
        assert build_settings(Settings, **{**arguments, "start_timeout": 0.1}).workers == 4
        options = {**arguments, "start_timeout": 0.1}
        assert Dynaconf(loaders=LOADERS, pilothouse_for_dynaconf=options).WORKERS == "4"
    finally:
        service.thaw()
