"""The harness for a real ZooKeeper keeps its promises."""

import logging
import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from kazoo.client import KazooClient
from kazoo.handlers.threading import KazooTimeoutError

from tests.servers.choice import NotOurs, ServerMissing
from tests.servers.process import PATIENCE_SECONDS, freeze_server, wait_until
from tests.servers.zookeeper import ZooKeeperServer, start_zookeeper


@contextmanager
def session(server: ZooKeeperServer, *, seconds: float = 10) -> Iterator[KazooClient]:
    logging.getLogger("kazoo").setLevel(logging.CRITICAL)
    # A server that is just starting leaves a connection unanswered, and kazoo waits as long as the
    # session lasts, divided by the number of hosts.
    hosts = ",".join([server.hosts] * 8)
    client = KazooClient(hosts, timeout=seconds)
    try:
        client.start(timeout=PATIENCE_SECONDS)
        yield client
    finally:
        client.stop()
        client.close()


@pytest.fixture
def greeting(zookeeper_server: ZooKeeperServer) -> str:
    path = zookeeper_server.fresh_path()
    with session(zookeeper_server) as client:
        client.create(path, b"ahoy")
    return path


def node_data(server: ZooKeeperServer, path: str) -> object:
    with session(server) as client:
        return client.get(path)[0]


def test_an_ephemeral_node_ends_with_its_session(zookeeper_server: ZooKeeperServer) -> None:
    path = zookeeper_server.fresh_path()
    with session(zookeeper_server) as one, session(zookeeper_server) as other:
        other.create(path, ephemeral=True)
        assert one.exists(path)
        other.stop()
        wait_until(lambda: not one.exists(path), "the node is gone")


def test_it_keeps_a_node_through_a_kill(zookeeper_server: ZooKeeperServer, greeting: str) -> None:
    zookeeper_server.kill()
    try:
        with pytest.raises(KazooTimeoutError):
            KazooClient(zookeeper_server.hosts).start(timeout=0.3)
    finally:
        zookeeper_server.restart()

    assert node_data(zookeeper_server, greeting) == b"ahoy"


def test_a_session_outlives_a_restart(zookeeper_server: ZooKeeperServer, greeting: str) -> None:
    with session(zookeeper_server, seconds=20) as client:
        client.create(f"{greeting}/mine", ephemeral=True)
        zookeeper_server.kill()
        zookeeper_server.restart()
        wait_until(lambda: client.connected, "it is connected again", within=30)

        assert client.get(f"{greeting}/mine")[1].ephemeralOwner == client.client_id[0]


def test_a_frozen_one_is_silent_until_thawed(
    zookeeper_server: ZooKeeperServer, greeting: str
) -> None:
    with session(zookeeper_server) as client:
        with freeze_server(zookeeper_server):
            answer = client.get_async(greeting)
            with pytest.raises(KazooTimeoutError):
                answer.get(timeout=0.3)

        assert answer.get(timeout=5)[0] == b"ahoy"


def test_two_run_side_by_side(zookeeper_server: ZooKeeperServer, greeting: str) -> None:
    with closing(start_zookeeper()) as other, session(other) as client:
        assert other.port != zookeeper_server.port
        assert not client.exists(greeting)


def test_without_any_the_error_names_all_ways(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    for program, missing in (("java", "no `java` on the PATH"), ("mvn", "no `mvn` on the PATH")):
        with pytest.raises(ServerMissing) as caught:
            start_zookeeper({"PATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)})

        assert re.search(
            rf"(?s)no ZooKeeper.*TEST_ZOOKEEPER_HOSTS is not set.*Docker.*none answers.*{missing}",
            str(caught.value),
        )
        (tmp_path / program).touch(mode=0o755)


def test_one_named_in_the_environment_is_used_and_not_interrupted(
    zookeeper_server: ZooKeeperServer, greeting: str
) -> None:
    named = start_zookeeper({"TEST_ZOOKEEPER_HOSTS": zookeeper_server.hosts})

    assert node_data(named, greeting) == b"ahoy"
    for deed in (named.freeze, named.kill, named.stop, named.restart):
        with pytest.raises(NotOurs):
            deed()
