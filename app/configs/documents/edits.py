"""Edits of a document's data. Pure: trees in, trees out; secrets are encrypted later.

An edit is a function of the version it is based on, so that a write that lost a race is simply
computed again.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from app.changes.model import Action
from app.configs.errors import (
    BadKey,
    BadMember,
    DocumentExists,
    DocumentNotFound,
    KeyConflict,
    KeyExists,
    KeyNotFound,
    KeyTwice,
    ListItem,
    TooManyKeys,
    VersionIsDeletion,
)
from app.configs.model import MAX_KEYS, MAX_SECTIONS, Body, DocumentId, Draft, KeyFact
from app.configs.removals import REMOVALS_ROOM, limit_removals
from app.configs.secrets import (
    RESERVED,
    mark_for_sealing,
    receive_leaf,
    receive_tree,
    reseal,
    secret_places,
)
from pilothouse_core.diff import diff, is_same
from pilothouse_core.keys import bare_name, canonical_key, is_key, key_of, names_of
from pilothouse_core.trees import (
    OWN_VALUE,
    DuplicateKey,
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
    nested_tree,
    node_at,
    set_in,
    value_at,
    with_change_at,
    without_key,
)
from pilothouse_core.trees import (
    BadKey as BadTreeKey,
)

_MOST_PLACES = 100  # that one key remembers; of more, all in its list is taken for secret
Edit = Callable[[DocumentId, Body | None], Draft]
"""Raises the feature's errors; the body is None where there never was a document."""


def checked_key(key: str) -> str:
    """Return a key in its canonical spelling, or raise BadKey or BadMember."""
    if not is_key(key):
        raise BadKey(key)
    if not RESERVED.isdisjoint(names_of(key)):
        raise BadMember(key)
    return canonical_key(key)


def _removable_key(key: str) -> str:
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


def _data(body: Body | None) -> Tree:
    return body.data if body is not None else {}


def _is_existing(body: Body | None) -> bool:
    return body is not None and not body.deleted


def _action_of_change(body: Body | None) -> Action:
    return "updated" if _is_existing(body) else "created"


def create_key(key: str, value: Any, *, is_encrypted: bool) -> Edit:
    def edit(document: DocumentId, body: Body | None) -> Draft:
        data = _data(body)
        present = node_at(data, key)
        if contains_key(data, key) and not (
            _is_own_value_only(value) and _is_section_without(present)
        ):
            raise _occupied_error(data, key, value, document)
        return Draft(
            _action_of_change(body), _with_key(data, key, value, is_encrypted=is_encrypted)
        )

    return edit


def _is_own_value_only(value: Any) -> bool:
    """Tell whether `value` is `{"$value": ...}`: what sets the value of a section."""
    return has_own_value(value) and len(value) == 1


def _is_section_without(present: Any) -> bool:
    return is_section(present) and OWN_VALUE not in present


def _occupied_error(
    data: Tree, key: str, value: Any, document: DocumentId
) -> KeyExists | KeyConflict:
    present = node_at(data, key)
    if _is_section_without(present) and not is_section(value):
        return KeyConflict(key, next(inner for inner, _ in leaves(present, key)))
    return KeyExists(key, str(document))


def replace_key(key: str, value: Any, *, is_encrypted: bool | None) -> Edit:
    def edit(document: DocumentId, body: Body | None) -> Draft:
        data = _data(body)
        if not contains_key(data, key):
            raise KeyNotFound(key, str(document))
        _refuse_other_shape(key, node_at(data, key), value)
        return Draft("updated", _with_key(data, key, value, is_encrypted=is_encrypted))

    return edit


def _refuse_other_shape(key: str, present: Any, value: Any) -> None:
    """A value does not become a section by being replaced, nor the other way round."""
    if _is_section_without(present) and not is_section(value) and value != {}:
        raise KeyConflict(key, next(inner for inner, _ in leaves(present, key)))
    if _is_section_without(value) and not is_section(present) and present != {}:
        raise KeyConflict(key, next(inner for inner, _ in leaves(sent_tree({key: value}))))


def _with_key(data: Tree, key: str, value: Any, *, is_encrypted: bool | None) -> Tree:
    sent = node_at(sent_tree({key: value}), key)
    present = node_at(data, key)
    leaf, spelled = leaf_key(data, key)
    if leaf != spelled:
        if is_section(sent):
            sent = value  # in lists, names are as they are written
        item = received_item(key, sent, present, is_encrypted=is_encrypted)
        return _with_item(data, key, item)
    return _with_replaced(data, key, _received_at(key, sent, present, is_encrypted=is_encrypted))


def received_item(key: str, sent: Any, present: Any, *, is_encrypted: bool | None) -> Any:
    """Turn what is sent for something in a list into what can be sealed and stored."""
    if is_encrypted is False and not is_secret(sent):
        present = None
    if is_section(sent):
        before = [present] if is_section(present) else []
        [item] = receive_leaf(key, [sent], before)
    else:
        item = receive_leaf(key, sent, present)
    return mark_for_sealing(item) if is_encrypted else item


def _with_item(data: Tree, key: str, item: Any) -> Tree:
    if contains_key(data, key):
        return with_change_at(data, key, lambda _: item)
    *outer, last = names_of(key)
    section = node_at(data, key_of(outer))
    if not isinstance(section, dict) or is_secret(section):
        raise KeyConflict(leaf_key(data, key)[0], key)
    return with_change_at(data, key_of(outer), lambda members: {**members, bare_name(last): item})


def _with_replaced(data: Tree, key: str, value: Any) -> Tree:
    """Put a value in the place of what is at a key.

    Of a section with a value of its own, a value replaces that and a section all the others.
    """
    present = node_at(data, key)
    if is_section(present) and _is_own_value_only(value):
        return with_change_at(data, key, lambda section: {**section, **value})
    if has_own_value(present) and not is_section(value) and value != {}:
        return with_change_at(data, key, lambda section: {**section, OWN_VALUE: value})
    if has_own_value(present):
        return with_change_at(data, key, lambda section: {OWN_VALUE: section[OWN_VALUE], **value})
    return _with_value(without_key(data, key), key, value)


def _received_at(key: str, sent: Any, present: Any, *, is_encrypted: bool | None) -> Any:
    if is_encrypted is False and not is_secret(sent) and not is_section(sent):
        return receive_leaf(key, sent, None)
    if is_section(sent):
        kept = {} if is_encrypted is False else _as_tree(key, present)
        tree = node_at(receive_tree(_as_tree(key, sent), kept), key)
    else:
        value = present[OWN_VALUE] if has_own_value(present) else present
        tree = receive_leaf(key, sent, value)
    return mark_for_sealing(tree) if is_encrypted else tree


def _as_tree(key: str, value: Any) -> Tree:
    tree: Tree = {}
    set_in(tree, key, value)
    return tree


def _with_value(data: Tree, key: str, value: Any) -> Tree:
    result = copy_sections(data)
    try:
        set_in(result, key, value)
    except KeysConflict as error:
        raise KeyConflict(error.outer, error.inner) from None
    return result


def remove_key(key: str) -> Edit:
    key = _removable_key(key)

    def edit(document: DocumentId, body: Body | None) -> Draft:
        data = _data(body)
        if not contains_key(data, key):
            raise KeyNotFound(key, str(document))
        _refuse_item(data, key)
        return Draft("updated", without_key(data, key))

    return edit


def _refuse_item(data: Tree, key: str) -> None:
    *outer, _ = names_of(key)
    if outer and isinstance(node_at(data, key_of(outer)), list):
        raise ListItem(key)


@dataclass(frozen=True, slots=True)
class Patch:
    """Many keys, one version: `unset` first, then `set`, then `encrypt` over the result."""

    set: Mapping[str, Any] = field(default_factory=dict)
    unset: tuple[str, ...] = ()
    encrypt: tuple[str, ...] = ()


def patch(changes: Patch, *, keep_both: bool = False) -> Edit:
    for key in changes.set:
        if not is_key(key):
            raise BadKey(key)
    unset, encrypt = map(_removable_key, changes.unset), map(checked_key, changes.encrypt)
    changes = replace(changes, unset=tuple(unset), encrypt=tuple(encrypt))
    additions = sent_tree(changes.set, keep_both=keep_both)

    def edit(document: DocumentId, body: Body | None) -> Draft:
        before = _data(body)
        data = copy_sections(
            before
        )  # changed in place: a copy for each of its keys would take seconds
        for key in changes.unset:
            if contains_key(data, key):
                _remove_in(data, key)
        _merge(data, receive_tree(additions, before), keep_both=keep_both)
        for key in changes.encrypt:
            if not contains_key(data, key):
                raise KeyNotFound(key, str(document))
            _seal_in(data, key)
        return Draft(_action_of_change(body), None if is_same(before, data) else data)

    return edit


def _merge(data: Tree, additions: Tree, *, keep_both: bool) -> None:
    try:
        merge_into(data, additions, keep_both=keep_both)
    except KeysConflict as error:
        raise KeyConflict(error.outer, error.inner) from None


def _remove_in(data: Tree, key: str) -> None:
    """Remove a key that is there, and the sections it leaves empty."""
    _refuse_item(data, key)
    _remove_at(data, names_of(key))


def _remove_at(data: Tree, names: Sequence[str]) -> None:
    name, *rest = names
    if rest and isinstance(data[name], list):
        data[name] = without_key({name: data[name]}, key_of(names))[name]
    elif rest:
        _remove_at(data[name], rest)
    if not rest or not data[name]:
        del data[name]


def _seal_in(data: Tree, key: str) -> None:
    name, *rest = names_of(key)
    while rest and not isinstance(data[name], list):
        data = data[name]
        name, *rest = rest
    # A list is shared with the version before it.
    data[name] = with_change_at({name: data[name]}, key_of([name, *rest]), mark_for_sealing)[name]


def merge_in(additions: Tree) -> Edit:
    """Import: set what the file names, leave the rest; nothing new means no new version."""
    return patch(Patch(set=additions), keep_both=True)


def create_document(members: Mapping[str, Any]) -> Edit:
    tree = sent_tree(members)

    def edit(document: DocumentId, body: Body | None) -> Draft:
        if _is_existing(body):
            raise DocumentExists(str(document))
        return Draft("created", receive_tree(tree, {}))

    return edit


def replace_document(members: Mapping[str, Any]) -> Edit:
    tree = sent_tree(members)

    def edit(document: DocumentId, body: Body | None) -> Draft:
        if not _is_existing(body):
            raise DocumentNotFound(str(document))
        return Draft("updated", receive_tree(tree, _data(body)))

    return edit


def delete_document(document: DocumentId, body: Body | None) -> Draft:
    if not _is_existing(body):
        raise DocumentNotFound(str(document))
    return Draft("deleted", {}, deleted=True)


def write_tombstone(_: DocumentId, __: Body | None) -> Draft:
    """Write the tombstone over a version that was deleted in the store itself."""
    return Draft("external", {}, deleted=True)


def restore_document(old: Body) -> Edit:
    def edit(document: DocumentId, body: Body | None) -> Draft:
        if old.deleted:
            raise VersionIsDeletion(str(document), old.version)
        return Draft("rolled_back", _resealed_data(old, body))

    return edit


def restore_key(key: str, old: Body) -> Edit:
    def edit(document: DocumentId, body: Body | None) -> Draft:
        if not contains_key(old.data, key):
            raise KeyNotFound(key, f"version {old.version} of {document}")
        value, data = node_at(_resealed_data(old, body), key), _data(body)
        leaf, spelled = leaf_key(data, key)
        if leaf != spelled:
            return Draft("rolled_back", _with_item(data, key, value))
        was_in, was = leaf_key(old.data, key)
        if was_in != was:
            raise ListItem(key)
        if has_own_value(value) and is_section(node_at(data, key)):
            value = {OWN_VALUE: value[OWN_VALUE]}
        return Draft("rolled_back", _with_replaced(data, key, value))

    return edit


def _resealed_data(old: Body, current: Body | None) -> Tree:
    """Seal what was plain in `old` and has been a secret since: a rollback reveals nothing."""
    return old.data if current is None else reseal(old, current)


def key_facts(  # noqa: PLR0913 - what a version says of itself, and two bounds
    base: Body | None,
    data: Tree,
    version: int,
    actor: str,
    at_: str,
    keep: int,
    *,
    room: int = REMOVALS_ROOM,
) -> dict[str, KeyFact]:
    """Return for every key when it last changed, given the sealed data of the new version.

    `keep`: how many versions the store keeps; a key removed longer ago is forgotten. What is said
    of removed keys is bounded, see `removals`.
    """
    before = dict(base.keys) if base is not None else {}
    found = diff(_data(base), data)
    facts = {
        key: fact
        for key, fact in before.items()
        if not fact.removed or fact.version > version - keep
    }
    for key, value in (found.added | {k: new for k, (_, new) in found.changed.items()}).items():
        until, places = _secret_until(key, base, value)
        facts[key] = KeyFact(version, actor, at_, secret_until=until, places_until=places)
    for key in found.removed:
        until, places = _secret_until(key, base, None)
        facts[key] = KeyFact(
            version, actor, at_, removed=True, secret_until=until, places_until=places
        )
    return limit_removals(facts, room)


def _secret_until(key: str, base: Body | None, value: Any) -> tuple[int, Mapping[str, int]]:
    """Return up to which version a key was a secret, and places in the list that it was."""
    if base is None:
        return 0, {}
    present = value_at(base.data, key)
    earlier = base.keys.get(key)
    places = dict(earlier.places_until) if earlier is not None else {}
    places |= dict.fromkeys(secret_places(key, present), base.version)
    if len(places) > _MOST_PLACES:
        places = {key: max(places.values())}
    if is_secret(value):
        return 0, places
    if is_secret(present):
        return base.version, places
    return (earlier.secret_until if earlier is not None else 0), places
