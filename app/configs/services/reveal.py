"""Revealing secrets: every decryption is recorded in the audit before the values are returned."""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from app.access.model import Caller
from app.changes.log.port import ChangeLog
from app.changes.model import Disclosure
from app.configs.documents.composer import secret_context
from app.configs.documents.effective import Effective, as_effective
from app.configs.documents.members import checked_key
from app.configs.documents.reader import DocumentReader
from app.configs.model import Body, DocumentId
from app.configs.secrets import hidden_keys, place_of, readable_values
from app.configs.services.answers import KeyAnswer, in_effective, with_values
from app.configs.services.keys import KeyService
from app.configs.services.read_options import AS_STORED, ReadOptions, key_in, with_placeholders
from app.configs.store.port import Cipher
from app.workers import LARGE_TEXT, run_apart
from pilothouse_core.placeholders import Resolution
from pilothouse_core.trees import SECRET, Tree, is_secret


@dataclass(frozen=True, slots=True)
class RevealService:
    keys: KeyService
    cipher: Cipher
    log: ChangeLog

    @property
    def reader(self) -> DocumentReader:
        return self.keys.reader

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
            effective = await self.keys.effective_or_layer(
                document, resolve=resolve, with_secrets=True
            )
            answer = in_effective(effective, key, "")
            revealed = await self._decrypt(effective, caller, [key])
        else:
            body = await self.reader.undeleted_version(document, version, with_secrets=True)
            current = await self.reader.current_or_last_readable(document)
            answer = self.keys.answer_of_version(document, body, current, key)
            then = as_effective(document, body)
            revealed = await self._decrypt(then, caller, [key], hidden_keys(body, current))
        return answer, with_values(answer.value, revealed, answer.key)

    async def _reveal_with(
        self, options: ReadOptions, document: DocumentId, key: str, caller: Caller
    ) -> tuple[KeyAnswer, Any]:
        effective = await self.keys.effective(document, with_secrets=True, options=options)
        answer = in_effective(effective, key_in(effective, key, options), "")
        if not options.resolve_placeholders:
            revealed = await self._decrypt(effective, caller, [answer.key])
            return answer, with_values(answer.value, revealed, answer.key)
        resolution = await self.keys.resolve(effective, options, answer.key)
        # Before anything is decrypted it is known which secrets come into the value.
        opened = await self._decrypt(effective, caller, sorted(resolution.secrets))
        clear = await self.keys.resolve(effective, options, answer.key, opened)
        return with_placeholders(effective, answer, resolution), clear.value

    async def reveal_resolved(
        self, effective: Effective, options: ReadOptions, caller: Caller
    ) -> Resolution:
        """Resolve all placeholders with every secret in the clear."""
        await self.keys.resolve(effective, options)  # raises before anything is revealed
        return await self.keys.resolve(
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
        alone = as_effective(document, body)
        values = await self._decrypt(alone, caller, [""])
        sent = {key: {SECRET: {"value": value}} for key, value in values.items()}
        is_large = body.size > LARGE_TEXT
        return body, await run_apart(is_large, with_values, body.data, sent, "")

    async def decrypt_tree(
        self, document: DocumentId, body: Body, tree: Tree, caller: Caller
    ) -> dict[str, Any]:
        """Decrypt the secrets of a part of a layer, after the audit row that says so."""
        part = as_effective(document, replace(body, data=tree))
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
