"""A real ZooKeeper for tests: named in the environment, in a container, or from a pom's jars."""

import os
import secrets
import shutil
import socket
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from tests.servers.choice import ForeignServer, NotProvided, first_provided
from tests.servers.container import Image, RunningContainer
from tests.servers.jars import QUICK, jars, java
from tests.servers.process import Berth, ChildProcess, Command, Running

POM = Path(__file__).parent / "zookeeperd" / "pom.xml"
MAIN = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
IMAGE = "zookeeper:3.8.4"  # what the pom names
CLIENT_PORT = 2181
TICK_MILLISECONDS = 200  # the shortest session lasts two of them
FLAGS = (
    "-Xmx256m",
    *QUICK,
    "-Dzookeeper.forceSync=no",  # a killed process loses nothing that a disk would have kept
    "-Dzookeeper.preAllocSize=1024",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
)


class ZooKeeperServer:
    def __init__(
        self,
        host: str,
        port: int,
        running: Running,
        erase: Callable[[], None] = lambda: None,
    ) -> None:
        """Have `erase` delete what it stores, called while the server runs."""
        self.host = host
        self.port = port
        self._running = running
        self._erase = erase

    @property
    def hosts(self) -> str:
        return f"{self.host}:{self.port}"

    def fresh_path(self) -> str:
        """Invent a path that no node has; nothing is created."""
        return f"/t{secrets.token_hex(8)}"

    def freeze(self) -> None:
        self._running.freeze()

    def thaw(self) -> None:
        self._running.thaw()

    def kill(self) -> None:
        self._running.kill()

    def lose_data(self) -> None:
        """Kill it, and delete all that it has stored; `restart` starts it empty."""
        self._erase()
        self._running.kill()

    def stop(self) -> None:
        self._running.stop()

    def restart(self) -> None:
        self._running.restart()

    def close(self) -> None:
        self._running.close()


def start_zookeeper(environment: Mapping[str, str] = os.environ) -> ZooKeeperServer:
    """Raise ServerMissing, naming what is missing, when there is no way to get one."""
    return first_provided(
        "ZooKeeper",
        {
            "set TEST_ZOOKEEPER_HOSTS to host:port": lambda: _foreign_zookeeper(environment),
            "start a Docker engine": _zookeeper_in_container,
            "install Java and Maven, which fetches the jars of tests/servers/zookeeperd": (
                lambda: _zookeeper_from_download(environment)
            ),
        },
    )


def _foreign_zookeeper(environment: Mapping[str, str]) -> ZooKeeperServer:
    address = environment.get("TEST_ZOOKEEPER_HOSTS")
    if not address:
        raise NotProvided("TEST_ZOOKEEPER_HOSTS is not set")
    host, _, port = address.rpartition(":")
    return ZooKeeperServer(host, int(port), ForeignServer("TEST_ZOOKEEPER_HOSTS"))


def _is_serving(host: str, port: int) -> bool:
    """Tell whether it takes in sessions, and not only connections."""
    try:
        with socket.create_connection((host, port), timeout=1) as connection:
            connection.sendall(b"srvr")
            return b"Mode: " in connection.makefile("rb").read()
    except OSError:
        return False


def _zookeeper_in_container() -> ZooKeeperServer:
    environment = {"ZOO_TICK_TIME": str(TICK_MILLISECONDS), "ZOO_MAX_CLIENT_CNXNS": "0"}
    image = Image(IMAGE, CLIENT_PORT, "zkServer.sh start-foreground", environment=environment)
    container = RunningContainer(image)
    port = int(container.port)
    container.wait_until_ready(partial(_is_serving, container.host, port))
    erase = partial(container.execute, "rm -rf /data/version-2 /datalog/version-2")
    return ZooKeeperServer(container.host, port, container, erase)


def _zookeeper_from_download(environment: Mapping[str, str]) -> ZooKeeperServer:
    program = (java(environment), *FLAGS, "-cp", f"{jars('zookeeper', POM, environment)}/*")
    berth = Berth("zookeeper")
    settings = {
        "tickTime": TICK_MILLISECONDS,
        "maxSessionTimeout": 60_000,
        "dataDir": berth.folder / "data",
        "clientPort": berth.port,
        "clientPortAddress": "127.0.0.1",
        "maxClientCnxns": 0,
        "admin.enableServer": "false",
    }
    file = berth.folder / "zoo.cfg"
    file.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    command = Command(argv=(*program, MAIN, file), environment={}, folder=berth.folder)
    ready = partial(_is_serving, "127.0.0.1", berth.port)
    erase = partial(shutil.rmtree, berth.folder / "data" / "version-2")
    process = ChildProcess(command, berth, ready, within=120)
    return ZooKeeperServer("127.0.0.1", berth.port, process, erase)
