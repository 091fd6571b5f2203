"""The use cases of configuration by key."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from app.access.model import Caller
from app.changes.log.port import ChangeLog
from app.changes.model import Disclosure
from app.configs.documents.attempt import Outcome
from app.configs.documents.composer import secret_context
from app.configs.documents.members import checked_key
from app.configs.documents.reader import DocumentReader, Effective
from app.configs.errors import DocumentMalformed, KeyNotFound, VersionGone
from app.configs.model import Body, DocumentId, layers_of
from app.configs.removals import DROPPED
from app.configs.secrets import (
    Protection,
    hidden_keys,
    holds_secret,
    mask_history,
    mask_leaf_of_version,
    mask_section_of_version,
    place_of,
    protection,
    readable_values,
)
from app.configs.services.answers import (
    KeyAnswer,
    changed_below,
    in_effective,
    in_layer,
    layer_tag_of,
    tag_of,
    with_values,
)
from app.configs.services.read_options import (
    AS_STORED,
    ReadOptions,
    key_in,
    relax_names,
    resolve_values,
    with_placeholders,
)
from app.configs.store.port import Cipher
from app.workers import LARGE_TEXT, Slices, in_slices, run_apart
from pilothouse_core.diff import is_same
from pilothouse_core.keys import is_below
from pilothouse_core.placeholders import Resolution, RevealedSecret
from pilothouse_core.trees import (
    SECRET,
    Tree,
    contains_key,
    is_secret,
    is_section,
    leaf_key,
    leaves,
    node_at,
    value_at,
    with_change_at,
)

_ALL = 2**31
_LOOKED_AT = 50  # versions, for the removal of one key


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
    reader: DocumentReader
    cipher: Cipher
    log: ChangeLog

    def tag(
        self,
        document: DocumentId,
        form: str = "json",
        own: int | None = None,
        *,
        fingerprints: bool = False,
    ) -> str:
        """Tag the effective configuration; `own` overrides the addressed layer's version."""
        found = ((layer, self.reader.pointer(layer)) for layer in layers_of(document))
        pairs = [
            (layer, pointer.version) for layer, pointer in found if pointer and not pointer.deleted
        ]
        if own is not None:
            pairs = [(layer, own if layer == document else version) for layer, version in pairs]
        return tag_of(document, pairs, form, fingerprints=fingerprints)

    def layer_tag(self, document: DocumentId, *, fingerprints: bool = False) -> str:
        pointer = self.reader.pointer(document)
        version = pointer.version if pointer is not None else 0
        return layer_tag_of(version, fingerprints=fingerprints)

    def newest(self, document: DocumentId, *, resolve: bool = True) -> int:
        """Return the revision of the newest change that contributes to an answer."""
        return self.reader.newest(document) if resolve else self._revision(document)

    async def effective(
        self, document: DocumentId, *, with_secrets: bool = False, options: ReadOptions = AS_STORED
    ) -> Effective:
        found = await self.reader.effective(document, with_secrets=with_secrets)
        if options.relaxed_names and found.layers:
            found = await run_apart(found.size > LARGE_TEXT, relax_names, found)
        return found

    async def get(
        self,
        document: DocumentId,
        key: str,
        *,
        resolve: bool,
        with_secrets: bool = False,
        options: ReadOptions = AS_STORED,
    ) -> KeyAnswer:
        """Answer the effective value, or with `resolve=False` the addressed layer's own.

        Only a `with_secrets` answer has fingerprints; see `DocumentReader`.
        """
        key = checked_key(key)
        if resolve:
            tag = self.tag(document, options.form_of(), fingerprints=with_secrets)
            effective = await self.effective(document, with_secrets=with_secrets, options=options)
            answer = in_effective(effective, key_in(effective, key, options), tag)
            if not options.resolve_placeholders:
                return answer
            found = await self.resolve(effective, options, answer.key)
            return with_placeholders(effective, answer, found)
        body = await self.reader.current(document, with_secrets=with_secrets)
        if body is None:
            raise KeyNotFound(key, str(document))
        tag = layer_tag_of(body.version, fingerprints=with_secrets)
        return in_layer(document, body, key, tag=tag, revision=self._revision(document))

    async def resolve(
        self,
        effective: Effective,
        options: ReadOptions,
        key: str = "",
        opened: Mapping[str, Any] | None = None,
    ) -> Resolution:
        """Resolve the placeholders of a key or of all; secrets are as they are, or `opened`.

        Raises PlaceholderCycle and PlaceholderLimit.
        """

        def work() -> Resolution:
            data = effective.merged.data
            if opened:
                data = with_values(data, {k: RevealedSecret(v) for k, v in opened.items()}, "")
            return resolve_values(effective, data, options, key)

        return await run_apart(effective.size > LARGE_TEXT, work)

    async def get_version(self, document: DocumentId, key: str, version: int) -> KeyAnswer:
        """Answer what the addressed layer said in one version, masked as history is."""
        key = checked_key(key)
        body = await self.reader.undeleted_version(document, version)
        current = await self.reader.current_or_last_readable(document)
        return self._answer_of_version(document, body, current, key)

    def _answer_of_version(
        self, document: DocumentId, body: Body, current: Body, key: str
    ) -> KeyAnswer:
        visible = replace(body, data=mask_history(body, current, fingerprints=False))
        tag, revision = str(body.version), self._revision(document)
        return in_layer(document, visible, key, tag=tag, revision=revision)

    def _revision(self, document: DocumentId) -> int:
        pointer = self.reader.pointer(document)
        return pointer.revision if pointer is not None else 0

    async def list_keys(  # noqa: PLR0913 - what a list is asked for
        self,
        document: DocumentId,
        wanted: Sequence[str],
        prefix: str,
        *,
        resolve: bool,
        with_secrets: bool = False,
        after: str = "",
        limit: int = _ALL,
    ) -> Sequence[KeyAnswer]:
        """Answer the leaves below `prefix`, or the keys of `wanted` that exist, by name.

        Only those behind `after`, and the first `limit` of them.
        """
        wanted = [checked_key(key) for key in wanted]
        prefix = checked_key(prefix) if prefix else ""
        effective = await self.effective_or_layer(
            document, resolve=resolve, with_secrets=with_secrets
        )
        tag = self.tag(document) if resolve else self.layer_tag(document)
        is_large = effective.size > LARGE_TEXT
        chosen = await run_apart(is_large, _select_keys, effective, wanted, prefix, after)
        return await in_slices(chosen[:limit], lambda key: in_effective(effective, key, tag))

    async def list_keys_of_layers(
        self,
        layers: Sequence[DocumentId],
        wanted: Sequence[str],
        prefix: str,
        *,
        with_secrets: Callable[[DocumentId], bool],
        after: str = "",
        limit: int = _ALL,
    ) -> Sequence[KeyAnswer]:
        """Answer the same of several layers, each by itself, one after the other.

        `after` is a key of the first of them.
        """
        wanted = [checked_key(key) for key in wanted]
        prefix = checked_key(prefix) if prefix else ""
        answers: list[KeyAnswer] = []
        slices = Slices()
        for place, layer in enumerate(layers):
            await slices.rest()
            alone = await self.reader.last_good_layer(layer, with_secrets=with_secrets(layer))
            begin = "" if place else after
            is_large = alone.size > LARGE_TEXT
            chosen = await run_apart(is_large, _select_keys, alone, wanted, prefix, begin)
            tag = self.layer_tag(layer)
            answers += [in_effective(alone, key, tag) for key in chosen[: limit - len(answers)]]
            if len(answers) >= limit:
                break
        return answers

    async def effective_or_layer(
        self, document: DocumentId, *, resolve: bool, with_secrets: bool
    ) -> Effective:
        read = self.reader.effective if resolve else self.reader.layer_only
        return await read(document, with_secrets=with_secrets)

    async def bulk(
        self, items: Sequence[tuple[DocumentId, str]], *, with_secrets: bool = False
    ) -> tuple[list[KeyAnswer], list[tuple[DocumentId, str]]]:
        """Answer many effective values; returns what was found and what is missing."""
        found: list[KeyAnswer] = []
        missing: list[tuple[DocumentId, str]] = []
        slices = Slices()
        for document, key in items:
            await slices.rest()
            try:
                found.append(await self.get(document, key, resolve=True, with_secrets=with_secrets))
            except KeyNotFound:
                missing.append((document, key))
        return found, missing

    async def history(
        self, document: DocumentId, key: str, limit: int, before: int | None = None
    ) -> list[KeyChange]:
        """Return the changes of a key (or of anything in a section) below version `before`.

        Newest first; it ends at the first version that the store has deleted.
        """
        key = checked_key(key)
        if self.reader.pointer(document) is None:
            raise KeyNotFound(key, str(document))
        current = await self.reader.current_or_last_readable(document)
        if await self._last_changed(document, current, key) is None:
            raise KeyNotFound(key, str(document))
        protected = await run_apart(current.size > LARGE_TEXT, protection, current)
        slices = Slices()
        entries: list[KeyChange] = []
        body: Body | None = current
        if before is not None and before <= current.version:
            body = await self.reader.last_readable(document, before - 1)
        latest: Body | None = None
        # One more than asked for: of an item of a list, the next one may be the same change.
        while body is not None and len(entries) <= limit:
            await slices.rest()
            changed = await self._last_changed(document, body, key)
            if changed is None:
                break
            entry = await self._readable(document, changed)
            if entry is not None:
                if latest is not None and _is_unchanged(key, entry, latest):
                    entries.pop()  # the list changed in the version after, and not this item of it
                entries.append(_entry(key, entry, protected))
                latest = entry
            body = await self.reader.last_readable(document, changed - 1)
        return entries[:limit]

    async def _last_changed(self, document: DocumentId, body: Body, key: str) -> int | None:
        """Return the version in which a key last changed, as of `body`; None if it never was.

        What is no longer remembered of a removed key is looked for in the versions before.
        """
        changed = changed_below(body, key)
        dropped = body.keys.get(DROPPED)
        if changed is not None or dropped is None:
            return changed and changed[0]
        for version in range(dropped.version - 1, max(0, dropped.version - _LOOKED_AT - 1), -1):
            earlier = await self._readable(document, version)
            changed = None if earlier is None else changed_below(earlier, key)
            if earlier is not None and changed is not None:
                return version + 1 if contains_key(earlier.data, key) else changed[0]
        return None

    async def _readable(self, document: DocumentId, version: int) -> Body | None:
        try:
            return await self.reader.version(document, version)
        except (VersionGone, DocumentMalformed):
            return None

    async def written_key(
        self, document: DocumentId, key: str, outcome: Outcome, *, fingerprints: bool = False
    ) -> KeyAnswer:
        """Answer a key as the write left it in its layer."""
        body = outcome.body
        if body is None:
            raise KeyNotFound(key, str(document))
        tag = self.tag(document, own=body.version, fingerprints=fingerprints)
        return in_layer(document, body, key, tag=tag, revision=outcome.revision)

    async def reveal(
        self,
        document: DocumentId,
        key: str,
        caller: Caller,
        version: int | None,
        *,
        resolve: bool,
        options: ReadOptions = AS_STORED,
    ) -> tuple[KeyAnswer, Any]:
        """Answer a key and its value decrypted, after the audit row that says so.

        With a version: what the addressed layer said then, though it was plain then and is a
        secret now.
        """
        key = checked_key(key)
        if options:
            return await self._reveal_with(options, document, key, caller)
        if version is None:
            effective = await self.effective_or_layer(document, resolve=resolve, with_secrets=True)
            answer = in_effective(effective, key, "")
            revealed = await self._decrypt(effective, caller, [key])
        else:
            body = await self.reader.undeleted_version(document, version, with_secrets=True)
            current = await self.reader.current_or_last_readable(document)
            answer = self._answer_of_version(document, body, current, key)
            then = self.reader.as_effective(document, body)
            revealed = await self._decrypt(then, caller, [key], hidden_keys(body, current))
        return answer, with_values(answer.value, revealed, answer.key)

    async def _reveal_with(
        self, options: ReadOptions, document: DocumentId, key: str, caller: Caller
    ) -> tuple[KeyAnswer, Any]:
        effective = await self.effective(document, with_secrets=True, options=options)
        answer = in_effective(effective, key_in(effective, key, options), "")
        if not options.resolve_placeholders:
            revealed = await self._decrypt(effective, caller, [answer.key])
            return answer, with_values(answer.value, revealed, answer.key)
        found = await self.resolve(effective, options, answer.key)
        # Before anything is decrypted it is known which secrets come into the value.
        opened = await self._decrypt(effective, caller, sorted(found.secrets))
        clear = await self.resolve(effective, options, answer.key, opened)
        return with_placeholders(effective, answer, found), clear.value

    async def reveal_resolved(
        self, effective: Effective, options: ReadOptions, caller: Caller
    ) -> Resolution:
        """Resolve all placeholders with every secret in the clear."""
        await self.resolve(effective, options)  # raises before anything is revealed
        return await self.resolve(
            effective, options, opened=await self._decrypt(effective, caller, [""])
        )

    async def reveal_all(self, effective: Effective, caller: Caller) -> dict[str, Any]:
        revealed = await self._decrypt(effective, caller, [""])
        is_large = effective.size > LARGE_TEXT
        data = effective.merged.data
        shown: dict[str, Any] = await run_apart(is_large, with_values, data, revealed, "")
        return shown

    async def reveal_layer(self, document: DocumentId, caller: Caller) -> tuple[Body, Tree]:
        """Return one layer whose secrets are written as a client sends new ones, in the clear."""
        body = await self.reader.require_current(document, with_secrets=True)
        alone = self.reader.as_effective(document, body)
        found = await self._decrypt(alone, caller, [""])
        sent = {key: {SECRET: {"value": value}} for key, value in found.items()}
        is_large = body.size > LARGE_TEXT
        return body, await run_apart(is_large, with_values, body.data, sent, "")

    async def decrypt_tree(
        self, document: DocumentId, body: Body, tree: Tree, caller: Caller
    ) -> dict[str, Any]:
        """Decrypt the secrets of a part of a layer, after the audit row that says so."""
        part = self.reader.as_effective(document, replace(body, data=tree))
        return await self._decrypt(part, caller, [""])

    async def _decrypt(
        self,
        effective: Effective,
        caller: Caller,
        below: Sequence[str],
        plain: frozenset[str] = frozenset(),
    ) -> dict[str, Any]:
        """Decrypt the secrets at these keys; those in `plain` were not secrets when written."""
        data = effective.merged.data
        secrets = await run_apart(effective.size > LARGE_TEXT, _secrets, data, below, plain)
        if not secrets:
            return {}
        inherited: defaultdict[str, list[str]] = defaultdict(list)
        for key, (leaf, _) in secrets.items():
            layer = effective.merged.sources[leaf]
            if layer != effective.addressed:
                inherited[f"{layer.environment}/{layer.entity.name}"].append(key)
        await self.log.record_disclosure(
            Disclosure(
                entity=effective.addressed.entity,
                keys=tuple(secrets),
                actor=caller.actor(),
                request_id=caller.request_id,
                source=caller.source or None,
                inherited=inherited,
            )
        )
        revealed = {key: value for key, (_, value) in secrets.items() if key in plain}
        by_environment: defaultdict[str, list[tuple[str, str, str]]] = defaultdict(list)
        for key in secrets.keys() - revealed.keys():
            leaf, secret = secrets[key]
            layer = effective.merged.sources[leaf]
            stored = effective.stored.get(leaf, leaf)
            context = secret_context(layer, place_of(stored + key[len(leaf) :], stored))
            by_environment[layer.environment].append((key, context, secret[SECRET]))
        for environment, items in by_environment.items():
            opened = await self.cipher.open(environment, [(c, t) for _, c, t in items])
            revealed |= {k: json.loads(p) for (k, _, _), p in zip(items, opened, strict=True)}
        return revealed


def _select_keys(
    effective: Effective, wanted: Sequence[str], prefix: str, after: str
) -> Sequence[str]:
    data = effective.merged.data
    names: Iterable[str] = wanted or (key for key, _ in leaves(data))
    chosen = {
        key
        for key in names
        if key > after and contains_key(data, key) and (key == prefix or is_below(key, prefix))
    }
    return sorted(chosen)


def _secrets(
    data: dict[str, Any], below: Sequence[str], plain: frozenset[str]
) -> dict[str, tuple[str, Any]]:
    """Return leaf and value of every secret by its key."""
    return {
        key: (leaf, value)
        for each in below
        for key, leaf, value in readable_values(data, each)
        if is_secret(value) or key in plain
    }


def _is_unchanged(key: str, older: Body, newer: Body) -> bool:
    """Tell whether something in a list was the same before the list changed."""
    leaf, spelled = leaf_key(newer.data, key)
    if leaf == spelled:
        return False
    return contains_key(older.data, key) == contains_key(newer.data, key) and is_same(
        node_at(older.data, key), node_at(newer.data, key)
    )


def _entry(key: str, body: Body, protected: Protection) -> KeyChange:
    value = value_at(body.data, key)
    leaf, spelled = leaf_key(body.data, key)
    if leaf != spelled:
        shown = mask_leaf_of_version(
            leaf, node_at(body.data, leaf), body.version, protected, fingerprints=False
        )
        data = with_change_at(body.data, leaf, lambda _: shown)
        value = shown if is_secret(shown) else node_at(data, key)
    elif is_section(value):
        value = mask_section_of_version(
            value, body.version, protected, fingerprints=False, prefix=key
        )
    elif contains_key(body.data, key):
        value = mask_leaf_of_version(key, value, body.version, protected, fingerprints=False)
    return KeyChange(
        version=body.version,
        value=value,
        removed=not contains_key(body.data, key),
        is_encrypted=holds_secret(value),
        action=body.change.action,
        actor=body.change.actor,
        comment=body.change.comment,
        at=body.change.at,
    )
