"""The defaults of JSON Schemas, as the document of a layer."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from pilothouse_core.keys import is_member, key_of, names_of
from pilothouse_core.schema_index import MAX_SCHEMA_DEPTH, BadSchema, TooCostly, join_pointer
from pilothouse_core.schema_walk import SchemaWalk
from pilothouse_core.trees import SECRET, Tree, child_key, is_section, leaves

_Names = tuple[str, ...]


class BadDefault(ValueError):
    """A default that no layer can have; `key` says where."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(f"at {key[:200]!r}: {reason}")
        self.key, self.reason = key, reason


class SecretDefault(BadDefault):
    """A default at a secret place."""

    def __init__(self, key: str) -> None:
        super().__init__(key, "a secret cannot have a default")


class DefaultConflict(BadDefault):
    """Two different defaults for one key, or one inside of another."""

    def __init__(self, key: str) -> None:
        super().__init__(key, "there are two different defaults")


def schema_defaults(walk: SchemaWalk, at: str = "") -> Tree:
    """Return the defaults of a schema that is mounted at the key `at`, as a document.

    Only the defaults of places that the schema always has count: those of `properties`, `allOf`
    and references, not of one branch among several, nor of items. A schema within itself has none.
    Raises SecretDefault, DefaultConflict, TooCostly, and BadSchema for a default at a name that no
    document has.
    """
    tree: Tree = {}
    outer = names_of(at) if at else ()
    walk.index.steps.restart()
    for pointer, names, value in _defaults_below(walk, "", (), frozenset()):
        key = key_of(outer + names)
        if value is not None and (_has_secret(value) or walk.is_secret_at(pointer)):
            raise SecretDefault(key)
        if outer + names:
            _add(tree, outer + names, value, "")
        elif isinstance(value, dict):
            for name, member in value.items():
                _add(tree, (name,), member, "")
    for key in walk.secret_keys(tree, at):
        raise SecretDefault(key)
    return tree


def combined_defaults(named: Iterable[tuple[str, Tree]]) -> tuple[Tree, dict[str, str]]:
    """Merge the defaults of several schemas, each with its name.

    Returns the document, and for each leaf's key the name of its schema. Raises DefaultConflict.
    """
    tree: Tree = {}
    sources: dict[str, str] = {}
    for name, defaults in named:
        for member, value in defaults.items():
            _add(tree, (member,), value, "")
        for key, _ in leaves(defaults):
            sources.setdefault(key, name)
    return tree, {key: sources[key] for key, _ in leaves(tree)}


def _defaults_below(
    walk: SchemaWalk, pointer: str, names: _Names, above: frozenset[str]
) -> Iterator[tuple[str, _Names, Any]]:
    """Yield (pointer of its schema, names, default), those of outer places first."""
    if len(names) > MAX_SCHEMA_DEPTH:
        raise TooCostly
    places = sorted(walk.index.certain(pointer) - above)
    above = above.union(places)
    for place in places:
        schema = walk.index.members(place)
        if "default" in schema:
            yield pointer, names, schema["default"]
    for place in places:
        properties = walk.index.members(place).get("properties")
        for name in properties if isinstance(properties, dict) else ():
            below = join_pointer(place, "properties", name)
            for default in _defaults_below(walk, below, (*names, name), above):
                if not _is_name(name):
                    raise BadSchema(below, "a default at a name that no document can have")
                yield default


def _is_name(name: str) -> bool:
    return is_member(name) and names_of(name) == (name,) and name != SECRET


def _has_secret(value: Any) -> bool:
    if isinstance(value, dict):
        return SECRET in value or any(map(_has_secret, value.values()))
    return isinstance(value, list) and any(map(_has_secret, value))


def _add(tree: Tree, names: _Names, value: Any, prefix: str) -> None:
    """Set a default in place, or raise DefaultConflict; equal ones agree, `{}` fits everything."""
    first, *rest = names
    for name in reversed(rest):
        value = {name: value}
    key = child_key(prefix, first)
    present = tree.get(first, {})
    if is_section(value):
        if present == {}:
            present = tree[first] = {}
        if not is_section(present) and present != {}:
            raise DefaultConflict(key)
        for name, inner in value.items():
            _add(present, (name,), inner, key)
    elif present == {}:
        tree[first] = value
    elif value != {} and (is_section(present) or not _is_same(present, value)):
        raise DefaultConflict(key)


def _is_same(one: Any, other: Any) -> bool:
    # As JSON, since Python takes true for 1.
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
