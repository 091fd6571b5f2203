"""Probes: living is unconditional, readiness means that reads are answered."""

from dataclasses import dataclass, field

import httpx
import pytest
from fastapi import FastAPI

from app.status.router import router
from app.status.schemas import HealthSource, PortStatus
from app.web import problem
from app.web.boundary import RequestBoundary

pytestmark = pytest.mark.anyio

UP = PortStatus("config_store", "vault", "up", latency_ms=1.5)
DOWN = PortStatus("change_log", "postgres", "down", detail="no connection within 2 s")


@dataclass
class House:
    """A replica whose condition a test decides."""

    serving: bool = True
    is_leaving: bool = False
    can_read: bool = True
    statuses: list[PortStatus] = field(default_factory=lambda: [UP])
    collected: int = 0

    async def ports(self) -> list[PortStatus]:
        assert self.serving, "a replica that stops is not asked for its servers"
        return self.statuses

    def collect_metrics(self) -> None:
        self.collected += 1

    def facts(self) -> dict[str, object]:
        return {"version": "0.1.0", "revision": 7, "status": "facts override nothing"}


@pytest.fixture
def house() -> House:
    return House()


@pytest.fixture
def state(house: House) -> dict[str, object]:
    source: HealthSource = house
    return {
        "health": source,
        "readiness_checks": (lambda: house.can_read,),
        "health_facts": (house.facts, lambda: {"malformed_documents": 2}),
        "collect_metrics": house.collect_metrics,
    }


@pytest.fixture
def app() -> FastAPI:
    app = FastAPI(redirect_slashes=False)
    problem.install(app)
    app.add_middleware(RequestBoundary)
    app.include_router(router)
    return app


async def test_a_process_lives_even_while_it_stops(client: httpx.AsyncClient, house: House) -> None:
    house.serving = house.can_read = False

    answer = await client.get("/live")

    assert answer.status_code == 200
    assert answer.json() == {"status": "alive"}


async def test_a_replica_with_all_its_ports_is_ready(client: httpx.AsyncClient) -> None:
    answer = await client.get("/ready")

    assert answer.status_code == 200
    assert answer.json() == {
        "status": "ready",
        "ports": [
            {
                "name": "config_store",
                "adapter": "vault",
                "status": "up",
                "latency_ms": 1.5,
                "detail": None,
            }
        ],
    }


async def test_a_replica_that_can_still_read_is_degraded_and_ready(
    client: httpx.AsyncClient, house: House
) -> None:
    house.statuses.append(DOWN)

    answer = await client.get("/ready")

    assert answer.status_code == 200
    assert answer.json()["status"] == "degraded"
    assert answer.json()["ports"][1]["detail"] == "no connection within 2 s"


@pytest.mark.parametrize("path", ["/ready", "/health"])
async def test_a_replica_that_cannot_read_is_not_ready(
    client: httpx.AsyncClient, house: House, path: str
) -> None:
    house.can_read = False

    answer = await client.get(path)

    assert answer.status_code == 503
    assert answer.json()["status"] == "not_ready"


@pytest.mark.parametrize("path", ["/ready", "/health"])
async def test_a_replica_that_stops_is_not_ready(
    client: httpx.AsyncClient, house: House, path: str
) -> None:
    house.serving = False

    answer = await client.get(path)

    assert answer.status_code == 503
    assert answer.json()["status"] == "stopping"
    assert answer.json()["ports"] == []


async def test_health_adds_the_facts(client: httpx.AsyncClient) -> None:
    answer = await client.get("/health")

    members = answer.json()
    assert answer.status_code == 200
    assert members["status"] == "ready"
    assert members["live"] == "alive"
    assert members["version"] == "0.1.0"
    assert members["revision"] == 7
    assert members["malformed_documents"] == 2
    assert len(members["ports"]) == 1


@pytest.mark.parametrize("path", ["/live", "/ready", "/health", "/metrics"])
async def test_no_cache_keeps_a_condition(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(path)).headers["cache-control"] == "no-store"


async def test_metrics_are_told_in_the_text_of_prometheus(client: httpx.AsyncClient) -> None:
    await client.get("/live")

    answer = await client.get("/metrics")

    assert answer.headers["content-type"].startswith("text/plain")
    assert 'pilothouse_http_requests_total{method="GET",route="/live",status="200"}' in answer.text
    assert "process_cpu_seconds_total" in answer.text
    assert "_created" not in answer.text


async def test_a_replica_that_leaves_is_not_ready_and_tells_of_its_ports(
    client: httpx.AsyncClient, house: House
) -> None:
    house.is_leaving = True

    answer = await client.get("/ready")

    assert answer.status_code == 503
    assert answer.json()["status"] == "stopping"
    assert len(answer.json()["ports"]) == 1
