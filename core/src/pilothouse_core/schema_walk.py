"""Which places of a value are secret by a JSON Schema.

A validator is of no use for it: the annotations of a subschema vanish where it fails, and a bad
secret is still a secret. So every subschema counts that may apply to a place, whether the value is
valid or not.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import re2

from pilothouse_core.keys import join_item, join_member
from pilothouse_core.schema_index import BadSchema, SchemaIndex, join_pointer, subschemas
from pilothouse_core.trees import child_key, is_secret, is_section, leaves, node_at

_MOST_CACHED = 20_000
_MOST_PATTERN_MEMORY = 1 << 20
_UNICODE_ESCAPE = re2.compile(r"\\u([0-9a-fA-F]{4})")
_ABSENT: Any = object()
SECRET_MARKS = ("secret", "writeOnly")
_Path = tuple[str | int, ...]
_State = frozenset[str]  # pointers of subschemas that may apply to a place, and lead to secrets


def key_at(path: Sequence[str | int], at: str = "") -> str:
    """Return the key to which the names and indexes of a path lead from the value at `at`."""
    key, in_list = at, False
    for name in path:
        if isinstance(name, int):
            key, in_list = join_item(key, name), True
        else:
            key = join_member(key, name) if in_list else child_key(key, name)
    return key


class SchemaWalk:
    """A schema, prepared to find its secret places in documents.

    Raises BadSchema and TooCostly as SchemaIndex does; BadSchema too for a secret below `not` or in
    `propertyNames`, a `secret` that is not true or false, and a pattern of names that RE2 does not
    know, such as one with look-around.
    """

    def __init__(self, schema: object, marks: tuple[str, ...] = SECRET_MARKS) -> None:
        """Find the places that any of the keywords `marks` marks, by default those of secrets."""
        self._marks = marks
        self.index = SchemaIndex(schema)
        self._patterns: dict[str, Any] = {}
        self._members: dict[tuple[_State, str], _State] = {}
        self._items: dict[tuple[_State, int], _State] = {}
        self._secret = {pointer for pointer in self.index.at if self._is_marked(pointer)}
        for pointer in self.index.at:
            self._check(pointer, self.index.members(pointer))
        self._leading = self._leading_to_secrets()
        self._start = self.index.applicable([""]) & self._leading

    @property
    def has_secrets(self) -> bool:
        """Tell whether any place at all is secret."""
        return bool(self._secret)

    def is_secret_at(self, pointer: str) -> bool:
        """Tell whether the value of the subschema at `pointer` is secret."""
        return not self._secret.isdisjoint(self.index.applicable([pointer]))

    def secret_keys(self, tree: Mapping[str, Any], at: str = "") -> list[str]:
        """Return the keys of all leaves of a document at secret places, sealed ones as well.

        The schema is mounted at the key `at`. Of a section that is secret, every leaf below is
        listed; of what is secret inside of a list, the outermost. null and `{}` hide nothing, so
        they are not listed. Raises TooCostly.
        """
        value = node_at(tree, at, _ABSENT) if at else tree
        keys: list[str] = []
        for key, _, place, in_list in self._secret_places(value, at):
            if not in_list and is_section(place):
                keys += [leaf for leaf, inner in leaves(place, key) if inner not in (None, {})]
            elif place is not None and place != {}:
                keys.append(key)
        return sorted(set(keys))

    def secret_pointers(self, value: Any) -> list[str]:
        """Return the JSON pointers of the outermost secret places of a value. Raises TooCostly."""
        return [pointer for _, pointer, _, _ in self._secret_places(value, "")]

    def _secret_places(self, value: Any, at: str) -> Iterator[tuple[str, str, Any, bool]]:
        """Yield (key, pointer, value, whether it lies in a list) of the outermost secret places."""
        self.index.steps.restart()
        if value is _ABSENT or not self._secret:
            return
        if not self._start.isdisjoint(self._secret):
            yield at, "", value, False
            return
        waiting: list[tuple[_Path, Any, _State]] = [((), value, self._start)]
        while waiting:
            path, outer, state = waiting.pop()
            for name, inner, below in self._below(outer, state):
                if not below.isdisjoint(self._secret):
                    place = (*path, name)
                    in_list = any(isinstance(each, int) for each in place)
                    yield key_at(place, at), join_pointer("", *place), inner, in_list
                elif below and isinstance(inner, dict | list):
                    waiting.append(((*path, name), inner, below))

    def _leading_to_secrets(self) -> _State:
        """Return the subschemas from which a secret place is reached; no other is looked at."""
        before: dict[str, list[str]] = {}
        for pointer in self.index.at:
            inner = [each for each, _ in subschemas(pointer, self.index.members(pointer))]
            for each in (*inner, *self.index.targets[pointer]):
                before.setdefault(each, []).append(pointer)
        pointers = set(self._secret)
        waiting = list(pointers)
        while waiting:
            for pointer in before.get(waiting.pop(), ()):
                if pointer not in pointers:
                    pointers.add(pointer)
                    waiting.append(pointer)
        return frozenset(pointers)

    def _below(self, value: Any, state: _State) -> Iterator[tuple[str | int, Any, _State]]:
        """Yield (name or index, value, its subschemas) of all members or items of a value."""
        if isinstance(value, list):
            for index, item in enumerate(value):
                yield index, item, self._item(state, index)
        elif isinstance(value, dict) and not is_secret(value):
            for name, member in value.items():
                yield name, member, self._member(state, name)

    def _member(self, state: _State, name: str) -> _State:
        member_state = self._members.get((state, name))
        if member_state is None:
            member_state = self._leading & self.index.applicable(
                inner for pointer in state for inner in self._member_schemas(pointer, name)
            )
            if len(self._members) < _MOST_CACHED:
                self._members[state, name] = member_state
        return member_state

    def _member_schemas(self, pointer: str, name: str) -> Iterator[str]:
        self.index.steps.add()
        schema = self.index.members(pointer)
        is_named = False
        for keyword, places in self._named_schemas(schema, name):
            is_named = True
            yield join_pointer(pointer, keyword, places)
        if "additionalProperties" in schema and not is_named:
            yield join_pointer(pointer, "additionalProperties")
        if "unevaluatedProperties" in schema and not self._is_evaluated(pointer, name):
            yield join_pointer(pointer, "unevaluatedProperties")

    def _named_schemas(self, schema: Mapping[str, Any], name: str) -> Iterator[tuple[str, str]]:
        """Yield (keyword, its member) of the subschemas that a schema has for a name."""
        if name in _object(schema, "properties"):
            yield "properties", name
        for pattern in _object(schema, "patternProperties"):
            self.index.steps.add()
            if self._patterns[pattern].search(name):
                yield "patternProperties", pattern

    def _is_evaluated(self, pointer: str, name: str) -> bool:
        """Tell whether a member is evaluated by a subschema that always applies."""
        for each in self.index.certain(pointer):
            schema = self.index.members(each)
            if "additionalProperties" in schema or any(self._named_schemas(schema, name)):
                return True
            if each != pointer and "unevaluatedProperties" in schema:
                return True
        return False

    def _item(self, state: _State, index: int) -> _State:
        # Beyond the longest list of schemas all items are alike.
        last = max((_prefix(self.index.members(pointer))[1] for pointer in state), default=0)
        number = min(index, last)
        item_state = self._items.get((state, number))
        if item_state is None:
            item_state = self._items[state, number] = self._leading & self.index.applicable(
                inner
                for pointer in state
                for inner in _item_schemas(pointer, self.index.members(pointer), number)
            )
        return item_state

    def _is_marked(self, pointer: str) -> bool:
        schema = self.index.members(pointer)
        return any(schema.get(mark) is True for mark in self._marks)

    def _check(self, pointer: str, schema: Mapping[str, Any]) -> None:
        for keyword in self._marks:
            if not isinstance(schema.get(keyword, False), bool):
                raise BadSchema(join_pointer(pointer, keyword), "must be true or false")
        for keyword in ("not", "propertyNames"):
            if keyword in schema and self._secret:
                hidden = self.index.reachable(join_pointer(pointer, keyword)) & self._secret
                if hidden:
                    raise BadSchema(min(hidden), f"no place is secret below `{keyword}`")
        for pattern in _object(schema, "patternProperties"):
            if pattern not in self._patterns:
                place = join_pointer(pointer, "patternProperties", pattern)
                self._patterns[pattern] = _compile_pattern(pattern, place)


def _object(schema: Mapping[str, Any], keyword: str) -> Mapping[str, Any]:
    value = schema.get(keyword)
    return value if isinstance(value, dict) else {}


def _prefix(schema: Mapping[str, Any]) -> tuple[str, int]:
    """Return the keyword with a schema for each of the first items, and how many it has."""
    for keyword in ("prefixItems", "items"):  # the latter in draft-07
        if isinstance(schema.get(keyword), list):
            return keyword, len(schema[keyword])
    return "", 0


def _item_schemas(pointer: str, schema: Mapping[str, Any], index: int) -> Iterator[str]:
    keyword, length = _prefix(schema)
    rest = ["items"] if isinstance(schema.get("items"), dict | bool) else ["additionalItems"]
    if index < length:
        yield join_pointer(pointer, keyword, index)
    elif rest[0] in schema:
        yield join_pointer(pointer, rest[0])
    elif "unevaluatedItems" in schema:
        yield join_pointer(pointer, "unevaluatedItems")
    if "contains" in schema:
        yield join_pointer(pointer, "contains")


def _compile_pattern(pattern: str, pointer: str) -> Any:
    options = re2.Options()
    options.log_errors = False
    options.max_mem = _MOST_PATTERN_MEMORY
    try:
        return re2.compile(_UNICODE_ESCAPE.sub(r"\\x{\1}", pattern), options)
    except (re2.error, UnicodeEncodeError):
        raise BadSchema(pointer, "not a pattern that is matched in linear time") from None
