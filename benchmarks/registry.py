"""The registry: registering beside bare ephemeral nodes, discovering at a full core, many nodes."""

import asyncio
import json
from collections.abc import Callable
from time import perf_counter

from kazoo.client import KazooClient

from benchmarks.changes import Kept
from benchmarks.configurations import CONNECTIONS
from benchmarks.flags import resident
from benchmarks.load import Figures, Request, measure
from benchmarks.table import Row
from benchmarks.wrk import Rate, run
from tests.servers.process import freeze_server, wait_until
from tests.servers.service import ServiceProcess
from tests.servers.zookeeper import ZooKeeperServer

SESSION_SECONDS = 4.0
_API = "/api/v1/registry"
_BARE = 5000
_PIPELINED = 100
_REGISTRATIONS = 500
_SPREAD = 200
_DISCOVERED = 500
_SHARING = 50  # of them have other tags than the ten that are asked for
_LARGE = 5000
_LOOK_SECONDS = 0.001


def _body(service: str, number: int) -> bytes:
    facts = {
        "service_name": service,
        "instance_id": f"i-{number:05}",
        "service_url": f"http://10.0.{number // 250}.{number % 250}:8080",
        "tags": [f"t{number % _SHARING}"],
        "weight": 50 * (1 + number % 3),
        "zone": "eu-1",
        "ttl_seconds": 86_400,
    }
    return json.dumps(facts).encode()


def _registering(service: str) -> Callable[[int], Request]:
    return lambda number: Request("POST", f"{_API}/register", _body(service, number), 201)


def _register(service: ServiceProcess, name: str, count: int, connections: int) -> Figures:
    requests = _registering(name)
    return asyncio.run(measure(service.url, requests, count=count, connections=connections))


def bare_nodes(zookeeper: ZooKeeperServer) -> Figures:
    """Create ephemeral nodes without us, a hundred at a time."""
    client = KazooClient(zookeeper.hosts)
    client.start()
    base = zookeeper.fresh_path()
    client.create(base)
    latencies = []
    started = perf_counter()
    for first in range(0, _BARE, _PIPELINED):
        began = perf_counter()
        numbers = range(first, first + _PIPELINED)
        created = [
            client.create_async(f"{base}/{n}", _body("bare", n), ephemeral=True) for n in numbers
        ]
        for one in created:
            one.get()
        latencies.append((perf_counter() - began) / _PIPELINED)
    figures = Figures(latencies, _BARE / (perf_counter() - started))
    client.stop()
    client.close()
    return figures


def registrations(service: ServiceProcess, bare: Figures) -> list[Row]:
    """Register by one client, and by twenty."""
    _register(service, "warm-up", 50, CONNECTIONS)
    one = _register(service, "one-by-one", _REGISTRATIONS // 5, 1)
    many = _register(service, "together", _REGISTRATIONS, CONNECTIONS)
    return [
        Row(f"bare ephemeral nodes, {_PIPELINED} pipelined", bare, None),
        Row("register, 1 connection", one, bare),
        Row(f"register, {CONNECTIONS} connections", many, bare),
    ]


async def spread_instances(first: ServiceProcess, second: ServiceProcess) -> list[Row]:
    """Register on one replica until the other one discovers it."""
    to_first, to_second = [await Kept.connect(one.url) for one in (first, second)]
    seen: list[float] = []
    try:
        for number in range(_SPREAD):
            wanted = f'"i-{number:05}"'.encode()
            started = perf_counter()
            await to_first.ask("POST", f"{_API}/register", _body("spread", number))
            await _wait_until_discovered(to_second, wanted)
            seen.append(perf_counter() - started)
    finally:
        to_first.close()
        to_second.close()
    figures = Figures(seen, len(seen) / sum(seen))
    return [Row("registered on A to discovered on B", figures, None)]


async def _wait_until_discovered(service: Kept, wanted: bytes) -> None:
    while True:
        _, answer = await service.ask("GET", f"{_API}/discover/spread")
        if wanted in answer:
            return
        await asyncio.sleep(_LOOK_SECONDS)


def fill(service: ServiceProcess) -> None:
    """Give the measured service its instances."""
    _register(service, "shop", _DISCOVERED, CONNECTIONS)


def discoveries(service: ServiceProcess, bare: Rate) -> list[Row]:
    """Discover at 20 connections by wrk, the server on one core."""
    discover = f"{_API}/discover/shop?tag=t3"
    answer = service.request("GET", discover)
    assert len(answer.json()["items"]) == _DISCOVERED // _SHARING, answer.body
    tag = answer.headers["ETag"]
    url = f"{_API}/services/shop/url"
    by_key = f"{url}?strategy=hash&key=user-"
    cases: dict[str, tuple[str, list[str]]] = {
        "discover 10 of 500 instances, 200": (discover, []),
        "discover 10 of 500 instances, 304": (discover, [f"If-None-Match: {tag}"]),
        "url of 500 instances, round robin": (url, []),
        "url of 500 instances, hash of one key": (by_key, []),
        "url of 500 instances, hash of new keys": (by_key + "{}", []),
    }
    return [
        Row(
            f"{name}, one core, {CONNECTIONS} connections",
            run(service.url + path, connections=CONNECTIONS, headers=headers),
            bare,
        )
        for name, (path, headers) in cases.items()
    ]


def large_registry(service: ServiceProcess, zookeeper: ZooKeeperServer, base: str) -> str:
    """Tell what 5,000 instances cost: memory, and all their nodes anew after a lost session."""
    before = resident(service)
    _register(service, "large", _LARGE, CONNECTIONS)
    service.restart()
    client = KazooClient(zookeeper.hosts, timeout=10)
    client.start()

    def nodes() -> int:
        return len(client.get_children(f"{base}/large"))

    wait_until(lambda: nodes() == _LARGE, "all nodes stand", 60)
    grown = (resident(service) - before) / 2**20
    with freeze_server(service):
        wait_until(lambda: nodes() == 0, "its session is lost", SESSION_SECONDS + 10)
    began = perf_counter()
    wait_until(lambda: nodes() == _LARGE, "all nodes stand again", 60)
    seconds = perf_counter() - began
    client.stop()
    client.close()
    return (
        f"{_LARGE:,} instances add {grown:.0f} MiB to the process (RSS after a start); after a"
        f" lost session all nodes stand again {seconds:.1f} s after the replica goes on"
    )
