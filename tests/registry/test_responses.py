"""Instances in the words of discovery and of Prometheus."""

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.registry.api.responses import (
    InstanceFilter,
    discovered_items,
    discovered_members,
    instance_members,
    label_names,
    prometheus_target,
)
from app.registry.view import InstanceView, RegistryView
from pilothouse_core.instances import instance_json, read_registration
from tests.core.drawn_instances import registrations
from tests.registry.bench import MOMENT, SERVICE, foreign, row_of, view_of
from tests.trials import trials

LABEL = re.compile("[a-zA-Z_][a-zA-Z0-9_]*")  # Prometheus' own rule


def seen_of(**members: Any) -> InstanceView:
    (seen,) = view_of(row_of("i-1", members)).service(SERVICE).instances
    return seen


def ids(view: RegistryView, *criteria: str | None) -> list[str]:
    text, _ = discovered_items(view.service(SERVICE), InstanceFilter(*criteria))
    return [item["instance_id"] for item in json.loads(text)]


def test_discovery_holds_whom_it_is_asked_for() -> None:
    view = view_of(
        row_of("i-1", {"zone": "a", "tags": ["blue", "new"], "version": "1"}),
        row_of("i-2", {"zone": "a", "tags": ["blue"]}),
        row_of("i-3", {"zone": "b"}),
        row_of("i-4", {"zone": "a"}, health="down"),
        row_of("i-5", {"zone": "a"}, health="suspect"),
    )

    assert ids(view) == ["i-1", "i-2", "i-3", "i-5"]
    assert ids(view, "a") == ["i-1", "i-2", "i-5"]
    assert ids(view, None, "blue") == ["i-1", "i-2"]
    assert ids(view, "a", "new", "1") == ["i-1"]
    assert ids(view, "a", "new", "2") == ids(view, "c") == ids(view, "") == []


def test_of_foreign_instances_nothing_is_known_to_filter_by() -> None:
    view = RegistryView()
    view.set_nodes(SERVICE, {"n": foreign("n", "f-1"), "m": foreign("m", "f-2", enabled=False)})

    assert ids(view) == ["f-1"]
    assert ids(view, "a") == ids(view, None, "blue") == ids(view, None, None, "1") == []


def test_of_an_environment_are_only_those_that_state_exactly_that_one() -> None:
    view = view_of(
        row_of("i-1", {"metadata": {"environment": "production"}}),
        row_of("i-2", {"metadata": {"environment": "staging"}}),
        row_of("i-3", {"metadata": {"environment": "Production"}}),
        row_of("i-4", {"metadata": {"environment": "production eu"}}),  # before it meant anything
        row_of("i-5", {"metadata": {"env": "production"}}),
        row_of("i-6", {"metadata": {"environment": "production"}}, health="down"),
    )

    def of(environment: str) -> list[str]:
        return ids(view, None, None, None, environment)

    assert of("production") == ["i-1"]
    assert of("staging") == ["i-2"]
    assert of("Production") == ["i-3"]
    assert of("prod*") == of("production eu") == of("") == of("default") == []
    assert ids(view) == ["i-1", "i-2", "i-3", "i-4", "i-5"]


def test_a_foreign_instance_is_of_the_environment_that_its_node_states() -> None:
    view = RegistryView()
    payload = {"metadata": {"environment": "production"}}
    view.set_nodes(SERVICE, {"n": foreign("n", "f-1", payload=payload), "m": foreign("m", "f-2")})

    assert ids(view, None, None, None, "production") == ["f-1"]


def test_the_same_answer_has_the_same_digest_and_another_has_another() -> None:
    def digest(view: RegistryView, *criteria: str | None) -> str:
        return discovered_items(view.service(SERVICE), InstanceFilter(*criteria))[1]

    view = view_of(row_of("i-1", {"zone": "a"}))
    heard = view_of(row_of("i-1", {"zone": "a"}, heartbeat_at=MOMENT.replace(hour=9)))

    assert digest(view) == digest(view) == digest(view, "a") == digest(heard)
    assert digest(view) != digest(view, "b")
    assert digest(view) != digest(view_of(row_of("i-1", {"zone": "a"}, epoch=2)))
    assert digest(view) != digest(view_of(row_of("i-1", {"zone": "a"}), nodes=False))


def test_questions_without_end_are_answered_and_not_all_kept() -> None:
    service = view_of(row_of("i-1", {"zone": "z7"})).service(SERVICE)

    found = [discovered_items(service, InstanceFilter(f"z{number}"))[0] for number in range(500)]

    assert [number for number, text in enumerate(found) if text != b"[]"] == [7]
    assert len(service.answers) == 100


def test_a_foreign_instance_is_shown_by_what_its_node_says() -> None:
    view = RegistryView()
    payload = {"metadata": {"team": "x", "port": 5}}
    view.set_nodes(SERVICE, {"n": foreign("n", "f-1", payload=payload, sslPort=443)})
    (seen,) = view.service(SERVICE).instances

    found = instance_members(seen)

    assert (found["service_url"], found["port"], found["scheme"]) == (
        "https://10.0.0.9:443",
        443,
        "https",
    )
    assert (found["foreign"], found["epoch"], found["metadata"]) == (True, None, {"team": "x"})
    assert found["registered_at"] == "1970-01-01T00:00:01Z"
    assert (found["weight"], found["zone"], found["tags"]) == (100, None, [])


@settings(max_examples=trials(80))
@given(registrations)
def test_what_was_registered_is_what_is_discovered(drawn: dict[str, Any]) -> None:
    instance = read_registration(drawn)
    written = instance_json(instance)

    found = discovered_members(
        seen_of(**{**written, "service_name": SERVICE, "instance_id": "i-1"})
    )

    left_out = {"service_name", "instance_id", "ttl_seconds"}
    for name in written.keys() - left_out:
        assert found[name] == written[name]
    assert found["registered_at"] == "2026-01-02T03:04:05Z"
    json.dumps(found)


@settings(max_examples=trials(80))
@given(registrations)
def test_a_target_holds_nothing_but_texts_that_prometheus_can_read(drawn: dict[str, Any]) -> None:
    seen = seen_of(**{**drawn, "service_name": SERVICE, "instance_id": "i-1"})

    found = prometheus_target(seen)

    assert set(found) == {"targets", "labels"}
    (address,) = found["targets"]
    host, _, port = address.rpartition(":")
    assert 1 <= int(port) <= 65535
    assert ":" not in host or (host.startswith("[") and host.endswith("]"))
    assert "/" not in address
    for name, value in found["labels"].items():
        assert LABEL.fullmatch(name)
        assert isinstance(value, str)
    assert json.loads(json.dumps(found)) == found


@pytest.mark.parametrize(
    ("url", "address", "scheme"),
    [
        ("http://a.example", "a.example:80", "http"),
        ("https://A.example/base", "a.example:443", "https"),
        ("http://[2001:DB8::7]:81", "[2001:db8::7]:81", "http"),
        ("grpc://10.0.0.1:5", "10.0.0.1:5", "grpc"),
    ],
)
def test_a_target_is_an_address_and_its_scheme_a_label(url: str, address: str, scheme: str) -> None:
    found = prometheus_target(seen_of(service_url=url))

    assert found["targets"] == [address]
    assert found["labels"]["__scheme__"] == scheme


def test_names_that_would_become_one_label_stay_apart_whatever_their_order() -> None:
    one = prometheus_target(seen_of(metadata={"a-b": "1", "a.b": "2", "a_b": "3", "c.d": "4"}))
    other = prometheus_target(seen_of(metadata={"c.d": "4", "a_b": "3", "a.b": "2", "a-b": "1"}))

    assert one == other
    assert list(one["labels"]) == list(other["labels"])
    start = "__meta_pilothouse_metadata_"
    found = {n.removeprefix(start): v for n, v in one["labels"].items() if n.startswith(start)}
    # The first eight digits of what `printf a-b | sha256sum` prints.
    assert found == {"a_b": "3", "a_b_d44362d6": "1", "a_b_2e7336dc": "2", "c_d": "4"}


def test_a_name_that_looks_like_the_end_of_another_one_takes_nothing_away() -> None:
    names = ["a-b", "a.b", "a_b_d44362d6", "a-b_d44362d6", ""]

    found = label_names(names)

    assert found.keys() == set(names)
    assert len(set(found.values())) == len(names)
    assert found["a_b_d44362d6"] == "a_b_d44362d6"


@settings(max_examples=trials(200))
@given(st.sets(st.text("ab_.-", max_size=4)))
def test_every_name_has_a_label_of_its_own(names: set[str]) -> None:
    found = label_names(names)

    assert found.keys() == names
    assert len(set(found.values())) == len(names)
    assert all(LABEL.fullmatch(f"x{label}") for label in found.values())
