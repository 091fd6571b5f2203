"""Instances come, live and go: the registry as a client of its REST interface sees it."""

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from urllib.parse import quote

import pytest

from tests.e2e.client import Service, body_of, fresh_name
from tests.e2e.registry import REGISTRY, URL, Registered, release_silent


@pytest.fixture
def registered_service(service: Service) -> Registered:
    return Registered(release_silent(service))


def test_an_instance_registers_and_again_with_the_next_epoch(
    registered_service: Registered,
) -> None:
    first = registered_service.register("i-1", zone="a")
    again = registered_service.register("i-1", zone="b")

    lease = {
        "kind": "heartbeat",
        "ttl_seconds": 30,
        "heartbeat_url": f"{registered_service.path}/instances/i-1/heartbeat",
    }
    registration = {"service_name": registered_service.name, "instance_id": "i-1", "lease": lease}
    assert body_of(first, 201) == {**registration, "epoch": 1, "warnings": []}
    assert body_of(again, 200) == {**registration, "epoch": 2, "warnings": []}
    assert int(again.headers["X-Revision"]) > int(first.headers["X-Revision"])
    assert registered_service.instances_by_id()["i-1"]["zone"] == "b"


def test_an_instance_without_an_id_gets_the_same_each_time(registered_service: Registered) -> None:
    first = body_of(registered_service.register(), 201)
    again = body_of(registered_service.register(url="HTTP://10.0.0.7:8080/"), 200)
    other = body_of(registered_service.register(url="http://10.0.0.8:8080"), 201)

    assert len(first["instance_id"]) == 32
    assert again["instance_id"] == first["instance_id"]
    assert other["instance_id"] != first["instance_id"]


@pytest.mark.parametrize("id_", ["host:app:8080", "me@host", "a..b", "_", "x" * 128])
@pytest.mark.parametrize("spelling", [str, partial(quote, safe="")])
def test_an_id_as_other_systems_form_it_is_one_everywhere(
    registered_service: Registered, id_: str, spelling: Callable[[str], str]
) -> None:
    made = body_of(registered_service.register(id_), 201)
    assert made["instance_id"] == id_
    heartbeat_url = f"{registered_service.path}/instances/{id_}/heartbeat"
    assert made["lease"]["heartbeat_url"] == heartbeat_url
    path = f"{registered_service.path}/instances/{spelling(id_)}"

    body_of(registered_service.of.call("PUT", f"{path}/heartbeat", {"epoch": 1}))
    assert list(registered_service.instances_by_id()) == [id_]
    assert [item["instance_id"] for item in body_of(registered_service.discover())["items"]] == [
        id_
    ]
    assert body_of(registered_service.url())["instance_id"] == id_
    whole = f"{registered_service.name}/{id_}"
    changes = body_of(registered_service.of.get("/api/v1/changes", kind="instance", limit=1000))[
        "items"
    ]
    assert whole in [change["name"] for change in changes]
    rows = body_of(registered_service.of.get("/api/v1/audit", kind="instance", name=whole))
    assert [row["name"] for row in rows["items"]] == [whole]
    body_of(registered_service.of.call("POST", f"{path}/drain", {"epoch": 1}))
    body_of(registered_service.deregister(instance_id=id_))


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]"])
def test_an_address_that_is_none_is_registered_with_a_warning(
    registered_service: Registered, host: str
) -> None:
    made = body_of(registered_service.register("i-1", f"http://{host}:8080"), 201)

    (warning,) = made["warnings"]
    assert (warning["pointer"], warning["code"]) == ("/service_url", "unspecified_address")
    assert host.strip("[]") in warning["detail"]
    assert registered_service.discovered_ids() == ["i-1"]


def test_a_loopback_address_from_this_machine_needs_no_warning(
    registered_service: Registered,
) -> None:
    assert (
        body_of(registered_service.register("i-1", "http://localhost:8080"), 201)["warnings"] == []
    )


def test_everything_that_was_registered_is_shown(registered_service: Registered) -> None:
    members = {
        "metadata": {"team": "päy", "": "x"},
        "tags": ["blue", "v2"],
        "weight": 7,
        "zone": "eu-1",
        "version": "1.2.3+4",
    }
    body_of(
        registered_service.register(
            "i-1", "http://[2001:DB8::7]:81/base", warmup_seconds=5, **members
        ),
        201,
    )

    registered_service.wait_for(**{"i-1": "up"})
    shown = registered_service.instances_by_id()["i-1"]

    assert {name: shown[name] for name in members} == members
    assert shown["service_url"] == "http://[2001:DB8::7]:81/base"
    assert (shown["address"], shown["port"], shown["scheme"]) == ("2001:db8::7", 81, "http")
    assert (shown["epoch"], shown["foreign"], shown["health_check_url"]) == (1, False, None)
    assert shown["registered_at"] == shown["last_heartbeat"]
    assert shown["last_check"] is None
    (discovered,) = body_of(registered_service.discover())["items"]
    assert discovered == {
        name: value for name, value in shown.items() if name not in {"last_heartbeat", "last_check"}
    }


def test_a_heartbeat_is_answered_with_the_lease(registered_service: Registered) -> None:
    made = body_of(registered_service.register("i-1", ttl_seconds=7), 201)
    assert made.pop("warnings") == []
    before = registered_service.instances_by_id()["i-1"]["last_heartbeat"]

    heard = [registered_service.heartbeat("i-1", body) for body in (None, {}, {"epoch": 1})]

    assert [body_of(answer) for answer in heard] == [made] * 3
    assert made["lease"]["ttl_seconds"] == 7
    assert registered_service.instances_by_id()["i-1"]["last_heartbeat"] > before


def test_a_heartbeat_for_nobody_or_of_an_epoch_that_is_over_is_refused(
    registered_service: Registered,
) -> None:
    unknown = registered_service.heartbeat("i-1")
    registered_service.register("i-1")
    registered_service.register("i-1")

    over = registered_service.heartbeat("i-1", {"epoch": 1})

    assert body_of(unknown, 404)["code"] == "instance_not_found"
    assert (body_of(over, 409)["code"], over.json()["current_epoch"]) == ("old_epoch", 2)
    assert registered_service.heartbeat("i-2").status == 404


def test_an_instance_that_falls_silent_is_suspected_and_then_removed(
    registered_service: Registered,
) -> None:
    evicted = registered_service.of.metric("pilothouse_instances_evicted_total")
    registered_service.register("i-1", ttl_seconds=1)
    registered_service.register("i-2")

    registered_service.wait_for(**{"i-1": "suspect", "i-2": "up"})
    assert registered_service.discovered_ids() == ["i-1", "i-2"]
    registered_service.wait_for(**{"i-2": "up"})

    assert registered_service.discovered_ids() == ["i-2"]
    assert registered_service.heartbeat("i-1").status == 404
    assert registered_service.of.metric("pilothouse_instances_evicted_total") > evicted
    assert body_of(registered_service.register("i-1"), 201)["epoch"] == 2


def test_a_heartbeat_ends_all_suspicion(registered_service: Registered) -> None:
    registered_service.register("i-1", ttl_seconds=2)
    registered_service.wait_for(**{"i-1": "suspect"})

    body_of(registered_service.heartbeat("i-1"))

    registered_service.wait_for(1, **{"i-1": "up"})


def test_an_instance_is_deregistered_by_its_id_or_its_url(registered_service: Registered) -> None:
    registered_service.register("i-1")
    registered_service.register(url="http://10.0.0.8:8080")
    registered_service.register("i-3", "http://10.0.0.9:8080")

    by_id = registered_service.deregister(instance_id="i-1")
    by_other_spelling = registered_service.deregister(service_url="http://10.0.0.8:8080/")
    by_url = registered_service.deregister(service_url="http://10.0.0.9:8080")

    assert body_of(by_id)["status"] == "deregistered"
    assert body_of(by_other_spelling)["service_name"] == registered_service.name
    assert body_of(by_url)["instance_id"] == "i-3"
    assert registered_service.instances_by_id() == {}
    assert registered_service.discovered_ids() == []


def test_a_late_or_unknown_deregistration_changes_nothing(registered_service: Registered) -> None:
    registered_service.register("i-1")
    registered_service.register("i-1")

    late = registered_service.deregister(instance_id="i-1", epoch=1)
    unknown = [
        registered_service.deregister(instance_id="i-2"),
        registered_service.deregister(service_url="http://10.0.0.99"),
        registered_service.deregister(instance_id="i-2", service_url=URL),
    ]

    assert (body_of(late, 409)["code"], late.json()["current_epoch"]) == ("old_epoch", 2)
    assert [body_of(answer, 404)["code"] for answer in unknown] == ["instance_not_found"] * 3
    assert registered_service.discovered_ids() == ["i-1"]
    assert registered_service.deregister(instance_id="i-1", epoch=2).status == 200
    assert registered_service.deregister(instance_id="i-1").status == 404


def test_who_drains_is_out_of_discovery_at_once_and_removed_after_the_grace(
    registered_service: Registered,
) -> None:
    registered_service.register("i-1")
    registered_service.register("i-2")

    draining = body_of(registered_service.drain("i-1", {"grace_seconds": 1.5}))

    assert (draining["status"], draining["instance_id"]) == ("draining", "i-1")
    assert registered_service.discovered_ids() == ["i-2"]
    assert registered_service.statuses()["i-1"] == "draining"
    assert {body_of(registered_service.url())["instance_id"] for _ in range(4)} == {"i-2"}
    assert body_of(registered_service.heartbeat("i-1"))["epoch"] == 1
    registered_service.wait_for(**{"i-2": "up"})
    assert registered_service.drain("i-1").status == 404


def test_a_drain_guards_its_epoch_and_has_a_default_grace(registered_service: Registered) -> None:
    registered_service.register("i-1")
    registered_service.register("i-1")

    assert body_of(registered_service.drain("i-1", {"epoch": 1}), 409)["code"] == "old_epoch"
    assert registered_service.discovered_ids() == ["i-1"]
    assert (
        body_of(registered_service.drain("i-1"))["removed_at"]
        > registered_service.instances_by_id()["i-1"]["registered_at"]
    )
    assert body_of(registered_service.register("i-1"))["epoch"] == 3
    registered_service.wait_for(**{"i-1": "up"})


def test_services_are_listed_with_what_is_up(service: Service) -> None:
    found = sorted((Registered(service) for _ in range(3)), key=lambda one: one.name)
    for number, one in enumerate(found):
        for id_ in range(number + 1):
            one.register(f"i-{id_}")
    found[2].drain("i-0")
    found[2].wait_for(**{"i-0": "draining", "i-1": "up", "i-2": "up"})

    items, cursor = [], None
    while True:
        page = body_of(service.get(f"{REGISTRY}/services", limit=2, cursor=cursor))
        items += page["items"]
        cursor = page["next"]
        if cursor is None:
            break

    names = [item["service_name"] for item in items]
    assert all(one < other for one, other in pairwise(names))
    known = {one.name: (number + 1) for number, one in enumerate(found)}
    assert {item["service_name"]: item["instances"] for item in items}.items() >= known.items()
    summary = {"service_name": found[2].name, "instances": 3, "up": 2, "protected": False}
    assert summary in items


def test_of_an_unknown_service_there_is_nobody(service: Service) -> None:
    unknown = Registered(release_silent(service))

    assert body_of(service.get(unknown.path)) == {
        "service_name": unknown.name,
        "items": [],
        "stale": False,
        "protected": False,
    }
    assert body_of(unknown.discover()) == {"items": [], "stale": False, "protected": False}
    assert unknown.check() == []
    refused = unknown.url()
    assert body_of(refused, 503)["code"] == "no_instance"
    assert int(refused.headers["Retry-After"]) > 0
    assert fresh_name() not in body_of(service.get(f"{REGISTRY}/services"))["items"]
