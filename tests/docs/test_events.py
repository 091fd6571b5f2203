"""The page on events says what is sent, and its example of a consumer does what it says."""

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from signal import SIGTERM
from typing import Any, get_args

import asyncpg
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jsonschema import Draft202012Validator, ValidationError

from app.audit.head_signing import HeadSigner, parse_head_event
from app.audit.keys import SigningKey, is_signature_valid, key_id_of
from app.audit.port import AuditEvent
from app.audit.postgres import PostgresAuditLog
from app.changes.events.kafka import KafkaPublisher
from app.changes.log.port import LogPorts
from app.changes.model import Action, Entity, Intent, Written
from app.feed.scope import KINDS
from app.postgres.engine import close_engine, open_engine
from tests.changes.heard import Heard, doubles, hear, hear_revisions
from tests.changes.ports import opened_ports
from tests.changes.sending import of_service, replica, wait_until_sent, write
from tests.proposals.release_launcher import FOLDER
from tests.proposals.releasing import ARGV
from tests.servers.deadlines import PATIENT_SECONDS
from tests.servers.kafka import KafkaServer
from tests.servers.process import PATIENCE_SECONDS
from tests.servers.service import ROOT, ServiceProcess

pytestmark = pytest.mark.anyio

PAGE = (ROOT / "docs/reference/events.md").read_text()
CONSUMER = ROOT / "docs/examples/consume_changes.py"
EXAMPLE, SCHEMA, HEAD, HEAD_SCHEMA = map(
    json.loads, re.findall(r"^```json\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
)
OF_A_USER = Entity("config", "production", "checkout/ana", "users/production/checkout/ana")


@pytest.fixture
async def ports(url: str) -> AsyncIterator[LogPorts]:
    async with opened_ports(url, PATIENT_SECONDS) as opened:
        yield opened


@pytest.fixture
def topic(kafka_server: KafkaServer) -> str:
    return kafka_server.fresh_topic()


@pytest.fixture
async def publisher(kafka_server: KafkaServer, topic: str) -> AsyncIterator[KafkaPublisher]:
    opened = KafkaPublisher(kafka_server.bootstrap, topic, may_create=True)
    yield opened
    await opened.close()


def complaints(message: Any) -> list[str]:
    return [error.message for error in Draft202012Validator(SCHEMA).iter_errors(message)]


def test_the_schema_is_one_and_the_example_keeps_to_it() -> None:
    Draft202012Validator.check_schema(SCHEMA)

    assert complaints(EXAMPLE) == []
    assert SCHEMA["required"] == list(SCHEMA["properties"])
    assert SCHEMA["properties"]["data"]["required"] == list(
        SCHEMA["properties"]["data"]["properties"]
    )


def test_the_schema_knows_every_action() -> None:
    actions = SCHEMA["properties"]["data"]["properties"]["action"]["enum"]

    assert sorted(actions) == sorted(get_args(Action))
    for action in actions:
        assert complaints({**EXAMPLE, "type": f"pilothouse.config.{action}"}) == []


@pytest.mark.parametrize("where", [(), ("data",)])
def test_the_schema_has_no_room_for_a_value(where: tuple[str, ...]) -> None:
    message = json.loads(json.dumps(EXAMPLE))
    inside = message
    for name in where:
        inside = inside[name]
    inside["value"] = "hunter2"

    with pytest.raises(ValidationError, match="'value' was unexpected"):
        Draft202012Validator(SCHEMA).validate(message)


async def test_every_real_message_keeps_to_the_schema(
    kafka_server: KafkaServer,
    url: str,
    ports: LogPorts,
    topic: str,
    publisher: KafkaPublisher,
) -> None:
    revisions = await one_of_each(ports)

    async with replica(url, publisher):
        heard = await hear_revisions(kafka_server.bootstrap, topic, revisions)

    assert {one.message["data"]["action"] for one in heard} == set(get_args(Action))
    for one in heard:
        assert complaints(one.message) == []
        assert one.message["partitionkey"] == one.key
        assert one.message["data"]["revision"] == one.revision
        assert datetime.fromisoformat(one.message["time"]).tzinfo is not None
        assert [name for name, _ in one.headers] == ["content-type", "revision"]
    assert {one.key for one in heard} == {
        "config:staging/s1",
        "config:production/checkout/ana",
    }


async def one_of_each(ports: LogPorts) -> list[int]:
    """Log a change of each action, then one of a user's layer; tell their revisions."""
    about, revisions = of_service(1), []
    ours: tuple[Action, ...] = ("created", "updated", "deleted", "rolled_back")
    now = datetime.now(UTC)
    for base, action in enumerate(ours):
        intent = Intent(f"{base:032x}", about, base, action, "ana", "because", "request", now)
        await ports.intents.begin(intent)
        written = Written(base + 1, intent.id, at=now, deleted=action == "deleted")
        revisions.append((await ports.log.advance(about, [written])).revision)
    revisions.append(
        (await ports.log.advance(about, [Written(5, None, comment="by hand")])).revision
    )
    of_a_user = replace(intent, id="f" * 32, entity=OF_A_USER, base=0)
    await ports.intents.begin(of_a_user)
    pointer = await ports.log.advance(OF_A_USER, [Written(1, of_a_user.id, at=now)])
    return [*revisions, pointer.revision]


def _kinds_of_the_page() -> dict[str, str]:
    """Return the kinds of the table with the beginnings of their keys."""
    table = PAGE.partition("## The kinds")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `([a-z]+)` \| `([a-z]+:[a-z]+/)", table, re.MULTILINE)
    return dict(rows)


def test_the_page_tells_of_every_kind() -> None:
    kinds = SCHEMA["properties"]["data"]["properties"]["kind"]["enum"]

    assert set(kinds) == {*KINDS, "token"}
    assert list(_kinds_of_the_page()) == kinds


async def test_what_a_service_publishes_of_each_kind_is_on_the_page(
    kafka_server: KafkaServer, topic: str, tmp_path: Path
) -> None:
    admin = "an-admin-token-of-this-test-0123456789"
    environment = {
        "KAFKA_BOOTSTRAP_SERVERS": kafka_server.bootstrap,
        "KAFKA_TOPIC_CONFIG_UPDATES": topic,
        "PILOTHOUSE_ACCESS": "required",
        "PILOTHOUSE_ADMIN_TOKEN": admin,
    }
    instance = {"service_name": "billing", "instance_id": "host:billing:8080"}
    in_path = "/api/v1/registry/services/billing/instances/host:billing:8080"
    staging = {"environment": "staging"}
    item = {"kind": "config", **staging, "set": {"b": 1}}
    requests = [
        ("POST", "/api/v1/config", {"key": "a", "value": 1, **staging}),
        ("POST", "/api/v1/feature-flags", {"name": "checkout", **staging}),
        ("POST", "/api/v1/segments", {"name": "team", **staging}),
        ("PUT", "/api/v1/schemas/billing", {"schema": {"type": "object"}}),
        ("PUT", "/api/v1/templates/http-service", {"data": {}}),
        ("PUT", "/api/v1/policies/calm", {"environments": ["calm"], "kinds": ["config"]}),
        ("POST", "/api/v1/proposals", {"title": "more", "items": [item]}),
        ("PUT", "/api/v1/webhooks/releases", {"url": "http://127.0.0.1:9/", "kinds": ["flag"]}),
        ("POST", "/api/v1/registry/register", {**instance, "service_url": "http://10.0.0.7:80"}),
        ("PUT", f"{in_path}/heartbeat", None),
        ("POST", f"{in_path}/drain", None),
        ("POST", "/api/v1/registry/deregister", instance),
        (
            "POST",
            "/api/v1/tokens",
            {"name": "ci", "class": "client", "environments": ["staging"], "services": ["*"]},
        ),
    ]
    release = {"set": {"a": 2}, "plan": {"steps": [{"share": 5, "hold": "1h"}]}}
    started = {"environment": "production", "service_name": "billing", **release}
    requests.append(("POST", "/test/releases", started))
    expected = len(requests) - 1  # a heartbeat is no change
    with ServiceProcess({**environment, FOLDER: str(tmp_path)}, ARGV) as service:
        for method, path, body in requests:
            answer = service.request(
                method, path, body, headers={"Authorization": f"Bearer {admin}"}
            )
            assert answer.status in {200, 201}, (path, answer.json())
        heard = await hear(kafka_server.bootstrap, topic, lambda heard: len(heard) == expected)

    assert [complaints(one.message) for one in heard] == [[]] * expected
    beginnings = _kinds_of_the_page()
    for one in heard:
        assert one.key.startswith(beginnings[one.message["data"]["kind"]])
        assert one.message["type"].split(".")[1] == one.message["data"]["kind"]
    assert {one.message["data"]["kind"] for one in heard} == beginnings.keys()
    of_instance = [one for one in heard if one.key == "instance:default/billing/host:billing:8080"]
    said = [(one.message["data"]["action"], one.message["data"]["deleted"]) for one in of_instance]
    assert said == [("created", False), ("updated", False), ("deleted", True)]


# The head of the audit


async def test_a_signed_head_keeps_to_its_schema(
    kafka_server: KafkaServer, url: str, topic: str, publisher: KafkaPublisher
) -> None:
    engine = open_engine(url, PATIENT_SECONDS)
    audit = PostgresAuditLog(engine)
    signer = SigningKey(Ed25519PrivateKey.generate())
    sealer = HeadSigner(audit, signer, publisher)
    await sealer.sign_head()  # nothing is there yet
    for name in ("first", "second"):
        await audit.record([AuditEvent(datetime.now(UTC), "ana", "a", "k", "e", name)])
        await sealer.sign_head()
        await sealer.sign_head()  # nothing has moved
    signed = await audit.last_signed_head()
    await close_engine(engine)

    heard = await hear(kafka_server.bootstrap, topic, lambda heard: len(heard) == 2, of_heads=True)

    validator = Draft202012Validator(HEAD_SCHEMA)
    for message in (HEAD, *(one.message for one in heard)):
        assert [error.message for error in validator.iter_errors(message)] == []
    assert [one.message["data"]["seq"] for one in heard] == [1, 2]
    assert [name for name, _ in heard[0].headers] == ["content-type"]
    assert signed is not None
    assert parse_head_event(heard[1].value.decode()) == signed
    assert is_signature_valid(signed, {key_id_of(signer.public): signer.public})
    assert not is_signature_valid(replace(signed, seq=3), {key_id_of(signer.public): signer.public})


# The example


@contextmanager
def consumer(kafka: KafkaServer, topic: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    environment = {
        "PATH": os.environ["PATH"],
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap,
        "KAFKA_TOPIC_CONFIG_UPDATES": topic,
        "KAFKA_GROUP": topic,
        "HANDLED_FILE": str(folder / "handled.db"),
    }
    process = subprocess.Popen(
        (sys.executable, CONSUMER), env=environment, stdout=subprocess.PIPE, text=True
    )
    with process:
        try:
            yield process
        finally:
            process.send_signal(SIGTERM)
            process.wait(10)


async def lines(process: subprocess.Popen[str], many: int) -> list[str]:
    """Read that many lines in a thread, which ends with the process at the latest."""
    stdout = process.stdout
    assert stdout is not None
    async with asyncio.timeout(PATIENCE_SECONDS):
        return await asyncio.to_thread(lambda: [stdout.readline().rstrip() for _ in range(many)])


async def test_the_consumer_of_the_example_handles_every_change_once(
    kafka_server: KafkaServer,
    url: str,
    ports: LogPorts,
    topic: str,
    publisher: KafkaPublisher,
    tmp_path: Path,
) -> None:
    for base in range(3):
        await write(ports, of_service(1), base)
    async with replica(url, publisher):
        await wait_until_sent(ports)
        with consumer(kafka_server, topic, tmp_path) as first:
            earliest = await lines(first, 3)

        await send_again(url)
        await wait_until_sent(ports)
        await hear(kafka_server.bootstrap, topic, comes_twice)
        await write(ports, of_service(1), 3)
        with consumer(kafka_server, topic, tmp_path) as second:
            later = await lines(second, 1)

    said = "pilothouse.config.updated staging/s1 version"
    assert earliest == [f"{said} 1", f"{said} 2", f"{said} 3"]
    assert later == [f"{said} 4"]
    assert (first.returncode, second.returncode) == (0, 0)


def comes_twice(heard: Sequence[Heard]) -> bool:
    return doubles(heard) == 3


async def send_again(url: str) -> None:
    """Forget that anything was sent, as a replica does that is killed before it notes it down."""
    connection = await asyncpg.connect(url)
    await connection.execute("UPDATE changes SET sent_at = NULL")
    await connection.close()
