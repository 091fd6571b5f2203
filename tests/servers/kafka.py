"""A real Kafka for tests: named in the environment, in a container, or from the jars of a pom."""

import asyncio
import base64
import logging
import os
import secrets
import socket
import subprocess
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from tests.servers.choice import ForeignServer, NotProvided, first_provided
from tests.servers.container import HOST, PORT, Image, RunningContainer
from tests.servers.jars import QUICK, jars, java
from tests.servers.process import (
    Berth,
    ChildProcess,
    Command,
    Running,
    StartFailed,
    reserve_port,
)

POM = Path(__file__).parent / "kafkad" / "pom.xml"
MAIN = "kafka.Kafka"
FORMAT = "kafka.tools.StorageTool"
SMALL = ("-Xmx512m", *QUICK)
# One broker that is its own controller; small, and quick to be joined by a consumer.
ALONE = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "offsets.topic.num.partitions": "1",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
    "num.partitions": "3",
    # There is nobody to be patient with: a lone controller elects itself, and a killed broker
    # may come back when its old session is over.
    "controller.quorum.election.timeout.ms": "200",
    "controller.quorum.fetch.timeout.ms": "500",
    "broker.session.timeout.ms": "5000",  # a busy machine would fence it again and again
    "broker.heartbeat.interval.ms": "200",
}


class KafkaServer:
    def __init__(
        self, bootstrap: str, running: Running, holder: socket.socket | None = None
    ) -> None:
        self.bootstrap = bootstrap
        self._running = running
        self._holder = holder  # keeps the controller's port through restarts

    def fresh_topic(self) -> str:
        """Invent a name that no topic has; nothing is created."""
        return f"t{secrets.token_hex(8)}"

    def freeze(self) -> None:
        self._running.freeze()

    def thaw(self) -> None:
        self._running.thaw()

    def kill(self) -> None:
        self._running.kill()

    def stop(self) -> None:
        self._running.stop()

    def restart(self) -> None:
        self._running.restart()

    def close(self) -> None:
        self._running.close()
        if self._holder is not None:
            self._holder.close()


def start_kafka(environment: Mapping[str, str] = os.environ) -> KafkaServer:
    """Raise ServerMissing, naming what is missing, when there is no way to get one."""
    return first_provided(
        "Kafka",
        {
            "set TEST_KAFKA_BOOTSTRAP to host:port": lambda: _foreign_kafka(environment),
            "start a Docker engine": _kafka_in_container,
            "install Java and Maven, which fetches the jars of tests/servers/kafkad": (
                lambda: _kafka_from_download(environment)
            ),
        },
    )


def _foreign_kafka(environment: Mapping[str, str]) -> KafkaServer:
    bootstrap = environment.get("TEST_KAFKA_BOOTSTRAP")
    if not bootstrap:
        raise NotProvided("TEST_KAFKA_BOOTSTRAP is not set")
    return KafkaServer(bootstrap, ForeignServer("TEST_KAFKA_BOOTSTRAP"))


def _is_serving(bootstrap: str) -> bool:
    """Ask in a thread of its own: the caller may be inside an event loop."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # it is asked until it answers
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, _has_brokers(bootstrap)).result()


async def _has_brokers(bootstrap: str) -> bool:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=1000)
    try:
        await admin.start()
        return bool((await admin.describe_cluster())["brokers"])
    except (KafkaError, OSError, TimeoutError):
        return False
    finally:
        await admin.close()


def _kafka_in_container() -> KafkaServer:
    listeners = {
        "listeners": "PLAINTEXT://:9092,CONTROLLER://:9093",
        "advertised.listeners": f"PLAINTEXT://{HOST}:{PORT}",
        "controller.quorum.voters": "1@localhost:9093",
    }
    settings = {**ALONE, **listeners}
    image = Image(
        name="apache/kafka:4.1.0",  # what the pom names
        port=9092,
        command="/etc/kafka/docker/run",
        environment={
            f"KAFKA_{name.replace('.', '_').upper()}": value for name, value in settings.items()
        },
    )
    container = RunningContainer(image)
    bootstrap = f"{container.host}:{container.port}"
    container.wait_until_ready(partial(_is_serving, bootstrap))
    return KafkaServer(bootstrap, container)


def _kafka_from_download(environment: Mapping[str, str]) -> KafkaServer:
    program = (java(environment), *SMALL, "-cp", f"{jars('kafka', POM, environment)}/*")
    berth, holder = Berth("kafka"), reserve_port()
    bootstrap, controller = f"127.0.0.1:{berth.port}", f"127.0.0.1:{holder.getsockname()[1]}"
    listeners = {
        "listeners": f"PLAINTEXT://{bootstrap},CONTROLLER://{controller}",
        "advertised.listeners": f"PLAINTEXT://{bootstrap}",
        "controller.quorum.voters": f"1@{controller}",
        "log.dirs": str(berth.folder / "data"),
    }
    settings = berth.folder / "server.properties"
    settings.write_text("".join(f"{k}={v}\n" for k, v in {**ALONE, **listeners}.items()))
    _format((*program, FORMAT), settings)
    command = Command(
        argv=(*program, MAIN, settings),
        environment={},
        folder=berth.folder,
    )
    try:
        child = ChildProcess(command, berth, partial(_is_serving, bootstrap), within=180)
    except StartFailed:
        holder.close()
        raise
    return KafkaServer(bootstrap, child, holder)


def _format(tool: tuple[str, ...], settings: Path) -> None:
    cluster = base64.urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip("=")
    subprocess.run(
        (*tool, "format", "-t", cluster, "-c", settings),
        env={},
        cwd=settings.parent,
        capture_output=True,
        check=True,
    )
