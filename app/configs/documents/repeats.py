"""Requests that are repeated under the same idempotency key.

Each attempt of a request has a key of its own, from which the log finds its intent. A repeated
request meets the intents of the first one in their order: a lost one is followed by that of the
next attempt, an applied one is the answer, and any other is continued by the writer.
"""

from dataclasses import dataclass, replace

from app.changes.errors import IdempotencyKeyReused
from app.changes.log.port import Intents
from app.changes.model import Intent
from app.configs.checks.credentials import CredentialPolicy
from app.configs.documents.attempt import Identity, Outcome, Write, is_large_write
from app.configs.documents.reader import DocumentReader
from app.configs.model import DocumentId
from app.configs.store.port import Cipher
from app.workers import run_apart

ATTEMPTS = 10  # of one write


@dataclass(frozen=True, slots=True)
class RepeatedWrites:
    intents: Intents
    cipher: Cipher
    reader: DocumentReader
    credential_policy: CredentialPolicy

    async def identity(self, write: Write, attempt: int) -> Identity | None:
        """Return what an attempt is recognised by, None if the request has no idempotency key."""
        if write.idempotency is None:
            return None
        digest = await self.cipher.fingerprint(
            write.document.environment, f"{write.document.path}\0{write.idempotency.request}"
        )
        return Identity(f"{write.idempotency.key}#{attempt}", digest)

    async def earlier_intent(self, write: Write, identity: Identity | None) -> Intent | None:
        """Return the intent of the same attempt of an earlier request.

        Raises IdempotencyKeyReused.
        """
        if identity is None:
            return None
        intent = await self.intents.intent_by_idempotency_key(identity.key)
        if intent is not None:
            refuse_other_request(write, identity, intent)
        return intent

    async def earlier_outcome(self, write: Write) -> Outcome | None:
        """Return what an earlier request has written, if it is decided.

        Raises IdempotencyKeyReused.
        """
        for attempt in range(ATTEMPTS):
            intent = await self.earlier_intent(write, await self.identity(write, attempt))
            if intent is None or intent.state in {"open", "expired"}:
                return None
            if intent.state == "applied":
                return await self.outcome_of(write.document, intent)
        return None

    async def outcome_of(self, document: DocumentId, intent: Intent) -> Outcome:
        """Return the outcome of an applied intent, with the warnings that it was answered with."""
        outcome = await self.version_of(document, intent)
        assert outcome.body is not None
        version = outcome.body.version
        base = await self.reader.last_readable(document, version - 1, with_secrets=True)
        findings = await run_apart(
            is_large_write(outcome.body),
            self.credential_policy.find_credentials,
            document,
            base,
            outcome.body.data,
        )
        return replace(outcome, findings=findings)

    async def version_of(self, document: DocumentId, intent: Intent) -> Outcome:
        """Return the version that an applied intent has become."""
        version, revision = intent.version or 0, intent.revision or 0
        return Outcome(await self.reader.version(document, version, with_secrets=True), revision)


def refuse_other_request(write: Write, identity: Identity | None, intent: Intent) -> None:
    """Raise IdempotencyKeyReused if the intent is that of another request."""
    digest = identity.digest if identity is not None else None
    if intent.digest != digest or intent.entity.key != write.document.path:
        raise IdempotencyKeyReused
