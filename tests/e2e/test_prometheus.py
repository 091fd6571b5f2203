"""A real Prometheus discovers its targets, and keeps them while the registry is unavailable."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.e2e.client import body_of, fresh_name
from tests.servers.process import wait_until
from tests.servers.prometheus import PrometheusServer, start_prometheus
from tests.servers.service import ServiceProcess
from tests.servers.zookeeper import ZooKeeperServer

REGISTRY = "/api/v1/registry"
# Prometheus hands a new list on every five seconds, and to its scrapers every five more.
TAKEN_OVER = 30
REFRESHES = 60  # in twelve seconds: whatever the first of them did would be seen by then
ZONE: Mapping[str, Any] = {"source_labels": ["__meta_pilothouse_zone"], "target_label": "zone"}


@pytest.fixture
def service(zookeeper_server: ZooKeeperServer) -> Iterator[ServiceProcess]:
    base = zookeeper_server.fresh_path()
    settings = {"ZOOKEEPER_HOSTS": zookeeper_server.hosts, "ZOOKEEPER_BASE_PATH": base}
    with ServiceProcess(settings) as process:
        yield process


@pytest.fixture
def prometheus(service: ServiceProcess) -> Iterator[PrometheusServer]:
    with start_prometheus(f"{service.url}{REGISTRY}/prometheus", [ZONE]) as prometheus:
        yield prometheus


def register(service: ServiceProcess, name: str, url: str, **more: Any) -> None:
    body = {"service_name": name, "service_url": url, "ttl_seconds": 600, **more}
    body_of(service.request("POST", f"{REGISTRY}/register", body), 201)


def target_health(prometheus: PrometheusServer) -> dict[str, str]:
    """Tell the health of every target by its instance."""
    return {target["labels"]["instance"]: target["health"] for target in prometheus.targets()}


def test_targets_come_with_their_labels_outlive_an_outage_and_go_when_they_deregister(
    service: ServiceProcess, prometheus: PrometheusServer, zookeeper_server: ZooKeeperServer
) -> None:
    itself, gone = service.url.removeprefix("http://"), "127.0.0.1:9"
    name = fresh_name("billing")
    register(service, name, service.url, zone="a", metadata={"team": "red"})
    register(service, name, f"https://{gone}", instance_id="gone")
    both = {itself: "up", gone: "down"}
    wait_until(lambda: target_health(prometheus) == both, "both are scraped", TAKEN_OVER)

    found = {target["labels"]["instance"]: target for target in prometheus.targets()}
    assert found[itself]["labels"].items() >= {"service": name, "zone": "a"}.items()
    assert found[itself]["discoveredLabels"]["__meta_pilothouse_metadata_team"] == "red"
    assert found[gone]["scrapeUrl"] == f"https://{gone}/metrics"

    zookeeper_server.stop()
    try:
        wait_until(
            lambda: service.request("GET", f"{REGISTRY}/prometheus").status == 500, "it is in doubt"
        )
        failed = prometheus.failed_refreshes() + REFRESHES
        wait_until(lambda: prometheus.failed_refreshes() >= failed, "it asked in vain", TAKEN_OVER)
        assert target_health(prometheus) == both
    finally:
        zookeeper_server.restart()

    body = {"service_name": name, "instance_id": "gone"}
    body_of(service.request("POST", f"{REGISTRY}/deregister", body))
    wait_until(lambda: target_health(prometheus) == {itself: "up"}, "one has gone", TAKEN_OVER)
