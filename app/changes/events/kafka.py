"""Events on a Kafka topic, by an idempotent producer that is rebuilt whenever in doubt."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import (
    KafkaConnectionError,
    KafkaError,
    NodeNotReadyError,
    RequestTimedOutError,
    TopicAlreadyExistsError,
    for_code,
)
from aiokafka.partitioner import DefaultPartitioner
from aiokafka.protocol.metadata import MetadataRequest

from app.changes.errors import EventsUnavailable, NotPublished
from app.changes.events.cloudevents import Event
from app.connection_failures import find_unknown_hosts, hosts_of

_CLOSE_SECONDS: Final = 0.5
# How long an acknowledgement is waited for: doubled when it does not come, because giving
# up too early on a slow Kafka would send the same events forever.
ANSWER_SECONDS: Final = 3.0
_AT_MOST: Final = 8  # times as long
# The same for what else is waited for, as shares of it.
_REQUEST_SHARE: Final = 2 / 3
_OPEN_SHARE: Final = 5 / 3
_PING_SHARE: Final = 4 / 15
_PING_AT_MOST_SECONDS: Final = 2.5
_REFUSAL_SECONDS: Final = 5.0
_PARTITIONS: Final = 3
_CLUSTER_DEFAULT: Final = -1  # the cluster's default replication factor
_BATCH_BYTES: Final = 64 * 1024
_FAILURES: Final = (KafkaError, OSError, TimeoutError)
_NO_ANSWER: Final = "Kafka does not answer"

_partition_of: Final = DefaultPartitioner()  # the same as in the Java client


@dataclass(slots=True)
class _Batch:
    """The events of one partition that are sent, and acknowledged or not, as one."""

    records: Any
    revisions: list[int] = field(default_factory=list)


class KafkaPublisher:
    def __init__(
        self, servers: str, topic: str, *, may_create: bool, seconds: float = ANSWER_SECONDS
    ) -> None:
        """Publish to `topic` on the cluster behind `servers` (host:port, ...).

        An acknowledgement is waited for as long as `seconds`, longer after it did not come.
        """
        self._servers = servers
        self._topic = topic
        self._may_create = may_create
        self._producer: AIOKafkaProducer | None = None
        self._opening = asyncio.Lock()
        self._publishing = False
        self._seconds = self._patience = seconds
        self._refusal: tuple[str, float] | None = None  # the last failure to publish, and when
        self._probe: asyncio.Task[str | None] | None = None
        self._abandoned: set[asyncio.Task[None]] = set()
        # While a server is unavailable the driver logs it ten times a second; we log it once.
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)

    @property
    def _request_milliseconds(self) -> int:
        return round(self._seconds * _REQUEST_SHARE * 1000)

    async def open(self) -> None:
        async with self._opening:
            if self._producer is not None:
                return
            try:
                async with asyncio.timeout(self._seconds * _OPEN_SHARE):
                    self._producer = await self._start_producer()
            except _FAILURES as failure:
                raise EventsUnavailable(await self._connection_failure_text(failure)) from failure

    async def _connection_failure_text(self, failure: BaseException) -> str:
        """Explain a failed connection; the driver hides which hosts do not exist."""
        text = _failure_text(failure)
        if isinstance(failure, KafkaConnectionError):
            hosts = hosts_of(self._servers)
            if hosts and await find_unknown_hosts(hosts) == hosts:
                return f"{text}: no host in KAFKA_BOOTSTRAP_SERVERS exists"
        return text

    async def _start_producer(self) -> AIOKafkaProducer:
        producer = AIOKafkaProducer(
            bootstrap_servers=self._servers,
            client_id="pilothouse",
            enable_idempotence=True,
            acks="all",
            max_batch_size=_BATCH_BYTES,
            request_timeout_ms=self._request_milliseconds,
        )
        try:
            await producer.start()
            if not await self._topic_exists(producer):
                await self._create_topic()
            await producer.partitions_for(self._topic)
        except BaseException:
            self._abandon(producer)
            raise
        return producer

    async def _topic_exists(self, producer: AIOKafkaProducer) -> bool:
        # Any other question about a topic creates it, where the broker is set up so.
        question = MetadataRequest([self._topic], allow_auto_topic_creation=False)
        node = producer.client.get_random_node()
        ((code, *_),) = (await producer.client.send(node, question)).topics
        return bool(code == 0)

    async def _create_topic(self) -> None:
        if not self._may_create:
            raise EventsUnavailable(self._missing_topic_text())
        admin = AIOKafkaAdminClient(
            bootstrap_servers=self._servers, request_timeout_ms=self._request_milliseconds
        )
        try:
            await admin.start()
            wanted = NewTopic(self._topic, _PARTITIONS, _CLUSTER_DEFAULT, replica_assignments={})
            ((_, code, _),) = (await admin.create_topics([wanted])).topic_errors
        finally:
            await admin.close()
        error = for_code(code)
        if code != 0 and error is not TopicAlreadyExistsError:  # another replica was faster
            raise EventsUnavailable(
                f"the topic {self._topic!r} does not exist and cannot be created: {error.__name__}"
            )

    def _missing_topic_text(self) -> str:
        reason = "" if self._may_create else ", and KAFKA_TOPIC_AUTO_CREATE is false"
        return f"the topic {self._topic!r} does not exist{reason}"

    async def publish(self, events: Sequence[Event]) -> None:
        await self.open()
        acknowledged: list[int] = []
        left = events
        self._publishing = True
        try:
            while left:
                left = await self._send_batches(left, acknowledged)
        except _FAILURES as failure:
            if isinstance(failure, TimeoutError):
                self._patience = min(2 * self._patience, _AT_MOST * self._seconds)
            self._refusal = (_failure_text(failure), monotonic())
            raise NotPublished(_failure_text(failure), acknowledged) from failure
        finally:
            self._publishing = False
            if left:  # their outcome is unknown: their producer may send nothing more
                self._drop_producer()
        self._patience = self._seconds
        self._refusal = None

    async def _send_batches(self, events: Sequence[Event], acknowledged: list[int]) -> list[Event]:
        """Send one batch a partition, note what is acknowledged, and return what did not fit.

        A partition gets nothing more before its batch is acknowledged: no event can overtake
        one that is lost.
        """
        producer = self._producer
        assert producer is not None
        async with asyncio.timeout(self._patience):
            partitions = sorted(await producer.partitions_for(self._topic))
            batches, left = _fill_batches(producer, partitions, events)
            sent = {
                await producer.send_batch(batch.records, self._topic, partition=partition): batch
                for partition, batch in batches.items()
            }
        # Not `gather`: when one partition fails, the acknowledgements of the others count.
        await asyncio.wait(sent, timeout=self._patience)
        failures: list[BaseException] = []
        for answer, batch in sent.items():
            if not answer.done():
                answer.cancel()
                failures.append(TimeoutError())
            elif (failure := answer.exception()) is not None:
                failures.append(failure)
            else:
                acknowledged += batch.revisions
        if failures:
            raise failures[0]
        return left

    async def ping(self) -> None:
        if self._probe is None or self._probe.done():
            self._probe = asyncio.create_task(self._find_trouble())
        # Not cancelled when it takes long: at its own time-out the driver hangs up and redials.
        await asyncio.wait(
            {self._probe}, timeout=min(self._seconds * _PING_SHARE, _PING_AT_MOST_SECONDS)
        )
        trouble = self._probe.result() if self._probe.done() else _NO_ANSWER
        if trouble is None and self._refusal is not None:
            reason, at = self._refusal
            trouble = reason if monotonic() - at < _REFUSAL_SECONDS else None
        if trouble is not None:
            raise EventsUnavailable(trouble)

    async def _find_trouble(self) -> str | None:
        """Return the current problem, if there is one."""
        try:
            await self.open()
        except EventsUnavailable as failure:
            return str(failure)
        if (producer := self._producer) is None:
            return _NO_ANSWER
        try:
            return None if await self._topic_exists(producer) else self._missing_topic_text()
        except _FAILURES as failure:
            # A new one asks all named servers for the way, not only those found by the old one.
            if producer is self._producer and not self._publishing:
                self._drop_producer()
            return _failure_text(failure)

    def _drop_producer(self) -> None:
        if self._producer is not None:
            self._abandon(self._producer)
            self._producer = None

    def _abandon(self, producer: AIOKafkaProducer) -> None:
        task = asyncio.create_task(_stop_producer(producer))
        self._abandoned.add(task)
        task.add_done_callback(self._abandoned.discard)

    async def close(self) -> None:
        """Disconnect; unacknowledged events are published again by another replica."""
        if self._probe is not None:
            self._probe.cancel()
            await asyncio.wait({self._probe})
        self._drop_producer()
        if self._abandoned:
            await asyncio.wait(self._abandoned, timeout=_CLOSE_SECONDS)


async def _stop_producer(producer: AIOKafkaProducer) -> None:
    """Stop a producer. Its own `stop` may wait for acknowledgements forever."""
    sender = producer._sender.sender_task  # noqa: SLF001 - there is no other way to it
    if sender is not None:
        sender.cancel()  # sends nothing more, and ends when the requests under way do
        await asyncio.wait({sender})
    producer._closed = True  # noqa: SLF001 - or it warns that it was not stopped
    await producer.client.close()


def _fill_batches(
    producer: AIOKafkaProducer, partitions: Sequence[int], events: Sequence[Event]
) -> tuple[dict[int, _Batch], list[Event]]:
    """Put events into one batch a partition, as many as fit, and return the others."""
    batches: dict[int, _Batch] = {}
    full: set[int] = set()
    left: list[Event] = []
    for event in events:
        partition = _partition_of(event.key, partitions, partitions)
        if partition not in batches:
            batches[partition] = _Batch(producer.create_batch())
        if partition not in full and _append(batches[partition], event):
            batches[partition].revisions.append(event.revision)
        else:
            full.add(partition)  # a smaller one after it must not overtake it
            left.append(event)
    return batches, left


def _append(batch: _Batch, event: Event) -> bool:
    """Add an event unless the batch is full; the first always fits."""
    taken = batch.records.append(
        key=event.key, value=event.value, timestamp=None, headers=list(event.headers)
    )
    return taken is not None


def _failure_text(failure: BaseException) -> str:
    match failure:
        case TimeoutError() | RequestTimedOutError():
            return _NO_ANSWER
        case KafkaConnectionError() | NodeNotReadyError() | OSError():
            return "Kafka cannot be reached"
        case _:
            return f"Kafka refused: {type(failure).__name__}"
