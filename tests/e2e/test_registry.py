"""Instances come, live and go: the registry as a client of its REST interface sees it."""

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from urllib.parse import quote

import pytest

from tests.e2e.client import Service, fresh_name, told
from tests.e2e.registry import REGISTRY, URL, Registered, quieted


@pytest.fixture
def registered(service: Service) -> Registered:
    return Registered(quieted(service))


def test_an_instance_registers_and_again_with_the_next_epoch(registered: Registered) -> None:
    first = registered.register("i-1", zone="a")
    again = registered.register("i-1", zone="b")

    lease = {
        "kind": "heartbeat",
        "ttl_seconds": 30,
        "heartbeat_url": f"{registered.path}/instances/i-1/heartbeat",
    }
    registration = {"service_name": registered.name, "instance_id": "i-1", "lease": lease}
    assert told(first, 201) == {**registration, "epoch": 1, "warnings": []}
    assert told(again, 200) == {**registration, "epoch": 2, "warnings": []}
    assert int(again.headers["X-Revision"]) > int(first.headers["X-Revision"])
    assert registered.shown()["i-1"]["zone"] == "b"


def test_an_instance_without_an_id_gets_the_same_each_time(registered: Registered) -> None:
    first = told(registered.register(), 201)
    again = told(registered.register(url="HTTP://10.0.0.7:8080/"), 200)
    other = told(registered.register(url="http://10.0.0.8:8080"), 201)

    assert len(first["instance_id"]) == 32
    assert again["instance_id"] == first["instance_id"]
    assert other["instance_id"] != first["instance_id"]


@pytest.mark.parametrize("id_", ["host:app:8080", "me@host", "a..b", "_", "x" * 128])
@pytest.mark.parametrize("spelling", [str, partial(quote, safe="")])
def test_an_id_as_other_systems_form_it_is_one_everywhere(
    registered: Registered, id_: str, spelling: Callable[[str], str]
) -> None:
    made = told(registered.register(id_), 201)
    assert made["instance_id"] == id_
    heartbeat_url = f"{registered.path}/instances/{id_}/heartbeat"
    assert made["lease"]["heartbeat_url"] == heartbeat_url
    path = f"{registered.path}/instances/{spelling(id_)}"

    told(registered.of.call("PUT", f"{path}/heartbeat", {"epoch": 1}))
    assert list(registered.shown()) == [id_]
    assert [item["instance_id"] for item in told(registered.discover())["items"]] == [id_]
    assert told(registered.url())["instance_id"] == id_
    whole = f"{registered.name}/{id_}"
    changes = told(registered.of.get("/api/v1/changes", kind="instance", limit=1000))["items"]
    assert whole in [change["name"] for change in changes]
    rows = told(registered.of.get("/api/v1/audit", kind="instance", name=whole))
    assert [row["name"] for row in rows["items"]] == [whole]
    told(registered.of.call("POST", f"{path}/drain", {"epoch": 1}))
    told(registered.deregister(instance_id=id_))


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]"])
def test_an_address_that_is_none_is_registered_with_a_warning(
    registered: Registered, host: str
) -> None:
    made = told(registered.register("i-1", f"http://{host}:8080"), 201)

    (warning,) = made["warnings"]
    assert (warning["pointer"], warning["code"]) == ("/service_url", "unspecified_address")
    assert host.strip("[]") in warning["detail"]
    assert registered.discovered() == ["i-1"]


def test_a_loopback_address_from_this_machine_needs_no_warning(registered: Registered) -> None:
    assert told(registered.register("i-1", "http://localhost:8080"), 201)["warnings"] == []


def test_everything_that_was_registered_is_shown(registered: Registered) -> None:
    members = {
        "metadata": {"team": "päy", "": "x"},
        "tags": ["blue", "v2"],
        "weight": 7,
        "zone": "eu-1",
        "version": "1.2.3+4",
    }
    told(
        registered.register("i-1", "http://[2001:DB8::7]:81/base", warmup_seconds=5, **members), 201
    )

    registered.wait_for(**{"i-1": "up"})
    shown = registered.shown()["i-1"]

    assert {name: shown[name] for name in members} == members
    assert shown["service_url"] == "http://[2001:DB8::7]:81/base"
    assert (shown["address"], shown["port"], shown["scheme"]) == ("2001:db8::7", 81, "http")
    assert (shown["epoch"], shown["foreign"], shown["health_check_url"]) == (1, False, None)
    assert shown["registered_at"] == shown["last_heartbeat"]
    assert shown["last_check"] is None
    (discovered,) = told(registered.discover())["items"]
    assert discovered == {
        name: value for name, value in shown.items() if name not in {"last_heartbeat", "last_check"}
    }


def test_a_heartbeat_is_answered_with_the_lease(registered: Registered) -> None:
    made = told(registered.register("i-1", ttl_seconds=7), 201)
    assert made.pop("warnings") == []
    before = registered.shown()["i-1"]["last_heartbeat"]

    heard = [registered.heartbeat("i-1", body) for body in (None, {}, {"epoch": 1})]

    assert [told(answer) for answer in heard] == [made] * 3
    assert made["lease"]["ttl_seconds"] == 7
    assert registered.shown()["i-1"]["last_heartbeat"] > before


def test_a_heartbeat_for_nobody_or_of_an_epoch_that_is_over_is_refused(
    registered: Registered,
) -> None:
    unknown = registered.heartbeat("i-1")
    registered.register("i-1")
    registered.register("i-1")

    over = registered.heartbeat("i-1", {"epoch": 1})

    assert told(unknown, 404)["code"] == "instance_not_found"
    assert (told(over, 409)["code"], over.json()["current_epoch"]) == ("old_epoch", 2)
    assert registered.heartbeat("i-2").status == 404


def test_an_instance_that_falls_silent_is_suspected_and_then_removed(
    registered: Registered,
) -> None:
    evicted = registered.of.metric("pilothouse_instances_evicted_total")
    registered.register("i-1", ttl_seconds=1)
    registered.register("i-2")

    registered.wait_for(**{"i-1": "suspect", "i-2": "up"})
    assert registered.discovered() == ["i-1", "i-2"]
    registered.wait_for(**{"i-2": "up"})

    assert registered.discovered() == ["i-2"]
    assert registered.heartbeat("i-1").status == 404
    assert registered.of.metric("pilothouse_instances_evicted_total") > evicted
    assert told(registered.register("i-1"), 201)["epoch"] == 2


def test_a_heartbeat_ends_all_suspicion(registered: Registered) -> None:
    registered.register("i-1", ttl_seconds=2)
    registered.wait_for(**{"i-1": "suspect"})

    told(registered.heartbeat("i-1"))

    registered.wait_for(1, **{"i-1": "up"})


def test_an_instance_is_deregistered_by_its_id_or_its_url(registered: Registered) -> None:
    registered.register("i-1")
    registered.register(url="http://10.0.0.8:8080")
    registered.register("i-3", "http://10.0.0.9:8080")

    by_id = registered.deregister(instance_id="i-1")
    by_other_spelling = registered.deregister(service_url="http://10.0.0.8:8080/")
    by_url = registered.deregister(service_url="http://10.0.0.9:8080")

    assert told(by_id)["status"] == "deregistered"
    assert told(by_other_spelling)["service_name"] == registered.name
    assert told(by_url)["instance_id"] == "i-3"
    assert registered.shown() == {}
    assert registered.discovered() == []


def test_a_late_or_unknown_deregistration_changes_nothing(registered: Registered) -> None:
    registered.register("i-1")
    registered.register("i-1")

    late = registered.deregister(instance_id="i-1", epoch=1)
    unknown = [
        registered.deregister(instance_id="i-2"),
        registered.deregister(service_url="http://10.0.0.99"),
        registered.deregister(instance_id="i-2", service_url=URL),
    ]

    assert (told(late, 409)["code"], late.json()["current_epoch"]) == ("old_epoch", 2)
    assert [told(answer, 404)["code"] for answer in unknown] == ["instance_not_found"] * 3
    assert registered.discovered() == ["i-1"]
    assert registered.deregister(instance_id="i-1", epoch=2).status == 200
    assert registered.deregister(instance_id="i-1").status == 404


def test_who_drains_is_out_of_discovery_at_once_and_removed_after_the_grace(
    registered: Registered,
) -> None:
    registered.register("i-1")
    registered.register("i-2")

    draining = told(registered.drain("i-1", {"grace_seconds": 1.5}))

    assert (draining["status"], draining["instance_id"]) == ("draining", "i-1")
    assert registered.discovered() == ["i-2"]
    assert registered.statuses()["i-1"] == "draining"
    assert {told(registered.url())["instance_id"] for _ in range(4)} == {"i-2"}
    assert told(registered.heartbeat("i-1"))["epoch"] == 1
    registered.wait_for(**{"i-2": "up"})
    assert registered.drain("i-1").status == 404


def test_a_drain_guards_its_epoch_and_has_a_default_grace(registered: Registered) -> None:
    registered.register("i-1")
    registered.register("i-1")

    assert told(registered.drain("i-1", {"epoch": 1}), 409)["code"] == "old_epoch"
    assert registered.discovered() == ["i-1"]
    assert told(registered.drain("i-1"))["removed_at"] > registered.shown()["i-1"]["registered_at"]
    assert told(registered.register("i-1"))["epoch"] == 3
    registered.wait_for(**{"i-1": "up"})


def test_services_are_listed_with_what_is_up(service: Service) -> None:
    found = sorted((Registered(service) for _ in range(3)), key=lambda one: one.name)
    for number, one in enumerate(found):
        for id_ in range(number + 1):
            one.register(f"i-{id_}")
    found[2].drain("i-0")
    found[2].wait_for(**{"i-0": "draining", "i-1": "up", "i-2": "up"})

    items, cursor = [], None
    while True:
        page = told(service.get(f"{REGISTRY}/services", limit=2, cursor=cursor))
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
    unknown = Registered(quieted(service))

    assert told(service.get(unknown.path)) == {
        "service_name": unknown.name,
        "items": [],
        "stale": False,
        "protected": False,
    }
    assert told(unknown.discover()) == {"items": [], "stale": False, "protected": False}
    assert unknown.check() == []
    refused = unknown.url()
    assert told(refused, 503)["code"] == "no_instance"
    assert int(refused.headers["Retry-After"]) > 0
    assert fresh_name() not in told(service.get(f"{REGISTRY}/services"))["items"]
