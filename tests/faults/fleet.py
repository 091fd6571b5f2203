"""Replicas of the registry on one ZooKeeper and one Postgres, and what is true there."""

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any, Self

import asyncpg
from kazoo.client import KazooClient
from kazoo.exceptions import NoNodeError

from tests.faults.checker_registry import NodeFact, RowFact, check_history, check_nodes
from tests.faults.history import History
from tests.faults.stage import LAUNCH, NEVER
from tests.servers.answer import Answer
from tests.servers.deadlines import PROMPT
from tests.servers.process import PATIENCE_SECONDS, SLACK_SECONDS, wait_until
from tests.servers.proxy import LossyProxy
from tests.servers.service import ServiceProcess
from tests.servers.zookeeper import ZooKeeperServer

API = "/api/v1/registry"
SESSION_SECONDS = 4.0
INTERVAL_SECONDS = 1.0  # of health checks
_AT_ONCE = 8  # registrations
_ROWS = "SELECT service, instance_id, epoch, term, state, owner FROM instances"


@dataclass(frozen=True, slots=True)
class Registered:
    service: str
    id: str
    epoch: int

    @property
    def path(self) -> str:
        return f"{API}/services/{self.service}/instances/{self.id}"


class Fleet:
    """Starts replicas with the launcher; ends them when it is closed."""

    def __init__(
        self,
        folder: Path,
        zookeeper: ZooKeeperServer,
        database: str,
        launch: Sequence[str] = LAUNCH,
    ) -> None:
        self.zookeeper = zookeeper
        self.base = zookeeper.fresh_path()
        self.database = database
        self.replicas: list[ServiceProcess] = []
        self._folder = folder
        self._launch = launch
        self._histories = 0
        self._opened = ExitStack()
        self.history = self.fresh_history()

    def fresh_history(self) -> History:
        """Begin another history: that of a test which breaks what those before relied on."""
        self._histories += 1
        self.history = History(self._folder / f"registry-{self._histories}.jsonl")
        return self.history

    @property
    def environment(self) -> Mapping[str, str]:
        return {
            **PROMPT,
            "DATABASE_URL": self.database,
            "ZOOKEEPER_HOSTS": self.zookeeper.hosts,
            "ZOOKEEPER_BASE_PATH": self.base,
            "ZOOKEEPER_SESSION_TIMEOUT": f"{SESSION_SECONDS:g}",
            "SERVICE_HEALTH_CHECK_INTERVAL": f"{INTERVAL_SECONDS:g}",
            "VAULT_SCAN_INTERVAL": NEVER,
            "LOG_LEVEL": "warning",
        }

    def start(self, **environment: str) -> ServiceProcess:
        service = ServiceProcess({**self.environment, **environment}, self._launch)
        self._opened.enter_context(service)
        self.replicas.append(service)
        return service

    def start_many(self, *environments: Mapping[str, str]) -> list[ServiceProcess]:
        """Start as many replicas, at the same time, and wait until each sees ZooKeeper."""
        with ThreadPoolExecutor(len(environments)) as threads:
            started = list(threads.map(lambda given: self.start(**given), environments))
        for replica in started:
            wait_until(lambda: self.is_fresh(replica), "it sees ZooKeeper")  # noqa: B023
        return started

    @staticmethod
    def is_fresh(replica: ServiceProcess) -> bool:
        return replica.request("GET", f"{API}/discover/nobody").json()["stale"] is False

    def way_to_zookeeper(self) -> tuple[LossyProxy, dict[str, str]]:
        """Open a proxy, and name the settings of a replica whose way it stands in."""
        proxy = LossyProxy(self.zookeeper.host, self.zookeeper.port)
        self._opened.callback(proxy.close)
        return proxy, {"ZOOKEEPER_HOSTS": f"127.0.0.1:{proxy.port}"}

    def close(self) -> None:
        for replica in self.replicas:
            replica.kill()
        self._opened.close()

    # What instances do

    def register(self, replica: ServiceProcess, service: str, id_: str, **more: Any) -> Registered:
        body = {"service_name": service, "instance_id": id_, "service_url": f"http://{id_}:80"}
        answer = replica.request("POST", f"{API}/register", body | more)
        assert answer.status in {200, 201}, answer.body
        response = answer.json()
        self.history.append(
            "registered", service=service, id=id_, epoch=response["epoch"], at=monotonic()
        )
        return Registered(service, id_, response["epoch"])

    def register_many(
        self,
        replica: ServiceProcess,
        service: str,
        count: int,
        *,
        prefix: str = "i",
        **more: Any,
    ) -> list[Registered]:
        """`{id}` in a text stands for the id of each."""

        def one(number: int) -> Registered:
            id_ = f"{prefix}-{number:04}"
            facts = {
                name: value.format(id=id_) if isinstance(value, str) else value
                for name, value in more.items()
            }
            return self.register(replica, service, id_, **facts)

        with ThreadPoolExecutor(_AT_ONCE) as threads:
            return list(threads.map(one, range(count)))

    def silence(self, instances: Sequence[Registered], bound: float) -> None:
        """Put down that they died now, and after how many seconds they have to be gone."""
        for one in instances:
            self.history.append(
                "silenced", service=one.service, id=one.id, at=monotonic(), bound=bound
            )

    def deregister(self, replica: ServiceProcess, one: Registered, epoch: int = 0) -> Answer:
        """Of another epoch than its own where one is given."""
        began = monotonic()
        epoch_sent = epoch or one.epoch
        body = {"service_name": one.service, "instance_id": one.id, "epoch": epoch_sent}
        answer = replica.request("POST", f"{API}/deregister", body)
        if answer.status == 200:
            self.history.append("left", service=one.service, id=one.id, began=began, at=monotonic())
        return answer

    def beat(self, replica: ServiceProcess, one: Registered) -> Answer:
        body = {"epoch": one.epoch}
        answer = replica.request("PUT", f"{one.path}/heartbeat", body)
        self.told_of_beat(one, answer.status)
        return answer

    def told_of_beat(self, one: Registered, status: int) -> None:
        facts = {"service": one.service, "id": one.id, "epoch": one.epoch}
        self.history.append("beaten", **facts, status=status, at=monotonic())

    # What is true

    @staticmethod
    def are_up(replicas: Sequence[ServiceProcess], service: str, count: int) -> bool:
        """Tell whether each replica discovers so many instances, none of them in doubt."""
        for replica in replicas:
            items = replica.request("GET", f"{API}/discover/{service}").json()["items"]
            if [item["status"] for item in items] != ["up"] * count:
                return False
        return True

    def rows(self) -> list[RowFact]:
        return [RowFact(*row) for row in self.fetch(_ROWS)]

    def fetch(self, question: str) -> list[Any]:
        async def fetch_rows() -> list[Any]:
            connection = await asyncpg.connect(self.database, timeout=PATIENCE_SECONDS)
            try:
                return list(await connection.fetch(question))
            finally:
                await connection.close()

        return asyncio.run(fetch_rows())

    def nodes(self) -> list[NodeFact]:
        with self.tool() as tool:
            found = []
            for service in tool.get_children(self.base):
                folder = f"{self.base}/{service}"
                reads = {n: tool.get_async(f"{folder}/{n}") for n in tool.get_children(folder)}
                for name, answer in reads.items():
                    with suppress(NoNodeError):
                        data, stat = answer.get(timeout=PATIENCE_SECONDS)
                        found.append(NodeFact.read(service, name, data, stat.ephemeralOwner))
            return found

    def tool(self) -> "Tool":
        return Tool(self.zookeeper.hosts)

    def flaws(self) -> list[str]:
        """Compare nodes with rows as they are now."""
        return check_nodes(self.rows(), self.nodes())

    def settle(self, within: float) -> float:
        """Wait until nodes and rows agree; return the seconds that took."""
        began = monotonic()
        flaws: list[str] = []

        def agree() -> bool:
            flaws[:] = self.flaws()
            return not flaws

        try:
            wait_until(agree, "nodes and rows agree", within + SLACK_SECONDS)
        except TimeoutError as late:
            raise AssertionError(f"{late}: {len(flaws)} flaws, {flaws[:3]}") from late
        return monotonic() - began

    def violations(self) -> list[str]:
        return check_history(self.history.lines())


class Tool(KazooClient):  # type: ignore[misc] # untyped
    """A client of ZooKeeper past the service."""

    def __init__(self, hosts: str) -> None:
        super().__init__(hosts, timeout=10)

    def __enter__(self) -> Self:
        self.start(timeout=PATIENCE_SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.close()
