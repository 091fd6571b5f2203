"""The service and its clients judge alike: the same places, keywords and rules."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from app.rules.cel.model import Question, read_rules
from app.rules.cel.process import RuleProcess
from app.rules.errors import SchemaInvalid
from app.rules.schemas.compiled import CompiledSchema, violations
from pilothouse.judging.definitions import (
    question_of,
    read_definition,
    rule_findings,
    schema_findings,
)
from pilothouse.judging.rules import flaws_of, judge_rules
from pilothouse_core.schema_index import BadSchema
from tests.servers.process import PATIENCE_SECONDS

SUITE = Path(__file__).parents[1] / "data" / "json_schema_suite"
CASES: dict[str, list[dict[str, Any]]] = {
    name: cases
    for path in sorted(SUITE.glob("draft2020*.json"))
    for name, cases in json.loads(path.read_text(encoding="utf-8")).items()
}


@pytest.mark.parametrize("name", CASES)
def test_keywords_are_judged_alike(name: str) -> None:
    for case in CASES[name]:
        try:
            by_service = CompiledSchema(case["schema"])
        except SchemaInvalid:
            with pytest.raises(BadSchema):
                read_definition(case["schema"], name="suite")
            continue
        by_client = read_definition(case["schema"], name="suite")
        for test in case["tests"]:
            found = violations(by_service, test["data"])
            findings = list(schema_findings(by_client, test["data"]))
            assert [(each.key, each.keyword, each.expected) for each in findings] == [
                (each.key, each.keyword, each.expected) for each in found
            ]


RULES: dict[str, Any] = {
    "properties": {"min": {"default": 1}, "password": {"secret": True}},
    "x-rules": [
        {"id": "order", "rule": "config.min <= config.max"},
        {"id": "missing", "rule": "config.absent > 1"},
        {"id": "hidden", "rule": "config.password != 'planted'"},
        {"id": "costly", "rule": "[0,1,2,3,4,5,6,7,8,9].all(a, a >= 0)"},
    ],
}


@pytest.fixture
async def rules() -> AsyncIterator[RuleProcess]:
    process = RuleProcess(write_seconds=4 * PATIENCE_SECONDS)
    yield process
    await process.close()


@pytest.mark.parametrize(
    "tree", [{"max": 0}, {"max": 2}, {"max": "x"}, {}, {"password": "planted"}]
)
async def test_rules_are_judged_alike(rules: RuleProcess, tree: dict[str, Any]) -> None:
    definition = read_definition(RULES, name="rules")
    question = question_of(definition, tree)
    assert question is not None
    assert "planted" not in json.dumps(question.config)

    by_service = await rules.judge([Question(question.expressions, question.config)])

    assert [rule.expression for rule in read_rules(RULES)] == list(question.expressions)
    assert judge_rules([question]) == by_service
    [verdicts] = by_service
    broken = [each.rule for each in rule_findings(definition, verdicts)]
    assert "missing" in broken
    assert ("hidden" in broken) is ("password" not in tree)
    assert ("order" in broken) is (tree != {"max": 2})


async def test_expressions_are_refused_alike(rules: RuleProcess) -> None:
    expressions = ["config.a > 1", "config.a >", "1 < limit"]

    assert flaws_of(expressions) == await rules.compile(expressions)


def test_a_rule_beyond_its_limits_is_undecided_for_clients_too() -> None:
    ten = "[0,1,2,3,4,5,6,7,8,9]"
    loop = f"{ten}.all(a,{ten}.all(b,{ten}.all(c,{ten}.all(d,{ten}.all(e, a+b+c+d+e >= 0)))))"
    schema = {"x-rules": [{"id": "first", "rule": "true"}, {"id": "loop", "rule": loop}]}
    definition = read_definition(schema, name="loop")
    question = question_of(definition, {"a": 1})
    assert question is not None

    [verdicts] = judge_rules([question])

    [finding] = rule_findings(definition, verdicts)
    assert finding.message == "leaves undecided the rule loop"
