"""Secrets are stored, the whole API is used, servers fail: afterwards nobody else has seen one."""

import base64
import json
import random
import sqlite3
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import NoNodeError

from tests.access.canaries import canaries, forms, secrets_in
from tests.access.matrix import ASKS, CALLERS, PLACES
from tests.faults.stage import RealBackend
from tests.faults.topic import Topic
from tests.servers.answer import Answer
from tests.servers.kafka import KafkaServer
from tests.servers.postgres import PostgresServer
from tests.servers.process import PATIENCE_SECONDS, wait_until
from tests.servers.redis import RedisServer
from tests.servers.service import SERVE, ServiceProcess
from tests.servers.vault import VaultServer
from tests.servers.zookeeper import ZooKeeperServer

ADMIN = "administrator-of-the-canaries-and-of-nothing-else"
REQUIRED = {
    "PILOTHOUSE_ACCESS": "required",
    "PILOTHOUSE_ADMIN_TOKEN": ADMIN,
    "PILOTHOUSE_TOKEN_PEPPER": "pepper-of-the-canaries-and-of-nothing-else",
    "LOG_LEVEL": "debug",
}
_ALL = {"environments": ["*"], "services": ["*"]}
PLACE = "environment=staging&service_name=shop"
_LEAKING = (sys.executable, "-m", "tests.access.leaking")


@dataclass
class Birds:
    """The secrets, and what those have seen who may not see them."""

    service: ServiceProcess
    secrets: Sequence[str]
    seen: list[tuple[str, bytes]] = field(default_factory=list)

    def ask(
        self, token: str, method: str, path: str, body: Any = None, **headers: str
    ) -> Answer | None:
        """Ask, and keep what is answered; None where nothing was."""
        named = {name.replace("_", "-"): text for name, text in headers.items()}
        named["Authorization"] = f"Bearer {token}"
        with suppress(OSError, HTTPException):
            answer = self.service.request(
                method, path, body, headers=named, timeout=PATIENCE_SECONDS
            )
            reply = str(answer.headers).encode() + b"\n" + answer.body
            self.seen.append((f"the answer of {method} {path}", reply))
            return answer
        return None

    def token(self, name: str, wanted: Mapping[str, Any]) -> str:
        headers = {"Authorization": f"Bearer {ADMIN}"}
        body = {"name": name, **wanted}
        answer = self.service.request("POST", "/api/v1/tokens", body, headers=headers)
        assert answer.status == 201, answer.body
        return str(answer.json()["token"])


def store(birds: Birds, token: str) -> None:
    """Write each secret in one of the ways there are, with mistakes in between."""
    for number, secret in enumerate(birds.secrets):
        key = f"bird{number}.password"
        write = {"key": key, "value": secret, "is_encrypted": True, "environment": "staging"}
        write |= {"service_name": "shop"}
        match number % 5:
            case 0:
                birds.ask(token, "POST", "/api/v1/config", write, Idempotency_Key=f"k{number}")
            case 1:
                body = {"set": {key: secret}, "encrypt": [key]}
                birds.ask(token, "PATCH", f"/api/v1/config?{PLACE}", body)
            case 2:
                body = {"config_data": {key: {"$secret": {"value": secret}}}}
                way = f"/api/configs/bird{number}?environment=staging"
                birds.ask(token, "POST", way, body)
            case 3:
                sealed = {"$secret": {"value": secret}}
                in_list = {f"flock{number}": [{"name": "a"}, {"password": sealed}]}
                file = {**(in_list if number % 2 else {key: sealed}), "port": 1}
                birds.ask(token, "POST", f"/api/v1/import?{PLACE}&format=json", file)
            case _:
                birds.ask(token, "POST", "/api/v1/config", {**write, "user": "ana"})
        wrongs = (
            {**write, "ghost": 1},
            {**write, "key": "a..b"},
            {**write, "is_encrypted": "perhaps"},
            {**write, "value": {"$ghost": secret}},
            {**write, "environment": "../staging"},
            {**write, "comment": 7},
            {"key": key},
        )
        for wrong in wrongs if number % 5 == 0 else ():
            birds.ask(token, "POST", "/api/v1/config", wrong)
        if number % 3 == 0:
            birds.ask(token, "PUT", f"/api/v1/config/{key}?{PLACE}", {"value": secret[::-1]})
            birds.ask(token, "POST", f"/api/v1/config/{key}/rollback?{PLACE}", {"version": 1})
            birds.ask(token, "PUT", f"/api/v1/config/{key}?{PLACE}", {"value": secret})
        if number % 7 == 0:
            birds.ask(token, "DELETE", f"/api/v1/config/{key}?{PLACE}")


def look_everywhere(birds: Birds, tokens: Iterable[str]) -> None:
    """Ask every route, and read everything in every form."""
    places = list(PLACES.values())
    for token in tokens:
        for ask in ASKS:
            if "/stream" in ask.route or "tokens" in ask.route:
                continue
            for place in places[:2]:
                body = None if ask.body is None else ask.body(*place)
                headers = {"X_Environment": place[0]} if ask.headers else {}
                birds.ask(token, ask.route.split()[0], ask.path(*place), body, **headers)
        for form in ("json", "yaml", "properties", "dotenv"):
            birds.ask(token, "GET", f"/api/v1/export?{PLACE}&format={form}")
        for media in ("application/json", "application/yaml", "text/x-dotenv"):
            birds.ask(token, "GET", f"/api/v1/effective?{PLACE}&user=ana", Accept=media)
        for number in range(0, len(birds.secrets), 3):
            way = f"/api/v1/config/bird{number}.password"
            birds.ask(token, "GET", f"{way}?{PLACE}")
            birds.ask(token, "GET", f"{way}?{PLACE}&version=1")
            birds.ask(token, "GET", f"{way}/history?{PLACE}")
            birds.ask(token, "GET", f"/api/configs/bird{number}?environment=staging")
        birds.ask(token, "GET", "/api/configs/shop/history?environment=staging")
        birds.ask(token, "GET", "/api/configs/shop/diff?environment=staging")


def reveal(birds: Birds) -> int:
    """Have somebody see them who may, and tell how many they saw: the log hears of it."""
    headers = {"Authorization": f"Bearer {ADMIN}"}
    way = f"/api/v1/effective?{PLACE}&user=ana&reveal=true"
    body = birds.service.request("GET", way, headers=headers).body
    text = json.dumps(json.loads(body), ensure_ascii=False)
    return sum(json.dumps(one, ensure_ascii=False)[1:-1] in text for one in birds.secrets)


def exercise_service(birds: Birds) -> None:
    writer = birds.token("writer", {"class": "operator", "roles": ["editor"], **_ALL})
    store(birds, writer)
    tokens = [
        birds.token(f"t{number}", wanted)
        for number, (name, wanted) in enumerate(CALLERS.items())
        if wanted is not None and name != "revealer" and "of all" not in name
    ]
    look_everywhere(birds, tokens[:3])
    assert reveal(birds) >= len(birds.secrets) // 5
    look_everywhere(birds, [writer])


def test_the_search_finds_every_form() -> None:
    for secret in canaries(1, 10):
        for form in forms(secret):
            assert secrets_in([secret], [("there", b"before" + form + b"after")])
        assert not secrets_in([secret], [("there", secret[::-1].encode())])


def test_base64_is_found_wherever_a_secret_begins_in_it() -> None:
    [secret] = canaries(2, 1)
    for before in range(6):
        text = base64.b64encode(b"x" * before + secret.encode() + b"yz")
        assert secrets_in([secret], [("there", text)]), before


def seed() -> int:
    return random.SystemRandom().randrange(2**32)


def test_nothing_embedded_shows_a_secret() -> None:
    drawn = seed()
    with ServiceProcess(REQUIRED) as service:
        birds = Birds(service, canaries(drawn))
        exercise_service(birds)
        service.kill()
        service.restart()
        birds.ask(ADMIN, "GET", f"/api/v1/config?{PLACE}")

        places = [*birds.seen, ("the log", service.log().encode()), *_embedded_places(service)]
        assert secrets_in(birds.secrets, places) == [], drawn


def _embedded_places(service: ServiceProcess) -> Iterator[tuple[str, bytes]]:
    for file in service.data_folder.iterdir():
        if file.is_file():
            yield file.name, file.read_bytes()
    uri = f"file:{service.data_folder / 'pilothouse.db'}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True)) as connection:
        yield "the state", "\n".join(connection.iterdump()).encode()


@pytest.mark.parametrize("leak", ["the log", "the change log"])
def test_a_seeded_leak_is_found(leak: str) -> None:
    argv = (*_LEAKING, leak, "serve")
    assert SERVE[-1] == argv[-1]
    with ServiceProcess(REQUIRED, argv) as service:
        birds = Birds(service, canaries(seed(), 5))
        writer = birds.token("writer", {"class": "operator", "roles": ["editor"], **_ALL})
        store(birds, writer)

        places = [*birds.seen, ("the log", service.log().encode()), *_embedded_places(service)]
        assert secrets_in(birds.secrets, places)


@pytest.mark.slow
def test_no_server_behind_the_service_shows_a_secret(
    vault_server: VaultServer,
    postgres_server: PostgresServer,
    redis_server: RedisServer,
    kafka_server: KafkaServer,
    zookeeper_server: ZooKeeperServer,
) -> None:
    drawn = seed()
    prefix, folder = vault_server.fresh_prefix(), zookeeper_server.fresh_path()
    stored = RealBackend(vault_server, prefix, postgres_server.fresh_database())
    topic = Topic(kafka_server.bootstrap, kafka_server.fresh_topic())
    redis_prefix = redis_server.fresh_prefix()
    settings = {
        **REQUIRED,
        **stored.environment,
        **topic.environment,
        **redis_server.settings,
        "REDIS_PREFIX": redis_prefix,
        "ZOOKEEPER_HOSTS": zookeeper_server.hosts,
        "ZOOKEEPER_BASE_PATH": folder,
    }
    with ServiceProcess(settings) as service:
        birds = Birds(service, canaries(drawn))
        exercise_service(birds)
        for server in (vault_server, postgres_server, redis_server):
            server.freeze()
            write = {"value": birds.secrets[0], "is_encrypted": True}
            birds.ask(ADMIN, "PUT", f"/api/v1/config/bird1.password?{PLACE}", write)
            birds.ask(ADMIN, "GET", f"/api/v1/config/ghost?{PLACE}")
            server.thaw()
        service.kill()
        service.restart()
        wait_until(lambda: stored.unsent() == 0, "every event is sent", 20)

        places = [
            *birds.seen,
            ("the log", service.log().encode()),
            *(("Kafka", record) for record in topic.contents()),
            *(("Redis", entry) for entry in redis_server.contents(redis_prefix)),
            *_tables(stored),
            *(("ZooKeeper", node) for node in _nodes(zookeeper_server, folder)),
        ]
        assert {"Kafka", "Redis", "the table changes"} <= {place for place, _ in places}
        assert secrets_in(birds.secrets, places) == [], drawn


def _tables(backend: RealBackend) -> Iterator[tuple[str, bytes]]:
    listed = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
    for (table,) in backend.fetch(listed):
        rows = backend.fetch(f"SELECT t::text FROM {table} t")
        yield f"the table {table}", "\n".join(row[0] for row in rows).encode()


def _nodes(server: ZooKeeperServer, folder: str) -> list[bytes]:
    client = KazooClient(server.hosts, read_only=True)
    client.start(timeout=PATIENCE_SECONDS)
    try:
        return list(_below(client, folder))
    finally:
        client.stop()
        client.close()


def _below(client: KazooClient, path: str) -> Iterator[bytes]:
    with suppress(NoNodeError):
        yield path.encode() + b"\n" + client.get(path)[0]
        for name in client.get_children(path):
            yield from _below(client, f"{path}/{name}")
