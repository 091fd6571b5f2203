"""A JSON Schema that is compiled once and judges many configurations.

Needs jsonschema-rs, an extra of this package.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from math import inf
from typing import Any

import jsonschema_rs

from pilothouse_core.judgement.model import JudgingTooCostly, Violation
from pilothouse_core.judgement.rules import MEMBER as RULES
from pilothouse_core.judgement.validator import make_validator
from pilothouse_core.keys import names_of
from pilothouse_core.schema_costs import judging_costs
from pilothouse_core.schema_index import BadSchema, SchemaIndex, TooCostly, join_pointer
from pilothouse_core.schema_walk import SchemaWalk, key_at
from pilothouse_core.trees import SECRET, is_secret, node_at

MOST_VIOLATIONS = 100
_MOST_OPTIONS = 20  # of an `enum` that are shown
_MOST_CHARACTERS = 1000  # of what a keyword expects, as JSON
# Subschemas that are applied, to all places of a value. To find that a value is valid takes well
# below a microsecond for each of them; to describe why a union is not met, up to 25.
_MOST_APPLIED = 200_000
_MOST_DESCRIBED = 40_000
_MOST_LISTED = 4_000  # beyond, only the first error is described
_ABSENT: Any = object()
# They compare the whole value, or depend on what else failed in it.
_LOOK_INSIDE = frozenset(
    {"const", "contains", "enum", "not", "unevaluatedItems", "unevaluatedProperties", "uniqueItems"}
)
_BRANCHES = frozenset({"anyOf", "oneOf"})
_UNEXPECTED = frozenset({"additionalProperties", "unevaluatedProperties"})
# What the library says of the schema; its other facts may be of the value.
_SCHEMA_FACTS = (
    *("limit", "types", "options", "expected_value", "pattern", "format", "multiple_of"),
    *("content_encoding", "content_media_type"),
)
_Path = tuple[str | int, ...]


class CompiledSchema:
    """A schema of draft 2020-12 or draft-07, within the bounds; `format` asserts.

    Nothing is fetched, and patterns are matched in linear time. Raises BadSchema, with the
    place in the schema.
    """

    def __init__(self, schema: Any) -> None:
        try:
            self.walk = SchemaWalk(schema)
            _refuse_inner_rules(self.walk.index)
            self._costs = judging_costs(self.walk.index)
        except TooCostly as error:
            raise BadSchema("", str(error)) from error
        draft = (
            jsonschema_rs.Draft7Validator
            if self.walk.index.is_draft_07
            else jsonschema_rs.Draft202012Validator
        )
        try:
            self._validator = make_validator(schema, draft=draft)
        except jsonschema_rs.ValidationError as error:
            raise BadSchema(join_pointer("", *error.instance_path), _reason(error)) from error
        except (ValueError, UnicodeError) as error:
            raise BadSchema("", "the schema cannot be compiled") from error

    def iter_errors(
        self, value: Any, *, has_sealed: bool = False
    ) -> Iterator[jsonschema_rs.ValidationError]:
        """Yield the errors of the library, sealed secrets judged as the objects they are.

        Of a value that is costly to judge, the first error only, unless it `has_sealed` secrets,
        for which errors are left out. Raises JudgingTooCostly.
        """
        cost = self._cost(value)
        if cost > _MOST_APPLIED:
            raise JudgingTooCostly
        if cost > _MOST_LISTED:
            if self._validator.is_valid(value):
                return iter(())
            if not has_sealed:
                return iter([self._first_error(value)])
            if cost > _MOST_DESCRIBED:
                raise JudgingTooCostly
        errors: Iterator[jsonschema_rs.ValidationError] = self._validator.iter_errors(value)
        return errors

    def check_cost(self, value: Any) -> None:
        """Raise JudgingTooCostly if it takes more than about a second to list all errors."""
        if self._cost(value) > _MOST_DESCRIBED:
            raise JudgingTooCostly

    def _cost(self, value: Any) -> float:
        """Count the subschemas that are applied to a value, inf if it is too deep."""
        cost = 0
        level = [value]
        for applied in self._costs:
            cost += applied * len(level)
            level = _inner_values(level)
            if not level:
                return cost
        return inf

    def _first_error(self, value: Any) -> jsonschema_rs.ValidationError:
        try:
            self._validator.validate(value)
        except jsonschema_rs.ValidationError as error:
            return error
        raise AssertionError("the value is valid")


def violations(schema: CompiledSchema, tree: Any, at: str = "") -> tuple[Violation, ...]:
    """Judge a configuration by a schema that is mounted at the key `at`.

    A key that is absent is not judged. A sealed secret counts as present and is not judged either:
    what fails because of it is left out. At most MOST_VIOLATIONS are returned. Raises
    JudgingTooCostly for a value that is too deep or too large for such a schema.
    """
    value = node_at(tree, at, _ABSENT) if at else tree
    if value is _ABSENT or is_secret(value):
        return ()
    sealed = frozenset(_sealed_paths(value) if _has_sealed(value) else ())
    names = names_of(at) if at else ()
    all_violations = (
        violation
        for error in schema.iter_errors(value, has_sealed=bool(sealed))
        if not (sealed and _may_hold(error, sealed))
        for violation in _describe(error, value, at, join_pointer("", *names))
    )
    return tuple(islice(all_violations, MOST_VIOLATIONS))


def _refuse_inner_rules(index: SchemaIndex) -> None:
    """Raise BadSchema for rules below the root, which would be taken for judged."""
    for pointer in index.at:
        if pointer and RULES in index.members(pointer):
            raise BadSchema(join_pointer(pointer, RULES), "only the root of a schema has rules")


def _inner_values(values: Iterable[Any]) -> list[Any]:
    inner: list[Any] = []
    for value in values:
        if isinstance(value, dict):
            inner += value.values()
        elif isinstance(value, list):
            inner += value
    return inner


def _has_sealed(value: Any) -> bool:
    level = [value]
    while level:
        if any(isinstance(each, dict) and SECRET in each for each in level):
            return True
        level = _inner_values(level)
    return False


def _sealed_paths(value: Any) -> Iterator[_Path]:
    waiting: list[tuple[_Path, Any]] = [((), value)]
    while waiting:
        path, outer = waiting.pop()
        if is_secret(outer):
            yield path
        elif isinstance(outer, dict):
            waiting += [((*path, name), inner) for name, inner in outer.items()]
        elif isinstance(outer, list):
            waiting += [((*path, index), inner) for index, inner in enumerate(outer)]


def _may_hold(error: jsonschema_rs.ValidationError, sealed: frozenset[_Path]) -> bool:
    """Tell whether a sealed secret, if it were known, might make this error vanish."""
    path = tuple(error.instance_path)
    if any(path[:length] in sealed for length in range(len(path) + 1)):
        return True
    keyword = error.kind.name
    if keyword in _BRANCHES:
        # A branch of `oneOf` without an error is valid: with others, one too many.
        return _has_inside(path, sealed) and any(
            all(_may_hold(inner, sealed) for inner in branch)
            for branch in error.kind.as_dict()["context"]
        )
    return keyword in _LOOK_INSIDE and _has_inside(path, sealed)


def _has_inside(path: _Path, sealed: frozenset[_Path]) -> bool:
    return any(each[: len(path)] == path for each in sealed)


def _describe(
    error: jsonschema_rs.ValidationError, value: Any, at: str, outer: str
) -> Iterator[Violation]:
    path = tuple(error.instance_path)
    keyword = error.kind.name
    schema_path = [str(name) for name in error.schema_path]
    facts: Mapping[str, Any] = error.kind.as_dict()
    expected: Any = None
    below: Sequence[str] = ()
    if keyword in _UNEXPECTED:
        below, expected = facts["unexpected"], False
    elif keyword == "required":
        below = [facts["property"]]
        expected = facts["property"]
        keyword = schema_path[-1] if schema_path[-1:] == ["dependentRequired"] else keyword
    elif keyword == "falseSchema":
        keyword, expected = "false", False
        # Without `properties` in the same schema, the error names the object, not its members.
        if schema_path[-1:] != [str(name) for name in path[-1:]] and schema_path[-1] in _UNEXPECTED:
            keyword = schema_path[-1]
            below = list(_value_at(value, path))
    else:
        expected = _demand(facts)
    paths = [(*path, name) for name in below] or [path]
    for each in paths:
        yield Violation(
            key_at(each, at),
            outer + join_pointer("", *each),
            join_pointer("", *schema_path),
            keyword,
            expected,
        )


def _value_at(value: Any, path: _Path) -> Any:
    for name in path:
        value = value[name]
    return value


def _demand(facts: Mapping[str, Any]) -> Any:
    """Return what the schema says, shortened, or None: never a part of the value."""
    fact = next((facts[name] for name in _SCHEMA_FACTS if name in facts), None)
    if not isinstance(fact, list):
        return fact if _is_short(fact) else None
    shown = fact[:_MOST_OPTIONS]
    while shown and not _is_short(shown):
        shown = shown[: len(shown) // 2]
    return shown or None


def _is_short(fact: Any) -> bool:
    return len(json.dumps(fact, ensure_ascii=False)) <= _MOST_CHARACTERS


def _reason(error: jsonschema_rs.ValidationError) -> str:
    keyword = error.kind.name
    if keyword == "anyOf" and error.instance_path[-1:] == ["type"]:
        return "not a type of JSON"
    if keyword == "format":
        return "not a pattern that is matched in linear time"
    if keyword == "type":
        return f"must be of type {' or '.join(error.kind.as_dict()['types'])}"
    return f"not valid in this draft, by `{keyword}` of its meta-schema"
