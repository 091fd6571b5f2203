"""Every change reaches Kafka, in order for each key, whatever happens to Kafka or to a replica."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import count
from time import monotonic
from typing import Any

import asyncpg
import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from app.changes.errors import EventsUnavailable, LeadLost, LogUnavailable
from app.changes.events.cloudevents import Event, event_of
from app.changes.events.kafka import KafkaPublisher
from app.changes.events.port import EventPublisher
from app.changes.events.relay import Relay
from app.changes.follower import Follower
from app.changes.log.port import LogPorts
from app.changes.model import Written
from app.postgres.locks import RELAY_LOCK
from tests.changes.heard import Heard, doubles, hear, hear_revisions, inversions
from tests.changes.ports import opened_ports
from tests.changes.sending import of_service, replica, until, wait_until_sent, write, write_many
from tests.servers.deadlines import PATIENT_SECONDS
from tests.servers.kafka import KafkaServer
from tests.servers.postgres import PostgresServer
from tests.servers.process import SLACK_SECONDS, freeze_server, reserve_port, wait_until
from tests.servers.service import ServiceProcess
from tests.servers.vault import VaultServer

pytestmark = pytest.mark.anyio

WHOLE = os.environ.get("PILOTHOUSE_FAULTS") == "whole"
OUTAGE_SECONDS = 30.0 if WHOLE else 4.0


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


@dataclass(frozen=True, slots=True)
class Bench:
    """A log and a topic of its own on the servers of this run."""

    kafka: KafkaServer
    url: str
    ports: LogPorts
    topic: str
    publisher: KafkaPublisher

    async def hear(self, revisions: Iterable[int]) -> list[Heard]:
        return await hear_revisions(self.kafka.bootstrap, self.topic, revisions)


@pytest.fixture
def bench(
    kafka_server: KafkaServer,
    url: str,
    ports: LogPorts,
    topic: str,
    publisher: KafkaPublisher,
) -> Bench:
    return Bench(kafka_server, url, ports, topic, publisher)


async def leaders(url: str) -> Sequence[int]:
    """Tell which sessions hold the lock of the relay."""
    connection = await asyncpg.connect(url)
    rows = await connection.fetch(
        "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = $1 AND granted"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
        RELAY_LOCK,
    )
    await connection.close()
    return [row["pid"] for row in rows]


async def pid_of_leader(url: str) -> int:
    async def somebody_leads() -> bool:
        return len(await leaders(url)) == 1

    await until(somebody_leads, "one leads")
    (pid,) = await leaders(url)
    return pid


async def partitions_of(kafka: KafkaServer, topic: str) -> int:
    """Count a topic's partitions without bringing it into being."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await admin.start()
    try:
        topics = await admin.describe_topics()
    finally:
        await admin.close()
    return next((len(known["partitions"]) for known in topics if known["topic"] == topic), 0)


async def create(kafka: KafkaServer, topic: str, partitions: int) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, partitions, 1)])
    finally:
        await admin.close()


def trouble(publisher: EventPublisher) -> Callable[[], Awaitable[str]]:
    async def ask() -> str:
        try:
            await publisher.ping()
        except EventsUnavailable as failure:
            return str(failure)
        return ""

    return ask


# In calm weather


async def test_every_change_is_heard_once_and_in_order(bench: Bench) -> None:
    async with replica(bench.url, bench.publisher):
        written = await write_many(bench.ports)
        heard = await bench.hear(written)

    assert sorted(one.revision for one in heard) == sorted(written)
    assert inversions(heard) == []
    assert {one.key for one in heard} == {f"config:staging/s{number}" for number in range(5)}
    for key in {one.key for one in heard}:
        assert len({one.partition for one in heard if one.key == key}) == 1


async def test_what_is_heard_is_what_the_log_says(bench: Bench) -> None:
    revision = await write(bench.ports, of_service(1), 0)
    (change,) = await bench.ports.log.since(0, 10)

    async with replica(bench.url, bench.publisher):
        (heard,) = await bench.hear([revision])

    assert heard.headers == (
        ("content-type", b"application/cloudevents+json"),
        ("revision", str(revision).encode()),
    )
    assert heard.value == event_of(change).value
    assert heard.message["id"] == change.id
    assert heard.message["type"] == "pilothouse.config.updated"


async def test_a_change_is_heard_of_at_once(bench: Bench) -> None:
    async with replica(bench.url, bench.publisher):
        await write(bench.ports, of_service(1), 0)
        await wait_until_sent(bench.ports)  # by now it follows and leads
        waits = []
        for base in range(1, 11):
            await write(bench.ports, of_service(1), base)
            waits.append(await wait_until_sent(bench.ports))

    assert sorted(waits)[5] < 0.5  # half of what it takes to find it without being told


async def test_a_backlog_larger_than_a_batch_is_drained(bench: Bench) -> None:
    for number in range(3):  # more than a partition's batch holds, and more than the relay reads
        found = [Written(version, None, comment="long " * 30) for version in range(1, 501)]
        await bench.ports.log.advance(of_service(number), found)

    async with replica(bench.url, bench.publisher):
        await wait_until_sent(bench.ports)
        heard = await bench.hear(range(1, 1501))

    assert len(heard) == 1500
    assert inversions(heard) == []


async def test_the_age_of_the_oldest_unsent_change_is_known_while_none_can_be_sent(
    url: str, ports: LogPorts
) -> None:
    with reserve_port() as nobody:
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
        unreachable = KafkaPublisher(address, "t", may_create=True)
        await write(ports, of_service(1), 0)
        async with replica(url, unreachable) as relay:

            async def is_old() -> bool:
                return relay.oldest_unsent > 0.5

            await until(is_old, "its age is known")
            assert await trouble(unreachable)() == "Kafka cannot be reached"
        await unreachable.close()


# The checker finds what it is there to find


class Reversing:
    """A publisher with a bug: it turns every batch round."""

    def __init__(self, publisher: EventPublisher) -> None:
        self.open = publisher.open
        self.ping = publisher.ping
        self._publish = publisher.publish

    async def publish(self, events: Sequence[Event]) -> None:
        await self._publish(events[::-1])


class Forgetful:
    """A publisher with a bug: it takes what could not be sent for sent."""

    def __init__(self, publisher: EventPublisher) -> None:
        self.open = publisher.open
        self.ping = publisher.ping
        self._publish = publisher.publish
        self._forgot = False

    async def publish(self, events: Sequence[Event]) -> None:
        if self._forgot:
            await self._publish(events)
        self._forgot = True


async def test_a_wrong_order_is_found(bench: Bench) -> None:
    written = await write_many(bench.ports, rounds=3)

    async with replica(bench.url, Reversing(bench.publisher)):
        heard = await bench.hear(written)

    assert inversions(heard)


async def test_a_lost_change_is_found(bench: Bench) -> None:
    lost = await write(bench.ports, of_service(1), 0)

    async with replica(bench.url, Forgetful(bench.publisher)):
        await wait_until_sent(bench.ports)
        last = await write(bench.ports, of_service(1), 1)
        heard = await hear(
            bench.kafka.bootstrap,
            bench.topic,
            lambda heard: last in {one.revision for one in heard},
        )

    assert lost not in {one.revision for one in heard}


# Several replicas


async def test_of_two_replicas_one_sends_and_the_other_takes_over(
    kafka_server: KafkaServer, url: str, ports: LogPorts, topic: str
) -> None:
    publishers = [KafkaPublisher(kafka_server.bootstrap, topic, may_create=True) for _ in range(2)]
    first, second = publishers
    async with replica(url, second):
        async with replica(url, first):
            one = await pid_of_leader(url)
            calm = await write_many(ports)
            await wait_until_sent(ports)
            assert await leaders(url) == [one]
        # The replica that leads may be either: both lose their session once.
        writing = asyncio.create_task(write_many_more(ports))
        await end_session(url, await pid_of_leader(url))
        restless = await writing
        await wait_until_sent(ports)
        assert await pid_of_leader(url) != one
        heard = await hear_revisions(kafka_server.bootstrap, topic, calm + restless)

    assert inversions(heard) == []
    assert doubles([one for one in heard if one.revision in calm]) == 0
    for publisher in publishers:
        await publisher.close()


async def write_many_more(ports: LogPorts) -> list[int]:
    return [
        await write(ports, of_service(number), base) for base in range(20, 40) for number in (0, 1)
    ]


async def end_session(url: str, pid: int) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute("SELECT pg_terminate_backend($1)", pid)
    await connection.close()


async def test_a_replica_knows_when_it_leads_no_longer(url: str, ports: LogPorts) -> None:
    async with ports.outbox.lead() as lead:
        assert lead.is_held
        await end_session(url, await pid_of_leader(url))

        async def is_lost() -> bool:
            return not lead.is_held

        assert await until(is_lost, "the lead is lost") < 1 + SLACK_SECONDS


async def test_a_relay_that_lost_its_lead_says_so(
    url: str, ports: LogPorts, publisher: KafkaPublisher
) -> None:
    relaying = asyncio.create_task(Relay(ports.outbox, publisher, Follower(ports.log)).run())
    await end_session(url, await pid_of_leader(url))

    with pytest.raises(LeadLost):
        await relaying


async def test_nobody_leads_while_the_log_is_unavailable(
    url: str, postgres_server: PostgresServer
) -> None:
    async with opened_ports(url) as ports:
        postgres_server.stop()
        try:
            with pytest.raises(LogUnavailable):
                async with ports.outbox.lead():
                    pytest.fail("it leads")
        finally:
            postgres_server.restart()


# Topics


async def test_a_missing_topic_is_created(
    kafka_server: KafkaServer, topic: str, publisher: KafkaPublisher
) -> None:
    assert await partitions_of(kafka_server, topic) == 0

    await publisher.open()

    assert await partitions_of(kafka_server, topic) == 3
    assert await trouble(publisher)() == ""


async def test_replicas_that_start_together_create_a_topic_together(
    kafka_server: KafkaServer, topic: str
) -> None:
    publishers = [KafkaPublisher(kafka_server.bootstrap, topic, may_create=True) for _ in range(3)]

    await asyncio.gather(*(publisher.open() for publisher in publishers))

    assert await partitions_of(kafka_server, topic) == 3
    for publisher in publishers:
        await publisher.close()


async def test_a_topic_that_may_not_be_created_is_named_and_waited_for(
    kafka_server: KafkaServer, url: str, ports: LogPorts, topic: str
) -> None:
    publisher = KafkaPublisher(kafka_server.bootstrap, topic, may_create=False)
    revision = await write(ports, of_service(1), 0)
    async with replica(url, publisher):
        assert await trouble(publisher)() == (
            f"the topic {topic!r} does not exist, and KAFKA_TOPIC_AUTO_CREATE is false"
        )
        assert await partitions_of(kafka_server, topic) == 0

        await create(kafka_server, topic, partitions=1)
        (heard,) = await hear_revisions(kafka_server.bootstrap, topic, [revision])

    assert heard.revision == revision
    await publisher.close()


async def test_a_topic_that_cannot_be_created_is_named(kafka_server: KafkaServer) -> None:
    publisher = KafkaPublisher(kafka_server.bootstrap, "..", may_create=True)

    with pytest.raises(EventsUnavailable, match="cannot be created: InvalidTopicError"):
        await publisher.open()

    assert "InvalidTopicError" in await trouble(publisher)()
    await publisher.close()


# Faults


@dataclass
class Writer:
    """Writes without a pause, and remembers what was acknowledged and what took longest."""

    ports: LogPorts
    written: list[int] = field(default_factory=list)
    slowest: float = 0.0

    async def run(self) -> None:
        for base in count():
            for number in range(5):
                began = monotonic()
                self.written.append(await write(self.ports, of_service(number), base))
                self.slowest = max(self.slowest, monotonic() - began)

    async def wrote(self, many: int) -> None:
        enough = len(self.written) + many

        async def is_enough() -> bool:
            return len(self.written) >= enough

        await until(is_enough, f"{many} more are written")


@pytest.mark.faults
@pytest.mark.parametrize(("fault", "remedy"), [("kill", "restart"), ("freeze", "thaw")])
async def test_a_kafka_that_was_unavailable_hears_all_that_was_written_meanwhile(
    bench: Bench,
    fault: str,
    remedy: str,
) -> None:
    writer = Writer(bench.ports)
    async with replica(bench.url, bench.publisher):
        writing = asyncio.create_task(writer.run())
        await writer.wrote(50)
        await asyncio.to_thread(getattr(bench.kafka, fault))
        try:
            await asyncio.wait({writing}, timeout=OUTAGE_SECONDS)
            await writer.wrote(150)  # however few a busy machine has written meanwhile
            message = await trouble(bench.publisher)()
        finally:
            await asyncio.to_thread(getattr(bench.kafka, remedy))
        backlog = len(await bench.ports.outbox.unsent_changes(100_000))
        seconds = await sent_up_to(bench.ports, writer.written[-1])
        await writer.wrote(50)
        writing.cancel()
        await asyncio.wait({writing})
        await wait_until_sent(bench.ports)
        every = [change.revision for change in await bench.ports.log.since(0, 1_000_000)]
        heard = await bench.hear(every)

    assert writing.cancelled()  # and not failed: every write succeeded
    assert message in {"Kafka cannot be reached", "Kafka does not answer"}
    assert backlog > 100
    assert seconds < 2 + SLACK_SECONDS
    assert writer.slowest < 1 + SLACK_SECONDS
    assert set(writer.written) <= set(every)
    assert inversions(heard) == []


async def sent_up_to(ports: LogPorts, revision: int) -> float:
    """Wait until nothing up to this revision waits, though writers go on; tell how long it took."""

    async def is_sent() -> bool:
        first = await ports.outbox.unsent_changes(1)
        return not first or first[0].revision > revision

    return await until(is_sent, "the backlog is sent")


# The service


@pytest.fixture
def environment(kafka_server: KafkaServer, url: str, topic: str) -> dict[str, str]:
    return {
        "DATABASE_URL": url,
        "KAFKA_BOOTSTRAP_SERVERS": kafka_server.bootstrap,
        "KAFKA_TOPIC_CONFIG_UPDATES": topic,
    }


def events_port(service: ServiceProcess) -> tuple[int, str, dict[str, Any]]:
    """Tell /ready's status, what it says of the whole, and of the port of the events."""
    answer = service.request("GET", "/ready")
    ports = {port["name"]: port for port in answer.json()["ports"]}
    return answer.status, answer.json()["status"], ports["events"]


def metrics_of(service: ServiceProcess) -> str:
    return service.request("GET", "/metrics").body.decode()


def waiting_seconds(service: ServiceProcess) -> Any:
    return service.request("GET", "/health").json()["oldest_unsent_event_seconds"]


def save(service: ServiceProcess, name: str, value: int) -> int:
    answer = service.request(
        "POST", "/api/v1/config", {"key": name, "value": value, "service_name": "checkout"}
    )
    assert answer.status == 201
    return int(answer.headers["X-Revision"])


async def test_the_service_tells_kafka_of_a_change_and_never_of_its_value(
    kafka_server: KafkaServer, topic: str, environment: dict[str, str]
) -> None:
    with ServiceProcess(environment) as service:
        wait_until(lambda: events_port(service)[1] == "ready", "it is ready")
        revision = save(service, "database.pool", 987654321)
        (heard,) = await hear_revisions(kafka_server.bootstrap, topic, [revision])
        wait_until(lambda: "pilothouse_events_sent_total 1.0" in metrics_of(service), "it counts")
        wait_until(lambda: waiting_seconds(service) == 0, "nothing waits")

    assert heard.key == "config:default/checkout"
    assert heard.message["type"] == "pilothouse.config.created"
    assert b"987654321" not in heard.value
    assert b"database.pool" not in heard.value


def test_a_service_without_kafka_says_so() -> None:
    with ServiceProcess({}) as service:
        wait_until(lambda: events_port(service)[1] == "ready", "it is ready")
        status, whole, port = events_port(service)
        save(service, "port", 1)
        waiting = waiting_seconds(service)

    assert (status, whole, port["adapter"], port["status"]) == (200, "ready", "absent", "up")
    assert waiting is None


def test_a_service_starts_and_works_without_the_kafka_it_was_told_of() -> None:
    with reserve_port() as nobody:
        unreachable = f"127.0.0.1:{nobody.getsockname()[1]}"
        with ServiceProcess({"KAFKA_BOOTSTRAP_SERVERS": unreachable}) as service:
            save(service, "port", 1)
            wait_until(lambda: waiting_seconds(service) > 0.5, "an event waits")
            status, whole, port = events_port(service)
            metrics = metrics_of(service)
            read = service.request("GET", "/api/v1/config/port?service_name=checkout")

    assert (status, whole) == (200, "degraded")
    assert (port["adapter"], port["status"]) == ("kafka", "down")
    assert port["detail"] == "Kafka cannot be reached"
    assert "pilothouse_oldest_unsent_event_seconds 0.0" not in metrics
    assert read.status == 200
    assert "X-Stale" not in read.headers


async def test_an_embedded_log_is_relayed_as_well(kafka_server: KafkaServer, topic: str) -> None:
    environment = {
        "KAFKA_BOOTSTRAP_SERVERS": kafka_server.bootstrap,
        "KAFKA_TOPIC_CONFIG_UPDATES": topic,
    }
    with ServiceProcess(environment) as service:
        written = [save(service, f"key{number}", number) for number in range(5)]
        heard = await hear_revisions(kafka_server.bootstrap, topic, written)

    assert [one.revision for one in heard] == written


@pytest.mark.faults
async def test_a_frozen_replica_leads_no_longer(
    kafka_server: KafkaServer,
    vault_server: VaultServer,
    url: str,
    topic: str,
    environment: dict[str, str],
) -> None:
    vault = {
        "VAULT_ADDR": vault_server.address,
        "VAULT_TOKEN": vault_server.root_token,
        "VAULT_PREFIX": vault_server.fresh_prefix(),
    }
    with ServiceProcess({**environment, **vault}) as first:
        frozen_leader = await pid_of_leader(url)
        with ServiceProcess({**environment, **vault}) as second:
            wait_until(lambda: events_port(second)[1] == "ready", "it is ready")
            with freeze_server(first):
                revision = save(second, "port", 1)
                (heard,) = await hear_revisions(kafka_server.bootstrap, topic, [revision])
                assert await pid_of_leader(url) != frozen_leader
            thawed = save(first, "host", 1)
            both = await hear_revisions(kafka_server.bootstrap, topic, [revision, thawed])

    assert heard.revision == revision
    assert inversions(both) == []
