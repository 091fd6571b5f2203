"""Composing of versions: secrets are sealed, and the text is made that the store gets."""

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from app.audit.fingerprints import Fingerprints
from app.changes.model import Intent
from app.configs.documents.attempt import Write, is_large_write
from app.configs.documents.key_facts import key_facts
from app.configs.errors import DocumentTooLarge
from app.configs.model import MAX_DOCUMENT_BYTES, Body, DocumentId, Draft, Stamp, encode
from app.configs.removals import removals_size
from app.configs.secrets import (
    ToSeal,
    mask_secrets,
    protection,
    put_sealed,
    stored_secret,
    values_to_seal,
)
from app.configs.store.port import Cipher, Sealed
from app.workers import run_apart
from pilothouse_core.diff import diff
from pilothouse_core.trees import Tree

_MANY_SECRETS = 100
# What sealing adds: nonce and tag before base64, and the version of the key before the text.
_SEALED_BYTES = 28
_SEALED_PREFIX = "vault:v1:"
_FINGERPRINT_CHARACTERS = 32


@dataclass(frozen=True, slots=True)
class VersionComposer:
    """`max_versions`: how many versions the store keeps."""

    cipher: Cipher
    fingerprints: Fingerprints
    max_versions: int

    async def compose(
        self, document: DocumentId, intent: Intent, draft: Draft, base: Body | None
    ) -> tuple[Body, str]:
        """Seal the draft's secrets and make the text of version base + 1."""
        assert base is None or not base.without_secrets  # its masks would be stored for its secrets
        is_large = is_large_write(base)
        data = await self.seal(document, draft.data or {}, is_large=is_large)
        return await run_apart(is_large, self._text_of, intent, draft, base, data)

    async def seal(self, document: DocumentId, data: Tree, *, is_large: bool) -> Tree:
        """Return the data of a draft as it is stored in this document, new secrets encrypted."""
        places = await run_apart(is_large, _leaves_to_seal, data)
        return await self._seal_secrets(document, data, places) if places else data

    async def check_size(self, write: Write, draft: Draft, base: Body | None) -> None:
        """Raise DocumentTooLarge as `compose` would; nothing is sealed."""
        await run_apart(is_large_write(base), self._check_size, write, draft, base)

    def _check_size(self, write: Write, draft: Draft, base: Body | None) -> None:
        data = draft.data or {}
        places = _leaves_to_seal(data)
        if places:
            data = _with_sealed(data, [_stand_in(leaf) for _, _, leaf in places])
        intent = Intent(
            uuid.uuid4().hex,
            write.document.entity,
            base.version if base is not None else 0,
            draft.action,
            write.actor,
            write.comment,
            "",
            datetime.now(UTC),
        )
        self._text_of(intent, draft, base, data)

    async def _seal_secrets(
        self, document: DocumentId, data: Tree, places: Sequence[tuple[str, str, ToSeal]]
    ) -> Tree:
        items = [
            (secret_context(document, place), json.dumps(leaf.value)) for _, place, leaf in places
        ]
        sealed = await self.cipher.seal(document.environment, items)
        return await run_apart(len(places) > _MANY_SECRETS, _with_sealed, data, sealed)

    def _text_of(
        self, intent: Intent, draft: Draft, base: Body | None, data: Tree
    ) -> tuple[Body, str]:
        version, at = intent.base + 1, intent.at.isoformat()
        fresh = base is None or base.deleted
        body = Body(
            version=version,
            change=Stamp(intent.id, intent.action, intent.actor, intent.comment, at),
            created_by=intent.actor if base is None or fresh else base.created_by,
            created_at=at if base is None or fresh else base.created_at,
            deleted=draft.deleted,
            data=data,
            keys=key_facts(
                base,
                data,
                version,
                intent.actor,
                at,
                keep=self.max_versions,
                origins=draft.origins,
            ),
            templates=draft.templates_after(base),
        )
        text = encode(body)
        size = len(text.encode()) - removals_size(body.keys)
        if size > MAX_DOCUMENT_BYTES and not _only_removes(base, data):
            raise DocumentTooLarge(size, MAX_DOCUMENT_BYTES)
        return replace(body, size=len(text)), text

    async def fingerprints_of(
        self, document: DocumentId, base: Body | None, body: Body
    ) -> Mapping[str, str | None]:
        """Return the fingerprints of a version and of its base, for the audit."""
        return await run_apart(is_large_write(base), self._fingerprint_both, document, base, body)

    def _fingerprint_both(
        self, document: DocumentId, base: Body | None, body: Body
    ) -> Mapping[str, str | None]:
        return self.fingerprints.facts(_content(document, base), _content(document, body))


def secret_context(document: DocumentId, place: str) -> str:
    """What a ciphertext is bound to: a key, in a list without the numbers of items, which move."""
    return f"{document.path}\0{place}"


def _content(document: DocumentId, body: Body | None) -> str | None:
    """Return what the audit fingerprints of a version; a secret by its own fingerprint.

    The same content of a document gives the same text as long as the document has never had a
    secret. From then on no version gives the text of another one: a caller with write access could
    otherwise guess a secret, or its former plain value, by comparing fingerprints.
    """
    if body is None or body.deleted:
        return None
    shown = mask_secrets(body.data, fingerprints=True) if body.data else {}
    text = json.dumps(shown, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    version = body.change.id if protection(body).is_needed else ""
    return f"{document.path}\0{version}\0{text}"


def _leaves_to_seal(data: Tree) -> list[tuple[str, str, ToSeal]]:
    return list(values_to_seal(data))


def _stand_in(leaf: ToSeal) -> Sealed:
    """Return something as long as what the secret becomes when it is sealed."""
    size = len(json.dumps(leaf.value).encode()) + _SEALED_BYTES
    return Sealed(_SEALED_PREFIX + "x" * -(-size * 4 // 3), "0" * _FINGERPRINT_CHARACTERS)


def _with_sealed(data: Tree, sealed: Sequence[Sealed]) -> Tree:
    leaves = (stored_secret(secret.ciphertext, secret.fingerprint) for secret in sealed)
    result: Tree = put_sealed(data, leaves)
    return result


def _only_removes(base: Body | None, data: Tree) -> bool:
    """Tell whether the write only removes keys: that is allowed even if the document is full."""
    difference = diff(base.data if base is not None else {}, data)
    return bool(difference.removed) and not difference.added and not difference.changed
