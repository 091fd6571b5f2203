"""The rules of a schema as they are read, and configurations without their secrets."""

from typing import Any

import pytest

from app.rules.cel.model import MOST_RULES, read_rules, without_secrets
from app.rules.errors import RuleInvalid

RULE = {"id": "pool-order", "rule": "config.min <= config.max", "message": "min above max"}


def test_rules_are_read_in_their_order() -> None:
    rules = read_rules({"x-rules": [RULE, {"id": "other", "rule": "true"}]})

    assert [(rule.id, rule.expression, rule.message, rule.pointer) for rule in rules] == [
        ("pool-order", "config.min <= config.max", "min above max", "/x-rules/0"),
        ("other", "true", "", "/x-rules/1"),
    ]


@pytest.mark.parametrize("schema", [True, {}, {"x-rules": []}])
def test_a_schema_may_have_no_rules(schema: Any) -> None:
    assert read_rules(schema) == ()


@pytest.mark.parametrize(
    ("rules", "pointer"),
    [
        ({}, "/x-rules"),
        ([{"id": str(number), "rule": "true"} for number in range(MOST_RULES + 1)], "/x-rules"),
        (["true"], "/x-rules/0"),
        ([{"id": "a"}], "/x-rules/0/rule"),
        ([{"rule": "true"}], "/x-rules/0/id"),
        ([{"id": "", "rule": "true"}], "/x-rules/0/id"),
        ([{"id": "a", "rule": "x" * 1001}], "/x-rules/0/rule"),
        ([{**RULE, "message": 7}], "/x-rules/0/message"),
        ([{**RULE, "when": "x"}], "/x-rules/0/when"),
        ([RULE, RULE], "/x-rules/1/id"),
    ],
)
def test_rules_beyond_the_limits_are_refused_at_their_place(rules: Any, pointer: str) -> None:
    with pytest.raises(RuleInvalid) as refused:
        read_rules({"x-rules": rules})

    assert refused.value.pointer == pointer
    assert refused.value.flaws[0]["code"] == "bad_rule"


def test_rules_at_the_limits_are_read() -> None:
    rules = [{"id": str(number), "rule": "x" * 1000} for number in range(MOST_RULES)]

    assert len(read_rules({"x-rules": rules})) == MOST_RULES


def test_rules_see_that_there_is_a_secret_and_not_which() -> None:
    config = {
        "a": {"$secret": {"ciphertext": "vault:v1:x"}},
        "b": "planted",
        "c/d": {"e": "planted", "f": 1},
        "l": [{"g": "planted"}, "planted", 2],
    }
    mask = {"$secret": "masked"}

    seen = without_secrets(config, ["/b", "/c~1d/e", "/l/0/g", "/l/1", "/absent"])

    assert seen == {"a": mask, "b": mask, "c/d": {"e": mask, "f": 1}, "l": [{"g": mask}, mask, 2]}
    assert without_secrets("planted", [""]) == mask
    assert config["b"] == "planted"
