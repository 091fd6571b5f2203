"""Who is there and where to go: discovery, balancing, checks, Prometheus, as clients see them."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from tests.e2e.client import Service, fresh_name, told
from tests.e2e.events import listening
from tests.e2e.registry import REGISTRY, Registered, quieted, running_instance
from tests.servers.answer import Answer
from tests.servers.process import PATIENCE_SECONDS, wait_until
from tests.servers.service import ServiceProcess

UP = {"i-1": "up", "i-2": "up"}


@pytest.fixture
def registered(service: Service) -> Registered:
    return Registered(quieted(service))


def test_discovery_is_filtered_by_zone_tag_and_version(registered: Registered) -> None:
    registered.register("i-1", zone="a", tags=["blue", "new"], version="1")
    registered.register("i-2", zone="a", tags=["blue"], version="2")
    registered.register("i-3")

    assert registered.discovered(zone="a") == ["i-1", "i-2"]
    assert registered.discovered(tag="new") == ["i-1"]
    assert registered.discovered(zone="a", tag="blue", version="2") == ["i-2"]
    assert registered.discovered(zone="A") == registered.discovered(tag="") == []
    assert registered.discovered() == ["i-1", "i-2", "i-3"]


def test_discovery_has_a_tag_that_moves_with_it_and_not_with_heartbeats(
    registered: Registered,
) -> None:
    registered.register("i-1", zone="a")
    registered.wait_for(**{"i-1": "up"})
    before = registered.discover()
    known = {"If-None-Match": before.headers["ETag"]}

    registered.heartbeat("i-1")
    same = registered.discover(headers=known)
    registered.register("i-2", zone="b")
    registered.wait_for(**UP)
    other = registered.discover(headers=known)
    filtered = registered.discover(zone="a")

    assert (same.status, same.body, same.headers["ETag"]) == (304, b"", before.headers["ETag"])
    assert other.status == 200
    assert other.headers["ETag"] != before.headers["ETag"]
    assert filtered.headers["ETag"] == before.headers["ETag"]
    assert int(other.headers["X-Revision"]) > int(before.headers["X-Revision"])


@contextmanager
def waiting(registered: Registered, **query: Any) -> Iterator["Future[Answer]"]:
    """Hold a read of what is known until something changes, at most 8 s."""
    tag = registered.discover(**query).headers["ETag"]
    headers = {"If-None-Match": tag, "Prefer": "wait=8"}
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(registered.discover, headers=headers, timeout=PATIENCE_SECONDS, **query)


def test_a_waiting_read_is_woken_by_a_registration_and_by_nobody_else(
    registered: Registered,
) -> None:
    registered.register("i-1")
    registered.wait_for(**{"i-1": "up"})

    with waiting(registered) as held:
        other = Registered(registered.of)
        other.register("i-9")
        other.wait_for(**{"i-9": "up"})
        registered.heartbeat("i-1")
        assert not held.done()
        registered.register("i-2")
        answer = held.result()

    assert [item["instance_id"] for item in told(answer)["items"]] == ["i-1", "i-2"]


@pytest.mark.parametrize("end", ["drain", "deregister", "evict"])
def test_a_waiting_read_is_woken_by_an_end(registered: Registered, end: str) -> None:
    registered.register("i-1")
    registered.register("i-2", ttl_seconds=1 if end == "evict" else 30)
    registered.wait_for(**UP)
    if end == "evict":
        registered.wait_for(**{"i-1": "up", "i-2": "suspect"})

    with waiting(registered) as held:
        if end == "drain":
            registered.drain("i-2")
        if end == "deregister":
            registered.deregister(instance_id="i-2")
        answer = held.result()

    assert [item["instance_id"] for item in told(answer)["items"]] == ["i-1"]


def test_round_robin_follows_the_weights(registered: Registered) -> None:
    registered.register("i-1", "http://10.0.0.1", weight=300)
    registered.register("i-2", "http://10.0.0.2", weight=100)
    registered.register("i-3", "http://10.0.0.3", weight=0)
    registered.wait_for(**UP, **{"i-3": "up"})

    answers = [told(registered.url()) for _ in range(8)]

    assert Counter(answer["url"] for answer in answers) == {
        "http://10.0.0.1": 6,
        "http://10.0.0.2": 2,
    }
    assert {name: answers[0][name] for name in ("strategy", "zone_local", "panicked", "stale")} == {
        "strategy": "round_robin",
        "zone_local": False,
        "panicked": False,
        "stale": False,
    }


def test_each_strategy_has_its_way(registered: Registered) -> None:
    for number in range(4):
        registered.register(f"i-{number}")

    def chosen(times: int, **query: Any) -> list[str]:
        return [told(registered.url(**query))["instance_id"] for _ in range(times)]

    recent = chosen(8, strategy="least_recent")
    assert sorted(recent[:4]) == ["i-0", "i-1", "i-2", "i-3"]
    assert recent[4:] == recent[:4]
    assert len({*chosen(60, strategy="random")}) == 4
    keys = [f"key{number}" for number in range(40)]
    owners = [chosen(1, strategy="hash", key=key)[0] for key in keys]
    assert [chosen(1, strategy="hash", key=key)[0] for key in keys] == owners
    assert len({*owners}) == 4


def test_a_zone_comes_first_while_it_holds_enough(registered: Registered) -> None:
    registered.register("i-1", zone="a")
    registered.register("i-2", zone="b")

    local = [told(registered.url(zone="b")) for _ in range(3)]
    elsewhere = [told(registered.url(zone="nowhere")) for _ in range(4)]

    assert [(one["instance_id"], one["zone_local"]) for one in local] == [("i-2", True)] * 3
    assert {one["instance_id"] for one in elsewhere} == {"i-1", "i-2"}
    assert not any(one["zone_local"] for one in elsewhere)


def test_below_the_panic_threshold_all_are_used_and_the_answer_says_so(
    registered: Registered,
) -> None:
    registered.register("i-1")
    for id_ in ("i-2", "i-3"):
        registered.register(id_, health_check_url="http://127.0.0.1:1/health")
    registered.wait_for(**{"i-1": "up", "i-2": "starting", "i-3": "starting"})

    answers = [told(registered.url()) for _ in range(3)]

    assert all(answer["panicked"] for answer in answers)
    assert {answer["instance_id"] for answer in answers} == {"i-1", "i-2", "i-3"}
    assert registered.discovered() == ["i-1"]


def test_a_new_instance_warms_up(registered: Registered) -> None:
    registered.register("i-1")
    registered.register("i-2", warmup_seconds=86_400)

    assert {told(registered.url())["instance_id"] for _ in range(20)} == {"i-1"}


def test_health_checks_follow_a_real_server(registered: Registered) -> None:
    healthy = 'pilothouse_instance_probes_total{outcome="healthy"}'
    before = registered.of.metric(healthy)
    with running_instance() as instance:
        made = told(
            registered.register("i-1", instance.url, health_check_url=f"{instance.url}/ok"), 201
        )
        registered.wait_for(**{"i-1": "up"})
        instance.status = 503
        registered.wait_for(**{"i-1": "down"})
        checked = registered.shown()["i-1"]["last_check"]
        assert registered.discovered() == []
        instance.status = 204
        registered.wait_for(**{"i-1": "up"})
    registered.wait_for(**{"i-1": "down"})
    with running_instance(instance.port):
        registered.wait_for(**{"i-1": "up"})

    assert made["lease"] == {"kind": "probe", "ttl_seconds": None, "heartbeat_url": None}
    assert (checked["healthy"], checked["reason"]) == (False, "answered 503")
    assert registered.shown()["i-1"]["last_heartbeat"] is None
    assert registered.of.metric(healthy) >= before + 3
    assert registered.deregister(instance_id="i-1").status == 200


def test_all_instances_are_checked_on_request(registered: Registered) -> None:
    registered.register("i-1")
    registered.wait_for(**{"i-1": "up"})
    registered.register("i-2", health_check_url="http://127.0.0.1:1/")
    registered.register("i-3", "grpc://10.0.0.1:1", health_check_url="http://no-such-host.invalid")
    with running_instance() as instance:
        registered.register("i-4", instance.url, health_check_url=instance.url)
        wait_until(lambda: registered.statuses()["i-4"] == "up", "it was checked once")
        results = {result.pop("instance_id"): result for result in registered.check()}

    assert {id_: result["healthy"] for id_, result in results.items()} == {
        "i-1": True,
        "i-2": False,
        "i-3": False,
        "i-4": True,
    }
    assert results["i-1"]["reason"] == "has no health_check_url; by its heartbeats it is up"
    assert results["i-4"]["reason"] == "answered 200"
    assert results["i-4"]["status"] == "up"
    assert results["i-3"]["reason"] == "does not resolve"
    assert 0 < results["i-4"]["milliseconds"] < 1000 * PATIENCE_SECONDS
    for id_ in results:
        registered.deregister(instance_id=id_)


def test_prometheus_gets_all_targets_as_texts_in_a_stable_order(registered: Registered) -> None:
    registered.register("b", "http://[2001:db8::7]:81", metadata={"team-a": "ä", "x": "1"})
    registered.register("a", "https://a.example", zone="eu", tags=["t1", "t2"], version="3")
    registered.wait_for(a="up", b="up")

    answer = registered.of.get(f"{REGISTRY}/prometheus")
    again = registered.of.get(f"{REGISTRY}/prometheus")

    own = [one for one in told(answer) if one["labels"]["service"] == registered.name]
    assert [one["targets"] for one in own] == [["a.example:443"], ["[2001:db8::7]:81"]]
    meta = "__meta_pilothouse_"
    assert own[0]["labels"] == {
        "__scheme__": "https",
        "service": registered.name,
        f"{meta}service": registered.name,
        f"{meta}instance_id": "a",
        f"{meta}status": "up",
        f"{meta}foreign": "false",
        f"{meta}zone": "eu",
        f"{meta}version": "3",
        f"{meta}tags": ",t1,t2,",
    }
    assert own[1]["labels"][f"{meta}metadata_team_a"] == "ä"
    assert answer.headers.get_content_type() == "application/json"
    order = [one["labels"][f"{meta}service"] for one in again.json()]
    assert order == sorted(order)


def test_the_stream_tells_of_instances(registered: Registered) -> None:
    with listening(registered.of.process.url, "?kinds=instance") as events:
        events.opened()
        registered.register("i-1")
        revision = int(registered.register("i-1").headers["X-Revision"])
        registered.heartbeat("i-1")
        registered.deregister(instance_id="i-1")
        name = f"{registered.name}/i-1"
        heard = events.until(
            lambda event: (
                bool(event.data) and (event.data["name"], event.data["action"]) == (name, "deleted")
            )
        )

    own = [event for event in heard if event.data and event.data["name"] == name]
    assert {event.name for event in heard if event.name} == {"instance.changed"}
    # Those that come together are told together: the last of a name stands for all before it.
    assert own[-1].data["version"] == 3
    assert own[-1].id == own[-1].data["revision"] > revision
    assert own[-1].data["kind"] == "instance"


def test_every_change_of_an_instance_is_in_the_log(registered: Registered) -> None:
    registered.register("i-1")
    registered.register("i-1")
    revision = int(registered.drain("i-1", {"grace_seconds": 0}).headers["X-Revision"])
    wait_until(lambda: not registered.shown(), "its grace is over")

    log = registered.of.get(
        "/api/v1/changes", kind="instance", entity=f"{registered.name}/i-1", min_revision=revision
    )

    items = told(log)["items"]
    assert [item["action"] for item in items] == ["created", "updated", "updated", "deleted"]
    assert [item["actor"] for item in items] == ["anonymous"] * 3 + ["registry"]
    assert [item["version"] for item in items] == [1, 2, 3, 4]


def test_a_revision_that_a_write_was_given_can_be_read(registered: Registered) -> None:
    revision = int(registered.register("i-1").headers["X-Revision"])

    for path in (registered.path, f"{registered.path}/url", f"{REGISTRY}/services"):
        answer = registered.of.get(path, min_revision=revision)
        assert answer.status == 200
        assert int(answer.headers["X-Revision"]) >= revision


def test_a_replica_registers_itself_and_leaves_at_its_end(service: Service) -> None:
    id_ = fresh_name("replica")
    settings = {"SERVICE_REGISTRY_ENABLED": "true", "SERVICE_INSTANCE_ID": id_}
    with ServiceProcess({**service.settings, **settings}) as process:
        own = Registered(Service(process, service.backend, settings))
        own.name, own.path = "pilothouse", f"{REGISTRY}/services/pilothouse"
        wait_until(lambda: own.statuses().get(id_) == "up", "it has registered itself")
        shown = own.shown()[id_]
        own.of.process.stop()
        process.restart({"SERVICE_REGISTRY_ENABLED": "false"})
        own.of.wait_until_ready()
        assert id_ not in own.shown()
        log = told(own.of.get("/api/v1/changes", kind="instance", entity=f"pilothouse/{id_}"))

    assert shown["service_url"] == process.url
    assert shown["version"]
    assert [item["action"] for item in log["items"]] == ["created", "deleted"]


def test_the_registry_is_among_the_ports_and_the_numbers(registered: Registered) -> None:
    before = told(registered.of.get("/stats"))["instances"]
    registered.register("i-1")
    registered.register("i-2", ttl_seconds=86_400)
    registered.drain("i-2")

    ports = {port["name"]: port for port in told(registered.of.get("/health"))["ports"]}

    real = "ZOOKEEPER_HOSTS" in registered.of.settings
    assert ports["registry"]["adapter"] == ("zookeeper" if real else "embedded")
    assert ports["registry"]["status"] == "up"
    assert told(registered.of.get("/stats"))["instances"] == before + 2
