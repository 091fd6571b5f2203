"""A client that judges what it reads by the schemas of the service."""

import asyncio
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pilothouse import AsyncPilothouse, ConfigChange, Pilothouse, RefreshPolicy
from pilothouse.errors import SchemaNotMet
from pilothouse.testing import FakePilothouse
from sdk.tests.scripted import (
    ReceivedRequest,
    Reply,
    ScriptedServer,
    configuration,
    of_json,
    problem,
    unless_known,
)
from tests.servers.process import wait_until

SCHEMAS, EFFECTIVE = "/api/v1/schemas/for", "/api/v1/effective"
PLANTED = "planted-value-7f3a"
MAXIMUM: dict[str, Any] = {
    "properties": {"pool": {"type": "integer", "maximum": 50}, "password": {"minLength": 3}}
}
RULE = {"id": "order", "rule": "config.min <= config.max", "message": "min above max"}
ORDER: dict[str, Any] = {"properties": {"min": {"default": 1}}, "x-rules": [RULE]}
PACE = RefreshPolicy("polling", poll_interval=0.05, backoff=0.01, longest_backoff=0.05)


def item(schema: Any, **members: Any) -> dict[str, Any]:
    return {
        "name": "billing",
        "version": 3,
        "mode": "enforce",
        "at": "",
        "schema": schema,
    } | members


class Service:
    """A service with one configuration and its schemas."""

    def __init__(self, server: ScriptedServer) -> None:
        self.server = server
        self.serve({"pool": 10})
        self.apply(item(MAXIMUM))

    def serve(self, data: dict[str, Any], revision: int = 1) -> None:
        self.server.answers[EFFECTIVE] = lambda _: configuration(data, revision)

    def apply(self, *items: dict[str, Any]) -> None:
        tag = json.dumps([each["version"] for each in items])

        def answer(request: ReceivedRequest) -> Reply:
            if request.headers.get("if-none-match") == f'"{tag}"':
                return Reply(304, headers={"ETag": f'"{tag}"'})
            return of_json({"items": items, "revision": 1}, ETag=f'"{tag}"')

        self.server.answers[SCHEMAS] = answer

    def client(self, **arguments: Any) -> Pilothouse:
        return Pilothouse(self.server.url, "orders", "production", pace=PACE, **arguments)


@pytest.fixture
def service() -> Iterator[Service]:
    with ScriptedServer() as server:
        yield Service(server)


def test_a_configuration_that_meets_its_schemas_is_held(service: Service) -> None:
    with service.client(schemas=True) as client:
        assert client.config.get("pool") == 10
        assert client.last_error is None
        assert service.server.requests[0].path in {EFFECTIVE, "/api/v1/flag-set"}
        [request, *_] = [each for each in service.server.requests if each.path == SCHEMAS]
        assert request.query == {"environment": "production", "service_name": "orders"}


def test_nobody_who_does_not_ask_judges(service: Service) -> None:
    service.serve({"pool": 70})

    with service.client() as client:
        assert client.config.get("pool") == 70
    assert service.server.count(SCHEMAS) == 0


def test_an_enforced_schema_keeps_the_last_good_configuration(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    with service.client(schemas=True) as client:
        service.serve({"pool": PLANTED}, 2)
        wait_until(lambda: client.last_error is not None, "the client has judged it")

        error = client.last_error
        assert isinstance(error, SchemaNotMet)
        assert str(error) == "refused by a schema: pool is not of type integer (schema billing)"
        assert error.facts["errors"][0]["schema_pointer"] == "/properties/pool/type"
        assert client.config.get("pool") == 10
        assert PLANTED not in caplog.text + repr(error.facts)

        service.serve({"pool": 20}, 3)
        wait_until(lambda: client.config.get("pool") == 20, "the client has judged it")
        assert client.last_error is None


def test_at_the_start_the_defaults_stay(service: Service) -> None:
    service.serve({"pool": 70})

    with service.client(schemas=True, defaults={"pool": 1}) as client:
        assert client.config.get("pool") == 1
        assert client.config.source == "defaults"
        assert isinstance(client.last_error, SchemaNotMet)


def test_a_schema_that_warns_is_logged_once(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    service.apply(item(MAXIMUM, mode="warn"))
    service.serve({"pool": 70})

    with service.client(schemas=True) as client:
        service.serve({"pool": 80}, 2)
        wait_until(lambda: client.config.get("pool") == 80, "the client has judged it")

    warnings = [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]
    assert warnings == ["a schema is not met: pool is above 50 (schema billing)"]


def test_new_schemas_judge_the_next_configuration(service: Service) -> None:
    with service.client(schemas=True) as client:
        service.apply(item({"properties": {"pool": {"maximum": 5}}}, version=4))
        service.serve({"pool": 11}, 2)
        wait_until(lambda: client.last_error is not None, "the client has judged it")
        assert client.config.get("pool") == 10

        service.apply(item({}, version=5))
        wait_until(lambda: client.config.get("pool") == 11, "the client has judged it")


def test_new_schemas_judge_an_unchanged_configuration_without_a_stream(service: Service) -> None:
    service.server.answers[EFFECTIVE] = unless_known(configuration({"pool": 10}))

    with service.client(schemas=True) as client:
        service.apply(item({"properties": {"pool": {"maximum": 5}}}, version=4))
        wait_until(lambda: isinstance(client.last_error, SchemaNotMet), "it is judged again")
        assert (client.config.get("pool"), client.config.source) == (10, "service")

        service.apply(item(MAXIMUM, version=5))
        wait_until(lambda: client.last_error is None, "it is judged again")


def test_a_schema_below_a_key_judges_a_plugin(service: Service) -> None:
    service.apply(item(MAXIMUM, at="plugins.audio"))
    service.serve({"pool": 70, "plugins": {"audio": {"pool": 51}}})

    with service.client(schemas=True) as client:
        assert str(client.last_error).startswith("refused by a schema: plugins.audio.pool is above")


def test_masked_secrets_count_as_present(service: Service) -> None:
    service.apply(item({"required": ["password"], **MAXIMUM}))
    service.serve({"password": {"$secret": "masked"}})

    with service.client(schemas=True) as client:
        assert client.last_error is None
        assert client.config.source == "service"


def test_rules_are_judged_with_defaults(service: Service) -> None:
    service.apply(item(ORDER))
    service.serve({"max": 0})

    with service.client(schemas=True) as client:
        assert str(client.last_error) == (
            "refused by a schema: the configuration breaks the rule order: min above max "
            "(schema billing)"
        )


def test_without_the_extra_rules_are_warned_of_once(
    service: Service, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cel_expr_python", None)
    service.apply(item(ORDER))
    service.serve({"max": 0})

    with service.client(schemas=True) as client:
        service.serve({"max": -1}, 2)
        wait_until(lambda: client.config.get("max") == -1, "the client has judged it")

    warnings = [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]
    assert warnings == [
        "rules between fields are not judged without pip install 'pilothouse-client[rules]'"
    ]


def test_without_the_extra_schema_the_client_does_not_start() -> None:
    program = (
        "import sys; sys.modules['jsonschema_rs'] = None\n"
        "from pilothouse import Pilothouse\n"
        "try:\n    Pilothouse('http://127.0.0.1:1', 'a', offline=True, schemas=True)\n"
        "except ImportError as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert done.stdout == "schemas need jsonschema-rs: pip install 'pilothouse-client[schema]'\n"


def test_a_service_without_schemas_has_none(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    del service.server.answers[SCHEMAS]

    with service.client(schemas=True) as client:
        assert client.config.get("pool") == 10
    assert "the service has no schemas" in caplog.text


def test_nothing_is_held_that_was_not_judged(service: Service) -> None:
    service.server.answers[SCHEMAS] = lambda _: problem(503, "definitions_unavailable")

    with service.client(schemas=True, start_timeout=0.2) as client:
        assert client.config.source == "defaults"
        assert client.last_error is not None
        assert client.last_error.code == "definitions_unavailable"

        service.apply()
        wait_until(lambda: client.config.get("pool") == 10, "the client has judged it")


def test_a_schema_that_this_client_cannot_read_is_passed_over(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    service.apply(item({"$schema": "https://json-schema.org/draft/2030-12/schema"}), item(MAXIMUM))
    service.serve({"pool": 70})

    with service.client(schemas=True) as client:
        assert isinstance(client.last_error, SchemaNotMet)
    assert "the schema billing is not judged: at '/$schema'" in caplog.text


def test_the_snapshot_is_the_last_configuration_that_was_judged(
    service: Service, tmp_path: Path
) -> None:
    with service.client(schemas=True, snapshot=tmp_path / "s") as client:
        assert client.config.get("pool") == 10
    service.serve({"pool": 70}, 2)

    with service.client(schemas=True, snapshot=tmp_path / "s") as client:
        wait_until(lambda: isinstance(client.last_error, SchemaNotMet), "the client has judged it")
        assert (client.config.get("pool"), client.config.source) == (10, "snapshot")


async def test_the_asynchronous_client_judges_too(service: Service) -> None:
    client = AsyncPilothouse(service.server.url, "orders", pace=PACE, schemas=True)
    async with client:
        service.serve({"pool": 70}, 2)
        with pytest.raises(SchemaNotMet):
            await client.refresh()
        assert client.config.get("pool") == 10


# The namespace of a plugin


def test_a_plugin_hears_of_its_own_keys_only() -> None:
    fake = FakePilothouse({"plugins": {"audio": {"volume": 3}, "audiobook": {"volume": 3}}})
    heard: list[ConfigChange] = []
    end = fake.config.on_change("plugins.audio", heard.append)

    fake.set("plugins.audiobook.volume", 4)
    fake.set("plugins.video.volume", 4)
    fake.set("volume", 4)
    assert heard == []

    fake.set("plugins.audio.volume", 4)
    fake.set("plugins.audio[my.device].gain", 1)
    fake.unset("plugins.audio")
    assert [change.path for change in heard] == [
        "plugins.audio.volume",
        "plugins.audio[my.device].gain",
        "plugins.audio.volume",
        "plugins.audio[my.device].gain",
    ]

    end()
    fake.set("plugins.audio.volume", 5)
    assert len(heard) == 4


def test_a_plugin_hears_when_a_value_takes_the_place_of_its_section() -> None:
    fake = FakePilothouse({"plugins": {"audio": {"volume": 3}}})
    heard: list[ConfigChange] = []
    fake.on_change("plugins.audio", heard.append)

    fake.replace({"plugins": {"audio": "off"}})

    assert [(each.path, each.new_value) for each in heard] == [
        ("plugins.audio", "off"),
        ("plugins.audio.volume", None),
    ]


async def test_a_plugin_of_the_asynchronous_client_may_await(service: Service) -> None:
    heard: asyncio.Queue[str] = asyncio.Queue()

    async def callback(change: ConfigChange) -> None:
        await heard.put(change.path)

    service.serve({"plugins": {"audio": {"volume": 1}, "video": 1}})
    async with AsyncPilothouse(service.server.url, "orders", pace=PACE) as client:
        client.config.on_change("plugins.audio", callback)
        client.on_change("plugins[audio]", callback)
        service.serve({"plugins": {"audio": {"volume": 2}, "video": 2}}, 2)
        await client.refresh()

        assert [await asyncio.wait_for(heard.get(), 30) for _ in range(2)] == [
            "plugins.audio.volume",
            "plugins.audio.volume",
        ]
        assert heard.empty()
