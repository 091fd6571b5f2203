"""Rules between the fields of a configuration, as a schema lists them under `x-rules`, in CEL."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from pilothouse_core.layers import merged_data
from pilothouse_core.schema_index import join_pointer, pointer_names
from pilothouse_core.schema_walk import SchemaWalk
from pilothouse_core.trees import SECRET, Tree, is_secret, node_at

MEMBER = "x-rules"
MOST_RULES = 50
MOST_CHARACTERS = 1000  # of the expression, and of the message
_MOST_ID_CHARACTERS = 64
_MASK = {SECRET: "masked"}
NOTHING_TO_JUDGE: Any = object()


class BadRule(ValueError):
    """A rule cannot be used: `pointer` leads to the place in the schema."""

    def __init__(self, pointer: str, reason: str) -> None:
        super().__init__(f"at {pointer[:200]!r}: {reason}")
        self.pointer, self.reason = pointer, reason


@dataclass(frozen=True, slots=True)
class FieldRule:
    """A condition in CEL over `config`, the value at the place where the schema is mounted."""

    id: str
    expression: str
    message: str
    pointer: str


class Verdict(str, Enum):
    """What the evaluation of a rule says.

    UNDECIDED: its value is an error, such as a missing key, or no boolean, or it has used up the
    time or the memory that all rules of a write have together; the same is said of those after it.
    """

    MET = "met"
    BROKEN = "broken"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class Question:
    """Whether one configuration meets these expressions. It has no secrets in it."""

    expressions: tuple[str, ...]
    config: Any


@dataclass(frozen=True, slots=True)
class Flaw:
    """Why an expression does not compile; `column` counts from 1, 0 if none is known."""

    reason: str
    column: int


def read_rules(schema: Any) -> tuple[FieldRule, ...]:
    """Return the rules at the root of a schema, in their order.

    Raises BadRule, with the place, for more than MOST_RULES, a member that is missing, unknown
    or too long, and an id that occurs twice. Whether an expression compiles is not looked at.
    """
    listed = schema.get(MEMBER, []) if isinstance(schema, dict) else []
    if not isinstance(listed, list) or len(listed) > MOST_RULES:
        raise BadRule(f"/{MEMBER}", f"must be a list of at most {MOST_RULES} rules")
    rules: list[FieldRule] = []
    for index, entry in enumerate(listed):
        rule = _rule(join_pointer("", MEMBER, index), entry)
        if any(rule.id == earlier.id for earlier in rules):
            raise BadRule(join_pointer(rule.pointer, "id"), "another rule has the same id")
        rules.append(rule)
    return tuple(rules)


def _rule(pointer: str, entry: Any) -> FieldRule:
    if not isinstance(entry, dict):
        raise BadRule(pointer, "must be an object with `id`, `rule` and `message`")
    unknown = entry.keys() - {"id", "rule", "message"}
    if unknown:
        raise BadRule(join_pointer(pointer, min(unknown)), "is not a member of a rule")
    return FieldRule(
        _text(pointer, entry, "id", _MOST_ID_CHARACTERS),
        _text(pointer, entry, "rule", MOST_CHARACTERS),
        _text(pointer, entry, "message", MOST_CHARACTERS) if "message" in entry else "",
        pointer,
    )


def _text(pointer: str, entry: Mapping[str, Any], name: str, longest: int) -> str:
    value = entry.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= longest:
        raise BadRule(join_pointer(pointer, name), f"must be a text of 1 to {longest} characters")
    return value


def rule_subject(walk: SchemaWalk, defaults: Tree, tree: Tree, at: str = "") -> Any:
    """Return what the rules of a schema that is mounted at `at` see, or NOTHING_TO_JUDGE.

    That is the value there, with the defaults of the schema below it and its secrets masked.
    Raises TooCostly.
    """
    value = node_at(tree, at, NOTHING_TO_JUDGE) if at else tree
    if value is NOTHING_TO_JUDGE or is_secret(value):
        return NOTHING_TO_JUDGE
    if defaults:
        merged = merged_data([defaults, tree])
        value = node_at(merged, at) if at else merged
    return without_secrets(value, walk.secret_pointers(value))


def without_secrets(value: Any, pointers: Sequence[str] = ()) -> Any:
    """Return a copy in which secrets, sealed ones and those at `pointers`, are masked.

    They are still there, so that a rule can ask for them by `has`.
    """
    hidden = {tuple(pointer_names(pointer)) for pointer in pointers}
    return _MASK if () in hidden else _mask(value, hidden)


def _mask(value: Any, hidden: set[tuple[str, ...]]) -> Any:
    if is_secret(value):
        return _MASK
    if isinstance(value, dict):
        members = list(value.items())
        return {name: _inner(inner, str(name), hidden) for name, inner in members}
    if isinstance(value, list):
        return [_inner(inner, str(index), hidden) for index, inner in enumerate(value)]
    return value


def _inner(value: Any, name: str, hidden: set[tuple[str, ...]]) -> Any:
    below = {path[1:] for path in hidden if path[0] == name} if hidden else hidden
    return _MASK if () in below else _mask(value, below)
