"""The subschemas of a JSON Schema: where they are, and which of them a reference means.

Draft 2020-12 and draft-07, within one document: nothing is ever fetched. A place in the schema is a
JSON pointer, `""` for the whole.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import unquote, urldefrag, urljoin

MAX_SCHEMA_BYTES = 256 * 1024
MAX_SCHEMA_DEPTH = 32  # objects and lists inside each other
MAX_SCHEMA_NODES = 5000  # objects and lists
MAX_STEPS = 500_000  # subschemas looked at for one value: about a second
DRAFT_2020_12 = "https://json-schema.org/draft/2020-12/schema"
DRAFT_07 = "http://json-schema.org/draft-07/schema"
_META = ("https://json-schema.org/draft/2020-12/", DRAFT_07)

_IN_PLACE_ONE = ("if", "then", "else")
_IN_PLACE_LISTS = ("allOf", "anyOf", "oneOf")
_IN_PLACE_MAPS = ("dependentSchemas", "dependencies")
_BELOW_ONE = (
    *("additionalProperties", "unevaluatedProperties", "items", "additionalItems", "contains"),
    *("unevaluatedItems", "propertyNames", "contentSchema", "not"),
)
_BELOW_LISTS = ("prefixItems", "items")
_BELOW_MAPS = ("properties", "patternProperties", "$defs", "definitions")
_REFERENCES = ("$ref", "$dynamicRef")


class BadSchema(ValueError):
    """The schema cannot be used: `pointer` leads to the place in it."""

    def __init__(self, pointer: str, reason: str) -> None:
        super().__init__(f"at {pointer[:200]!r}: {reason}")
        self.pointer, self.reason = pointer, reason


class TooCostly(ValueError):
    """The schema has so many subschemas for so large a value that they are not all looked at."""

    def __init__(self) -> None:
        super().__init__(f"more than {MAX_STEPS} subschemas would have to be looked at")


class Steps:
    """A count of subschemas looked at, which ends with TooCostly."""

    def __init__(self) -> None:
        self._count = 0

    def restart(self) -> None:
        """Count from zero, for another value."""
        self._count = 0

    def add(self, count: int = 1) -> None:
        """Count these too, or raise TooCostly."""
        self._count += count
        if self._count > MAX_STEPS:
            raise TooCostly


def join_pointer(pointer: str, *names: str | int) -> str:
    """Return the JSON pointer to a member or an item below the place of another."""
    return pointer + "".join(
        f"/{str(name).replace('~', '~0').replace('/', '~1')}" for name in names
    )


def pointer_names(pointer: str) -> list[str]:
    """Return the names of a JSON pointer, outermost first."""
    names = pointer.split("/")[1:]
    return [name.replace("~1", "/").replace("~0", "~") for name in names]


def check_bounds(schema: object) -> None:
    """Raise BadSchema if the schema is larger, deeper or richer than a schema may be."""
    nodes = 0
    waiting: list[tuple[str, object, int]] = [("", schema, 1)]
    while waiting:
        pointer, value, depth = waiting.pop()
        if not isinstance(value, dict | list):
            continue
        nodes += 1
        if depth > MAX_SCHEMA_DEPTH:
            raise BadSchema(pointer, f"more than {MAX_SCHEMA_DEPTH} levels deep")
        if nodes > MAX_SCHEMA_NODES:
            raise BadSchema("", f"more than {MAX_SCHEMA_NODES} objects and lists")
        members = value.items() if isinstance(value, dict) else enumerate(value)
        waiting += [(join_pointer(pointer, name), inner, depth + 1) for name, inner in members]
    size = len(json.dumps(schema, ensure_ascii=False).encode("utf-8", "surrogatepass"))
    if size > MAX_SCHEMA_BYTES:
        raise BadSchema("", f"more than {MAX_SCHEMA_BYTES} bytes")


def draft_of(schema: object) -> str:
    """Return the dialect of a schema, DRAFT_2020_12 where it names none, or raise BadSchema."""
    named = schema.get("$schema") if isinstance(schema, dict) else None
    if named is None:
        return DRAFT_2020_12
    dialect = named.removesuffix("#") if isinstance(named, str) else named
    if dialect not in {DRAFT_2020_12, DRAFT_07}:
        raise BadSchema("/$schema", "only draft 2020-12 and draft-07 are supported")
    return str(dialect)


class SchemaIndex:
    """Every subschema that can be reached, and what its references mean.

    Raises BadSchema for a schema beyond the bounds, a dialect that is not supported, and a
    reference to anything outside of the document, meta-schemas excepted.
    """

    def __init__(self, schema: object) -> None:
        check_bounds(schema)
        self.steps = Steps()
        self.is_draft_07 = draft_of(schema) == DRAFT_07
        self.at: dict[str, Any] = {}  # the subschema at each pointer
        self.targets: dict[str, tuple[str, ...]] = {}  # what the references of each lead to
        self._root = schema
        self._base: dict[str, str] = {}
        self._resources: dict[str, str] = {}
        self._anchors: dict[str, str] = {}
        self._dynamic: dict[str, list[str]] = {}
        self._add("", schema, "")
        self._resources.setdefault("", "")
        self._resolve_all()

    @property
    def root(self) -> object:
        """The whole schema."""
        return self._root

    def _add(self, pointer: str, schema: object, base: str) -> None:
        """Index a subschema and all below it."""
        waiting = [(pointer, schema, base)]
        while waiting:
            pointer, schema, base = waiting.pop()
            if pointer in self.at:
                continue
            if not isinstance(schema, dict | bool):
                raise BadSchema(pointer, "a schema must be an object, true or false")
            self.at[pointer] = schema
            if isinstance(schema, dict):
                base = self._name(pointer, schema, base)
                waiting += [(inner, value, base) for inner, value in subschemas(pointer, schema)]
            self._base[pointer] = base

    def _name(self, pointer: str, schema: Mapping[str, Any], base: str) -> str:
        """Note the names that a subschema gives itself; return the base of its references."""
        own = schema.get("$id")
        if isinstance(own, str) and not (self.is_draft_07 and "$ref" in schema):
            address, fragment = urldefrag(_absolute(base, own))
            if own.startswith("#"):  # how draft-07 spells an anchor
                self._anchors[f"{base}#{own[1:]}"] = pointer
            else:
                base = address
                self._resources[base] = pointer
                if fragment and not fragment.startswith("/"):
                    self._anchors[f"{base}#{fragment}"] = pointer
        for keyword in ("$anchor", "$dynamicAnchor"):
            anchor = schema.get(keyword)
            if isinstance(anchor, str):
                self._anchors[f"{base}#{anchor}"] = pointer
                if keyword == "$dynamicAnchor":
                    self._dynamic.setdefault(anchor, []).append(pointer)
        return base

    def _resolve_all(self) -> None:
        """Resolve every reference; what they lead to may have references of its own."""
        while waiting := [pointer for pointer in self.at if pointer not in self.targets]:
            for pointer in waiting:
                self.targets[pointer] = tuple(self._targets(pointer, self.members(pointer)))

    def _targets(self, pointer: str, schema: Mapping[str, Any]) -> Iterator[str]:
        for keyword in _REFERENCES:
            if keyword in schema:
                here = join_pointer(pointer, keyword)
                reference = schema[keyword]
                if not isinstance(reference, str):
                    raise BadSchema(here, "a reference must be a text")
                target = self._target(here, reference, self._base[pointer])
                if target is not None:
                    yield target
                if keyword == "$dynamicRef":  # any of these, depending on who refers
                    yield from self._dynamic.get(urldefrag(reference)[1], ())

    def _target(self, here: str, reference: str, base: str) -> str | None:
        address, fragment = urldefrag(_absolute(base, reference))
        fragment = unquote(fragment)
        if f"{address}#{fragment}" in self._anchors:
            return self._anchors[f"{address}#{fragment}"]
        if address not in self._resources:
            if address.startswith(_META):
                return None
            raise BadSchema(here, "only references within the schema are followed")
        target = self._resources[address] + fragment
        if fragment and not fragment.startswith("/"):
            raise BadSchema(here, "there is no such anchor in the schema")
        if target not in self.at:
            self._add(target, self._value_at(here, target), address)
        return target

    def applicable(self, pointers: Iterable[str]) -> frozenset[str]:
        """Return these subschemas with all that may apply to the same value."""
        all_pointers: set[str] = set()
        waiting = list(pointers)
        while waiting:
            pointer = waiting.pop()
            if pointer not in all_pointers:
                all_pointers.add(pointer)
                waiting += self.targets[pointer]
                waiting += [inner for inner, _ in in_place(pointer, self.members(pointer))]
        self.steps.add(len(all_pointers))
        return frozenset(all_pointers)

    def certain(self, pointer: str) -> frozenset[str]:
        """Return the subschemas that apply to a value whenever the one at `pointer` does."""
        pointers: set[str] = set()
        waiting = [pointer]
        while waiting:
            each = waiting.pop()
            if each not in pointers:
                pointers.add(each)
                schema = self.members(each)
                if "$dynamicRef" not in schema:
                    waiting += self.targets[each]
                waiting += [inner for inner, _ in _list_items(each, "allOf", schema.get("allOf"))]
        self.steps.add(len(pointers))
        return frozenset(pointers)

    def reachable(self, pointer: str) -> frozenset[str]:
        """Return the subschema at `pointer` and all that it leads to."""
        pointers: set[str] = set()
        waiting = [pointer]
        while waiting:
            each = waiting.pop()
            if each not in pointers:
                pointers.add(each)
                waiting += self.targets[each]
                waiting += [inner for inner, _ in subschemas(each, self.members(each))]
        self.steps.add(len(pointers))
        return frozenset(pointers)

    def members(self, pointer: str) -> Mapping[str, Any]:
        """Return the members of the subschema at `pointer`; true and false have none."""
        schema = self.at[pointer]
        return schema if isinstance(schema, dict) else {}

    def _value_at(self, here: str, pointer: str) -> Any:
        value: Any = self._root
        for name in pointer_names(pointer):
            if isinstance(value, list) and name.isascii() and name.isdecimal():
                value = value[int(name)] if int(name) < len(value) else None
            else:
                value = value.get(name) if isinstance(value, dict) else None
            if value is None:
                raise BadSchema(here, "there is no such place in the schema")
        return value


def _absolute(base: str, reference: str) -> str:
    # `urljoin` knows no fragment of an address without a hierarchy, such as a URN.
    return base + reference if reference.startswith("#") else urljoin(base, reference)


def subschemas(pointer: str, schema: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield (pointer, subschema) of what lies directly in a schema, references excepted."""
    yield from in_place(pointer, schema)
    for keyword in _BELOW_ONE:
        if keyword in schema and not isinstance(schema[keyword], list):
            yield join_pointer(pointer, keyword), schema[keyword]
    for keyword in _BELOW_LISTS:
        yield from _list_items(pointer, keyword, schema.get(keyword))
    for keyword in _BELOW_MAPS:
        yield from _map_members(pointer, keyword, schema.get(keyword))


def in_place(pointer: str, schema: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield (pointer, subschema) of what may apply to the same value, `not` excepted."""
    for keyword in _IN_PLACE_ONE:
        if keyword in schema:
            yield join_pointer(pointer, keyword), schema[keyword]
    for keyword in _IN_PLACE_LISTS:
        yield from _list_items(pointer, keyword, schema.get(keyword))
    for keyword in _IN_PLACE_MAPS:
        for inner, value in _map_members(pointer, keyword, schema.get(keyword)):
            if not isinstance(value, list):  # names that are required, in draft-07
                yield inner, value


def _list_items(pointer: str, keyword: str, value: object) -> Iterator[tuple[str, Any]]:
    if isinstance(value, list):
        for index, inner in enumerate(value):
            yield join_pointer(pointer, keyword, index), inner


def _map_members(pointer: str, keyword: str, value: object) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield join_pointer(pointer, keyword, name), inner
