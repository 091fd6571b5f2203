"""Secrets inside documents: storing, masking and receiving them. Pure.

A list is one leaf of a document, but parts of it may be secret. A *place* in a
list is a key without the numbers of items, such as `users[].password`: items move, so what was
ever a secret is remembered by its place.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.configs.errors import BadMember, NothingMasked
from app.configs.model import Body
from app.configs.removals import DROPPED
from pilothouse_core.diff import Diff, diff
from pilothouse_core.keys import join_item, join_key, join_member, names_of
from pilothouse_core.trees import (
    OWN_VALUE,
    SECRET,
    Tree,
    child_key,
    has_own_value,
    is_secret,
    is_section,
    leaf_key,
    leaves,
    map_leaves,
    scalars,
    value_at,
)

MASK = "masked"
_CIPHERTEXT = re.compile(r"(?:vault|aes256-gcm):v[0-9]+:[A-Za-z0-9+/=_-]+")
_FINGERPRINT = "fingerprint"
_ITEM = re.compile(r"\[[0-9]+\]")
RESERVED = frozenset({SECRET, OWN_VALUE})  # members that a document has no use for of its own


@dataclass(frozen=True, slots=True)
class ToSeal:
    """A plain value on its way into the cipher."""

    value: Any

    def __repr__(self) -> str:
        return "ToSeal(...)"  # a traceback or a log must not show what is to be sealed


def stored_secret(ciphertext: str, fingerprint: str) -> dict[str, str]:
    """Return the leaf that represents a secret in a stored document."""
    return {SECRET: ciphertext, _FINGERPRINT: fingerprint}


def mask_secrets(value: Any, *, fingerprints: bool) -> Any:
    """Return `value` with every stored secret in it replaced by the mask."""
    if is_secret(value):
        mask = {SECRET: MASK}
        if fingerprints and _FINGERPRINT in value:
            mask[_FINGERPRINT] = value[_FINGERPRINT]
        return mask
    if is_section(value):
        return {
            name: mask_secrets(inner, fingerprints=fingerprints) for name, inner in value.items()
        }
    if isinstance(value, list) and holds_secret(value):
        return [mask_secrets(item, fingerprints=fingerprints) for item in value]
    return value


def without_secrets(tree: Mapping[str, Any]) -> Tree:
    """Return `tree` without its secrets, and without the sections that held nothing else."""
    result: Tree = {}
    for name, value in tree.items():
        if is_section(value):
            inner = without_secrets(value)
            if inner:
                result[name] = inner
        elif not is_secret(value):
            result[name] = _leaf_without_secrets(value)
    return result


def _leaf_without_secrets(value: Any) -> Any:
    """Return what is in a leaf without its secrets."""
    if isinstance(value, list):
        return [_leaf_without_secrets(item) for item in value if not is_secret(item)]
    if is_section(value):
        return {n: _leaf_without_secrets(each) for n, each in value.items() if not is_secret(each)}
    return value


def find_bad_secret(data: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return the key of a stored secret that can never be opened, and the reason; None if all can.

    Only a write past this service stores one.
    """
    for key, value in all_values(data):
        if not is_secret(value):
            continue
        ciphertext = value[SECRET]
        if ciphertext == MASK:
            return key, "the secret is a mask instead of a ciphertext"
        if not value.keys() <= {SECRET, _FINGERPRINT}:
            return key, "a secret has other members than '$secret' and 'fingerprint'"
        if not isinstance(ciphertext, str) or not _CIPHERTEXT.fullmatch(ciphertext):
            return key, "'$secret' is not a ciphertext; set secrets through the API"
    bad = _find_bad_value(data)
    return None if bad is None else (bad, "'$value' must not be an object")


def _find_bad_value(data: Mapping[str, Any], prefix: str = "") -> str | None:
    for name, value in data.items():
        if is_section(value):
            key = child_key(prefix, name)
            if name == OWN_VALUE:
                return key
            bad = _find_bad_value(value, key)
            if bad is not None:
                return bad
        elif name == OWN_VALUE and not prefix:
            return OWN_VALUE
    return None


def holds_secret(value: Any) -> bool:
    if isinstance(value, list):
        return any(isinstance(item, dict | list) and holds_secret(item) for item in value)
    return is_secret(value) or (is_section(value) and any(map(holds_secret, value.values())))


def all_values(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (key, value) of every leaf and of every value inside lists."""
    for key, leaf in leaves(tree, prefix):
        if isinstance(leaf, list):
            yield from scalars(leaf, key)
        else:
            yield key, leaf


def place_of(key: str, leaf: str) -> str:
    """Return the place of what lies at `key` in the list at `leaf`; a leaf itself is its place."""
    return leaf + _ITEM.sub("[]", key[len(leaf) :])


def receive_tree(tree: Mapping[str, Any], current: Mapping[str, Any], prefix: str = "") -> Tree:
    """Turn a tree as a client sends it into one that can be sealed and stored.

    A mask keeps the secret of `current`, `{"$secret": {"value": ..}}` is sealed, a plain value
    where `current` has a secret is sealed too. Raises BadMember and NothingMasked.
    """
    result: Tree = {}
    for name, value in tree.items():
        key = child_key(prefix, name)
        if name in RESERVED and (name != OWN_VALUE or not prefix or is_section(value)):
            raise BadMember(key)
        if is_section(value):
            result[name] = receive_tree(value, current, key)
        else:
            result[name] = receive_leaf(key, value, value_at(current, key))
    return result


def receive_leaf(key: str, value: Any, present: Any) -> Any:
    """The same for one leaf; `present` is what the layer holds at `key`."""
    if is_secret(value):
        return _receive_secret(key, value, present)
    if isinstance(value, list):
        leaf = _receive_list(key, value, present if isinstance(present, list) else [])
        return mark_for_sealing(leaf) if is_secret(present) else _sealing_places(key, leaf, present)
    refuse_reserved(key, value)
    return ToSeal(value) if is_secret(present) else value


def _sealing_places(key: str, items: list[Any], present: Any) -> Any:
    """Mark what is sent plainly where items of the present list have a secret."""
    secret = secret_places(key, present)
    if not secret:
        return items

    def change(inner: str, value: Any) -> Any:
        is_plain = not is_secret(value) and not isinstance(value, ToSeal)
        return ToSeal(value) if is_plain and place_of(inner, key) in secret else value

    return map_items(items, key, change)


def _receive_secret(key: str, value: Mapping[str, Any], present: Any) -> Any:
    match value.get(SECRET):
        case "masked" if value.keys() <= {SECRET, _FINGERPRINT}:
            if not is_secret(present):
                raise NothingMasked(key)
            return present
        case {"value": plain, **others} if not others and len(value) == 1:
            refuse_reserved(key, plain)
            return ToSeal(plain)
    raise BadMember(key)


def _receive_list(key: str, items: Sequence[Any], present: Sequence[Any]) -> list[Any]:
    """Receive a list in which secrets may lie.

    A mask in an item keeps the secret of the item that it was shown in: the one that looks the
    same, at any position. One that looks like none of them is the item at its position if only that
    one was changed. Otherwise the secret cannot be identified, and NothingMasked is raised.
    """
    if not holds_secret(list(items)):
        refuse_reserved(key, items)
        return list(items)
    shown = [_appearance(mask_secrets(item, fingerprints=False)) for item in present]
    sent = [_appearance(_without_fingerprints(item)) for item in items]
    changed = [at for at, looks in enumerate(shown) if at >= len(sent) or sent[at] != looks]
    # Then items that look the same are still identified by their position.
    is_in_place = len(sent) == len(shown) or not changed
    alike = {looks: at for at, looks in enumerate(shown)}
    counts = Counter(shown)
    counts_sent = Counter(sent)
    result = []
    for index, item in enumerate(items):
        before = None
        looks = sent[index]
        if not _holds_mask(item):
            pass
        elif is_in_place and index < len(shown) and (shown[index] == looks or changed == [index]):
            before = present[index]
        elif counts[looks] == counts_sent[looks] == 1:
            before = present[alike[looks]]
        result.append(_receive_item(join_item(key, index), item, before))
    return result


def _appearance(item: Any) -> str:
    return json.dumps(item, sort_keys=True)


def _without_fingerprints(value: Any) -> Any:
    """Return what is sent without its fingerprints; a secret that is set looks like none."""
    if is_secret(value):
        return {SECRET: MASK} if value[SECRET] == MASK else {SECRET: None}
    if isinstance(value, dict):
        return {name: _without_fingerprints(inner) for name, inner in value.items()}
    return [_without_fingerprints(item) for item in value] if isinstance(value, list) else value


def _holds_mask(value: Any) -> bool:
    if is_secret(value):
        return bool(value[SECRET] == MASK)
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(map(_holds_mask, inner))


def _receive_item(key: str, item: Any, present: Any) -> Any:
    if is_secret(item):
        return _receive_secret(key, item, present)
    if isinstance(item, list):
        return _receive_list(key, item, present if isinstance(present, list) else [])
    if is_section(item):
        if not RESERVED.isdisjoint(item):
            raise BadMember(key)
        before = present if is_section(present) else {}
        return {
            name: _receive_item(join_member(key, name), inner, before.get(name))
            for name, inner in item.items()
        }
    return item


def refuse_reserved(key: str, value: Any) -> None:
    """Raise BadMember if any object inside `value` has a member that has a meaning here."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name in RESERVED:
                raise BadMember(key)
            refuse_reserved(key, inner)
    elif isinstance(value, list):
        for inner in value:
            refuse_reserved(key, inner)


def mark_for_sealing(value: Any) -> Any:
    """Mark every plain leaf for the cipher; what is sealed already stays as it is.

    A list is one leaf, unless secrets lie in it: then each of its values is.
    """
    if is_section(value) or (isinstance(value, list) and _holds_sealed(value)):
        return _mark_each_for_sealing(value)
    return value if isinstance(value, ToSeal) or is_secret(value) else ToSeal(value)


def _mark_each_for_sealing(value: Any) -> Any:
    if is_section(value):
        return {name: mark_for_sealing(inner) for name, inner in value.items()}
    return [mark_for_sealing(item) for item in value]


def _holds_sealed(value: Any) -> bool:
    if isinstance(value, ToSeal) or is_secret(value):
        return True
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(map(_holds_sealed, inner))


def values_to_seal(tree: Mapping[str, Any]) -> Iterator[tuple[str, str, ToSeal]]:
    """Yield the key, the place and the value of all that is to be sealed."""
    for key, leaf in leaves(tree):
        for inner, value in scalars(leaf, key) if isinstance(leaf, list) else ((key, leaf),):
            if isinstance(value, ToSeal):
                yield inner, place_of(inner, key), value


def put_sealed(value: Any, sealed: Iterator[Any]) -> Any:
    """Return `value` with what was sealed, in the order of `values_to_seal`, where it is to be."""
    if isinstance(value, ToSeal):
        return next(sealed)
    if isinstance(value, list):
        return [put_sealed(item, sealed) for item in value]
    if is_section(value):
        return {name: put_sealed(inner, sealed) for name, inner in value.items()}
    return value


def readable_values(data: Mapping[str, Any], below: str = "") -> Iterator[tuple[str, str, Any]]:
    """Yield key, leaf key and value of everything that a read of `below` returns."""
    if not below:
        pairs = leaves(data)
    else:
        leaf, key = leaf_key(data, below)
        value = value_at(data, below)
        if leaf != key:
            yield from ((inner, leaf, each) for inner, each in scalars(value, key))
            return
        pairs = leaves(value, key) if is_section(value) else iter([(key, value)])
    for key, value in pairs:
        if isinstance(value, list):
            yield from ((inner, key, each) for inner, each in scalars(value, key))
        else:
            yield key, key, value


@dataclass(frozen=True, slots=True)
class Protection:
    """Up to which version each key was a secret.

    `own`: the key itself; `covering`: the key with all that lay below it; `below`: something below
    it; `places`: something in the list at a key, by places.
    `everything`: up to which version some key was of which nothing else is remembered.
    """

    own: Mapping[str, int]
    covering: Mapping[str, int]
    below: Mapping[str, int]
    places: Mapping[str, Mapping[str, int]]
    everything: int = 0

    @property
    def is_needed(self) -> bool:
        return bool(self.own) or bool(self.places) or self.everything > 0

    def hides(self, key: str, version: int) -> bool:
        """Tell whether the plain value `key` had in `version` became a secret since."""
        if max(self.everything, self.below.get(key, 0), self.own.get(key, 0)) >= version:
            return True
        return any(self.covering.get(above, 0) >= version for above in _with_sections(key))

    def hides_in_list(self, leaf: str, key: str, version: int) -> bool:
        """The same for what lies at `key` in the list at `leaf`; items may have moved since."""
        place = place_of(key, leaf)
        return any(
            until >= version
            and (place == secret or _is_inside(place, secret) or _is_inside(secret, place))
            for secret, until in self.places.get(leaf, {}).items()
        )


def _is_inside(place: str, other: str) -> bool:
    return place.startswith(other) and place[len(other) : len(other) + 1] in {".", "["}


def protection(current: Body) -> Protection:
    own = {key: fact.secret_until for key, fact in current.keys.items() if fact.secret_until}
    everything = own.pop(DROPPED, 0)
    places = {key: dict(fact.places_until) for key, fact in current.keys.items()}
    for key, value in leaves(current.data):
        if is_secret(value):
            own[key] = current.version
        elif item_places := secret_places(key, value):
            places.setdefault(key, {}).update(dict.fromkeys(item_places, current.version))
    places = {key: versions for key, versions in places.items() if versions}
    both = frozenset(_sections_with_value(current.data))
    covering = {key: until for key, until in own.items() if key not in both}
    in_lists = {key: max(versions.values()) for key, versions in places.items()}
    return Protection(own, covering, _below(own, in_lists, both), places, everything)


def _below(
    own: Mapping[str, int], in_lists: Mapping[str, int], both: frozenset[str]
) -> dict[str, int]:
    """Return up to which version something below each key was a secret.

    A key's own value and the values below the key were never the same secret.
    """
    below: dict[str, int] = {}
    for versions, is_key_itself in ((own, True), (in_lists, False)):
        for key, until in versions.items():
            for section in _with_sections(key):
                if section not in both and (is_key_itself or section != key):
                    below[section] = max(until, below.get(section, 0))
    return below


def secret_places(key: str, leaf: Any) -> frozenset[str]:
    """Return the places of the secrets in the list at `key`."""
    if not isinstance(leaf, list) or not holds_secret(leaf):
        return frozenset()
    inside = scalars(leaf, key)
    return frozenset(place_of(inner, key) for inner, value in inside if is_secret(value))


def _sections_with_value(tree: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield the keys of sections that also have a value of their own."""
    for name, value in tree.items():
        if is_section(value):
            key = child_key(prefix, name)
            if has_own_value(value):
                yield key
            yield from _sections_with_value(value, key)


def _with_sections(key: str) -> Iterator[str]:
    section = ""
    for name in names_of(key):
        section = join_key(section, name)
        yield section


def mask_history(body: Body, current: Body, *, fingerprints: bool) -> Tree:
    """Return an old version's data as it may be shown today.

    Once a key is a secret its earlier plain values are masked too, also where the secret now is
    a section of the key or lies below it.
    """
    return mask_section_of_version(
        body.data, body.version, protection(current), fingerprints=fingerprints
    )


def mask_section_of_version(
    data: Tree, version: int, protected: Protection, *, fingerprints: bool, prefix: str = ""
) -> Tree:
    """The same for what one section, at `prefix`, held in a version."""
    return map_leaves(
        data,
        lambda key, leaf: mask_leaf_of_version(
            key, leaf, version, protected, fingerprints=fingerprints
        ),
        prefix,
    )


def mask_leaf_of_version(
    key: str, value: Any, version: int, protected: Protection, *, fingerprints: bool
) -> Any:
    """The same for one leaf."""
    if not is_secret(value) and protected.hides(key, version):
        return {SECRET: MASK}
    if isinstance(value, list) and key in protected.places:
        hidden_keys = set(_hidden_items(key, value, version, protected))
        value = map_items(
            value, key, lambda inner, item: {SECRET: MASK} if inner in hidden_keys else item
        )
    return mask_secrets(value, fingerprints=fingerprints)


def _hidden_items(
    key: str, items: Sequence[Any], version: int, protected: Protection
) -> Iterator[str]:
    for inner, value in scalars(items, key):
        if not is_secret(value) and protected.hides_in_list(key, inner, version):
            yield inner


def map_items(value: Any, key: str, change: Any) -> Any:
    """Return a copy of a list in which each value is what `change(key, value)` returns."""
    if isinstance(value, list) and value:
        return [map_items(item, join_item(key, index), change) for index, item in enumerate(value)]
    if is_section(value):
        return {
            name: map_items(inner, join_member(key, name), change) for name, inner in value.items()
        }
    return change(key, value)


def hidden_keys(body: Body, current: Body) -> frozenset[str]:
    """Return the keys whose plain values in an old version `mask_history` masks."""
    protected = protection(current)
    keys: set[str] = set()
    for key, value in leaves(body.data):
        if is_secret(value):
            continue
        if protected.hides(key, body.version):
            keys.add(key)
        elif isinstance(value, list):
            keys.update(_hidden_items(key, value, body.version, protected))
    return frozenset(keys)


def reseal(data: Tree, version: int, current: Body) -> Tree:
    """Mark for the cipher what was plain in a version's data and has been a secret since."""
    protected = protection(current)

    def change(key: str, leaf: Any) -> Any:
        if is_secret(leaf):
            return leaf
        if protected.hides(key, version):
            return mark_for_sealing(leaf)
        if isinstance(leaf, list) and key in protected.places:
            hidden_keys = set(_hidden_items(key, leaf, version, protected))
            return map_items(
                leaf, key, lambda inner, item: ToSeal(item) if inner in hidden_keys else item
            )
        return leaf

    return map_leaves(data, change)


def masked_diff(before: Body, after: Body, current: Body) -> Diff:
    """Compare what is stored, then show only what may be shown: a changed secret is named."""
    difference = diff(before.data, after.data)
    old, new = _visible_leaves(before, current), _visible_leaves(after, current)
    return Diff(
        added={key: new[key] for key in difference.added},
        removed={key: old[key] for key in difference.removed},
        changed={key: (old[key], new[key]) for key in difference.changed},
    )


def _visible_leaves(body: Body, current: Body) -> dict[str, Any]:
    return dict(leaves(mask_history(body, current, fingerprints=False)))
