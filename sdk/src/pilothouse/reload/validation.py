"""What a configuration must be like: a schema, rules between fields, no passwords in the open."""

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, Literal

from pilothouse_core.diff import is_same
from pilothouse_core.keys import join_key

FlawKind = Literal["schema", "rule", "credential"]
Check = Callable[[Mapping[str, Any]], str | Iterable[str] | None]
Schema = Mapping[str, Any] | Callable[[Mapping[str, Any]], object]


@dataclass(frozen=True, slots=True)
class Flaw:
    """Something wrong at a path; its words hold no value."""

    path: str
    message: str
    kind: FlawKind

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


@dataclass(frozen=True, slots=True)
class Rules:
    """What a configuration is held against.

    `schema` is a JSON schema of the keywords in `KEYWORDS`, or anything callable that raises
    ValueError (a Pydantic model's `model_validate`). `checks` look at several fields at once; each
    returns what is wrong, as one text or many, or None. `credentials` says what a load does about
    passwords and tokens that stand in a file; to look for them takes about as long as to read it.
    """

    schema: Schema | None = None
    checks: Sequence[Check] = ()
    credentials: Literal["ignore", "warn", "refuse"] = "ignore"

    def __post_init__(self) -> None:
        if isinstance(self.schema, Mapping):
            _check_schema(self.schema, "")

    def flaws(self, config: Mapping[str, Any]) -> list[Flaw]:
        """Return everything wrong with `config`, except credentials in it."""
        found: list[Flaw] = []
        if isinstance(self.schema, Mapping):
            found += _against(self.schema, config, "")
        elif self.schema is not None:
            found += _run_schema(self.schema, config)
        if not found:  # a check may rely on the schema
            for check in self.checks:
                found += _run_check(check, config)
        return found

    def all_flaws(self, config: Mapping[str, Any]) -> list[Flaw]:
        """Return everything wrong with `config`, and every credential that is written in it."""
        return [*self.flaws(config), *hard_coded(config)]


def hard_coded(
    config: Mapping[str, Any], written_elsewhere: AbstractSet[tuple[str, str]] = frozenset()
) -> Iterator[Flaw]:
    """Yield every text that is a credential by its name or by its look.

    `written_elsewhere` are paths with their texts that come from variables.
    """
    # Its many patterns take a tenth of a second to compile, and few programs look for credentials.
    from pilothouse_core.credentials import RULES, find_credential  # noqa: PLC0415

    for path, text in texts_of(config):
        if (path, text) not in written_elsewhere and (
            rule := find_credential(path, text)
        ) is not None:
            yield Flaw(path, f"{RULES[rule]} stands here in the open", "credential")


def texts_of(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield every text with the path of its member; the items of a list have the list's."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, list):
        for item in value:
            yield from texts_of(item, path)
    elif isinstance(value, Mapping) and not any(name.startswith("$") for name in value):
        for name, member in value.items():  # names with $: a secret, or encrypted
            yield from texts_of(member, join_key(path, name))


def _run_check(check: Check, config: Mapping[str, Any]) -> Iterator[Flaw]:
    try:
        said = check(config)
    except Exception as error:  # noqa: BLE001 - a check that breaks on a configuration refuses it
        said = f"{getattr(check, '__name__', 'a check')} failed with {type(error).__name__}"
    for message in [said] if isinstance(said, str) else said or ():
        yield Flaw("", message, "rule")


def _run_schema(
    schema: Callable[[Mapping[str, Any]], object], config: Mapping[str, Any]
) -> list[Flaw]:
    try:
        schema(config)
    except ValueError as error:
        told = getattr(error, "errors", None)
        if not callable(told):
            return [Flaw("", str(error), "schema")]
        # Pydantic's own text shows what was given.
        return [
            Flaw(".".join(map(str, one["loc"])), one["msg"], "schema")
            for one in told(include_input=False, include_url=False)
        ]
    return []


_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "null": (type(None),),
    "integer": (int,),
    "number": (int, float),
}
_NOTES = {"$schema", "$id", "title", "description", "default", "examples", "$comment"}
_NUMBERS = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}
_SIZES = {"minLength", "maxLength", "pattern", "items", "minItems", "maxItems", "uniqueItems"}
_SHAPES = {"properties", "required", "additionalProperties", "anyOf", "allOf"}
KEYWORDS = frozenset({"type", "enum", "const"} | _NUMBERS | _SIZES | _SHAPES)


def _check_schema(schema: Any, path: str) -> None:
    """Refuse what would quietly not be checked. Raises ValueError."""
    if isinstance(schema, bool):
        return
    if not isinstance(schema, Mapping):
        raise ValueError(f"the schema at {path or 'its top'} is not an object")  # noqa: TRY004
    if unknown := schema.keys() - KEYWORDS - _NOTES:
        raise ValueError(
            f"the schema at {path or 'its top'} has keywords that are not known here: "
            f"{', '.join(sorted(unknown))}; use jsonschema's validate as the schema for all of them"
        )
    for kind in _kinds(schema):
        if kind not in _TYPES:
            raise ValueError(f"the schema at {path or 'its top'} has an unknown type {kind!r}")
    for name, below in schema.get("properties", {}).items():
        _check_schema(below, join_key(path, name))
    for word in ("items", "additionalProperties"):
        _check_schema(schema.get(word, True), join_key(path, word))
    for word in ("anyOf", "allOf"):
        for below in schema.get(word, ()):
            _check_schema(below, join_key(path, word))


def _kinds(schema: Mapping[str, Any]) -> Sequence[str]:
    given = schema.get("type", ())
    return [given] if isinstance(given, str) else given


def _against(schema: Any, value: Any, path: str) -> Iterator[Flaw]:
    if schema is False:
        yield Flaw(path, "is not known here", "schema")
    if isinstance(schema, bool):
        return
    kinds = _kinds(schema)
    if kinds and not any(_is(kind, value) for kind in kinds):
        yield Flaw(path, f"is not of type {' or '.join(kinds)}", "schema")
        return
    yield from (Flaw(path, message, "schema") for message in _about(schema, value))
    if isinstance(value, dict):
        yield from _members(schema, value, path)
    elif isinstance(value, list) and "items" in schema:
        for number, item in enumerate(value):
            yield from _against(schema["items"], item, join_key(path, str(number)))
    for below in schema.get("allOf", ()):
        yield from _against(below, value, path)
    choices = schema.get("anyOf")
    if choices is not None and all(any(_against(below, value, path)) for below in choices):
        yield Flaw(path, "fits none of the alternatives", "schema")


def _is(kind: str, value: Any) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    return isinstance(value, _TYPES[kind]) or (
        kind == "integer" and isinstance(value, float) and value.is_integer()
    )


def _members(schema: Mapping[str, Any], value: Mapping[str, Any], path: str) -> Iterator[Flaw]:
    for name in schema.get("required", ()):
        if name not in value:
            yield Flaw(join_key(path, name), "is missing", "schema")
    known = schema.get("properties", {})
    others = schema.get("additionalProperties", True)
    for name, member in value.items():
        yield from _against(known.get(name, others), member, join_key(path, name))


def _about(schema: Mapping[str, Any], value: Any) -> Iterator[str]:
    if "enum" in schema and not any(is_same(value, one) for one in schema["enum"]):
        yield f"is not one of {', '.join(map(str, schema['enum']))}"
    if "const" in schema and not is_same(value, schema["const"]):
        yield f"is not {schema['const']}"
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        yield from _about_number(schema, value)
    elif isinstance(value, str):
        yield from _about_size(schema, len(value), "Length", "characters")
        if "pattern" in schema and not re.search(schema["pattern"], value):
            yield f"does not match {schema['pattern']}"
    elif isinstance(value, list):
        yield from _about_size(schema, len(value), "Items", "items")
        if schema.get("uniqueItems") and any(
            is_same(item, other) for n, item in enumerate(value) for other in value[:n]
        ):
            yield "has an item twice"


def _about_number(schema: Mapping[str, Any], value: float) -> Iterator[str]:
    if value < schema.get("minimum", -math.inf):
        yield f"is below {schema['minimum']}"
    if value > schema.get("maximum", math.inf):
        yield f"is above {schema['maximum']}"
    if "exclusiveMinimum" in schema and value <= schema["exclusiveMinimum"]:
        yield f"is not above {schema['exclusiveMinimum']}"
    if "exclusiveMaximum" in schema and value >= schema["exclusiveMaximum"]:
        yield f"is not below {schema['exclusiveMaximum']}"
    if "multipleOf" in schema and value % schema["multipleOf"]:
        yield f"is no multiple of {schema['multipleOf']}"


def _about_size(schema: Mapping[str, Any], size: int, word: str, what: str) -> Iterator[str]:
    if size < schema.get(f"min{word}", 0):
        yield f"has fewer than {schema[f'min{word}']} {what}"
    if size > schema.get(f"max{word}", math.inf):
        yield f"has more than {schema[f'max{word}']} {what}"
