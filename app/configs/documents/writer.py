"""The write path: intent, store, log, answer (docs/protocols.md A, to the letter).

A write with compare-and-set base N can only become version N + 1, so that version alone decides
the outcome; until it exists the write has not failed.
"""

import asyncio
import json
import random
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import Enum

import structlog

from app.audit.fingerprints import Fingerprints
from app.changes.errors import Gap, IdempotencyKeyReused, LogUnavailable
from app.changes.log.port import ChangeLog, Intents
from app.changes.model import (
    EXTERNAL_ACTOR,
    Action,
    Idempotency,
    Intent,
    Pointer,
    Written,
)
from app.configs.checks.credentials import CredentialPolicy
from app.configs.documents.edits import Edit, WriteTombstone
from app.configs.documents.key_facts import key_facts
from app.configs.documents.reader import DocumentReader
from app.configs.errors import (
    CredentialInPlainValue,
    DocumentMalformed,
    DocumentTooLarge,
    StaleWrite,
    StoreUnavailable,
    VersionMissing,
    VersionTaken,
    VersionUnreadable,
    WriteConflict,
    WriteOutcomeUnknown,
    WriteUnanswered,
)
from app.configs.model import (
    MAX_DOCUMENT_BYTES,
    Body,
    DocumentId,
    Draft,
    Finding,
    Stamp,
    decode,
    encode,
)
from app.configs.removals import removals_size
from app.configs.secrets import (
    ToSeal,
    mask_secrets,
    protection,
    put_sealed,
    stored_secret,
    values_to_seal,
)
from app.configs.store.port import Cipher, ConfigStore, Sealed
from app.errors import PilothouseError
from app.telemetry import CONFIG_WRITE_DURATION, CONFIG_WRITES, PLAIN_CREDENTIALS
from app.web.conditional import ANY_VERSION, IfMatch
from app.workers import LARGE_TEXT, is_large_request, run_apart
from pilothouse_core.diff import diff
from pilothouse_core.trees import Tree

WRITE_SECONDS = 2.0
# Shares of it, from the start:
_QUEUE_SHARE = 0.45  # behind other writers of the same document, then 503
_BEGIN_SHARE = 0.65  # until the log must have the intent, or nothing is sent: 503
_STORE_SHARE = 0.75  # until the store must have answered
_ANSWER_SHARE = 0.95  # until the client is answered
_ATTEMPTS = 10
_PAUSE_SECONDS = 0.03
_LOGGED_AT_ONCE = 100  # versions
_MANY_SECRETS = 100
_WARNING = CredentialPolicy()  # and refusing nothing
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Write:
    """One write request; `expected`: the current versions that it accepts."""

    document: DocumentId
    edit: Edit
    actor: str
    request_id: str
    comment: str = ""
    expected: IfMatch = ANY_VERSION
    replaces: bool = False  # the edit needs nothing of what the current version says
    idempotency: Idempotency | None = None
    source: str | None = None  # the address it came from


@dataclass(frozen=True, slots=True)
class Outcome:
    """The version that holds the write; `changed` is false if there was nothing to write."""

    body: Body | None
    revision: int
    changed: bool = True
    findings: tuple[Finding, ...] = ()


class _ReadBack(Enum):
    MINE = "mine"
    OTHER = "other"
    ABSENT = "absent"


class _RaceLost(Exception):  # not an error: another write won the version
    pass


class DocumentWriter:
    def __init__(  # noqa: PLR0913 - the collaborators of every write
        self,
        store: ConfigStore,
        intents: Intents,
        log: ChangeLog,
        cipher: Cipher,
        reader: DocumentReader,
        *,
        max_versions: int,
        fingerprints: Fingerprints,
        credential_policy: CredentialPolicy = _WARNING,
        seconds: float = WRITE_SECONDS,
    ) -> None:
        """Answer every write within `seconds`, whatever it waits for."""
        self._queue = seconds * _QUEUE_SHARE
        self._beginning = seconds * _BEGIN_SHARE
        self._sending = seconds * _STORE_SHARE
        self._answer = seconds * _ANSWER_SHARE
        self.credential_policy = credential_policy
        self._store = store
        self._intents = intents
        self._log = log
        self._cipher = cipher
        self._reader = reader
        self._max_versions = max_versions
        self._fingerprints = fingerprints
        self._queues: defaultdict[DocumentId, _Queue] = defaultdict(_Queue)

    async def write(self, write: Write) -> Outcome:
        """Write one new version; see `edits` for what an edit may raise.

        Raises StaleWrite, WriteConflict, StoreUnavailable and LogUnavailable when nothing was
        written, WriteOutcomeUnknown when that cannot be said.
        """
        started = asyncio.get_running_loop().time()
        outcome = "refused"
        try:
            async with self._turn(write.document, started + self._queue):
                result = await self._attempts(write, started)
            outcome = "written" if result.changed else "unchanged"
        except CredentialInPlainValue as error:
            count_refused_credentials(error)
            raise
        except WriteOutcomeUnknown:
            outcome = "unknown"
            raise
        finally:
            CONFIG_WRITES.labels(outcome).inc()
            CONFIG_WRITE_DURATION.observe(asyncio.get_running_loop().time() - started)
        return result

    async def earlier_outcome(self, write: Write) -> Outcome | None:
        """Return what a request under the same idempotency key has written, if one has.

        Raises IdempotencyKeyReused.
        """
        for attempt in range(_ATTEMPTS):
            key, digest = await self._identity(write, attempt)
            intent = await self._intents.intent_by_idempotency_key(key) if key is not None else None
            if intent is None:
                return None
            _refuse_reuse(write, intent, digest)
            if intent.state != "lost":
                applied = intent.state == "applied"
                return await self._repeated_outcome(write.document, intent) if applied else None
        return None

    @asynccontextmanager
    async def _turn(self, document: DocumentId, deadline: float) -> AsyncIterator[None]:
        """Queue behind this replica's writers of the document: racing them wastes versions."""
        queue = self._queues[document]
        queue.waiting += 1
        try:
            try:
                async with asyncio.timeout_at(deadline):
                    await queue.lock.acquire()
            except TimeoutError:
                raise StoreUnavailable(f"too many writers of {document}") from None
            try:
                yield
            finally:
                queue.lock.release()
        finally:
            queue.waiting -= 1
            if not queue.waiting:
                self._queues.pop(document, None)

    async def _attempts(self, write: Write, started: float) -> Outcome:
        loop = asyncio.get_running_loop()
        for attempt in range(_ATTEMPTS):
            try:
                return await self._attempt(write, attempt, started)
            except _RaceLost:
                _refuse_unexpected(write, self._current_version(write))
            if loop.time() > started + self._queue:
                break
            await asyncio.sleep(_with_jitter(_PAUSE_SECONDS))
        raise WriteConflict(str(write.document))

    def _current_version(self, write: Write) -> int:
        pointer = self._reader.pointer(write.document)
        return 0 if pointer is None or pointer.deleted else pointer.version

    async def _attempt(self, write: Write, attempt: int, started: float) -> Outcome:
        try:
            async with asyncio.timeout_at(started + self._beginning) as bound:
                return await self._attempt_once(write, attempt, started, bound)
        except TimeoutError as error:
            raise LogUnavailable("the write could not be begun in time") from error

    async def _attempt_once(
        self, write: Write, attempt: int, started: float, bound: asyncio.Timeout
    ) -> Outcome:
        """Begin and carry out; `bound` counts until something may have been sent."""
        key, digest = await self._identity(write, attempt)
        earlier = await self._intents.intent_by_idempotency_key(key) if key is not None else None
        if earlier is not None:
            bound.reschedule(None)
            return await self._join(write, earlier, digest, started)
        began = asyncio.get_running_loop().time()
        if is_large_request():
            bound.reschedule(None)
        base, draft = await self._draft(write)
        if await self._log_deletion(write.document, base):
            base, draft = await self._draft(write)
        if draft.data is None:
            pointer = self._reader.pointer(write.document)
            return Outcome(base, pointer.revision if pointer else 0, changed=False)
        intent = _intent(write, draft.action, base.version if base else 0, key, digest)
        body, text = await self._compose(intent, draft, base)
        facts = await run_apart(_is_large(base), self._fingerprints_of, write.document, base, body)
        intent = replace(intent, facts=facts)
        if _is_large(base):  # the deadlines start after the work on a large document
            started += asyncio.get_running_loop().time() - began
            bound.reschedule(started + self._beginning)
        begun = await self._intents.begin(intent)
        bound.reschedule(None)
        if begun.id != intent.id:
            return await self._join(write, begun, digest, started)
        # Under a key another replica may have joined meanwhile, and sent the write.
        outcome = await self._carry_out(intent, body, text, started, first=key is None)
        _count_findings(write.document, draft.findings)
        return replace(outcome, findings=draft.findings)

    async def _draft(self, write: Write) -> tuple[Body | None, Draft]:
        """Apply the edit to the current version.

        Nothing is refused or left undone for a version that is no longer current: another replica
        may have written on top, and this one may not have followed yet.
        """
        base = await self._read_base(write)
        try:
            draft = await self._apply_edit(write, base)
        except PilothouseError:
            if not await self._catch_up(write.document, base):
                raise
        else:
            if draft.data is not None or not await self._catch_up(write.document, base):
                return base, draft
        base = await self._read_base(write)
        return base, await self._apply_edit(write, base)

    async def _log_deletion(self, document: DocumentId, base: Body | None) -> bool:
        """Log a deletion of `base` in the store itself, which its check-and-set does not see.

        Else the write would bring back, on top of what was deleted, all that stood there.
        """
        if base is None or base.deleted:
            return False
        head = await self._store.head(document)
        if head.readable or head.version != base.version:
            return False
        try:
            await self.write_tombstone(document, base.version)
        except WriteOutcomeUnknown as error:  # of the tombstone: nothing of the caller's was sent
            raise StoreUnavailable("a deletion in the store could not be logged in time") from error
        return True

    async def _apply_edit(self, write: Write, base: Body | None) -> Draft:
        return await run_apart(_is_large(base), self._checked_draft, write, base)

    def _checked_draft(self, write: Write, base: Body | None) -> Draft:
        # The version the edit is based on, not the pointer: that may have moved on meanwhile.
        _refuse_unexpected(write, 0 if base is None or base.deleted else base.version)
        draft = write.edit.apply(write.document, base)
        return self.credential_policy.check(write.document, base, draft)

    async def _catch_up(self, document: DocumentId, base: Body | None) -> bool:
        """Ask the log for the current version, and tell whether it is later than `base`."""
        logged = await self._log.pointer(document.path)
        if logged is None or logged.version <= (base.version if base is not None else 0):
            return False
        self._reader.follower.advance_pointer(logged)
        return True

    async def _read_base(self, write: Write) -> Body | None:
        try:
            return await self._reader.current(write.document, with_secrets=True)
        except DocumentMalformed as error:
            if not write.replaces:
                raise
            # A version that was not written by this service may still be replaced.
            return await self._reader.before_malformed(
                write.document, error.version, with_secrets=True
            )

    async def _identity(self, write: Write, attempt: int) -> tuple[str | None, str | None]:
        """Return the attempt's idempotency key and the keyed digest of its request."""
        if write.idempotency is None:
            return None, None
        digest = await self._cipher.fingerprint(
            write.document.environment, f"{write.document.path}\0{write.idempotency.request}"
        )
        return f"{write.idempotency.key}#{attempt}", digest

    async def _join(
        self, write: Write, intent: Intent, digest: str | None, started: float
    ) -> Outcome:
        """Go on with an earlier request under the same key: same id, same base."""
        _refuse_reuse(write, intent, digest)
        if intent.state == "applied":
            return await self._repeated_outcome(write.document, intent)
        if intent.state == "lost":
            raise _RaceLost
        base = None
        if intent.base:
            base = await self._reader.version(write.document, intent.base, with_secrets=True)
        # What the first request passed is not refused.
        draft = await run_apart(_is_large(base), write.edit.apply, write.document, base)
        body, text = await self._compose(intent, draft, base)
        outcome = await self._carry_out(intent, body, text, started, first=False)
        findings = await run_apart(
            _is_large(base),
            self.credential_policy.find_credentials,
            write.document,
            base,
            draft.data or {},
        )
        return replace(outcome, findings=findings)

    async def _applied_outcome(self, document: DocumentId, intent: Intent) -> Outcome:
        version, revision = intent.version or 0, intent.revision or 0
        return Outcome(await self._reader.version(document, version, with_secrets=True), revision)

    async def _repeated_outcome(self, document: DocumentId, intent: Intent) -> Outcome:
        """Answer as the first request under the key was answered, with the same warnings."""
        outcome = await self._applied_outcome(document, intent)
        assert outcome.body is not None
        version = outcome.body.version
        base = await self._reader.last_readable(document, version - 1, with_secrets=True)
        data = outcome.body.data
        is_large = _is_large(outcome.body)
        findings = await run_apart(
            is_large, self.credential_policy.find_credentials, document, base, data
        )
        return replace(outcome, findings=findings)

    async def _compose(self, intent: Intent, draft: Draft, base: Body | None) -> tuple[Body, str]:
        """Seal the draft's secrets and make the text of version base + 1."""
        assert base is None or not base.without_secrets  # its masks would be stored for its secrets
        is_large = _is_large(base)
        data = draft.data or {}
        found = await run_apart(is_large, _leaves_to_seal, data)
        if found:
            data = await self._seal_secrets(_document(intent), data, found)
        return await run_apart(is_large, self._text_of, intent, draft, base, data)

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
            keys=key_facts(base, data, version, intent.actor, at, keep=self._max_versions),
        )
        text = encode(body)
        size = len(text.encode()) - removals_size(body.keys)
        if size > MAX_DOCUMENT_BYTES and not _only_removes(base, data):
            raise DocumentTooLarge(size, MAX_DOCUMENT_BYTES)
        return replace(body, size=len(text)), text

    def _fingerprints_of(
        self, document: DocumentId, base: Body | None, body: Body
    ) -> Mapping[str, str | None]:
        return self._fingerprints.facts(_content(document, base), _content(document, body))

    async def _seal_secrets(
        self, document: DocumentId, data: Tree, found: Sequence[tuple[str, str, ToSeal]]
    ) -> Tree:
        items = [
            (secret_context(document, place), json.dumps(leaf.value)) for _, place, leaf in found
        ]
        sealed = await self._cipher.seal(document.environment, items)
        return await run_apart(len(found) > _MANY_SECRETS, _with_sealed, data, sealed)

    async def _carry_out(
        self, intent: Intent, body: Body, text: str, started: float, *, first: bool
    ) -> Outcome:
        """Steps 2 to 4: store, log, answer."""
        document = _document(intent)
        await self._store_version(intent, document, text, started + self._sending, first=first)
        known = Written(
            body.version, intent.id, intent.at, comment=intent.comment, deleted=body.deleted
        )
        try:
            async with asyncio.timeout_at(started + self._answer):
                pointer = await self.advance(document, body.version, known)
                if pointer.version != body.version:  # others wrote on top of it meanwhile
                    return await self._applied_outcome(
                        document, await self._intents.intent(intent.id)
                    )
        except (TimeoutError, LogUnavailable, StoreUnavailable) as error:
            raise WriteOutcomeUnknown(intent.id) from error
        self._reader.remember(document, body)
        return Outcome(body, pointer.revision)

    async def _store_version(
        self, intent: Intent, document: DocumentId, text: str, deadline: float, *, first: bool
    ) -> None:
        """Send until version base + 1 exists; return if it is ours, else raise _RaceLost.

        `first`: no other process can have sent this intent, so a refusal means that nothing was
        written.
        """
        loop = asyncio.get_running_loop()
        doubtful = not first
        try:
            async with asyncio.timeout_at(deadline):
                while True:
                    seen, doubtful = await self._send_once(
                        intent, document, text, doubtful=doubtful
                    )
                    if seen is _ReadBack.MINE:
                        return
                    if seen is _ReadBack.OTHER:
                        break
                    await asyncio.sleep(_with_jitter(_PAUSE_SECONDS))
        except StoreUnavailable as error:
            if not doubtful:
                raise
            raise WriteOutcomeUnknown(intent.id) from error
        except TimeoutError as error:
            raise WriteOutcomeUnknown(intent.id) from error
        try:
            async with asyncio.timeout_at(loop.time() + self._answer - self._sending):
                await self.advance(document, intent.base + 1)
        except TimeoutError as error:
            raise LogUnavailable("the log did not answer in time") from error
        raise _RaceLost

    async def _send_once(
        self, intent: Intent, document: DocumentId, text: str, *, doubtful: bool
    ) -> tuple[_ReadBack, bool]:
        """Send once and, where the answer does not decide, look at version base + 1."""
        try:
            await self._store.write(document, text, base=intent.base)
        except VersionTaken:
            pass
        except WriteUnanswered:
            doubtful = True
        except StoreUnavailable:
            if not doubtful:
                raise
        else:
            return _ReadBack.MINE, doubtful
        try:
            return await self._read_back(intent, document), doubtful
        except StoreUnavailable:
            if not doubtful:
                raise
            return _ReadBack.ABSENT, doubtful

    async def _read_back(self, intent: Intent, document: DocumentId) -> _ReadBack:
        try:
            text = await self._store.read(document, intent.base + 1)
        except VersionMissing:
            return _ReadBack.ABSENT
        except VersionUnreadable:
            return _ReadBack.OTHER
        found = _parse_written(intent.base + 1, text)
        return _ReadBack.MINE if found.change_id == intent.id else _ReadBack.OTHER

    async def advance(
        self, document: DocumentId, upto: int, known: Written | None = None
    ) -> Pointer:
        """Bring the log up to version `upto`: the one way in, for writer, reconciler, scanner.

        `known` saves reading the newest version back when it was just written here.
        """
        try:
            if known is None:
                logged = await self._log.pointer(document.path)
                pointer = await self._log_missing(document, logged.version if logged else 0, upto)
            else:
                pointer = await self._log.advance(document.entity, [known])
        except Gap as gap:
            pointer = await self._log_missing(document, gap.logged, upto)
        self._reader.follower.advance_pointer(pointer)
        return pointer

    async def _log_missing(self, document: DocumentId, logged: int, upto: int) -> Pointer:
        """Log what lies between; versions are immutable, so they are read outside the log."""
        missing = range(logged + 1, upto + 1)
        # In portions: thousands at once would not be logged in time, at this or any later attempt.
        while len(missing) > _LOGGED_AT_ONCE:
            portion, missing = missing[:_LOGGED_AT_ONCE], missing[_LOGGED_AT_ONCE:]
            await self._log.advance(
                document.entity, await self._written_versions(document, portion)
            )
        return await self._log.advance(
            document.entity, await self._written_versions(document, missing)
        )

    async def _written_versions(
        self, document: DocumentId, versions: Iterable[int]
    ) -> list[Written]:
        return [await self._written_version(document, version) for version in versions]

    async def _written_version(self, document: DocumentId, version: int) -> Written:
        try:
            return _parse_written(version, await self._store.read(document, version))
        except (VersionMissing, VersionUnreadable):
            return Written(version, change_id=None)

    async def write_tombstone(self, document: DocumentId, version: int) -> None:
        """Write a tombstone over a current version that was deleted in the store itself."""
        pointer = self._reader.pointer(document)
        if pointer is None or pointer.deleted or pointer.version != version:
            return  # another write is on top of it
        edit = WriteTombstone()
        write = Write(document, edit, EXTERNAL_ACTOR, "", "deleted in the store")
        intent = _intent(write, "external", pointer.version, None, None)
        base = await self._reader.last_readable(document, pointer.version, with_secrets=True)
        draft = edit.apply(document, base)
        body, text = await self._compose(intent, draft, base)
        facts = await run_apart(_is_large(base), self._fingerprints_of, document, base, body)
        await self._intents.begin(replace(intent, facts=facts))
        started = asyncio.get_running_loop().time()
        try:
            await self._carry_out(intent, body, text, started, first=True)
        except _RaceLost:
            _log.info("tombstone_overtaken", document=document.path)


def _is_large(base: Body | None) -> bool:
    """Whether a write, or the document that it changes, is worked on apart."""
    return is_large_request() or (base is not None and base.size > LARGE_TEXT)


@dataclass(slots=True)
class _Queue:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiting: int = 0


def _count_findings(document: DocumentId, findings: Sequence[Finding]) -> None:
    for finding in findings:
        PLAIN_CREDENTIALS.labels(finding.rule, "allowed" if finding.allowed else "warned").inc()
        if finding.allowed:
            _log.info(
                "plain_credential_allowed",
                document=document.path,
                key=finding.key,
                rule=finding.rule,
                reason=finding.allowed,
            )


def count_refused_credentials(error: CredentialInPlainValue) -> None:
    for _, _, rule in error.found:
        PLAIN_CREDENTIALS.labels(rule, "refused").inc()


def secret_context(document: DocumentId, place: str) -> str:
    """What a ciphertext is bound to: a key, in a list without the numbers of items, which move."""
    return f"{document.path}\0{place}"


def _intent(write: Write, action: Action, base: int, key: str | None, digest: str | None) -> Intent:
    return Intent(
        id=uuid.uuid4().hex,
        entity=write.document.entity,
        base=base,
        action=action,
        actor=write.actor,
        comment=write.comment,
        request_id=write.request_id,
        at=datetime.now(UTC),
        idempotency_key=key,
        digest=digest,
        source=write.source,
    )


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


def _document(intent: Intent) -> DocumentId:
    environment = intent.entity.environment
    service, _, user = intent.entity.name.partition("/")
    return DocumentId(environment, service, user or None)


def _refuse_unexpected(write: Write, version: int) -> None:
    if not write.expected.allows(version):
        raise StaleWrite(str(write.document), version)


def _refuse_reuse(write: Write, intent: Intent, digest: str | None) -> None:
    if intent.digest != digest or intent.entity.key != write.document.path:
        raise IdempotencyKeyReused


def _leaves_to_seal(data: Tree) -> list[tuple[str, str, ToSeal]]:
    return list(values_to_seal(data))


def _with_sealed(data: Tree, sealed: Sequence[Sealed]) -> Tree:
    leaves = (stored_secret(secret.ciphertext, secret.fingerprint) for secret in sealed)
    result: Tree = put_sealed(data, leaves)
    return result


def _only_removes(base: Body | None, data: Tree) -> bool:
    """Tell whether the write only removes keys: that is allowed even if the document is full."""
    found = diff(base.data if base is not None else {}, data)
    return bool(found.removed) and not found.added and not found.changed


def _parse_written(version: int, text: str | None) -> Written:
    try:
        body = decode(text or "")
        return Written(
            version,
            body.change.id,
            datetime.fromisoformat(body.change.at),
            body.change.comment,
            deleted=body.deleted,
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return Written(version, change_id=None)


def _with_jitter(seconds: float) -> float:
    return seconds * random.uniform(0.5, 1.5)  # noqa: S311 - jitter, not a secret
