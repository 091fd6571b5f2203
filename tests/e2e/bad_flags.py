"""Definitions of flags and segments that must be refused, each with the place of its flaw."""

from collections.abc import Mapping, Sequence
from typing import Any

Members = Mapping[str, Any]
Flaws = Mapping[str, tuple[Members, str]]  # what is sent, and the JSON pointer to what is wrong

ON = {"variant": "on"}
HALVES = {"on": 50, "off": 50}
START, END = (
    {"at": "2026-01-01T00:00:00Z", "percent": 0},
    {
        "at": "2026-02-01T00:00:00Z",
        "percent": 100,
    },
)
MOVING = {"variant": "on", "otherwise": "off", "from": START, "to": END}


def rules(*found: Any) -> Members:
    return {"rules": list(found)}


def serving(serve: Any) -> Members:
    return rules({"serve": serve})


def rolling(**members: Any) -> Members:
    return serving({"rollout": {"weights": HALVES, **members}})


def weighing(**weights: Any) -> Members:
    return serving({"rollout": {"weights": weights}})


def moving(**members: Any) -> Members:
    return serving({"progressive": {**MOVING, **members}})


def active(window: Any) -> Members:
    return rules({"active": window, "serve": ON})


def of_booleans(named: Members) -> dict[str, Any]:
    return {"type": "boolean", "variants": named}


def variants(kind: str, values: Sequence[Any]) -> dict[str, Any]:
    named = {f"v{number}": value for number, value in enumerate(values)}
    return {"type": kind, "variants": named, "default_variant": "v0", "off_variant": None}


def compare(operator: str, *values: Any, **more: Any) -> dict[str, Any]:
    return {"attribute": "a", "op": operator, "values": list(values), **more}


def nested_negations(times: int) -> Any:
    condition: Any = compare("eq", "x")
    for _ in range(times):
        condition = {"not": condition}
    return condition


BAD_PATTERNS = {
    "an open bracket": "(",
    "a range backwards": "[z-a]",
    "a look-ahead": "(?=a)",
    "a look-behind": "(?<=a)b",
    "a reference back": r"(a)\1",
    "an atomic group": "(?>a+)b",
    "a bare star": "*a",
    "1,001 times": "a{1001}",
    "1,000 times 1,000 times": "(a{1000}){1000}",
    "27,000 times": "((a{30}){30}){30}",
    "1,000 of all letters": r"\pL{1000}",
    "anything 600 times 8 times": ".{600}" * 160,
    "1,001 characters": "a" * 1001,
}
BAD_VALUES: dict[str, tuple[str, Any]] = {
    "no number": ("gt", "5"),
    "a boolean for a number": ("lte", True),
    "null": ("in", None),
    "an object": ("eq", {}),
    "a list": ("not_in", []),
    "an integer beyond every double": ("in", 10**400),
    "a number for a text": ("contains", 5),
    "a text of 1,001 characters": ("starts_with", "x" * 1001),
    "no time": ("before", "yesterday"),
    "a date": ("after", "2026-01-01"),
    "a 13th month": ("before", "2026-13-01T00:00:00Z"),
    "a time without a zone": ("before", "2026-01-01T00:00:00"),
    "a number for a time": ("after", 5),
    "two numbers as a version": ("semver_gt", "1.2"),
    "four numbers as a version": ("semver_eq", "1.2.3.4"),
    "a version with v": ("semver_lt", "v1.2.3"),
    "a version with a leading zero": ("semver_gte", "01.2.3"),
    "a version of 10,000 digits": ("semver_lte", f"1.2.{'3' * 990}"),
    "33 bits of IPv4": ("cidr", "10.0.0.0/33"),
    "129 bits of IPv6": ("cidr", "::/129"),
    "300 as a byte": ("cidr", "300.1.1.1"),
    "a host": ("cidr", "db1.example.com"),
    "letters for bits": ("cidr", "10.0.0.0/a"),
    "a network of a scope": ("cidr", "fe80::1%eth0/64%"),
    **{f"as a pattern {what}": ("matches", text) for what, text in BAD_PATTERNS.items()},
}
# Of a condition, with the pointer below it.
BAD_CONDITIONS: dict[str, tuple[Any, str]] = {
    **{what: (compare(op, value), "/values/0") for what, (op, value) in BAD_VALUES.items()},
    "an empty object": ({}, ""),
    "all of an object": ({"all": {}}, "/all"),
    "all of a number": ({"all": [compare("eq", 1), 1]}, "/all/1"),
    "any of a text": ({"any": ["x"]}, "/any/0"),
    "not of null": ({"not": None}, "/not"),
    "all and any": ({"all": [], "any": []}, ""),
    "an unknown word": ({"none": []}, ""),
    "1,001 of all": ({"all": [compare("eq", 1)] * 1001}, "/all"),
    "a segment that is a number": ({"segment": 5}, "/segment"),
    "a segment of no name": ({"segment": "a/b"}, "/segment"),
    "an unknown operator": (compare("like", "x"), "/op"),
    "an operator in capitals": (compare("IN", "x"), "/op"),
    "no operator": ({"attribute": "a", "values": ["x"]}, "/op"),
    "no attribute": ({"op": "eq", "values": ["x"]}, "/attribute"),
    "an unknown member": (compare("eq", "x", colour="red"), "/colour"),
    "an empty attribute": (compare("eq", "x", attribute=""), "/attribute"),
    "an attribute with an empty part": (compare("eq", "x", attribute="a..b"), "/attribute"),
    "an attribute with a newline": (compare("eq", "x", attribute="a\n"), "/attribute"),
    "an attribute of 129": (compare("eq", "x", attribute="a" * 129), "/attribute"),
    "an attribute that is a list": (compare("eq", "x", attribute=["a"]), "/attribute"),
    "no values": ({"attribute": "a", "op": "in"}, "/values"),
    "none of the values": (compare("in"), "/values"),
    "a value for a list": ({"attribute": "a", "op": "in", "values": "x"}, "/values"),
    "two values to equal": (compare("eq", "x", "y"), "/values"),
    "two versions": (compare("semver_gt", "1.0.0", "2.0.0"), "/values"),
    "something to exist": (compare("exists", "x"), "/values"),
    "the third of three": (compare("gt", 1, 2, "x"), "/values"),
    "101 patterns": (compare("matches", *["a"] * 101), "/values"),
    "100,001 values": (compare("in", *range(100_001)), "/values"),
    "10,001 parts of texts": (compare("contains", *["a"] * 10_001), "/values"),
    "patterns of 20,001 steps": (compare("matches", *[r"\pL{4}"] * 9), "/values/4"),
    "numbers in any case": (compare("gt", 1, case_insensitive=True), "/case_insensitive"),
    "case as a word": (compare("in", "x", case_insensitive="yes"), "/case_insensitive"),
    "a loose text": (compare("in", "x", loose=True), "/loose"),
    "a share without salt": ({"rollout": {"percent": 5}}, "/rollout/salt"),
    "a share without percent": ({"rollout": {"salt": "s"}}, "/rollout/percent"),
    "a share of four decimals": (
        {"rollout": {"salt": "s", "percent": 0.0001}},
        "/rollout/percent",
    ),
    "34 nots": (nested_negations(34), "/not" * 33),
}
BAD_SEGMENTS: Flaws = {
    **{what: ({"when": when}, f"/when{at}") for what, (when, at) in BAD_CONDITIONS.items()},
    "a list of conditions": ({"when": [compare("eq", 1)]}, "/when"),
    "a word for a condition": ({"when": "always"}, "/when"),
    "an unknown member": ({"colour": "red"}, "/colour"),
    "rules": ({"rules": []}, "/rules"),
    "a description of 10,001": ({"description": "x" * 10_001}, "/description"),
    "a description of no text": ({"description": 5}, "/description"),
    "a comment of 1,001": ({"comment": "x" * 1001}, "/comment"),
    "a segment that is missing": ({"when": {"not": {"segment": "gone"}}}, "/when"),
    "segments in a circle": ({"when": {"segment": "crew"}}, "/when"),
}
_OF_MEMBERS: Flaws = {
    "an unknown member": ({"colour": "red"}, "/colour"),
    "a member in capitals": ({"Enabled": True}, "/Enabled"),
    "a type of another case": ({"type": "Boolean"}, "/type"),
    "no type": ({"type": None}, "/type"),
    "enabled by a word": ({"enabled": "yes"}, "/enabled"),
    "enabled by a number": ({"enabled": 1}, "/enabled"),
    "enabled by nothing": ({"enabled": None}, "/enabled"),
    "a description of 10,001": ({"description": "x" * 10_001}, "/description"),
    "an owner of 201": ({"owner": "x" * 201}, "/owner"),
    "an owner that is a list": ({"owner": ["me"]}, "/owner"),
    "a tag for a list": ({"tags": "web"}, "/tags"),
    "a tag of 101": ({"tags": ["a", "x" * 101]}, "/tags/1"),
    "a tag that is a number": ({"tags": ["a", 5]}, "/tags/1"),
    "101 tags": ({"tags": ["a"] * 101}, "/tags"),
    "a comment of 1,001": ({"comment": "x" * 1001}, "/comment"),
    "a default of no variant": ({"default_variant": "no"}, "/default_variant"),
    "a default that is a value": ({"default_variant": True}, "/default_variant"),
    "an off of no variant": ({"off_variant": "no"}, "/off_variant"),
}
_OF_VARIANTS: Flaws = {
    "no variants": (variants("boolean", []) | {"default_variant": None}, "/variants"),
    "variants as a list": ({"variants": [True]}, "/variants"),
    "a variant without a name": (of_booleans({"": True}), "/variants/"),
    "a name of 201": (of_booleans({"x" * 201: True}), f"/variants/{'x' * 201}"),
    "1,001 variants": (variants("boolean", [True] * 1001), "/variants"),
    "a slash and a tilde": (of_booleans({"a/b~c": 1}), "/variants/a~1b~0c"),
    "a number among booleans": (variants("boolean", [True, 1]), "/variants/v1"),
    "null among booleans": (variants("boolean", [None]), "/variants/v0"),
    "a number among texts": (variants("string", ["a", 1]), "/variants/v1"),
    "a boolean among integers": (variants("integer", [1, True]), "/variants/v1"),
    "a fraction among integers": (variants("integer", [1, 1.5]), "/variants/v1"),
    "1.0 among integers": (variants("integer", [1, 1.0]), "/variants/v1"),
    "2**63 among integers": (variants("integer", [2**63 - 1, 2**63]), "/variants/v1"),
    "-2**63 among integers": (variants("integer", [1 - 2**63, -(2**63)]), "/variants/v1"),
    "4,300 digits among numbers": (variants("number", [1, 10**4300 - 1]), "/variants/v1"),
    "a text among numbers": (variants("number", [1, "1"]), "/variants/v1"),
    "a boolean among numbers": (variants("number", [1.5, False]), "/variants/v1"),
    "a text among objects": (variants("object", [{}, "x"]), "/variants/v1"),
    "null among objects": (variants("object", [[], None]), "/variants/v1"),
}
_OF_RULES: Flaws = {
    "rules as an object": ({"rules": {}}, "/rules"),
    "a rule that is a number": (rules({"serve": ON}, 1), "/rules/1"),
    "1,001 rules": (rules(*[{"serve": ON}] * 1001), "/rules"),
    "30,000 rules": (rules(*[{"serve": ON}] * 30_000), "/rules"),
    "5,001 conditions": (
        rules(*[{"when": {"all": [{"attribute": "a", "op": "exists"}] * 5}, "serve": ON}] * 900),
        "/rules/833/when/all/1",
    ),
    "a rule with a colour": (rules({"serve": ON, "colour": 1}), "/rules/0/colour"),
    "a rule that serves nothing": (rules({"when": None}), "/rules/0/serve"),
    "a rule that serves too little": (serving({}), "/rules/0/serve"),
    "a rule that serves two": (
        serving({**ON, "rollout": {"weights": HALVES}}),
        "/rules/0/serve",
    ),
    "a rule that serves a text": (serving("on"), "/rules/0/serve"),
    "a rule that serves no variant": (serving({"variant": "no"}), "/rules/0/serve/variant"),
    "a rule that serves a value": (serving({"variant": True}), "/rules/0/serve/variant"),
    "an id twice": (rules({"id": "a", "serve": ON}, {"id": "a", "serve": ON}), "/rules/1/id"),
    "an id of 101": (rules({"id": "x" * 101, "serve": ON}), "/rules/0/id"),
    "an id that is a number": (rules({"id": 5, "serve": ON}), "/rules/0/id"),
    "a segment that is missing": (
        rules({"when": {"segment": "gone"}, "serve": ON}),
        "/rules/0/when",
    ),
    "a window as a list": (active([]), "/rules/0/active"),
    "a window of a number": (active({"from": 5}), "/rules/0/active/from"),
    "a window from tomorrow": (active({"from": "tomorrow"}), "/rules/0/active/from"),
    "a window on February 30": (
        active({"until": "2026-02-30T00:00:00Z"}),
        "/rules/0/active/until",
    ),
    "a window that ends first": (
        active({"from": END["at"], "until": START["at"]}),
        "/rules/0/active/until",
    ),
    "a window with a colour": (active({"colour": 1}), "/rules/0/active/colour"),
}
_ROLLOUT, _MOVING = "/rules/0/serve/rollout", "/rules/0/serve/progressive"
_OF_ROLLOUTS: Flaws = {
    "no weights": (serving({"rollout": {}}), f"{_ROLLOUT}/weights"),
    "weights of nothing": (weighing(), f"{_ROLLOUT}/weights"),
    "weights as a list": (rolling(weights=[50, 50]), f"{_ROLLOUT}/weights"),
    "weights of 50": (weighing(on=50), f"{_ROLLOUT}/weights"),
    "weights of 101": (weighing(on=50, off=51), f"{_ROLLOUT}/weights"),
    "weights of 99.999": (weighing(on=50, off=49.999), f"{_ROLLOUT}/weights"),
    "four decimals": (weighing(on=33.3333, off=66.6667), f"{_ROLLOUT}/weights/on"),
    "a weight below 0": (weighing(on=-1, off=101), f"{_ROLLOUT}/weights/on"),
    "a weight beyond every double": (weighing(on=10**400, off=0), f"{_ROLLOUT}/weights/on"),
    "a weight as a text": (weighing(on="50", off=50), f"{_ROLLOUT}/weights/on"),
    "a weight as a boolean": (weighing(on=True, off=99), f"{_ROLLOUT}/weights/on"),
    "a weight of no variant": (weighing(on=50, no=50), f"{_ROLLOUT}/weights/no"),
    "an unknown hash": (rolling(hash="md5"), f"{_ROLLOUT}/hash"),
    "a hash of Python": (rolling(hash=5), f"{_ROLLOUT}/hash"),
    "by nothing": (rolling(by=""), f"{_ROLLOUT}/by"),
    "by a number": (rolling(by=5), f"{_ROLLOUT}/by"),
    "a salt of 1,001": (rolling(salt="x" * 1001), f"{_ROLLOUT}/salt"),
    "a rollout with a colour": (rolling(colour=1), f"{_ROLLOUT}/colour"),
    "ranges as a text": (rolling(ranges="all"), f"{_ROLLOUT}/ranges"),
    "a range without a variant": (rolling(ranges=[[0, 100_000]]), f"{_ROLLOUT}/ranges/0"),
    "ranges with a gap": (
        rolling(ranges=[[0, 1, "on"], [2, 3, "off"]]),
        f"{_ROLLOUT}/ranges/1",
    ),
    "a range backwards": (rolling(ranges=[[0, -1, "on"]]), f"{_ROLLOUT}/ranges/0"),
    "no beginning": (moving(**{"from": None}), f"{_MOVING}/from"),
    "a beginning without a time": (moving(**{"from": {"percent": 0}}), f"{_MOVING}/from/at"),
    "an end before the beginning": (moving(to=START, **{"from": END}), f"{_MOVING}/to"),
    "an end on no day": (moving(to={"at": "soon", "percent": 1}), f"{_MOVING}/to/at"),
    "an end at 101": (moving(to={**END, "percent": 101}), f"{_MOVING}/to/percent"),
    "an end of four decimals": (moving(to={**END, "percent": 9.0001}), f"{_MOVING}/to/percent"),
    "towards no variant": (moving(variant="no"), f"{_MOVING}/variant"),
    "otherwise no variant": (moving(otherwise=None), f"{_MOVING}/otherwise"),
    "by a hash without percentages": (moving(hash="flagd-2"), f"{_MOVING}/hash"),
}
_OF_NEEDS: Flaws = {
    "needs as an object": ({"prerequisites": {}}, "/prerequisites"),
    "a need that is a name": ({"prerequisites": ["base"]}, "/prerequisites/0"),
    "a need of nothing": ({"prerequisites": [{"variants": ["on"]}]}, "/prerequisites/0/flag"),
    "a need of no flag": (
        {"prerequisites": [{"flag": "gone", "variants": ["on"]}]},
        "/prerequisites/0/flag",
    ),
    "a need of no name": (
        {"prerequisites": [{"flag": "a b", "variants": ["on"]}]},
        "/prerequisites/0/flag",
    ),
    "a need of no variants": (
        {"prerequisites": [{"flag": "base", "variants": []}]},
        "/prerequisites/0/variants",
    ),
    "a need of another variant": (
        {"prerequisites": [{"flag": "base", "variants": ["on", "blue"]}]},
        "/prerequisites/0/variants/1",
    ),
    "a need of a value": (
        {"prerequisites": [{"flag": "base", "variants": [True]}]},
        "/prerequisites/0/variants/0",
    ),
}
SIMPLE_FLAWS: Flaws = {
    "a percentage of four decimals": ({"rollout_percentage": 0.0001}, "/rollout_percentage"),
    "a percentage below 0": ({"rollout_percentage": -0.001}, "/rollout_percentage"),
    "a percentage above 100": ({"rollout_percentage": 100.001}, "/rollout_percentage"),
    "a percentage as a text": ({"rollout_percentage": "50"}, "/rollout_percentage"),
    "a percentage as a boolean": ({"rollout_percentage": True}, "/rollout_percentage"),
    "a percentage beyond every double": ({"rollout_percentage": 10**400}, "/rollout_percentage"),
    "a percentage of 1e308": ({"rollout_percentage": 1e308}, "/rollout_percentage"),
    "users as a text": ({"target_users": "ann"}, "/target_users"),
    "a user that is a list": ({"target_users": ["ann", []]}, "/target_users/1"),
    "a user of 1,001": ({"target_users": ["x" * 1001]}, "/target_users/0"),
    "100,001 users": ({"target_users": ["u"] * 100_001}, "/target_users"),
}
BAD_FLAGS: Flaws = {
    **_OF_MEMBERS,
    **_OF_VARIANTS,
    **_OF_RULES,
    **_OF_ROLLOUTS,
    **_OF_NEEDS,
}
