"""Read models of keys and documents, and their ETags."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from app.configs.documents.candidates import ReleaseArm
from app.configs.documents.effective import Effective
from app.configs.errors import KeyNotFound
from app.configs.model import Body, DocumentId
from app.configs.secrets import holds_secret
from pilothouse_core.keys import is_below, join_item, join_member
from pilothouse_core.placeholders import Outcome
from pilothouse_core.trees import (
    child_key,
    contains_key,
    has_children,
    has_own_value,
    is_section,
    leaf_key,
    node_at,
    value_at,
)

_FINGERPRINTS = "-f"
NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class UsedPlaceholder:
    """The replacement of a placeholder: a value and its layer, a default, or nothing."""

    name: str
    outcome: Outcome
    key: str | None
    source: DocumentId | None


@dataclass(frozen=True, slots=True)
class KeyAnswer:
    """A key's stored value; secrets in it are still ciphertext until `masked` or revealed.

    `has_children`: it is the value that a section has of its own, and further keys lie below.
    """

    key: str
    value: Any
    addressed: DocumentId
    source: DocumentId
    version: int
    updated_at: str
    updated_by: str
    tag: str
    revision: int
    has_children: bool = False
    placeholders: Sequence[UsedPlaceholder] = ()
    release: ReleaseArm | None = None

    @property
    def is_encrypted(self) -> bool:
        return holds_secret(self.value)


def tag_of(
    addressed: DocumentId,
    layers: Iterable[tuple[DocumentId, int]],
    form: str = "json",
    *,
    fingerprints: bool = False,
) -> str:
    """Digest the contributing versions; the number before the dash is the addressed layer's.

    `If-Match` compares that number, so that a tag from any read can guard a write. An answer with
    fingerprints has another tag than the one without, which most callers get.
    """
    seed = form + _FINGERPRINTS * fingerprints
    digest = hashlib.blake2b(seed.encode(), digest_size=9)
    own = 0
    for layer, version in layers:
        digest.update(f"\0{layer.path}\0{version}".encode())
        own = version if layer == addressed else own
    return f"{own}-{digest.hexdigest()}"


def layer_tag_of(version: int, *, fingerprints: bool) -> str:
    """Tag one version of one layer, by the same rule."""
    return f"{version}{_FINGERPRINTS * fingerprints}"


def in_effective(effective: Effective, key: str, tag: str) -> KeyAnswer:
    """Answer a key of the merged configuration, or raise KeyNotFound."""
    data = effective.merged.data
    if not contains_key(data, key):
        raise KeyNotFound(key, str(effective.addressed))
    source = source_of(effective, key)
    answer = _answer(
        effective.addressed,
        source,
        key,
        data,
        effective.bodies[source],
        tag=tag,
        revision=effective.revision,
        stored=effective.stored,
    )
    return answer if effective.release is None else replace(answer, release=effective.release)


def source_of(effective: Effective, key: str) -> DocumentId:
    """Return the layer of a leaf; of a section, the highest layer that contributes to it."""
    leaf, _ = leaf_key(effective.merged.data, key)
    exact = effective.merged.sources.get(leaf)
    if exact is not None:
        return exact
    contributing = {
        layer for name, layer in effective.merged.sources.items() if is_below(name, key)
    }
    return next(layer for layer, _ in reversed(effective.layers) if layer in contributing)


def in_layer(document: DocumentId, body: Body, key: str, *, tag: str, revision: int) -> KeyAnswer:
    """Answer a key of one version of one layer, or raise KeyNotFound."""
    if not contains_key(body.data, key):
        raise KeyNotFound(key, str(document))
    return _answer(document, document, key, body.data, body, tag=tag, revision=revision)


def _answer(  # noqa: PLR0913 - the facts of one answer
    addressed: DocumentId,
    source: DocumentId,
    key: str,
    data: Mapping[str, Any],
    body: Body,
    *,
    tag: str,
    revision: int,
    stored: Mapping[str, str] = NOTHING,
) -> KeyAnswer:
    leaf, spelled = leaf_key(data, key)
    version, when, actor = last_change(body, stored.get(leaf, leaf))
    return KeyAnswer(
        spelled,
        value_at(data, key),
        addressed,
        source,
        version,
        when,
        actor,
        tag,
        revision,
        has_children=leaf == spelled and has_children(node_at(data, key)),
    )


def last_change(body: Body, key: str) -> tuple[int, str, str]:
    """Return version, time and actor of the last change of a key or of anything below it."""
    fact = body.keys.get(key)
    if fact is not None and not fact.removed:
        return fact.version, fact.at, fact.actor
    return changed_below(body, key) or (body.version, body.change.at, body.change.actor)


def changed_below(body: Body, key: str) -> tuple[int, str, str] | None:
    """The same counting removals, None if the key never was: what a history goes by.

    Of a section with a value of its own, what counts is that value.
    """
    key, _ = leaf_key(body.data, key)
    own = body.keys.get(key) if has_own_value(node_at(body.data, key)) else None
    if own is not None:
        return own.version, own.at, own.actor
    facts = [fact for name, fact in body.keys.items() if name == key or is_below(name, key)]
    if not facts:
        return None
    newest = max(facts, key=lambda fact: fact.version)
    return newest.version, newest.at, newest.actor


def with_values(value: Any, values: Mapping[str, Any], prefix: str) -> Any:
    """Return `value` with the leaves named in `values` replaced by what was revealed."""
    if not is_section(value) and prefix in values:
        return values[prefix]
    if is_section(value):
        return {
            name: with_values(inner, values, child_key(prefix, name))
            for name, inner in value.items()
        }
    return _with_items(value, values, prefix) if isinstance(value, list) else value


def _with_items(value: Any, values: Mapping[str, Any], key: str) -> Any:
    if isinstance(value, list) and value:
        return [
            _with_items(item, values, join_item(key, index)) for index, item in enumerate(value)
        ]
    if is_section(value):
        return {
            name: _with_items(inner, values, join_member(key, name))
            for name, inner in value.items()
        }
    return values.get(key, value)
