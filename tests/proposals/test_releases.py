"""Releases from outside: who reads the candidate, what ends them, and what they leave behind."""

from itertools import pairwise
from typing import Any

import pytest

from pilothouse_core.releases.arms import arm_of
from tests.proposals.releasing import HOUR, ReleasedLayer, ReleasingService, plan
from tests.servers.process import wait_until

NAMES = [f"pod-{number}" for number in range(200)]
REFUSED = {"kind": "refused", "at_least": 1}
OLD, NEW = {"pool": 10, "name": "billing"}, {"pool": 40}


@pytest.fixture
def layer(releasing: ReleasingService) -> ReleasedLayer:
    layer = releasing.layer()
    layer.write(OLD)
    return layer


def holders(layer: ReleasedLayer) -> list[str]:
    """Return the instances that read the candidate, by what they are answered."""
    return [name for name in NAMES if layer.data(name)["pool"] == 40]


# Arms


def test_the_arm_of_an_instance_is_its_bucket(layer: ReleasedLayer) -> None:
    layer.start(NEW, plan(30, 60))

    assert holders(layer) == layer.members(30_000, NAMES)


def test_a_growing_share_only_adds(layer: ReleasedLayer) -> None:
    layer.start(NEW, plan(10, 50, bake=HOUR))
    seen = [set(holders(layer))]
    for _ in range(2):
        assert layer.move("next").status == 200
        seen.append(set(holders(layer)))

    assert all(before < after for before, after in pairwise(seen))
    assert seen[-1] == set(NAMES)


def test_who_states_no_instance_reads_the_stable_arm(layer: ReleasedLayer) -> None:
    layer.start(NEW, plan(100, hold=HOUR))

    answer = layer.read()

    assert answer.json()["data"] == OLD
    assert "release" not in answer.json()
    assert layer.data("pod-1") == OLD | NEW


def test_an_answer_names_release_arm_and_step(layer: ReleasedLayer) -> None:
    layer.start(NEW, plan(30, 60))
    candidate = layer.members(30_000, NAMES)[0]
    stable = next(name for name in NAMES if name not in layer.members(30_000, NAMES))

    for name, arm in ((candidate, "candidate"), (stable, "stable")):
        stated = {"id": layer.release, "arm": arm, "step": 0}
        assert layer.read(name).json()["release"] == stated
        assert layer.read(name, "/api/v1/config/pool").json()["release"] == stated


@pytest.mark.parametrize("path", ["/api/v1/effective", "/api/v1/config/pool"])
@pytest.mark.parametrize("more", ["", "&resolve_placeholders=true", "&relaxed_names=true"])
def test_every_read_with_an_instance_is_of_its_arm(
    layer: ReleasedLayer, path: str, more: str
) -> None:
    layer.start(NEW, plan(100, hold=HOUR))

    answer = layer.read(f"pod-1{more}", path).json()

    assert (answer["data"]["pool"] if "data" in answer else answer["value"]) == 40
    assert answer["release"]["arm"] == "candidate"


def test_the_tag_of_the_stable_arm_is_that_of_everybody(layer: ReleasedLayer) -> None:
    before = layer.read().headers["ETag"]
    layer.start(NEW, plan(30, 60))
    candidate = layer.members(30_000, NAMES)[0]
    stable = next(name for name in NAMES if name not in layer.members(30_000, NAMES))

    tags = {name: layer.read(name).headers["ETag"] for name in (candidate, stable)}

    assert layer.read().headers["ETag"] == tags[stable] == before
    assert tags[candidate] != before
    for name, tag in tags.items():
        assert layer.read(name, headers={"If-None-Match": tag}).status == 304
    assert layer.read(candidate, headers={"If-None-Match": before}).status == 200
    assert tags[candidate].split("-")[0] == before.split("-")[0]  # guards a write all the same


def test_both_doors_answer_alike(layer: ReleasedLayer) -> None:
    layer.start(NEW, plan(30, 60))
    layer.read("pod-1")

    for name in NAMES[:20]:
        fast = layer.read(name)
        slow = layer.read(name, headers={"Prefer": "wait=0"})
        assert fast.json() == slow.json()
        assert fast.headers["ETag"] == slow.headers["ETag"]


def test_a_layer_that_does_not_exist_yet_can_be_released(releasing: ReleasingService) -> None:
    layer = releasing.layer()
    layer.start(NEW, plan(100, hold=HOUR, bake="0s"))

    assert layer.data() == {}
    assert layer.data("pod-1") == NEW
    assert (
        layer.read("pod-1").headers["ETag"]
        == layer.read("pod-1", headers={"Prefer": "wait=0"}).headers["ETag"]
    )
    layer.move("next")
    layer.wait_for("done")
    assert layer.data() == NEW


@pytest.mark.parametrize("more", ["&resolve=false", "&version=1"])
def test_a_single_layer_has_no_arms(layer: ReleasedLayer, more: str) -> None:
    answer = layer.read(f"pod-1{more}", "/api/v1/config/pool")

    assert (answer.status, answer.json()["code"]) == (422, "contradictory_options")


def test_an_instance_has_a_name_as_in_the_registry(layer: ReleasedLayer) -> None:
    assert layer.read("host:billing:8080").status == 200
    for name in ("-", "a" * 129, "a%2Fb", ""):
        answer = layer.read(name)
        assert (answer.status, answer.json()["code"]) == (422, "bad_name"), name


# Writes


def test_the_keys_of_a_release_are_written_by_nobody_else(layer: ReleasedLayer) -> None:
    layer.start(NEW, plan(30, 60))
    before = layer.read().headers["ETag"]

    for body in ({"set": {"pool": 11}}, {"unset": ["pool"]}):
        path = f"/api/v1/config?{layer.query}"
        answer = layer.service.request("PATCH", path, body)
        assert (answer.status, answer.json()["code"]) == (409, "release_running"), body
        assert answer.json()["release"] == layer.release
    deleted = layer.service.request("DELETE", f"/api/v1/config/pool?{layer.query}")
    assert (deleted.status, deleted.json()["code"]) == (409, "release_running")
    assert layer.read().headers["ETag"] == before


def test_other_keys_are_written_under_a_running_release(layer: ReleasedLayer) -> None:
    layer.start(NEW, plan(100, hold=HOUR))

    layer.write({"name": "other"})

    assert layer.data() == {"pool": 10, "name": "other"}
    assert layer.data("pod-1") == {"pool": 40, "name": "other"}
    layer.move("next")
    layer.wait_for("done")
    assert layer.data() == {"pool": 40, "name": "other"}


def test_a_layer_has_one_release_at_a_time(layer: ReleasedLayer) -> None:
    layer.start(NEW, plan(30, 60))

    second = layer.try_start({"name": "x"}, plan(5))

    assert (second.status, second.json()["code"]) == (409, "release_running")


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"service_name": "_shared"}, "not_releasable"),
        ({"environment": "default"}, "not_releasable"),
        ({"user": "ana"}, "not_releasable"),
        ({"set": {"pool": 10}}, "not_releasable"),
    ],
)
def test_what_is_no_change_of_one_service_is_not_released(
    layer: ReleasedLayer, more: dict[str, Any], code: str
) -> None:
    answer = layer.try_start(NEW, plan(5), **more)

    assert (answer.status, answer.json()["code"]) == (422, code)


# Ends


def test_an_abort_leaves_no_trace_in_the_document(layer: ReleasedLayer) -> None:
    tag = layer.read().headers["ETag"]
    layer.start(NEW, plan(100, hold=HOUR))
    assert layer.data("pod-1")["pool"] == 40

    aborted = layer.move("abort", {"comment": "too slow"}).json()

    assert (aborted["state"], aborted["signal"], aborted["comment"]) == (
        "aborted",
        "manual",
        "too slow",
    )
    wait_until(lambda: layer.data("pod-1") == OLD, "the instance is back", 2)
    assert layer.read("pod-1").headers["ETag"] == layer.read().headers["ETag"] == tag
    assert "release" not in layer.read("pod-1").json()
    again = layer.move("abort")
    assert (again.status, again.json()["version"]) == (200, aborted["version"])
    layer.write({"pool": 11})


def test_one_refusal_takes_all_back(layer: ReleasedLayer) -> None:
    layer.start(NEW, plan(100, hold=HOUR, signals=[REFUSED]))
    assert holders(layer) == NAMES

    assert layer.report("pod-7", "refused", "ValueError").status == 204

    wait_until(lambda: holders(layer) == [], "all are back", 2)
    shown = layer.details()
    assert (shown["state"], shown["signal"]) == ("aborted", "refused")
    assert shown["reports"] == {"adopted": 0, "refused": 1}
    assert shown["updated_by"] == f"release:{layer.release}"


def test_a_refusal_of_the_stable_arm_says_nothing_of_the_candidate(layer: ReleasedLayer) -> None:
    layer.start(NEW, plan(30, hold="2s", signals=[REFUSED]))

    layer.report("pod-7", "refused", arm="stable")
    layer.report("pod-8", "adopted")

    layer.wait_for("done")


def test_steps_are_taken_in_time_and_the_end_writes_one_version(layer: ReleasedLayer) -> None:
    layer.start(NEW, plan(10, 50, hold="1s", bake="1s"))

    layer.wait_for("done")

    answer = layer.read()
    assert answer.json()["data"] == OLD | NEW
    history = layer.service.request("GET", f"/api/v1/config/pool/history?{layer.query}").json()[
        "items"
    ]
    assert [each["actor"] for each in history] == [f"release:{layer.release}", "anonymous"]
    answer = layer.service.request("GET", "/api/v1/changes?kind=release&limit=1000")
    assert answer.status == 200, answer
    versions = [
        each["version"]
        for each in answer.json()["items"]
        if each["name"] == f"{layer.name}/{layer.release}"
    ]
    assert sorted(versions) == [1, 2, 3, 4, 5]


def test_no_instance_sees_the_old_value_after_the_new_one(layer: ReleasedLayer) -> None:
    layer.start(NEW, plan(50, hold="1s", bake="1s"))
    pools: dict[str, list[int]] = {name: [] for name in NAMES[:20]}

    while layer.state() != "done":
        for name, seen in pools.items():
            seen.append(layer.data(name)["pool"])

    assert all(seen == sorted(seen) for seen in pools.values())
    assert all(layer.data(name)["pool"] == 40 for name in pools)


def test_a_release_that_is_held_stays_at_its_step(layer: ReleasedLayer) -> None:
    layer.start(NEW, plan(30, 60, hold=HOUR, signals=[REFUSED]))

    held = layer.move("hold").json()
    assert held["state"] == "held"
    assert holders(layer) == layer.members(30_000, NAMES)
    resumed = layer.move("resume").json()
    assert resumed["state"] == "running"
    assert resumed["step_since"] > held["step_since"]
    layer.move("hold")
    layer.report("pod-1", "refused")
    layer.wait_for("aborted", 3)


def test_a_move_of_another_version_is_refused(layer: ReleasedLayer) -> None:
    layer.start(NEW, plan(10, 20, 30))
    tag = layer.service.request("GET", f"/api/v1/releases/{layer.release}").headers["ETag"]

    first = layer.move("next", headers={"If-Match": tag})
    second = layer.move("next", headers={"If-Match": tag})

    assert (first.status, first.json()["step"]) == (200, 1)
    assert (second.status, second.json()["code"]) == (409, "release_moved")
    assert layer.details()["step"] == 1


def test_what_has_ended_is_not_moved(layer: ReleasedLayer) -> None:
    layer.start(NEW, plan(10, 20))
    layer.move("abort")

    for how in ("next", "hold", "resume"):
        answer = layer.move(how)
        assert (answer.status, answer.json()["code"]) == (409, "release_ended"), how


def test_alertmanager_aborts_a_release(layer: ReleasedLayer) -> None:
    layer.start(NEW, plan(10, 20))
    alert = {
        "version": "4",
        "groupKey": "{}:{alertname='Errors'}",
        "truncatedAlerts": 0,
        "status": "resolved",
        "receiver": "pilothouse",
        "groupLabels": {"alertname": "Errors"},
        "commonLabels": {"alertname": "Errors"},
        "commonAnnotations": {},
        "externalURL": "http://alertmanager.example.org",
        "alerts": [{"status": "resolved", "labels": {"alertname": "Errors"}}],
    }

    assert layer.move("abort", alert).json()["state"] == "running"
    aborted = layer.move("abort", {**alert, "status": "firing"}).json()

    assert (aborted["state"], aborted["signal"]) == ("aborted", "alert")


def test_a_key_that_was_changed_in_vault_aborts_nothing_here(layer: ReleasedLayer) -> None:
    """Without an edit behind the service, a release goes on whatever else is written."""
    layer.start(NEW, plan(10, hold="1s", bake="1s"))
    for number in range(5):
        layer.write({"other": number})

    layer.wait_for("done")


# Lists


def test_releases_are_listed_and_filtered(layer: ReleasedLayer) -> None:
    layer.start(NEW, plan(10, 20))

    def ids_of(query: str) -> list[str]:
        answer = layer.service.request("GET", f"/api/v1/releases?{query}")
        assert answer.status == 200, answer
        return [each["id"] for each in answer.json()["items"]]

    assert ids_of(f"service_name={layer.name}") == [layer.release]
    assert ids_of(f"service_name={layer.name}&state=running&state=held") == [layer.release]
    assert ids_of(f"service_name={layer.name}&state=done") == []
    assert ids_of("environment=nowhere") == []
    assert layer.release in ids_of("limit=1000")


def test_who_reads_what_is_shown(layer: ReleasedLayer) -> None:
    layer.start(NEW, plan(30, 60))
    candidate = layer.members(30_000, NAMES)[0]
    tag = layer.read(candidate).headers["ETag"].strip('"')
    layer.read("host:other:1")

    def readers() -> dict[str, Any]:
        answer = layer.service.request("GET", f"/api/v1/readers?service_name={layer.name}")
        return {each["instance"]: each for each in answer.json()["items"]}

    wait_until(lambda: len(readers()) == 2, "both are shown")
    shown = readers()[candidate]
    assert (shown["etag"], shown["release"], shown["arm"]) == (tag, layer.release, "candidate")
    assert (shown["outcome"], shown["environment"]) == (None, "production")
    layer.report(candidate, "adopted")
    assert readers()[candidate]["outcome"] == "adopted"


def test_an_instance_reports_without_a_release(layer: ReleasedLayer) -> None:
    body = {
        "environment": "production",
        "service_name": layer.name,
        "instance": "pod-1",
        "outcome": "refused",
        "code": "ValueError",
    }

    assert layer.service.request("POST", "/api/v1/readers", body).status == 204

    (shown,) = layer.service.request("GET", f"/api/v1/readers?service_name={layer.name}").json()[
        "items"
    ]
    assert (shown["instance"], shown["outcome"], shown["code"]) == (
        "pod-1",
        "refused",
        "ValueError",
    )
    assert shown["read_at"] is None


# Counted instances


def test_a_counted_release_takes_registered_instances(releasing: ReleasingService) -> None:
    layer = releasing.layer()
    layer.write(OLD)
    for number in range(6):
        register(layer, f"i-{number}")
    stated = {"pick": "count", "steps": [{"count": 2, "hold": HOUR}, {"count": 4, "hold": HOUR}]}
    layer.start(NEW, stated)

    first = set(layer.details()["instances"])
    assert len(first) == 2
    assert {n for n in (f"i-{k}" for k in range(6)) if layer.data(n)["pool"] == 40} == first
    layer.move("next")
    second = set(layer.details()["instances"])
    assert first < second
    assert len(second) == 4
    gone = min(second)
    body = {"service_name": layer.name, "instance_id": gone}
    answer = layer.service.request("POST", "/api/v1/registry/deregister", body)
    assert answer.status in (200, 204), answer
    wait_until(
        lambda: gone not in (now := set(layer.details()["instances"])) and len(now) == 4,
        "another one has taken its place",
    )
    assert set(layer.details()["instances"]) > second - {gone}


def test_the_health_of_the_candidate_takes_it_back(releasing: ReleasingService) -> None:
    layer = releasing.layer()
    layer.write(OLD)
    release = f"r-health-{layer.name}"
    for name in NAMES[:20]:
        is_candidate = arm_of(release, name, 50_000) == "candidate"
        register(layer, name, ttl_seconds=1 if is_candidate else 600)  # and sends no heartbeat
    signal = {"kind": "health", "worse_by": 0.5, "instances": 2}

    layer.start(NEW, plan(50, hold=HOUR, signals=[signal]), id=release)

    layer.wait_for("aborted")
    assert layer.details()["signal"] == "health"


def register(
    layer: ReleasedLayer, instance: str, environment: str = "production", ttl_seconds: int = 600
) -> None:
    answer = layer.service.request(
        "POST",
        "/api/v1/registry/register",
        {
            "service_name": layer.name,
            "service_url": "http://127.0.0.1:8080",
            "instance_id": instance,
            "metadata": {"environment": environment},
            "ttl_seconds": ttl_seconds,
        },
    )
    assert answer.status in (200, 201), answer
