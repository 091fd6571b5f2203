"""Sources behind HTTP: a scripted server for what goes wrong, Pilothouse and Vault as they are."""

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pilothouse.reload import (
    BadConfig,
    ConfigManager,
    PilothouseConfigSource,
    RemoteConfigSource,
    SourceUnavailable,
    StartFailed,
    VaultConfigSource,
)
from sdk.tests.reload.waiting import Heard, until
from sdk.tests.scripted import (
    ReceivedRequest,
    Reply,
    ScriptedServer,
    configuration,
    html,
    of_json,
    problem,
    unless_known,
)
from tests.servers.service import ServiceProcess
from tests.servers.vault import VaultServer, start_vault

NOBODY = "http://127.0.0.1:9/config"


@pytest.fixture
def backup() -> Iterator[ScriptedServer]:
    with ScriptedServer() as server:
        yield server


def with_tag(value: Any, tag: str) -> Callable[[ReceivedRequest], Reply]:
    def answer(request: ReceivedRequest) -> Reply:
        if request.headers.get("if-none-match") == tag:
            return Reply(304)
        return of_json(value, ETag=tag)

    return answer


def remote(*servers: ScriptedServer | str, **options: Any) -> RemoteConfigSource:
    urls = [one if isinstance(one, str) else f"{one.url}/config" for one in servers]
    return RemoteConfigSource(urls[0], backups=urls[1:], **{"timeout": 2.0, **options})


async def test_a_document_is_fetched_with_headers_and_asked_for_again_by_its_tag(
    scripted_server: ScriptedServer,
) -> None:
    scripted_server.answers["/config"] = with_tag({"a": 1}, '"1"')
    source = remote(scripted_server, headers={"X-Key": "k"})

    assert await source.load_config() == {"a": 1}
    assert not await source.is_modified()
    scripted_server.answers["/config"] = with_tag({"a": 2}, '"2"')
    assert await source.is_modified()
    await source.close()

    assert [request.headers["x-key"] for request in scripted_server.requests] == ["k"] * 3
    assert scripted_server.requests[1].headers["if-none-match"] == '"1"'


async def test_yaml_is_read_by_its_type(scripted_server: ScriptedServer) -> None:
    scripted_server.answers["/config"] = lambda _: Reply(
        200, b"a: {b: 1}\n", "application/yaml; charset=utf-8"
    )
    source = remote(scripted_server)

    assert await source.load_config() == {"a": {"b": 1}}
    assert not await source.is_modified()  # without a tag, by its content
    await source.close()


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        ("text/plain; charset=utf-8", "/raw/app.yaml"),
        ("application/octet-stream", "/raw/app.YML"),
        ("binary/octet-stream", "/raw/app.yaml"),
        ("text/x-yaml", "/raw/app"),
        ("application/vnd.yaml", "/raw/app"),
        ("application/vnd.acme+yaml", "/raw/app"),
    ],
)
async def test_yaml_is_read_by_the_url_where_the_type_says_nothing(
    scripted_server: ScriptedServer, kind: str, path: str
) -> None:
    scripted_server.answers[path] = lambda _: Reply(200, b"a: {b: 1}\n", kind)
    source = remote(f"{scripted_server.url}{path}?ref=main.json")

    assert await source.load_config() == {"a": {"b": 1}}
    assert not await source.is_modified()
    await source.close()


async def test_json_is_read_by_the_url_and_with_a_byte_order_mark(
    scripted_server: ScriptedServer,
) -> None:
    scripted_server.answers["/app.json"] = lambda _: Reply(
        200, b'\xef\xbb\xbf{"a": 1}', "text/plain"
    )
    source = remote(f"{scripted_server.url}/app.json")

    assert await source.load_config() == {"a": 1}
    await source.close()


async def test_the_last_slash_and_the_query_of_a_url_are_sent(
    scripted_server: ScriptedServer,
) -> None:
    scripted_server.answers["/config/"] = lambda request: of_json(dict(request.query))
    source = remote(f"{scripted_server.url}/config/?env=prod&empty=")

    assert await source.load_config() == {"env": "prod"}
    await source.close()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_followed(scripted_server: ScriptedServer, status: int) -> None:
    scripted_server.answers["/config"] = lambda _: Reply(status, headers={"Location": "/moved"})
    scripted_server.answers["/moved"] = with_tag({"a": 1}, '"1"')
    source = remote(scripted_server, headers={"X-Key": "k"})

    assert await source.load_config() == {"a": 1}
    assert not await source.is_modified()
    assert scripted_server.requests[1].headers["x-key"] == "k"
    await source.close()


async def test_a_redirect_to_another_origin_takes_no_headers_along(
    scripted_server: ScriptedServer, backup: ScriptedServer
) -> None:
    to = {"Location": f"{backup.url}/config"}
    scripted_server.answers["/config"] = lambda _: Reply(302, headers=to)
    backup.answers["/config"] = lambda _: of_json({"a": 1})
    source = remote(
        scripted_server, headers={"PRIVATE-TOKEN": "sesame", "Authorization": "Basic x"}
    )

    assert await source.load_config() == {"a": 1}
    assert "sesame" not in str(backup.requests)
    assert "authorization" not in backup.requests[0].headers
    await source.close()


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (html(), "text/html"),
        (html(502), "502"),
        (of_json([1]), "holds a list"),
        (Reply(200, b'{"a": 1, "a": 2}'), "occurs twice"),
        (Reply(200, b'{"a": '), "not JSON"),
        (Reply(200, b""), "is empty"),
        (Reply(301, b"", headers={"Location": "/config"}), "301"),
        (Reply(302, b"", headers={"Location": "/else"}), "404"),
        (Reply(302, b"", headers={"Location": "file:///etc/passwd"}), "redirect"),
        (Reply(200, b"{}", "text/plain"), "does not end in"),
        (html(404), "404"),
        (html(401), "401"),
    ],
)
async def test_anything_but_a_mapping_keeps_the_last_good_part(
    scripted_server: ScriptedServer, reply: Reply, reason: str
) -> None:
    scripted_server.answers["/config"] = lambda _: of_json({"a": 1})
    manager = ConfigManager()
    manager.add_source(remote(scripted_server, name="r"))
    async with manager:
        scripted_server.answers["/config"] = lambda _: reply
        result = await manager.reload()

        assert not result.succeeded
        assert reason in result.errors[0]
        assert manager.get_config("a") == 1


async def test_a_backup_takes_over_and_the_primary_takes_back(
    scripted_server: ScriptedServer, backup: ScriptedServer
) -> None:
    scripted_server.answers["/config"] = with_tag({"from": "primary"}, '"p"')
    backup.answers["/config"] = with_tag({"from": "backup"}, '"b"')
    manager, heard = ConfigManager(), Heard()
    manager.add_source(remote(scripted_server, backup, poll_seconds=0.01, pause=0.02))
    manager.subscribe(heard)
    async with manager:
        assert backup.requests == []
        scripted_server.answers["/config"] = lambda _: html(503)
        await heard.until(lambda: manager.get_config("from") == "backup")
        assert manager.health().is_healthy
        scripted_server.answers["/config"] = with_tag({"from": "primary"}, '"p"')
        await heard.until(lambda: manager.get_config("from") == "primary")


async def test_a_breaker_spares_a_server_that_fails(scripted_server: ScriptedServer) -> None:
    scripted_server.answers["/config"] = lambda _: html(503)
    source = remote(scripted_server, failures=2, pause=60)

    for _ in range(5):
        with pytest.raises(SourceUnavailable) as refused:
            await source.load_config()
    await source.close()

    assert len(scripted_server.requests) == 2
    assert "not requested for now" in str(refused.value)


async def test_every_server_that_failed_is_named_without_what_is_secret_in_its_url() -> None:
    source = remote("http://127.0.0.1:9/a?key=hunter2", NOBODY)

    with pytest.raises(SourceUnavailable) as refused:
        await source.load_config()
    await source.close()

    said = str(refused.value)
    assert "http://127.0.0.1:9/a" in said
    assert NOBODY in said
    assert "hunter2" not in said + source.name


async def test_a_source_that_comes_back_unchanged_is_healthy_again(
    scripted_server: ScriptedServer,
) -> None:
    scripted_server.answers["/config"] = with_tag({"a": 1}, '"1"')
    manager, heard = ConfigManager(), Heard()
    manager.add_source(remote(scripted_server, poll_seconds=0.01, pause=0.01, name="r"))
    manager.subscribe(heard)
    async with manager:
        scripted_server.answers["/config"] = lambda _: html(503)
        await until(lambda: not manager.health().is_healthy)
        scripted_server.answers["/config"] = with_tag({"a": 1}, '"1"')
        await until(lambda: manager.health().is_healthy)
    assert heard.changes == []


async def test_connections_survive_a_change_of_loops(scripted_server: ScriptedServer) -> None:
    scripted_server.answers["/config"] = lambda _: of_json({"a": len(scripted_server.requests)})
    manager = ConfigManager()
    manager.add_source(remote(scripted_server, poll_seconds=None))

    def script() -> list[int]:
        values = []
        for _ in range(2):
            with manager:
                values.append(manager.get_config("a"))
                manager.reload_sync()
            manager.reload_sync()
        return [*values, manager.get_config("a")]

    assert await asyncio.to_thread(script) == [1, 4, 6]


async def test_a_service_is_followed(service: ServiceProcess) -> None:
    url = "/api/v1/config?environment=production&service_name=followed"
    change = {"set": {"a": {"b": 1}, "key": {"$secret": {"value": "s"}}}}
    service.request("PATCH", url, change)
    manager, heard = ConfigManager(), Heard()
    source = PilothouseConfigSource(service.url, "followed", "production", name="plain")
    manager.add_source(source)
    manager.add_source(
        PilothouseConfigSource(service.url, "followed", "production", reveal=True, priority=1)
    )
    manager.subscribe(heard)
    async with manager:
        assert manager.get_section() == {"a": {"b": 1}, "key": "s"}
        assert await source.load_config() == {"a": {"b": 1}}
        service.request("PATCH", url, {"set": {"a.b": 2}})
        await heard.until(lambda: manager.get_config("a.b") == 2)
        await source.save_config({"a": {"b": 3}})
        await heard.until(lambda: manager.get_section() == {"a": {"b": 3}})
    new = PilothouseConfigSource(service.url, "brand-new", "production")
    await new.save_config({"x": 1})
    assert await new.load_config() == {"x": 1}
    await new.close()


async def test_a_service_is_followed_by_its_event_stream(scripted_server: ScriptedServer) -> None:
    line = scripted_server.line()
    line.say("id: 1\n\n")
    scripted_server.answers["/api/v1/effective"] = unless_known(configuration({"a": 1}, 1))
    manager, heard = ConfigManager(), Heard()
    manager.add_source(PilothouseConfigSource(scripted_server.url, "orders", retry_seconds=0.02))
    manager.subscribe(heard)
    async with manager:
        await until(lambda: scripted_server.count("/api/v1/effective") >= 3)  # the stream is open
        scripted_server.answers["/api/v1/effective"] = unless_known(configuration({"a": 2}, 2))
        line.say('id: 2\nevent: config.changed\ndata: {"kind":"config","name":"orders"}\n\n')
        await heard.until(lambda: manager.get_config("a") == 2)

    loads = [
        request.query
        for request in scripted_server.requests
        if "if-none-match" not in request.headers
    ]
    assert loads[-1]["min_revision"] == "2"  # of the replica that answers the load


async def test_a_load_that_fails_after_a_change_is_tried_again(
    scripted_server: ScriptedServer,
) -> None:
    line = scripted_server.line()
    line.say("id: 1\n\n")
    scripted_server.answers["/api/v1/effective"] = unless_known(configuration({"a": 1}, 1))
    manager, heard = ConfigManager(), Heard()
    manager.add_source(PilothouseConfigSource(scripted_server.url, "orders", retry_seconds=0.02))
    manager.subscribe(heard)
    failures = 0

    def behind(request: ReceivedRequest) -> Reply:
        nonlocal failures
        if "if-none-match" not in request.headers and failures < 2:
            failures += 1
            return problem(503, "revision_not_reached")
        return unless_known(configuration({"a": 2}, 2))(request)

    async with manager:
        await until(lambda: scripted_server.count("/api/v1/effective") >= 3)
        scripted_server.answers["/api/v1/effective"] = behind
        line.say('id: 2\nevent: config.changed\ndata: {"kind":"config","name":"orders"}\n\n')
        await heard.until(lambda: manager.get_config("a") == 2)
        assert manager.health().is_healthy

    assert failures == 2


async def test_a_service_that_was_unavailable_is_read_again(
    scripted_server: ScriptedServer,
) -> None:
    scripted_server.answers["/api/v1/effective"] = unless_known(configuration({"a": 1}, 1))
    manager = ConfigManager()
    manager.add_source(PilothouseConfigSource(scripted_server.url, "orders", retry_seconds=0.02))
    async with manager:
        scripted_server.answers["/api/v1/effective"] = lambda _: html(503)
        await until(lambda: not manager.health().is_healthy)
        scripted_server.answers["/api/v1/effective"] = unless_known(configuration({"a": 1}, 1))
        await until(lambda: manager.health().is_healthy)


async def test_what_is_not_the_service_is_refused(scripted_server: ScriptedServer) -> None:
    source = PilothouseConfigSource(scripted_server.url, "s")
    for reply in (Reply(200, b"[]"), of_json({"data": 1}), Reply(200, b"{")):
        scripted_server.answers["/api/v1/effective"] = lambda _, reply=reply: reply  # type: ignore[misc]
        with pytest.raises(BadConfig):
            await source.load_config()
    scripted_server.answers["/api/v1/effective"] = lambda _: html()
    with pytest.raises(BadConfig, match="not JSON"):
        await source.load_config()
    await source.close()


@pytest.fixture(scope="module")
def vault() -> Iterator[VaultServer]:
    server = start_vault()
    yield server
    server.close()


@pytest.mark.servers
async def test_a_secret_of_vault_is_read_written_and_followed(vault: VaultServer) -> None:
    path = f"{vault.fresh_prefix()}/app"
    source = VaultConfigSource(
        vault.address, path, lambda: vault.root_token, poll_seconds=0.02, name="v"
    )
    with pytest.raises(SourceUnavailable, match="not found"):
        await source.load_config()
    await source.save_config({"db": {"password": "one"}})
    manager, heard = ConfigManager(), Heard()
    manager.add_source(source)
    manager.subscribe(heard)
    async with manager:
        assert manager.get_config("db.password") == "one"
        vault.api("POST", f"secret/data/{path}", {"data": {"db": {"password": "two"}}})
        await heard.until(lambda: manager.get_config("db.password") == "two")
        await source.save_config({"db": {"password": "three"}})
        await heard.until(lambda: manager.get_config("db.password") == "three")
    assert await source.load_config() == {"db": {"password": "three"}}
    vault.api("POST", f"secret/data/{path}", {"data": {}})
    with pytest.raises(SourceUnavailable, match="400"):
        await source.save_config({"overwritten": True})
    await source.close()


@pytest.mark.servers
async def test_a_wrong_token_of_vault_is_told(vault: VaultServer) -> None:
    manager = ConfigManager()
    manager.add_source(VaultConfigSource(vault.address, "app", "wrong"))
    with pytest.raises(StartFailed, match="403"):
        await manager.start()


def test_only_plain_paths_lead_into_vault() -> None:
    for path in ("../sys", "a//b", "", "a/./b"):
        with pytest.raises(ValueError, match="names with single slashes"):
            VaultConfigSource("http://127.0.0.1:8200", path, None)


async def test_what_is_no_engine_of_version_two_is_refused(scripted_server: ScriptedServer) -> None:
    source = VaultConfigSource(scripted_server.url, "a", "t", namespace="n")
    for body in (b"[]", b'{"data": {"data": 1, "metadata": {}}}', b'{"data": {"a": 1}}', b"{"):
        scripted_server.answers["/v1/secret/data/a"] = lambda _, body=body: Reply(200, body)  # type: ignore[misc]
        with pytest.raises(BadConfig):
            await source.load_config()
    await source.close()
    assert json.dumps(scripted_server.requests[0].headers).count('"n"') == 1
