"""Instances to be found, and a real ZooKeeper."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from pilothouse import Pilothouse, RefreshPolicy
from sdk.tests.scripted import ReceivedRequest, Reply, ScriptedServer, of_json
from tests.servers.service import ServiceProcess
from tests.servers.zookeeper import ZooKeeperServer, start_zookeeper

QUICK = RefreshPolicy(backoff=0.01, longest_backoff=0.1)
_numbers = itertools.count()


@pytest.fixture(scope="session")
def zookeeper_server() -> Iterator[ZooKeeperServer]:
    with closing(start_zookeeper()) as server:
        yield server


@pytest.fixture
def name() -> str:
    """Return a service's name that no other test has."""
    return f"billing-{next(_numbers)}"


@pytest.fixture(scope="module")
def client(service: ServiceProcess) -> Iterator[Pilothouse]:
    with Pilothouse(service.url, "orders", "production", pace=QUICK) as client:
        yield client


def echo(request: ReceivedRequest) -> Reply:
    """Answer what was asked."""
    return of_json(
        {
            "method": request.method,
            "query": dict(request.query),
            "body": request.body.decode(),
            "host": request.headers["host"],
            "kept": request.headers.get("x-kept"),
        },
        Connection="close",  # a connection that is kept would outlive its server
    )


@pytest.fixture
def peers() -> Iterator[tuple[ScriptedServer, ScriptedServer]]:
    """Start two small servers that echo `/base/path`."""
    with ScriptedServer() as one, ScriptedServer() as other:
        for server in (one, other):
            server.answers["/base/path"] = echo
        yield one, other


@pytest.fixture
def registered_peers(
    client: Pilothouse, name: str, peers: tuple[ScriptedServer, ScriptedServer]
) -> Iterator[Callable[[], str]]:
    """Register both with a base path."""
    one, other = peers
    with (
        client.registry.register(name, f"{one.url}/base", "one"),
        client.registry.register(name, f"{other.url}/base", "other"),
    ):
        yield lambda: name
