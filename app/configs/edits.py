"""What an edit makes of a document's data. Pure: trees in, trees out; secrets still to be sealed.

An edit is a function of the version it is based on, so that a write that lost a race is simply
computed again.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from app.changes.model import Action
from app.configs.errors import (
    BadKey,
    DocumentExists,
    DocumentNotFound,
    KeyConflict,
    KeyExists,
    KeyNotFound,
    VersionIsDeletion,
)
from app.configs.model import Body, DocumentId, Finding, KeyFact
from app.configs.secrets import ToSeal, protection, received, received_leaf, refuse_reserved
from pilothouse_core.diff import diff
from pilothouse_core.names import is_key
from pilothouse_core.trees import (
    BadKey as BadTreeKey,
)
from pilothouse_core.trees import (
    KeysConflict,
    Tree,
    at,
    copied,
    expanded,
    graft,
    has,
    is_secret,
    is_section,
    leaves,
    without,
)


@dataclass(frozen=True, slots=True)
class Draft:
    """The data a write wants to store, or None when there is nothing to change."""

    action: Action
    data: Tree | None
    deleted: bool = False
    findings: tuple[Finding, ...] = ()


Edit = Callable[[DocumentId, Body | None], Draft]
"""Raises the feature's errors; the body is None where there never was a document."""


def checked_key(key: str) -> str:
    if not is_key(key):
        raise BadKey(key)
    return key


def tree_of(members: Mapping[str, Any]) -> Tree:
    """Expand dotted names, or raise BadKey or KeyConflict."""
    try:
        return expanded(members)
    except BadTreeKey as error:
        raise BadKey(error.key) from None
    except KeysConflict as error:
        raise KeyConflict(error.outer, error.inner) from None


def _data(body: Body | None) -> Tree:
    return body.data if body is not None else {}


def _exists(body: Body | None) -> bool:
    return body is not None and not body.deleted


def _changing(body: Body | None) -> Action:
    return "updated" if _exists(body) else "created"


def create_key(key: str, value: Any, *, is_encrypted: bool) -> Edit:
    def edit(document: DocumentId, body: Body | None) -> Draft:
        data = _data(body)
        if has(data, key):
            raise _occupied(data, key, value, document)
        return Draft(_changing(body), _with_key(data, key, value, is_encrypted=is_encrypted))

    return edit


def _occupied(data: Tree, key: str, value: Any, document: DocumentId) -> KeyExists | KeyConflict:
    present = at(data, key)
    if is_section(present) and not is_section(value):
        return KeyConflict(key, next(inner for inner, _ in leaves(present, key)))
    return KeyExists(key, str(document))


def replace_key(key: str, value: Any, *, is_encrypted: bool | None) -> Edit:
    def edit(document: DocumentId, body: Body | None) -> Draft:
        data = _data(body)
        if not has(data, key):
            raise KeyNotFound(key, str(document))
        _refuse_other_shape(key, at(data, key), value)
        return Draft("updated", _with_key(data, key, value, is_encrypted=is_encrypted))

    return edit


def _refuse_other_shape(key: str, present: Any, value: Any) -> None:
    """A value does not become a section by being replaced, nor the other way round."""
    if is_section(present) and not is_section(value) and value != {}:
        raise KeyConflict(key, next(inner for inner, _ in leaves(present, key)))
    if is_section(value) and not is_section(present) and present != {}:
        raise KeyConflict(key, next(inner for inner, _ in leaves(tree_of({key: value}))))


def _with_key(data: Tree, key: str, value: Any, *, is_encrypted: bool | None) -> Tree:
    sent = at(tree_of({key: value}), key)
    leaf = _received_at(key, sent, at(data, key), is_encrypted=is_encrypted)
    return _grafted(without(data, key), key, leaf)


def _received_at(key: str, sent: Any, present: Any, *, is_encrypted: bool | None) -> Any:
    if is_encrypted is False and not is_secret(sent) and not is_section(sent):
        refuse_reserved(key, sent)
        return sent
    if is_section(sent):
        kept = {} if is_encrypted is False else _as_tree(key, present)
        tree = at(received(_as_tree(key, sent), kept), key)
    else:
        tree = received_leaf(key, sent, present)
    return _sealing(tree) if is_encrypted else tree


def _as_tree(key: str, value: Any) -> Tree:
    tree: Tree = {}
    graft(tree, key, value)
    return tree


def _sealing(value: Any) -> Any:
    """Mark every plain leaf for the cipher; what is sealed already stays as it is."""
    if is_section(value):
        return {name: _sealing(inner) for name, inner in value.items()}
    return value if isinstance(value, ToSeal) or is_secret(value) else ToSeal(value)


def _grafted(data: Tree, key: str, value: Any) -> Tree:
    result = copied(data)
    _graft(result, key, value)
    return result


def _graft(data: Tree, key: str, value: Any) -> None:
    try:
        graft(data, key, value)
    except KeysConflict as error:
        raise KeyConflict(error.outer, error.inner) from None


def remove_key(key: str) -> Edit:
    def edit(document: DocumentId, body: Body | None) -> Draft:
        if not has(_data(body), key):
            raise KeyNotFound(key, str(document))
        return Draft("updated", without(_data(body), key))

    return edit


@dataclass(frozen=True, slots=True)
class Patch:
    """Many keys, one version: `unset` first, then `set`, then `encrypt` over the result."""

    set: Mapping[str, Any] = field(default_factory=dict)
    unset: tuple[str, ...] = ()
    encrypt: tuple[str, ...] = ()


def patch(changes: Patch) -> Edit:
    for key in (*changes.set, *changes.unset, *changes.encrypt):
        checked_key(key)
    additions = tree_of(changes.set)

    def edit(document: DocumentId, body: Body | None) -> Draft:
        before = _data(body)
        data = copied(before)  # changed in place: a copy for each of its keys would take seconds
        for key in changes.unset:
            if has(data, key):
                _drop(data, key)
        for key, leaf in leaves(received(additions, before)):
            _graft(data, key, leaf)
        for key in changes.encrypt:
            if not has(data, key):
                raise KeyNotFound(key, str(document))
            _seal(data, key)
        return Draft(_changing(body), data if diff(before, data) else None)

    return edit


def _drop(data: Tree, key: str) -> None:
    """Remove a key that is there, and the sections it leaves empty."""
    name, _, rest = key.partition(".")
    if rest:
        _drop(data[name], rest)
    if not rest or not data[name]:
        del data[name]


def _seal(data: Tree, key: str) -> None:
    name, _, rest = key.partition(".")
    if rest:
        _seal(data[name], rest)
    else:
        data[name] = _sealing(data[name])


def merge_in(additions: Tree) -> Edit:
    """Import: set what the file names, leave the rest; nothing new means no new version."""
    return patch(Patch(set=additions))


def create_document(members: Mapping[str, Any]) -> Edit:
    tree = tree_of(members)

    def edit(document: DocumentId, body: Body | None) -> Draft:
        if _exists(body):
            raise DocumentExists(str(document))
        return Draft("created", received(tree, {}))

    return edit


def replace_document(members: Mapping[str, Any]) -> Edit:
    tree = tree_of(members)

    def edit(document: DocumentId, body: Body | None) -> Draft:
        if not _exists(body):
            raise DocumentNotFound(str(document))
        return Draft("updated", received(tree, _data(body)))

    return edit


def delete_document(document: DocumentId, body: Body | None) -> Draft:
    if not _exists(body):
        raise DocumentNotFound(str(document))
    return Draft("deleted", {}, deleted=True)


def bury(_: DocumentId, __: Body | None) -> Draft:
    """Write the tombstone over a version that somebody deleted in the store itself."""
    return Draft("external", {}, deleted=True)


def restore_document(old: Body) -> Edit:
    def edit(document: DocumentId, body: Body | None) -> Draft:
        if old.deleted:
            raise VersionIsDeletion(str(document), old.version)
        return Draft("rolled_back", _protected(old.data, old, body))

    return edit


def restore_key(key: str, old: Body) -> Edit:
    def edit(document: DocumentId, body: Body | None) -> Draft:
        if not has(old.data, key):
            raise KeyNotFound(key, f"version {old.version} of {document}")
        value = at(_protected(old.data, old, body), key)
        data = _data(body)
        return Draft("rolled_back", _grafted(without(data, key), key, value))

    return edit


def _protected(data: Tree, old: Body, current: Body | None) -> Tree:
    """Seal what was plain in `old` and has been a secret since: a rollback reveals nothing."""
    if current is None:
        return data
    protected = protection(current)
    result: Tree = {}
    for key, value in leaves(data):
        plain = not is_secret(value) and protected.hides(key, old.version)
        graft(result, key, ToSeal(value) if plain else value)
    return result


def key_facts(
    base: Body | None, data: Tree, version: int, actor: str, at_: str, keep: int
) -> dict[str, KeyFact]:
    """Return for every key when it last changed, given the sealed data of the new version.

    `keep`: how many versions the store keeps; a key removed longer ago is forgotten.
    """
    before = dict(base.keys) if base is not None else {}
    found = diff(_data(base), data)
    facts = {
        key: fact
        for key, fact in before.items()
        if not fact.removed or fact.version > version - keep
    }
    for key, value in (found.added | {k: new for k, (_, new) in found.changed.items()}).items():
        facts[key] = KeyFact(version, actor, at_, secret_until=_secret_until(key, base, value))
    for key in found.removed:
        until = _secret_until(key, base, None)
        facts[key] = KeyFact(version, actor, at_, removed=True, secret_until=until)
    return facts


def _secret_until(key: str, base: Body | None, value: Any) -> int:
    if base is None or is_secret(value):
        return 0
    if is_secret(at(base.data, key)):
        return base.version
    earlier = base.keys.get(key)
    return earlier.secret_until if earlier is not None else 0
