"""Secrets inside documents: what is stored, what is shown, what may be sent back. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from app.configs.errors import BadMember, NothingMasked
from app.configs.model import Body
from pilothouse_core.diff import Diff, diff
from pilothouse_core.trees import SECRET, Tree, at, is_secret, is_section, joined, leaves

MASK = "masked"
_FINGERPRINT = "fingerprint"


@dataclass(frozen=True, slots=True)
class ToSeal:
    """A plain value on its way into the cipher."""

    value: Any

    def __repr__(self) -> str:
        return "ToSeal(...)"  # a traceback or a log must not show what is to be sealed


def stored(ciphertext: str, fingerprint: str) -> dict[str, str]:
    """Return the leaf that stands in a stored document for a secret."""
    return {SECRET: ciphertext, _FINGERPRINT: fingerprint}


def masked(value: Any, *, fingerprints: bool) -> Any:
    """Return `value` with every stored secret in it replaced by the mask."""
    if is_secret(value):
        mask = {SECRET: MASK}
        if fingerprints and _FINGERPRINT in value:
            mask[_FINGERPRINT] = value[_FINGERPRINT]
        return mask
    if is_section(value):
        return {name: masked(inner, fingerprints=fingerprints) for name, inner in value.items()}
    return value


def holds_secret(value: Any) -> bool:
    return is_secret(value) or (is_section(value) and any(map(holds_secret, value.values())))


def received(tree: Mapping[str, Any], current: Mapping[str, Any], prefix: str = "") -> Tree:
    """Turn a tree as a client sends it into one that can be sealed and stored.

    A mask keeps the secret of `current`, `{"$secret": {"value": ..}}` is sealed, a plain value
    where `current` has a secret is sealed too. Raises BadMember and NothingMasked.
    """
    result: Tree = {}
    for name, value in tree.items():
        key = joined(prefix, name)
        if is_section(value):
            result[name] = received(value, current, key)
        else:
            result[name] = received_leaf(key, value, at(current, key))
    return result


def received_leaf(key: str, value: Any, present: Any) -> Any:
    """The same for one leaf; `present` is what the layer holds at `key`."""
    if is_secret(value):
        return _received_secret(key, value, present)
    refuse_reserved(key, value)
    return ToSeal(value) if is_secret(present) else value


def _received_secret(key: str, value: Mapping[str, Any], present: Any) -> Any:
    match value.get(SECRET):
        case "masked" if value.keys() <= {SECRET, _FINGERPRINT}:
            if not is_secret(present):
                raise NothingMasked(key)
            return present
        case {"value": plain, **others} if not others and len(value) == 1:
            refuse_reserved(key, plain)
            return ToSeal(plain)
    raise BadMember(key)


def refuse_reserved(key: str, value: Any) -> None:
    """Raise BadMember if any object inside `value` has a member that starts with `$`."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name.startswith("$"):
                raise BadMember(key)
            refuse_reserved(key, inner)
    elif isinstance(value, list):
        for inner in value:
            refuse_reserved(key, inner)


def to_seal(tree: Mapping[str, Any]) -> Iterator[tuple[str, ToSeal]]:
    return ((key, value) for key, value in leaves(tree) if isinstance(value, ToSeal))


@dataclass(frozen=True, slots=True)
class Protection:
    """Up to which version each key was a secret, itself (`own`) or something in it (`below`)."""

    own: Mapping[str, int]
    below: Mapping[str, int]

    def hides(self, key: str, version: int) -> bool:
        """Tell whether the plain value `key` had in `version` became a secret since."""
        if self.below.get(key, 0) >= version:
            return True
        return any(self.own.get(above, 0) >= version for above in _with_sections(key))


def protection(current: Body) -> Protection:
    own = {key: fact.secret_until for key, fact in current.keys.items() if fact.secret_until}
    own |= {key: current.version for key, value in leaves(current.data) if is_secret(value)}
    below: dict[str, int] = {}
    for key, until in own.items():
        for section in _with_sections(key):
            below[section] = max(until, below.get(section, 0))
    return Protection(own, below)


def _with_sections(key: str) -> Iterator[str]:
    names = key.split(".")
    return (".".join(names[:depth]) for depth in range(1, len(names) + 1))


def mask_history(body: Body, current: Body, *, fingerprints: bool) -> Tree:
    """Return an old version's data as it may be shown today.

    Once a key is a secret its earlier plain values are masked too, also where the secret now is
    a section of the key or lies below it.
    """
    return shown_then(body.data, body.version, protection(current), fingerprints=fingerprints)


def shown_then(
    data: Tree, version: int, protected: Protection, *, fingerprints: bool, prefix: str = ""
) -> Tree:
    """The same for what one section, at `prefix`, held in a version."""
    shown: Tree = {}
    for name, value in data.items():
        key = joined(prefix, name)
        if is_section(value):
            shown[name] = shown_then(
                value, version, protected, fingerprints=fingerprints, prefix=key
            )
        else:
            shown[name] = leaf_then(key, value, version, protected, fingerprints=fingerprints)
    return shown


def leaf_then(
    key: str, value: Any, version: int, protected: Protection, *, fingerprints: bool
) -> Any:
    """The same for one leaf."""
    if not is_secret(value) and protected.hides(key, version):
        return {SECRET: MASK}
    return masked(value, fingerprints=fingerprints)


def hidden(body: Body, current: Body) -> frozenset[str]:
    """Return the keys whose plain values in an old version `mask_history` masks."""
    protected = protection(current)
    return frozenset(
        key
        for key, value in leaves(body.data)
        if not is_secret(value) and protected.hides(key, body.version)
    )


def masked_diff(before: Body, after: Body, current: Body) -> Diff:
    """Compare what is stored, then show only what may be shown: a changed secret is named."""
    found = diff(before.data, after.data)
    old, new = _shown_leaves(before, current), _shown_leaves(after, current)
    return Diff(
        added={key: new[key] for key in found.added},
        removed={key: old[key] for key in found.removed},
        changed={key: (old[key], new[key]) for key in found.changed},
    )


def _shown_leaves(body: Body, current: Body) -> dict[str, Any]:
    return dict(leaves(mask_history(body, current, fingerprints=False)))
