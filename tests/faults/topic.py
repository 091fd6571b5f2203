"""One Kafka topic, and a consumer that hears it from its beginning to its end, as JSON lines."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer

HEAR_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Topic:
    bootstrap: str
    name: str

    @property
    def environment(self) -> Mapping[str, str]:
        return {
            "KAFKA_BOOTSTRAP_SERVERS": self.bootstrap,
            "KAFKA_TOPIC_CONFIG_UPDATES": self.name,
        }

    def published_changes(self) -> list[str]:
        """Return the changes that are there now, each partition in its order."""
        records = asyncio.run(self._records())
        # Others are the signed heads of the audit, one a minute.
        return [_line(record) for record in records if "revision" in dict(record.headers)]

    def contents(self) -> list[bytes]:
        """Return all that is there now, in bytes."""
        return [
            b"\n".join((record.key or b"", record.value, repr(record.headers).encode()))
            for record in asyncio.run(self._records())
        ]

    async def _records(self) -> list[Any]:
        consumer = AIOKafkaConsumer(
            self.name, bootstrap_servers=self.bootstrap, auto_offset_reset="earliest"
        )
        found: list[Any] = []
        async with asyncio.timeout(HEAR_SECONDS):
            await consumer.start()
            try:
                ends = await consumer.end_offsets(consumer.assignment())
                while [part for part in ends if await consumer.position(part) < ends[part]]:
                    records = await consumer.getmany(timeout_ms=100)
                    found += [record for some in records.values() for record in some]
            finally:
                await consumer.stop()
        return found


def _line(record: Any) -> str:
    heard = {
        "partition": record.partition,
        "offset": record.offset,
        "key": record.key.decode(),
        "revision": int(dict(record.headers)["revision"]),
        "event": json.loads(record.value),
    }
    return json.dumps(heard)
