"""A service that has as many instances as a service may have."""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager

import asyncpg
import pytest

from app.registry.model import MAX_INSTANCES
from app.sqlite.state import FILE
from tests.e2e.client import Service, body_of
from tests.e2e.registry import Registered
from tests.servers.process import PATIENCE_SECONDS

# Behind the back of the service, which counts in the store: thousands of requests take minutes.
_COPY = """
    INSERT INTO instances
    SELECT (jsonb_populate_record(i, jsonb_build_object('instance_id', 'copy-' || number))).*
    FROM instances i, generate_series(1, $2::integer) number WHERE i.service = $1
"""
_CLEAR = "DELETE FROM instances WHERE instance_id LIKE 'copy-%'"
COPIES = MAX_INSTANCES - 1


@contextmanager
def fill_service(service: Service, name: str) -> Iterator[None]:
    """Have copies of the one instance of a service until it is full."""
    url = service.settings.get("DATABASE_URL")
    if url is not None:
        asyncio.run(_execute(url, _COPY, name, COPIES))
        try:
            yield
        finally:
            asyncio.run(_execute(url, _CLEAR))
        return
    with closing(sqlite3.connect(service.process.data_folder / FILE)) as connection:
        with connection:
            (row,) = connection.execute("SELECT * FROM instances WHERE service = ?", (name,))
            copies = [
                [f"copy-{number}" if value == "one" else value for value in row]
                for number in range(COPIES)
            ]
            marks = ", ".join("?" * len(row))
            connection.executemany(f"INSERT INTO instances VALUES ({marks})", copies)
        try:
            yield
        finally:
            with connection:
                connection.execute(_CLEAR)


async def _execute(url: str, statement: str, *values: object) -> None:
    connection = await asyncpg.connect(url, timeout=PATIENCE_SECONDS)
    try:
        await connection.execute(statement, *values)
    finally:
        await connection.close()


@pytest.mark.slow
def test_a_full_service_refuses_one_more_and_takes_those_it_has(service: Service) -> None:
    full = Registered(service)
    body_of(full.register("one", ttl_seconds=86_400), 201)
    with fill_service(service, full.name):
        refused = full.register("one-more")
        again = full.register("one", ttl_seconds=86_400)
        body_of(full.deregister(instance_id="one"))
        in_its_place = full.register("one-more")

    assert (refused.status, refused.json()["code"]) == (409, "too_many_instances")
    assert refused.json()["service_name"] == full.name
    assert body_of(again)["epoch"] == 2
    assert in_its_place.status == 201
    assert list(full.instances_by_id()) == ["one-more"]
