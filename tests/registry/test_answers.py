"""Instances in the words of discovery and of Prometheus."""

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings

from app.registry.answers import discovered, discovery, shown, target
from app.registry.view import Seen, View
from pilothouse_core.instances import instance_json, read_registration
from tests.core.drawn_instances import registrations
from tests.registry.bench import MOMENT, SERVICE, foreign, row_of, view_of
from tests.trials import trials

LABEL = re.compile("[a-zA-Z_][a-zA-Z0-9_]*")  # Prometheus' own rule


def seen_of(**members: Any) -> Seen:
    (seen,) = view_of(row_of("i-1", members)).service(SERVICE).seen
    return seen


def ids(view: View, *asked: str | None) -> list[str]:
    zone, tag, version = (*asked, None, None, None)[:3]
    text, _ = discovery(view.service(SERVICE), zone, tag, version)
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
    view = View()
    view.found(SERVICE, {"n": foreign("n", "f-1"), "m": foreign("m", "f-2", enabled=False)})

    assert ids(view) == ["f-1"]
    assert ids(view, "a") == ids(view, None, "blue") == ids(view, None, None, "1") == []


def test_the_same_answer_has_the_same_digest_and_another_has_another() -> None:
    def digest(view: View, *asked: str | None) -> str:
        return discovery(view.service(SERVICE), *(*asked, None, None, None)[:3])[1]

    view = view_of(row_of("i-1", {"zone": "a"}))
    heard = view_of(row_of("i-1", {"zone": "a"}, heartbeat_at=MOMENT.replace(hour=9)))

    assert digest(view) == digest(view) == digest(view, "a") == digest(heard)
    assert digest(view) != digest(view, "b")
    assert digest(view) != digest(view_of(row_of("i-1", {"zone": "a"}, epoch=2)))
    assert digest(view) != digest(view_of(row_of("i-1", {"zone": "a"}), nodes=False))


def test_questions_without_end_are_answered_and_not_all_kept() -> None:
    service = view_of(row_of("i-1", {"zone": "z7"})).service(SERVICE)

    found = [discovery(service, f"z{number}", None, None)[0] for number in range(500)]

    assert [number for number, text in enumerate(found) if text != b"[]"] == [7]
    assert len(service.answers) == 100


def test_a_foreign_instance_is_shown_by_what_its_node_says() -> None:
    view = View()
    payload = {"metadata": {"team": "x", "port": 5}}
    view.found(SERVICE, {"n": foreign("n", "f-1", payload=payload, sslPort=443)})
    (seen,) = view.service(SERVICE).seen

    found = shown(seen)

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

    found = discovered(seen_of(**{**written, "service_name": SERVICE, "instance_id": "i-1"}))

    left_out = {"service_name", "instance_id", "ttl_seconds"}
    for name in written.keys() - left_out:
        assert found[name] == written[name]
    assert found["registered_at"] == "2026-01-02T03:04:05Z"
    json.dumps(found)


@settings(max_examples=trials(80))
@given(registrations)
def test_a_target_holds_nothing_but_texts_that_prometheus_can_read(drawn: dict[str, Any]) -> None:
    seen = seen_of(**{**drawn, "service_name": SERVICE, "instance_id": "i-1"})

    found = target(seen)

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
    found = target(seen_of(service_url=url))

    assert found["targets"] == [address]
    assert found["labels"]["__scheme__"] == scheme


def test_names_that_become_one_label_keep_a_stable_value() -> None:
    one = target(seen_of(metadata={"a-b": "1", "a.b": "2", "a_b": "3"}))
    other = target(seen_of(metadata={"a_b": "3", "a.b": "2", "a-b": "1"}))

    assert one == other
    assert list(one["labels"]) == list(other["labels"])
    assert one["labels"]["__meta_pilothouse_metadata_a_b"] == "3"
