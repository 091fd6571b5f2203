"""Changes of a tree at one key. Pure: secrets are only marked here, and encrypted later."""

from collections.abc import Sequence
from typing import Any

from app.configs.documents.members import sent_tree
from app.configs.errors import KeyConflict, KeyExists, ListItem
from app.configs.secrets import mark_for_sealing, receive_leaf, receive_tree
from pilothouse_core.keys import bare_name, key_of, names_of
from pilothouse_core.trees import (
    OWN_VALUE,
    KeysConflict,
    Tree,
    contains_key,
    copy_sections,
    has_own_value,
    is_secret,
    is_section,
    leaf_key,
    leaves,
    merge_into,
    node_at,
    set_in,
    value_at,
    with_change_at,
    without_key,
)


def refuse_occupied(data: Tree, key: str, value: Any, document: str) -> None:
    """Raise KeyExists or KeyConflict if `value` cannot be created at `key`."""
    if not contains_key(data, key):
        return
    present = node_at(data, key)
    if _is_own_value_only(value) and _is_section_without(present):
        return
    if _is_section_without(present) and not is_section(value):
        raise KeyConflict(key, next(inner for inner, _ in leaves(present, key)))
    raise KeyExists(key, document)


def _is_own_value_only(value: Any) -> bool:
    """Tell whether `value` is `{"$value": ...}`: what sets the value of a section."""
    return has_own_value(value) and len(value) == 1


def _is_section_without(present: Any) -> bool:
    return is_section(present) and OWN_VALUE not in present


def refuse_other_shape(data: Tree, key: str, value: Any) -> None:
    """Raise KeyConflict if a value would replace a section, or a section a value."""
    present = node_at(data, key)
    if _is_section_without(present) and not is_section(value) and value != {}:
        raise KeyConflict(key, next(inner for inner, _ in leaves(present, key)))
    if _is_section_without(value) and not is_section(present) and present != {}:
        raise KeyConflict(key, next(inner for inner, _ in leaves(sent_tree({key: value}))))


def with_key(data: Tree, key: str, value: Any, *, is_encrypted: bool | None) -> Tree:
    """Return a copy in which `key` has what a client sends for it.

    Without `is_encrypted`, a secret stays a secret. Raises BadKey, BadMember, KeyConflict,
    KeyTwice, NothingMasked and TooManyKeys.
    """
    sent = node_at(sent_tree({key: value}), key)
    leaf, spelled = leaf_key(data, key)
    if leaf != spelled:
        if is_section(sent):
            sent = value  # in lists, names are as they are written
        item = _received_item(key, sent, node_at(data, key), is_encrypted=is_encrypted)
        return with_item(data, key, item)
    return with_replaced(data, key, _received_at(key, sent, data, is_encrypted=is_encrypted))


def _received_item(key: str, sent: Any, present: Any, *, is_encrypted: bool | None) -> Any:
    """Turn what is sent for something in a list into what can be sealed and stored."""
    if is_encrypted is False and not is_secret(sent):
        present = None
    if is_section(sent):
        before = [present] if is_section(present) else []
        [item] = receive_leaf(key, [sent], before)
    else:
        item = receive_leaf(key, sent, present)
    return mark_for_sealing(item) if is_encrypted else item


def with_item(data: Tree, key: str, item: Any) -> Tree:
    """Return a copy in which something in a list, at `key`, is `item`; raises KeyConflict."""
    if contains_key(data, key):
        return with_change_at(data, key, lambda _: item)
    *outer, last = names_of(key)
    section = node_at(data, key_of(outer))
    if not isinstance(section, dict) or is_secret(section):
        raise KeyConflict(leaf_key(data, key)[0], key)
    return with_change_at(data, key_of(outer), lambda members: {**members, bare_name(last): item})


def with_replaced(data: Tree, key: str, value: Any) -> Tree:
    """Return a copy in which `value` replaces what is at `key`; raises KeyConflict.

    Of a section with a value of its own, a value replaces that and a section all the others.
    """
    present = node_at(data, key)
    if is_section(present) and _is_own_value_only(value):
        return with_change_at(data, key, lambda section: {**section, **value})
    if has_own_value(present) and not is_section(value) and value != {}:
        return with_change_at(data, key, lambda section: {**section, OWN_VALUE: value})
    if has_own_value(present):
        return with_change_at(data, key, lambda section: {OWN_VALUE: section[OWN_VALUE], **value})
    result = copy_sections(without_key(data, key))
    try:
        set_in(result, key, value)
    except KeysConflict as error:
        raise KeyConflict(error.outer, error.inner) from None
    return result


def _received_at(key: str, sent: Any, data: Tree, *, is_encrypted: bool | None) -> Any:
    if is_encrypted is False and not is_secret(sent) and not is_section(sent):
        return receive_leaf(key, sent, None)
    if is_section(sent):
        kept = {} if is_encrypted is False else data
        value: Any = receive_tree(sent, kept, key)
    else:
        value = receive_leaf(key, sent, value_at(data, key))
    return mark_for_sealing(value) if is_encrypted else value


def merge_sent(data: Tree, additions: Tree, *, keep_both: bool) -> None:
    """Set in place all that `additions` say; raises KeyConflict."""
    try:
        merge_into(data, additions, keep_both=keep_both)
    except KeysConflict as error:
        raise KeyConflict(error.outer, error.inner) from None


def refuse_item(data: Tree, key: str) -> None:
    """Raise ListItem if `key` is an item of a list, which cannot be removed by itself."""
    *outer, _ = names_of(key)
    if outer and isinstance(node_at(data, key_of(outer)), list):
        raise ListItem(key)


def remove_in(data: Tree, key: str) -> None:
    """Remove a key that is there in place, and the sections it leaves empty; raises ListItem."""
    refuse_item(data, key)
    _remove_at(data, names_of(key))


def _remove_at(data: Tree, names: Sequence[str]) -> None:
    name, *rest = names
    if rest and isinstance(data[name], list):
        data[name] = without_key({name: data[name]}, key_of(names))[name]
    elif rest:
        _remove_at(data[name], rest)
    if not rest or not data[name]:
        del data[name]
