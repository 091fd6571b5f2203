"""What operators see of a running service: health, metrics, numbers and its log."""

import json
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.client import Layer, Service, body_of, fresh_secret
from tests.servers.process import freeze_server, wait_until
from tests.servers.vault import VaultServer


def lines_of(service: Service) -> list[dict[str, Any]]:
    return [json.loads(line) for line in service.process.log().splitlines()]


def test_it_lives(service: Service) -> None:
    answer = service.get("/live")

    assert body_of(answer) == {"status": "alive"}
    assert answer.headers["Cache-Control"] == "no-store"


def test_it_is_ready_and_names_the_adapter_of_each_port(service: Service) -> None:
    found = body_of(service.get("/ready"))

    assert found["status"] == "ready"
    ports = {port["name"]: port for port in found["ports"]}
    adapters = (ports["configs"]["adapter"], ports["changes"]["adapter"])
    assert adapters in {("embedded", "embedded"), ("vault", "postgres")}
    for name in ("configs", "flags", "changes"):
        assert ports[name]["status"] == "up"
        assert ports[name]["latency_ms"] >= 0


def test_its_health_tells_version_and_revision(service: Service, layer: Layer) -> None:
    revision = int(layer.create("a", 1).headers["X-Revision"])
    body_of(layer.get("a", min_revision=revision))

    found = body_of(service.get("/health"))

    assert (found["status"], found["live"]) == ("ready", "alive")
    assert found["version"]
    assert found["revision"] >= revision
    assert 0 <= found["log_last_contact_seconds"] < 5


def test_its_metrics_can_be_scraped(service: Service, layer: Layer) -> None:
    layer.create("a", 1)

    answer = service.get("/metrics")

    families = {family.name for family in text_string_to_metric_families(answer.body.decode())}
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert {
        "pilothouse_http_requests",
        "pilothouse_http_request_duration_seconds",
        "pilothouse_config_writes",
        "pilothouse_config_write_duration_seconds",
        "pilothouse_config_reads",
        "pilothouse_log_revision",
        "pilothouse_open_intents",
        "pilothouse_version_regressions",
        "pilothouse_external_edits",
        "pilothouse_background_failures",
    } <= families


def test_requests_are_counted_by_route_and_never_by_name(service: Service, layer: Layer) -> None:
    series = (
        'pilothouse_http_requests_total{method="GET",route="/api/v1/config/{key}",status="404"}'
    )
    before = service.metric(series)

    layer.get("some.key")
    layer.get("some.other")

    assert service.metric(series) == before + 2
    text = service.get("/metrics").body.decode()
    assert layer.service not in text
    assert "some.key" not in text


@pytest.mark.parametrize(
    ("outcome", "value"), [("written", 2), ("unchanged", 1), ("refused", "conflict")]
)
def test_writes_are_counted_by_what_became_of_them(
    layer: Layer, outcome: str, value: object
) -> None:
    layer.create("a", 1)
    series = f'pilothouse_config_writes_total{{outcome="{outcome}"}}'
    before = layer.of.metric(series)

    layer.patch(set={"a.b" if value == "conflict" else "a": value})

    assert layer.of.metric(series) == before + 1


def test_the_numbers_for_people_count_what_there_is(service: Service) -> None:
    before = body_of(service.get("/stats"))
    layer, other = service.layer(), service.layer()
    for each in (layer, layer.at(environment=other.environment), other):
        each.create("a", 1)
    other.delete_document()

    after = body_of(service.get("/stats"))

    assert after["documents"] == before["documents"] + 2
    assert after["environments"] == before["environments"] + 2
    assert after["services"] == before["services"] + 1
    assert after["changes_last_hour"] == before["changes_last_hour"] + 4
    assert 0 <= after["cache_hit_ratio"] <= 1


def test_every_line_of_its_log_is_json_with_a_time_and_a_level(service: Service) -> None:
    lines = lines_of(service)

    assert {"started", "request"} <= {line["event"] for line in lines}
    assert all({"event", "level", "timestamp"} <= set(line) for line in lines)


def test_each_request_is_one_line_with_its_id(layer: Layer) -> None:
    wrong = layer.get("a")
    right = layer.create("a", 1)
    ids = [answer.headers["X-Request-Id"] for answer in (wrong, right)]

    def logged_requests() -> list[dict[str, Any]]:
        found = [line for line in lines_of(layer.of) if line.get("request_id") in ids]
        return [line for line in found if line["event"] == "request"]

    wait_until(lambda: len(logged_requests()) >= 2, "both requests are logged")
    first, second = logged_requests()
    assert (first["method"], first["route"], first["status"]) == (
        "GET",
        "/api/v1/config/{key}",
        404,
    )
    assert first["problem"] == "key_not_found"
    assert (second["method"], second["route"], second["status"]) == ("POST", "/api/v1/config", 201)
    assert second["duration_ms"] > 0


def test_no_line_of_its_log_has_a_value(layer: Layer) -> None:
    value = fresh_secret()
    layer.create("a", value)
    layer.put("a", {"b": value})
    layer.create_document({"a": value})
    layer.load(f"a: '{value}")
    layer.of.call("POST", "/api/v1/config", {"key": "a", "value": 1, "comment": [value]})

    assert value not in layer.of.process.log()


def test_nothing_went_wrong_behind_the_scenes(service: Service) -> None:
    assert [line for line in lines_of(service) if "exception" in line] == []


def test_an_embedded_service_warns_that_it_is_one(service_embedded: Service, real: Service) -> None:
    warnings = [line for line in lines_of(service_embedded) if line["event"] == "embedded_adapters"]

    assert [(line["level"], line["ports"]) for line in warnings] == [
        ("warning", ["configs", "flags", "changes", "registry"])
    ]
    assert "embedded_adapters" not in real.process.log()


def test_what_is_answered_from_the_last_known_state_says_how_old_that_is(
    real: Service, vault_server: VaultServer
) -> None:
    real.wait_until_ready()
    layer = real.layer()
    layer.create("a", 1)
    tags = [layer.get("a").headers["ETag"], layer.document().headers["ETag"]]
    known = [{"If-None-Match": tag} for tag in tags]

    with freeze_server(vault_server):
        wait_until(lambda: "X-Stale" in layer.get("a").headers, "it notices")
        answers = [
            layer.get("a"),
            layer.get("a", headers=known[0]),
            layer.get("a", resolve=False),
            layer.get("a", resolve=False, headers=known[1]),
            layer.keys(),
            layer.history("a"),
            layer.effective(),
            layer.effective(headers=known[0]),
            layer.effective(headers={"Accept": "application/yaml"}),
            layer.document(),
            layer.document(headers=known[1]),
            layer.export(),
            layer.export(headers=known[1]),
        ]
        ready = real.get("/ready")

    statuses = [answer.status for answer in answers]
    assert statuses == [200, 304, 200, 304, 200, 200, 200, 304, 200, 200, 304, 200, 304]
    assert [answer.headers["X-Stale"] is None for answer in answers] == [False] * len(answers)
    assert body_of(ready)["status"] == "degraded"
    real.wait_until_ready()
    assert "X-Stale" not in layer.get("a").headers


@pytest.mark.parametrize("path", ["/docs", "/openapi.json"])
def test_it_describes_itself(service: Service, path: str) -> None:
    assert service.get(path).status == 200
