"""Keys and members as clients send them, in their canonical form. Pure."""

from collections.abc import Mapping
from typing import Any

from app.configs.errors import BadKey, BadMember, KeyConflict, KeyTwice, TooManyKeys
from app.configs.model import MAX_KEYS, MAX_SECTIONS
from app.configs.secrets import RESERVED
from pilothouse_core.keys import canonical_key, is_key, key_of, names_of
from pilothouse_core.trees import (
    OWN_VALUE,
    DuplicateKey,
    KeysConflict,
    Tree,
    is_section,
    nested_tree,
)
from pilothouse_core.trees import (
    BadKey as BadTreeKey,
)


def checked_key(key: str) -> str:
    """Return a key in its canonical spelling, or raise BadKey or BadMember."""
    if not is_key(key):
        raise BadKey(key)
    if not RESERVED.isdisjoint(names_of(key)):
        raise BadMember(key)
    return canonical_key(key)


def removable_key(key: str) -> str:
    """The same for what is removed: `a[$value]` is the value that the section `a` has."""
    *outer, last = names_of(key)
    if outer and last == OWN_VALUE:
        return canonical_key(f"{checked_key(key_of(outer))}[{OWN_VALUE}]")
    return checked_key(key)


def tree_of(members: Mapping[str, Any], *, keep_both: bool = False) -> Tree:
    """Expand dotted names, or raise BadKey, KeyTwice and, without `keep_both`, KeyConflict."""
    try:
        return nested_tree(members, keep_both=keep_both)
    except BadTreeKey as error:
        raise BadKey(error.key) from None
    except DuplicateKey as error:
        raise KeyTwice(error.key) from None
    except KeysConflict as error:
        raise KeyConflict(error.outer, error.inner) from None


def sent_tree(members: Mapping[str, Any], *, keep_both: bool = False) -> Tree:
    """The same for what a client sends; raises TooManyKeys for what no document could hold.

    Counted before any work is done.
    """
    waiting: list[Mapping[str, Any]] = [members]
    keys = sections = 0
    while waiting:
        inner = [value for value in waiting[-1].values() if is_section(value)]
        keys += len(waiting.pop()) - len(inner)
        sections += len(inner)
        if keys > MAX_KEYS or sections > MAX_SECTIONS:
            raise TooManyKeys(MAX_KEYS, MAX_SECTIONS)
        waiting += inner
    return tree_of(members, keep_both=keep_both)
