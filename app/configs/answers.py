"""What readers are told about a key or a document, and the tag that tells when it changes."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from app.configs.errors import KeyNotFound
from app.configs.model import Body, DocumentId
from app.configs.reading import Effective
from app.configs.secrets import holds_secret
from pilothouse_core.trees import at, has


@dataclass(frozen=True, slots=True)
class KeyAnswer:
    """A key's stored value; secrets in it are still ciphertext until `masked` or revealed."""

    key: str
    value: Any
    addressed: DocumentId
    source: DocumentId
    version: int
    updated_at: str
    updated_by: str
    tag: str
    revision: int

    @property
    def is_encrypted(self) -> bool:
        return holds_secret(self.value)


def tag_of(
    addressed: DocumentId, layers: Iterable[tuple[DocumentId, int]], form: str = "json"
) -> str:
    """Digest the contributing versions; what stands before the dash is the addressed layer's.

    `If-Match` compares that number, so that a tag from any read can guard a write.
    """
    digest = hashlib.blake2b(form.encode(), digest_size=9)
    own = 0
    for layer, version in layers:
        digest.update(f"\0{layer.path}\0{version}".encode())
        own = version if layer == addressed else own
    return f"{own}-{digest.hexdigest()}"


def in_effective(effective: Effective, key: str, tag: str) -> KeyAnswer:
    """Answer a key of the merged configuration, or raise KeyNotFound."""
    data = effective.merged.data
    if not has(data, key):
        raise KeyNotFound(key, str(effective.addressed))
    source = _source(effective, key)
    return _answer(
        effective.addressed,
        source,
        key,
        at(data, key),
        effective.bodies[source],
        tag=tag,
        revision=effective.revision,
    )


def _source(effective: Effective, key: str) -> DocumentId:
    """Return the layer of a leaf; of a section, the highest layer that contributes to it."""
    exact = effective.merged.sources.get(key)
    if exact is not None:
        return exact
    below = key + "."
    contributing = {
        layer for name, layer in effective.merged.sources.items() if name.startswith(below)
    }
    return next(layer for layer, _ in reversed(effective.layers) if layer in contributing)


def in_layer(document: DocumentId, body: Body, key: str, *, tag: str, revision: int) -> KeyAnswer:
    """Answer a key of one version of one layer, or raise KeyNotFound."""
    if not has(body.data, key):
        raise KeyNotFound(key, str(document))
    value = at(body.data, key)
    return _answer(document, document, key, value, body, tag=tag, revision=revision)


def _answer(  # noqa: PLR0913 - the facts of one answer
    addressed: DocumentId,
    source: DocumentId,
    key: str,
    value: Any,
    body: Body,
    *,
    tag: str,
    revision: int,
) -> KeyAnswer:
    version, when, actor = last_change(body, key)
    return KeyAnswer(key, value, addressed, source, version, when, actor, tag, revision)


def last_change(body: Body, key: str) -> tuple[int, str, str]:
    """Return version, time and actor of the last change of a key or of anything below it."""
    fact = body.keys.get(key)
    if fact is not None and not fact.removed:
        return fact.version, fact.at, fact.actor
    return changed_below(body, key) or (body.version, body.change.at, body.change.actor)


def changed_below(body: Body, key: str) -> tuple[int, str, str] | None:
    """The same counting removals, None if the key never was: what a history goes by."""
    below = key + "."
    facts = [fact for name, fact in body.keys.items() if name == key or name.startswith(below)]
    if not facts:
        return None
    newest = max(facts, key=lambda fact: fact.version)
    return newest.version, newest.at, newest.actor


def with_values(value: Any, found: Mapping[str, Any], prefix: str) -> Any:
    """Return `value` with the leaves named in `found` replaced by what was revealed."""
    if prefix in found:
        return found[prefix]
    if isinstance(value, dict):
        return {
            name: with_values(inner, found, f"{prefix}.{name}" if prefix else name)
            for name, inner in value.items()
        }
    return value
