"""The write path: intent, store, log, answer (docs/protocols.md A, to the letter).

A write with compare-and-set base N can only become version N + 1, so that version alone decides
the outcome; until it exists the write has not failed.
"""

import asyncio
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import structlog

from app.audit.fingerprints import Fingerprints
from app.changes.errors import LogUnavailable
from app.changes.log.port import ChangeLog, Intents
from app.changes.model import CLOSED_BASE, EXTERNAL_ACTOR, Intent, Written
from app.configs.checks.credentials import CredentialPolicy
from app.configs.checks.errors import RelatedWriteOpen, SchemaViolated
from app.configs.documents.attempt import Deadlines, Outcome, Write, WriteAttempt
from app.configs.documents.candidates import NO_CANDIDATES, Candidates
from app.configs.documents.composer import VersionComposer
from app.configs.documents.document_judge import DocumentJudge
from app.configs.documents.drafter import Drafter
from app.configs.documents.edits import WriteTombstone
from app.configs.documents.intent_recorder import IntentRecorder, new_intent
from app.configs.documents.log_advance import LogAdvancer
from app.configs.documents.reader import DocumentReader
from app.configs.documents.repeats import ATTEMPTS, RepeatedWrites, refuse_other_request
from app.configs.documents.version_sender import VersionSender, pause
from app.configs.errors import (
    CredentialInPlainValue,
    StoreUnavailable,
    WriteClosed,
    WriteConflict,
    WriteOutcomeUnknown,
)
from app.configs.model import Body, DocumentId, Finding
from app.configs.store.port import Cipher, ConfigStore
from app.rules.policies.enforcement import Policies, count_bypass
from app.telemetry import CONFIG_WRITE_DURATION, CONFIG_WRITES, PLAIN_CREDENTIALS
from app.workers import run_apart

WRITE_SECONDS = 2.0
_WARNING = CredentialPolicy()  # and refusing nothing
_log = structlog.get_logger(__name__)


class DocumentWriter:
    """`repeats` answers repeated requests; `advancer` alone writes versions to the log."""

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
        judge: DocumentJudge | None = None,
        policies: Policies | None = None,
        candidates: Candidates = NO_CANDIDATES,
        seconds: float = WRITE_SECONDS,
    ) -> None:
        """Answer every write within `seconds`, whatever it waits for.

        `judge` judges writes by schemas; without it no write is judged. `policies` are asked
        before; without them all writes are made. `candidates` knows which keys only a release may
        change.
        """
        self.credential_policy = credential_policy
        self.repeats = RepeatedWrites(intents, cipher, reader, credential_policy)
        self.advancer = LogAdvancer(store, log, reader.follower)
        self._deadlines = Deadlines.within(seconds)
        self._store = store
        self._intents = intents
        self._reader = reader
        self.drafter = Drafter(reader, log, credential_policy, judge, candidates)
        self.composer = VersionComposer(cipher, fingerprints, max_versions)
        self._recorder = IntentRecorder(
            intents,
            self.drafter,
            self.composer,
            judge,
            self._log_deletion,
            self._deadlines.begin,
            policies,
        )
        self._sender = VersionSender(store)
        self._queues: defaultdict[DocumentId, _Queue] = defaultdict(_Queue)

    async def write(self, write: Write) -> Outcome:
        """Write one new version; see `edits` for what an edit may raise.

        Raises StaleWrite, WriteConflict, StoreUnavailable and LogUnavailable when nothing was
        written, WriteOutcomeUnknown when that cannot be said.
        """
        started = asyncio.get_running_loop().time()
        outcome = "refused"
        try:
            async with self._turn(write.document, started + self._deadlines.queue):
                result = await self._attempt_repeatedly(write, started)
            outcome = "written" if result.changed else "unchanged"
        except CredentialInPlainValue as error:
            count_refused_credentials(error)
            raise
        except SchemaViolated as error:
            raise error.shown_to(write.may_read) from None
        except WriteOutcomeUnknown:
            outcome = "unknown"
            raise
        finally:
            CONFIG_WRITES.labels(outcome).inc()
            CONFIG_WRITE_DURATION.observe(asyncio.get_running_loop().time() - started)
        return result

    async def close_key(self, write: Write) -> None:
        """Let no repetition of a write that was refused be written any more.

        Raises WriteOutcomeUnknown if one has been begun under its idempotency key: repeat it.
        """
        for number in range(ATTEMPTS):
            identity = await self.repeats.identity(write, number)
            closing = new_intent(write, "updated", CLOSED_BASE, identity, uuid.uuid4().hex)
            recorded = await self._intents.close_key(closing)
            if recorded.closes_key:
                return
            if recorded.state != "lost":
                raise WriteOutcomeUnknown(recorded.id)

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

    async def _attempt_repeatedly(self, write: Write, started: float) -> Outcome:
        """Attempt the write on newer and newer bases until it is not overtaken."""
        loop = asyncio.get_running_loop()
        for number in range(ATTEMPTS):
            outcome = await self._attempt(write, number, started)
            if outcome is not None:
                return outcome
            write.refuse_unexpected(self._current_version(write.document))
            if loop.time() > started + self._deadlines.queue:
                break
            await pause()
        raise WriteConflict(str(write.document))

    def _current_version(self, document: DocumentId) -> int:
        pointer = self._reader.pointer(document)
        return 0 if pointer is None or pointer.deleted else pointer.version

    async def _attempt(self, write: Write, number: int, started: float) -> Outcome | None:
        """Return the outcome of one attempt, None if another write has won the version."""
        attempt = WriteAttempt(write, started)
        try:
            # Counts until something may have been sent.
            async with asyncio.timeout_at(started + self._deadlines.begin) as bound:
                attempt.identity = await self.repeats.identity(write, number)
                earlier = await self.repeats.earlier_intent(write, attempt.identity)
                if earlier is None:
                    earlier = await self._recorder.record(attempt, bound)
        except TimeoutError as error:
            if attempt.is_blocked:
                raise RelatedWriteOpen(str(write.document)) from error
            raise LogUnavailable("the write could not be begun in time") from error
        if earlier is not None:
            return await self._continue(attempt, earlier)
        if attempt.draft.data is None:
            pointer = self._reader.pointer(write.document)
            return Outcome(attempt.base, pointer.revision if pointer else 0, changed=False)
        outcome = await self._carry_out(attempt)
        if outcome is None:
            return None
        count_bypass(attempt.authority_facts)
        _count_findings(write.document, attempt.draft.findings)
        return replace(outcome, findings=attempt.draft.findings, warnings=attempt.warnings)

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

    async def _continue(self, attempt: WriteAttempt, intent: Intent) -> Outcome | None:
        """Continue an earlier request with the same key: same id, same base."""
        write, document = attempt.write, attempt.document
        refuse_other_request(write, attempt.identity, intent)
        if intent.state == "applied":
            return await self.repeats.outcome_of(document, intent)
        if intent.closes_key:
            raise WriteClosed(str(document))
        if intent.state == "lost":
            return None
        base = None
        if intent.base:
            base = await self._reader.version(document, intent.base, with_secrets=True)
        attempt.base, attempt.intent = base, intent
        attempt.may_have_been_sent = True
        # What the first request passed is not refused, unless related writes have overtaken it.
        attempt.draft = await run_apart(attempt.is_large, self.drafter.draft_unchecked, write, base)
        attempt.body, attempt.text = await self._recorder.composer.compose(
            document, intent, attempt.draft, base
        )
        async with self._recorder.hold_relations(attempt):
            outcome = await self._carry_out(attempt)
        if outcome is None:
            return None
        findings = await run_apart(
            attempt.is_large,
            self.credential_policy.find_credentials,
            document,
            base,
            attempt.draft.data or {},
        )
        return replace(outcome, findings=findings)

    async def _carry_out(self, attempt: WriteAttempt) -> Outcome | None:
        """Steps 2 to 4: store, log, answer. None: another write has won the version."""
        deadline = min(attempt.started + self._deadlines.store, attempt.held_until)
        if await self._sender.send(attempt, deadline):
            return await self._log_version(attempt)
        await self._log_winner(attempt)
        return None

    async def _log_winner(self, attempt: WriteAttempt) -> None:
        """Log the version of another write, by which the intent of this one is lost."""
        seconds = self._deadlines.answer - self._deadlines.store
        try:
            async with asyncio.timeout(seconds):
                await self.advancer.advance(attempt.document, attempt.intent.base + 1)
        except TimeoutError as error:
            raise LogUnavailable("the log did not answer in time") from error

    async def _log_version(self, attempt: WriteAttempt) -> Outcome:
        document, intent, body = attempt.document, attempt.intent, attempt.body
        known = Written(
            body.version, intent.id, intent.at, comment=intent.comment, deleted=body.deleted
        )
        try:
            async with asyncio.timeout_at(attempt.started + self._deadlines.answer):
                pointer = await self.advancer.advance(document, body.version, known)
                if pointer.version != body.version:  # others have written later versions
                    applied = await self._intents.intent(intent.id)
                    return await self.repeats.version_of(document, applied)
        except (TimeoutError, LogUnavailable, StoreUnavailable) as error:
            raise WriteOutcomeUnknown(intent.id) from error
        self._reader.versions.remember(document, body)
        return Outcome(body, pointer.revision)

    async def write_tombstone(self, document: DocumentId, version: int) -> None:
        """Write a tombstone over a current version that was deleted in the store itself."""
        pointer = self._reader.pointer(document)
        if pointer is None or pointer.deleted or pointer.version != version:
            return  # another write is on top of it
        edit = WriteTombstone()
        write = Write(document, edit, EXTERNAL_ACTOR, "", "deleted in the store")
        loop = asyncio.get_running_loop()
        attempt = WriteAttempt(write, loop.time())
        attempt.base = await self._reader.last_readable(
            document, pointer.version, with_secrets=True
        )
        attempt.draft = edit.apply(document, attempt.base)
        intent = new_intent(write, "external", pointer.version, None, uuid.uuid4().hex)
        await self._recorder.compose(attempt, intent)
        await self._intents.begin(attempt.intent)
        attempt.started = loop.time()
        if await self._carry_out(attempt) is None:
            _log.info("tombstone_overtaken", document=document.path)


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
