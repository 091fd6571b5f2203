"""Registered in a real ZooKeeper, without the service."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import NoNodeError

from pilothouse.registry.zookeeper import ZooKeeperRegistration
from pilothouse_core.curator import read_node
from tests.servers.process import SLACK_SECONDS, freeze_server, wait_until
from tests.servers.proxy import LossyProxy
from tests.servers.zookeeper import ZooKeeperServer, start_zookeeper

URL = "http://10.0.0.5:8080/base"
SECONDS = 10.0  # a busy machine stands still for seconds, which loses a short one


@pytest.fixture
def base(zookeeper_server: ZooKeeperServer) -> str:
    return zookeeper_server.fresh_path()


@pytest.fixture
def zookeeper(zookeeper_server: ZooKeeperServer) -> Iterator[Any]:
    client = KazooClient(zookeeper_server.hosts, timeout=10)
    client.start()
    yield client
    client.stop()
    client.close()


@pytest.fixture
def registration(zookeeper_server: ZooKeeperServer, base: str) -> ZooKeeperRegistration:
    return registration_at(zookeeper_server, base)


def registration_at(server: ZooKeeperServer, base: str, **more: Any) -> ZooKeeperRegistration:
    return ZooKeeperRegistration(
        server.hosts, "billing", URL, "b-1", base_path=base, session_seconds=SECONDS, **more
    )


def has_seen_changes(sent: bytes) -> bool:
    """Tell whom a server refuses that lags behind: the change seen last stands in bytes 8 to 16."""
    return sent[8:16] != bytes(8)


@contextmanager
def reading(server: ZooKeeperServer) -> Iterator[Any]:
    client = KazooClient(server.hosts, timeout=10)
    client.start()
    yield client
    client.stop()
    client.close()


def owner_of(zookeeper: Any, path: str) -> Callable[[], int]:
    """Return a function that tells whose session a node is of; 0 while there is none."""

    def owner() -> int:
        try:
            return int(zookeeper.get(path)[1].ephemeralOwner)
        except NoNodeError:
            return 0

    return owner


def test_a_node_stands_as_curator_and_the_service_read_it(
    zookeeper: Any, zookeeper_server: ZooKeeperServer, base: str
) -> None:
    said: dict[str, Any] = {"zone": "eu-1", "version": "2", "weight": 5, "tags": ["blue"]}
    with registration_at(zookeeper_server, base, metadata={"a": "b"}, **said) as registration:
        assert registration.is_registered
        data, stat = zookeeper.get(f"{base}/billing/b-1")

    assert stat.ephemeralOwner != 0
    curators = {"name": "billing", "id": "b-1", "address": "10.0.0.5", "port": 8080}
    assert {key: json.loads(data)[key] for key in curators} == curators
    node = read_node("billing", "b-1", data)
    assert node.instance is not None
    assert (node.instance.zone, node.instance.weight) == ("eu-1", 5)
    assert (node.instance.tags, node.metadata) == (("blue",), {"a": "b"})
    assert node.registered_at is not None
    assert abs(node.registered_at / 1000 - time.time()) < 60
    assert owner_of(zookeeper, f"{base}/billing/b-1")() == 0


async def test_it_is_entered_by_an_event_loop_too(
    zookeeper: Any, registration: ZooKeeperRegistration
) -> None:
    async with registration:
        assert registration.is_registered
        registration.drain()
        assert owner_of(zookeeper, registration.path)() == 0
        assert not registration.is_registered


def test_a_node_that_is_taken_away_is_put_back(
    zookeeper: Any, registration: ZooKeeperRegistration
) -> None:
    owner = owner_of(zookeeper, registration.path)
    with registration:
        zookeeper.delete(registration.path)
        wait_until(lambda: owner() != 0, "it stands again")


def test_a_lost_session_gets_its_node_back(
    zookeeper: Any, zookeeper_server: ZooKeeperServer, base: str
) -> None:
    with (
        LossyProxy(zookeeper_server.host, zookeeper_server.port) as proxy,
        ZooKeeperRegistration(
            f"127.0.0.1:{proxy.port}", "billing", URL, base_path=base, session_seconds=4
        ) as registration,
    ):
        owner = owner_of(zookeeper, registration.path)
        before = owner()
        proxy.refuse()
        proxy.cut()
        wait_until(lambda: owner() == 0, "the session is over")
        assert not registration.is_registered

        proxy.heal()
        wait_until(lambda: owner() not in {0, before}, "it stands, and is of another session")
        wait_until(lambda: registration.is_registered, "it is noticed")


def test_a_node_is_created_again_when_zookeeper_returns_without_its_data(base: str) -> None:
    with closing(start_zookeeper()) as server:
        with reading(server) as zookeeper:
            for number in range(100):  # more changes than the empty one will have at first
                zookeeper.create(f"{base}/other/{number}", makepath=True)
        with registration_at(server, base) as registration:
            assert registration.is_registered
            server.lose_data()
            wait_until(lambda: not registration.is_registered, "its end is noticed")
            server.restart()

            wait_until(lambda: registration.is_registered, "it is registered again")
            with reading(server) as zookeeper:
                data, stat = zookeeper.get(registration.path)
                assert read_node("billing", "b-1", data).instance is not None
                assert stat.ephemeralOwner != 0
        with reading(server) as zookeeper:
            assert zookeeper.exists(registration.path) is None


@pytest.mark.parametrize("refused", [None, has_seen_changes], ids=["all", "lagging"])
def test_a_server_that_refuses_for_a_time_costs_no_session(
    zookeeper: Any,
    zookeeper_server: ZooKeeperServer,
    base: str,
    refused: Callable[[bytes], bool] | None,
) -> None:
    with (
        LossyProxy(zookeeper_server.host, zookeeper_server.port) as proxy,
        ZooKeeperRegistration(
            f"127.0.0.1:{proxy.port}", "billing", URL, base_path=base, session_seconds=60
        ) as registration,
    ):
        owner = owner_of(zookeeper, registration.path)
        before = owner()
        proxy.refuse(refused)
        proxy.cut()
        wait_until(lambda: proxy.refused >= 30, "it was refused often")
        assert not registration.is_registered
        proxy.heal()

        wait_until(lambda: registration.is_registered, "it goes on")
        assert owner() == before


def test_the_node_of_a_dead_session_is_replaced_and_no_living_one_later(
    zookeeper: Any, zookeeper_server: ZooKeeperServer, base: str
) -> None:
    path = f"{base}/billing/b-1"
    owner = owner_of(zookeeper, path)
    dead = zookeeper.client_id[0]
    zookeeper.create(path, b"of a program that was killed", ephemeral=True, makepath=True)
    with registration_at(zookeeper_server, base) as first:
        assert owner() not in {0, dead}
        assert first.is_registered
        with registration_at(zookeeper_server, base) as second:
            assert second.is_registered
            wait_until(lambda: first.last_error is not None, "the first one has noticed")
            assert "another program" in str(first.last_error)
            assert second.is_registered
        wait_until(lambda: first.is_registered, "it stands again when the other one has left")


def test_neither_beginning_nor_end_waits_for_a_zookeeper_that_is_away(
    zookeeper_server: ZooKeeperServer, base: str
) -> None:
    late = registration_at(zookeeper_server, base, start_timeout=0.2)
    with freeze_server(zookeeper_server):
        began = time.monotonic()
        with late:
            assert not late.is_registered
        assert time.monotonic() - began < 4 + SLACK_SECONDS
    away = ZooKeeperRegistration("127.0.0.1:1", "billing", URL, start_timeout=0.2)
    with away:
        wait_until(lambda: away.last_error is not None, "it says so")
        assert str(away.last_error) == "not connected"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"weight": -1}, "weight"),
        ({"base_path": "services"}, "base_path|not a path"),
        ({"metadata": {"a": "x" * 20_000}}, "metadata"),
    ],
)
def test_what_can_never_be_registered_is_refused(more: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ZooKeeperRegistration("127.0.0.1:1", "billing", URL, **more)
