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
from app.configs.errors import DocumentMalformed, KeyNotFound, VersionGone
from app.configs.model import Body, DocumentId, layers_of
from app.configs.port import Cipher
from app.configs.reading import Effective, Reader
from app.configs.secrets import (
    Protection,
    hidden,
    holds_secret,
    leaf_then,
    mask_history,
    protection,
    shown_then,
)
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

    def newest(self, document: DocumentId, *, resolve: bool = True) -> int:
        """Return the revision of the newest change that an answer is made from."""
        return self.reader.newest(document) if resolve else self._revision(document)

    async def effective(self, document: DocumentId, *, whole: bool = False) -> Effective:
        return await self.reader.effective(document, whole=whole)

    async def get(
        self, document: DocumentId, key: str, *, resolve: bool, whole: bool = False
    ) -> KeyAnswer:
        """Answer the effective value, or with `resolve=False` the addressed layer's own.

        Only a `whole` answer has fingerprints; see `Reader`.
        """
        checked_key(key)
        if resolve:
            tag = self.tag(document)
            return in_effective(await self.reader.effective(document, whole=whole), key, tag)
        body = await self.reader.current(document, whole=whole)
        if body is None:
            raise KeyNotFound(key, str(document))
        return in_layer(
            document, body, key, tag=str(body.version), revision=self._revision(document)
        )

    async def get_version(self, document: DocumentId, key: str, version: int) -> KeyAnswer:
        """Answer what the addressed layer said in one version, masked as history is."""
        checked_key(key)
        body = await self.reader.shown(document, version)
        current = await self.reader.known(document)
        return self._then(document, body, current, key)

    def _then(self, document: DocumentId, body: Body, current: Body, key: str) -> KeyAnswer:
        visible = replace(body, data=mask_history(body, current, fingerprints=False))
        tag, revision = str(body.version), self._revision(document)
        return in_layer(document, visible, key, tag=tag, revision=revision)

    def _revision(self, document: DocumentId) -> int:
        pointer = self.reader.pointer(document)
        return pointer.revision if pointer is not None else 0

    async def listed(
        self,
        document: DocumentId,
        wanted: Sequence[str],
        prefix: str,
        *,
        resolve: bool,
        whole: bool = False,
    ) -> Sequence[KeyAnswer]:
        """Answer the leaves below `prefix`, or the keys of `wanted` that exist, by name."""
        for key in wanted:
            checked_key(key)
        if prefix:
            checked_key(prefix)
        effective = await self.seen(document, resolve=resolve, whole=whole)
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

    async def seen(self, document: DocumentId, *, resolve: bool, whole: bool) -> Effective:
        read = self.reader.effective if resolve else self.reader.single
        return await read(document, whole=whole)

    async def bulk(
        self, items: Sequence[tuple[DocumentId, str]], *, whole: bool = False
    ) -> tuple[list[KeyAnswer], list[tuple[DocumentId, str]]]:
        """Answer many effective values; returns what was found and what is missing."""
        found: list[KeyAnswer] = []
        missing: list[tuple[DocumentId, str]] = []
        for document, key in items:
            try:
                found.append(await self.get(document, key, resolve=True, whole=whole))
            except KeyNotFound:
                missing.append((document, key))
        return found, missing

    async def history(
        self, document: DocumentId, key: str, limit: int, before: int | None = None
    ) -> list[KeyChange]:
        """Return the changes of a key (or of anything in a section) below version `before`.

        Newest first; it ends at what the store keeps no longer.
        """
        checked_key(key)
        if self.reader.pointer(document) is None:
            raise KeyNotFound(key, str(document))
        current = await self.reader.known(document)
        if changed_below(current, key) is None:
            raise KeyNotFound(key, str(document))
        protected = protection(current)
        entries: list[KeyChange] = []
        body: Body | None = current
        if before is not None and before <= current.version:
            body = await self.reader.last_readable(document, before - 1)
        while body is not None and len(entries) < limit:
            changed = changed_below(body, key)
            if changed is None:
                break
            entry = await self._readable(document, changed[0])
            if entry is not None:
                entries.append(_entry(key, entry, protected))
            body = await self.reader.last_readable(document, changed[0] - 1)
        return entries

    async def _readable(self, document: DocumentId, version: int) -> Body | None:
        try:
            return await self.reader.version(document, version)
        except (VersionGone, DocumentMalformed):
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

    async def reveal(
        self,
        document: DocumentId,
        key: str,
        caller: Caller,
        version: int | None,
        *,
        resolve: bool,
    ) -> tuple[KeyAnswer, Any]:
        """Answer a key and its value decrypted, after the audit row that says so.

        With a version: what the addressed layer said then, though it was plain then and is a
        secret now.
        """
        checked_key(key)
        if version is None:
            effective = await self.seen(document, resolve=resolve, whole=True)
            answer = in_effective(effective, key, "")
            revealed = await self._revealed(effective, caller, key)
        else:
            body = await self.reader.shown(document, version, whole=True)
            current = await self.reader.known(document)
            answer = self._then(document, body, current, key)
            then = self.reader.alone(document, body)
            revealed = await self._revealed(then, caller, key, hidden(body, current))
        return answer, with_values(answer.value, revealed, key)

    async def reveal_all(self, effective: Effective, caller: Caller) -> dict[str, Any]:
        revealed = await self._revealed(effective, caller, "")
        shown: dict[str, Any] = with_values(effective.merged.data, revealed, "")
        return shown

    async def _revealed(
        self,
        effective: Effective,
        caller: Caller,
        below: str,
        plain: frozenset[str] = frozenset(),
    ) -> dict[str, Any]:
        """Decrypt what is secret at or below a key; `plain` was not sealed when it was written."""
        data = effective.merged.data
        found = leaves(data) if not below else _below(data, below)
        secrets = {key: leaf for key, leaf in found if is_secret(leaf) or key in plain}
        if not secrets:
            return {}
        entity = effective.addressed.entity
        source = caller.source or None
        disclosed = Disclosure(entity, tuple(secrets), caller.actor(), caller.request_id, source)
        await self.log.disclose(disclosed)
        revealed = {key: leaf for key, leaf in secrets.items() if key in plain}
        by_environment: defaultdict[str, list[tuple[str, str, str]]] = defaultdict(list)
        for key in secrets.keys() - revealed.keys():
            layer = effective.merged.sources[key]
            context = secret_context(layer, key)
            by_environment[layer.environment].append((key, context, secrets[key][SECRET]))
        for environment, items in by_environment.items():
            opened = await self.cipher.open(environment, [(c, t) for _, c, t in items])
            revealed |= {k: json.loads(p) for (k, _, _), p in zip(items, opened, strict=True)}
        return revealed


def _below(data: dict[str, Any], key: str) -> Iterable[tuple[str, Any]]:
    value = at(data, key)
    return leaves(value, key) if is_section(value) else [(key, value)]


def _entry(key: str, body: Body, protected: Protection) -> KeyChange:
    value = at(body.data, key)
    if is_section(value):
        value = shown_then(value, body.version, protected, fingerprints=False, prefix=key)
    elif has(body.data, key):
        value = leaf_then(key, value, body.version, protected, fingerprints=False)
    return KeyChange(
        version=body.version,
        value=value,
        removed=not has(body.data, key),
        is_encrypted=holds_secret(value),
        action=body.change.action,
        actor=body.change.actor,
        comment=body.change.comment,
        at=body.change.at,
    )
