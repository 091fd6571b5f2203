"""Flags and segments through the API: written, refused, evaluated, followed on another replica."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from openfeature.contrib.provider.ofrep import OFREPProvider
from openfeature.evaluation_context import EvaluationContext

from tests.e2e.client import Service, body_of, fresh_name
from tests.e2e.events import listening
from tests.e2e.flags import EVALUATE, FLAGS, OFREP, SEGMENTS, Flags
from tests.servers.service import ServiceProcess


@pytest.fixture
def flags(service: Service) -> Flags:
    return Flags(service)


def test_the_simple_form_is_shown_changed_and_evaluated(flags: Flags) -> None:
    made = flags.create("checkout", rollout_percentage=25, target_users=["ann"])
    assert (made.status, made.json()["rollout_percentage"]) == (201, 25)
    assert made.headers["Location"].startswith(f"{FLAGS}/checkout?")

    ann = flags.evaluate("checkout", "ann")
    assert (ann["enabled"], ann["reason"], ann["rule_id"]) == (
        True,
        "TARGETING_MATCH",
        "targeted-users",
    )
    had = {user for user in map(str, range(200)) if flags.evaluate("checkout", user)["enabled"]}
    body_of(flags.edit("PATCH", "checkout", rollout_percentage=50))
    have = {user for user in map(str, range(200)) if flags.evaluate("checkout", user)["enabled"]}

    assert had < have
    assert body_of(flags.get("checkout"))["version"] == 2


def test_what_was_shown_can_be_sent_back(flags: Flags) -> None:
    shown = flags.create("a", rollout_percentage=10).json()

    same = body_of(flags.edit("PUT", "a", **shown))
    more = body_of(flags.edit("PUT", "a", **(shown | {"rollout_percentage": 11})))

    assert (same["version"], more["version"], more["rollout_percentage"]) == (1, 2, 11)


def test_an_edit_of_the_simple_form_keeps_what_it_does_not_name(flags: Flags) -> None:
    shown = flags.create("a", rollout_percentage=10, target_users=["ann"]).json()
    body_of(flags.edit("PATCH", "a", default_variant="on", off_variant=None))

    patched = body_of(flags.edit("PATCH", "a", rollout_percentage=20))
    del patched["target_users"]
    sent_back = body_of(flags.edit("PUT", "a", **(patched | {"rollout_percentage": 30})))
    same = body_of(
        flags.edit("PUT", "a", **{n: v for n, v in sent_back.items() if n != "target_users"})
    )

    assert shown["default_variant"] == "off"
    assert (patched["default_variant"], patched["off_variant"]) == ("on", None)
    assert (sent_back["default_variant"], sent_back["target_users"]) == ("on", ["ann"])
    assert (same["version"], same["rollout_percentage"]) == (4, 30)


def test_a_flag_created_by_name_only_is_off_until_it_is_enabled(flags: Flags) -> None:
    made = body_of(flags.create("a", description="new"), 201)
    before = flags.evaluate("a", "ann")
    body_of(flags.edit("PATCH", "a", enabled=True))

    assert (made["enabled"], before["enabled"], before["reason"]) == (False, False, "DISABLED")
    assert flags.evaluate("a", "ann")["enabled"] is True
    assert body_of(flags.create("b", enabled=True), 201)["enabled"] is True
    assert flags.evaluate("b")["enabled"] is True
    assert body_of(flags.create("c", rollout_percentage=100), 201)["enabled"] is True


def test_a_numeric_user_is_the_one_of_its_decimals_everywhere(flags: Flags) -> None:
    segment = {"attribute": "targetingKey", "op": "in", "values": ["101"]}
    body = {"name": "s", "environment": flags.environment, "when": segment}
    body_of(flags.of.call("POST", SEGMENTS, body), 201)
    simple = body_of(flags.create("simple", target_users=[101, "ann"]), 201)
    body_of(
        flags.create("rule", rules=[{"when": {"segment": "s"}, "serve": {"variant": "on"}}]), 201
    )

    assert simple["target_users"] == ["101", "ann"]
    for user in (101, "101"):
        for name in ("simple", "rule"):
            assert flags.evaluate(name, user)["enabled"] is True
            answer = flags.ofrep(f"/{name}", context={"targetingKey": user})
            assert body_of(answer)["value"] is True
    same = body_of(flags.edit("PUT", "simple", **(simple | {"target_users": [101, "ann"]})))
    assert same["version"] == 1


def test_a_flag_for_everybody_needs_no_user(flags: Flags) -> None:
    body_of(flags.create("all", rollout_percentage=100), 201)

    assert flags.evaluate("all")["enabled"] is True
    assert body_of(flags.ofrep("/all"))["value"] is True
    assert body_of(flags.ofrep())["flags"][0]["value"] is True


def test_a_switch_gets_a_percentage_and_target_users(flags: Flags) -> None:
    body_of(flags.create("off"), 201)
    body_of(flags.create("on", enabled=True), 201)

    off = body_of(flags.edit("PATCH", "off", target_users=["ann"], enabled=True))
    on = body_of(flags.edit("PUT", "on", target_users=["ann"]))

    assert (off["rollout_percentage"], on["rollout_percentage"]) == (0, 100)
    assert [flags.evaluate("off", user)["enabled"] for user in ("ann", "bob")] == [True, False]
    assert flags.evaluate("on", "bob")["enabled"] is True


def test_put_of_the_simple_form_keeps_what_it_does_not_name(flags: Flags) -> None:
    facts = {"description": "d", "owner": "o", "tags": ["t"]}
    body_of(flags.create("a", rollout_percentage=10, target_users=["ann"], **facts), 201)
    rule = {"id": "r", "when": None, "serve": {"variant": "on"}}
    body_of(flags.create("full", rules=[rule], **facts), 201)

    simple = body_of(flags.edit("PUT", "a", rollout_percentage=60))
    disabled = body_of(flags.edit("PUT", "full", enabled=False))
    refused = flags.edit("PUT", "full", rollout_percentage=60)
    whole = body_of(flags.edit("PUT", "full", rules=[rule]))

    assert {name: simple[name] for name in facts} == facts
    assert (simple["rollout_percentage"], simple["target_users"]) == (60, ["ann"])
    assert (disabled["rules"], disabled["owner"]) == ([rule], "o")
    assert body_of(refused, 422)["errors"][0]["code"] == "not_simple"
    assert (whole["enabled"], whole["description"], whole["tags"]) == (True, "", [])


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_a_flag_in_use_gets_another_type_only_by_force(flags: Flags, method: str) -> None:
    text = {"type": "string", "variants": {"a": "A"}, "default_variant": "a", "off_variant": None}
    body_of(flags.create("unused"), 201)
    body_of(flags.create("used"), 201)
    flags.evaluate("used", "ann")

    unused = flags.edit(method, "unused", **text)
    refused = flags.edit(method, "used", **text)
    path = f"{FLAGS}/used"
    forced = flags.of.call(method, path, text, environment=flags.environment, force="true")

    assert body_of(unused)["type"] == "string"
    assert body_of(refused, 409)["code"] == "flag_type_in_use"
    assert body_of(refused, 409)["last_evaluated_at"]
    assert body_of(forced)["version"] == 2


def test_twenty_writers_create_flags_in_one_environment(flags: Flags) -> None:
    def create(writer: int) -> list[int]:
        return [flags.create(f"f{writer}-{number}").status for number in range(5)]

    with ThreadPoolExecutor(20) as pool:
        statuses = [status for found in pool.map(create, range(20)) for status in found]

    assert statuses == [201] * 100


def test_rules_and_variants_never_give_way_to_a_percentage(flags: Flags) -> None:
    colours = {"type": "string", "variants": {"red": "r"}, "default_variant": "red"}
    shown = body_of(flags.create("a", **colours), 201)
    simple = body_of(flags.create("b", rollout_percentage=10), 201)
    variants = {**simple["variants"], "more": True}

    added = flags.edit("PUT", "a", **shown, rollout_percentage=10)
    both = flags.edit("PUT", "b", **(simple | {"variants": variants, "rollout_percentage": 20}))

    assert body_of(added, 422)["errors"][0]["pointer"] == "#/rollout_percentage"
    assert body_of(both, 422)["errors"][0]["pointer"] == "#/variants"


def test_history_tells_what_each_version_has_changed(flags: Flags) -> None:
    flags.create("a", rollout_percentage=10, comment="begun")
    body_of(flags.edit("PATCH", "a", enabled=False, comment="stopped"))
    assert flags.of.call("DELETE", f"{FLAGS}/a", environment=flags.environment).status == 204

    items = body_of(flags.get("a/history"))["items"]

    assert [item["action"] for item in items] == ["deleted", "updated", "created"]
    assert items[1]["diff"]["changed"] == {"enabled": {"old": True, "new": False}}
    assert [item["comment"] for item in items][1:] == ["stopped", "begun"]
    assert body_of(flags.get("a"), 404)["code"] == "flag_not_found"
    assert flags.create("a").json()["version"] == 4


def test_what_others_need_stays(flags: Flags) -> None:
    segment = {"name": "staff", "environment": flags.environment, "when": None}
    body_of(flags.of.call("POST", SEGMENTS, segment), 201)
    rule = {"when": {"segment": "staff"}, "serve": {"variant": "on"}}
    body_of(flags.create("base"), 201)
    needs = [{"flag": "base", "variants": ["on"]}]
    body_of(flags.create("top", rules=[rule], prerequisites=needs), 201)

    segment_gone = flags.of.call("DELETE", f"{SEGMENTS}/staff", environment=flags.environment)
    flag_gone = flags.of.call("DELETE", f"{FLAGS}/base", environment=flags.environment)
    cycle = flags.edit("PATCH", "base", prerequisites=[{"flag": "top", "variants": ["on"]}])

    assert body_of(segment_gone, 409)["users"] == ["flag top"]
    assert body_of(flag_gone, 409)["users"] == ["flag top"]
    assert body_of(cycle, 422)["errors"][0]["code"] == "cycle"
    body_of(flags.edit("PATCH", "base", enabled=False))
    assert flags.evaluate("top", "u")["prerequisite"] == "base"


@pytest.mark.parametrize(
    ("members", "pointer"),
    [
        ({"rollout_percentage": 0.0001}, "#/rollout_percentage"),
        ({"colour": 1}, "#/colour"),
        ({"type": "integer", "variants": {"a": 1.5}, "default_variant": "a"}, "#/variants/a"),
        ({"rules": [{"serve": {"rollout": {"weights": {"on": 1}}}}]}, "#/rules/0/serve/rollout"),
        (
            {"rules": [{"when": {"segment": "no"}, "serve": {"variant": "on"}}]},
            "#/rules/0/when",
        ),
        ({"prerequisites": [{"flag": "no", "variants": ["on"]}]}, "#/prerequisites/0/flag"),
    ],
)
def test_a_bad_flag_is_refused_by_its_place(
    flags: Flags, members: dict[str, Any], pointer: str
) -> None:
    refused = flags.create("bad", **members)

    assert refused.status == 422
    assert refused.json()["errors"][0]["pointer"].startswith(pointer)
    assert body_of(flags.get())["items"] == []


def test_writes_are_conditional_and_idempotent(flags: Flags) -> None:
    body = {"name": "a", "environment": flags.environment}
    key = {"Idempotency-Key": fresh_name("k")}
    first, again = (flags.of.call("POST", FLAGS, body, headers=key) for _ in range(2))
    other = flags.of.call("POST", FLAGS, {**body, "owner": "me"}, headers=key)

    assert (first.status, again.status, other.status) == (201, 201, 422)
    assert first.headers["X-Revision"] == again.headers["X-Revision"]
    assert body_of(flags.create("a"), 409)["code"] == "flag_exists"
    stale = flags.edit("PATCH", "a", {"If-Match": '"7"'}, enabled=False)
    assert body_of(stale, 412)["current_version"] == 1
    known = flags.of.get(
        f"{FLAGS}/a", headers={"If-None-Match": '"1"'}, environment=flags.environment
    )
    assert known.status == 304


def test_a_batch_tells_of_every_flag_in_its_place(flags: Flags) -> None:
    flags.create("a", enabled=True)
    flags.create("n", type="number", variants={"one": 1}, default_variant="one")
    names = {"flag_names": ["a", "n", "gone"], "user_id": "u"}

    batch = flags.of.call("POST", f"{EVALUATE}/batch", {**names, "environment": flags.environment})
    found = body_of(batch)["evaluations"]

    assert [found[name]["value"] for name in ("a", "n", "gone")] == [True, 1.0, None]
    assert b'"value":1.0' in batch.body
    assert found["gone"]["error_code"] == "FLAG_NOT_FOUND"


def test_an_explanation_tells_every_rule(flags: Flags) -> None:
    when = {"attribute": "plan", "op": "eq", "values": ["pro"]}
    flags.create("a", rules=[{"id": "pro", "when": when, "serve": {"variant": "on"}}])

    found = flags.evaluate("a", "u", context={"plan": "free"}, explain=True)

    assert (found["variant"], found["reason"]) == ("off", "DEFAULT")
    assert found["explanation"]["rules"][0]["when"]["holds"] is False


def test_usage_is_counted_and_stale_flags_are_found(flags: Flags) -> None:
    flags.create("used", enabled=True)
    flags.create("unused")
    for user in "abc":
        flags.evaluate("used", user)
    report = {"environment": flags.environment, "evaluations": {"used": {"on": 4, "no": 1}}}
    assert flags.of.call("POST", "/api/v1/flag-usage", report).status == 204

    assert body_of(flags.get("used/usage"))["evaluations"] == {"on": 7}
    assert body_of(flags.get("used"))["last_evaluated_at"] is not None
    assert [item["name"] for item in body_of(flags.get(stale_days=0))["items"]] == [
        "unused",
        "used",
    ]
    assert body_of(flags.get(stale_days=1))["items"] == []


def test_evaluations_are_in_the_metrics_at_once(flags: Flags) -> None:
    flags.create("counted", rollout_percentage=100)
    flags.evaluate("counted", "ann")
    flags.evaluate("counted", "bob")

    environment = f'environment="{flags.environment}"'
    by_reason = f'pilothouse_flag_evaluations_total{{{environment},reason="SPLIT"}}'
    by_variant = (
        f'pilothouse_flag_variant_evaluations_total{{{environment},flag="counted",variant="on"}}'
    )
    assert (flags.of.metric(by_reason), flags.of.metric(by_variant)) == (2, 2)
    assert b"ann" not in flags.of.get("/metrics").body


def test_ofrep_answers_in_its_own_words(flags: Flags) -> None:
    flags.create("roll", rollout_percentage=50)
    flags.create("mute", off_variant=None, enabled=False)

    bulk = flags.ofrep(context={"targetingKey": "u"})
    tag = bulk.headers["ETag"] or ""
    same = flags.ofrep(context={"targetingKey": "u"}, headers={"If-None-Match": f"W/{tag}"})
    other = flags.ofrep(
        context={"targetingKey": "u", "plan": "pro"}, headers={"If-None-Match": tag}
    )
    without_key = {found["key"]: found for found in body_of(flags.ofrep())["flags"]}
    missing, bad = flags.ofrep("/no%2Fsuch"), flags.ofrep("/roll", context=[])

    assert [found["key"] for found in body_of(bulk)["flags"]] == ["mute", "roll"]
    mute = body_of(bulk)["flags"][0]
    assert mute["variant"] is None
    assert "value" not in mute
    assert (same.status, other.status) == (304, 200)
    # Where each flag told it, clients would take all of them for changed whenever one is.
    assert body_of(bulk)["metadata"] == {
        "revision": body_of(flags.ofrep("/mute"))["metadata"]["revision"]
    }
    assert set(body_of(bulk)["flags"][1]["metadata"]) == {"flagVersion", "ruleId", "bucket"}
    assert without_key["roll"]["errorCode"] == "TARGETING_KEY_MISSING"
    assert body_of(missing, 404)["key"] == "no/such"
    assert body_of(bad, 400)["errorCode"] == "INVALID_CONTEXT"


def test_the_official_provider_evaluates(flags: Flags) -> None:
    flags.create("on", enabled=True)
    variants = {"small": {"size": 1}, "large": {"size": 2}}
    flags.create("box", type="object", variants=variants, default_variant="large")
    provider = OFREPProvider(
        flags.of.process.url, headers_factory=lambda: {"X-Environment": flags.environment}
    )
    context = EvaluationContext("ann", {"plan": "pro"})

    switch = provider.resolve_boolean_details("on", default_value=False, evaluation_context=context)
    box = provider.resolve_object_details("box", {}, context)

    assert (switch.value, switch.variant, str(switch.reason)) == (True, "on", "STATIC")
    assert box.value == {"size": 2}


def test_streams_tell_of_flags_in_both_forms(flags: Flags) -> None:
    url, query = flags.of.process.url, f"?environment={flags.environment}"
    with (
        listening(url, f"{query}&kinds=flag") as log,
        listening(url, query, path="/ofrep/v1/stream") as refetches,
    ):
        log.first_revision()
        refetches.first_revision()
        revision = int(flags.create("a").headers["X-Revision"] or 0)
        told_of = log.until(lambda event: event.name == "flag.changed")[-1]
        refetch = refetches.until(lambda event: event.name == "message")[-1]

    assert (told_of.id, told_of.data["name"]) == (revision, "a")
    assert (refetch.id, refetch.data["type"]) == (revision, "refetchEvaluation")
    fresh = flags.of.call(
        "POST",
        OFREP,
        {},
        headers={"X-Environment": flags.environment},
        flagConfigEtag=refetch.data["etag"],
    )
    assert [found["key"] for found in body_of(fresh)["flags"]] == ["a"]


def test_a_refetch_stream_begins_with_what_may_have_been_missed(flags: Flags) -> None:
    url, query = flags.of.process.url, f"?environment={flags.environment}"
    path = "/ofrep/v1/stream"
    created = int(flags.create("a").headers["X-Revision"] or 0)

    with listening(url, query, path=path) as stream:
        told_of = stream.until(lambda event: (event.id or 0) >= created)
    with listening(url, query, path=path, last_event_id=told_of[-1].id) as stream:
        goes_on = stream.until(lambda event: event.id is not None)[-1]

    assert {(event.name, event.data["type"]) for event in told_of} == {
        ("message", "refetchEvaluation")
    }
    assert goes_on.data is None


@pytest.fixture(scope="module")
def replica(real: Service) -> Iterator[Service]:
    with ServiceProcess(real.settings) as process:
        yield Service(process, real.backend, real.settings)


def test_a_flag_written_on_one_replica_is_evaluated_on_another(
    real: Service, replica: Service
) -> None:
    flags = Flags(real)
    for version in range(1, 21):
        made = flags.edit("PATCH", "a", enabled=bool(version % 2)) if version > 1 else None
        made = made or flags.create("a", enabled=True)
        revision = made.headers["X-Revision"]
        body = {"flag_name": "a", "environment": flags.environment}
        seen = replica.call("POST", EVALUATE, body, min_revision=revision)

        assert body_of(seen)["flag_version"] == version
        assert body_of(seen)["enabled"] is bool(version % 2)
