"""Health checks as they are noted: after how many probes, by whom, and how many at once."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path
from time import monotonic

import pytest

from app.background import run_background_tasks
from app.outbound.addresses import AddressPolicy
from app.outbound.resolver import SystemResolver
from app.registry.errors import RegistryUnavailable
from app.registry.health.checker import MAX_PARALLEL_PROBES, HealthChecker
from app.registry.health.probe import Prober
from app.registry.model import InstanceRow
from app.registry.view import RegistryView
from tests.registry.bench import Store, embedded_store, row_of
from tests.servers.process import PATIENCE_SECONDS


@dataclass
class Instances:
    """A server that stands for any number of instances, each at a path of its own."""

    status: int = 200
    asked: list[str] = field(default_factory=list)
    open: int = 0
    most_open: int = 0
    released: asyncio.Event = field(default_factory=asyncio.Event)
    port: int = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.asked.append(head.split()[1].decode().strip("/"))
        self.open += 1
        self.most_open = max(self.open, self.most_open)
        await self.released.wait()
        self.open -= 1
        writer.write(b"HTTP/1.1 %d x\r\nContent-Length: 0\r\n\r\n" % self.status)
        writer.close()

    def url(self, id_: str) -> str:
        return f"http://127.0.0.1:{self.port}/{id_}"


@dataclass
class Desk:
    store: Store
    view: RegistryView
    instances: Instances
    checker: HealthChecker

    async def register(
        self, id_: str, owner: str = "here", health: str = "starting"
    ) -> InstanceRow:
        url = self.instances.url(id_)
        row = await self.store.register(id_, owner, "probe", health_check_url=url)
        if health != "starting":
            (row,) = await self.store.rows.set_health({row.token: health})  # type: ignore[dict-item]
        self.view.learn([row])
        return row

    async def probe(self, row: InstanceRow, *statuses: int) -> list[tuple[str, int]]:
        """Check it once for each status it then answers; return health and version after each."""
        found: list[tuple[str, int]] = []
        for status in statuses:
            self.instances.status = status
            await self.checker.check([row])
            now = self.view.row(*row.key)
            assert now is not None
            found.append((now.health, now.version))
        return found


@asynccontextmanager
async def desk_of(folder: Path, interval: float = 3600) -> AsyncIterator[Desk]:
    instances, view, resolver = Instances(), RegistryView(), SystemResolver()
    instances.released.set()
    prober = Prober(resolver, AddressPolicy([ip_network("127.0.0.0/8")]))
    server = await asyncio.start_server(instances.handle, "127.0.0.1", 0)
    instances.port = server.sockets[0].getsockname()[1]
    try:
        async with embedded_store(folder) as store, server:
            yield Desk(
                store, view, instances, HealthChecker(store.rows, view, prober, "here", interval)
            )
    finally:
        await prober.close()
        resolver.close()


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with desk_of(tmp_path) as made:
        yield made


async def until(holds: Callable[[], bool], within: float = PATIENCE_SECONDS) -> None:
    deadline = monotonic() + within
    while not holds():
        assert monotonic() < deadline, "waited in vain"
        await asyncio.sleep(0.01)


async def test_up_after_one_success_and_down_after_three_failures(desk: Desk) -> None:
    row = await desk.register("i-1")

    seen = await desk.probe(row, 500, 200, 200, 500, 302, 404, 503, 204)

    healths = [health for health, _ in seen]
    assert healths == ["starting", "up", "up", "up", "up", "down", "down", "up"]
    assert [version for _, version in seen] == [1, 2, 2, 2, 2, 3, 3, 4]
    stored_row = await desk.store.rows.row(*row.key)
    assert stored_row == desk.view.row(*row.key)


async def test_two_failures_and_a_success_change_nothing(desk: Desk) -> None:
    row = await desk.register("i-1", health="up")

    seen = await desk.probe(row, *[500, 500, 200] * 4)

    assert set(seen) == {("up", 2)}


@pytest.mark.parametrize("health", ["up", "starting", "down"])
async def test_who_is_adopted_goes_on_from_what_was_known(desk: Desk, health: str) -> None:
    theirs = await desk.register("i-1", "there", health)
    (row,) = await desk.store.rows.claim([theirs.token], "here", 0.0)
    desk.view.learn([row])

    seen = await desk.probe(row, 500, 500, 500)

    assert [known for known, _ in seen] == [health, health, "down"]


async def test_failures_of_a_registration_that_is_over_do_not_count(desk: Desk) -> None:
    first = await desk.register("i-1", health="up")
    await desk.probe(first, 500, 500)

    again = await desk.register("i-1", health="up")

    assert [health for health, _ in await desk.probe(again, 500, 500, 500)] == ["up", "up", "down"]


async def test_instances_of_others_are_checked_and_not_judged(desk: Desk) -> None:
    theirs = await desk.register("i-1", owner="there")

    ((row, check),) = await desk.checker.check([theirs])

    assert (row, check.probe.is_healthy, check.probe.reason) == (theirs, True, "answered 200")
    assert await desk.store.rows.row(*theirs.key) == theirs


async def test_what_could_not_be_noted_is_noted_by_the_next_probe(desk: Desk) -> None:
    row = await desk.register("i-1")
    await desk.store.fail()
    with pytest.raises(RegistryUnavailable):
        await desk.checker.check([row])
    await desk.store.heal()

    assert await desk.probe(row, 200) == [("up", 2)]


async def test_what_was_judged_elsewhere_meanwhile_is_not_judged_again(desk: Desk) -> None:
    row = await desk.register("i-1")
    (there,) = await desk.store.rows.claim([row.token], "there", 0.0)

    await desk.checker.check([row])

    assert desk.view.row(*row.key) == there
    assert there.health == "starting"


async def test_an_instance_that_cannot_be_read_is_told_so(desk: Desk) -> None:
    ((_, check),) = await desk.checker.check([row_of("i-1", owner="there", definition="{}")])

    assert (check.probe.is_healthy, check.probe.reason) == (False, "has no health_check_url")


async def test_no_more_than_so_many_are_asked_at_once(desk: Desk) -> None:
    rows = [await desk.register(f"i-{number}") for number in range(MAX_PARALLEL_PROBES + 20)]
    desk.instances.released.clear()

    checking = asyncio.ensure_future(desk.checker.check(rows))
    await until(lambda: desk.instances.open == MAX_PARALLEL_PROBES)
    desk.instances.released.set()
    found = await checking

    assert desk.instances.most_open == MAX_PARALLEL_PROBES
    assert sum(check.probe.is_healthy for _, check in found) == len(rows)


@pytest.mark.slow
async def test_a_replica_checks_what_it_keeps_for_as_long_as_it_keeps_it(tmp_path: Path) -> None:
    async with desk_of(tmp_path, interval=0.2) as desk:
        own, theirs = await desk.register("own"), await desk.register("theirs", owner="there")
        silent = await desk.store.register("silent")
        desk.view.learn([silent])

        async with run_background_tasks({"check": desk.checker.run}):
            await until(lambda: desk.instances.asked.count("own") >= 3)
            ended = await desk.store.rows.deregister(*own.key, None, "ada", "request-2")
            desk.view.learn([ended])
            await until(lambda: own.key not in desk.checker.last)
            count_before = len(desk.instances.asked)
            (adopted,) = await desk.store.rows.claim([theirs.token], "here", 0.0)
            desk.view.learn([adopted])
            await until(lambda: "theirs" in desk.instances.asked)

    assert set(desk.instances.asked[:count_before]) == {"own"}
    assert set(desk.instances.asked[count_before:]) == {"theirs"}


@pytest.mark.slow
async def test_a_store_that_is_unavailable_ends_no_checks(tmp_path: Path) -> None:
    async with desk_of(tmp_path, interval=0.2) as desk:
        row = await desk.register("i-1")
        await desk.store.fail()

        async with run_background_tasks({"check": desk.checker.run}):
            await until(lambda: len(desk.instances.asked) >= 3)
            await desk.store.heal()
            await until(lambda: health_of(desk, row) == "up")


def health_of(desk: Desk, row: InstanceRow) -> str | None:
    now = desk.view.row(*row.key)
    return None if now is None else now.health
