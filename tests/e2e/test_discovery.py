"""Who is there and where to go: discovery, balancing, checks, Prometheus, as clients see them."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from tests.e2e.client import Service, body_of, fresh_name
from tests.e2e.events import listening
from tests.e2e.registry import REGISTRY, Registered, release_silent, running_instance
from tests.servers.answer import Answer
from tests.servers.process import PATIENCE_SECONDS, wait_until
from tests.servers.service import ServiceProcess

UP = {"i-1": "up", "i-2": "up"}


@pytest.fixture
def registered_service(service: Service) -> Registered:
    return Registered(release_silent(service))


def test_discovery_is_filtered_by_zone_tag_and_version(registered_service: Registered) -> None:
    registered_service.register("i-1", zone="a", tags=["blue", "new"], version="1")
    registered_service.register("i-2", zone="a", tags=["blue"], version="2")
    registered_service.register("i-3")

    assert registered_service.discovered_ids(zone="a") == ["i-1", "i-2"]
    assert registered_service.discovered_ids(tag="new") == ["i-1"]
    assert registered_service.discovered_ids(zone="a", tag="blue", version="2") == ["i-2"]
    assert (
        registered_service.discovered_ids(zone="A")
        == registered_service.discovered_ids(tag="")
        == []
    )
    assert registered_service.discovered_ids() == ["i-1", "i-2", "i-3"]


def test_discovery_has_a_tag_that_moves_with_it_and_not_with_heartbeats(
    registered_service: Registered,
) -> None:
    registered_service.register("i-1", zone="a")
    registered_service.wait_for(**{"i-1": "up"})
    before = registered_service.discover()
    known = {"If-None-Match": before.headers["ETag"]}

    registered_service.heartbeat("i-1")
    same = registered_service.discover(headers=known)
    registered_service.register("i-2", zone="b")
    registered_service.wait_for(**UP)
    other = registered_service.discover(headers=known)
    filtered = registered_service.discover(zone="a")

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
    registered_service: Registered,
) -> None:
    registered_service.register("i-1")
    registered_service.wait_for(**{"i-1": "up"})

    with waiting(registered_service) as held:
        other = Registered(registered_service.of)
        other.register("i-9")
        other.wait_for(**{"i-9": "up"})
        registered_service.heartbeat("i-1")
        assert not held.done()
        registered_service.register("i-2")
        answer = held.result()

    assert [item["instance_id"] for item in body_of(answer)["items"]] == ["i-1", "i-2"]


@pytest.mark.parametrize("end", ["drain", "deregister", "evict"])
def test_a_waiting_read_is_woken_by_an_end(registered_service: Registered, end: str) -> None:
    registered_service.register("i-1")
    registered_service.register("i-2", ttl_seconds=1 if end == "evict" else 30)
    registered_service.wait_for(**UP)
    if end == "evict":
        registered_service.wait_for(**{"i-1": "up", "i-2": "suspect"})

    with waiting(registered_service) as held:
        if end == "drain":
            registered_service.drain("i-2")
        if end == "deregister":
            registered_service.deregister(instance_id="i-2")
        answer = held.result()

    assert [item["instance_id"] for item in body_of(answer)["items"]] == ["i-1"]


def test_round_robin_follows_the_weights(registered_service: Registered) -> None:
    registered_service.register("i-1", "http://10.0.0.1", weight=300)
    registered_service.register("i-2", "http://10.0.0.2", weight=100)
    registered_service.register("i-3", "http://10.0.0.3", weight=0)
    registered_service.wait_for(**UP, **{"i-3": "up"})

    answers = [body_of(registered_service.url()) for _ in range(8)]

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


def test_each_strategy_has_its_way(registered_service: Registered) -> None:
    for number in range(4):
        registered_service.register(f"i-{number}")

    def choose_ids(times: int, **query: Any) -> list[str]:
        return [body_of(registered_service.url(**query))["instance_id"] for _ in range(times)]

    recent = choose_ids(8, strategy="least_recent")
    assert sorted(recent[:4]) == ["i-0", "i-1", "i-2", "i-3"]
    assert recent[4:] == recent[:4]
    assert len({*choose_ids(60, strategy="random")}) == 4
    keys = [f"key{number}" for number in range(40)]
    owners = [choose_ids(1, strategy="hash", key=key)[0] for key in keys]
    assert [choose_ids(1, strategy="hash", key=key)[0] for key in keys] == owners
    assert len({*owners}) == 4


def test_a_zone_comes_first_while_it_holds_enough(registered_service: Registered) -> None:
    registered_service.register("i-1", zone="a")
    registered_service.register("i-2", zone="b")

    local = [body_of(registered_service.url(zone="b")) for _ in range(3)]
    elsewhere = [body_of(registered_service.url(zone="nowhere")) for _ in range(4)]

    assert [(one["instance_id"], one["zone_local"]) for one in local] == [("i-2", True)] * 3
    assert {one["instance_id"] for one in elsewhere} == {"i-1", "i-2"}
    assert not any(one["zone_local"] for one in elsewhere)


def test_below_the_panic_threshold_all_are_used_and_the_answer_says_so(
    registered_service: Registered,
) -> None:
    registered_service.register("i-1")
    for id_ in ("i-2", "i-3"):
        registered_service.register(id_, health_check_url="http://127.0.0.1:1/health")
    registered_service.wait_for(**{"i-1": "up", "i-2": "starting", "i-3": "starting"})

    answers = [body_of(registered_service.url()) for _ in range(3)]

    assert all(answer["panicked"] for answer in answers)
    assert {answer["instance_id"] for answer in answers} == {"i-1", "i-2", "i-3"}
    assert registered_service.discovered_ids() == ["i-1"]


def test_a_new_instance_warms_up(registered_service: Registered) -> None:
    registered_service.register("i-1")
    registered_service.register("i-2", warmup_seconds=86_400)

    assert {body_of(registered_service.url())["instance_id"] for _ in range(20)} == {"i-1"}


def test_health_checks_follow_a_real_server(registered_service: Registered) -> None:
    healthy = 'pilothouse_instance_probes_total{outcome="healthy"}'
    before = registered_service.of.metric(healthy)
    with running_instance() as instance:
        made = body_of(
            registered_service.register("i-1", instance.url, health_check_url=f"{instance.url}/ok"),
            201,
        )
        registered_service.wait_for(**{"i-1": "up"})
        instance.status = 503
        registered_service.wait_for(**{"i-1": "down"})
        checked = registered_service.instances_by_id()["i-1"]["last_check"]
        assert registered_service.discovered_ids() == []
        instance.status = 204
        registered_service.wait_for(**{"i-1": "up"})
    registered_service.wait_for(**{"i-1": "down"})
    with running_instance(instance.port):
        registered_service.wait_for(**{"i-1": "up"})

    assert made["lease"] == {"kind": "probe", "ttl_seconds": None, "heartbeat_url": None}
    assert (checked["healthy"], checked["reason"]) == (False, "answered 503")
    assert registered_service.instances_by_id()["i-1"]["last_heartbeat"] is None
    assert registered_service.of.metric(healthy) >= before + 3
    assert registered_service.deregister(instance_id="i-1").status == 200


def test_all_instances_are_checked_on_request(registered_service: Registered) -> None:
    registered_service.register("i-1")
    registered_service.wait_for(**{"i-1": "up"})
    registered_service.register("i-2", health_check_url="http://127.0.0.1:1/")
    registered_service.register(
        "i-3", "grpc://10.0.0.1:1", health_check_url="http://no-such-host.invalid"
    )
    with running_instance() as instance:
        registered_service.register("i-4", instance.url, health_check_url=instance.url)
        wait_until(lambda: registered_service.statuses()["i-4"] == "up", "it was checked once")
        results = {result.pop("instance_id"): result for result in registered_service.check()}

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
        registered_service.deregister(instance_id=id_)


def test_prometheus_gets_all_targets_as_texts_in_a_stable_order(
    registered_service: Registered,
) -> None:
    registered_service.register("b", "http://[2001:db8::7]:81", metadata={"team-a": "ä", "x": "1"})
    registered_service.register("a", "https://a.example", zone="eu", tags=["t1", "t2"], version="3")
    registered_service.wait_for(a="up", b="up")

    answer = registered_service.of.get(f"{REGISTRY}/prometheus")
    again = registered_service.of.get(f"{REGISTRY}/prometheus")

    own = [one for one in body_of(answer) if one["labels"]["service"] == registered_service.name]
    assert [one["targets"] for one in own] == [["a.example:443"], ["[2001:db8::7]:81"]]
    meta = "__meta_pilothouse_"
    assert own[0]["labels"] == {
        "__scheme__": "https",
        "service": registered_service.name,
        f"{meta}service": registered_service.name,
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


def test_the_stream_tells_of_instances(registered_service: Registered) -> None:
    with listening(registered_service.of.process.url, "?kinds=instance") as events:
        events.first_revision()
        registered_service.register("i-1")
        revision = int(registered_service.register("i-1").headers["X-Revision"])
        registered_service.heartbeat("i-1")
        registered_service.deregister(instance_id="i-1")
        name = f"{registered_service.name}/i-1"
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


def test_every_change_of_an_instance_is_in_the_log(registered_service: Registered) -> None:
    registered_service.register("i-1")
    registered_service.register("i-1")
    revision = int(registered_service.drain("i-1", {"grace_seconds": 0}).headers["X-Revision"])
    wait_until(lambda: not registered_service.instances_by_id(), "its grace is over")

    log = registered_service.of.get(
        "/api/v1/changes",
        kind="instance",
        entity=f"{registered_service.name}/i-1",
        min_revision=revision,
    )

    items = body_of(log)["items"]
    assert [item["action"] for item in items] == ["created", "updated", "updated", "deleted"]
    assert [item["actor"] for item in items] == ["anonymous"] * 3 + ["registry"]
    assert [item["version"] for item in items] == [1, 2, 3, 4]


def test_a_revision_that_a_write_was_given_can_be_read(registered_service: Registered) -> None:
    revision = int(registered_service.register("i-1").headers["X-Revision"])

    for path in (registered_service.path, f"{registered_service.path}/url", f"{REGISTRY}/services"):
        answer = registered_service.of.get(path, min_revision=revision)
        assert answer.status == 200
        assert int(answer.headers["X-Revision"]) >= revision


def test_a_replica_registers_itself_and_leaves_at_its_end(service: Service) -> None:
    id_ = fresh_name("replica")
    settings = {"SERVICE_REGISTRY_ENABLED": "true", "SERVICE_INSTANCE_ID": id_}
    with ServiceProcess({**service.settings, **settings}) as process:
        own = Registered(Service(process, service.backend, settings))
        own.name, own.path = "pilothouse", f"{REGISTRY}/services/pilothouse"
        wait_until(lambda: own.statuses().get(id_) == "up", "it has registered itself")
        shown = own.instances_by_id()[id_]
        own.of.process.stop()
        process.restart({"SERVICE_REGISTRY_ENABLED": "false"})
        own.of.wait_until_ready()
        assert id_ not in own.instances_by_id()
        log = body_of(own.of.get("/api/v1/changes", kind="instance", entity=f"pilothouse/{id_}"))

    assert shown["service_url"] == process.url
    assert shown["version"]
    assert [item["action"] for item in log["items"]] == ["created", "deleted"]


def test_the_registry_is_among_the_ports_and_the_numbers(registered_service: Registered) -> None:
    before = body_of(registered_service.of.get("/stats"))["instances"]
    registered_service.register("i-1")
    registered_service.register("i-2", ttl_seconds=86_400)
    registered_service.drain("i-2")

    ports = {port["name"]: port for port in body_of(registered_service.of.get("/health"))["ports"]}

    real = "ZOOKEEPER_HOSTS" in registered_service.of.settings
    assert ports["registry"]["adapter"] == ("zookeeper" if real else "embedded")
    assert ports["registry"]["status"] == "up"
    assert body_of(registered_service.of.get("/stats"))["instances"] == before + 2
