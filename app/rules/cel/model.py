"""Rules between the fields of a configuration, as a schema lists them under `x-rules`."""

from typing import Any

from app.rules.errors import RuleInvalid
from pilothouse_core.judgement import rules
from pilothouse_core.judgement.rules import (
    MEMBER,
    MOST_CHARACTERS,
    MOST_RULES,
    BadRule,
    Flaw,
    Question,
    Verdict,
    without_secrets,
)
from pilothouse_core.judgement.rules import FieldRule as Rule

__all__ = [
    "MEMBER",
    "MOST_CHARACTERS",
    "MOST_RULES",
    "Flaw",
    "Question",
    "Rule",
    "Verdict",
    "read_rules",
    "without_secrets",
]


def read_rules(schema: Any) -> tuple[Rule, ...]:
    """Return the rules at the root of a schema. Raises RuleInvalid, with the place."""
    try:
        return rules.read_rules(schema)
    except BadRule as error:
        raise RuleInvalid(error.pointer, error.reason) from error
