"""JSON Schema: what a value must be like, with errors that show no value.

Needs jsonschema-rs, an extra of this package.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import jsonschema_rs

from pilothouse_core.judgement.validator import make_validator
from pilothouse_core.judgement.words import expectation
from pilothouse_core.schema_index import BadSchema, join_pointer, subschemas

Place = tuple[str | int, ...]  # members and numbers of items, from the top down

# fmt: off
KEYWORDS: Final = frozenset([
    "$anchor", "$comment", "$defs", "$dynamicAnchor", "$dynamicRef", "$id", "$recursiveAnchor",
    "$recursiveRef", "$ref", "$schema", "$vocabulary", "additionalItems", "additionalProperties",
    "allOf", "anyOf", "const", "contains", "contentEncoding", "contentMediaType", "contentSchema",
    "default", "definitions", "dependencies", "dependentRequired", "dependentSchemas",
    "deprecated", "description", "else", "enum", "examples", "exclusiveMaximum",
    "exclusiveMinimum", "format", "id", "if", "items", "maxContains", "maxItems", "maxLength",
    "maxProperties", "maximum", "minContains", "minItems", "minLength", "minProperties", "minimum",
    "multipleOf", "not", "oneOf", "pattern", "patternProperties", "prefixItems", "properties",
    "propertyNames", "readOnly", "required", "secret", "then", "title", "type", "unevaluatedItems",
    "unevaluatedProperties", "uniqueItems", "writeOnly",
])
# fmt: on
_EXTENSION: Final = "x-"  # begins the names of members that others put into a schema

_UNEXPECTED: Final = {"additionalProperties", "unevaluatedProperties"}


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A place in a value, the keyword that it breaks, and what the keyword expects."""

    place: Place
    keyword: str
    message: str
    schema_place: Place  # of the keyword

    @property
    def pointer(self) -> str:
        return join_pointer("", *self.place)

    def __str__(self) -> str:
        return f"{self.pointer or 'the value'} {self.message} ({self.keyword})"


class JsonSchema:
    """A compiled schema: draft 2020-12, or the earlier draft that its `$schema` names.

    `format` is checked as well. Patterns are matched in linear time, so that look-around and
    backreferences are not supported, and a reference leads to another part of the schema only.

    Raises BadSchema for a schema that is malformed, or that has unknown keywords or formats:
    passed over, they would be taken for checked. Names that begin with `x-` are comments.
    """

    def __init__(self, schema: Mapping[str, Any]) -> None:
        plain = json_form(schema)
        if not isinstance(plain, dict):
            raise BadSchema("", "not an object")
        _check_keywords(plain)
        try:
            self._validator = make_validator(plain, ignore_unknown_formats=False)
        except jsonschema_rs.ValidationError as error:
            place = join_pointer("", *error.instance_path)
            raise BadSchema(place, _reason(error)) from None
        except ValueError as error:
            raise BadSchema("", str(error)) from None

    def violations(self, value: Any) -> Iterator[Mismatch]:
        """Yield what in `value` breaks the schema."""
        try:
            errors = list(self._validator.iter_errors(value))
        except ValueError:  # of a type that JSON lacks
            value = json_form(value)
            errors = list(self._validator.iter_errors(value))
        for error in errors:
            yield from _violations(error, value)


def json_form(value: Any) -> Any:
    """`value` with all mappings as objects, sequences as arrays, and the rest as text."""
    match value:
        case str():
            return value.encode(errors="replace").decode()
        case None | bool() | int() | float():
            return value
        case Mapping():
            return {str(name): json_form(member) for name, member in value.items()}
        case list() | tuple():
            return [json_form(item) for item in value]
        case _:
            return str(value)


def _check_keywords(schema: Any, pointer: str = "") -> None:
    """Raise BadSchema for unknown keywords; other flaws are left to the library."""
    if not isinstance(schema, dict):
        return
    if unknown := sorted(
        name for name in schema.keys() - KEYWORDS if not name.startswith(_EXTENSION)
    ):
        raise BadSchema(pointer, f"unknown keywords: {', '.join(unknown)}")
    for inner, subschema in subschemas(pointer, schema):
        _check_keywords(subschema, inner)


def _reason(error: jsonschema_rs.ValidationError) -> str:
    if error.kind.name == "anyOf" and error.instance_path[-1:] == ["type"]:
        return "not a type of JSON"
    if error.kind.name == "pattern" or "regex" in error.message:
        return "the pattern is malformed, or needs look-around or backreferences"
    return error.message


def _value_at(value: Any, place: Place) -> Any:
    for step in place:
        value = value[step]
    return value


def _violations(error: jsonschema_rs.ValidationError, value: Any) -> Iterator[Mismatch]:
    keyword, expected = error.kind.name, error.kind.value
    place, schema_place = tuple(error.instance_path), tuple(error.schema_path)
    if keyword == "falseSchema" and schema_place[-1:] == ("additionalProperties",) != place[-1:]:
        # No members are known at all, and the library names none of those that are there.
        keyword, expected = "additionalProperties", list(_value_at(value, place))
    if keyword in _UNEXPECTED:
        for name in expected:
            yield Mismatch((*place, name), keyword, "is not known here", schema_place)
        return
    message = expectation(keyword, expected)
    if keyword in {"falseSchema", "required"}:  # which may come from dependentRequired
        keyword = next(str(step) for step in reversed(schema_place) if step in KEYWORDS)
    if error.kind.name == "required":
        place = (*place, expected)
    yield Mismatch(place, keyword, message, schema_place)
