"""The write path: intent, store, log, answer (docs/protocols.md A, to the letter).

A write with compare-and-set base N can only become version N + 1, so that version alone decides
what became of it; until it exists nobody may say "failed".
"""

import asyncio
import json
import random
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import Enum

import structlog

from app.access.fingerprints import Fingerprints
from app.changes.errors import Gap, IdempotencyKeyReused, LogUnavailable
from app.changes.model import (
    EXTERNAL_ACTOR,
    Action,
    Idempotency,
    Intent,
    Pointer,
    Written,
)
from app.changes.port import ChangeLog
from app.configs.edits import Draft, Edit, bury, key_facts
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
from app.configs.model import MAX_DOCUMENT_BYTES, Body, DocumentId, Finding, Stamp, decode, encode
from app.configs.plain_values import Place, PlainValues, nowhere
from app.configs.port import Cipher, ConfigStore
from app.configs.reading import Reader
from app.configs.secrets import masked, stored, to_seal
from app.errors import PilothouseError
from app.telemetry import CONFIG_WRITE_DURATION, CONFIG_WRITES, PLAIN_CREDENTIALS
from pilothouse_core.diff import diff
from pilothouse_core.trees import Tree, copied

QUEUE_SECONDS = 0.9  # behind other writers of the same document, then 503
STORE_SECONDS = 1.5  # from the start until the store must have answered
WRITE_SECONDS = 1.9  # from the start until the client is answered
_ATTEMPTS = 10
_PAUSE_SECONDS = 0.03
_LOGGED_AT_ONCE = 100  # versions
_WARNING = PlainValues()  # and refusing nothing
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Write:
    """One write as a caller asks for it. `expected` judges the current version (If-Match)."""

    document: DocumentId
    edit: Edit
    actor: str
    request_id: str
    comment: str = ""
    expected: Callable[[int], bool] | None = None
    replaces: bool = False  # the edit needs nothing of what the current version says
    idempotency: Idempotency | None = None
    place: Place = nowhere
    source: str | None = None  # the address it came from


@dataclass(frozen=True, slots=True)
class Outcome:
    """The version that holds the write; `changed` is false if there was nothing to write."""

    body: Body | None
    revision: int
    changed: bool = True
    findings: tuple[Finding, ...] = ()


class _Seen(Enum):
    MINE = "mine"
    OTHER = "other"
    ABSENT = "absent"


class _Lost(Exception):  # not an error: another write took the version
    pass


class Writer:
    def __init__(  # noqa: PLR0913 - what stands around every write
        self,
        store: ConfigStore,
        log: ChangeLog,
        cipher: Cipher,
        reader: Reader,
        *,
        max_versions: int,
        fingerprints: Fingerprints,
        plain_values: PlainValues = _WARNING,
    ) -> None:
        self.plain_values = plain_values
        self._store = store
        self._log = log
        self._cipher = cipher
        self._reader = reader
        self._max_versions = max_versions
        self._fingerprints = fingerprints
        self._queues: defaultdict[DocumentId, _Queue] = defaultdict(_Queue)

    async def write(self, write: Write) -> Outcome:
        """Write one new version; see `Edit` for what an edit may raise.

        Raises StaleWrite, WriteConflict, StoreUnavailable and LogUnavailable when nothing was
        written, WriteOutcomeUnknown when that cannot be said.
        """
        started = asyncio.get_running_loop().time()
        outcome = "refused"
        try:
            async with self._turn(write.document, started + QUEUE_SECONDS):
                result = await self._attempts(write, started)
            outcome = "written" if result.changed else "unchanged"
        except CredentialInPlainValue as error:
            count_refused(error)
            raise
        except WriteOutcomeUnknown:
            outcome = "unknown"
            raise
        finally:
            CONFIG_WRITES.labels(outcome).inc()
            CONFIG_WRITE_DURATION.observe(asyncio.get_running_loop().time() - started)
        return result

    async def replayed(self, write: Write) -> Outcome | None:
        """Return what a request under the same idempotency key has written, if one has.

        Raises IdempotencyKeyReused.
        """
        for attempt in range(_ATTEMPTS):
            key, digest = await self._identity(write, attempt)
            intent = await self._log.joined(key) if key is not None else None
            if intent is None:
                return None
            _refuse_reuse(write, intent, digest)
            if intent.state != "lost":
                applied = intent.state == "applied"
                return await self._repeated(write.document, intent) if applied else None
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
            except _Lost:
                _refuse_unexpected(write, self._version(write))
            if loop.time() > started + QUEUE_SECONDS:
                break
            await asyncio.sleep(_jittered(_PAUSE_SECONDS))
        raise WriteConflict(str(write.document))

    def _version(self, write: Write) -> int:
        pointer = self._reader.pointer(write.document)
        return 0 if pointer is None or pointer.deleted else pointer.version

    async def _attempt(self, write: Write, attempt: int, started: float) -> Outcome:
        key, digest = await self._identity(write, attempt)
        earlier = await self._log.joined(key) if key is not None else None
        if earlier is not None:
            return await self._join(write, earlier, digest, started)
        base, draft = await self._drafted(write)
        if draft.data is None:
            pointer = self._reader.pointer(write.document)
            return Outcome(base, pointer.revision if pointer else 0, changed=False)
        intent = _intent(write, draft.action, base.version if base else 0, key, digest)
        body, text = await self._composed(intent, draft, base)
        intent = replace(intent, facts=self._fingerprinted(base, body))
        begun = await self._log.begin(intent)
        if begun.id != intent.id:
            return await self._join(write, begun, digest, started)
        # Under a key another replica may have joined meanwhile, and sent the write.
        outcome = await self._carry_out(intent, body, text, started, first=key is None)
        _count(write.document, draft.findings)
        return replace(outcome, findings=draft.findings)

    async def _drafted(self, write: Write) -> tuple[Body | None, Draft]:
        """Apply the edit to the current version.

        Nothing is refused or left undone for a version that is no longer current: another replica
        may have written on top, and this one may not have followed yet.
        """
        base = await self._base(write)
        try:
            draft = self._edited(write, base)
        except PilothouseError:
            if not await self._catches_up(write.document, base):
                raise
        else:
            if draft.data is not None or not await self._catches_up(write.document, base):
                return base, draft
        base = await self._base(write)
        return base, self._edited(write, base)

    def _edited(self, write: Write, base: Body | None) -> Draft:
        # The version the edit is based on, not the pointer: that may have moved on meanwhile.
        _refuse_unexpected(write, 0 if base is None or base.deleted else base.version)
        draft = write.edit(write.document, base)
        return self.plain_values.judged(write.document, base, draft, write.place)

    async def _catches_up(self, document: DocumentId, base: Body | None) -> bool:
        """Ask the log for the current version, and tell whether it is later than `base`."""
        logged = await self._log.pointer(document.path)
        if logged is None or logged.version <= (base.version if base is not None else 0):
            return False
        self._reader.follower.learn(logged)
        return True

    async def _base(self, write: Write) -> Body | None:
        try:
            return await self._reader.current(write.document, whole=True)
        except DocumentMalformed as error:
            if not write.replaces:
                raise
            # What somebody wrote past this service cannot be read, and may still be replaced.
            return await self._reader.before_malformed(write.document, error.version, whole=True)

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
            return await self._repeated(write.document, intent)
        if intent.state == "lost":
            raise _Lost
        base = None
        if intent.base:
            base = await self._reader.version(write.document, intent.base, whole=True)
        draft = write.edit(write.document, base)  # what the first request passed is not refused
        body, text = await self._composed(intent, draft, base)
        outcome = await self._carry_out(intent, body, text, started, first=False)
        findings = self.plain_values.found(write.document, base, draft.data or {})
        return replace(outcome, findings=findings)

    async def _applied(self, document: DocumentId, intent: Intent) -> Outcome:
        version, revision = intent.version or 0, intent.revision or 0
        return Outcome(await self._reader.version(document, version, whole=True), revision)

    async def _repeated(self, document: DocumentId, intent: Intent) -> Outcome:
        """Answer as the first request under the key was answered, with the same warnings."""
        outcome = await self._applied(document, intent)
        assert outcome.body is not None
        version = outcome.body.version
        base = await self._reader.last_readable(document, version - 1, whole=True)
        findings = self.plain_values.found(document, base, outcome.body.data)
        return replace(outcome, findings=findings)

    async def _composed(self, intent: Intent, draft: Draft, base: Body | None) -> tuple[Body, str]:
        """Seal the draft's secrets and make the text of version base + 1."""
        assert base is None or not base.hollow  # its masks would be stored for its secrets
        document = _document(intent)
        version, at = intent.base + 1, intent.at.isoformat()
        data = await self._sealed(document, draft.data or {})
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
        size = len(text.encode())
        if size > MAX_DOCUMENT_BYTES and not _only_removes(base, data):
            raise DocumentTooLarge(size, MAX_DOCUMENT_BYTES)
        return replace(body, size=len(text)), text

    def _fingerprinted(self, base: Body | None, body: Body) -> Mapping[str, str | None]:
        return self._fingerprints.facts(_content(base), _content(body))

    async def _sealed(self, document: DocumentId, data: Tree) -> Tree:
        found = list(to_seal(data))
        if not found:
            return data
        items = [(secret_context(document, key), json.dumps(leaf.value)) for key, leaf in found]
        sealed = await self._cipher.seal(document.environment, items)
        result = copied(data)
        for (key, _), secret in zip(found, sealed, strict=True):
            _replace(result, key, stored(secret.ciphertext, secret.fingerprint))
        return result

    async def _carry_out(
        self, intent: Intent, body: Body, text: str, started: float, *, first: bool
    ) -> Outcome:
        """Steps 2 to 4: store, log, answer."""
        document = _document(intent)
        await self._stored(intent, document, text, started + STORE_SECONDS, first=first)
        known = Written(
            body.version, intent.id, intent.at, comment=intent.comment, deleted=body.deleted
        )
        try:
            async with asyncio.timeout_at(started + WRITE_SECONDS):
                pointer = await self.advance(document, body.version, known)
                if pointer.version != body.version:  # others wrote on top of it meanwhile
                    return await self._applied(document, await self._log.intent(intent.id))
        except (TimeoutError, LogUnavailable, StoreUnavailable) as error:
            raise WriteOutcomeUnknown(intent.id) from error
        self._reader.remember(document, body)
        return Outcome(body, pointer.revision)

    async def _stored(
        self, intent: Intent, document: DocumentId, text: str, deadline: float, *, first: bool
    ) -> None:
        """Send until version base + 1 exists; return if it is ours, raise _Lost if it is not.

        `first`: no other process can have sent this intent, so a refusal means that nothing was
        written.
        """
        loop = asyncio.get_running_loop()
        doubtful = not first
        try:
            async with asyncio.timeout_at(deadline):
                while True:
                    seen, doubtful = await self._sent(intent, document, text, doubtful=doubtful)
                    if seen is _Seen.MINE:
                        return
                    if seen is _Seen.OTHER:
                        break
                    await asyncio.sleep(_jittered(_PAUSE_SECONDS))
        except StoreUnavailable as error:
            if not doubtful:
                raise
            raise WriteOutcomeUnknown(intent.id) from error
        except TimeoutError as error:
            raise WriteOutcomeUnknown(intent.id) from error
        try:
            async with asyncio.timeout_at(loop.time() + WRITE_SECONDS - STORE_SECONDS):
                await self.advance(document, intent.base + 1)
        except TimeoutError as error:
            raise LogUnavailable("the log did not answer in time") from error
        raise _Lost

    async def _sent(
        self, intent: Intent, document: DocumentId, text: str, *, doubtful: bool
    ) -> tuple[_Seen, bool]:
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
            return _Seen.MINE, doubtful
        try:
            return await self._look(intent, document), doubtful
        except StoreUnavailable:
            if not doubtful:
                raise
            return _Seen.ABSENT, doubtful

    async def _look(self, intent: Intent, document: DocumentId) -> _Seen:
        try:
            text = await self._store.read(document, intent.base + 1)
        except VersionMissing:
            return _Seen.ABSENT
        except VersionUnreadable:
            return _Seen.OTHER
        found = _written(intent.base + 1, text)
        return _Seen.MINE if found.change_id == intent.id else _Seen.OTHER

    async def advance(
        self, document: DocumentId, upto: int, known: Written | None = None
    ) -> Pointer:
        """Bring the log up to version `upto`: the one way in, for writer, reconciler, scanner.

        `known` saves reading the newest version back when it was just written here.
        """
        try:
            if known is None:
                logged = await self._log.pointer(document.path)
                pointer = await self._fill(document, logged.version if logged else 0, upto)
            else:
                pointer = await self._log.advance(document.entity, [known])
        except Gap as gap:
            pointer = await self._fill(document, gap.logged, upto)
        self._reader.follower.learn(pointer)
        return pointer

    async def _fill(self, document: DocumentId, logged: int, upto: int) -> Pointer:
        """Log what lies between; versions are immutable, so they are read outside the log."""
        missing = range(logged + 1, upto + 1)
        # In portions: thousands at once would not be logged in time, at this or any later attempt.
        while len(missing) > _LOGGED_AT_ONCE:
            portion, missing = missing[:_LOGGED_AT_ONCE], missing[_LOGGED_AT_ONCE:]
            await self._log.advance(document.entity, await self._all_found(document, portion))
        return await self._log.advance(document.entity, await self._all_found(document, missing))

    async def _all_found(self, document: DocumentId, versions: Iterable[int]) -> list[Written]:
        return [await self._found(document, version) for version in versions]

    async def _found(self, document: DocumentId, version: int) -> Written:
        try:
            return _written(version, await self._store.read(document, version))
        except (VersionMissing, VersionUnreadable):
            return Written(version, change_id=None)

    async def bury(self, document: DocumentId, version: int) -> None:
        """Write a tombstone over a current version that was deleted in the store itself."""
        pointer = self._reader.pointer(document)
        if pointer is None or pointer.deleted or pointer.version != version:
            return  # somebody has written on top of it
        write = Write(document, bury, EXTERNAL_ACTOR, "", "deleted in the store")
        intent = _intent(write, "external", pointer.version, None, None)
        base = await self._reader.last_readable(document, pointer.version, whole=True)
        draft = bury(document, base)
        body, text = await self._composed(intent, draft, base)
        await self._log.begin(replace(intent, facts=self._fingerprinted(base, body)))
        started = asyncio.get_running_loop().time()
        try:
            await self._carry_out(intent, body, text, started, first=True)
        except _Lost:
            _log.info("tombstone_overtaken", document=document.path)


@dataclass(slots=True)
class _Queue:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiting: int = 0


def _count(document: DocumentId, findings: Sequence[Finding]) -> None:
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


def count_refused(error: CredentialInPlainValue) -> None:
    for _, _, rule, _ in error.found:
        PLAIN_CREDENTIALS.labels(rule, "refused").inc()


def secret_context(document: DocumentId, key: str) -> str:
    """What a ciphertext is bound to."""
    return f"{document.path}\0{key}"


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


def _content(body: Body | None) -> str | None:
    """Return what a version says, the same for the same; a secret by its own fingerprint."""
    if body is None or body.deleted:
        return None
    shown = masked(body.data, fingerprints=True) if body.data else {}
    return json.dumps(shown, ensure_ascii=False, separators=(",", ":"), sort_keys=True)


def _document(intent: Intent) -> DocumentId:
    environment = intent.entity.environment
    service, _, user = intent.entity.name.partition("/")
    return DocumentId(environment, service, user or None)


def _refuse_unexpected(write: Write, version: int) -> None:
    if write.expected is not None and not write.expected(version):
        raise StaleWrite(str(write.document), version)


def _refuse_reuse(write: Write, intent: Intent, digest: str | None) -> None:
    if intent.digest != digest or intent.entity.key != write.document.path:
        raise IdempotencyKeyReused


def _only_removes(base: Body | None, data: Tree) -> bool:
    """A document that is full can be made smaller, though what is removed is still remembered."""
    found = diff(base.data if base is not None else {}, data)
    return bool(found.removed) and not found.added and not found.changed


def _written(version: int, text: str | None) -> Written:
    try:
        body = decode(text or "")
        return Written(
            version,
            body.change.id,
            datetime.fromisoformat(body.change.at),
            body.change.comment,
            deleted=body.deleted,
        )
    except (ValueError, KeyError, TypeError):
        return Written(version, change_id=None)


def _replace(tree: Tree, key: str, value: object) -> None:
    *outer, last = key.split(".")
    for name in outer:
        tree = tree[name]
    tree[last] = value


def _jittered(seconds: float) -> float:
    return seconds * random.uniform(0.5, 1.5)  # noqa: S311 - jitter, not a secret
