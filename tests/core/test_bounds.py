"""What an operator, a hash and an evaluation look at, and no further."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from pilothouse_core.conditions.compiler import compile_condition
from pilothouse_core.conditions.model import MAX_TEXT, OPERATORS
from pilothouse_core.conditions.reading import read_condition
from pilothouse_core.contexts import MAX_CONTEXT_BYTES, SURELY_SMALL_BYTES, is_too_large
from pilothouse_core.costs import cost_of_condition
from pilothouse_core.definitions import Place
from pilothouse_core.evaluation import EMPTY, EvaluationPass, FlagSet, with_subject
from pilothouse_core.explanation import explain_flag
from pilothouse_core.flags.reading import read_flag, read_segment

Json = Any
LONGEST = "a" * MAX_TEXT
TOO_LONG = LONGEST + "a"
INSIDE = "1" + "0" * 99
# The operator, its value, and texts of the longest that is looked at and of one letter more that
# it would hold for.
TEXTS: Mapping[str, tuple[Json, Callable[[int], Json]]] = {
    "in": ("a" * MAX_TEXT, lambda more: "a" * (MAX_TEXT + more)),
    "eq": ("a" * MAX_TEXT, lambda more: "a" * (MAX_TEXT + more)),
    "starts_with": ("a", lambda more: "a" * (MAX_TEXT + more)),
    "ends_with": ("a", lambda more: "a" * (MAX_TEXT + more)),
    "contains": ("a", lambda more: "a" * (MAX_TEXT + more)),
    "matches": ("a$", lambda more: "a" * (MAX_TEXT + more)),
    "includes": ("a" * MAX_TEXT, lambda more: ["a" * (MAX_TEXT + more)]),
}


def holds(condition: Json, context: Mapping[str, Json], flags: FlagSet = EMPTY) -> bool:
    return compile_condition(read_condition(Place(condition)))(context, flags)


def compare(op: str, *values: Json, **members: Json) -> Json:
    return {"attribute": "a", "op": op, "values": list(values), **members}


def flag(rules: list[Json], name: str = "f", **members: Json) -> Json:
    return {
        "name": name,
        "type": "boolean",
        "variants": {"on": True, "off": False},
        "default_variant": "off",
        "off_variant": "off",
        "enabled": True,
        "rules": rules,
        **members,
    }


def flag_set(*definitions: Json, **segments: Json) -> FlagSet:
    read = [read_flag(definition) for definition in definitions]
    parts = {name: read_segment({"name": name, "when": when}) for name, when in segments.items()}
    return EMPTY.with_changes([(each.name, each, 1) for each in read], parts.items())


def by(attribute: str) -> Json:
    return {"rollout": {"by": attribute, "salt": "s", "weights": {"on": 99.999, "off": 0.001}}}


@pytest.mark.parametrize("operator", TEXTS)
def test_a_text_of_4096_characters_is_compared_and_a_longer_one_is_not(operator: str) -> None:
    value, text = TEXTS[operator]

    assert holds(compare(operator, value), {"a": text(0)})
    longer = text(1) if operator == "eq" else value
    values = [value, text(1)] if operator == "in" else [longer]
    assert not holds(compare(operator, *values), {"a": text(1)})


@pytest.mark.parametrize(
    "operator", ["in", "eq", "starts_with", "ends_with", "contains", "matches"]
)
def test_folding_moves_no_bound(operator: str) -> None:
    sharp = "\u00df" * MAX_TEXT  # as long again when it is folded
    value = sharp if operator in {"in", "eq"} else "\u00df"

    assert holds(compare(operator, value, case_insensitive=True), {"a": sharp})
    assert not holds(compare(operator, value, case_insensitive=True), {"a": sharp + "\u00df"})


@pytest.mark.parametrize(("operator", "inverse"), [("in", "not_in"), ("eq", "neq")])
@pytest.mark.parametrize("folds", [False, True])
def test_a_negation_is_the_negation_for_a_text_that_is_too_long(
    operator: str, inverse: str, *, folds: bool
) -> None:
    for text in (LONGEST, TOO_LONG):
        found = [
            holds(compare(op, TOO_LONG, case_insensitive=folds), {"a": text})
            for op in (operator, inverse)
        ]
        assert found == [False, True]


def test_no_operator_looks_at_a_text_that_is_too_long() -> None:
    values: Json = {"cidr": "::/0", "semver_gte": "0.0.1", "after": "1970-01-01T00:00:00Z"}
    for operator in set(OPERATORS) - {"exists", "not_in", "neq", *TEXTS}:
        loose = {"loose": True} if operator in {"gt", "gte", "lt", "lte"} else {}
        default = 0 if loose else "1970-01-01T00:00:00Z" if operator == "before" else "0.0.1"
        test = compare(operator, values.get(operator, default), **loose)
        for text in ("0" * MAX_TEXT + "1", "1." * 3000, "::" + "0" * MAX_TEXT):
            assert not holds(test, {"a": text}), operator
    assert holds(compare("gte", 0, loose=True), {"a": "0" * MAX_TEXT})
    assert holds({"attribute": "a", "op": "exists"}, {"a": TOO_LONG})


@pytest.mark.parametrize("subject", [TOO_LONG, 10**MAX_TEXT, -(10**MAX_TEXT)])
def test_a_subject_that_is_too_long_has_no_bucket(subject: Json) -> None:
    progressive = {
        "by": "user_id",
        "salt": "s",
        "variant": "on",
        "otherwise": "off",
        "from": {"at": "2020-01-01T00:00:00Z", "percent": 0},
        "to": {"at": "2020-01-02T00:00:00Z", "percent": 99.999},
    }
    flags = flag_set(
        flag([{"id": "r", "serve": by("user_id")}]),
        flag([{"id": "p", "serve": {"progressive": progressive}}], "g"),
    )
    share = {"rollout": {"by": "user_id", "salt": "s", "percent": 99.999}}

    context = with_subject({}, subject)

    assert flags.evaluate("f", context, 2e9).skipped == (("r", "user_id"),)
    assert flags.evaluate("f", context, 2e9).lacks_targeting_key
    assert flags.evaluate("g", context, 2e9).skipped == (("p", "user_id"),)
    assert not holds(share, context)
    assert flags.evaluate("f", with_subject({}, LONGEST), 2e9).variant == "on"
    assert holds(share, with_subject({}, LONGEST))


def test_a_trace_says_what_was_too_long() -> None:
    rules = [
        {"id": "r", "when": compare("contains", "a"), "serve": {"variant": "on"}},
        {"id": "s", "serve": by("user_id")},
    ]
    flags = flag_set(flag(rules))

    trace = explain_flag(flags, "f", {"a": TOO_LONG, "user_id": TOO_LONG}, 0)
    short = explain_flag(flags, "f", {"a": LONGEST, "user_id": LONGEST}, 0)

    said = "has more than 4,096 characters"
    first, second = trace["rules"]
    assert (first["when"]["holds"], first["when"]["too_long"]) == (False, f"a {said}")
    assert second["serve"]["too_long"] == f"user_id {said}"
    assert "too_long" not in str(short)


def test_a_pass_evaluates_each_segment_and_each_flag_once() -> None:
    """Evaluated for each use, this set takes 20 to the power of 8 looks at one condition."""
    segments: dict[str, Json] = {"s0": compare("contains", "b")}
    for level in range(1, 9):
        segments[f"s{level}"] = {"any": [{"segment": f"s{level - 1}"}] * 20}
    flags = [flag([{"when": {"segment": "s8"}, "serve": {"variant": "on"}}], "f0")]
    for level in range(1, 9):
        need = [{"flag": f"f{level - 1}", "variants": ["off"]}] * 20
        flags.append(flag([], f"f{level}", default_variant="on", prerequisites=need))
    pauses: list[None] = []

    found = EvaluationPass(flag_set(*flags, **segments), lambda: pauses.append(None))

    context = {"a": "a" * 1000}
    assert found.evaluate("f1", context, 0).variant == "on"
    assert found.evaluate("f0", context, 0).variant == "off"
    assert found.evaluate("unknown", context, 0).error_code == "FLAG_NOT_FOUND"
    # Nine segments, three flags, one long attribute.
    assert len(pauses) == 9 + 3 + 1


def test_a_pass_ends_when_it_is_told_to() -> None:
    flags = flag_set(flag([{"when": {"segment": "s"}, "serve": {"variant": "on"}}]), s=None)

    def pause() -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        EvaluationPass(flags, pause).evaluate("f", {}, 0)


def test_a_trace_of_segments_that_name_each_other_often_ends() -> None:
    segments: dict[str, Json] = {"s0": compare("contains", *[f"b{n}" * 50 for n in range(20)])}
    for level in range(1, 6):
        segments[f"s{level}"] = {"any": [{"segment": f"s{level - 1}"}] * 20}
    rules = [{"when": {"segment": "s5"}, "serve": {"variant": "on"}}]
    found = EvaluationPass(flag_set(flag(rules), **segments), lambda: None)

    trace = explain_flag(found, "f", {"a": "x"}, 0)

    assert len(str(trace)) < 3 * 2**20
    assert "left_out" in str(trace)
    assert trace["rules"][0]["when"]["holds"] is False


@pytest.mark.parametrize(
    ("context", "expected"),
    [
        ({"a": "x" * (MAX_CONTEXT_BYTES - 8)}, False),
        ({"a": "x" * (MAX_CONTEXT_BYTES - 7)}, True),
        ({"a": "\u00e9" * (MAX_CONTEXT_BYTES // 2 - 4)}, False),
        ({"a": "\u00e9" * (MAX_CONTEXT_BYTES // 2)}, True),
        ({"a": '"' * (MAX_CONTEXT_BYTES // 2 - 4)}, False),
        ({"a": '"' * (MAX_CONTEXT_BYTES // 2)}, True),
        ({"a": "\x01" * (MAX_CONTEXT_BYTES // 6)}, True),
        ({"a": "\ud800" * (MAX_CONTEXT_BYTES // 3)}, True),
        ({"x" * MAX_CONTEXT_BYTES: 1}, True),
        ({f"m{n:04d}": n for n in range(5000)}, False),
        ({f"m{n:04d}": n for n in range(7000)}, True),
        ({"a": [[0] * 100] * 300}, False),
        ({"a": [[0] * 100] * 400}, True),
        ({"a": 10**4000}, False),
        ({f"a{n}": 10**4000 for n in range(20)}, True),
        ({}, False),
    ],
)
def test_a_context_is_measured_as_json_without_spaces(context: Json, *, expected: bool) -> None:
    assert is_too_large(context) is expected


def test_a_small_request_holds_no_large_context() -> None:
    text = '{"a":[' + ",".join(["1e15"] * ((SURELY_SMALL_BYTES - 10) // 5)) + "]}"
    context = {"a": [1e15] * text.count("1e15"), "b": "x"}

    assert not is_too_large(with_subject(context, "u"))
    assert not is_too_large(with_subject({}, "\x01" * (SURELY_SMALL_BYTES // 6)))


def test_costs_tell_short_work_from_long() -> None:
    def seconds(condition: Json, letters: int = MAX_TEXT) -> float:
        return cost_of_condition(read_condition(Place(condition))).seconds(letters)

    ordinary = seconds(compare("in", *[f"u{n}" for n in range(10_000)]))
    assert ordinary < 1e-5
    assert seconds(compare("contains", *[f"u{n}" for n in range(10_000)])) > 1e-3
    assert seconds(compare("contains", *[f"u{n}" for n in range(10_000)]), 30) < 1e-3
    assert seconds(compare("matches", "(a|b)*a(a|b){90}c")) > 1e-2
    assert seconds({"any": [compare("contains", "x")] * 900}) > 1e-2


def test_what_a_flag_needs_costs_as_often_as_it_is_needed() -> None:
    one = {"when": {"segment": "s1"}, "serve": {"variant": "on"}}
    segments = {
        "s0": compare("matches", "(a|b)*a(a|b){90}c"),
        "s1": {"any": [{"segment": "s0"}] * 50},
    }
    need = [{"flag": "f", "variants": ["on"]}]
    flags = flag_set(flag([one]), flag([], "g", prerequisites=need * 10), **segments)

    own = cost_of_condition(read_condition(Place(segments["s0"]))).seconds(MAX_TEXT)

    assert flags.costs.of_flag("f").seconds(MAX_TEXT) > 50 * own
    assert flags.costs.of_flag("g").seconds(MAX_TEXT) > 500 * own
    assert flags.costs.of_flag("unknown").seconds(MAX_TEXT) < 1e-4
