"""The Python client in releases: in this process and in others, against a real service."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

import pytest

from pilothouse import AsyncPilothouse, RefreshPolicy
from pilothouse.reload.sources.service import PilothouseConfigSource
from tests.proposals.releasing import HOUR, ReleasedLayer, ReleasingService, plan
from tests.servers.process import PATIENCE_SECONDS
from tests.servers.service import ROOT

REFUSED = {"kind": "refused", "at_least": 1}
NAMES = [f"client-{number}" for number in range(30)]
PACE = RefreshPolicy(poll_interval=3600)  # whatever is read is read because of an event
_PROCESS = """
import sys, time
from pilothouse import Pilothouse
url, service, instance = sys.argv[1:]
def check(data):
    if data.get("pool", 0) > 1000:
        raise ValueError("too large")
with Pilothouse(url, service, "production", instance=instance, validate=check) as client:
    seen = None
    while True:
        now = client.config.get("pool")
        if now != seen:
            print(now, flush=True)
            seen = now
        time.sleep(0.01)
"""


@pytest.fixture
def layer(releasing: ReleasingService) -> ReleasedLayer:
    layer = releasing.layer()
    layer.write({"pool": 10})
    return layer


def client(layer: ReleasedLayer, instance: str, **more: Any) -> AsyncPilothouse:
    url = layer.service.process.url
    return AsyncPilothouse(
        url, layer.name, "production", instance=instance, flags=False, pace=PACE, **more
    )


@pytest.fixture
async def clients(layer: ReleasedLayer) -> AsyncIterator[Sequence[AsyncPilothouse]]:
    async with AsyncExitStack() as stack:
        opened = [client(layer, name) for name in NAMES]
        for one in opened:
            await stack.enter_async_context(one)
        yield opened


async def until(holds: Callable[[], bool], within: float = PATIENCE_SECONDS) -> None:
    async with asyncio.timeout(within):
        while not holds():  # noqa: ASYNC110 - what is waited for is in the service
            await asyncio.sleep(0.01)


def holders(clients: Sequence[AsyncPilothouse], value: int = 40) -> list[str]:
    return [
        name for name, one in zip(NAMES, clients, strict=True) if one.config.get("pool") == value
    ]


def reads(layer: ReleasedLayer) -> int:
    """Return how many reads of effective configurations the service has answered."""
    text = layer.service.request("GET", "/metrics").body.decode()
    wanted = 'route="/api/v1/effective"'
    return sum(
        int(float(line.rpartition(" ")[2]))
        for line in text.splitlines()
        if line.startswith("pilothouse_http_requests_total") and wanted in line
    )


async def test_clients_take_their_arms_and_give_them_back(
    layer: ReleasedLayer, clients: Sequence[AsyncPilothouse]
) -> None:
    await asyncio.to_thread(layer.start, {"pool": 40}, plan(30, 60))
    first = layer.members(30_000, NAMES)
    await until(lambda: holders(clients) == first)
    await asyncio.to_thread(layer.move, "next")
    await until(lambda: holders(clients) == layer.members(60_000, NAMES))
    await asyncio.to_thread(layer.move, "abort")
    await until(lambda: holders(clients) == [], 2)

    assert holders(clients, 10) == NAMES
    assert all(one.participant is not None and not one.participant.release for one in clients)


async def test_only_those_who_move_read_again(
    layer: ReleasedLayer, clients: Sequence[AsyncPilothouse]
) -> None:
    await asyncio.gather(*(one.refresh() for one in clients))  # after their streams are open
    before = reads(layer)
    await asyncio.to_thread(layer.start, {"pool": 40}, plan(10, 20))
    first, second = layer.members(10_000, NAMES), layer.members(20_000, NAMES)
    await until(lambda: holders(clients) == first)
    await asyncio.to_thread(layer.move, "next")
    await until(lambda: holders(clients) == second)
    await asyncio.to_thread(layer.move, "abort")
    await until(lambda: holders(clients) == [])

    assert reads(layer) - before == 2 * len(second)


async def test_a_refusal_by_validate_takes_all_back(
    layer: ReleasedLayer, clients: Sequence[AsyncPilothouse]
) -> None:
    def check(data: Any) -> None:
        if data["pool"] > 20:
            raise ValueError("too many connections")

    seen = []
    async with client(layer, "strict", validate=check) as strict:
        strict.on_change("pool", lambda change: seen.append(change.new_value))
        await asyncio.to_thread(layer.start, {"pool": 40}, plan(100, hold=HOUR, signals=[REFUSED]))
        await until(lambda: layer.state() == "aborted")
        await until(lambda: holders(clients, 10) == NAMES, 2)
        await until(lambda: strict.last_error is None)
        assert strict.config.get("pool") == 10

    assert seen == []
    shown = layer.details()
    assert (shown["signal"], shown["reports"]["refused"]) == ("refused", 1)
    answer = layer.service.request("GET", f"/api/v1/readers?service_name={layer.name}")
    readers = {each["instance"]: each for each in answer.json()["items"]}
    assert readers["strict"]["code"] in ("ValueError", "")


async def test_clients_report_that_they_have_adopted_a_release(
    layer: ReleasedLayer, clients: Sequence[AsyncPilothouse]
) -> None:
    await asyncio.to_thread(layer.start, {"pool": 40}, plan(100, hold=HOUR))
    await until(lambda: holders(clients) == NAMES)
    await until(lambda: layer.details()["reports"]["adopted"] == len(NAMES))
    await asyncio.to_thread(layer.move, "next")
    await asyncio.to_thread(layer.wait_for, "done")

    assert holders(clients) == NAMES
    answer = layer.service.request("GET", f"/api/v1/readers?service_name={layer.name}&limit=1000")
    assert {each["outcome"] for each in answer.json()["items"]} == {"adopted"}


async def test_a_source_of_the_configuration_manager_reads_its_arm(layer: ReleasedLayer) -> None:
    await asyncio.to_thread(layer.start, {"pool": 40}, plan(30, 60))
    candidate = layer.members(30_000, NAMES)[0]
    stable = next(name for name in NAMES if name not in layer.members(30_000, NAMES))
    url = layer.service.process.url
    loaded = {}
    for name in (candidate, stable):
        source = PilothouseConfigSource(url, layer.name, "production", instance=name)
        loaded[name] = await source.load_config()
        await source.close()

    assert loaded == {candidate: {"pool": 40}, stable: {"pool": 10}}


def test_processes_take_part_by_themselves(layer: ReleasedLayer, tmp_path: Path) -> None:
    script = tmp_path / "client.py"
    script.write_text(_PROCESS, encoding="utf-8")
    names = [f"process-{number}" for number in range(4)]
    children = [
        Popen(
            (sys.executable, str(script), layer.service.process.url, layer.name, name),
            stdout=PIPE,
            text=True,
            cwd=ROOT,
        )
        for name in names
    ]
    try:
        outputs = [child.stdout for child in children if child.stdout is not None]
        assert [output.readline() for output in outputs] == ["10\n"] * 4
        layer.start({"pool": 40}, plan(100, hold=HOUR, signals=[REFUSED]))
        assert [output.readline() for output in outputs] == ["40\n"] * 4
        layer.move("abort")
        assert [output.readline() for output in outputs] == ["10\n"] * 4
        layer.start({"pool": 2000}, plan(100, hold=HOUR, signals=[REFUSED]))
        layer.wait_for("aborted")
        layer.write({"pool": 11})
        assert [output.readline() for output in outputs] == ["11\n"] * 4
    finally:
        for child in children:
            child.kill()
            child.wait()
            if child.stdout is not None:
                child.stdout.close()
