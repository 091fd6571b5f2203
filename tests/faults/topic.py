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

    def heard(self) -> list[str]:
        """Hear all that is there now, each partition in its order."""
        return asyncio.run(self._heard())

    async def _heard(self) -> list[str]:
        consumer = AIOKafkaConsumer(
            self.name, bootstrap_servers=self.bootstrap, auto_offset_reset="earliest"
        )
        lines: list[str] = []
        async with asyncio.timeout(HEAR_SECONDS):
            await consumer.start()
            try:
                ends = await consumer.end_offsets(consumer.assignment())
                while [part for part in ends if await consumer.position(part) < ends[part]]:
                    records = await consumer.getmany(timeout_ms=100)
                    lines += [_line(record) for some in records.values() for record in some]
            finally:
                await consumer.stop()
        return lines


def _line(record: Any) -> str:
    assert "revision" in dict(record.headers), record
    heard = {
        "partition": record.partition,
        "offset": record.offset,
        "key": record.key.decode(),
        "revision": int(dict(record.headers)["revision"]),
        "event": json.loads(record.value),
    }
    return json.dumps(heard)
