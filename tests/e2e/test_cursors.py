"""Cursors that no list has given out: each list answers, or refuses them as bad."""

import base64
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.e2e.administered import REQUIRED, Administered
from tests.e2e.client import Service, body_of, fresh_name
from tests.e2e.conftest import EITHER, embedded_service, real_service
from tests.servers.postgres import PostgresServer
from tests.servers.process import wait_until
from tests.servers.vault import VaultServer
from tests.servers.zookeeper import ZooKeeperServer

OPENAPI = Path(__file__).parents[2] / "docs" / "reference" / "openapi.json"
ENVIRONMENT, NAME = "cursors", "shop"
PLACE = {"environment": ENVIRONMENT, "service_name": NAME}
HERE = {"environment": ENVIRONMENT}
# Every list that takes a cursor, where it has something to list.
LISTS: Mapping[str, Mapping[str, Any]] = {
    "/api/configs": {},
    f"/api/configs/{NAME}/history": HERE,
    "/api/v1/audit": {},
    "/api/v1/changes": {},
    "/api/v1/config": PLACE,
    "/api/v1/config/a/history": PLACE,
    "/api/v1/feature-flags": HERE,
    "/api/v1/feature-flags/f/history": HERE,
    "/api/v1/proposals": {},
    "/api/v1/policies": {},
    "/api/v1/policies/bypasses": {},
    "/api/v1/policies/p/history": {},
    "/api/v1/promotions/pins": {},
    "/api/v1/readers": {},
    "/api/v1/registry/services": {},
    "/api/v1/releases": {},
    "/api/v1/schemas": {},
    "/api/v1/schemas/c/history": {},
    "/api/v1/segments": HERE,
    "/api/v1/segments/s/history": HERE,
    "/api/v1/stale-flags": {**HERE, "days": "0"},
    "/api/v1/templates": {},
    "/api/v1/templates/t/history": {},
    "/api/v1/templates/t/uses": {},
    "/api/v1/tokens": {},
    "/api/v1/violations": {},
    "/api/v1/webhooks": {},
    "/api/v1/webhooks/w/dead-letters": {},
    "/api/v1/webhooks/w/deliveries": {},
}
# Only what has failed for a day is in it: tests/contracts/test_delivery_store.py fills it.
EMPTY = ("/api/v1/webhooks/w/dead-letters", "/api/v1/releases")
_ZONES = st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))
_MOMENTS = st.datetimes(timezones=st.just(UTC) | _ZONES)
# What it takes to be a moment at one end of the calendar, and none in UTC.
FIRST, LAST = "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59.999999-23:59"
_TEXTS = (
    st.text()
    | st.text(st.characters(codec=None), max_size=20)  # surrogates too
    | st.sampled_from(["", "\0", "\ud800", "..", "%", "'", "*", "a" * 1000, "\U0010ffff"])
    | _MOMENTS.map(datetime.isoformat)
    | st.sampled_from([FIRST, LAST, "2026-01-01", "2026-01-01T00:00:00", "infinity", "now"])
)
_EDGES = [0, 1, 2**15, 2**31 - 1, 2**31, 2**53, 2**63 - 20_000, 2**63 - 1, 2**63, -1, -(2**63)]
_NUMBERS = st.integers() | st.sampled_from(_EDGES)
_PARTS = _TEXTS | _NUMBERS | st.none() | st.booleans() | st.floats() | st.lists(st.text())


def encode_cursor(parts: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode().rstrip("=")[:2048]


CURSORS = (
    st.lists(_PARTS, max_size=3).map(encode_cursor)
    # Most lists want one of these, so that most draws get further than the check of types.
    | st.tuples(_NUMBERS).map(encode_cursor)
    | st.tuples(_TEXTS).map(encode_cursor)
    | st.tuples(_TEXTS, _TEXTS).map(encode_cursor)
    | st.tuples(_MOMENTS.map(datetime.isoformat), _TEXTS).map(encode_cursor)
    | st.text(st.characters(codec="ascii", categories=["L", "N", "P", "S"]), max_size=50)
)


@pytest.fixture(scope="module")
def service_embedded() -> Iterator[Service]:
    with embedded_service(REQUIRED) as found:
        yield Administered(found.process, found.backend, found.settings)


@pytest.fixture(scope="module")
def real(
    vault_server: VaultServer, postgres_server: PostgresServer, zookeeper_server: ZooKeeperServer
) -> Iterator[Service]:
    with real_service(vault_server, postgres_server, zookeeper_server, REQUIRED) as found:
        yield Administered(found.process, found.backend, found.settings)


@pytest.fixture(scope="module", params=EITHER)
def filled_service(request: pytest.FixtureRequest) -> Service:
    """Return a service each list of which has something to list."""
    service: Service = request.getfixturevalue(request.param)
    service.wait_until_ready()
    service.call("POST", "/api/v1/config", {**PLACE, "key": "a", "value": 1})
    service.call("POST", "/api/v1/feature-flags", {**HERE, "name": "f"})
    service.call("POST", "/api/v1/segments", {**HERE, "name": "s"})
    service.call("POST", "/api/v1/promotions/pins", {**PLACE, "key": "a"})
    warns = {"mode": "warn", "applies_to": [{"services": [NAME]}], "schema": {"required": ["x"]}}
    service.call("PUT", "/api/v1/schemas/c", warns)
    service.call("PUT", "/api/v1/templates/t", {"data": {"b": 1}})
    service.call("POST", "/api/v1/templates/t/use", PLACE)
    hook = {"url": "http://127.0.0.1:1/", "kinds": ["config"], "enabled": False}
    service.call("PUT", "/api/v1/webhooks/w", hook)
    service.call("POST", "/api/v1/webhooks/w/test")
    item = {"kind": "config", **PLACE, "set": {"p": 1}}
    service.call("POST", "/api/v1/proposals", {"title": "p", "items": [item]})
    service.call("PUT", "/api/v1/policies/p", {"kinds": ["config"], "environments": ["c-guarded"]})
    bypass = {"Bypass-Reason": "a test"}
    guarded: dict[str, Any] = {"environment": "c-guarded", "service_name": NAME}
    service.call("PATCH", "/api/v1/config", {"set": {"a": 1}}, headers=bypass, **guarded)
    report = {**PLACE, "instance": "i1", "outcome": "adopted"}
    service.call("POST", "/api/v1/readers", report)
    instance = {"service_name": NAME, "service_url": "http://192.0.2.1:80", "instance_id": "i1"}
    service.call("POST", "/api/v1/registry/register", instance)
    wanted = {"class": "client", "environments": ["x"], "services": ["x"]}
    service.call("POST", "/api/v1/tokens", {"name": fresh_name("token"), **wanted})
    wait_until(lambda: service.get("/api/v1/violations").json()["items"], "it is judged")
    return service


def test_every_list_with_a_cursor_stands_in_the_table() -> None:
    paths = json.loads(OPENAPI.read_text())["paths"]
    routes = {
        path
        for path, methods in paths.items()
        if any(one["name"] == "cursor" for one in methods.get("get", {}).get("parameters", ()))
    }
    listed = {
        path.replace(f"/{NAME}/", "/{service}/")
        .replace("/a/", "/{key}/")
        .replace("/f/", "/{name}/")
        .replace("/s/", "/{name}/")
        .replace("/t/", "/{name}/")
        .replace("/c/", "/{name}/")
        .replace("/w/", "/{name}/")
        .replace("/p/", "/{name}/")
        for path in LISTS
    }

    assert listed == routes


@pytest.mark.parametrize("path", LISTS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cursor=CURSORS)
@example(cursor=encode_cursor([FIRST, "0" * 16]))
@example(cursor=encode_cursor([LAST, "0" * 16]))
@example(cursor=encode_cursor(["2026-01-01T00:00:00+00:00", "\ud800"]))
@example(cursor=encode_cursor(["2026-01-01T00:00:00+00:00", "\0"]))
@example(cursor=encode_cursor(["\ud800"]))
@example(cursor=encode_cursor(["\0", "\ud800"]))
@example(cursor=encode_cursor([0]))
@example(cursor=encode_cursor([1]))
@example(cursor=encode_cursor([2**31]))
@example(cursor=encode_cursor([2**63 - 1]))
@example(cursor=encode_cursor([2**63]))
def test_a_made_up_cursor_is_a_place_in_the_list_or_a_bad_request(
    filled_service: Service, path: str, cursor: str
) -> None:
    answer = filled_service.get(path, cursor=cursor, limit="1", **LISTS[path])

    if answer.status != 200:
        assert body_of(answer, 400)["code"] in {"bad_cursor", "bad_query"}
    else:
        assert len(answer.json()["items"]) <= 1


@pytest.mark.parametrize("path", LISTS)
def test_the_pages_of_a_list_are_the_list(filled_service: Service, path: str) -> None:
    def page(cursor: str | None, limit: int) -> Any:
        return body_of(filled_service.get(path, limit=str(limit), cursor=cursor, **LISTS[path]))

    pages, cursor = [page(None, 3)], None
    while (cursor := pages[-1]["next"]) is not None and len(pages) < 4:
        pages.append(page(cursor, 3))
    parts = [item for one in pages for item in one["items"]]

    assert bool(parts) is (path not in EMPTY)
    assert parts == page(None, 100)["items"][: len(parts)]
