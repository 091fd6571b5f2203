"""A configuration read once as a mapping with attributes, and documents that are written."""

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pilothouse import (
    AsyncPilothouse,
    ConfigUpdate,
    ConfigValidationError,
    ConfigWatcher,
    Pilothouse,
    PilothouseError,
    RegistryConfigProvider,
    load_typed_config,
)
from pilothouse.errors import BadAnswer, Conflict, NotFound, PreconditionFailed
from sdk.tests.scripted import ScriptedServer, configuration, of_json, problem
from tests.servers.process import PATIENCE_SECONDS, wait_until
from tests.servers.service import ServiceProcess

NOBODY = "http://127.0.0.1:9"


def test_a_typed_configuration_is_read_by_attributes_names_and_paths() -> None:
    data = {
        "db": {"host": "db1", "port": "5432", "max-size": 5, "replicas": ["db2"]},
        "items": 1,
        "my.map": 2,
        "paths": {"/api/**": True},
        "on": "yes",
    }
    config = load_typed_config("parsing", config_data=data)

    assert config.db.host == config["db.host"] == config["db"]["host"] == "db1"
    assert config.get("db.absent", 7) == 7
    assert (config.get_int("db.port"), config.get_bool("on")) == (5432, True)
    assert (config.get_int("absent", 3), config.get_bool("db", default=True)) == (3, True)
    assert (config.db["max-size"], config["items"], config["my.map"]) == (5, 1, 2)
    assert config["paths[/api/**]"] is True
    assert dict(config) == {**data, "db": config.db, "paths": config.paths}
    assert config == data
    assert len(config) == 5
    config.db.replicas.append("db3")
    assert config.db.replicas == ["db2"]
    assert "db1" not in repr(config)
    with pytest.raises(AttributeError, match="no 'absent'"):
        _ = config.absent
    with pytest.raises(AttributeError, match="does not change"):
        config.db.host = "db9"
    for absent in ("absent", "db.absent", "db[", ""):
        with pytest.raises(KeyError):
            config[absent]


@pytest.mark.parametrize("given", [[], "a", 1])
def test_what_is_no_configuration_is_not_valid(given: Any) -> None:
    with pytest.raises(ConfigValidationError, match="is no configuration") as caught:
        load_typed_config("parsing", config_data=given)

    assert isinstance(caught.value, PilothouseError)
    assert caught.value.errors == (str(caught.value),)


def test_a_service_that_is_away_or_refuses_is_a_validation_error(
    scripted_server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted_server.answers["/api/v1/effective"] = lambda _: problem(401, "token_required")
    monkeypatch.delenv("PILOTHOUSE_URL", raising=False)
    with pytest.raises(ConfigValidationError, match="PILOTHOUSE_URL is not set"):
        load_typed_config("parsing")
    for url, reason in (
        (NOBODY, "parsing: .*cannot be reached"),
        (scripted_server.url, "the detail of token_required"),
        ("no url", "is not the http or https URL"),
    ):
        with pytest.raises(ConfigValidationError, match=reason):
            load_typed_config("parsing", url)


def test_url_environment_and_token_are_those_of_the_process(
    scripted_server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    scripted_server.answers["/api/v1/effective"] = lambda request: configuration(
        {"asked": [dict(request.query), request.headers["authorization"]]}
    )
    (tmp_path / "token").write_text("t2\n")
    monkeypatch.setenv("PILOTHOUSE_URL", scripted_server.url)
    monkeypatch.setenv("PILOTHOUSE_ENVIRONMENT", "production")
    monkeypatch.setenv("PILOTHOUSE_TOKEN", "t1")
    query = {"environment": "production", "service_name": "parsing"}

    assert load_typed_config("parsing").asked == [query, "Bearer t1"]
    monkeypatch.setenv("PILOTHOUSE_TOKEN_FILE", str(tmp_path / "token"))
    assert load_typed_config("parsing").asked == [query, "Bearer t2"]
    assert load_typed_config("parsing", environment="dev", token="t3").asked == [
        {**query, "environment": "dev"},
        "Bearer t3",
    ]


def test_a_program_falls_back_in_except(
    scripted_server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted_server.answers["/api/v1/effective"] = lambda _: configuration({"db_host": "db1"})
    monkeypatch.setenv("PILOTHOUSE_URL", scripted_server.url)
    config: Any
    try:
        config = RegistryConfigProvider(NOBODY, "my-service", "prod", required=True)
    except Exception:  # noqa: BLE001 - as such programs do
        config = load_typed_config("my-service")

    assert (config.get("db_host"), config.db_host) == ("db1", "db1")


def test_documents_are_created_read_and_replaced(service: ServiceProcess) -> None:
    first = ConfigUpdate({"db": {"host": "db1"}}, "Initial", "admin")
    with Pilothouse(service.url, "orders", "typed", flags=False) as client:
        with pytest.raises(NotFound):
            client.documents.update("typed", first)
        created = client.documents.create("typed", first)
        with pytest.raises(Conflict):
            client.documents.create("typed", first)
        update = ConfigUpdate(
            config_data={"db": {"host": "db2"}}, comment="Moved", created_by="admin"
        )
        updated = client.documents.update("typed", update, expected=created)
        with pytest.raises(PreconditionFailed):
            client.documents.update("typed", first, expected=created)
        read = client.documents.get("typed")
        old = client.documents.get("typed", version=1)
        elsewhere = client.documents.create("typed", ConfigUpdate({}), "typed-2")

    assert (created.version, created.environment, created.comment) == (1, "typed", "Initial")
    assert (updated.version, updated.config_data) == (2, {"db": {"host": "db2"}})
    assert (read.version, read.config_data, read.comment) == (2, {"db": {"host": "db2"}}, "Moved")
    assert read.etag == updated.etag
    assert old.config_data == {"db": {"host": "db1"}}
    assert (elsewhere.environment, elsewhere.config_data) == ("typed-2", {})
    assert "db1" not in repr(first) + repr(created)
    assert load_typed_config("typed", service.url, "typed").db.host == "db2"


def test_a_document_is_copied_to_another_environment(service: ServiceProcess) -> None:
    data = {"db": {"host": "db1", "password": {"$secret": {"value": "hunter2"}}}, "a": 1}
    with Pilothouse(service.url, "orders", "copied", flags=False) as client:
        client.documents.create("moved", ConfigUpdate(data))
        planned = client.documents.copy("moved", to_environment="copied-2", dry_run=True)
        made = client.documents.copy("moved", to_environment="copied-2", keys=["db"])
        client.documents.copy("moved", to_service="moved-too", comment="why")
        there = client.documents.get("moved", "copied-2")
        beside = client.documents.get("moved-too")
        with pytest.raises(NotFound):
            client.documents.copy("never-there", to_environment="copied-2")

    assert (planned["dry_run"], planned["status"], made["status"]) == (True, "created", "created")
    assert there.config_data == {"db": {"host": "db1", "password": {"$secret": "masked"}}}
    assert (beside.config_data["a"], beside.comment) == (1, "why")


async def test_documents_are_written_on_an_event_loop(service: ServiceProcess) -> None:
    async with AsyncPilothouse(service.url, "orders", "typed", flags=False) as client:
        await client.documents.create("awaited", ConfigUpdate({"a": 1}))
        updated = await client.documents.update("awaited", ConfigUpdate({"a": 2}))
        assert (await client.documents.get("awaited")).config_data == updated.config_data


def test_an_answer_that_is_no_document_is_told(scripted_server: ScriptedServer) -> None:
    scripted_server.answers["/api/configs/a%2Fb"] = lambda _: of_json({"service_name": "a/b"})
    scripted_server.answers["/api/v1/effective"] = lambda _: configuration({})
    with (
        Pilothouse(scripted_server.url, "orders", flags=False) as client,
        pytest.raises(BadAnswer, match="'environment' is missing"),
    ):
        client.documents.get("a/b")


def test_a_watcher_blocks_until_it_is_stopped(service: ServiceProcess) -> None:
    def write(value: int) -> None:
        query = "/api/v1/config?environment=production&service_name=watched"
        assert service.request("PATCH", query, {"set": {"a": value}}).status == 200

    heard: list[Mapping[str, Any]] = []

    def hear_once(config: dict[str, Any]) -> None:
        heard.append(config)
        watcher.stop()

    write(1)
    watcher = ConfigWatcher(
        registry_url=service.url,
        service_name="watched",
        environment="production",
        poll_interval_seconds=30,
        on_change=hear_once,
    )
    thread = threading.Thread(target=watcher.start, daemon=True)
    thread.start()
    wait_until(lambda: watcher.is_running, "it watches")
    assert thread.is_alive()
    write(2)
    thread.join(PATIENCE_SECONDS)

    assert not thread.is_alive()
    assert not watcher.is_running
    # The service is shared: other tests write what all services inherit.
    assert [config["a"] for config in heard] == [2]


def test_a_watcher_that_does_not_block_returns_at_once(scripted_server: ScriptedServer) -> None:
    scripted_server.answers["/api/v1/effective"] = lambda _: configuration({"a": 1})
    watcher = ConfigWatcher(scripted_server.url, "watched")

    watcher.start(block=False)
    watcher.start(block=False)

    assert watcher.is_running
    watcher.stop()
