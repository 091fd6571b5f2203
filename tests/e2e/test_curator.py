"""Apache Curator's own discovery and ours find each other's instances in one real ZooKeeper."""

from collections.abc import Iterator
from typing import Any

import pytest
from kazoo.client import KazooClient

from tests.e2e.client import body_of, fresh_name
from tests.servers.curator import start_curator
from tests.servers.process import PATIENCE_SECONDS, wait_until
from tests.servers.program import Program, ProgramFailed
from tests.servers.service import ServiceProcess
from tests.servers.zookeeper import ZooKeeperServer

REGISTRY = "/api/v1/registry"
# As Spring Cloud ZooKeeper puts an application's own facts into the payload.
PAYLOAD = {"name": "billing", "metadata": {"team": "red"}}


class Registry:
    """The service and Curator at one base path."""

    def __init__(self, process: ServiceProcess, curator: Program, base: str) -> None:
        self.process = process
        self.curator = curator
        self.base = base

    def register(self, service: str, url: str, **more: Any) -> Any:
        body = {"service_name": service, "service_url": url, **more}
        return body_of(self.process.request("POST", f"{REGISTRY}/register", body), 201)

    def deregister(self, service: str, instance: str) -> None:
        body = {"service_name": service, "instance_id": instance}
        body_of(self.process.request("POST", f"{REGISTRY}/deregister", body))

    def discovered_instances(self, service: str) -> dict[str, Any]:
        items = body_of(self.process.request("GET", f"{REGISTRY}/discover/{service}"))["items"]
        return {item["instance_id"]: item for item in items}

    def url_of(self, service: str, instance: str) -> str:
        return str(self.discovered_instances(service).get(instance, {}).get("service_url"))

    def curators(self, service: str) -> dict[str, Any]:
        return {found["id"]: found for found in self.curator.ask("list", service=service)}

    def curator_registers(self, service: str, instance: str, port: int) -> None:
        facts: dict[str, Any] = {"address": "10.2.3.4", "port": port, "payload": PAYLOAD}
        self.curator.ask("register", service=service, instance=instance, **facts)


@pytest.fixture(scope="module")
def registry(zookeeper_server: ZooKeeperServer) -> Iterator[Registry]:
    base = zookeeper_server.fresh_path()
    settings = {"ZOOKEEPER_HOSTS": zookeeper_server.hosts, "ZOOKEEPER_BASE_PATH": base}
    with ServiceProcess(settings) as process, start_curator() as curator:
        curator.ask("start", hosts=zookeeper_server.hosts, base=base, within=30)
        yield Registry(process, curator, base)


@pytest.fixture
def name() -> str:
    return fresh_name("billing")


@pytest.fixture
def zookeeper(zookeeper_server: ZooKeeperServer) -> Iterator[KazooClient]:
    client = KazooClient(zookeeper_server.hosts)
    client.start(timeout=PATIENCE_SECONDS)
    try:
        yield client
    finally:
        client.stop()
        client.close()


@pytest.mark.parametrize(
    ("written", "built"),
    [
        ("http://10.1.2.3:8080", "http://10.1.2.3:8080"),
        ("http://billing.example.org/v2", "http://billing.example.org:80/v2"),
        ("http://[fd00::7]:8080", "http://[fd00::7]:8080"),
    ],
)
def test_curator_lists_what_we_registered(
    registry: Registry, name: str, written: str, built: str
) -> None:
    registered = registry.register(name, written, tags=["blue"], zone="a", metadata={"k": "v"})

    (found,) = registry.curators(name).values()

    address, _, port = built.removeprefix("http://").split("/")[0].rpartition(":")
    assert found["id"] == registered["instance_id"]
    assert (found["address"], found["port"]) == (address.strip("[]"), int(port))
    assert (found["url"], found["sslPort"], found["type"]) == (built, None, "DYNAMIC")
    assert name in registry.curator.ask("names")


def test_curator_takes_an_instance_of_https_for_one(registry: Registry, name: str) -> None:
    registry.register(name, "https://10.1.2.3:8443/api", instance_id="one")

    found = registry.curators(name)["one"]

    assert (found["sslPort"], found["url"]) == (8443, "https://10.1.2.3:8443/api")


def test_curator_hears_of_who_comes_and_who_goes(registry: Registry, name: str) -> None:
    registry.register(name, "http://10.1.2.3:8080", instance_id="one")
    watched = registry.curator.ask("watch", service=name)

    registry.register(name, "http://10.1.2.3:8081", instance_id="two")
    hear(registry, {"one", "two"})
    registry.deregister(name, "one")
    hear(registry, {"two"})

    assert [found["id"] for found in watched] == ["one"]


def hear(registry: Registry, ids: set[str]) -> None:
    registry.curator.until(lambda event: {found["id"] for found in event["instances"]} == ids)


def test_we_discover_what_curator_registered_as_foreign(registry: Registry, name: str) -> None:
    registry.curator_registers(name, "theirs", 8080)
    wait_until(lambda: "theirs" in registry.discovered_instances(name), "it is discovered")

    found = registry.discovered_instances(name)["theirs"]
    chosen = body_of(registry.process.request("GET", f"{REGISTRY}/services/{name}/url"))

    assert (found["service_url"], found["status"]) == ("http://10.2.3.4:8080", "up")
    assert (found["foreign"], found["epoch"], found["metadata"]) == (True, None, {"team": "red"})
    assert chosen["url"] == "http://10.2.3.4:8080"
    registry.curator.ask("unregister", instance="theirs")
    wait_until(lambda: not registry.discovered_instances(name), "it is gone")


def test_what_curator_changes_in_place_is_seen_at_once(registry: Registry, name: str) -> None:
    registry.curator_registers(name, "theirs", 8080)
    wait_until(lambda: "theirs" in registry.discovered_instances(name), "it is discovered")

    for port in (8081, 8082):
        facts: dict[str, Any] = {"address": "10.2.3.4", "port": port, "payload": PAYLOAD}
        registry.curator.ask("update", service=name, instance="theirs", **facts)
        wait_until(
            lambda port=port: registry.url_of(name, "theirs") == f"http://10.2.3.4:{port}",  # type: ignore[misc]
            "the change is seen",
        )
    out = {"metadata": {"instance_status": "OUT_OF_SERVICE"}}
    registry.curator.ask(
        "update", service=name, instance="theirs", address="10.2.3.4", port=1, payload=out
    )
    wait_until(lambda: not registry.discovered_instances(name), "it is out of service")
    registry.curator.ask("unregister", instance="theirs")


def test_a_name_with_a_slash_is_a_service_for_curator_and_for_us(
    registry: Registry, name: str
) -> None:
    nested = f"{name}/orders"
    registry.curator_registers(nested, "host:app:8080", 8080)

    wait_until(lambda: "host:app:8080" in registry.discovered_instances(nested), "it is discovered")

    found = registry.discovered_instances(nested)["host:app:8080"]
    assert (found["service_name"], found["service_url"]) == (nested, "http://10.2.3.4:8080")
    assert list(registry.curators(nested)) == ["host:app:8080"]
    assert name in registry.curator.ask("names")
    request = registry.process.request
    assert (
        body_of(request("GET", f"{REGISTRY}/services/{nested}/url"))["instance_id"]
        == found["instance_id"]
    )
    (shown,) = body_of(request("GET", f"{REGISTRY}/services/{nested}"))["items"]
    assert shown["service_url"] == "http://10.2.3.4:8080"
    names = body_of(request("GET", f"{REGISTRY}/services?limit=1000"))["items"]
    assert nested in [one["service_name"] for one in names]
    assert name not in [one["service_name"] for one in names]
    assert request("POST", f"{REGISTRY}/services/{nested}/health").status == 200
    assert request("GET", f"{REGISTRY}/services/{nested}/health").status == 405
    registry.curator.ask("unregister", instance="host:app:8080")
    wait_until(lambda: not registry.discovered_instances(nested), "it is gone")


def test_two_nodes_with_one_id_are_both_discovered(
    registry: Registry, name: str, zookeeper: KazooClient
) -> None:
    for node, port in (("n-1", "8080"), ("n-2", "8081")):
        data = f'{{"name":"{name}","id":"same","address":"10.0.0.9","port":"{port}"}}'.encode()
        zookeeper.create(f"{registry.base}/{name}/{node}", data, ephemeral=True, makepath=True)

    wait_until(
        lambda: set(registry.discovered_instances(name)) == {"n-1", "n-2"}, "both are discovered"
    )
    urls = {one["service_url"] for one in registry.discovered_instances(name).values()}
    assert urls == {"http://10.0.0.9:8080", "http://10.0.0.9:8081"}


def test_we_skip_and_report_garbage_that_hides_all_others_from_curator(
    registry: Registry, name: str, zookeeper: KazooClient
) -> None:
    registry.register(name, "http://10.1.2.3:8080", instance_id="ours")
    zookeeper.create(f"{registry.base}/{name}/garbage", b"\x00 no instance", ephemeral=True)
    registry.curator_registers(name, "theirs", 8081)

    wait_until(
        lambda: {"ours", "theirs"} == set(registry.discovered_instances(name)), "both are there"
    )
    reported = [line for line in registry.process.log().splitlines() if name in line]

    assert any('"node_unreadable"' in line and '"garbage"' in line for line in reported)
    with pytest.raises(ProgramFailed):
        registry.curators(name)


def test_who_registers_here_takes_the_id_over(registry: Registry, name: str) -> None:
    registry.curator_registers(name, "same", 8080)
    wait_until(lambda: "same" in registry.discovered_instances(name), "it is discovered")

    registry.register(name, "http://10.1.2.3:9090", instance_id="same")

    assert registry.discovered_instances(name)["same"]["service_url"] == "http://10.1.2.3:9090"
    assert registry.curators(name)["same"]["url"] == "http://10.1.2.3:9090"
