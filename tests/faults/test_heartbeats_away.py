"""Heartbeats that were acknowledged while Postgres was away have been heard."""

from functools import partial
from time import monotonic

import pytest

from tests.e2e.client import told
from tests.servers.postgres import PostgresServer
from tests.servers.process import wait_until
from tests.servers.service import ServiceProcess

pytestmark = pytest.mark.faults

REGISTRY = "/api/v1/registry"
TTL_SECONDS = 2
AWAY_SECONDS = 3 * TTL_SECONDS  # longer than anybody may be silent
IDS = ("one", "two", "three")


def beat(service: ServiceProcess, *, until: float) -> bool:
    for id_ in IDS:
        path = f"{REGISTRY}/services/billing/instances/{id_}/heartbeat"
        told(service.request("PUT", path))
    return monotonic() > until


def test_whoever_was_heard_while_postgres_was_away_stays(postgres_server: PostgresServer) -> None:
    with ServiceProcess({"DATABASE_URL": postgres_server.fresh_database()}) as service:
        facts = {"service_name": "billing", "ttl_seconds": TTL_SECONDS}
        for id_ in IDS:
            body = {**facts, "instance_id": id_, "service_url": f"http://{id_}.example.org"}
            told(service.request("POST", f"{REGISTRY}/register", body), 201)

        postgres_server.kill()
        try:
            away = partial(beat, service, until=monotonic() + AWAY_SECONDS)
            wait_until(away, "they were heard for long enough", AWAY_SECONDS + 10)
        finally:
            postgres_server.restart()
        # A heartbeat would be answered 404, and end the test, if any of them was removed.
        back = partial(beat, service, until=monotonic() + 2 * TTL_SECONDS)
        wait_until(back, "they were heard once more", 10)

        found = told(service.request("GET", f"{REGISTRY}/discover/billing"))["items"]
        assert {item["instance_id"] for item in found} == set(IDS)
