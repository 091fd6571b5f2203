"""What OpenFeature's providers rely on in OFREP's answers beyond their values, rule by rule."""

import json
from typing import Any

import pytest

from tests.e2e.client import Service, body_of
from tests.e2e.flags import OFREP, Flags
from tests.servers.answer import Answer

REASONS = {
    "STATIC",
    "DEFAULT",
    "TARGETING_MATCH",
    "SPLIT",
    "CACHED",
    "DISABLED",
    "UNKNOWN",
    "STALE",
    "ERROR",
}
ANN = {"targetingKey": "ann"}


@pytest.fixture
def flags(service: Service) -> Flags:
    return Flags(service)


@pytest.fixture
def every_way(flags: Flags) -> Flags:
    """Flags that come out in every way there is."""
    when = {"attribute": "plan", "op": "eq", "values": ["pro"]}
    numbers: dict[str, Any] = {"type": "number", "variants": {"one": 1}, "default_variant": "one"}
    pro = [{"id": "pro", "when": when, "serve": {"variant": "on"}}]
    made = [
        flags.create("static", enabled=True),
        flags.create("number", **numbers),
        flags.create("targeted", target_users=["ann"], rollout_percentage=0),
        flags.create("split", rollout_percentage=50),
        flags.create("defaulted", rules=pro, default_variant="off"),
        flags.create("disabled", enabled=False),
        flags.create("mute", enabled=False, off_variant=None),
        flags.create("code-default", default_variant=None),
        flags.create(
            "waits", enabled=True, prerequisites=[{"flag": "disabled", "variants": ["on"]}]
        ),
    ]
    assert {answer.status for answer in made} == {201}, made
    return flags


def bulk(flags: Flags, known: str | None = None, **context: Any) -> Answer:
    headers = {} if known is None else {"If-None-Match": known}
    return flags.ofrep(headers=headers, context=context)


def test_one_and_all_are_told_alike(every_way: Flags) -> None:
    told_of = body_of(bulk(every_way, **ANN))["flags"]
    alone = [body_of(every_way.ofrep(f"/{flag['key']}", context=ANN)) for flag in told_of]
    for flag in alone:
        del flag["metadata"]["revision"]

    assert len(told_of) == 9
    assert alone == told_of


def test_every_answer_has_a_variant_and_a_reason_that_clients_know(every_way: Flags) -> None:
    found = {flag["key"]: flag for flag in body_of(bulk(every_way, **ANN))["flags"]}

    assert {flag["reason"] for flag in found.values()} <= REASONS
    assert all("variant" in flag for flag in found.values())
    without = {key for key, flag in found.items() if "value" not in flag}
    assert without == {key for key, flag in found.items() if flag["variant"] is None}
    assert without == {"mute", "code-default"}
    assert all(flag.get("value", 0) is not None for flag in found.values())


def test_numbers_stay_numbers_with_a_point(every_way: Flags) -> None:
    assert b'"key":"number","value":1.0' in bulk(every_way).body
    assert b'"value":1.0' in every_way.ofrep("/number").body


def test_metadata_are_scalars(every_way: Flags) -> None:
    answer = body_of(bulk(every_way, **ANN))

    values = [value for flag in answer["flags"] for value in flag["metadata"].values()]
    assert {type(value) for value in [*values, *answer["metadata"].values()]} <= {str, int}


@pytest.mark.parametrize("body", [b"", b"{}", b'{"context":{}}', b'{"context":null,"later":[1]}'])
@pytest.mark.parametrize("path", ["", "/", "/static"])
def test_a_context_may_be_left_out(every_way: Flags, path: str, body: bytes) -> None:
    headers = {"X-Environment": every_way.environment}

    answer = every_way.of.process.request("POST", OFREP + path, headers=headers, data=body)

    assert "errorCode" not in body_of(answer)


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/gone", b"{}", 404, "FLAG_NOT_FOUND"),
        ("/team%2Fgone", b"{}", 404, "FLAG_NOT_FOUND"),
        ("/static", b"{", 400, "PARSE_ERROR"),
        ("/static", b"[]", 400, "PARSE_ERROR"),
        ("/static", b'{"context":[]}', 400, "INVALID_CONTEXT"),
        ("/static", b'{"context":{"targetingKey":{}}}', 400, "INVALID_CONTEXT"),
        ("/split", b"{}", 400, "TARGETING_KEY_MISSING"),
        ("", b"{", 400, "PARSE_ERROR"),
        ("", b'{"context":1}', 400, "INVALID_CONTEXT"),
    ],
)
def test_a_refusal_names_the_flag_and_says_why(
    every_way: Flags, path: str, body: bytes, status: int, code: str
) -> None:
    headers = {"X-Environment": every_way.environment}

    refused = every_way.of.process.request("POST", OFREP + path, headers=headers, data=body)

    members = body_of(refused, status)
    assert members["errorCode"] == code
    assert members["errorDetails"]
    assert members.get("key") == (path[1:].replace("%2F", "/") or None)
    assert refused.headers["Content-Type"] == "application/json"


def test_an_environment_that_cannot_be_is_refused_in_the_words_of_ofrep(flags: Flags) -> None:
    refused = flags.ofrep("/a", headers={"X-Environment": "no such/one"})

    assert (body_of(refused, 400)["key"], refused.json()["errorCode"]) == ("a", "GENERAL")


def test_one_flag_that_cannot_be_evaluated_is_told_in_its_place(every_way: Flags) -> None:
    found = {flag["key"]: flag for flag in body_of(bulk(every_way))["flags"]}

    refused = {key: flag["errorCode"] for key, flag in found.items() if "errorCode" in flag}
    assert refused == {"split": "TARGETING_KEY_MISSING"}
    assert found["targeted"]["value"] is False  # off has all buckets
    assert found["static"]["value"] is True


@pytest.mark.parametrize("form", ["{tag}", "W/{tag}", '"other", {tag}', '"other" , W/{tag},', "*"])
def test_a_known_tag_is_answered_without_a_body(every_way: Flags, form: str) -> None:
    tag = bulk(every_way, **ANN).headers["ETag"] or ""

    same = bulk(every_way, form.format(tag=tag), **ANN)

    assert (same.status, same.body, same.headers["ETag"]) == (304, b"", tag)


@pytest.mark.parametrize("form", ['"other"', "{bare}", 'W/"{bare}x"', ""])
def test_an_unknown_tag_is_answered_in_full(every_way: Flags, form: str) -> None:
    tag = bulk(every_way, **ANN).headers["ETag"] or ""

    assert bulk(every_way, form.format(bare=tag.strip('"')), **ANN).status == 200


def test_the_order_of_a_context_makes_no_tag_and_each_attribute_does(every_way: Flags) -> None:
    contexts: list[dict[str, Any]] = [
        {"targetingKey": "ann", "plan": {"a": 1, "b": 2}},
        {"plan": {"b": 2, "a": 1}, "targetingKey": "ann"},
        {"targetingKey": "ann", "plan": {"a": 1, "b": 3}},
        {"targetingKey": "bob", "plan": {"a": 1, "b": 2}},
        {"targetingKey": "ann"},
    ]

    first, reordered, *others = [bulk(every_way, **found).headers["ETag"] for found in contexts]

    assert first == reordered
    assert len({first, *others}) == 4


def test_a_change_makes_a_tag_and_a_change_elsewhere_does_not(every_way: Flags) -> None:
    tag = bulk(every_way, **ANN).headers["ETag"]

    Flags(every_way.of).create("static", enabled=True)
    elsewhere = bulk(every_way, **ANN).headers["ETag"]
    body_of(every_way.edit("PATCH", "static", enabled=False))
    here = bulk(every_way, **ANN).headers["ETag"]

    assert elsewhere == tag != here


def test_all_flags_say_where_changes_are_told(flags: Flags) -> None:
    (stream,) = body_of(bulk(flags))["eventStreams"]

    url = f"{flags.of.process.url}/ofrep/v1/stream?environment={flags.environment}"
    assert stream == {"type": "sse", "url": url}
    assert json.loads(bulk(flags).body)["flags"] == []


def test_the_stream_is_named_as_the_client_has_named_the_service(flags: Flags) -> None:
    proxied = flags.ofrep(headers={"Host": "flags.example.org", "X-Forwarded-Proto": "https"})

    (stream,) = body_of(proxied)["eventStreams"]
    assert stream["url"].startswith("https://flags.example.org/ofrep/v1/stream?")
