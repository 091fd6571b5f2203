"""Recovery of abandoned and external writes: reconciler and scanner (protocols.md A)."""

from dataclasses import dataclass, field

import structlog

from app.changes.log.port import Intents
from app.changes.model import EXTERNAL_ACTOR, Intent
from app.configs.documents.log_advance import LogAdvancer
from app.configs.documents.reader import DocumentReader
from app.configs.documents.writer import DocumentWriter
from app.configs.errors import VersionMissing, VersionUnreadable
from app.configs.model import KIND, DocumentId, document_at
from app.configs.store.port import ConfigStore, Head
from app.telemetry import (
    DOCUMENTS_EXPIRING,
    EXTERNAL_EDITS,
    OPEN_INTENTS,
    VERSION_REGRESSIONS,
    VERSIONS_UNREADABLE,
)

RECONCILE_SECONDS = 1.0
_BATCH = 50
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Reconciler:
    """Decides intents whose writer died or gave up."""

    store: ConfigStore
    intents: Intents
    advancer: LogAdvancer

    async def reconcile(self) -> None:
        overdue = await self.intents.overdue_intents(_BATCH)
        OPEN_INTENTS.set(len(overdue))
        for intent in overdue:
            await self._decide(intent)

    async def _decide(self, intent: Intent) -> None:
        document = document_at(intent.entity.key)
        if document is None:
            return
        if await self._exists(document, intent.base + 1):
            await self.advancer.advance(document, intent.base + 1)
        else:
            # Not final: the request may still land, and `advance` will then find the intent.
            await self.intents.expire(intent.id)

    async def _exists(self, document: DocumentId, version: int) -> bool:
        try:
            await self.store.read(document, version)
        except VersionMissing:
            return False
        except VersionUnreadable:
            return True
        return True


@dataclass(frozen=True, slots=True)
class Scanner:
    """Finds what was written, deleted or lost in the store past this service."""

    store: ConfigStore
    reader: DocumentReader
    writer: DocumentWriter
    _unreadable: dict[DocumentId, frozenset[int]] = field(default_factory=dict)
    _expiring: dict[DocumentId, str] = field(default_factory=dict)

    @property
    def expiring(self) -> int:
        """The number of documents whose versions the store deletes by itself, at the last scan."""
        return len(self._expiring)

    async def scan(self) -> None:
        documents = await self.store.documents()
        for document in documents:
            await self._compare(document)
        pointers = self.reader.follower.pointers
        logged = {path for path, pointer in pointers.items() if pointer.entity.kind == KIND}
        for path in logged - {document.path for document in documents}:
            lost = document_at(path)
            if lost is not None:
                await self._compare(lost)

    async def _compare(self, document: DocumentId) -> None:
        known = self._logged_version(document)
        head = await self.store.head(document)
        # Read before the head: the store has not lost a version that is written in between.
        if head.version < known:
            VERSION_REGRESSIONS.inc()
            _log.error("store_lost_versions", document=document.path, logged=known)
            return
        if head.version > self._logged_version(document):
            pointer = await self.writer.advancer.advance(document, head.version)
            if pointer.actor == EXTERNAL_ACTOR:  # else it was a write of ours, just not logged yet
                EXTERNAL_EDITS.inc()
            self.reader.drop_cached(document, head.version)
        self._note_unreadable(document, head)
        self._note_expiry(document, head)
        if not head.readable:
            await self.writer.write_tombstone(document, head.version)

    def _note_unreadable(self, document: DocumentId, head: Head) -> None:
        """Log versions that were deleted or destroyed since the last scan, and purge the cache."""
        known = self._unreadable.get(document, frozenset())
        if head.unreadable == known:
            return
        self._unreadable[document] = head.unreadable
        if versions := sorted(head.unreadable - known):
            VERSIONS_UNREADABLE.inc(len(versions))
            _log.warning("versions_unreadable", document=document.path, versions=versions)
            self.reader.drop_cached(document, max(versions) + 1)

    def _note_expiry(self, document: DocumentId, head: Head) -> None:
        if not head.expires_after:
            self._expiring.pop(document, None)
        elif document not in self._expiring:
            self._expiring[document] = head.expires_after
            _log.warning(
                "document_expires", document=document.path, delete_version_after=head.expires_after
            )
        DOCUMENTS_EXPIRING.set(self.expiring)

    def _logged_version(self, document: DocumentId) -> int:
        pointer = self.reader.pointer(document)
        return pointer.version if pointer is not None else 0
