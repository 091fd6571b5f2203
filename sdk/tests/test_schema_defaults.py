"""A client that reads the defaults of schemas and follows their changes, with the real service."""

import itertools
import logging
from pathlib import Path
from typing import Any

import pytest

from pilothouse import AsyncPilothouse, ConfigChange, Pilothouse, RefreshPolicy
from pilothouse.errors import SchemaNotMet
from sdk.tests.scripted import ScriptedServer, configuration, of_json, unless_known
from tests.servers.process import wait_until
from tests.servers.service import ServiceProcess

_numbers = itertools.count()
EVENTS_ONLY = RefreshPolicy(poll_interval=600, backoff=600, longest_backoff=600)


class Owner:
    """Writes the configuration and the schema of one service.

    Its clients are in an environment that has no document of its own and inherits all. The schema
    applies there only, so that the service judges neither writes nor what exists already.
    """

    def __init__(self, process: ServiceProcess) -> None:
        self._process = process
        self.service = self.environment = f"defaulted-{next(_numbers)}"

    def set(self, key: str, value: Any) -> None:
        path = f"/api/v1/config?service_name={self.service}"
        self._request("PATCH", path, {"set": {key: value}})

    def define(self, **properties: Any) -> None:
        """Replace the schema of the service; `properties` are those of its section `pool`."""
        self.define_schema({"properties": {"pool": {"properties": properties}}})

    def define_schema(self, schema: Any) -> None:
        applies_to = [{"environments": [self.environment], "services": [self.service]}]
        body = {"schema": schema, "applies_to": applies_to}
        self._request("PUT", f"/api/v1/schemas/{self.service}", body)

    def open(self, **arguments: Any) -> Pilothouse:
        return Pilothouse(self._process.url, self.service, self.environment, **arguments)

    def open_async(self, **arguments: Any) -> AsyncPilothouse:
        return AsyncPilothouse(self._process.url, self.service, self.environment, **arguments)

    def _request(self, method: str, path: str, body: Any) -> None:
        answer = self._process.request(method, path, body)
        assert answer.status < 300, answer.body


@pytest.fixture
def owner(service: ServiceProcess) -> Owner:
    return Owner(service)


def test_defaults_of_schemas_are_between_the_layers_and_the_defaults_of_the_program(
    owner: Owner,
) -> None:
    owner.define(min={"default": 4}, max={"default": 10})
    owner.set("pool.max", 20)
    own = {"pool": {"min": 1, "max": 2, "idle": 3}}

    with owner.open(schema_defaults=True, defaults=own) as client:
        assert client.config.section("pool") == {"min": 4, "max": 20, "idle": 3}
        assert client.config.source == "service"
    with owner.open(defaults=own) as client:
        assert client.config.section("pool") == {"min": 1, "max": 20, "idle": 3}


def test_a_new_default_is_read_when_the_schema_changes(owner: Owner) -> None:
    owner.define(min={"default": 4})
    changes: list[ConfigChange] = []

    with owner.open(schema_defaults=True, pace=EVENTS_ONLY) as client:
        version = client.config.version
        client.on_change("pool", changes.append)
        owner.define(min={"default": 5})
        wait_until(lambda: bool(changes), "the client has read the new default")

        assert [(each.path, each.old_value, each.new_value) for each in changes] == [
            ("pool.min", 4, 5)
        ]
        assert client.config.get("pool.min") == 5
        assert client.config.version != version


def test_revealed_secrets_are_read_together_with_defaults(owner: Owner) -> None:
    owner.define(min={"default": 4}, password={"writeOnly": True})
    owner.set("pool.password", "long enough")

    with owner.open(schema_defaults=True, reveal_secrets=True) as client:
        assert client.config.section("pool") == {"min": 4, "password": "long enough"}
        assert client.last_error is None


def test_a_snapshot_with_defaults_is_refused_by_a_client_without_them(
    owner: Owner, tmp_path: Path
) -> None:
    owner.define(min={"default": 4})
    file = tmp_path / "snapshot"
    with owner.open(schema_defaults=True, snapshot=file):
        pass

    with owner.open(schema_defaults=True, snapshot=file, offline=True) as client:
        assert (client.config.get("pool.min"), client.config.source) == (4, "snapshot")
    with owner.open(snapshot=file, offline=True) as client:
        assert (client.config.get("pool.min"), client.config.source) == (None, "defaults")
        assert "of other options" in str(client.last_error)

    with owner.open(snapshot=file):
        pass
    with owner.open(schema_defaults=True, snapshot=file, offline=True) as client:
        assert client.config.source == "defaults"


async def test_the_asynchronous_client_reads_defaults_too(owner: Owner) -> None:
    owner.define(min={"default": 4})

    async with owner.open_async(schema_defaults=True) as client:
        assert client.config.get("pool.min") == 4
        owner.define(min={"default": 5})
        await client.refresh()
        assert client.config.get("pool.min") == 5


# Schemas that judge


def test_a_default_is_not_judged_as_if_it_was_written(owner: Owner) -> None:
    owner.set("other", 1)
    schema = {
        "properties": {"pool": {"properties": {"min": {"default": 4}}}, "size": {"default": 1}},
        "required": ["size"],
    }
    owner.define_schema(schema)

    with owner.open(schemas=True, schema_defaults=True, defaults={"size": 9}) as client:
        error = client.last_error
        assert isinstance(error, SchemaNotMet)
        assert [each["keyword"] for each in error.facts["errors"]] == ["required"]
        owner.set("size", 2)
        wait_until(lambda: client.last_error is None, "the client has judged what is written")
        assert (client.config.get("size"), client.config.get("pool.min")) == (2, 4)


@pytest.mark.parametrize("schema_defaults", [False, True])
def test_a_new_schema_judges_the_present_configuration_at_once(
    owner: Owner, caplog: pytest.LogCaptureFixture, *, schema_defaults: bool
) -> None:
    owner.set("pool.max", 20)
    owner.define(max={"maximum": 50})

    with owner.open(schemas=True, schema_defaults=schema_defaults, pace=EVENTS_ONLY) as client:
        assert client.last_error is None
        owner.define(max={"maximum": 10})
        wait_until(lambda: client.last_error is not None, "the client has judged it again")

        assert isinstance(client.last_error, SchemaNotMet)
        assert client.config.get("pool.max") == 20
        assert (client.config.source, client.config.is_stale) == ("service", False)
        with pytest.raises(SchemaNotMet):
            client.refresh()

        owner.define(max={"maximum": 30})
        wait_until(lambda: client.last_error is None, "the client has judged it again")

    warnings = [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "pool.max is above 10" in warnings[0]


# Which events a client hears


@pytest.mark.parametrize(
    ("arguments", "kinds"),
    [
        ({}, {"config"}),
        ({"schemas": True}, {"config", "schema"}),
        ({"schema_defaults": True}, {"config", "schema"}),
    ],
)
def test_only_clients_with_schemas_hear_their_events(
    scripted_server: ScriptedServer, arguments: dict[str, Any], kinds: set[str]
) -> None:
    scripted_server.answers["/api/v1/effective"] = unless_known(configuration({"pool": 1}))
    scripted_server.line().say("id: 1\n\n")

    with Pilothouse(scripted_server.url, "orders", flags=False, **arguments):
        wait_until(lambda: scripted_server.count("/api/v1/stream") > 0, "the client listens")
    [request, *_] = [each for each in scripted_server.requests if each.path == "/api/v1/stream"]
    assert set(request.query["kinds"].split(",")) == kinds
    for each in scripted_server.requests:
        if each.path == "/api/v1/effective":
            assert each.query.get("defaults") == (
                "true" if "schema_defaults" in arguments else None
            )


def test_the_schemas_are_at_least_as_new_as_the_event(scripted_server: ScriptedServer) -> None:
    schemas = "/api/v1/schemas/for"
    scripted_server.answers["/api/v1/effective"] = unless_known(configuration({"pool": 1}))
    scripted_server.answers[schemas] = unless_known(of_json({"items": []}, ETag='"none"'))
    line = scripted_server.line()
    line.say("id: 1\n\n")

    with Pilothouse(scripted_server.url, "orders", flags=False, schemas=True, pace=EVENTS_ONLY):
        change = '{"kind": "schema", "name": "some-schema", "environment": "default"}'
        line.say(f"id: 7\nevent: schema.changed\ndata: {change}\n\n")
        wait_until(
            lambda: any(
                each.path == schemas and each.query.get("min_revision") == "7"
                for each in scripted_server.requests
            ),
            "the client has read the schemas of that revision",
        )
