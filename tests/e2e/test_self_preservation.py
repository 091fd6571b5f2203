"""So many fall silent at once that they are kept: who sees it, and how it ends."""

from time import monotonic

import pytest

from tests.e2e.client import Service, body_of
from tests.e2e.registry import REGISTRY, Registered, release_silent
from tests.servers.process import PATIENCE_SECONDS, wait_until

pytestmark = pytest.mark.slow

SILENT = [f"silent-{number}" for number in range(6)]
LIVELY = [f"lively-{number}" for number in range(14)]


@pytest.fixture
def registered_service(service: Service) -> Registered:
    return Registered(release_silent(service))


def register(registered: Registered, *ids: str) -> None:
    for number, id_ in enumerate(ids):
        body_of(registered.register(id_, f"http://10.0.0.7:{8000 + number}", ttl_seconds=1), 201)


def beat(registered: Registered, ids: list[str]) -> None:
    for id_ in ids:
        body_of(registered.heartbeat(id_))


def is_protected(registered: Registered) -> bool:
    protected: bool = body_of(registered.discover())["protected"]
    return protected


def test_the_silent_are_kept_until_an_operator_releases_them(
    registered_service: Registered,
) -> None:
    register(registered_service, *SILENT)
    registered_service.wait_for(**dict.fromkeys(SILENT, "suspect"))
    wait_until(lambda: is_protected(registered_service), "they are protected")

    listed = body_of(registered_service.of.get(f"{REGISTRY}/services", limit=1000))["items"]
    health = body_of(registered_service.of.get("/health"))
    metrics = registered_service.of.get("/metrics").body.decode()
    answer = registered_service.of.call("POST", f"{registered_service.path}/release")

    assert [
        item["protected"] for item in listed if item["service_name"] == registered_service.name
    ] == [True]
    assert (health["protected_services"], health["protected_instances"]) == (1, 6)
    assert "pilothouse_registry_protected_services 1.0" in metrics
    assert "pilothouse_registry_protected_instances 6.0" in metrics
    assert body_of(answer) == {"service_name": registered_service.name, "released": 6}
    registered_service.wait_for()
    wait_until(lambda: not is_protected(registered_service), "nobody is protected any more")
    assert body_of(registered_service.of.get("/health"))["protected_instances"] == 0
    (row,) = body_of(
        registered_service.of.get("/api/v1/audit", action="released", name=registered_service.name)
    )["items"]
    assert (row["kind"], row["facts"]) == ("instance", {"instances": 6})


def test_all_services_can_be_released_at_once(registered_service: Registered) -> None:
    register(registered_service, *SILENT)
    wait_until(lambda: is_protected(registered_service), "they are protected")

    answer = body_of(registered_service.of.call("POST", f"{REGISTRY}/release"))

    assert answer["service_name"] is None
    assert answer["released"] >= 6
    registered_service.wait_for()


def test_nobody_has_to_be_silent_for_a_release(registered_service: Registered) -> None:
    body_of(registered_service.register("i-1"), 201)

    released = body_of(registered_service.of.call("POST", f"{registered_service.path}/release"))
    no_name = registered_service.of.call("POST", f"{REGISTRY}/services/a%20b/release")

    assert released == {"service_name": registered_service.name, "released": 0}
    assert list(registered_service.statuses()) == ["i-1"]
    assert body_of(no_name, 422)["code"] == "bad_service_name"


def test_the_dead_go_after_ten_ttl_if_others_are_heard(registered_service: Registered) -> None:
    register(registered_service, *LIVELY, *SILENT)  # else the others might seem to replace them
    died, was_protected = monotonic(), False

    while set(registered_service.instances_by_id()) != set(LIVELY):
        beat(registered_service, LIVELY)
        was_protected |= is_protected(registered_service)
        assert monotonic() - died < 10 + PATIENCE_SECONDS

    assert was_protected
    assert monotonic() - died > 9.9


def test_the_dead_that_others_have_replaced_go_after_two_ttl(
    registered_service: Registered,
) -> None:
    register(registered_service, *SILENT, *LIVELY)
    began = monotonic()
    while monotonic() - began < 1.5:  # longer than a ttl: whoever comes now did not start with them
        beat(registered_service, [*SILENT, *LIVELY])
    replacing = [f"replacing-{number}" for number in range(6)]
    register(registered_service, *replacing)
    died, alive = monotonic(), {*LIVELY, *replacing}

    while set(registered_service.instances_by_id()) != alive:
        beat(registered_service, sorted(alive))
        assert monotonic() - died < 9
