"""What flags and the registry build on: further resources beside the configuration."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from pilothouse import AsyncPilothouse, Pilothouse, RefreshPolicy
from pilothouse.errors import NotFound
from pilothouse.sync import Resource
from pilothouse.transport import Answer
from sdk.tests.scripted import ScriptedServer, configuration, of_json
from tests.servers.process import wait_until
from tests.servers.service import ServiceProcess

QUICK = RefreshPolicy(backoff=0.01, longest_backoff=0.05)
_numbers = itertools.count()


class Copy:
    """The least that is held of anything: the last answer."""

    def __init__(self, path: str, *kinds: str, **params: str) -> None:
        self.held: Any = None
        self.news = asyncio.Event()
        self.resource = Resource(
            path,
            path,
            params,
            self._accept,
            kinds=frozenset(kinds),
            saved=lambda: self.held,
            restore=self._restore,
        )

    async def _accept(self, answer: Answer) -> None:
        self.held = answer.object()
        self.news.set()

    def _restore(self, saved: Any) -> None:
        self.held = saved

    async def next_value(self) -> Any:
        await asyncio.wait_for(self.news.wait(), 10)
        self.news.clear()
        return self.held


@pytest.fixture
async def client(service: ServiceProcess) -> AsyncIterator[AsyncPilothouse]:
    async with AsyncPilothouse(service.url, f"orders-{next(_numbers)}", pace=QUICK) as client:
        yield client


async def test_what_is_attached_late_is_held_and_told_by_the_same_stream(
    client: AsyncPilothouse,
) -> None:
    flags = Copy("/api/v1/flag-set", "flag", "segment", environment="default")
    peers = Copy("/api/v1/registry/discover/billing", "instance")

    await client.attach_and_wait(flags.resource)
    await client.attach_and_wait(peers.resource)
    assert flags.resource.is_ready
    assert peers.resource.is_ready
    assert client.age_of(peers.resource) < 10
    await asyncio.gather(flags.next_value(), peers.next_value())
    await client.transport.request(
        "POST", "/api/v1/feature-flags", body={"name": "attached-flag", "enabled": True}
    )
    await client.transport.request(
        "POST",
        "/api/v1/registry/register",
        body={"service_name": "billing", "service_url": "http://127.0.0.1:9"},
    )

    while "attached-flag" not in str(flags.held):
        await flags.next_value()
    while not peers.held["items"]:
        await peers.next_value()


async def test_what_is_not_there_is_told_and_the_rest_goes_on(client: AsyncPilothouse) -> None:
    copy = Copy("/api/v1/nowhere")

    await client.attach_and_wait(copy.resource)

    assert isinstance(copy.resource.last_error, NotFound)
    assert isinstance(client.last_error, NotFound)
    client.detach(copy.resource)
    assert client.last_error is None


async def test_a_loop_of_ones_own_ends_with_the_client(client: AsyncPilothouse) -> None:
    beats: list[int] = []
    ended = asyncio.Event()

    async def beat() -> None:
        try:
            beats.append(1)
            await asyncio.Event().wait()
        finally:
            ended.set()

    client.spawn(beat)
    await asyncio.sleep(0)
    await client.close()

    assert beats == [1]
    assert ended.is_set()


def test_the_snapshot_holds_every_part_though_one_is_not_answered(
    scripted_server: ScriptedServer, tmp_path: Path
) -> None:
    file = tmp_path / "snapshot"
    more: dict[str, Any] = {"snapshot": file, "pace": QUICK, "start_timeout": 2}
    scripted_server.answers["/api/v1/effective"] = lambda _: configuration({"a": 1})
    scripted_server.answers["/flags"] = lambda _: of_json({"flag": True}, ETag='"1"')
    with Pilothouse(scripted_server.url, "orders", **more) as first:
        first.run(first.client.attach_and_wait(Copy("/flags").resource))
    scripted_server.answers.pop("/flags")
    scripted_server.answers["/api/v1/effective"] = lambda _: configuration({"a": 2})
    with Pilothouse(scripted_server.url, "orders", **more) as second:
        wait_until(lambda: b'"a":2' in file.read_bytes(), "the configuration is written")
        copy = Copy("/flags")
        second.run(second.client.attach_and_wait(copy.resource))

        assert copy.held == {"flag": True}
        assert second.client.age_of(copy.resource) < 60
    assert b'"flag":true' in file.read_bytes()


async def test_reads_that_wait_leave_connections_for_the_others(
    scripted_server: ScriptedServer,
) -> None:
    copies = [Copy(f"/{number}") for number in range(12)]
    for copy in copies:
        scripted_server.answers[copy.resource.path] = lambda _: of_json({}, ETag='"1"')
    scripted_server.answers["/api/v1/effective"] = lambda _: configuration({"a": 1})
    pace = RefreshPolicy("waiting", poll_interval=0.05, backoff=0.01)

    async with AsyncPilothouse(scripted_server.url, "orders", pace=pace) as client:
        for copy in copies:
            await client.attach_and_wait(copy.resource)
        await client.refresh()

        assert all(copy.resource.is_ready for copy in copies)
