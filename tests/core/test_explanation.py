import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from pilothouse_core.evaluation import EMPTY, SPLIT, TARGETING_MATCH, FlagSet
from pilothouse_core.explanation import explain_flag
from pilothouse_core.flags.reading import read_flag, read_segment
from tests.core.drawn import MOMENTS, boolean, conditions, contexts, definitions, rollout
from tests.trials import trials

Json = Any
quick = settings(max_examples=trials(60))
NOW = MOMENTS[1]
STAFF = {"attribute": "plan", "op": "eq", "values": ["staff"]}
DEEP = {"not": {"all": [{"any": [STAFF, {"segment": "staff"}]}]}}


def flag_set(*definitions: Json, **segments: Json) -> FlagSet:
    read = [read_flag(definition) for definition in definitions]
    parts = {name: read_segment({"name": name, "when": when}) for name, when in segments.items()}
    return EMPTY.with_changes([(flag.name, flag, 1) for flag in read], parts.items())


def nodes(trace: Json) -> list[Json]:
    """List every condition of a trace."""
    if not isinstance(trace, dict):
        return [node for each in trace for node in nodes(each)] if isinstance(trace, list) else []
    inner = [node for value in trace.values() for node in nodes(value)]
    return [trace, *inner] if "holds" in trace else inner


@quick
@given(
    definitions(),
    contexts,
    st.sampled_from(MOMENTS),
    st.none() | conditions(("staff",)),
)
def test_the_first_rule_that_matched_is_the_one_that_answered(
    definition: Json, context: Json, now: float, beta: Json
) -> None:
    flags = flag_set(definition, beta=beta, staff=STAFF)

    answer = flags.evaluate(definition["name"], context, now)
    trace = explain_flag(flags, definition["name"], context, now)

    assert (trace["found"], trace["enabled"]) == (True, definition["enabled"])
    matched = [rule for rule in trace["rules"] if rule["matched"]]
    if definition["enabled"]:
        assert answer.rule_id == (matched[0]["id"] if matched else None)
        before = trace["rules"][: trace["rules"].index(matched[0])] if matched else trace["rules"]
        skipped = [(r["id"], r["serve"]["by"]) for r in before if r["serve"] is not None]
        assert answer.skipped == tuple(skipped)
    if answer.reason in {SPLIT, TARGETING_MATCH}:
        assert matched[0]["serve"]["variant"] == answer.variant
        assert matched[0]["serve"].get("bucket") == answer.bucket


@quick
@given(definitions(), contexts, conditions(("staff",)))
def test_a_trace_is_json_and_every_condition_says_whether_it_holds(
    definition: Json, context: Json, beta: Json
) -> None:
    flags = flag_set(definition, beta=beta, staff=STAFF)

    trace = explain_flag(flags, definition["name"], context, NOW)

    assert json.loads(json.dumps(trace)) == trace
    for rule in trace["rules"]:
        assert rule["when"] is None or "holds" in rule["when"]
    for node in nodes(trace):
        if "all" in node:
            assert node["holds"] is all(inner["holds"] for inner in node["all"])
        elif "any" in node:
            assert node["holds"] is any(inner["holds"] for inner in node["any"])
        elif "not" in node:
            assert node["holds"] is not node["not"]["holds"]
        elif "segment" in node:
            assert node["holds"] is (node["when"] is None or node["when"]["holds"])


def test_a_trace_tells_every_rule_also_the_later_ones() -> None:
    flags = flag_set(
        boolean(
            {
                "id": "never",
                "active": {"until": "2020-01-01T00:00:00Z"},
                "serve": {"variant": "on"},
            },
            {"id": "deep", "when": DEEP, "serve": {"variant": "on"}},
            {**rollout(50, by="org"), "id": "org"},
            rollout(50),
        ),
        staff=None,
    )

    trace = explain_flag(flags, "new-checkout", {"user_id": "u1", "plan": "free"}, NOW)

    in_segment = {"segment": "staff", "when": None, "holds": True}
    either = {"any": [{**STAFF, "holds": False}, in_segment], "holds": True}
    method = {"salt": "new-checkout", "hash": "murmur3-1"}
    never, deep, org, share = trace["rules"]
    assert never == {"id": "never", "matched": False, "active": False, "when": None, "serve": None}
    assert deep["when"] == {"not": {"all": [either], "holds": True}, "holds": False}
    assert (org["matched"], org["serve"]) == (False, {"skipped": "no org", "by": "org"})
    assert share["matched"]
    assert share["serve"] == {"variant": "off", "bucket": 91507, "by": "user_id", **method}


def test_a_trace_tells_what_prerequisites_served() -> None:
    needs = [{"flag": name, "variants": ["on"]} for name in ("base", "gone")]
    base = boolean({"when": STAFF, "serve": {"variant": "on"}}, name="base")
    flags = flag_set(base, boolean(name="next", prerequisites=needs))

    trace = explain_flag(flags, "next", {"plan": "staff"}, NOW)

    assert trace["prerequisites"] == [
        {"flag": "base", "variants": ["on"], "served": "on", "met": True},
        {"flag": "gone", "variants": ["on"], "served": None, "met": False},
    ]


def test_what_is_not_there_is_told_and_breaks_nothing() -> None:
    flags = flag_set(boolean({"when": {"segment": "gone"}, "serve": {"variant": "on"}}))

    assert explain_flag(flags, "none", {}, NOW) == {"flag": "none", "found": False}
    (rule,) = explain_flag(flags, "new-checkout", {}, NOW)["rules"]
    assert rule["when"] == {"segment": "gone", "when": None, "holds": False}


def test_a_long_list_of_values_is_named_by_its_first() -> None:
    many = {"attribute": "user_id", "op": "in", "values": [f"u{n}" for n in range(1000)]}
    flags = flag_set(boolean({"when": many, "serve": {"variant": "on"}}))

    (rule,) = explain_flag(flags, "new-checkout", {"user_id": "u999"}, NOW)["rules"]

    assert rule["when"] == {
        **many,
        "values": [f"u{n}" for n in range(10)],
        "values_count": 1000,
        "holds": True,
    }
