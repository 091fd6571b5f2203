import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilothouse_core.conditions.reading import MAX_DEPTH, MAX_VALUES
from pilothouse_core.definitions import DefinitionError, Place
from pilothouse_core.evaluation import compile_flag
from pilothouse_core.flags.model import Flag, Rollout, with_name
from pilothouse_core.flags.reading import read_flag, read_segment
from pilothouse_core.flags.serialization import flag_json, segment_json
from pilothouse_core.flags.simple_form import (
    SimpleForm,
    read_simple_form,
    simple_form_of,
    simple_rules,
)
from tests.core.drawn import SEGMENTS, boolean, conditions, definitions, flags, rollout, texts
from tests.trials import trials

Json = Any
quick = settings(max_examples=trials(60))
NAN, INFINITE, HUGE = float("nan"), float("inf"), 10**400
RULE, WHEN, SERVE = "/rules/0", "/rules/0/when", "/rules/0/serve"
ROLLOUT, WEIGHTS = "/rules/0/serve/rollout", "/rules/0/serve/rollout/weights"
MOVING, VALUE = "/rules/0/serve/progressive", "/rules/0/when/values/0"
HALVES = {"on": 50, "off": 50}


def rule(**members: Json) -> Json:
    return boolean({"serve": {"variant": "on"}, **members})


def when(condition: Json) -> Json:
    return rule(when=condition)


def compare(op: str, *values: Json, **members: Json) -> Json:
    return when({"attribute": "a", "op": op, "values": list(values), **members})


def serve(served: Json) -> Json:
    return rule(serve=served)


def rolling(**members: Json) -> Json:
    return serve({"rollout": {"weights": HALVES, **members}})


def weighted_rollout(**weights: Json) -> Json:
    return serve({"rollout": {"weights": weights}})


def moving(**members: Json) -> Json:
    start = {"at": "2026-01-01T00:00:00Z", "percent": 0}
    end = {"at": "2026-01-02T00:00:00Z", "percent": 100}
    whole = {"variant": "on", "otherwise": "off", "from": start, "to": end}
    return serve({"progressive": {**whole, **members}})


def without(name: str) -> Json:
    return {key: value for key, value in boolean().items() if key != name}


def of_type(kind: str, value: Json) -> Json:
    return boolean(type=kind, variants={"v": value}, default_variant="v", off_variant=None)


def nested_condition(levels: int) -> Json:
    condition: Json = {"all": []}
    for _ in range(levels):
        condition = {"not": condition}
    return condition


BAD: list[tuple[Json, str, str]] = [
    # The flag itself.
    ([], "", "wrong_type"),
    (None, "", "wrong_type"),
    (boolean(colour="red"), "/colour", "unknown_member"),
    (boolean(**{"a/b~c": 1}), "/a~1b~0c", "unknown_member"),
    (without("name"), "/name", "missing"),
    (without("type"), "/type", "missing"),
    (without("variants"), "/variants", "missing"),
    (without("enabled"), "/enabled", "missing"),
    (without("default_variant"), "/default_variant", "missing"),
    (boolean(name=7), "/name", "wrong_type"),
    (boolean(name="a b"), "/name", "bad_name"),
    (boolean(name=""), "/name", "bad_name"),
    (boolean(name="a" * 64), "/name", "bad_name"),
    (boolean(name="\ud800"), "/name", "bad_name"),
    (boolean(type="float"), "/type", "unknown"),
    (boolean(type=None), "/type", "wrong_type"),
    (boolean(enabled=1), "/enabled", "wrong_type"),
    (boolean(enabled="true"), "/enabled", "wrong_type"),
    (boolean(description=None), "/description", "wrong_type"),
    (boolean(description="x" * 10_001), "/description", "too_long"),
    (boolean(owner="x" * 201), "/owner", "too_long"),
    (boolean(tags="a"), "/tags", "wrong_type"),
    (boolean(tags=["a", 1]), "/tags/1", "wrong_type"),
    (boolean(tags=["a"] * 101), "/tags", "too_many"),
    (boolean(tags=["x" * 101]), "/tags/0", "too_long"),
    (boolean(default_variant="third"), "/default_variant", "unknown_variant"),
    (boolean(default_variant=True), "/default_variant", "wrong_type"),
    (boolean(off_variant="third"), "/off_variant", "unknown_variant"),
    # Variants.
    (boolean(variants=[]), "/variants", "wrong_type"),
    (boolean(variants={}), "/variants", "bad_definition"),
    (boolean(variants=dict.fromkeys(map(str, range(1001)), True)), "/variants", "bad_definition"),
    (boolean(variants={"": True}), "/variants/", "bad_name"),
    (boolean(variants={"x" * 201: True}), f"/variants/{'x' * 201}", "bad_name"),
    (of_type("boolean", 1), "/variants/v", "wrong_type"),
    (of_type("boolean", None), "/variants/v", "wrong_type"),
    (of_type("string", 1), "/variants/v", "wrong_type"),
    (of_type("integer", 1.0), "/variants/v", "wrong_type"),
    (of_type("integer", value=True), "/variants/v", "wrong_type"),
    (of_type("integer", "1"), "/variants/v", "wrong_type"),
    (of_type("integer", 2**63), "/variants/v", "wrong_type"),
    (of_type("integer", -HUGE), "/variants/v", "wrong_type"),
    (of_type("number", value=True), "/variants/v", "wrong_type"),
    (of_type("number", NAN), "/variants/v", "wrong_type"),
    (of_type("number", INFINITE), "/variants/v", "wrong_type"),
    (of_type("number", HUGE), "/variants/v", "wrong_type"),
    (of_type("object", "{}"), "/variants/v", "wrong_type"),
    # Prerequisites.
    (boolean(prerequisites={}), "/prerequisites", "wrong_type"),
    (boolean(prerequisites=[{}]), "/prerequisites/0/variants", "missing"),
    (boolean(prerequisites=[{"variants": ["on"]}]), "/prerequisites/0/flag", "missing"),
    (
        boolean(prerequisites=[{"flag": "f", "variants": []}]),
        "/prerequisites/0/variants",
        "missing",
    ),
    (
        boolean(prerequisites=[{"flag": "f", "variants": [1]}]),
        "/prerequisites/0/variants/0",
        "wrong_type",
    ),
    (
        boolean(prerequisites=[{"flag": "/", "variants": ["on"]}]),
        "/prerequisites/0/flag",
        "bad_name",
    ),
    (
        boolean(prerequisites=[{"flag": "f", "variants": ["on"], "of": 1}]),
        "/prerequisites/0/of",
        "unknown_member",
    ),
    # Rules.
    (boolean(rules={}), "/rules", "wrong_type"),
    (boolean("rule"), RULE, "wrong_type"),
    (boolean({}), f"{RULE}/serve", "missing"),
    (boolean(*[rollout(1)] * 1001), "/rules", "too_many"),
    (rule(colour="red"), f"{RULE}/colour", "unknown_member"),
    (rule(id=7), f"{RULE}/id", "wrong_type"),
    (rule(id=None), f"{RULE}/id", "wrong_type"),
    (rule(id="x" * 101), f"{RULE}/id", "too_long"),
    (boolean(rollout(1), rollout(2)), "/rules/1/id", "duplicate"),
    (rule(active=[]), f"{RULE}/active", "wrong_type"),
    (rule(active={"to": None}), f"{RULE}/active/to", "unknown_member"),
    (rule(active={"from": 1}), f"{RULE}/active/from", "wrong_type"),
    (rule(active={"from": "today"}), f"{RULE}/active/from", "bad_time"),
    (rule(active={"until": "2026-02-30T00:00:00Z"}), f"{RULE}/active/until", "bad_time"),
    (
        rule(active={"from": "2026-01-01T00:00:00Z", "until": "2026-01-01T01:00:00+01:00"}),
        f"{RULE}/active/until",
        "bad_time",
    ),
    # What a rule serves.
    (serve("on"), SERVE, "wrong_type"),
    (serve({}), SERVE, "bad_definition"),
    (serve({"variant": "on", "rollout": {}}), SERVE, "bad_definition"),
    (serve({"value": True}), f"{SERVE}/value", "unknown_member"),
    (serve({"variant": "third"}), f"{SERVE}/variant", "unknown_variant"),
    (serve({"variant": None}), f"{SERVE}/variant", "wrong_type"),
    (serve({"rollout": 50}), ROLLOUT, "wrong_type"),
    (serve({"rollout": {}}), WEIGHTS, "missing"),
    (rolling(percent=1), f"{ROLLOUT}/percent", "unknown_member"),
    (rolling(by=""), f"{ROLLOUT}/by", "bad_attribute"),
    (rolling(by="a..b"), f"{ROLLOUT}/by", "bad_attribute"),
    (rolling(by=None), f"{ROLLOUT}/by", "wrong_type"),
    (rolling(salt=1), f"{ROLLOUT}/salt", "wrong_type"),
    (rolling(salt="x" * 1001), f"{ROLLOUT}/salt", "too_long"),
    (rolling(hash="md5"), f"{ROLLOUT}/hash", "unknown"),
    (rolling(weights=[50, 50]), WEIGHTS, "wrong_type"),
    (weighted_rollout(), WEIGHTS, "bad_weight"),
    (weighted_rollout(on=50, off=49.999), WEIGHTS, "bad_weight"),
    (weighted_rollout(on=50, off=50.001), WEIGHTS, "bad_weight"),
    (weighted_rollout(on=50, third=50), f"{WEIGHTS}/third", "unknown_variant"),
    (weighted_rollout(on=33.3333, off=66.6667), f"{WEIGHTS}/on", "bad_weight"),
    (weighted_rollout(on=101, off=-1), f"{WEIGHTS}/on", "bad_weight"),
    (weighted_rollout(on=HUGE), f"{WEIGHTS}/on", "wrong_type"),
    (weighted_rollout(on=NAN), f"{WEIGHTS}/on", "wrong_type"),
    (weighted_rollout(on=INFINITE), f"{WEIGHTS}/on", "wrong_type"),
    (weighted_rollout(on="100"), f"{WEIGHTS}/on", "wrong_type"),
    (weighted_rollout(on=True, off=99), f"{WEIGHTS}/on", "wrong_type"),
    (weighted_rollout(on=None), f"{WEIGHTS}/on", "wrong_type"),
    (rolling(hash="unleash-1", weights={"on": 0.5, "off": 99.5}), f"{WEIGHTS}/on", "bad_weight"),
    (rolling(hash="flagd-2", weights={"on": 0.5, "off": 1}), WEIGHTS, "bad_weight"),
    (rolling(hash="flagd-2", weights={"on": -1, "off": 2}), WEIGHTS, "bad_weight"),
    (rolling(hash="flagd-2", weights={"on": 0, "off": 0}), WEIGHTS, "bad_weight"),
    (rolling(hash="flagd-2", weights={"on": 2**31, "off": 1}), WEIGHTS, "bad_weight"),
    (rolling(ranges="all"), f"{ROLLOUT}/ranges", "wrong_type"),
    (rolling(ranges=[[1, 100_000, "on"]]), f"{ROLLOUT}/ranges/0", "bad_range"),
    (rolling(ranges=[[0, 5, "on"], [5, 5, "on"]]), f"{ROLLOUT}/ranges/1", "bad_range"),
    (rolling(ranges=[[False, 100_000, "on"]]), f"{ROLLOUT}/ranges/0", "bad_range"),
    (rolling(ranges=[[0.0, 100_000.0, "on"]]), f"{ROLLOUT}/ranges/0", "bad_range"),
    (rolling(ranges=[[0, 100_000, None]]), f"{ROLLOUT}/ranges/0", "bad_range"),
    (moving(weights=HALVES), f"{MOVING}/weights", "unknown_member"),
    (moving(hash="flagd-2"), f"{MOVING}/hash", "bad_weight"),
    (moving(variant="third"), f"{MOVING}/variant", "unknown_variant"),
    (moving(otherwise=None), f"{MOVING}/otherwise", "wrong_type"),
    (moving(to={}), f"{MOVING}/to/at", "missing"),
    (moving(to={"at": "2026-01-02T00:00:00Z"}), f"{MOVING}/to/percent", "missing"),
    (moving(to={"at": "tomorrow", "percent": 1}), f"{MOVING}/to/at", "bad_time"),
    (moving(to={"at": "2026-01-01T00:00:00Z", "percent": 1}), f"{MOVING}/to", "bad_time"),
    (
        moving(to={"at": "2026-01-02T00:00:00Z", "percent": 0.0001}),
        f"{MOVING}/to/percent",
        "bad_weight",
    ),
    (
        moving(to={"at": "2026-01-02T00:00:00Z", "percent": False}),
        f"{MOVING}/to/percent",
        "wrong_type",
    ),
    # Conditions.
    (when([]), WHEN, "wrong_type"),
    (when({}), WHEN, "bad_definition"),
    (when({"none": []}), WHEN, "bad_definition"),
    (when({"all": [], "any": []}), WHEN, "bad_definition"),
    (when({"all": {}}), f"{WHEN}/all", "wrong_type"),
    (when({"all": [{"all": []}] * 1001}), f"{WHEN}/all", "too_many"),
    (when({"any": [{"all": []}, 7]}), f"{WHEN}/any/1", "wrong_type"),
    (when({"not": None}), f"{WHEN}/not", "wrong_type"),
    (when({"segment": "a b"}), f"{WHEN}/segment", "bad_name"),
    (when({"segment": None}), f"{WHEN}/segment", "wrong_type"),
    (when(nested_condition(MAX_DEPTH + 1)), WHEN + "/not" * (MAX_DEPTH + 1), "too_deep"),
    (when(nested_condition(20_000)), WHEN + "/not" * (MAX_DEPTH + 1), "too_deep"),
    (when({"rollout": {"percent": 1}}), f"{WHEN}/rollout/salt", "missing"),
    (when({"rollout": {"salt": "s"}}), f"{WHEN}/rollout/percent", "missing"),
    (
        when({"rollout": {"salt": "s", "percent": HUGE}}),
        f"{WHEN}/rollout/percent",
        "wrong_type",
    ),
    (
        when({"rollout": {"salt": "s", "percent": 100.001}}),
        f"{WHEN}/rollout/percent",
        "bad_weight",
    ),
    (
        when({"rollout": {"salt": "s", "percent": 1, "of": 2}}),
        f"{WHEN}/rollout/of",
        "unknown_member",
    ),
    (when({"attribute": "a"}), f"{WHEN}/op", "missing"),
    (when({"op": "exists"}), f"{WHEN}/attribute", "missing"),
    (when({"attribute": "a", "op": "in"}), f"{WHEN}/values", "missing"),
    (when({"attribute": "a", "op": "in", "value": 1}), f"{WHEN}/value", "unknown_member"),
    (when({"attribute": "", "op": "exists"}), f"{WHEN}/attribute", "bad_attribute"),
    (when({"attribute": "a.", "op": "exists"}), f"{WHEN}/attribute", "bad_attribute"),
    (when({"attribute": "a\n", "op": "exists"}), f"{WHEN}/attribute", "bad_attribute"),
    (when({"attribute": "x" * 129, "op": "exists"}), f"{WHEN}/attribute", "bad_attribute"),
    (compare("like", "x"), f"{WHEN}/op", "unknown"),
    (compare("in"), f"{WHEN}/values", "missing"),
    (compare("in", *range(MAX_VALUES + 1)), f"{WHEN}/values", "too_many"),
    (compare("in", "x", None), f"{WHEN}/values/1", "wrong_type"),
    (compare("in", []), VALUE, "wrong_type"),
    (compare("in", NAN), VALUE, "wrong_type"),
    (compare("not_in", -INFINITE), VALUE, "wrong_type"),
    (compare("eq", HUGE), VALUE, "wrong_type"),
    (compare("eq", 1, 2), f"{WHEN}/values", "bad_definition"),
    (compare("eq", {}), VALUE, "wrong_type"),
    (compare("exists", 1), f"{WHEN}/values", "bad_definition"),
    (compare("gt", "1"), VALUE, "wrong_type"),
    (when({"attribute": "a", "op": "gt", "values": [True]}), VALUE, "wrong_type"),
    (compare("lte", NAN), VALUE, "wrong_type"),
    (compare("lt", 1, 2), f"{WHEN}/values", "bad_definition"),
    (compare("contains", 1), VALUE, "wrong_type"),
    (compare("starts_with", "x" * 1001), VALUE, "too_long"),
    (compare("before", "2026-01-01"), VALUE, "bad_time"),
    (compare("after", "2026-01-01T00:00:00"), VALUE, "bad_time"),
    (compare("semver_eq", "1.0"), VALUE, "bad_version"),
    (compare("semver_gt", "01.0.0"), VALUE, "bad_version"),
    (compare("semver_lt", 1), VALUE, "wrong_type"),
    (compare("cidr", "10.0.0.0/33"), VALUE, "bad_network"),
    (compare("cidr", "10.0.0.0/8", "example.org"), f"{WHEN}/values/1", "bad_network"),
    (compare("matches", "("), VALUE, "bad_pattern"),
    (compare("matches", r"(a)\1"), VALUE, "bad_pattern"),
    (compare("matches", "a(?=b)"), VALUE, "bad_pattern"),
    (compare("matches", "((a{0,100}){0,100}){0,100}"), VALUE, "bad_pattern"),
    (compare("matches", "\ud800"), VALUE, "bad_pattern"),
    (compare("matches", "a" * 1001), VALUE, "too_long"),
    (compare("matches", *["a"] * 101), f"{WHEN}/values", "too_many"),
    (compare("in", "x", case_insensitive="yes"), f"{WHEN}/case_insensitive", "wrong_type"),
    (compare("gt", 1, case_insensitive=True), f"{WHEN}/case_insensitive", "bad_definition"),
]


@pytest.mark.parametrize(
    ("definition", "pointer", "code"),
    BAD,
    ids=[f"{n}-{code}" for n, (_, _, code) in enumerate(BAD)],
)
def test_a_bad_definition_is_refused_with_its_place(
    definition: Json, pointer: str, code: str
) -> None:
    with pytest.raises(DefinitionError) as refusal:
        read_flag(definition)

    assert (refusal.value.pointer, refusal.value.code) == (pointer, code)
    assert refusal.value.detail in str(refusal.value)
    assert len(refusal.value.detail) < 400


@pytest.mark.parametrize(
    ("definition", "pointer", "code"),
    [
        ("beta", "", "wrong_type"),
        ({}, "/name", "missing"),
        ({"name": ".."}, "/name", "bad_name"),
        ({"name": "beta", "rules": []}, "/rules", "unknown_member"),
        ({"name": "beta", "when": {"op": "exists"}}, "/when/attribute", "missing"),
        ({"name": "beta", "description": 7}, "/description", "wrong_type"),
    ],
)
def test_a_bad_segment_is_refused_with_its_place(definition: Json, pointer: str, code: str) -> None:
    with pytest.raises(DefinitionError) as refusal:
        read_segment(definition)

    assert (refusal.value.pointer, refusal.value.code) == (pointer, code)


def test_a_pattern_has_to_fit_as_it_is_used() -> None:
    """k and s have a third form when case is ignored, which makes the program larger."""
    pattern = "[ks]{1000}" * 9

    assert compile_flag(read_flag(compare("matches", pattern)), 1)
    with pytest.raises(DefinitionError) as refusal:
        read_flag(compare("matches", pattern, case_insensitive=True))
    assert (refusal.value.pointer, refusal.value.code) == (VALUE, "bad_pattern")


def exists(number: int) -> Json:
    return {"attribute": f"a{number}", "op": "exists"}


def rules_of(*conditions: Json, serve: Json | None = None) -> Json:
    return boolean(*({"when": when, "serve": serve or {"variant": "on"}} for when in conditions))


STEEP: Json = {"attribute": "a", "op": "matches", "values": [r"\pL{3}"] * 3}
MANY_TEXTS: Json = {"attribute": "a", "op": "contains", "values": ["b"] * 5_001}
SHARES: Json = {"rollout": {"weights": {f"v{n}": 0.1 for n in range(1_000)}}}


@pytest.mark.parametrize(
    ("definition", "pointer"),
    [
        (rules_of(*[{"all": list(map(exists, range(5)))}] * 834), "/rules/833/when/all/1"),
        (rules_of(STEEP, STEEP), "/rules/1/when/values/2"),
        (rules_of(MANY_TEXTS, MANY_TEXTS), "/rules/1/when/values"),
        (
            {
                **rules_of(*[None] * 11, serve=SHARES),
                "variants": {f"v{n}": True for n in range(1_000)},
                "default_variant": None,
                "off_variant": None,
            },
            "/rules/10/serve/rollout/weights",
        ),
    ],
    ids=["conditions", "steps", "values", "weights"],
)
def test_what_takes_time_is_counted_over_a_whole_definition(definition: Json, pointer: str) -> None:
    with pytest.raises(DefinitionError) as refusal:
        read_flag(definition)

    assert (refusal.value.pointer, refusal.value.code) == (pointer, "too_many")


@quick
@given(definitions())
def test_a_flag_that_is_written_is_read_again(definition: Json) -> None:
    flag = read_flag(definition)

    assert read_flag(flag_json(flag)) == flag
    assert read_flag(json.loads(json.dumps(flag_json(flag)))) == flag
    assert read_flag(flag_json(flag), flag) == flag


@quick
@given(flags)
def test_numbers_are_floats_and_integers_are_not(flag: Flag) -> None:
    kinds = {"number": float, "integer": int, "boolean": bool, "string": str}

    for value in flag.variants.values():
        assert flag.type == "object" or type(value) is kinds[flag.type]


@quick
@given(st.none() | conditions(SEGMENTS), texts)
def test_a_segment_that_is_written_is_read_again(condition: Json, description: str) -> None:
    segment = read_segment({"name": "beta", "when": condition, "description": description})

    assert read_segment(segment_json(segment)) == segment
    assert read_segment(json.loads(json.dumps(segment_json(segment)))) == segment


percentages = st.integers(0, 100_000).map(lambda share: share / 1000)
simples = st.builds(SimpleForm, percentages, st.lists(texts, max_size=3).map(tuple))


def simple_flag(name: str, simple: SimpleForm, before: Flag | None = None) -> Flag:
    return read_flag(boolean(*simple_rules(name, simple, before), name=name), before)


@quick
@given(simples)
def test_the_simple_form_is_found_again(simple: SimpleForm) -> None:
    flag = simple_flag("new-checkout", simple)
    members = {
        "rollout_percentage": simple.rollout_percentage,
        "target_users": list(simple.target_users),
    }

    assert simple_form_of(flag) == simple
    assert simple_form_of(read_flag(flag_json(flag))) == simple
    assert read_simple_form(Place(members)) == simple


@quick
@given(simples, simples)
def test_a_simple_flag_keeps_its_salt_when_it_is_renamed_and_edited(
    first: SimpleForm, second: SimpleForm
) -> None:
    flag = with_name(simple_flag("old", first), "new")

    edited = simple_flag("new", second, flag)

    assert simple_form_of(edited) == second
    served = edited.rules[-1].serve
    assert isinstance(served, Rollout)
    assert served.salt == "old"


def test_both_members_of_the_simple_form_may_be_absent() -> None:
    assert read_simple_form(Place({})) == SimpleForm(0.0, ())
    assert read_simple_form(Place({"target_users": [101, "ann"]})).target_users == ("101", "ann")
    nothing = {"rollout_percentage": None, "target_users": None}
    assert read_simple_form(Place(nothing)) == SimpleForm(0.0, ())


@pytest.mark.parametrize(
    ("members", "pointer", "code"),
    [
        ({"rollout_percentage": 12.3456}, "/rollout_percentage", "bad_weight"),
        ({"rollout_percentage": 100.5}, "/rollout_percentage", "bad_weight"),
        ({"rollout_percentage": True}, "/rollout_percentage", "wrong_type"),
        ({"rollout_percentage": HUGE}, "/rollout_percentage", "wrong_type"),
        ({"rollout_percentage": NAN}, "/rollout_percentage", "wrong_type"),
        ({"target_users": "u1"}, "/target_users", "wrong_type"),
        ({"target_users": ["u1", True]}, "/target_users/1", "wrong_type"),
        ({"target_users": ["u"] * 100_001}, "/target_users", "too_many"),
        ({"target_users": ["u" * 1001]}, "/target_users/0", "too_long"),
    ],
)
def test_a_bad_simple_form_is_refused_with_its_place(
    members: Json, pointer: str, code: str
) -> None:
    with pytest.raises(DefinitionError) as refusal:
        read_simple_form(Place(members))

    assert (refusal.value.pointer, refusal.value.code) == (pointer, code)


SIMPLE = flag_json(simple_flag("new-checkout", SimpleForm(20, ("u1",))))


@pytest.mark.parametrize(
    "members",
    [
        {"rules": []},
        {"rules": SIMPLE["rules"][:1]},
        {"rules": SIMPLE["rules"][::-1]},
        {"rules": [rollout(20)]},
        {"rules": [*SIMPLE["rules"], rollout(1)]},
        {"rules": [{**SIMPLE["rules"][0], "active": {}}, SIMPLE["rules"][1]]},
        {"rules": [{**SIMPLE["rules"][0], "id": "mine"}, SIMPLE["rules"][1]]},
        {"rules": [SIMPLE["rules"][0], {**SIMPLE["rules"][1], "when": {"all": []}}]},
        {"variants": {"on": True, "off": True}},
        {"variants": {"on": True, "off": False, "third": True}},
    ],
)
def test_what_is_more_than_the_simple_form_has_none(members: Json) -> None:
    assert simple_form_of(read_flag({**SIMPLE, **members})) is None


def test_a_rule_without_a_name_is_named_by_its_place_and_never_twice() -> None:
    on = {"serve": {"variant": "on"}}

    read = read_flag(boolean(on, {**on, "id": "rule-1"}, on, {**on, "id": ""}))

    assert [found.id for found in read.rules] == ["rule-2", "rule-1", "rule-3", "rule-4"]


def test_ranges_of_other_weights_are_laid_afresh() -> None:
    ranges = [[0, 60_000, "off"], [60_000, 100_000, "on"]]
    kept = read_flag(rolling(weights={"on": 40, "off": 60}, ranges=ranges))
    afresh = read_flag(rolling(ranges=ranges))

    assert flag_json(kept)["rules"][0]["serve"]["rollout"]["ranges"] == ranges
    assert flag_json(afresh) == flag_json(read_flag(rolling()))


def test_weights_are_written_as_people_write_them() -> None:
    written = flag_json(read_flag(boolean(rollout(12.345))))
    weights = written["rules"][0]["serve"]["rollout"]["weights"]

    assert json.dumps(weights) == '{"on": 12.345, "off": 87.655}'
    assert json.dumps(
        flag_json(read_flag(rolling()))["rules"][0]["serve"]["rollout"]["weights"]
    ) == ('{"on": 50, "off": 50}')
