"""Schemas as the service hands them out, compiled, and what they find in a configuration.

Needs jsonschema-rs: the extra `schema`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pilothouse.judging.findings import Finding, rule_message
from pilothouse_core.judgement.model import JudgingTooCostly, Violation
from pilothouse_core.judgement.rules import (
    NOTHING_TO_JUDGE,
    FieldRule,
    Question,
    Verdict,
    read_rules,
    rule_subject,
)
from pilothouse_core.judgement.schemas import CompiledSchema, violations
from pilothouse_core.judgement.words import expectation
from pilothouse_core.keys import canonical_key, names_of
from pilothouse_core.schema_defaults import schema_defaults
from pilothouse_core.schema_index import TooCostly, join_pointer
from pilothouse_core.trees import Tree, is_secret, node_at

# None: rules cannot be judged here.
EvaluateRules = Callable[[Sequence[Question]], Sequence[Sequence[Verdict]] | None]
PLAIN_SECRET = "secret"  # noqa: S105 - the keyword that such a finding names


@dataclass(frozen=True, slots=True)
class Definition:
    """A schema that is mounted at the key `at`; `is_enforced`, or else it only warns."""

    name: str
    version: int
    is_enforced: bool
    at: str
    compiled: CompiledSchema = field(repr=False)
    rules: tuple[FieldRule, ...] = field(default=(), repr=False)
    defaults: Tree = field(default_factory=dict, repr=False)

    def at_key(self, at: str) -> "Definition":
        """Return the same schema, mounted at another key."""
        defaults = schema_defaults(self.compiled.walk, at)
        return replace(self, at=at, defaults=defaults)


def read_definition(
    schema: Any, *, name: str, version: int = 0, is_enforced: bool = True, at: str = ""
) -> Definition:
    """Compile a schema. Raises BadSchema, BadRule, BadDefault, TooCostly and ValueError."""
    at = canonical_key(at) if at else ""
    compiled = CompiledSchema(schema)
    defaults = schema_defaults(compiled.walk, at)
    return Definition(name, version, is_enforced, at, compiled, read_rules(schema), defaults)


def schema_findings(definition: Definition, tree: Tree) -> Iterator[Finding]:
    """Yield what JSON Schema finds. Raises JudgingTooCostly."""
    for each in violations(definition.compiled, tree, definition.at):
        yield _finding(definition, each)


def plain_secrets(definition: Definition, tree: Tree, *, is_error: bool) -> Iterator[Finding]:
    """Yield the plain values at places that the schema says are secret."""
    try:
        keys = definition.compiled.walk.secret_keys(tree, definition.at)
    except TooCostly as error:
        yield _not_judged(definition, error)
        return
    for key in keys:
        if not is_secret(node_at(tree, key)):
            yield Finding(
                definition.name,
                definition.version,
                key,
                join_pointer("", *names_of(key)),
                PLAIN_SECRET,
                "",
                "is a plain value at a place that the schema says is secret",
                is_error=is_error,
            )


def question_of(definition: Definition, tree: Tree) -> Question | None:
    """Return what to ask the rules of a schema about a configuration, None for nothing."""
    if not definition.rules:
        return None
    subject = rule_subject(definition.compiled.walk, definition.defaults, tree, definition.at)
    if subject is NOTHING_TO_JUDGE:
        return None
    return Question(tuple(rule.expression for rule in definition.rules), subject)


def rule_findings(definition: Definition, verdicts: Sequence[Verdict]) -> Iterator[Finding]:
    """Yield the rules that are broken or undecided."""
    pointer = join_pointer("", *(names_of(definition.at) if definition.at else ()))
    for rule, verdict in zip(definition.rules, verdicts, strict=True):
        if verdict is Verdict.MET:
            continue
        yield Finding(
            definition.name,
            definition.version,
            definition.at,
            pointer,
            "x-rules",
            rule.pointer,
            rule_message(rule.id, rule.message, is_undecided=verdict is Verdict.UNDECIDED),
            expected=rule.message or None,
            rule=rule.id,
            is_error=definition.is_enforced,
        )


def read_item(item: Mapping[str, Any]) -> Definition:
    """Compile a schema of an answer of the service. Raises as `read_definition`, and KeyError."""
    return read_definition(
        item["schema"],
        name=str(item["name"]),
        version=int(item["version"]),
        is_enforced=item.get("mode") != "warn",
        at=str(item.get("at") or ""),
    )


def judge_all(
    definitions: Sequence[Definition], tree: Tree, evaluate: EvaluateRules
) -> list[Finding]:
    """Return all that schemas find in a configuration, keywords and rules.

    A value that is too large for a schema is found as well: it was not judged.
    """
    findings: list[Finding] = []
    questions: list[tuple[Definition, Question]] = []
    for definition in definitions:
        try:
            findings += schema_findings(definition, tree)
            question = question_of(definition, tree)
        except (JudgingTooCostly, TooCostly) as error:
            findings.append(_not_judged(definition, error))
            continue
        if question is not None:
            questions.append((definition, question))
    answers = evaluate([question for _, question in questions]) if questions else []
    for (definition, _), verdicts in zip(questions, answers or (), strict=False):
        findings += rule_findings(definition, verdicts)
    return findings


def _not_judged(definition: Definition, error: ValueError) -> Finding:
    return Finding(
        definition.name,
        definition.version,
        definition.at,
        "",
        "too-costly",
        "",
        f"is not judged: {error}",
        is_error=definition.is_enforced,
    )


def _finding(definition: Definition, violation: Violation) -> Finding:
    keyword, expected = violation.keyword, violation.expected
    return Finding(
        definition.name,
        definition.version,
        violation.key,
        violation.pointer,
        keyword,
        violation.schema_pointer,
        expectation(keyword, expected),
        expected=expected,
        is_error=definition.is_enforced,
    )
