"""Reading: exactly the version the log names, from memory or from the store."""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from app.changes.follower import Follower
from app.changes.model import EXTERNAL_ACTOR, Pointer
from app.configs.edits import key_facts
from app.configs.errors import (
    DocumentLost,
    DocumentMalformed,
    DocumentNotFound,
    StoreUnavailable,
    VersionGone,
    VersionIsDeletion,
    VersionMissing,
    VersionNotFound,
    VersionUnreadable,
)
from app.configs.model import Body, DocumentId, Stamp, decode, layers_of
from app.configs.port import ConfigStore
from app.telemetry import CONFIG_READS
from pilothouse_core.layers import Merged, merge

READ_SECONDS = 0.8
_STORE_READS_AT_ONCE = 24
_EXTERNAL_STEPS = 20
# Looking a label up costs as much as the read itself.
CONFIG_READS_FROM_MEMORY = CONFIG_READS.labels("memory")
Key = TypeVar("Key")
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Effective:
    """The merged configuration and what it was merged from, lowest layer first."""

    addressed: DocumentId
    merged: Merged[DocumentId]
    layers: tuple[tuple[DocumentId, int], ...]
    bodies: dict[DocumentId, Body]
    revision: int


class Reader:
    def __init__(
        self, store: ConfigStore, follower: Follower, *, max_versions: int, memory_bytes: int
    ) -> None:
        self._store = store
        self._follower = follower
        self._max_versions = max_versions
        self._memory: BoundedMemory[tuple[DocumentId, int], Body] = BoundedMemory(memory_bytes // 2)
        self._merges: BoundedMemory[tuple[tuple[DocumentId, int], ...], Effective] = BoundedMemory(
            memory_bytes // 2
        )
        self._under_way: dict[tuple[DocumentId, int], asyncio.Task[Body]] = {}
        self._bulkhead = asyncio.Semaphore(_STORE_READS_AT_ONCE)
        self.hits = self.misses = 0

    @property
    def follower(self) -> Follower:
        return self._follower

    def pointer(self, document: DocumentId) -> Pointer | None:
        return self._follower.pointer(document.path)

    async def current(self, document: DocumentId) -> Body | None:
        """Return the current version (a deletion too), None where there never was one."""
        pointer = self.pointer(document)
        if pointer is None:
            return None
        return await self._current_at(document, pointer.version)

    async def _current_at(self, document: DocumentId, version: int) -> Body:
        try:
            return await self.version(document, version)
        except VersionGone as error:
            raise DocumentLost(str(document), version) from error

    async def existing(self, document: DocumentId) -> Body:
        """Return the current version, or raise DocumentNotFound."""
        body = await self.current(document)
        if body is None or body.deleted:
            raise DocumentNotFound(str(document))
        return body

    async def earlier(self, document: DocumentId, version: int) -> Body:
        """Return a version by number, deletions too; raises VersionNotFound or VersionGone."""
        pointer = self.pointer(document)
        if pointer is None:
            raise DocumentNotFound(str(document))
        if not 1 <= version <= pointer.version:
            raise VersionNotFound(str(document), version)
        return await self.version(document, version)

    async def shown(self, document: DocumentId, version: int) -> Body:
        """The same without deletions, which have nothing to show."""
        body = await self.earlier(document, version)
        if body.deleted:
            raise VersionIsDeletion(str(document), version)
        return body

    async def version(self, document: DocumentId, version: int) -> Body:
        """Return one immutable version; concurrent misses share one read of the store."""
        remembered = self._memory.get((document, version))
        if remembered is not None:
            self.hits += 1
            CONFIG_READS_FROM_MEMORY.inc()
            return remembered
        self.misses += 1
        CONFIG_READS.labels("store").inc()
        task = self._under_way.get((document, version))
        if task is None:
            task = asyncio.create_task(self._fill(document, version))
            task.add_done_callback(_collected)
            self._under_way[document, version] = task
        try:
            async with asyncio.timeout(READ_SECONDS):
                # Shielded: one impatient reader must not take the answer from the others.
                return await asyncio.shield(task)
        except TimeoutError as error:
            raise StoreUnavailable("the configuration store did not answer in time") from error

    async def _fill(self, document: DocumentId, version: int) -> Body:
        try:
            body = await self._fetched(document, version, _EXTERNAL_STEPS)
            self._memory.put((document, version), body, body.size)
            return body
        finally:
            del self._under_way[document, version]

    async def _fetched(self, document: DocumentId, version: int, steps: int) -> Body:
        text = await self._text(document, version)
        try:
            body = decode(text or "")
        except (ValueError, KeyError, TypeError) as error:
            raise DocumentMalformed(str(document), version) from error
        if body.version != version:
            return await self._external(document, version, body, steps)
        return body

    async def _text(self, document: DocumentId, version: int) -> str | None:
        try:
            async with self._bulkhead:
                return await self._store.read(document, version)
        except (VersionMissing, VersionUnreadable) as error:
            raise VersionGone(str(document), version) from error

    async def _external(self, document: DocumentId, version: int, body: Body, steps: int) -> Body:
        """Complete a version written past this service: its key facts tell of another version.

        What the edit changed is found by comparing with the version before it.
        """
        before = await self._before(document, version, steps)
        at = body.change.at
        facts = key_facts(before, body.data, version, EXTERNAL_ACTOR, at, keep=self._max_versions)
        stamp = Stamp("", "external", EXTERNAL_ACTOR, "", at)
        return replace(body, version=version, change=stamp, keys=facts)

    async def _before(self, document: DocumentId, version: int, steps: int) -> Body | None:
        if version == 1 or steps == 0:
            return None
        try:
            return await self._fetched(document, version - 1, steps - 1)
        except (VersionGone, DocumentMalformed):
            return None

    async def last_readable(self, document: DocumentId, version: int) -> Body | None:
        """Return the newest version up to `version` that can still be read, if one is near."""
        for candidate in range(version, max(0, version - _EXTERNAL_STEPS), -1):
            try:
                return await self.version(document, candidate)
            except (VersionGone, DocumentMalformed):
                continue
        return None

    async def before_malformed(self, document: DocumentId, version: int) -> Body:
        """Return what is known of a document whose current version is no document of ours."""
        before = await self.last_readable(document, version - 1)
        if before is not None:
            return replace(before, version=version, deleted=False)
        return Body(version, Stamp("", "external", EXTERNAL_ACTOR, "", ""), EXTERNAL_ACTOR, "")

    def remember(self, document: DocumentId, body: Body) -> None:
        """Keep a version that was just written here."""
        self._memory.put((document, body.version), body, body.size)

    async def effective(self, document: DocumentId) -> Effective:
        """Merge the layers that contribute to `document` as the log names them now."""
        remembered = self.remembered(document)
        if remembered is not None:
            return remembered
        versions, revision = self._contributing(document)
        merged = self._merged(document, versions, await self._bodies(versions))
        self._merges.put(versions, merged, sum(map(_size, merged.bodies.values())))
        return replace(merged, revision=revision)

    def remembered(self, document: DocumentId) -> Effective | None:
        """Return the effective configuration if these very versions were merged already."""
        versions, revision = self._contributing(document)
        found = self._merges.get(versions)
        if found is None:
            return None
        self.hits += 1
        CONFIG_READS_FROM_MEMORY.inc()
        if found.addressed == document and found.revision == revision:
            return found
        return replace(found, addressed=document, revision=revision)

    def _contributing(self, document: DocumentId) -> tuple[tuple[tuple[DocumentId, int], ...], int]:
        """Return the live layers' versions, lowest first, and the newest contributing change."""
        found = [(layer, self.pointer(layer)) for layer in layers_of(document)]
        known = [(layer, pointer) for layer, pointer in found if pointer is not None]
        versions = tuple(
            (layer, pointer.version) for layer, pointer in known if not pointer.deleted
        )
        return versions, max((pointer.revision for _, pointer in known), default=0)

    async def single(self, document: DocumentId) -> Effective:
        """Return one layer alone in the shape of an effective configuration."""
        pointer = self.pointer(document)
        if pointer is None or pointer.deleted:
            return Effective(document, Merged(), (), {}, pointer.revision if pointer else 0)
        versions = ((document, pointer.version),)
        merged = self._merged(document, versions, await self._bodies(versions))
        return replace(merged, revision=pointer.revision)

    async def _bodies(self, versions: Sequence[tuple[DocumentId, int]]) -> dict[DocumentId, Body]:
        found = await asyncio.gather(*(self._current_at(*version) for version in versions))
        return {layer: body for (layer, _), body in zip(versions, found, strict=True)}

    def _merged(
        self,
        document: DocumentId,
        versions: tuple[tuple[DocumentId, int], ...],
        bodies: dict[DocumentId, Body],
    ) -> Effective:
        merged = merge((layer, body.data) for layer, body in bodies.items())
        return Effective(document, merged, versions, bodies, revision=0)


def _collected(task: asyncio.Task[Body]) -> None:
    """Take note of a failure even when every reader has given up waiting for it."""
    if not task.cancelled():
        task.exception()


def _size(body: Body) -> int:
    return body.size


class BoundedMemory(Generic[Key, Value]):
    """What was used last, bounded by the bytes of the stored texts it was made from."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._size = 0
        self._entries: OrderedDict[Key, tuple[Value, int]] = OrderedDict()

    def get(self, key: Key) -> Value | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        return entry[0]

    def put(self, key: Key, value: Value, size: int) -> None:
        _, replaced = self._entries.pop(key, (None, 0))
        self._entries[key] = (value, size)
        self._size += size - replaced
        while self._size > self._limit and self._entries:
            _, (_, dropped) = self._entries.popitem(last=False)
            self._size -= dropped
