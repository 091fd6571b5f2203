"""What finishes or notices writes nobody waits for: reconciler and scanner (protocols.md A)."""

from dataclasses import dataclass

import structlog

from app.changes.model import EXTERNAL_ACTOR, Intent
from app.changes.port import ChangeLog
from app.configs.errors import VersionMissing, VersionUnreadable
from app.configs.model import KIND, DocumentId, document_at
from app.configs.port import ConfigStore
from app.configs.reading import Reader
from app.configs.writing import Writer
from app.telemetry import EXTERNAL_EDITS, OPEN_INTENTS, VERSION_REGRESSIONS

RECONCILE_SECONDS = 1.0
_BATCH = 50
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Reconciler:
    """Decides intents whose writer died or gave up."""

    store: ConfigStore
    log: ChangeLog
    writer: Writer

    async def reconcile(self) -> None:
        overdue = await self.log.overdue(_BATCH)
        OPEN_INTENTS.set(len(overdue))
        for intent in overdue:
            await self._decide(intent)

    async def _decide(self, intent: Intent) -> None:
        document = document_at(intent.entity.key)
        if document is None:
            return
        if await self._exists(document, intent.base + 1):
            await self.writer.advance(document, intent.base + 1)
        else:
            # Not final: the request may still land, and `advance` will then find the intent.
            await self.log.expire(intent.id)

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
    """Finds what was written, deleted or lost in the store behind this service's back."""

    store: ConfigStore
    reader: Reader
    writer: Writer

    async def scan(self) -> None:
        found = await self.store.documents()
        for document in found:
            await self._compare(document)
        pointers = self.reader.follower.pointers
        logged = {path for path, pointer in pointers.items() if pointer.entity.kind == KIND}
        for path in logged - {document.path for document in found}:
            lost = document_at(path)
            if lost is not None:
                await self._compare(lost)

    async def _compare(self, document: DocumentId) -> None:
        known = self._logged(document)
        head = await self.store.head(document)
        # Asked before: what is written here meanwhile is no version that the store has lost.
        if head.version < known:
            VERSION_REGRESSIONS.inc()
            _log.error("store_lost_versions", document=document.path, logged=known)
            return
        if head.version > self._logged(document):
            pointer = await self.writer.advance(document, head.version)
            if pointer.actor == EXTERNAL_ACTOR:  # else it was a write of ours, just not logged yet
                EXTERNAL_EDITS.inc()
        if not head.readable:
            await self.writer.bury(document, head.version)

    def _logged(self, document: DocumentId) -> int:
        pointer = self.reader.pointer(document)
        return pointer.version if pointer is not None else 0
