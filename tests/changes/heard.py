"""What a Kafka consumer heard, and whether it is all that happened and in order."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from json import loads
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError


@dataclass(frozen=True, slots=True)
class Heard:
    key: str
    value: bytes
    headers: tuple[tuple[str, bytes], ...]
    partition: int

    @property
    def message(self) -> Any:
        return loads(self.value)

    @property
    def revision(self) -> int:
        return int(dict(self.headers)["revision"])


HEADS = "audit:head"  # the key of events that tell of no change


async def hear(
    bootstrap: str,
    topic: str,
    enough: Callable[[Sequence[Heard]], bool],
    within: float = 20,
    *,
    of_heads: bool = False,
) -> list[Heard]:
    """Listen from the beginning until it is enough; TimeoutError when it never is.

    To events of changes, or to those of the audit's signed heads.
    """
    heard: list[Heard] = []
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    async with asyncio.timeout(within):
        await _start(consumer)
        try:
            while not enough(heard):
                records = await consumer.getmany(timeout_ms=100)
                heard += [
                    Heard(record.key.decode(), record.value, record.headers, record.partition)
                    for some in records.values()
                    for record in some
                    if (record.key.decode() == HEADS) is of_heads
                ]
        finally:
            await consumer.stop()
    return heard


async def _start(consumer: AIOKafkaConsumer) -> None:
    while True:  # a broker that has just come back may not answer everything yet
        try:
            await consumer.start()
        except KafkaError:
            await asyncio.sleep(0.1)
        else:
            return


async def hear_revisions(bootstrap: str, topic: str, wanted: Iterable[int]) -> list[Heard]:
    """Listen until every wanted revision was heard."""
    missing = set(wanted)

    def enough(heard: Sequence[Heard]) -> bool:
        return missing <= {one.revision for one in heard}

    return await hear(bootstrap, topic, enough)


def inversions(heard: Sequence[Heard]) -> list[tuple[Heard, Heard]]:
    """Find pairs of one key where the later change was heard of first.

    What is heard again tells nothing new: whoever passes over revisions that are not higher than
    the last one of the key has missed nothing unless such a pair exists.
    """
    last: dict[str, Heard] = {}
    seen: dict[str, set[int]] = defaultdict(set)
    found = []
    for one in heard:
        if one.revision in seen[one.key]:
            continue
        seen[one.key].add(one.revision)
        if one.key in last and last[one.key].revision > one.revision:
            found.append((last[one.key], one))
        else:
            last[one.key] = one
    return found


def doubles(heard: Sequence[Heard]) -> int:
    return len(heard) - len({one.revision for one in heard})
