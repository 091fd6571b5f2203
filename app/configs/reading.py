"""Reading: exactly the version the log names, from memory, the shared cache or the store."""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Generic, TypeVar

from app.cache.provenance import Source, tell
from app.changes.follower import Follower
from app.changes.model import EXTERNAL_ACTOR, Pointer
from app.configs.cached import CachedDocuments
from app.configs.edits import key_facts, tree_of
from app.configs.errors import (
    BadKey,
    DocumentLost,
    DocumentMalformed,
    DocumentNotFound,
    KeyConflict,
    StoreUnavailable,
    VersionGone,
    VersionIsDeletion,
    VersionMissing,
    VersionNotFound,
    VersionUnreadable,
)
from app.configs.model import Body, DocumentId, Stamp, decode, layers_of
from app.configs.port import ConfigStore
from app.patience import within
from app.telemetry import CONFIG_READS
from pilothouse_core.layers import Merged, merge

READ_SECONDS = 0.8
_STORE_READS_AT_ONCE = 24
_EXTERNAL_STEPS = 20
# Looking a label up costs as much as the read itself.
CONFIG_READS_FROM_MEMORY = CONFIG_READS.labels("memory")
_FAR_READS: dict[Source, Any] = {
    "hit-redis": CONFIG_READS.labels("redis"),
    "miss": CONFIG_READS.labels("store"),
}
Key = TypeVar("Key")
Value = TypeVar("Value")


_Fill = asyncio.Task[tuple[Body, Source]]


@dataclass(frozen=True, slots=True)
class Effective:
    """The merged configuration and what it was merged from, lowest layer first."""

    addressed: DocumentId
    merged: Merged[DocumentId]
    layers: tuple[tuple[DocumentId, int], ...]
    bodies: dict[DocumentId, Body]
    revision: int

    @property
    def hollow(self) -> bool:
        return any(body.hollow for body in self.bodies.values())


class Reader:
    """`whole=True` asks for bodies with their secrets in them, which only the store has.

    Without it a body may be hollow: whoever shows masks needs no more.
    """

    def __init__(
        self,
        store: ConfigStore,
        follower: Follower,
        cached: CachedDocuments,
        *,
        max_versions: int,
        memory_bytes: int,
    ) -> None:
        self._store = store
        self._follower = follower
        self._cached = cached
        self._max_versions = max_versions
        self._memory: BoundedMemory[tuple[DocumentId, int], Body] = BoundedMemory(memory_bytes // 2)
        self._merges: BoundedMemory[tuple[tuple[DocumentId, int], ...], Effective] = BoundedMemory(
            memory_bytes // 2
        )
        self._under_way: dict[tuple[DocumentId, int, bool], _Fill] = {}
        self._bulkhead = asyncio.Semaphore(_STORE_READS_AT_ONCE)
        self._forgotten = 0
        self.hits = self.misses = 0
        follower.doubt(self._forget)

    def _forget(self) -> None:
        """Begin anew: what was read by adopted pointers may be of another log."""
        self._memory.clear()
        self._merges.clear()
        self._under_way.clear()
        self._forgotten += 1

    @property
    def follower(self) -> Follower:
        return self._follower

    def pointer(self, document: DocumentId) -> Pointer | None:
        tell("hit-local")
        return self._follower.pointer(document.path)

    async def current(self, document: DocumentId, *, whole: bool = False) -> Body | None:
        """Return the current version (a deletion too), None where there never was one."""
        pointer = self.pointer(document)
        if pointer is None:
            return None
        return await self._current_at(document, pointer.version, whole=whole)

    async def _current_at(self, document: DocumentId, version: int, *, whole: bool) -> Body:
        try:
            return await self.version(document, version, whole=whole)
        except VersionGone as error:
            raise DocumentLost(str(document), version) from error

    async def known(self, document: DocumentId, *, whole: bool = False) -> Body:
        """Return the current version, or what is known of one that is no document of ours."""
        try:
            body = await self.current(document, whole=whole)
        except DocumentMalformed as error:
            body = await self.before_malformed(document, error.version, whole=whole)
        if body is None:
            raise DocumentNotFound(str(document))
        return body

    async def existing(self, document: DocumentId, *, whole: bool = False) -> Body:
        """Return the current version, or raise DocumentNotFound."""
        body = await self.current(document, whole=whole)
        if body is None or body.deleted:
            raise DocumentNotFound(str(document))
        return body

    async def earlier(self, document: DocumentId, version: int, *, whole: bool = False) -> Body:
        """Return a version by number, deletions too; raises VersionNotFound or VersionGone."""
        pointer = self.pointer(document)
        if pointer is None:
            raise DocumentNotFound(str(document))
        if not 1 <= version <= pointer.version:
            raise VersionNotFound(str(document), version)
        return await self.version(document, version, whole=whole)

    async def shown(self, document: DocumentId, version: int, *, whole: bool = False) -> Body:
        """The same without deletions, which have nothing to show."""
        body = await self.earlier(document, version, whole=whole)
        if body.deleted:
            raise VersionIsDeletion(str(document), version)
        return body

    async def version(self, document: DocumentId, version: int, *, whole: bool = False) -> Body:
        """Return one immutable version; concurrent misses share one look into cache and store."""
        remembered = self._memory.get((document, version))
        if remembered is not None and not (whole and remembered.hollow):
            self.hits += 1
            CONFIG_READS_FROM_MEMORY.inc()
            tell("hit-local")
            return remembered
        # Shielded: a reader who leaves must not take the answer from the others.
        body, source = await asyncio.shield(self._filling(document, version, whole=whole))
        self.hits += source == "hit-redis"
        self.misses += source == "miss"
        _FAR_READS[source].inc()
        tell(source)
        return body

    def _filling(self, document: DocumentId, version: int, *, whole: bool) -> _Fill:
        """Join the look that is under way, also one for the whole; else begin one."""
        for found in {True, whole}:
            task = self._under_way.get((document, version, found))
            if task is not None:
                return task
        task = asyncio.create_task(self._fill(document, version, whole=whole))
        self._under_way[document, version, whole] = task
        task.add_done_callback(partial(self._filled, (document, version, whole)))
        return task

    def _filled(self, name: tuple[DocumentId, int, bool], task: _Fill) -> None:
        if self._under_way.get(name) is task:
            del self._under_way[name]
        if not task.cancelled():
            task.exception()  # taken note of even when every reader has given up waiting

    async def _fill(
        self, document: DocumentId, version: int, *, whole: bool
    ) -> tuple[Body, Source]:
        # One bound for all who wait, counted from when the look begins: with one for each, the
        # first of a crowd would be sent away because of the work the others make.
        try:
            async with within(READ_SECONDS):
                return await self._looked_up(document, version, whole=whole)
        except TimeoutError as error:
            raise StoreUnavailable("the configuration store did not answer in time") from error

    async def _looked_up(
        self, document: DocumentId, version: int, *, whole: bool
    ) -> tuple[Body, Source]:
        forgotten = self._forgotten
        pointer = self._pointer_at(document, version)
        body = await self._cached.get(document, pointer) if pointer and not whole else None
        source: Source = "hit-redis"
        if body is None:
            source = "miss"
            body = await self._fetched(document, version, _EXTERNAL_STEPS)
            self._share(document, body)
        if forgotten == self._forgotten:
            self._take_in(document, body)
        return body, source

    def _pointer_at(self, document: DocumentId, version: int) -> Pointer | None:
        """Return the pointer if it names `version`: the cache is for what is current."""
        pointer = self._follower.pointers.get(document.path)
        return pointer if pointer is not None and pointer.version == version else None

    def _share(self, document: DocumentId, body: Body) -> None:
        pointer = self._pointer_at(document, body.version)
        if pointer is not None:
            self._cached.keep(document, pointer, body)

    def _take_in(self, document: DocumentId, body: Body) -> None:
        present = self._memory.get((document, body.version))
        if present is None or present.hollow:  # what is whole stays whole
            self._memory.put((document, body.version), body, body.size)

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
        try:
            data = tree_of(body.data)
        except (BadKey, KeyConflict) as error:
            raise DocumentMalformed(str(document), version) from error
        pointer = self.pointer(document)
        # The stored time is that of the version somebody copied; the log knows when it was found.
        at = pointer.at.isoformat() if pointer and pointer.version == version else ""
        facts = key_facts(before, data, version, EXTERNAL_ACTOR, at, keep=self._max_versions)
        stamp = Stamp("", "external", EXTERNAL_ACTOR, "", at)
        return replace(body, version=version, change=stamp, data=data, keys=facts)

    async def _before(self, document: DocumentId, version: int, steps: int) -> Body | None:
        if version == 1 or steps == 0:
            return None
        try:
            return await self._fetched(document, version - 1, steps - 1)
        except (VersionGone, DocumentMalformed):
            return None

    async def last_readable(
        self, document: DocumentId, version: int, *, whole: bool = False
    ) -> Body | None:
        """Return the newest version up to `version` that can still be read, if one is near."""
        for candidate in range(version, max(0, version - _EXTERNAL_STEPS), -1):
            try:
                return await self.version(document, candidate, whole=whole)
            except (VersionGone, DocumentMalformed):
                continue
        return None

    async def before_malformed(
        self, document: DocumentId, version: int, *, whole: bool = False
    ) -> Body:
        """Return what is known of a document whose current version is no document of ours."""
        before = await self.last_readable(document, version - 1, whole=whole)
        if before is not None:
            return replace(before, version=version, deleted=False)
        return Body(version, Stamp("", "external", EXTERNAL_ACTOR, "", ""), EXTERNAL_ACTOR, "")

    def remember(self, document: DocumentId, body: Body) -> None:
        """Keep a version that was just written here."""
        self._memory.put((document, body.version), body, body.size)
        self._cached.drop_before(document, body)
        self._share(document, body)

    async def effective(self, document: DocumentId, *, whole: bool = False) -> Effective:
        """Merge the layers that contribute to `document` as the log names them now."""
        remembered = self.remembered(document)
        if remembered is not None and not (whole and remembered.hollow):
            return remembered
        forgotten = self._forgotten
        versions, revision = self._contributing(document)
        merged = self._merged(document, versions, await self._bodies(versions, whole=whole))
        if forgotten == self._forgotten:
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

    def newest(self, document: DocumentId) -> int:
        """Return the revision of the newest change that contributes to `document`."""
        return self._contributing(document)[1]

    async def single(self, document: DocumentId, *, whole: bool = False) -> Effective:
        """Return one layer alone in the shape of an effective configuration."""
        pointer = self.pointer(document)
        if pointer is None or pointer.deleted:
            return Effective(document, Merged(), (), {}, pointer.revision if pointer else 0)
        body = await self._current_at(document, pointer.version, whole=whole)
        return replace(self.alone(document, body), revision=pointer.revision)

    def alone(self, document: DocumentId, body: Body) -> Effective:
        """Return one version of one layer in the same shape."""
        return self._merged(document, ((document, body.version),), {document: body})

    async def _bodies(
        self, versions: Sequence[tuple[DocumentId, int]], *, whole: bool
    ) -> dict[DocumentId, Body]:
        asked = (self._current_at(layer, version, whole=whole) for layer, version in versions)
        found = await asyncio.gather(*asked)
        return {layer: body for (layer, _), body in zip(versions, found, strict=True)}

    def _merged(
        self,
        document: DocumentId,
        versions: tuple[tuple[DocumentId, int], ...],
        bodies: dict[DocumentId, Body],
    ) -> Effective:
        merged = merge((layer, body.data) for layer, body in bodies.items())
        return Effective(document, merged, versions, bodies, revision=0)


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

    def clear(self) -> None:
        self._entries.clear()
        self._size = 0
