"""The use cases of configuration by document: one layer's whole object at a time."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.changes.log.port import ChangeLog
from app.changes.model import Change, Pointer
from app.configs.documents.edits import RestoreKey, RestoreVersion
from app.configs.documents.reader import DocumentReader
from app.configs.errors import DocumentNotFound
from app.configs.model import KIND, Body, DocumentId
from app.configs.secrets import mask_history, mask_secrets, masked_diff
from app.configs.services.answers import layer_tag_of
from app.workers import LARGE_TEXT, note_large_work, run_apart
from pilothouse_core.diff import Diff
from pilothouse_core.trees import Tree


@dataclass(frozen=True, slots=True)
class VisibleVersion:
    """One version of a document as it may be shown."""

    document: DocumentId
    body: Body
    data: Tree
    revision: int


@dataclass(frozen=True, slots=True)
class DocumentService:
    reader: DocumentReader
    log: ChangeLog

    def list_documents(self, environment: str | None) -> Sequence[Pointer]:
        """Return the documents of services and shared layers, by environment and name."""
        pointers = [
            pointer
            for path, pointer in self.reader.follower.pointers.items()
            if pointer.entity.kind == KIND
            and not pointer.deleted
            and path.startswith("layers/")
            and environment in (None, pointer.entity.environment)
        ]
        return sorted(
            pointers, key=lambda pointer: (pointer.entity.environment, pointer.entity.name)
        )

    def tag(self, document: DocumentId, *, fingerprints: bool = False) -> str:
        pointer = self.reader.pointer(document)
        version = pointer.version if pointer is not None else 0
        return layer_tag_of(version, fingerprints=fingerprints)

    async def get(
        self, document: DocumentId, version: int | None, *, fingerprints: bool
    ) -> VisibleVersion:
        """Show the current version, or an earlier one as it may be shown today."""
        if version is None:
            body = await self.reader.require_current(document, with_secrets=fingerprints)
            return await self.visible_version(document, body, fingerprints=fingerprints)
        body = await self.reader.undeleted_version(document, version, with_secrets=fingerprints)
        current = await self.reader.current_or_last_readable(document)
        revision = self.revision(document)
        is_large = max(body.size, current.size) > LARGE_TEXT
        data = await run_apart(is_large, mask_history, body, current, fingerprints=fingerprints)
        return VisibleVersion(document, body, data, revision)

    async def visible_version(
        self, document: DocumentId, body: Body, *, fingerprints: bool
    ) -> VisibleVersion:
        revision = self.revision(document)
        data: Tree = {}
        if body.data:
            is_large = body.size > LARGE_TEXT
            data = await run_apart(is_large, mask_secrets, body.data, fingerprints=fingerprints)
        return VisibleVersion(document, body, data, revision)

    def revision(self, document: DocumentId) -> int:
        pointer = self.reader.pointer(document)
        return pointer.revision if pointer is not None else 0

    async def edit_to_restore(
        self, document: DocumentId, version: int, key: str | None = None
    ) -> RestoreVersion | RestoreKey:
        """Return the edit that brings back a version, whole or of one key."""
        old = await self.reader.version_or_raise(document, version, with_secrets=True)
        if old.size > LARGE_TEXT:
            note_large_work()
        return RestoreVersion.of(old) if key is None else RestoreKey.of(key, old)

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
        current = await self.reader.current_or_last_readable(document)
        new = current.version if new_version is None else new_version
        old = max(new - 1, 1) if old_version is None else old_version
        before = await self.reader.version_or_raise(document, old, with_secrets=True)
        after = await self.reader.version_or_raise(document, new, with_secrets=True)
        is_large = max(before.size, after.size, current.size) > LARGE_TEXT
        return old, new, await run_apart(is_large, masked_diff, before, after, current)
