"""The use cases of configuration by document: one layer's whole object at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from app.changes.model import Change, Pointer
from app.changes.port import ChangeLog
from app.configs.edits import (
    restore_document,
    restore_key,
)
from app.configs.errors import DocumentNotFound
from app.configs.model import KIND, Body, DocumentId
from app.configs.reading import Reader
from app.configs.secrets import mask_history, masked, masked_diff
from app.configs.writing import Outcome, Write, Writer
from pilothouse_core.diff import Diff
from pilothouse_core.trees import Tree


@dataclass(frozen=True, slots=True)
class Shown:
    """One version of a document as it may be shown."""

    document: DocumentId
    body: Body
    data: Tree
    revision: int


@dataclass(frozen=True, slots=True)
class DocumentService:
    reader: Reader
    writer: Writer
    log: ChangeLog

    def listed(self, environment: str | None) -> Sequence[Pointer]:
        """Return the documents of services and shared layers, by environment and name."""
        found = [
            pointer
            for path, pointer in self.reader.follower.pointers.items()
            if pointer.entity.kind == KIND
            and not pointer.deleted
            and path.startswith("layers/")
            and environment in (None, pointer.entity.environment)
        ]
        return sorted(found, key=lambda pointer: (pointer.entity.environment, pointer.entity.name))

    def tag(self, document: DocumentId) -> str:
        pointer = self.reader.pointer(document)
        return str(pointer.version if pointer is not None else 0)

    async def get(self, document: DocumentId, version: int | None, *, fingerprints: bool) -> Shown:
        """Show the current version, or an earlier one as it may be shown today."""
        if version is None:
            body = await self.reader.existing(document, whole=fingerprints)
            return self.shown(document, body, fingerprints=fingerprints)
        body = await self.reader.shown(document, version, whole=fingerprints)
        current = await self.reader.known(document)
        data = mask_history(body, current, fingerprints=fingerprints)
        return Shown(document, body, data, self.revision(document))

    def shown(self, document: DocumentId, body: Body, *, fingerprints: bool) -> Shown:
        data = masked(body.data, fingerprints=fingerprints) if body.data else {}
        return Shown(document, body, data, self.revision(document))

    def revision(self, document: DocumentId) -> int:
        pointer = self.reader.pointer(document)
        return pointer.revision if pointer is not None else 0

    async def write(self, write: Write) -> Outcome:
        return await self.writer.write(write)

    async def restoring(self, document: DocumentId, version: int, key: str | None = None) -> Any:
        """Return the edit that brings back a version, whole or of one key."""
        old = await self.reader.earlier(document, version, whole=True)
        return restore_document(old) if key is None else restore_key(key, old)

    async def history(
        self, document: DocumentId, limit: int, before: int | None
    ) -> Sequence[Change]:
        if self.reader.pointer(document) is None:
            raise DocumentNotFound(str(document))
        return await self.log.history(document.path, limit, before)

    async def diff(
        self, document: DocumentId, old_version: int | None, new_version: int | None
    ) -> tuple[int, int, Diff]:
        """Compare two versions by key; a secret that changed is named and stays masked.

        Without numbers: the current version and the one before it.
        """
        current = await self.reader.known(document)
        new = current.version if new_version is None else new_version
        old = max(new - 1, 1) if old_version is None else old_version
        before = await self.reader.earlier(document, old, whole=True)
        after = await self.reader.earlier(document, new, whole=True)
        return old, new, masked_diff(before, after, current)
