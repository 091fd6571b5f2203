"""Reading documents: exactly the version that the log names, or an earlier one by its number."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from app.cache.provenance import note_source
from app.changes.follower import Follower
from app.changes.model import EXTERNAL_ACTOR, Pointer
from app.configs.documents.cache import DocumentCache
from app.configs.documents.fetcher import EXTERNAL_STEPS, VersionFetcher
from app.configs.documents.version_reader import VersionReader
from app.configs.errors import (
    DocumentLost,
    DocumentMalformed,
    DocumentNotFound,
    VersionGone,
    VersionIsDeletion,
    VersionNotFound,
)
from app.configs.model import KIND, Body, DocumentId, Stamp, document_at
from app.configs.store.port import ConfigStore

READ_SECONDS = 0.8


class DocumentReader:
    """`with_secrets=True` reads bodies with their secrets, which only the store has.

    Without it the secrets of a body may be masks. One look into cache and store takes `seconds` at
    most; `max_versions`: how many versions the store keeps.
    """

    def __init__(
        self,
        store: ConfigStore,
        follower: Follower,
        cached: DocumentCache,
        *,
        max_versions: int,
        memory_bytes: int,
        seconds: float = READ_SECONDS,
    ) -> None:
        self.follower = follower
        self._cached = cached
        self.versions = VersionReader(
            VersionFetcher(store, follower, max_versions),
            follower,
            cached,
            memory_bytes=memory_bytes,
            seconds=seconds,
        )

    def pointer(self, document: DocumentId) -> Pointer | None:
        note_source("hit-local")
        return self.follower.pointer(document.path)

    async def current(self, document: DocumentId, *, with_secrets: bool = False) -> Body | None:
        """Return the current version (a deletion too), None where there never was one."""
        pointer = self.pointer(document)
        if pointer is None:
            return None
        return await self.current_at(document, pointer.version, with_secrets=with_secrets)

    async def current_at(self, document: DocumentId, version: int, *, with_secrets: bool) -> Body:
        """Return the version that the pointer named just now, though it may have moved since.

        Raises DocumentLost, DocumentMalformed and StoreUnavailable.
        """
        try:
            return await self.versions.read(
                document, version, with_secrets=with_secrets, is_current=True
            )
        except VersionGone as error:
            raise DocumentLost(str(document), version) from error

    async def current_or_last_readable(
        self, document: DocumentId, *, with_secrets: bool = False
    ) -> Body:
        """Return the current version, or what is known of one that is no document of ours."""
        try:
            body = await self.current(document, with_secrets=with_secrets)
        except DocumentMalformed as error:
            body = await self.before_malformed(document, error.version, with_secrets=with_secrets)
        if body is None:
            raise DocumentNotFound(str(document))
        return body

    async def require_current(self, document: DocumentId, *, with_secrets: bool = False) -> Body:
        """Return the current version, or raise DocumentNotFound."""
        body = await self.current(document, with_secrets=with_secrets)
        if body is None or body.deleted:
            raise DocumentNotFound(str(document))
        return body

    async def version_or_raise(
        self, document: DocumentId, version: int, *, with_secrets: bool = False
    ) -> Body:
        """Return a version by number, deletions too; raises VersionNotFound or VersionGone."""
        pointer = self.pointer(document)
        if pointer is None:
            raise DocumentNotFound(str(document))
        if not 1 <= version <= pointer.version:
            raise VersionNotFound(str(document), version)
        return await self.version(document, version, with_secrets=with_secrets)

    async def undeleted_version(
        self, document: DocumentId, version: int, *, with_secrets: bool = False
    ) -> Body:
        """The same without deletions, which have nothing to show."""
        body = await self.version_or_raise(document, version, with_secrets=with_secrets)
        if body.deleted:
            raise VersionIsDeletion(str(document), version)
        return body

    async def version(
        self, document: DocumentId, version: int, *, with_secrets: bool = False
    ) -> Body:
        """Return one immutable version; only the current one may come from memory or cache."""
        is_current = self.versions.current_pointer(document, version) is not None
        return await self.versions.read(
            document, version, with_secrets=with_secrets, is_current=is_current
        )

    async def last_readable(
        self, document: DocumentId, version: int, *, with_secrets: bool = False
    ) -> Body | None:
        """Return the newest version up to `version` that can still be read, if one is near."""
        for candidate in range(version, max(0, version - EXTERNAL_STEPS), -1):
            try:
                return await self.version(document, candidate, with_secrets=with_secrets)
            except (VersionGone, DocumentMalformed):
                continue
        return None

    async def before_malformed(
        self, document: DocumentId, version: int, *, with_secrets: bool = False
    ) -> Body:
        """Return what is known of a document whose current version is no document of ours."""
        before = await self.last_readable(document, version - 1, with_secrets=with_secrets)
        if before is not None:
            return replace(before, version=version, deleted=False)
        return Body(version, Stamp("", "external", EXTERNAL_ACTOR, "", ""), EXTERNAL_ACTOR, "")

    def drop_cached(self, document: DocumentId, version: int) -> None:
        """Take the versions before `version` out of the cache that all replicas share."""
        self._cached.drop_before(document, version)

    def is_current(self, versions: Iterable[tuple[DocumentId, int]]) -> bool:
        """Tell whether the log still names each of these versions."""
        return all(self.versions.current_pointer(*named) is not None for named in versions)

    def documents(self) -> Sequence[DocumentId]:
        """Return every layer that exists, those of users too, in order."""
        layers = (
            document_at(path)
            for path, pointer in self.follower.pointers.items()
            if pointer.entity.kind == KIND and not pointer.deleted
        )
        return sorted(
            (document for document in layers if document is not None),
            key=lambda each: (each.environment, each.service, each.user or ""),
        )
