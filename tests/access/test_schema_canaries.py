"""Values at places that are secret by a schema, sent plainly in every way, are seen by no one."""

import random
import string
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any

import pytest

from tests.access.canaries import secrets_in
from tests.access.test_canaries import ADMIN, REQUIRED, Birds
from tests.faults.stage import RealBackend
from tests.faults.topic import Topic
from tests.servers.kafka import KafkaServer
from tests.servers.postgres import PostgresServer
from tests.servers.process import wait_until
from tests.servers.redis import RedisServer
from tests.servers.service import ServiceProcess
from tests.servers.vault import VaultServer

VALUES = 1000
_LONGEST = 40  # of a password; a longer one breaks the schema
_SECRET = {"type": "string", "secret": True}
SCHEMA = {
    "properties": {
        "db": {"properties": {"password": {**_SECRET, "maxLength": _LONGEST}}},
        "users": {"type": "array", "items": {"properties": {"key": {"writeOnly": True}}}},
        "either": {"anyOf": [_SECRET, {"type": "null"}]},
        "lists": {"items": {"items": {"properties": {"pin": _SECRET}}}},
    },
    "patternProperties": {"^token_": _SECRET},
}
LAYERS = (
    {"environment": "default", "service_name": "_shared"},
    {"environment": "default", "service_name": "shop"},
    {"environment": "staging", "service_name": "_shared"},
    {"environment": "staging", "service_name": "shop"},
    {"environment": "staging", "service_name": "shop", "user": "ana"},
)
_CONTROL = "a-comment-that-may-be-seen-everywhere"


class Plant:
    """Sends values that all begin with one mark, which is what is looked for."""

    def __init__(self, birds: Birds, mark: str) -> None:
        self.birds = birds
        self.mark = mark
        self._numbers = count()
        self.sent = 0

    def value(self) -> str:
        self.sent = next(self._numbers) + 1
        return f"{self.mark}{self.sent:06}"

    def tree(self) -> dict[str, Any]:
        """Ten values, one at each kind of place at least."""
        return {
            "db": {"password": self.value()},
            "users": [{"key": self.value(), "name": "ana"}, {"key": self.value()}],
            "either": self.value(),
            "lists": [[{"pin": self.value()}, {"pin": self.value()}]],
            **{f"token_{letter}": self.value() for letter in "abcd"},
            "port": self.sent,
        }

    def ask(self, method: str, path: str, body: Any = None, status: int | None = None) -> Any:
        answer = self.birds.ask(ADMIN, method, path, body)
        assert answer is not None
        assert status is None or answer.status == status, answer.body
        return answer.json() if answer.body[:1] in {b"{", b"["} else None


def _where(layer: dict[str, str]) -> str:
    return "&".join(f"{name}={value}" for name, value in layer.items())


def put_schemas(plant: Plant) -> None:
    applies_to = [{"environments": ["*", "default"], "services": ["*", "_shared"]}]
    plant.ask("PUT", "/api/v1/schemas/secrets", {"schema": SCHEMA, "applies_to": applies_to}, 201)
    template = {
        "data": {"db": {"password": {"$param": "password"}}},
        "parameters": {"type": "object", "properties": {"password": {"type": "string"}}},
    }
    plant.ask("PUT", "/api/v1/templates/bird", template, 201)


def write_everywhere(plant: Plant) -> None:
    """Send a thousand values in all ways there are, some of which are refused."""
    for turn in count():
        if plant.sent >= VALUES:
            return
        layer = LAYERS[turn % len(LAYERS)]
        where = _where(layer)
        patch = f"/api/v1/config?{where}"
        plant.ask("PATCH", patch, {"set": plant.tree(), "comment": _CONTROL}, 200)
        plant.ask("PATCH", f"{patch}&dry_run=true", {"set": plant.tree()}, 200)
        plant.ask("PUT", f"/api/v1/config/db.password?{where}", {"value": plant.value()}, 200)
        new = {"key": f"token_{turn}", "value": plant.value(), **layer}
        plant.ask("POST", "/api/v1/config", new, 201)
        document = f"/api/configs/bird{turn}?environment={layer['environment']}"
        plant.ask("POST", document, {"config_data": plant.tree()}, 201)
        plant.ask("POST", f"/api/v1/import?{where}&format=json", plant.tree(), 200)
        plant.ask("POST", f"/api/v1/import?{where}&format=json&dry_run=true", plant.tree(), 200)
        plant.ask("POST", f"/api/v1/config/db.password/rollback?{where}", {"version": 1})
        plant.ask("POST", "/api/v1/validate", {"changes": [{**layer, "set": plant.tree()}]}, 200)
        too_long = {"set": {"db.password": plant.value() + "x" * _LONGEST}}
        plant.ask("PATCH", patch, too_long, 422)
        for way in ("users", "lists", "either"):
            plant.ask("PATCH", patch, {"set": {way: {"key": plant.value()}}})
        used = {"parameters": {"password": plant.value()}, **LAYERS[3]}
        plant.ask("POST", "/api/v1/templates/bird/use", used, 422)
        copied = {"from": layer, "to": {"environment": "prod", "service_name": f"copy{turn}"}}
        plant.ask("POST", "/api/v1/copy", copied)


def write_where_it_is_refused(plant: Plant) -> None:
    strict = {"schema": SCHEMA, "plain_secret": "refuse"}
    plant.ask("PUT", "/api/v1/schemas/strict", strict, 201)
    place = "environment=staging&service_name=strict"
    plant.ask("PATCH", f"/api/v1/config?{place}", {"set": plant.tree()}, 422)
    plant.ask("POST", "/api/configs/strict?environment=staging", {"config_data": plant.tree()}, 422)


def read_everything(plant: Plant) -> None:
    for layer in LAYERS:
        where = _where(layer)
        for path in ("effective", "config", "config/db.password", "config/users", "changes"):
            plant.ask("GET", f"/api/v1/{path}?{where}")
        plant.ask("GET", f"/api/v1/config/db.password/history?{where}")
        plant.ask("GET", f"/api/v1/violations?{where}")
        for form in ("json", "yaml", "properties", "dotenv"):
            plant.ask("GET", f"/api/v1/export?{where}&format={form}")
    for path in ("/metrics", "/api/v1/audit", "/api/v1/schemas/secrets", "/api/v1/stats"):
        plant.ask("GET", path)


@pytest.mark.slow
def test_values_that_are_secret_by_a_schema_are_sealed_whichever_way_they_come(
    vault_server: VaultServer,
    postgres_server: PostgresServer,
    redis_server: RedisServer,
    kafka_server: KafkaServer,
) -> None:
    stored = RealBackend(
        vault_server, vault_server.fresh_prefix(), postgres_server.fresh_database()
    )
    topic = Topic(kafka_server.bootstrap, kafka_server.fresh_topic())
    prefix = redis_server.fresh_prefix()
    settings = {
        **REQUIRED,
        **stored.environment,
        **topic.environment,
        **redis_server.settings,
        "REDIS_PREFIX": prefix,
    }
    chance = random.SystemRandom()
    mark = "".join(chance.choices(string.ascii_letters + string.digits, k=20))
    with ServiceProcess(settings) as service:
        plant = Plant(Birds(service, [mark]), mark)
        put_schemas(plant)
        write_everywhere(plant)
        write_where_it_is_refused(plant)
        read_everything(plant)
        wait_until(lambda: stored.unsent() == 0, "every event is sent", 20)

        places = [
            *plant.birds.seen,
            ("the log", service.log().encode()),
            *(("Kafka", record) for record in topic.contents()),
            *(("Redis", entry) for entry in redis_server.contents(prefix)),
            *_stored_versions(stored),
            *_database(stored),
        ]
        assert plant.sent >= VALUES
        assert {"Kafka", "Redis", "Vault", "the WAL"} <= {place for place, _ in places}
        assert any(_CONTROL.encode() in text for place, text in places if place == "the WAL")
        assert secrets_in([mark], places) == []
        assert _audit_page(service).count(mark) > len(LAYERS)


def _stored_versions(backend: RealBackend) -> Iterator[tuple[str, bytes]]:
    for doc, newest in backend.fetch(
        "SELECT doc, logged_version FROM documents WHERE kind = 'config'"
    ):
        for version in range(1, newest + 1):
            yield "Vault", (backend.text(doc, version) or "").encode()


def _database(backend: RealBackend) -> Iterator[tuple[str, bytes]]:
    for (table,) in backend.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'"):
        rows: Sequence[Any] = backend.fetch(f"SELECT t::text FROM {table} t")
        yield f"the table {table}", "\n".join(row[0] for row in rows).encode()
    wal = "SELECT name FROM pg_ls_waldir() WHERE name ~ '^[0-9A-F]{24}$'"
    for (name,) in backend.fetch(wal):
        [(text,)] = backend.fetch(
            f"SELECT pg_read_binary_file('pg_wal/{name}', 0, 100000000, true)"
        )
        yield "the WAL", bytes(text or b"")


def _audit_page(service: ServiceProcess) -> str:
    headers = {"Authorization": f"Bearer {ADMIN}"}
    way = "/api/v1/effective?environment=staging&service_name=shop&user=ana&reveal=true"
    return service.request("GET", way, headers=headers).body.decode()
