"""Consumes every configuration change and handles each once, although it may be repeated.

    pip install aiokafka
    KAFKA_BOOTSTRAP_SERVERS=localhost:9092 python docs/examples/consume_changes.py

The ids of handled changes are stored in a SQLite file (HANDLED_FILE), in the same transaction as
the effect of the handler; a service keeps both in its own database. It may be stopped and started
again at any time.
"""

import asyncio
import json
import os
import signal
import sqlite3
from contextlib import suppress
from typing import Any

from aiokafka import AIOKafkaConsumer

SERVERS = os.environ.get("KAFKA_BOOTSTRAP_SERVERS", "localhost:9092")
TOPIC = os.environ.get("KAFKA_TOPIC_CONFIG_UPDATES", "config-updates")
GROUP = os.environ.get("KAFKA_GROUP", "consume-changes-example")
FILE = os.environ.get("HANDLED_FILE", "handled.db")


def handle(event: dict[str, Any]) -> None:
    """Handle a change, for example by reading the new version from the service."""
    if event["type"] == "pilothouse.audit.head":
        return  # not a change
    change = event["data"]
    print(f"{event['type']} {event['subject']} version {change['version']}", flush=True)


def handle_once(database: sqlite3.Connection, event: dict[str, Any]) -> None:
    with database:  # commits, or rolls back when `handle` fails: then the event comes again
        new = database.execute("INSERT OR IGNORE INTO handled VALUES (?)", (event["id"],))
        if new.rowcount:
            handle(event)


async def consume(database: sqlite3.Connection) -> None:
    consumer = AIOKafkaConsumer(
        TOPIC,
        bootstrap_servers=SERVERS,
        group_id=GROUP,
        enable_auto_commit=False,  # it would commit events that are not handled yet
        auto_offset_reset="earliest",  # a new group misses nothing
    )
    await consumer.start()
    try:
        while True:
            batches = await consumer.getmany(timeout_ms=1000)
            for records in batches.values():
                for record in records:
                    handle_once(database, json.loads(record.value))
            if batches:
                await consumer.commit()
    finally:
        await consumer.stop()


async def main() -> None:
    database = sqlite3.connect(FILE)
    database.execute("CREATE TABLE IF NOT EXISTS handled (id TEXT PRIMARY KEY)")
    consuming = asyncio.create_task(consume(database))
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, consuming.cancel)
    with suppress(asyncio.CancelledError):
        await consuming
    database.close()


if __name__ == "__main__":
    asyncio.run(main())
