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
from app.changes.events import Event

_REQUEST_MILLISECONDS: Final = 2000
_OPEN_SECONDS: Final = 5.0
_PING_SECONDS: Final = 0.8
_CLOSE_SECONDS: Final = 0.5
# How long an acknowledgement is waited for: doubled when it does not come, because whoever gives
# up too early on a slow Kafka sends the same for ever.
_PATIENCE_SECONDS: Final = 3.0
_PATIENCE_AT_MOST: Final = 24.0
_REFUSAL_SECONDS: Final = 5.0
_PARTITIONS: Final = 3
_CLUSTER_DEFAULT: Final = -1  # as many replicas as the cluster gives a topic by itself
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
    def __init__(self, servers: str, topic: str, *, may_create: bool) -> None:
        """Publish to `topic` on the cluster behind `servers` (host:port, ...)."""
        self._servers = servers
        self._topic = topic
        self._may_create = may_create
        self._producer: AIOKafkaProducer | None = None
        self._opening = asyncio.Lock()
        self._publishing = False
        self._patience = _PATIENCE_SECONDS
        self._refusal: tuple[str, float] | None = None  # the last failure to publish, and when
        self._question: asyncio.Task[str | None] | None = None
        self._abandoned: set[asyncio.Task[None]] = set()
        # While a server is away the driver says so ten times a second; we say it once.
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)

    async def open(self) -> None:
        async with self._opening:
            if self._producer is not None:
                return
            try:
                async with asyncio.timeout(_OPEN_SECONDS):
                    self._producer = await self._opened()
            except _FAILURES as failure:
                raise EventsUnavailable(_told(failure)) from failure

    async def _opened(self) -> AIOKafkaProducer:
        producer = AIOKafkaProducer(
            bootstrap_servers=self._servers,
            client_id="pilothouse",
            enable_idempotence=True,
            acks="all",
            max_batch_size=_BATCH_BYTES,
            request_timeout_ms=_REQUEST_MILLISECONDS,
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
            raise EventsUnavailable(self._missing())
        admin = AIOKafkaAdminClient(
            bootstrap_servers=self._servers, request_timeout_ms=_REQUEST_MILLISECONDS
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
                f"the topic {self._topic!r} does not exist and cannot be made: {error.__name__}"
            )

    def _missing(self) -> str:
        reason = "" if self._may_create else ", and KAFKA_TOPIC_AUTO_CREATE is false"
        return f"the topic {self._topic!r} does not exist{reason}"

    async def publish(self, events: Sequence[Event]) -> None:
        await self.open()
        acknowledged: list[int] = []
        left = events
        self._publishing = True
        try:
            while left:
                left = await self._send(left, acknowledged)
        except _FAILURES as failure:
            if isinstance(failure, TimeoutError):
                self._patience = min(2 * self._patience, _PATIENCE_AT_MOST)
            self._refusal = (_told(failure), monotonic())
            raise NotPublished(_told(failure), acknowledged) from failure
        finally:
            self._publishing = False
            if left:  # nobody knows what becomes of it: its producer may send nothing more
                self._drop()
        self._patience = _PATIENCE_SECONDS
        self._refusal = None

    async def _send(self, events: Sequence[Event], acknowledged: list[int]) -> list[Event]:
        """Send one batch a partition, note what is acknowledged, and return what did not fit.

        A partition gets nothing more before its batch is acknowledged: no event can overtake
        one that is lost.
        """
        producer = self._producer
        assert producer is not None
        async with asyncio.timeout(self._patience):
            partitions = sorted(await producer.partitions_for(self._topic))
            batches, left = _batched(producer, partitions, events)
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
        if self._question is None or self._question.done():
            self._question = asyncio.create_task(self._ask())
        # Not cancelled when it takes long: at its own time-out the driver hangs up and redials.
        await asyncio.wait({self._question}, timeout=_PING_SECONDS)
        trouble = self._question.result() if self._question.done() else _NO_ANSWER
        if trouble is None and self._refusal is not None:
            reason, at = self._refusal
            trouble = reason if monotonic() - at < _REFUSAL_SECONDS else None
        if trouble is not None:
            raise EventsUnavailable(trouble)

    async def _ask(self) -> str | None:
        """Tell what is wrong, if anything is."""
        try:
            await self.open()
        except EventsUnavailable as failure:
            return str(failure)
        if (producer := self._producer) is None:
            return _NO_ANSWER
        try:
            return None if await self._topic_exists(producer) else self._missing()
        except _FAILURES as failure:
            # A new one asks all named servers for the way, not only those found by the old one.
            if producer is self._producer and not self._publishing:
                self._drop()
            return _told(failure)

    def _drop(self) -> None:
        if self._producer is not None:
            self._abandon(self._producer)
            self._producer = None

    def _abandon(self, producer: AIOKafkaProducer) -> None:
        task = asyncio.create_task(_ended(producer))
        self._abandoned.add(task)
        task.add_done_callback(self._abandoned.discard)

    async def close(self) -> None:
        """Hang up; what is not acknowledged by now is published again by somebody else."""
        if self._question is not None:
            self._question.cancel()
            await asyncio.wait({self._question})
        self._drop()
        if self._abandoned:
            await asyncio.wait(self._abandoned, timeout=_CLOSE_SECONDS)


async def _ended(producer: AIOKafkaProducer) -> None:
    """Stop a producer. Its own `stop` waits for acknowledgements, if need be for ever."""
    sender = producer._sender.sender_task  # noqa: SLF001 - there is no other way to it
    if sender is not None:
        sender.cancel()  # sends nothing more, and ends when the requests under way do
        await asyncio.wait({sender})
    producer._closed = True  # noqa: SLF001 - or it complains that nobody stopped it
    await producer.client.close()


def _batched(
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


def _told(failure: BaseException) -> str:
    match failure:
        case TimeoutError() | RequestTimedOutError():
            return _NO_ANSWER
        case KafkaConnectionError() | NodeNotReadyError() | OSError():
            return "Kafka cannot be reached"
        case _:
            return f"Kafka refused: {type(failure).__name__}"
