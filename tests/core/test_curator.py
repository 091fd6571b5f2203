"""Nodes as Curator and Spring Cloud ZooKeeper write and read them."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilothouse_core.curator import (
    MAX_NODE_BYTES,
    DiscoveredInstance,
    UnreadableNode,
    node_data,
    read_node,
    read_nodes,
)
from pilothouse_core.instances import STATUSES, FencingToken, Url, read_registration
from tests.core.drawn import json_values
from tests.core.drawn_instances import registrations
from tests.trials import trials

quick = settings(max_examples=trials(60))
NOW = 1_700_000_000_123
LAST_MOMENT = 253_402_300_799_999
tags = st.builds(FencingToken, st.integers(1, 2**40), st.integers(1, 2**40))

# As Curator 5.4 writes one; `@class` and the payload are Spring Cloud ZooKeeper's.
SPRING = {
    "name": "billing",
    "id": "e1f6a1f0-65cc-4d1b-9a0c-3b8a5f9c1b8e",
    "address": "10.0.0.7",
    "port": 8080,
    "sslPort": None,
    "payload": {
        "@class": "org.springframework.cloud.zookeeper.discovery.ZookeeperInstance",
        "id": "billing",
        "name": "billing",
        "metadata": {"instance_status": "UP", "n": 1},
    },
    "registrationTimeUTC": NOW,
    "serviceType": "DYNAMIC",
    "uriSpec": {
        "parts": [
            {"value": "scheme", "variable": True},
            {"value": "://", "variable": False},
            {"value": "address", "variable": True},
            {"value": ":", "variable": False},
            {"value": "port", "variable": True},
        ]
    },
}


def data(**changed: Any) -> bytes:
    return json.dumps({**SPRING, **changed}).encode()


def node_members(**members: Any) -> dict[str, Any]:
    registration = {"service_name": "billing", "service_url": "http://10.0.0.7:8080", **members}
    found: dict[str, Any] = json.loads(
        node_data(read_registration(registration), FencingToken(3, 2), NOW, "up")
    )
    return found


def test_an_instance_is_written_as_curator_writes_it() -> None:
    found = node_members(instance_id="one")

    assert {name: found[name] for name in SPRING} == {**SPRING, "id": "one", "payload": None}
    assert "enabled" not in found
    assert {name: value for name, value in found.items() if name not in SPRING} == {
        "service_name": "billing",
        "instance_id": "one",
        "service_url": "http://10.0.0.7:8080",
        "metadata": {},
        "tags": [],
        "weight": 100,
        "ttl_seconds": 30,
        "warmup_seconds": 0.0,
        "status": "up",
        "epoch": 3,
        "term": 2,
    }


@pytest.mark.parametrize(
    ("url", "address", "ports", "uri"),
    [
        ("https://a:8443", "a", (8443, 8443), "<scheme>://<address>:<port>"),
        ("http://a/base", "a", (80, None), "<scheme>://<address>:<port>/base"),
        ("grpc://a:50051", "a", (50051, None), "grpc://<address>:<port>"),
        ("http://[2001:db8::7]", "2001:db8::7", (80, None), "<scheme>://[<address>]:<port>"),
    ],
)
def test_curator_can_build_the_url_again(
    url: str, address: str, ports: tuple[int, int | None], uri: str
) -> None:
    found = node_members(service_url=url)
    parts = found["uriSpec"]["parts"]

    assert found["address"] == address
    assert (found["port"], found["sslPort"]) == ports
    assert "".join(f"<{p['value']}>" if p["variable"] else p["value"] for p in parts) == uri


@quick
@given(registrations, tags, st.integers(0, LAST_MOMENT), st.sampled_from(STATUSES))
def test_what_was_written_is_read_as_it_was(
    drawn: dict[str, Any], tag: FencingToken, registered_at: int, status: str
) -> None:
    instance = read_registration(drawn)
    node = node_data(instance, tag, registered_at, status)

    found = read_node(instance.service_name, instance.instance_id, node)

    assert len(node) < MAX_NODE_BYTES
    assert found.instance == instance
    assert not found.is_foreign
    assert (found.tag, found.registered_at, found.status) == (tag, registered_at, status)
    assert (found.id, found.url) == (instance.instance_id, instance.url)


@quick
@given(registrations, tags)
def test_somebody_who_reads_as_curator_does_finds_the_same_url(
    drawn: dict[str, Any], tag: FencingToken
) -> None:
    instance = read_registration(drawn)
    node = json.loads(node_data(instance, tag, NOW))
    del node["epoch"]

    found = read_node(instance.service_name, "node", json.dumps(node).encode())

    assert found.is_foreign
    assert found.url == instance.url


def test_the_largest_registration_fits_into_a_node() -> None:
    whole = node_members(
        instance_id="x" * 63,
        metadata={"a": "é" * 8188},
        tags=["😀" * 100] * 32,
        version="😀" * 100,
        health_check_url=f"http://a/{'x' * 991}",
        service_url=f"http://a/{'x' * 991}",
    )

    assert len(json.dumps(whole, ensure_ascii=False).encode()) < MAX_NODE_BYTES


@pytest.mark.parametrize(
    ("node", "url"),
    [
        (
            (
                '{"name":"legacy","id":"c-1","address":"10.0.0.9","port":8080,"sslPort":8443,'
                '"payload":null,"registrationTimeUTC":1795279482664,"serviceType":"DYNAMIC",'
                '"uriSpec":{"parts":[{"value":"scheme","variable":true},'
                '{"value":"://","variable":false},{"value":"address","variable":true},'
                '{"value":":","variable":false},{"value":"port","variable":true}]}}'
            ),
            Url("https", "10.0.0.9", 8080),
        ),
        (
            (
                '{"name":"legacy","id":"c-1","address":"10.0.0.9","port":8080,"sslPort":null,'
                '"payload":null,"registrationTimeUTC":1795279482664,"serviceType":"DYNAMIC",'
                '"uriSpec":null}'
            ),
            Url("http", "10.0.0.9", 8080),
        ),
    ],
)
def test_what_curator_5_4_0_wrote_is_read(node: str, url: Url) -> None:
    assert read_node("legacy", "c-1", node.encode()) == DiscoveredInstance(
        "legacy", "c-1", "c-1", url, registered_at=1_795_279_482_664
    )


def _springs(status: str | None) -> dict[str, Any]:
    return {"payload": {"metadata": {} if status is None else {"instance_status": status}}}


def test_an_instance_of_somebody_else_is_foreign() -> None:
    assert read_node("billing", "node-1", data()) == DiscoveredInstance(
        service="billing",
        node="node-1",
        id="e1f6a1f0-65cc-4d1b-9a0c-3b8a5f9c1b8e",
        url=Url("http", "10.0.0.7", 8080),
        registered_at=NOW,
        metadata={"instance_status": "UP"},
    )


@pytest.mark.parametrize(
    ("changed", "facts"),
    [
        ({"id": None}, {"id": "node-1"}),
        ({"id": ""}, {"id": "node-1"}),
        ({"enabled": True}, {"status": "up"}),
        ({"enabled": False}, {"status": "down"}),
        ({"sslPort": 8443}, {"url": Url("https", "10.0.0.7", 8080)}),
        ({"sslPort": 8443, "uriSpec": None}, {"url": Url("https", "10.0.0.7", 8443)}),
        ({"uriSpec": None}, {"url": Url("http", "10.0.0.7", 8080)}),
        ({"uriSpec": {"parts": [{"value": "x"}]}}, {"url": Url("http", "10.0.0.7", 8080)}),
        ({"uriSpec": None, "address": "::1"}, {"url": Url("http", "::1", 8080)}),
        ({"registrationTimeUTC": "now"}, {"registered_at": None}),
        ({"registrationTimeUTC": LAST_MOMENT}, {"registered_at": LAST_MOMENT}),
        ({"registrationTimeUTC": LAST_MOMENT + 1}, {"registered_at": None}),
        ({"registrationTimeUTC": 2**53 - 1}, {"registered_at": None}),
        ({"port": "8081"}, {"url": Url("http", "10.0.0.7", 8081)}),
        ({"port": "8081", "uriSpec": None}, {"url": Url("http", "10.0.0.7", 8081)}),
        ({"port": 8081.0}, {"url": Url("http", "10.0.0.7", 8081)}),
        ({"port": None}, {"url": Url("http", "10.0.0.7", 80)}),
        ({"port": None, "uriSpec": None}, {"url": Url("http", "10.0.0.7", 80)}),
        ({"port": None, "uriSpec": None, "address": "::1"}, {"url": Url("http", "::1", 80)}),
        ({"port": None, "sslPort": 8443}, {"url": Url("https", "10.0.0.7", 8443)}),
        ({"port": None, "sslPort": "8443"}, {"url": Url("https", "10.0.0.7", 8443)}),
        (
            {"port": None, "sslPort": 8443, "uriSpec": None},
            {"url": Url("https", "10.0.0.7", 8443)},
        ),
        (_springs("OUT_OF_SERVICE"), {"status": "down"}),
        (_springs("out_of_service"), {"status": "down"}),
        (_springs("DOWN"), {"status": "down"}),
        (_springs("STARTING"), {"status": "starting"}),
        (_springs("up"), {"status": "up"}),
        (_springs("up") | {"enabled": False}, {"status": "down"}),
        (_springs(None), {"status": "up"}),
        ({"payload": "text"}, {"metadata": {}}),
        ({"payload": {"metadata": []}}, {"metadata": {}}),
        ({"epoch": 1}, {"tag": None}),
        ({"epoch": "1", "term": 1}, {"tag": None}),
        ({"epoch": True, "term": 1}, {"tag": None}),
    ],
)
def test_what_others_leave_out_or_write_otherwise_is_no_obstacle(
    changed: dict[str, Any], facts: dict[str, Any]
) -> None:
    found = read_node("billing", "node-1", data(**changed))

    assert {name: getattr(found, name) for name in facts} == facts


def test_a_url_of_more_than_curators_usual_parts_is_built() -> None:
    words = ["https://", "<name>", ".example:", "<ssl-port>", "/", "<[>", "<id>", "<none>"]
    parts = [{"value": w.strip("<>"), "variable": w.startswith("<")} for w in words]

    with pytest.raises(UnreadableNode):  # braces stand in no URL, nor does this address
        read_node("billing", "n", data(uriSpec={"parts": parts}, address="a b"))
    parts.pop(5)
    found = read_node("billing", "n", data(uriSpec={"parts": parts}, sslPort=9, id="x"))

    assert found.url == Url("https", "billing.example", 9, "/x")


@pytest.mark.parametrize(
    "node",
    [
        b"",
        b"10.0.0.7",
        b"\xff",
        b"[]",
        b"null",
        b"{}",
        b'{"address": 7}',
        b'{"address": "a", "port": "x"}',
        b'{"address": "a", "port": ""}',
        b'{"address": "a", "port": 80.5}',
        b'{"address": "a", "port": -1}',
        b'{"address": "a", "port": true}',
        b'{"address": "a", "port": [80]}',
        b'{"address": "a", "sslPort": "x"}',
        b'{"address": "a", "port": 70000}',
        b'{"address": "a", "port": "70000"}',
        b'{"address": "a", "port": 0}',
        b'{"address": "a", "port": 80, "port": 81}',
        b'{"address": "", "port": 80}',
        b'{"address": "10.0.0.7/health?", "port": 80}',
        data(address="10.0.0.7/health?"),
        data(address="10.0.0.7#"),
        data(address="ann@10.0.0.7"),
        b" " * (MAX_NODE_BYTES + 1),
        b'{"epoch": 1, "term": 1}',
        data(epoch=1, term=1, service_name="a/b", service_url="http://a"),
        data(epoch=1, term=1, service_name="a", service_url="http://a"),
        data(epoch=1, term=1, service_name="a", service_url="http://a", status="well"),
    ],
)
def test_what_cannot_be_read_is_told_and_hides_nothing_else(node: bytes) -> None:
    with pytest.raises(UnreadableNode):
        read_node("billing", "bad", node)

    found, unreadable = read_nodes("billing", {"good": data(), "bad": node, "also": data()})

    assert [one.node for one in found] == ["also", "good"]
    assert unreadable.keys() == {"bad"}
    assert unreadable["bad"]


@quick
@given(st.binary() | json_values.map(lambda value: json.dumps(value).encode()))
def test_no_bytes_do_anything_but_be_refused(node: bytes) -> None:
    with pytest.raises(UnreadableNode):
        read_node("billing", "bad", node)


@quick
@given(
    st.sampled_from(sorted(node_members(zone="a", version="1", health_check_url="http://a"))),
    json_values,
)
def test_a_node_with_any_flaw_is_read_or_refused(member: str, value: Any) -> None:
    node = json.dumps({**node_members(), member: value}).encode()

    found, unreadable = read_nodes("billing", {"node": node})

    assert len(found) + len(unreadable) == 1
