"""Instances that go on sending heartbeats survive an outage of Postgres."""

from functools import partial
from time import monotonic

import pytest

from tests.e2e.client import body_of
from tests.servers.deadlines import PROMPT
from tests.servers.postgres import PostgresServer
from tests.servers.process import wait_until
from tests.servers.service import ServiceProcess

pytestmark = pytest.mark.faults

REGISTRY = "/api/v1/registry"
TTL_SECONDS = 2
OUTAGE_SECONDS = 3 * TTL_SECONDS  # longer than anybody may be silent
IDS = ("one", "two", "three")


def beat(service: ServiceProcess, *, until: float) -> bool:
    for id_ in IDS:
        path = f"{REGISTRY}/services/billing/instances/{id_}/heartbeat"
        # Not heard, because nobody could note it; a 404 would say that it was removed.
        assert service.request("PUT", path).status in {200, 503}
    return monotonic() > until


def test_whoever_went_on_while_postgres_was_unavailable_stays(
    postgres_server: PostgresServer,
) -> None:
    with ServiceProcess({**PROMPT, "DATABASE_URL": postgres_server.fresh_database()}) as service:
        facts = {"service_name": "billing", "ttl_seconds": TTL_SECONDS}
        for id_ in IDS:
            body = {**facts, "instance_id": id_, "service_url": f"http://{id_}.example.org"}
            body_of(service.request("POST", f"{REGISTRY}/register", body), 201)

        postgres_server.kill()
        try:
            beats = partial(beat, service, until=monotonic() + OUTAGE_SECONDS)
            wait_until(beats, "it was unavailable for long enough", OUTAGE_SECONDS + 10)
        finally:
            postgres_server.restart()
        back = partial(beat, service, until=monotonic() + 2 * TTL_SECONDS)
        wait_until(back, "they were heard once more", 10)

        found = body_of(service.request("GET", f"{REGISTRY}/discover/billing"))["items"]
        assert {item["instance_id"] for item in found} == set(IDS)
