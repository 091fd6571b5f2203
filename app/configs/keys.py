"""The use cases of configuration by key."""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from app.access.model import Caller
from app.changes.model import Disclosure
from app.changes.port import ChangeLog
from app.configs.answers import (
    KeyAnswer,
    changed_below,
    in_effective,
    in_layer,
    tag_of,
    with_values,
)
from app.configs.edits import checked_key
from app.configs.errors import KeyNotFound, VersionGone, VersionNotFound
from app.configs.model import Body, DocumentId, layers_of
from app.configs.port import Cipher
from app.configs.reading import Effective, Reader
from app.configs.secrets import holds_secret, mask_history, masked
from app.configs.writing import Outcome, Write, Writer, secret_context
from pilothouse_core.trees import SECRET, at, has, is_secret, is_section, leaves


@dataclass(frozen=True, slots=True)
class KeyChange:
    """One entry of a key's history, newest first; `value` is masked, None when removed."""

    version: int
    value: Any
    removed: bool
    is_encrypted: bool
    action: str
    actor: str
    comment: str
    at: str


@dataclass(frozen=True, slots=True)
class KeyService:
    reader: Reader
    writer: Writer
    cipher: Cipher
    log: ChangeLog

    def tag(self, document: DocumentId, form: str = "json", own: int | None = None) -> str:
        """Tag the effective configuration; `own` overrides the addressed layer's version."""
        found = ((layer, self.reader.pointer(layer)) for layer in layers_of(document))
        pairs = [
            (layer, pointer.version) for layer, pointer in found if pointer and not pointer.deleted
        ]
        if own is not None:
            pairs = [(layer, own if layer == document else version) for layer, version in pairs]
        return tag_of(document, pairs, form)

    def layer_tag(self, document: DocumentId) -> str:
        pointer = self.reader.pointer(document)
        return str(pointer.version if pointer is not None else 0)

    async def effective(self, document: DocumentId) -> Effective:
        return await self.reader.effective(document)

    async def get(self, document: DocumentId, key: str, *, resolve: bool) -> KeyAnswer:
        """Answer the effective value, or with `resolve=False` the addressed layer's own."""
        checked_key(key)
        if resolve:
            tag = self.tag(document)
            return in_effective(await self.reader.effective(document), key, tag)
        body = await self.reader.current(document)
        if body is None:
            raise KeyNotFound(key, str(document))
        return in_layer(
            document, body, key, tag=str(body.version), revision=self._revision(document)
        )

    async def get_version(self, document: DocumentId, key: str, version: int) -> KeyAnswer:
        """Answer what the addressed layer said in one version, masked as history is."""
        checked_key(key)
        body = await self.reader.shown(document, version)
        current = await self.reader.version(document, self._current(document))
        visible = replace(body, data=mask_history(body, current, fingerprints=False))
        tag, revision = str(version), self._revision(document)
        return in_layer(document, visible, key, tag=tag, revision=revision)

    def _current(self, document: DocumentId) -> int:
        pointer = self.reader.pointer(document)
        return pointer.version if pointer is not None else 0

    def _revision(self, document: DocumentId) -> int:
        pointer = self.reader.pointer(document)
        return pointer.revision if pointer is not None else 0

    async def listed(
        self, document: DocumentId, wanted: Sequence[str], prefix: str, *, resolve: bool
    ) -> Sequence[KeyAnswer]:
        """Answer the leaves below `prefix`, or the keys of `wanted` that exist, by name."""
        for key in wanted:
            checked_key(key)
        if prefix:
            checked_key(prefix)
        effective = await self.seen(document, resolve=resolve)
        data = effective.merged.data
        names: Iterable[str] = wanted or (key for key, _ in leaves(data))
        below = prefix + "."
        chosen = {
            key
            for key in names
            if has(data, key) and (not prefix or key == prefix or key.startswith(below))
        }
        tag = self.tag(document) if resolve else self.layer_tag(document)
        return [in_effective(effective, key, tag) for key in sorted(chosen)]

    async def seen(self, document: DocumentId, *, resolve: bool) -> Effective:
        return await (self.reader.effective(document) if resolve else self.reader.single(document))

    async def bulk(
        self, items: Sequence[tuple[DocumentId, str]]
    ) -> tuple[list[KeyAnswer], list[tuple[DocumentId, str]]]:
        """Answer many effective values; returns what was found and what is missing."""
        found: list[KeyAnswer] = []
        missing: list[tuple[DocumentId, str]] = []
        for document, key in items:
            try:
                found.append(await self.get(document, key, resolve=True))
            except KeyNotFound:
                missing.append((document, key))
        return found, missing

    async def history(self, document: DocumentId, key: str, limit: int) -> list[KeyChange]:
        """Return the changes of a key (or of anything in a section), newest first."""
        checked_key(key)
        current = await self.reader.current(document)
        if current is None or changed_below(current, key) is None:
            raise KeyNotFound(key, str(document))
        entries: list[KeyChange] = []
        body: Body | None = current
        while body is not None and len(entries) < limit:
            changed = changed_below(body, key)
            if changed is None:
                break
            entry = await self._older(document, changed[0])
            if entry is None:
                break
            entries.append(_entry(key, entry, current))
            body = await self._older(document, changed[0] - 1)
        return entries

    async def _older(self, document: DocumentId, version: int) -> Body | None:
        """Return an earlier version, None where history ends: at the start or at what is pruned."""
        if version < 1:
            return None
        try:
            return await self.reader.version(document, version)
        except (VersionGone, VersionNotFound):
            return None

    async def write(self, write: Write) -> Outcome:
        return await self.writer.write(write)

    async def written(self, document: DocumentId, key: str, outcome: Outcome) -> KeyAnswer:
        """Answer a key as the write left it in its layer."""
        body = outcome.body
        if body is None:
            raise KeyNotFound(key, str(document))
        tag = self.tag(document, own=body.version)
        return in_layer(document, body, key, tag=tag, revision=outcome.revision)

    async def reveal_key(self, answer: KeyAnswer, effective: Effective, caller: Caller) -> Any:
        """Decrypt the secrets of one answer, after the audit row that says so."""
        revealed = await self._revealed(effective, caller, answer.key)
        return with_values(answer.value, revealed, answer.key)

    async def reveal_all(self, effective: Effective, caller: Caller) -> dict[str, Any]:
        revealed = await self._revealed(effective, caller, "")
        shown: dict[str, Any] = with_values(effective.merged.data, revealed, "")
        return shown

    async def _revealed(self, effective: Effective, caller: Caller, below: str) -> dict[str, Any]:
        data = effective.merged.data
        found = leaves(data) if not below else _below(data, below)
        secrets = [(key, leaf[SECRET]) for key, leaf in found if is_secret(leaf)]
        if not secrets:
            return {}
        keys = tuple(key for key, _ in secrets)
        entity = effective.addressed.entity
        await self.log.disclose(Disclosure(entity, keys, caller.actor(), caller.request_id))
        by_environment: defaultdict[str, list[tuple[str, str, str]]] = defaultdict(list)
        for key, ciphertext in secrets:
            layer = effective.merged.sources[key]
            context = secret_context(layer, key)
            by_environment[layer.environment].append((key, context, ciphertext))
        revealed: dict[str, Any] = {}
        for environment, items in by_environment.items():
            plain = await self.cipher.open(environment, [(c, t) for _, c, t in items])
            revealed |= {k: json.loads(p) for (k, _, _), p in zip(items, plain, strict=True)}
        return revealed


def _below(data: dict[str, Any], key: str) -> Iterable[tuple[str, Any]]:
    value = at(data, key)
    return leaves(value, key) if is_section(value) else [(key, value)]


def _entry(key: str, body: Body, current: Body) -> KeyChange:
    shown = mask_history(body, current, fingerprints=False)
    value = at(shown, key)
    return KeyChange(
        version=body.version,
        value=masked(value, fingerprints=False),
        removed=not has(shown, key),
        is_encrypted=holds_secret(value),
        action=body.change.action,
        actor=body.change.actor,
        comment=body.change.comment,
        at=body.change.at,
    )
